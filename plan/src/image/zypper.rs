//! zypper: plain XML attributes, read without an XML parser because only one kind of element is looked at.

use super::manager::{Argv, Candidates, Target, argv};
use super::simulation::{Change, InstallPlan};

pub(super) fn query_candidates(name: &str) -> Argv {
    argv(&[
        "zypper",
        "--non-interactive",
        "--xmlout",
        "--no-refresh",
        "search",
        "--details",
        "--match-exact",
        "--type",
        "package",
        "--",
        name,
    ])
}

/// `<solvable status="not-installed" name="nginx" kind="package" edition="1.21-1" arch="x86_64" repository="…"/>`.
pub(super) fn parse_candidates(name: &str, output: &str) -> Candidates {
    let mut versions: Vec<String> = elements(output)
        .filter(|element| {
            attribute(element, "name") == Some(name)
                && !attribute(element, "repository").is_some_and(|repository| repository.contains("System Packages"))
        })
        .filter_map(|element| attribute(element, "edition").map(str::to_owned))
        .collect();
    versions.sort_by(|left, right| super::manager::compare_rpm(right, left));
    versions.dedup();
    Candidates { candidate: versions.first().cloned(), versions }
}

fn install_argv(target: Target<'_>, explicit: bool, dry_run: bool) -> Argv {
    let mut all = argv(&["zypper", "--non-interactive", "--xmlout", "--no-refresh", "install", "--no-recommends"]);
    all.extend(explicit.then(|| "--oldpackage".to_owned()));
    all.extend(dry_run.then(|| "--dry-run".to_owned()));
    if let Target::File(_) = target {
        // The user gave a URL and, if they care, a hash; distributions' keys do not sign third parties' files.
        all.push("--allow-unsigned-rpm".to_owned());
    }
    all.push("--".to_owned());
    all.push(match target {
        Target::Version { name, version } => format!("{name}={version}"),
        Target::File(path) => path.to_owned(),
    });
    all
}

pub(super) fn simulate(target: Target<'_>, explicit: bool) -> Argv {
    install_argv(target, explicit, true)
}

pub(super) fn install(target: Target<'_>, explicit: bool) -> Argv {
    install_argv(target, explicit, false)
}

pub(super) fn refresh() -> Argv {
    argv(&["zypper", "--non-interactive", "refresh"])
}

/// `<install-summary>` with `<to-install>`, `<to-upgrade>`, `<to-downgrade>`, `<to-remove>`…, each full of solvables.
pub(super) fn parse_plan(output: &str) -> InstallPlan {
    let mut plan = InstallPlan::default();
    let mut section = "";
    for element in elements(output) {
        if element.starts_with("to-") {
            section = element.split([' ', '>', '/']).next().unwrap_or_default();
            continue;
        }
        if !element.starts_with("solvable") || attribute(element, "type").is_some_and(|kind| kind != "package") {
            continue;
        }
        let (Some(name), Some(version)) = (attribute(element, "name"), attribute(element, "edition")) else { continue };
        let change = Change { name: name.to_owned(), version: version.to_owned() };
        match section {
            "to-install" => plan.installs.push(change),
            "to-upgrade" | "to-upgrade-change-arch" | "to-change-vendor" | "to-reinstall" | "to-change-arch" => {
                plan.upgrades.push(change);
            }
            "to-downgrade" | "to-downgrade-change-arch" => plan.downgrades.push(change),
            "to-remove" => plan.removes.push(change),
            _ => {}
        }
    }
    plan
}

fn elements(xml: &str) -> impl Iterator<Item = &str> {
    xml.split('<').skip(1).filter(|element| !element.starts_with(['/', '?', '!']))
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let tag = &element[..element.find('>').unwrap_or(element.len())];
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    tag[start..].split('"').next()
}
