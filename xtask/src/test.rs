//! `cargo xtask test`: the rings of tests, from those that need nothing to those that boot a kernel.
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
  cargo xtask test                 the rings unit, e2e and vm
  cargo xtask test unit            plan, systemk and xtask: seconds
  cargo xtask test e2e pods        the end-to-end tests with `pods` in their names
  cargo xtask test vm power_cut    virtual machines that lose their power

The rings e2e and vm need root; what they miss of Debian's packages they install.
Virtual machines are emulated (QEMU, no KVM): some minutes for all of them. The
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

/// What the ring of virtual machines starts on the machine, beside the e2e ring's.
const VM_NEEDS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setpriv", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("cpio", "cpio"),
    ("xz", "xz-utils"),
];

/// The tests that boot virtual machines, by the start of their names.
const VM: &str = "vm::";

/// The tests that start a control plane, by the start of their names.
const CLUSTER: &[&str] = &["cluster::", "control_plane::"];

/// Instances that boot at the same time; two cores can do no more within the tests' deadlines.
const E2E_THREADS: &str = "4";

/// Machines that are emulated at the same time: each keeps one core busy.
const VM_THREADS: &str = "2";

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Test {
    /// One ring of tests instead of unit, e2e and vm
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
    /// Whole virtual machines, emulated; needs root
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
            vm(filter, &mut totals)?;
        }
        Some(Ring::Unit) => unit(filter, &mut totals)?,
        Some(Ring::Loop) => {
            require(UNIT_NEEDS)?;
            let filter = filter.map_or_else(|| "systemd::tests".to_owned(), |more| format!("systemd::tests::{more}"));
            run(cargo::cargo(&["test", "--no-fail-fast", "-p", "systemk", "--bins", "--", &filter]), &mut totals)?;
        }
        Some(Ring::E2e) => e2e(filter, &mut totals)?,
        Some(Ring::Vm) => vm(filter, &mut totals)?,
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
    require_root("e2e")?;
    require(E2E_NEEDS)?;
    let binary = cargo::build_agent()?;
    let mut test = cargo::cargo(&["test", "--no-fail-fast", "-p", "e2e", "--"]);
    test.args(filter).args(["--skip", VM]).env("SYSTEMK_BINARY", binary);
    if needs_kubernetes(filter)? {
        // Before the tests: they show no progress, and their deadlines are not for builds.
        test.env(kubernetes::VARIABLE, kubernetes::directory()?);
    }
    run(with_threads(test, E2E_THREADS), totals)
}

fn vm(filter: Option<&str>, totals: &mut Totals) -> Result<()> {
    require_root("vm")?;
    // The tests by their names: two filters would give the tests of both, not those that both leave.
    let tests: Vec<String> = e2e_tests(filter.unwrap_or(VM))?.into_iter().filter(|test| test.starts_with(VM)).collect();
    if tests.is_empty() {
        return Ok(());
    }
    require(E2E_NEEDS)?;
    require(VM_NEEDS)?;
    let binary = cargo::build_agent()?;
    let mut test = cargo::cargo(&["test", "--no-fail-fast", "-p", "e2e", "--test", "e2e", "--", "--exact"]);
    test.args(tests).env("SYSTEMK_BINARY", binary);
    run(with_threads(test, VM_THREADS), totals)
}

fn require_root(ring: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the {ring} ring boots systemd instances (namespaces, mounts, cgroups): run this as root");
    }
    Ok(())
}

fn with_threads(mut test: Command, threads: &str) -> Command {
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        test.env("RUST_TEST_THREADS", threads);
    }
    test
}

/// Whether a test that the filter leaves starts a control plane.
fn needs_kubernetes(filter: Option<&str>) -> Result<bool> {
    let Some(filter) = filter else { return Ok(true) };
    Ok(e2e_tests(filter)?.iter().any(|test| CLUSTER.iter().any(|module| test.starts_with(module))))
}

/// The names of the end-to-end tests that the filter leaves.
fn e2e_tests(filter: &str) -> Result<Vec<String>> {
    let mut list = cargo::cargo(&["test", "--quiet", "-p", "e2e", "--test", "e2e", "--", "--list", filter]);
    let list = command::run(&mut list)?;
    Ok(list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
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
