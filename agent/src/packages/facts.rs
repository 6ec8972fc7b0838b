//! What an installed package ships: its paths, its units and the drop-ins that apply to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use plan::image::units::{drop_in_names, unit_name};
use plan::inputs::{PackageFacts, PackagePath};
use plan::vendor::{Fragment, VendorUnit};

/// Where systemd reads units, the first wins. /run is the agent's own place too, but drop-ins there are the
/// administrator's (`systemctl edit --runtime`): ours are never written for a vendor's name.
const UNIT_PATH: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const MAX_UNIT: u64 = 1024 * 1024;

/// Reads below `root` (`/`, or a test's directory) what `files` mean there.
pub(super) fn gather(root: &Path, name: String, version: String, files: Vec<String>) -> PackageFacts {
    let units = units(root, &files);
    let mut size = 0;
    let look = |path: String| {
        let file = below(root, &path);
        let found = fs::symlink_metadata(&file).ok();
        let link = found.as_ref().is_some_and(fs::Metadata::is_symlink);
        size += found.as_ref().filter(|found| found.is_file()).map_or(0, fs::Metadata::len);
        PackagePath { directory: if link { file.is_dir() } else { found.is_some_and(|found| found.is_dir()) }, path }
    };
    let files = files.into_iter().map(look).collect();
    PackageFacts { name, version, size, files, units }
}

/// When what administrators add to a package's units was last changed: `systemctl edit` tells no package database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnitsStamp(BTreeMap<PathBuf, (Option<SystemTime>, u64)>);

impl UnitsStamp {
    /// Looks at the unit files and at all places where drop-ins for them may be: a few dozen `stat`s.
    pub(crate) fn of(root: &Path, facts: &PackageFacts) -> Self {
        // Aliases are among the files: their drop-ins apply too.
        let shipped = facts.files.iter().filter_map(|file| unit_name(&file.path));
        let services: BTreeSet<&str> = shipped.filter(|name| name.ends_with(".service")).collect();
        let names: BTreeSet<String> = services.iter().flat_map(|name| drop_in_names(name)).collect();
        let mut stamp = Self::default();
        for name in &services {
            stamp.look(below(root, &format!("{}/{name}", UNIT_PATH[0])));
        }
        for directory in names.iter().flat_map(|name| UNIT_PATH.map(|place| format!("{place}/{name}.d"))) {
            let directory = below(root, &directory);
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                stamp.look(entry.path());
            }
            stamp.look(directory);
        }
        stamp
    }

    /// Whether nothing of it was changed from the second before `began` to the second after `ended`: what was read between
    /// the two may be cached. A time far in the future is that of a device whose clock was set back since, or which has none.
    pub(crate) fn is_settled(&self, began: SystemTime, ended: SystemTime) -> bool {
        let beyond = |from: SystemTime, to: SystemTime| to.duration_since(from).is_ok_and(|age| age.as_secs() >= 1);
        let settled = |at: &SystemTime| beyond(*at, began) || beyond(ended, *at);
        self.0.values().all(|(changed, _)| changed.as_ref().is_some_and(settled))
    }

    fn look(&mut self, path: PathBuf) {
        if let Ok(metadata) = fs::metadata(&path) {
            // A link to /dev/null takes a drop-in away; when that device was written does not matter.
            let lasts = metadata.is_file() || metadata.is_dir();
            let changed = if lasts { metadata.modified().ok() } else { Some(SystemTime::UNIX_EPOCH) };
            self.0.insert(path, (changed, metadata.len()));
        }
    }
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Every service of the package, templates too, by name; an alias (a link to another unit) is part of that unit.
fn units(root: &Path, files: &[String]) -> Vec<VendorUnit> {
    let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut paths: BTreeMap<String, &str> = BTreeMap::new();
    for path in files {
        let Some(name) = unit_name(path).filter(|name| name.ends_with(".service")) else { continue };
        match fs::read_link(below(root, path)) {
            Ok(target) => {
                let target = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if target.ends_with(".service") && target != name {
                    aliases.entry(target).or_default().push(name.to_owned());
                }
            }
            // Merged and unmerged /usr name the same file twice.
            Err(_) => drop(paths.insert(name.to_owned(), path)),
        }
    }
    paths
        .into_iter()
        .map(|(name, path)| {
            let own = aliases.remove(&name).unwrap_or_default();
            let mut fragments: Vec<Fragment> = main_fragment(root, &name, path).into_iter().collect();
            fragments.extend(drop_ins(root, &name, &own));
            VendorUnit { name, fragments }
        })
        .collect()
}

