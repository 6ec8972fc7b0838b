use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What a container sees in a volume: path to content.
fn visible(volume: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(base: &Path, path: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(path).into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_name().as_bytes().starts_with(b"..") {
                continue;
            }
            let path = entry.path();
            if path.is_dir() {
                walk(base, &path, found);
            } else {
                let name = path.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap_or_else(|_| b"dangling".to_vec()));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(volume, volume, &mut found);
    found
}

fn model(files: &[VolumeFile<'_>]) -> BTreeMap<String, Vec<u8>> {
    files.iter().map(|(path, content, _)| ((*path).to_owned(), content.to_vec())).collect()
}

fn hidden(volume: &Path) -> usize {
    let names = fs::read_dir(volume).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.as_bytes().starts_with(b"..")).count()
}

/// Runs `body` with a crash at its step number `at`; true if it got that far.
fn crash_at(at: usize, body: impl FnOnce()) -> bool {
    let mut step = 0;
    let action = move |_: &'static str| {
        step += 1;
        if step > at {
            std::panic::resume_unwind(Box::new("crash"));
        }
        Ok(())
    };
    failpoint::with(action, body).is_err()
}

#[test]
fn writer_replaces_whole_files_with_the_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    write_atomic(&path, b"one", 0o640).unwrap();
    write_volatile(&path, b"two", 0o604).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o604);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn writer_replaces_a_symlink_instead_of_following_it() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "safe").unwrap();
    symlink(&victim, dir.path().join("link")).unwrap();
    write_atomic(&dir.path().join("link"), b"new", 0o600).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"safe");
    assert_eq!(fs::read(dir.path().join("link")).unwrap(), b"new");
}

#[test]
fn writer_cut_anywhere_leaves_old_or_new() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    for at in 0..64 {
        fs::write(&path, "old").unwrap();
        let crashed = crash_at(at, || write_atomic(&path, b"new", 0o600).unwrap());
        let found = fs::read(&path).unwrap();
        assert!(found == b"old" || found == b"new", "{at}: {found:?}");
        if !crashed {
            assert!(at > 3);
            return;
        }
    }
    panic!("it never got through");
}

#[test]
fn writer_without_space_keeps_the_old_file_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "old").unwrap();
    let full = |step: &'static str| if step == "write" { Err(Errno::NOSPC) } else { Ok(()) };
    let error = failpoint::with(full, || write_atomic(&path, b"new", 0o600)).unwrap().unwrap_err();
    assert!(error.is_no_space());
    assert_eq!(error.to_string(), format!("cannot write {}", path.display()));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn temporaries_of_a_dead_process_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".systemk-tmp-0-1"), "").unwrap();
    fs::write(dir.path().join("kept"), "").unwrap();
    assert_eq!(remove_temporaries(dir.path()).unwrap(), 1);
    assert!(dir.path().join("kept").exists());
}

#[test]
fn volume_has_the_kubelets_layout() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v");
    let volume = AtomicVolume::new(&path);
    let files: [VolumeFile<'_>; 2] = [("a", b"1", 0o400), ("d/e/f", b"2", 0o644)];
    assert_eq!(volume.write(&files, None).unwrap(), Written::Changed);
    assert_eq!(visible(&path), model(&files));
    assert_eq!(fs::read_link(path.join("a")).unwrap(), Path::new("..data/a"));
    assert_eq!(fs::read_link(path.join("d")).unwrap(), Path::new("..data/d"));
    assert!(fs::read_link(path.join("..data")).unwrap().to_str().unwrap().starts_with("..20"));
    assert_eq!(fs::metadata(path.join("a")).unwrap().permissions().mode() & 0o7777, 0o400);
    assert_eq!(fs::metadata(path.join("d/e")).unwrap().permissions().mode() & 0o7777, 0o755);
    let before = fs::read_link(path.join("..data")).unwrap();
    assert_eq!(volume.write(&files, None).unwrap(), Written::Unchanged);
    assert_eq!(fs::read_link(path.join("..data")).unwrap(), before);
    assert_eq!(volume.write(&[("d/e/f", b"3", 0o644)], None).unwrap(), Written::Changed);
    assert!(fs::symlink_metadata(path.join("a")).is_err());
    assert_eq!(hidden(&path), 2);
}

