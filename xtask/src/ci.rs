//! `cargo xtask ci`: everything that a change has to pass; `bless`: the goldens written anew.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use e2e::{command, progress};

use crate::{cargo, test, tidy};

#[derive(Args)]
pub(crate) struct Ci {
    /// Only these checks
    checks: Vec<Check>,
}

/// In the order in which they run: the quick ones first, the tests and their sum last.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Check {
    /// What this repository has agreed on: dependencies, sizes, paths
    Tidy,
    /// Formatting
    Fmt,
    /// Lints, as errors
    Clippy,
    /// Documentation, its warnings as errors
    Doc,
    /// Generated unit files, as systemd reads them
    Goldens,
    /// Licences, bans and sources of dependencies, where cargo-deny is installed
    Deny,
    /// All tests
    Test,
}

pub(crate) fn main(arguments: &Ci) -> Result<ExitCode> {
    let mut failed = Vec::new();
    for check in Check::value_variants() {
        if !arguments.checks.is_empty() && !arguments.checks.contains(check) {
            continue;
        }
        // Its last line is the run's last line, unless something before it failed.
        if *check == Check::Test {
            failed.iter().for_each(|name| eprintln!("error: {name} failed"));
            let tests = test::main(&test::Test::all())?;
            return Ok(if failed.is_empty() { tests } else { ExitCode::FAILURE });
        }
        let name = check.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        if let Err(error) = progress::during(&name, || run(*check)) {
            eprintln!("error: {name}: {error:#}");
            failed.push(name);
        }
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(check: Check) -> Result<()> {
    match check {
        Check::Tidy => tidy::check(cargo::workspace()),
        Check::Fmt => cargo::run(&["fmt", "--all", "--check"], &[]),
        Check::Clippy => {
            cargo::run(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])
        }
        Check::Doc => cargo::run(
            &["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"],
            &[("RUSTDOCFLAGS", "-D warnings")],
        ),
        Check::Goldens => goldens(&cargo::workspace().join("plan/tests/cases")),
        Check::Deny => deny(),
        Check::Test => Ok(()),
    }
}

/// Rewrites every golden: what changed is then read in the diff.
pub(crate) fn bless() -> Result<ExitCode> {
    cargo::run(
        &["test", "--quiet", "--no-fail-fast", "-p", "plan", "-p", "systemk"],
        &[("BLESS", "1"), ("INSTA_UPDATE", "always")],
    )?;
    println!("the goldens are as the code has them now: see `git diff`");
    Ok(ExitCode::SUCCESS)
}

fn deny() -> Result<()> {
    if command::find("cargo-deny").is_none() {
        progress::line("cargo-deny is not installed: licences, bans and sources are not checked");
        return Ok(());
    }
    // Its advisories want a clone of a database that not every machine reaches.
    cargo::run(&["deny", "--log-level", "error", "check", "licenses", "bans", "sources"], &[])
}

/// Has systemd parse every generated unit file below `cases`. Unknown keys and bad values are only warnings to it, so any
/// word that is not about this machine's lack of the program or the slice is a failure.
fn goldens(cases: &Path) -> Result<()> {
    let units = units_below(cases)?;
    if units.is_empty() {
        progress::line("there are no golden unit files yet");
        return Ok(());
    }
    command::require("systemd-analyze", "systemd")?;
    let mut complaints = Vec::new();
    for unit in &units {
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(unit);
        let output = verify.output().context("start systemd-analyze")?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        complaints.extend(text.lines().filter(|line| !of_this_machine(line)).map(str::to_owned));
    }
    if !complaints.is_empty() {
        bail!("systemd complains about generated units:\n{}", complaints.join("\n"));
    }
    println!("{} unit files verified", units.len());
    Ok(())
}

/// Whether a complaint is about what the machine that verifies does not have.
fn of_this_machine(line: &str) -> bool {
    let absent = ["is not executable: No such file", "Failed to prepare filename", "not found", "Failed to open"];
    line.trim().is_empty() || absent.iter().any(|text| line.contains(text))
}

fn units_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !directory.exists() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry.context("list the goldens")?.path();
        if path.is_dir() {
            found.extend(units_below(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "service" || extension == "slice") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
