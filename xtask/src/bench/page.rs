//! The result for people: a table on the terminal, and `docs/benchmarks.md` with the machine that it is from.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use e2e::command;
use e2e::sandbox::Systemd;

use super::figures::Figure;
use super::podman::Podman;

const HEADER: &str = "| what | systemk | peers, same run | ratio | target |\n|---|---|---|---|---|\n";

/// The figures as a table; it reads well as plain text, too.
pub(super) fn table(figures: &[Figure]) -> String {
    let rows = figures.iter().map(|figure| format!("| {} |\n", figure.row().join(" | ")));
    HEADER.to_owned() + &rows.collect::<String>()
}

/// The page that is checked in, from the table on the machine on which all of one run was measured.
pub(super) fn page(figures: &[Figure], systemd: Systemd) -> String {
    let mut text = String::from(
        "# Benchmarks\n\nWritten by `cargo xtask bench`; not edited by hand. Ours and the peers run in the same run, interleaved; a cell is median \
         (lowest–highest, n = samples). Less than 10 % apart is a tie. A peer that did not run is missing, never filled with an older figure.\n\n",
    );
    text += &table(figures);
    text += "\n## The machine\n\n";
    for (name, value) in machine(systemd) {
        // Writing to a String cannot fail.
        writeln!(text, "- {name}: {value}").unwrap_or_default();
    }
    text
}

/// A part of the page with a run of its own, by which the part of that title in `page` is replaced.
pub(super) fn with_section(page: &str, title: &str, about: &str, figures: &[Figure]) -> String {
    let heading = format!("\n## {title}\n");
    let (before, after) = page.split_once(&heading).unwrap_or((page, ""));
    let after = after.find("\n## ").map_or("", |at| &after[at..]);
    let table = table(figures);
    format!(
        "{before}{heading}\n{about}\n\n{table}\n- load at its end (the machine is shared): {}\n- command: {}\n{after}",
        load(),
        command()
    )
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(1).collect()
}

/// As it was called, but for where files lie on this machine.
fn command() -> String {
    let words = std::env::args().skip(1).map(|word| if word.starts_with('/') { "FILE".to_owned() } else { word });
    words.fold("cargo xtask".to_owned(), |line, word| line + " " + &word)
}

fn machine(systemd: Systemd) -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let controllers = read("/sys/fs/cgroup/cgroup.controllers");
    let view = if controllers.trim().is_empty() {
        "hybrid: the node's cgroup2 has no controllers, so limits are set but not enforced".to_owned()
    } else {
        format!("v2 with {}", controllers.trim())
    };
    let kernel = command::run(Command::new("uname").args(["-sr"])).unwrap_or_default();
    vec![
        ("cores", format!("{cores}, {}", model.trim_start_matches([':', ' ', '\t']))),
        ("load before the last benchmark (the machine is shared)", load()),
        ("kernel", kernel.trim().to_owned()),
        ("node", format!("systemd {} in namespaces of its own, {}", systemd.version(), "release binary")),
        ("cgroups", view),
        ("podman", Podman::describe()),
        ("command", command()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_put_in_the_place_of_the_one_before_it() {
        let page = with_section("# Page\n\n## The machine\n\n- cores: 2\n", "A", "about a", &[]);
        let page = with_section(&page, "B", "about b", &[]);
        let page = with_section(&page, "A", "again", &[]);
        let at = |text: &str| page.find(text);
        assert!(at("- cores: 2").is_some() && at("about a").is_none() && at("again") < at("about b"), "{page}");
        assert_eq!(page.matches("## A\n").count(), 1);
    }
}
