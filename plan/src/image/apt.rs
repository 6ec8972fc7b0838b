//! apt and dpkg: arguments and parsers.
//!
//! `apt-cache`, `apt-get -s` and `dpkg-query` print for people; the formats below are those of apt 2.6 and dpkg 1.21
//! under `LC_ALL=C.UTF-8`, captured in `plan/tests/packages/apt`.

use super::manager::{Argv, Candidates, PackageId, Target, argv};
use super::simulation::{Change, InstallPlan};

/// Seconds that apt itself waits for dpkg's lock, after systemk saw it free: only what slips in between.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=60";

/// Files in systemk's own directory are out of the reach of apt's download user; without this apt warns and does the same.
const ROOT_DOWNLOADS: &str = "APT::Sandbox::User=root";

pub(super) fn query_installed(name: &str) -> Argv {
    let format = r"-f=${Package}\t${Version}\t${Architecture}\t${Status}\n";
    argv(&["dpkg-query", "-W", format, "--", name])
}

/// `dpkg -s` also succeeds for a package that was removed and left its configuration: only `installed` counts. A package
/// that is installed for several architectures has a line for each; the native one comes first.
pub(super) fn parse_installed(name: &str, output: &str) -> Option<PackageId> {
    output.lines().find_map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
        [package, version, arch, status] if package == name => {
            let installed = status.split(' ').nth(1) == Some("ok") && status.split(' ').nth(2) == Some("installed");
            installed.then(|| PackageId {
                name: package.to_owned(),
                version: version.to_owned(),
                arch: arch.to_owned(),
            })
        }
        _ => None,
    })
}

pub(super) fn query_file(path: &str) -> Argv {
    argv(&["dpkg-deb", "-f", path, "Package", "Version", "Architecture"])
}

pub(super) fn parse_file(output: &str) -> Option<PackageId> {
    let field = |key: &str| {
        output.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name == key).then(|| value.trim().to_owned())
        })
    };
    Some(PackageId { name: field("Package")?, version: field("Version")?, arch: field("Architecture")? })
}

pub(super) fn list_files(name: &str) -> Argv {
    argv(&["dpkg-query", "-L", "--", name])
}

pub(super) fn query_candidates(name: &str) -> Argv {
    argv(&["apt-cache", "policy", "--", name])
}

/// An unknown name is tried as a pattern, so other packages may be listed: only the block of exactly `name` is read.
/// A virtual package's block has `Candidate: (none)`.
pub(super) fn parse_candidates(name: &str, output: &str) -> Candidates {
    let mut found = Candidates::default();
    let block = output
        .lines()
        .skip_while(|line| line.strip_suffix(':') != Some(name))
        .skip(1)
        .take_while(|line| line.starts_with(' '));
    for line in block {
        if let Some(candidate) = line.strip_prefix("  Candidate: ") {
            found.candidate = (candidate != "(none)").then(|| candidate.to_owned());
        } else if let Some(version) = line.strip_prefix("     ").or_else(|| line.strip_prefix(" *** "))
            && !version.starts_with(' ')
            && let Some(version) = version.split(' ').next()
        {
            found.versions.push(version.to_owned());
        }
    }
    if found.candidate.is_none() {
        found.versions.clear();
    }
    found
}

fn target_argument(target: Target<'_>) -> String {
    match target {
        Target::Version { name, version } => format!("{name}={version}"),
        Target::File(path) => path.to_owned(),
    }
}

fn options(target: Target<'_>, explicit: bool) -> impl Iterator<Item = String> {
    let downgrades: &[&str] = if explicit { &["--allow-downgrades"] } else { &[] };
    let downloads: &[&str] = if matches!(target, Target::File(_)) { &["-o", ROOT_DOWNLOADS] } else { &[] };
    downgrades.iter().chain(downloads).map(|option| (*option).to_owned())
}

pub(super) fn simulate(target: Target<'_>, explicit: bool) -> Argv {
    let mut argv = argv(&["apt-get", "-s", "-q", "--no-install-recommends"]);
    argv.extend(options(target, explicit));
    argv.extend(["install".to_owned(), "--".to_owned(), target_argument(target)]);
    argv
}

/// `Inst name [old] (new source [arch])`, `Remv name [old]`, and the names under `… will be DOWNGRADED:`, which is the
/// only place that says so.
pub(super) fn parse_plan(output: &str) -> InstallPlan {
    let mut plan = InstallPlan::default();
    let mut downgraded = Vec::new();
    let mut in_downgraded = false;
    for line in output.lines() {
        if line.starts_with(' ') {
            if in_downgraded {
                downgraded.extend(line.split_whitespace().map(str::to_owned));
            }
            continue;
        }
        in_downgraded = line.ends_with("will be DOWNGRADED:");
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("Inst"), Some(name)) => {
                let upgrade = words.clone().next().is_some_and(|word| word.starts_with('['));
                let Some(version) = words.find_map(|word| word.strip_prefix('(')) else { continue };
                let change = Change { name: name.to_owned(), version: version.trim_end_matches(')').to_owned() };
                if downgraded.iter().any(|other| other == name) {
                    plan.downgrades.push(change);
                } else if upgrade {
                    plan.upgrades.push(change);
                } else {
                    plan.installs.push(change);
                }
            }
            (Some("Remv" | "Purg"), Some(name)) => {
                let version = words.next().unwrap_or_default().trim_matches(['[', ']']);
                plan.removes.push(Change { name: name.to_owned(), version: version.to_owned() });
            }
            _ => {}
        }
    }
    plan
}

