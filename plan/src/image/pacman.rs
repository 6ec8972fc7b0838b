//! pacman: one version in the sources, no simulation that lists removals (it refuses conflicts by itself instead).

use super::manager::{Argv, Candidates, PackageId, Target, argv};
use super::simulation::{Change, InstallPlan};

pub(super) fn query_installed(name: &str) -> Argv {
    argv(&["pacman", "-Qi", "--", name])
}

pub(super) fn query_file(path: &str) -> Argv {
    argv(&["pacman", "-Qip", "--", path])
}

/// The first block of `Key : value` lines. `-Qi sh` answers with bash, which provides it: callers compare the name.
pub(super) fn parse_info(output: &str) -> Option<PackageId> {
    let field = |key: &str| {
        output.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    Some(PackageId { name: field("Name")?, version: field("Version")?, arch: field("Architecture")? })
}

pub(super) fn list_files(name: &str) -> Argv {
    argv(&["pacman", "-Qlq", "--", name])
}

pub(super) fn query_candidates(name: &str) -> Argv {
    argv(&["pacman", "-Si", "--", name])
}

/// Repositories come in the order of pacman.conf, whose first is the one that is taken.
pub(super) fn parse_candidates(name: &str, output: &str) -> Candidates {
    match parse_info(output).filter(|package| package.name == name) {
        Some(package) => Candidates { candidate: Some(package.version.clone()), versions: vec![package.version] },
        None => Candidates::default(),
    }
}

fn verb_and_target(target: Target<'_>) -> (&'static str, String) {
    match target {
        // The sources hold one version only, and `name=version` makes pacman refuse if it moved meanwhile.
        Target::Version { name, version } => ("-S", format!("{name}={version}")),
        Target::File(path) => ("-U", path.to_owned()),
    }
}

pub(super) fn simulate(target: Target<'_>) -> Argv {
    let (verb, target) = verb_and_target(target);
    argv(&["pacman", verb, "--print", "--print-format", "%n %v", "--noconfirm", "--", &target])
}

pub(super) fn parse_plan(output: &str) -> InstallPlan {
    let installs = output
        .lines()
        .filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [name, version] if !name.ends_with(':') => {
                Some(Change { name: name.to_owned(), version: version.to_owned() })
            }
            _ => None,
        })
        .collect();
    InstallPlan { installs, ..InstallPlan::default() }
}

/// `--noconfirm` answers the question whether to remove a conflicting package with no.
pub(super) fn install(target: Target<'_>) -> Argv {
    let (verb, target) = verb_and_target(target);
    argv(&["pacman", verb, "--noconfirm", "--noprogressbar", "--", &target])
}

/// A refresh without an upgrade can leave a new package wanting newer libraries than are installed; Arch calls that
/// unsupported. pacman then fails with its own words, which is better than upgrading the host unasked.
pub(super) fn refresh() -> Argv {
    argv(&["pacman", "-Sy", "--noconfirm", "--noprogressbar"])
}
