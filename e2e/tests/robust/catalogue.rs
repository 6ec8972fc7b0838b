//! `docs/faults.md` names a place for each of the 90 cases, and what it names is there.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The file that a name in backticks stands for: of the workspace, else of the end-to-end tests.
fn file(name: &str) -> PathBuf {
    let ours = ["cluster/", "robust/", "packages/", "pods/", "vm/"].iter().any(|directory| name.starts_with(directory));
    let below = if ours { "e2e/tests" } else { "" };
    Path::new(ROOT).join(below).join(name)
}

#[test]
fn each_case_has_a_place_and_named_tests_exist() {
    let text = fs::read_to_string(Path::new(ROOT).join("docs/faults.md")).unwrap();
    let rows: Vec<Vec<&str>> =
        text.lines().filter_map(|l| l.strip_prefix("| ")).map(|l| l.split(" | ").collect()).collect();
    let numbers: Vec<u32> = rows.iter().filter_map(|row| row[0].parse().ok()).collect();
    assert_eq!(numbers, (1..=90).collect::<Vec<_>>());
    assert!(rows.iter().all(|row| row.len() == 3 && row.iter().all(|cell| !cell.trim_matches([' ', '|']).is_empty())));

    let quoted = text.split('`').skip(1).step_by(2).filter(|word| word.contains(".rs") || word.contains('/'));
    for name in quoted {
        let (path, test) = name.split_once("::").map_or((name, None), |(path, test)| (path, Some(test)));
        let path = file(path);
        if path.starts_with("/proc") {
            continue;
        }
        assert!(path.exists(), "{name}: no such file");
        if let Some(test) = test {
            let source = fs::read_to_string(&path).unwrap();
            assert!(source.contains(&format!("fn {test}(")), "{name}: no such test");
        }
    }
}
