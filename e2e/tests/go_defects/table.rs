//! `docs/go-defects.md` against the tests: every row's tests exist, and no defect of the inventory lacks a row.

use std::fs;
use std::path::Path;

const TABLE: &str = include_str!("../../../docs/go-defects.md");
/// What a row says for whose part of Kubernetes there is nothing yet.
const NOT_YET: [&str; 2] = ["not yet: streaming", "not yet: probes"];

/// How many defects the inventory marks in each section.
const MARKED: [(&str, usize); 13] = [
    ("1.1", 2),
    ("1.2", 8),
    ("1.3", 1),
    ("1.4", 1),
    ("1.5", 3),
    ("1.6", 2),
    ("1.7", 9),
    ("1.8", 1),
    ("1.9", 3),
    ("1.10", 4),
    ("1.11", 5),
    ("1.12", 3),
    ("1.13", 1),
];

/// Section, defect, test.
fn rows() -> Vec<[&'static str; 3]> {
    let cells = |line: &'static str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        <[&str; 3]>::try_from(cells).unwrap_or_else(|cells| panic!("not three cells: {cells:?}"))
    };
    TABLE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Section")).map(cells).collect()
}

#[test]
fn go_defects_table_names_tests_that_run() {
    let scenarios = [super::ALL, super::ALONE, super::volumes::ALL, super::restart::ALONE].concat();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut named = Vec::new();
    for [section, defect, test] in rows() {
        if NOT_YET.contains(&test) {
            continue;
        }
        for name in test.split(", ").map(|name| name.trim_matches('`')) {
            match name.split_once("::") {
                Some((file, function)) => {
                    let text = fs::read_to_string(workspace.join(file)).unwrap();
                    assert!(text.contains(&format!("fn {function}(")), "{section} {defect}: no {name}");
                }
                None => assert!(scenarios.iter().any(|(known, _)| *known == name), "{section} {defect}: no {name}"),
            }
            named.push(name);
        }
    }
    for (name, _) in scenarios {
        assert!(named.contains(&name), "{name} is in no row");
    }
}

#[test]
fn go_defects_table_has_a_row_for_each() {
    for (section, marked) in MARKED {
        let there = rows().iter().filter(|[known, ..]| *known == section).count();
        assert_eq!(there, marked, "section {section}");
    }
}
