//! `cargo xtask test`: the rings of tests, from those that need nothing to those that boot systemd.
//!
//! What cargo prints goes through unchanged; the last line is the sum over all test binaries.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use e2e::{command, kubernetes};

use crate::cargo;

const AFTER_HELP: &str = "\
Examples:
  cargo xtask test                 the unit ring, then the e2e ring
  cargo xtask test unit            plan, systemk and xtask: seconds
  cargo xtask test e2e pods        the end-to-end tests with `pods` in their names

The e2e ring needs root; what it misses of Debian's packages it installs. Its
tests of a cluster build Kubernetes from source the first time (10 to 20 minutes;
Go is installed if there is none), or take it from the directory that
SYSTEMK_KUBERNETES names. The last line is `N passed, N failed`.";

/// Programs that the unit ring starts, with their Debian packages.
const UNIT_NEEDS: &[(&str, &str)] = &[("dbus-daemon", "dbus-daemon"), ("systemd-analyze", "systemd")];

/// What the e2e ring starts on the machine. A path stands for a package without a program.
const E2E_NEEDS: &[(&str, &str)] = &[
    ("unshare", "util-linux"),
    ("mmdebstrap", "mmdebstrap"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
    ("dpkg-scanpackages", "dpkg-dev"),
    ("ip", "iproute2"),
    ("openssl", "openssl"),
    ("python3", "python3-minimal"),
];

/// The tests that start a control plane, by the start of their names.
const CLUSTER: &[&str] = &["cluster::", "control_plane::"];

/// Instances that boot at the same time; two cores can do no more within the tests' deadlines.
const E2E_THREADS: &str = "4";

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Test {
    /// One ring of tests instead of unit and e2e
    ring: Option<Ring>,
    /// Only tests with this in their names
    filter: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ring {
    /// plan, systemk and xtask: no root, no systemd
    Unit,
    /// The agent's client of systemd against a private D-Bus
    Loop,
    /// Real systemd instances; needs root
    E2e,
    /// Whole virtual machines
    Vm,
}

/// What the test binaries said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Test {
    /// Without a choice: the rings that every change has to pass.
    pub(crate) fn all() -> Self {
        Self { ring: None, filter: None }
    }
}

pub(crate) fn main(arguments: &Test) -> Result<ExitCode> {
    let filter = arguments.filter.as_deref();
    let mut totals = Totals::default();
    match arguments.ring {
        None => {
            unit(filter, &mut totals)?;
            e2e(filter, &mut totals)?;
        }
        Some(Ring::Unit) => unit(filter, &mut totals)?,
        Some(Ring::Loop) => {
            require(UNIT_NEEDS)?;
            let filter = filter.map_or_else(|| "systemd::tests".to_owned(), |more| format!("systemd::tests::{more}"));
            run(cargo::cargo(&["test", "--no-fail-fast", "-p", "systemk", "--bins", "--", &filter]), &mut totals)?;
        }
        Some(Ring::E2e) => e2e(filter, &mut totals)?,
        Some(Ring::Vm) => {
            eprintln!("error: the ring of virtual machines comes with the cluster issue and is not here yet");
            return Ok(ExitCode::from(2));
        }
    }
    println!("{}", totals.line());
    Ok(if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn unit(filter: Option<&str>, totals: &mut Totals) -> Result<()> {
    require(UNIT_NEEDS)?;
    let mut test = cargo::cargo(&["test", "--no-fail-fast", "-p", "plan", "-p", "systemk", "-p", "xtask", "--"]);
    test.args(filter);
    run(test, totals)
}

fn e2e(filter: Option<&str>, totals: &mut Totals) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the e2e ring boots systemd instances (namespaces, mounts, cgroups): run this as root");
    }
    require(E2E_NEEDS)?;
    let binary = cargo::build_agent()?;
    let mut test = cargo::cargo(&["test", "--no-fail-fast", "-p", "e2e", "--"]);
    test.args(filter).env("SYSTEMK_BINARY", binary);
    if needs_kubernetes(filter)? {
        // Before the tests: they show no progress, and their deadlines are not for builds.
        test.env(kubernetes::VARIABLE, kubernetes::directory()?);
    }
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        test.env("RUST_TEST_THREADS", E2E_THREADS);
    }
    run(test, totals)
}

/// Whether a test that the filter leaves starts a control plane.
fn needs_kubernetes(filter: Option<&str>) -> Result<bool> {
    let Some(filter) = filter else { return Ok(true) };
    let list =
        command::run(&mut cargo::cargo(&["test", "--quiet", "-p", "e2e", "--test", "e2e", "--", "--list", filter]))?;
    Ok(list.lines().any(|test| CLUSTER.iter().any(|module| test.starts_with(module))))
}

fn require(needs: &[(&str, &str)]) -> Result<()> {
    needs.iter().try_for_each(|(program, package)| command::require(program, package))
}

/// Runs the tests, passing on what they print, and counts. A run that fails without a failed test (it does not compile, a
/// binary died) counts as one failure: no sum may look better than its parts.
fn run(mut test: Command, totals: &mut Totals) -> Result<()> {
    let mut child = test.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start cargo")?;
    let output = child.stdout.take().context("take cargo's output")?;
    let failed_before = totals.failed;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("read cargo's output")?;
        let text = String::from_utf8_lossy(&line);
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{text}").context("pass on cargo's output")?;
        totals.add(&text);
    }
    let status = child.wait().context("wait for cargo")?;
    if !status.success() && totals.failed == failed_before {
        eprintln!("error: the tests ended early ({status}); counted as one failure");
        totals.failed += 1;
    }
    Ok(())
}

impl Totals {
    /// Adds one binary's closing line: `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; ...`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let counts = result.split_once(". ").map_or("", |(_, counts)| counts);
        for count in counts.split(';') {
            let mut words = count.split_whitespace();
            let (Some(Ok(number)), Some(kind)) = (words.next().map(str::parse::<u64>), words.next()) else { continue };
            match kind {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    fn line(self) -> String {
        let skipped = if self.skipped > 0 { format!(", {} skipped", self.skipped) } else { String::new() };
        format!("{} passed, {} failed{skipped}", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_the_closing_lines_of_all_binaries() {
        let mut totals = Totals::default();
        for line in [
            "running 4 tests",
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s",
            "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ] {
            totals.add(line);
        }
        assert_eq!(totals, Totals { passed: 8, failed: 2, skipped: 1 });
        assert_eq!(totals.line(), "8 passed, 2 failed, 1 skipped");
        assert_eq!(Totals::default().line(), "0 passed, 0 failed");
    }
}