#[test]
fn volume_gives_its_files_to_the_group() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let volume = AtomicVolume::new(dir.path().join("v"));
    volume.write(&[("a", b"1", 0o440)], Some(4242)).unwrap();
    assert_eq!(fs::metadata(dir.path().join("v/a")).unwrap().gid(), 4242);
    assert_eq!(volume.write(&[("a", b"1", 0o440)], Some(4242)).unwrap(), Written::Unchanged);
    assert_eq!(volume.write(&[("a", b"1", 0o440)], Some(4243)).unwrap(), Written::Changed);
}

#[test]
fn volume_refuses_paths_that_leave_it() {
    let dir = tempfile::tempdir().unwrap();
    let volume = AtomicVolume::new(dir.path().join("v"));
    for path in ["", "/a", "../a", "a/../b", "..a", "a//b", "./a", "a/"] {
        assert!(volume.write(&[(path, b"", 0o644)], None).is_err(), "{path}");
    }
    assert!(volume.write(&[("a", b"", 0o644), ("a/b", b"", 0o644)], None).is_err());
    assert!(volume.write(&[("a", b"", 0o644), ("a", b"", 0o644)], None).is_err());
    assert!(!dir.path().join("v").exists());
}

#[test]
fn volume_cut_anywhere_has_old_or_new_files_and_heals() {
    let old: [VolumeFile<'_>; 2] = [("a", b"old", 0o644), ("gone", b"old", 0o644)];
    let new: [VolumeFile<'_>; 3] = [("a", b"new", 0o644), ("n/x", b"new", 0o644), ("z", b"new", 0o600)];
    for at in 0..200 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        let volume = AtomicVolume::new(&path);
        volume.write(&old, None).unwrap();
        let crashed = crash_at(at, || _ = volume.write(&new, None).unwrap());
        let a = fs::read(path.join("a")).unwrap();
        let data = visible(&path.join("..data"));
        let whole = if a == b"old" { model(&old) } else { model(&new) };
        assert_eq!(data, whole, "crash at step {at}");
        volume.write(&new, None).unwrap();
        assert_eq!(visible(&path), model(&new), "after a crash at step {at}");
        assert_eq!(hidden(&path), 2);
        if !crashed {
            assert!(at > 10);
            return;
        }
    }
    panic!("it never got through");
}

#[test]
fn volume_without_space_keeps_the_old_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v");
    let volume = AtomicVolume::new(&path);
    volume.write(&[("a", b"old", 0o644)], None).unwrap();
    for full in ["make directory", "create", "write", "link data", "switch data"] {
        let action = move |step: &'static str| if step == full { Err(Errno::NOSPC) } else { Ok(()) };
        let result = failpoint::with(action, || volume.write(&[("a", b"new", 0o644)], None)).unwrap();
        assert!(result.unwrap_err().is_no_space(), "{full}");
        assert_eq!(fs::read(path.join("a")).unwrap(), b"old");
        assert!(hidden(&path) <= 3);
    }
    volume.write(&[("a", b"new", 0o644)], None).unwrap();
    assert_eq!(hidden(&path), 2);
}

/// Random writes, crashes and foreign objects against the model "a volume is what was last written".
#[test]
fn volume_is_what_was_last_written() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let names = ["a", "b", "c/x", "c/y", "d/e/f", "g"];
    let contents: [&[u8]; 3] = [b"", b"one", b"two"];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v");
    let volume = AtomicVolume::new(&path);
    for round in 0..300 {
        let mut files: Vec<VolumeFile<'_>> = Vec::new();
        for name in names {
            if random(2) == 0 {
                files.push((name, contents[random(3) as usize], if random(2) == 0 { 0o644 } else { 0o400 }));
            }
        }
        match random(6) {
            0 => _ = crash_at(random(30) as usize, || _ = volume.write(&files, None).unwrap()),
            1 => drop(fs::remove_file(path.join("a"))),
            2 if path.exists() => drop(fs::create_dir(path.join("stray"))),
            3 if path.exists() => drop(fs::create_dir(path.join("..stray"))),
            _ => {}
        }
        volume.write(&files, None).unwrap();
        assert_eq!(visible(&path), model(&files), "round {round}");
        assert_eq!(hidden(&path), 2, "round {round}");
        assert_eq!(volume.write(&files, None).unwrap(), Written::Unchanged, "round {round}");
    }
}