/// No recommended packages (a node installs what a pod names), configuration files of the host stay (`confold`, and the
/// package's default where there is no difference), nothing asks. `--no-remove` holds the checked plan to its most
/// important promise even if the package state changed since.
pub(super) fn install(target: Target<'_>, explicit: bool) -> Argv {
    let mut argv = unasked();
    argv.extend(options(target, explicit));
    argv.extend(["install".to_owned(), "--".to_owned(), target_argument(target)]);
    argv
}

fn unasked() -> Argv {
    argv(&[
        "apt-get",
        "-y",
        "-qq",
        "--no-install-recommends",
        "--no-remove",
        "-o",
        LOCK_TIMEOUT,
        "-o",
        "Dpkg::Options::=--force-confold",
        "-o",
        "Dpkg::Options::=--force-confdef",
        "-o",
        "Dpkg::Use-Pty=0",
    ])
}

pub(super) fn refresh() -> Argv {
    argv(&["apt-get", "-q", "-o", LOCK_TIMEOUT, "update"])
}

/// apt's own helper: its proxy, its certificates, its time-outs.
pub(super) fn download(url: &str, destination: &str, sha256: Option<&str>) -> Argv {
    let mut argv = argv(&["/usr/lib/apt/apt-helper", "-o", ROOT_DOWNLOADS, "download-file", url, destination]);
    argv.extend(sha256.map(|sha256| format!("SHA256:{sha256}")));
    argv
}

/// Finishes what was interrupted.
pub fn configure_pending() -> Argv {
    argv(&["dpkg", "--configure", "-a", "--force-confold", "--force-confdef"])
}

/// Where apt keeps what it downloaded until it is installed.
pub const ARCHIVES: &str = "/var/cache/apt/archives";

/// Whether a file in [`ARCHIVES`] is this version of the package: `name_version_arch.deb`, with `_` and `:` in them quoted.
pub fn is_archive_of(file: &str, name: &str, version: &str) -> bool {
    let (name, foreign) = name.split_once(':').map_or((name, None), |(name, arch)| (name, Some(arch)));
    let version = version.replace('_', "%5f").replace(':', "%3a");
    let Some(stem) = file.strip_suffix(".deb") else { return false };
    match stem.split('_').collect::<Vec<_>>()[..] {
        [n, v, arch] => n == name && v == version && foreign.is_none_or(|foreign| foreign == arch),
        _ => false,
    }
}

/// Unpacks package files, over whatever is there of them.
pub fn unpack(paths: &[String]) -> Argv {
    let mut argv = argv(&["dpkg", "--unpack", "--force-confold", "--force-confdef", "--"]);
    argv.extend(paths.iter().cloned());
    argv
}

/// Installs these packages in these versions, whatever there is of them.
pub fn install_again(packages: &[(String, String)]) -> Argv {
    let mut argv = unasked();
    argv.extend(["--allow-downgrades", "--reinstall", "install", "--"].map(str::to_owned));
    argv.extend(packages.iter().map(|(name, version)| format!("{name}={version}")));
    argv
}

/// Takes back packages whose first installation failed; their configuration files stay. Only for packages that were not
/// installed before: half-configured, they would fail every later run of apt.
pub fn take_back(names: &[String]) -> Argv {
    let mut argv = argv(&["dpkg", "--remove", "--force-remove-reinstreq", "--"]);
    argv.extend(names.iter().cloned());
    argv
}

/// Whether what apt printed means that its package lists are out of date: refreshing them may help.
pub fn lists_are_stale(output: &str) -> bool {
    output.lines().any(|line| {
        (line.starts_with("E:") || line.starts_with("Err:") || line.trim_start().starts_with("404"))
            && (line.contains("404")
                || line.contains("Hash Sum mismatch")
                || line.contains("Unable to fetch some archives"))
    })
}

/// Whether a package in the answer to the query of what is installed is between two states: unpacked, half-configured….
pub fn is_broken(output: &str) -> bool {
    output.lines().filter_map(|line| line.rsplit('\t').next()).any(|status| {
        !matches!(
            status.split(' ').skip(1).collect::<Vec<_>>()[..],
            ["ok", "installed" | "not-installed" | "config-files"]
        )
    })
}

/// Whether dpkg was cut off while it unpacked: only an archive of the package makes that whole.
pub fn is_cut_off(output: &str) -> bool {
    let states = |line: &str| line.split(' ').skip(1).map(str::to_owned).collect::<Vec<_>>();
    output
        .lines()
        .filter_map(|line| line.rsplit('\t').next().map(states))
        .any(|states| matches!(&states[..], [flag, state] if flag == "reinstreq" || state == "half-installed"))
}

/// The source and the dependencies of an installed package.
pub fn query_dependencies(name: &str) -> Argv {
    argv(&["dpkg-query", "-W", r"-f=${source:Package}\t${Pre-Depends}\t${Depends}\n", "--", name])
}

/// Reads [`query_dependencies`]: the source, and the names that are depended upon, alternatives too.
pub fn parse_dependencies(output: &str) -> Option<(String, Vec<String>)> {
    let (source, dependencies) = output.lines().next()?.split_once('\t')?;
    let mut names: Vec<String> = dependencies
        .split(['\t', ',', '|'])
        .filter_map(|dependency| dependency.trim().split([' ', ':', '(']).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    Some((source.to_owned(), names))
}

/// The sources of several packages at once; those that are not there only make the exit status non-zero.
pub fn query_sources(names: &[String]) -> Argv {
    let mut argv = argv(&["dpkg-query", "-W", r"-f=${Package}\t${source:Package}\t${Status}\n", "--"]);
    argv.extend(names.iter().cloned());
    argv
}

/// Reads [`query_sources`]: the installed packages that were built from `source`.
pub fn parse_siblings(source: &str, output: &str) -> Vec<String> {
    output
        .lines()
        .filter_map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [name, from, status] if from == source && status.ends_with(" ok installed") => Some(name.to_owned()),
            _ => None,
        })
        .collect()
}