/// An administrator's whole unit in /etc replaces the vendor's. A link there is `systemctl mask` or an alias, which say
/// what the *host's* service does; the pod's is another unit, made from the vendor's text.
fn main_fragment(root: &Path, name: &str, vendor: &str) -> Option<Fragment> {
    let own = format!("/etc/systemd/system/{name}");
    let is_file = fs::symlink_metadata(below(root, &own)).is_ok_and(|metadata| metadata.is_file());
    read(root, if is_file { &own } else { vendor })
}

/// systemd's order: all directories' files sorted by file name; of the same name the one in the most specific unit's
/// directory and the first place wins; a link to /dev/null, or an empty file, takes one away.
fn drop_ins(root: &Path, unit: &str, aliases: &[String]) -> Vec<Fragment> {
    let mut names = vec![unit.to_owned()];
    names.extend(aliases.iter().cloned());
    names.extend(drop_in_names(unit).into_iter().skip(1));
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for name in &names {
        for place in UNIT_PATH {
            let directory = format!("{place}/{name}.d");
            for entry in fs::read_dir(below(root, &directory)).into_iter().flatten().flatten() {
                let file = entry.file_name().to_string_lossy().into_owned();
                if file.ends_with(".conf") && !file.starts_with('.') {
                    found.entry(file.clone()).or_insert_with(|| format!("{directory}/{file}"));
                }
            }
        }
    }
    found.into_values().filter_map(|path| read(root, &path)).filter(|fragment| !fragment.text.is_empty()).collect()
}

