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

/// The page that is checked in.
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

fn machine(systemd: Systemd) -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg").split_whitespace().take(1).collect::<String>();
    let controllers = read("/sys/fs/cgroup/cgroup.controllers");
    let view = if controllers.trim().is_empty() {
        "hybrid: the node's cgroup2 has no controllers, so limits are set but not enforced".to_owned()
    } else {
        format!("v2 with {}", controllers.trim())
    };
    let kernel = command::run(Command::new("uname").args(["-sr"])).unwrap_or_default();
    vec![
        ("cores", format!("{cores}, {}", model.trim_start_matches([':', ' ', '\t']))),
        ("load before the last benchmark (the machine is shared)", load),
        ("kernel", kernel.trim().to_owned()),
        ("node", format!("systemd {} in namespaces of its own, {}", systemd.version(), "release binary")),
        ("cgroups", view),
        ("podman", Podman::describe()),
        ("command", std::env::args().skip(1).fold("cargo xtask".to_owned(), |line, word| line + " " + &word)),
    ]
}