#[test]
fn removal_spares_what_symlinks_point_to() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "safe").unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    symlink(&outside, tree.join("a/link")).unwrap();
    fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0)).unwrap();
    if !is_root() {
        fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o700)).unwrap();
    }
    remove_tree(&tree).unwrap();
    assert!(!tree.exists());
    assert_eq!(fs::read(outside.join("f")).unwrap(), b"safe");
    symlink(&outside, &tree).unwrap();
    remove_tree(&tree).unwrap();
    assert!(outside.join("f").exists() && fs::symlink_metadata(&tree).is_err());
    remove_tree(&tree).unwrap();
    remove_tree(Path::new("/nonexistent/below")).unwrap();
}

#[test]
fn removal_wins_a_race_against_symlinks() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "safe").unwrap();
    let tree = dir.path().join("tree");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::create_dir_all(tree.join("x")).ok();
                fs::write(tree.join("x/f"), "").ok();
                fs::rename(tree.join("x"), tree.join("y")).ok();
                symlink(&outside, tree.join("x")).ok();
                fs::remove_file(tree.join("x")).ok();
            }
        });
        for _ in 0..3000 {
            remove_tree(&tree).ok();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read(outside.join("f")).unwrap(), b"safe");
    remove_tree(&tree).unwrap();
}

#[test]
fn removal_of_a_very_deep_tree() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let mut here = write::open_directory(&tree).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&here, "d", rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        here = rustix::fs::openat(&here, "d", flags, rustix::fs::Mode::empty()).unwrap();
    }
    remove_tree(&tree).unwrap();
    assert!(!tree.exists());
}

/// Unmounts also when the test fails.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        unmount(self.0).ok();
    }
}

#[test]
fn tmpfs_is_mounted_once_resized_and_never_entered_by_removal() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let mount = tree.join("inner");
    fs::create_dir_all(&mount).unwrap();
    fs::write(tree.join("own"), "").unwrap();
    let _unmount = Unmount(&mount);
    match ensure_tmpfs(&mount, 1 << 20, 0o1777) {
        Ok(mounted) => assert_eq!(mounted, Mounted::New),
        // A container without CAP_SYS_ADMIN.
        Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => return,
        Err(error) => panic!("{error:?}"),
    }
    assert_eq!(fs::metadata(&mount).unwrap().permissions().mode() & 0o7777, 0o1777);
    assert_eq!(ensure_tmpfs(&mount, 1 << 20, 0o1777).unwrap(), Mounted::Unchanged);
    assert_eq!(ensure_tmpfs(&mount, 2 << 20, 0o1777).unwrap(), Mounted::Resized);
    assert_eq!(ensure_tmpfs(&mount, 2 << 20, 0o1777).unwrap(), Mounted::Unchanged);
    fs::write(mount.join("theirs"), "safe").unwrap();
    let error = remove_tree(&tree).unwrap_err();
    assert_eq!(error.failures, vec![(mount.clone(), "something is mounted there".to_owned())]);
    assert!(!tree.join("own").exists());
    assert_eq!(fs::read(mount.join("theirs")).unwrap(), b"safe");
    assert!(remove_tree(&mount).is_err());
    let too_much = vec![0; 3 << 20];
    let error = write_volatile(&mount.join("big"), &too_much, 0o600).unwrap_err();
    assert!(error.is_no_space(), "{error:?}");
    assert!(unmount(&mount).unwrap());
    assert!(!unmount(&mount).unwrap());
    symlink(dir.path(), tree.join("link")).unwrap();
    assert!(ensure_tmpfs(&tree.join("link"), 1 << 20, 0o700).is_err());
    remove_tree(&tree).unwrap();
}

#[test]
fn directories_get_exact_modes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/c");
    make_dirs(&path, 0o777, None).unwrap();
    make_dirs(&path, 0o700, None).unwrap();
    for part in ["a", "a/b", "a/b/c"] {
        assert_eq!(fs::metadata(dir.path().join(part)).unwrap().permissions().mode() & 0o7777, 0o777);
    }
    symlink(&path, dir.path().join("link")).unwrap();
    assert!(make_dirs(&dir.path().join("link"), 0o700, None).is_err());
    assert!(set_owner_and_mode(&dir.path().join("link"), None, Some(0o700)).is_err());
}