fn read(root: &Path, path: &str) -> Option<Fragment> {
    let file = below(root, path);
    let metadata = fs::metadata(&file).ok()?;
    if !metadata.is_file() || metadata.len() > MAX_UNIT {
        return None;
    }
    let text = String::from_utf8_lossy(&fs::read(&file).ok()?).into_owned();
    Some(Fragment { path: path.to_owned(), text })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use plan::image::units::UNIT_DIRECTORIES;

    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let file = below(root, path);
        fs::create_dir_all(file.parent().expect("a parent")).expect("directories");
        fs::write(file, text).expect("a file");
    }

    #[test]
    fn units_with_their_drop_ins_in_order() {
        for vendor in UNIT_DIRECTORIES {
            let root = tempfile::tempdir().expect("a directory");
            let root = root.path();
            let unit = |name: &str| format!("{vendor}/{name}");
            write(root, &unit("ssh.service"), "[Service]\nExecStart=/usr/sbin/sshd\n");
            write(root, &unit("ssh@.service"), "[Service]\n");
            write(root, &unit("ssh.socket"), "[Socket]\n");
            symlink("ssh.service", below(root, &unit("sshd.service"))).expect("an alias");
            write(root, &unit("ssh.service.d/20-vendor.conf"), "vendor");
            write(root, &unit("ssh.service.d/30-both.conf"), "vendor");
            write(root, "/etc/systemd/system/ssh.service.d/30-both.conf", "etc");
            write(root, "/etc/systemd/system/ssh.service.d/10-etc.conf", "etc");
            write(root, "/etc/systemd/system/sshd.service.d/15-alias.conf", "alias");
            write(root, "/etc/systemd/system/service.d/40-all.conf", "all");
            write(root, "/etc/systemd/system/ssh.service.d/README", "no drop-in");
            symlink("/dev/null", below(root, "/etc/systemd/system/ssh.service.d/50-gone.conf")).expect("a mask");
            write(root, &unit("ssh.service.d/50-gone.conf"), "vendor");
            fs::create_dir_all(below(root, "/var/lib/ssh")).expect("a directory");

            let files = ["ssh.service", "ssh@.service", "ssh.socket", "sshd.service"].map(unit).into_iter();
            let files = files.chain(["/var/lib/ssh".to_owned()]).collect();
            let facts = gather(root, "ssh".into(), "1".into(), files);
            let names: Vec<_> = facts.units.iter().map(|unit| unit.name.as_str()).collect();
            assert_eq!(names, ["ssh.service", "ssh@.service"]);
            let fragments: Vec<_> =
                facts.units[0].fragments.iter().map(|f| f.path.rsplit('/').next().unwrap_or_default()).collect();
            assert_eq!(
                fragments,
                ["ssh.service", "10-etc.conf", "15-alias.conf", "20-vendor.conf", "30-both.conf", "40-all.conf"]
            );
            assert_eq!(facts.units[0].fragments[4].text, "etc");
            assert!(facts.files[4].directory && !facts.files[0].directory);
            let texts = ["[Service]\nExecStart=/usr/sbin/sshd\n", "[Service]\n", "[Socket]\n"];
            assert_eq!(
                facts.size,
                texts.map(str::len).iter().sum::<usize>() as u64,
                "a link and a directory take nothing"
            );
        }
    }

    #[test]
    fn a_drop_in_changes_the_stamp_of_its_unit_only() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        write(root, "/usr/lib/systemd/system/a.service", "vendor");
        symlink("a.service", below(root, "/usr/lib/systemd/system/alias.service")).expect("an alias");
        let files = ["a", "alias"].map(|name| format!("/usr/lib/systemd/system/{name}.service")).to_vec();
        let facts = gather(root, "a".into(), "1".into(), files);
        let mut stamp = UnitsStamp::of(root, &facts);
        write(root, "/etc/systemd/system/b.service.d/override.conf", "of another");
        write(root, "/run/systemd/system/systemk.default.a.service", "one of ours");
        assert_eq!(stamp, UnitsStamp::of(root, &facts));
        for path in [
            "/etc/systemd/system/a.service.d/override.conf",
            "/run/systemd/system/a.service.d/override.conf",
            "/usr/local/lib/systemd/system/a.service.d/override.conf",
            "/etc/systemd/system/alias.service.d/override.conf",
            "/etc/systemd/system/service.d/all.conf",
            "/etc/systemd/system/a.service",
        ] {
            for text in ["[Service]", "[Service]\nNice=1"] {
                write(root, path, text);
                let now = UnitsStamp::of(root, &facts);
                assert_ne!(stamp, now, "{path}");
                stamp = now;
            }
            fs::remove_file(below(root, path)).expect("removed");
            let now = UnitsStamp::of(root, &facts);
            assert_ne!(stamp, now, "{path} removed");
            stamp = now;
        }
        let (now, second) = (SystemTime::now(), std::time::Duration::from_secs(1));
        assert!(!stamp.is_settled(now, now), "changed just now");
        assert!(!stamp.is_settled(now - 60 * second, now), "changed while it was read");
        assert!(stamp.is_settled(now + 5 * second, now + 5 * second));
        assert!(stamp.is_settled(now - 60 * second, now - 50 * second), "its clock is ahead of ours");
    }

    #[test]
    fn the_administrators_unit_replaces_the_vendors_but_a_mask_does_not() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        write(root, "/usr/lib/systemd/system/a.service", "vendor");
        write(root, "/usr/lib/systemd/system/b.service", "vendor");
        write(root, "/etc/systemd/system/a.service", "etc");
        symlink("/dev/null", below(root, "/etc/systemd/system/b.service")).expect("a mask");
        let files = ["a", "b"].map(|name| format!("/usr/lib/systemd/system/{name}.service")).to_vec();
        let texts: Vec<_> = units(root, &files).into_iter().map(|unit| unit.fragments[0].text.clone()).collect();
        assert_eq!(texts, ["etc", "vendor"]);
    }
}
