//! What starts at boot: the links below /etc that enable units, compared before and after an installation.
//!
//! A package's unit is disabled again by removing exactly the links that its installation made. `systemctl disable` would
//! do more (links of the administrator, a call of `systemd-sysv-install`, a reload); the links are all there is to it, and
//! Debian's `deb-systemd-helper` reads their absence as the administrator's wish at every later upgrade.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use plan::image::units::{template_of, unit_name};
use serde::{Deserialize, Serialize};

/// Links by their path, with what they point at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Links(BTreeMap<PathBuf, String>);

/// Directories of links whose *targets* are started with something else.
const PULLING: [&str; 3] = [".wants", ".requires", ".upholds"];

/// All enabling links below `root` (`/`, or a test's directory).
pub(super) fn links(root: &Path) -> Links {
    let mut found = BTreeMap::new();
    for directory in ["etc/systemd/system", "etc/systemd/user"] {
        let directory = root.join(directory);
        collect(&directory, &mut found, |_| true);
        for entry in entries(&directory) {
            if PULLING.iter().any(|suffix| entry.to_string_lossy().ends_with(suffix)) {
                collect(&entry, &mut found, |_| true);
            }
        }
    }
    // Scripts without a unit are started through these by systemd-sysv-generator.
    for level in ["2", "3", "4", "5", "S"] {
        collect(&root.join(format!("etc/rc{level}.d")), &mut found, |name| name.starts_with('S'));
    }
    Links(found)
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn collect(directory: &Path, found: &mut BTreeMap<PathBuf, String>, wanted: impl Fn(&str) -> bool) {
    for path in entries(directory) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Ok(target) = fs::read_link(&path)
            && wanted(&name)
        {
            found.insert(path, target.to_string_lossy().into_owned());
        }
    }
}

/// Undoes what enabled the units in `files` (the paths of the newly installed packages) since `before` was taken. Gives
/// what was disabled, for the log.
pub(super) fn disable_new(root: &Path, before: &Links, files: &[String]) -> Vec<String> {
    let units: BTreeSet<&str> = files.iter().filter_map(|path| unit_or_user_unit(path)).collect();
    let scripts: BTreeSet<&str> = files.iter().filter_map(|path| path.strip_prefix("/etc/init.d/")).collect();
    let mut disabled = BTreeSet::new();
    for (path, target) in links(root).0 {
        if before.0.get(&path) == Some(&target) {
            continue;
        }
        let target = target.rsplit('/').next().unwrap_or_default();
        if units.contains(target) || units.contains(template_of(target).as_str()) {
            if fs::remove_file(&path).is_ok() {
                disabled.insert(target.to_owned());
            }
        } else if scripts.contains(target) && sysv_off(&path) {
            disabled.insert(target.to_owned());
        }
    }
    disabled.into_iter().collect()
}

/// What `update-rc.d disable` does: the script's S link becomes a K link.
fn sysv_off(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.strip_prefix('S').is_some_and(|rest| fs::rename(path, path.with_file_name(format!("K{rest}"))).is_ok())
}

fn unit_or_user_unit(path: &str) -> Option<&str> {
    unit_name(path).or_else(|| path.strip_prefix("/usr/lib/systemd/user/").filter(|name| !name.contains('/')))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_new_links_of_new_units_go() {
        let root = tempfile::tempdir().expect("a directory");
        let system = root.path().join("etc/systemd/system");
        let wants = system.join("multi-user.target.wants");
        let runlevel = root.path().join("etc/rc2.d");
        fs::create_dir_all(&wants).expect("directories");
        fs::create_dir_all(&runlevel).expect("directories");
        let link = |target: &str, path: &Path| symlink(target, path).expect("a link");
        link("/lib/systemd/system/old.service", &wants.join("old.service"));
        let before = links(root.path());
        link("/lib/systemd/system/new.service", &wants.join("new.service"));
        link("/lib/systemd/system/new@.service", &wants.join("new@x.service"));
        link("/lib/systemd/system/new.service", &system.join("alias.service"));
        link("/lib/systemd/system/other.service", &wants.join("other.service"));
        link("../init.d/script", &runlevel.join("S01script"));

        let files = ["/lib/systemd/system/new.service", "/lib/systemd/system/new@.service", "/etc/init.d/script"];
        let disabled = disable_new(root.path(), &before, &files.map(str::to_owned));
        assert_eq!(disabled, ["new.service", "new@.service", "script"]);
        let left: Vec<_> = links(root.path()).0.into_values().collect();
        assert_eq!(left, ["/lib/systemd/system/old.service", "/lib/systemd/system/other.service"]);
        assert!(fs::symlink_metadata(runlevel.join("K01script")).is_ok());
    }
}
