//! dnf, and the rpm queries that zypper shares.

use super::manager::{Argv, Candidates, PackageId, Target, argv, compare_rpm};
use super::simulation::{Change, InstallPlan};

/// `%|EPOCH?{…}|`: the epoch is shown only where there is one, as dnf's `%{evr}` and its arguments have it.
const FORMAT: &str = r"%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{ARCH}\n";

pub(super) fn query_installed(name: &str) -> Argv {
    argv(&["rpm", "-q", "--qf", FORMAT, "--", name])
}

/// `rpm -q` also takes `name-version`, so the name is compared; of several versions (kernels) the last is the newest.
pub(super) fn parse_installed(name: &str, output: &str) -> Option<PackageId> {
    output.lines().filter_map(parse_line).rfind(|package| package.name == name)
}

pub(super) fn query_file(path: &str) -> Argv {
    argv(&["rpm", "-qp", "--qf", FORMAT, "--", path])
}

pub(super) fn parse_package(output: &str) -> Option<PackageId> {
    output.lines().find_map(parse_line)
}

fn parse_line(line: &str) -> Option<PackageId> {
    match line.split('\t').collect::<Vec<_>>()[..] {
        [name, version, arch] => {
            Some(PackageId { name: name.to_owned(), version: version.to_owned(), arch: arch.to_owned() })
        }
        _ => None,
    }
}

pub(super) fn list_files(name: &str) -> Argv {
    argv(&["rpm", "-ql", "--", name])
}

pub(super) fn query_candidates(name: &str) -> Argv {
    argv(&["dnf", "-q", "repoquery", "--available", "--qf", r"%{name}|%{evr}|%{arch}\n", "--", name])
}

/// dnf 4 ends each line itself, so there may be empty ones; dnf 5 does not. Sources for another architecture may list
/// the same version again.
pub(super) fn parse_candidates(name: &str, output: &str) -> Candidates {
    let mut versions: Vec<String> = output
        .lines()
        .filter_map(|line| match line.split('|').collect::<Vec<_>>()[..] {
            // dnf 4 writes epoch 0 out.
            [package, evr, _] if package == name => Some(evr.strip_prefix("0:").unwrap_or(evr).to_owned()),
            _ => None,
        })
        .collect();
    versions.sort_by(|left, right| compare_rpm(right, left));
    versions.dedup();
    Candidates { candidate: versions.first().cloned(), versions }
}

fn target_argument(target: Target<'_>) -> String {
    match target {
        Target::Version { name, version } => format!("{name}-{version}"),
        Target::File(path) => path.to_owned(),
    }
}

/// `install` takes an older version too where one is named, so there is nothing to allow: the plan is checked.
pub(super) fn simulate(target: Target<'_>) -> Argv {
    argv(&["dnf", "--assumeno", "--setopt=install_weak_deps=False", "install", "--", &target_argument(target)])
}

/// The transaction table: a heading ends in `:`, a row is ` name arch version repository size`. Long names push the rest
/// to a second line, so a heading's words are read three at a time.
pub(super) fn parse_plan(output: &str) -> InstallPlan {
    let mut plan = InstallPlan::default();
    let mut section = "";
    let mut pending: Option<String> = None;
    for line in output.lines() {
        if line.starts_with("Transaction Summary") {
            break;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if !line.starts_with(' ') {
            pending = None;
            if let Some(heading) = line.strip_suffix(':') {
                section = heading;
            }
            continue;
        }
        let (name, version) = match (pending.take(), &words[..]) {
            // `     replacing  old.noarch 1.0` follows the row that replaces it (dnf 4: obsoleting = removing).
            (_, ["replacing", old, version, ..]) => {
                let name = old.rsplit_once('.').map_or(*old, |(name, _)| name);
                plan.removes.push(Change { name: name.to_owned(), version: plain(version) });
                continue;
            }
            (None, [name]) => {
                pending = Some((*name).to_owned());
                continue;
            }
            (Some(name), [_, version, ..]) => (name, plain(version)),
            (None, [name, _, version, ..]) => ((*name).to_owned(), plain(version)),
            _ => continue,
        };
        let change = Change { name, version };
        match section {
            "Upgrading" | "Reinstalling" => plan.upgrades.push(change),
            "Downgrading" => plan.downgrades.push(change),
            _ if section.starts_with("Installing") => plan.installs.push(change),
            _ if section.starts_with("Removing") => plan.removes.push(change),
            _ => {}
        }
    }
    plan
}

fn plain(version: &str) -> String {
    version.strip_prefix("0:").unwrap_or(version).to_owned()
}

pub(super) fn install(target: Target<'_>) -> Argv {
    argv(&["dnf", "-y", "-q", "--setopt=install_weak_deps=False", "install", "--", &target_argument(target)])
}

pub(super) fn refresh() -> Argv {
    argv(&["dnf", "-q", "makecache"])
}