#[test]
fn lookup_stays_below_its_root() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("etc/app")).unwrap();
    fs::write(root.join("etc/app/conf"), "").unwrap();
    symlink("/etc", root.join("config")).unwrap();
    symlink("../../../../../etc/app", root.join("etc/up")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("etc/app/fifo"), rustix::fs::Mode::RWXU).unwrap();
    use plan::inputs::PathKind;
    let look = |path| lookup_host_path_below(root, path).unwrap();
    let found = look("/config/up/conf");
    assert_eq!((found.kind, found.resolved.as_str()), (Some(PathKind::File), "/etc/app/conf"));
    assert_eq!(found.existing, "/etc/app");
    assert_eq!(look("/etc/app/fifo").kind, Some(PathKind::Other));
    assert_eq!(look("/config/../..").resolved, "/");
    let found = look("/config/app/new/deep");
    assert_eq!((found.kind, found.existing.as_str()), (None, "/etc/app"));
    assert_eq!(found.resolved, "/etc/app/new/deep");
    assert_eq!(found.entries, [("conf".to_owned(), PathKind::File), ("fifo".to_owned(), PathKind::Other)]);
    let found = look("/etc/app/conf/below");
    assert_eq!((found.kind, found.existing.as_str()), (None, "/etc/app"));
    assert_eq!(look("/etc/none").entries[1], ("up".into(), PathKind::Symlink("../../../../../etc/app".into())));
    let error = lookup_host_path_below(root, "/loop").unwrap_err();
    assert!(error.to_string().contains("40 symlinks"), "{error}");
    assert!(lookup_host_path_below(root, "relative").is_err());
}

#[test]
fn reading_is_bounded_and_never_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "12345").unwrap();
    assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
    assert!(matches!(read_bounded(&path, 4), Err(FileError::TooLarge { .. })));
    assert!(!read_bounded(Path::new("/proc/self/status"), 1 << 20).unwrap().is_empty());
    let fifo = dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    assert!(read_bounded(&fifo, 5).unwrap_err().to_string().ends_with("it is a FIFO, not a file"));
    assert!(read_bounded(&dir.path().join("none"), 5).unwrap_err().is_not_found());
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Fact {
    count: u32,
}

impl State for Fact {
    const VERSION: u32 = 2;

    fn upgrade(version: u32, data: &str) -> Option<Self> {
        (version == 1).then(|| data.parse().ok())?.map(|count| Self { count })
    }
}

#[test]
fn state_survives_whatever_is_in_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = StateFile::<Fact>::durable(dir.path().join("fact.json"));
    assert_eq!(file.load().unwrap(), Loaded { value: None, warning: None });
    file.save(&Fact { count: 7 }).unwrap();
    assert_eq!(file.load().unwrap(), Loaded { value: Some(Fact { count: 7 }), warning: None });
    let good = fs::read(file.path()).unwrap();
    for length in 0..good.len() - 1 {
        fs::write(file.path(), &good[..length]).unwrap();
        let loaded = file.load().unwrap();
        assert!(loaded.value.is_none() && loaded.warning.is_some(), "cut at {length}");
        assert!(!file.path().exists());
    }
    for at in 0..good.len() - 2 {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(file.path(), &bad).unwrap();
        assert_ne!(file.load().unwrap().value, Some(Fact { count: 6 }), "bit at {at}");
    }
    assert!(fs::read_dir(dir.path()).unwrap().count() <= 10);
    let old = format!(
        "{{\"version\":1,\"sha256\":\"{}\",\"data\":9}}\n",
        "19581e27de7ced00ff1ce50b2047e7a567c76b1cbaebabe5ef03f7c3017bb5b7"
    );
    fs::write(file.path(), old).unwrap();
    assert_eq!(file.load().unwrap().value, Some(Fact { count: 9 }));
}

#[test]
fn lock_names_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let lock = Lock::acquire(&path).unwrap();
    let error = Lock::acquire(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("another systemk (pid {}) is running", std::process::id())), "{error}");
    drop(lock);
    Lock::acquire(&path).unwrap();
}
