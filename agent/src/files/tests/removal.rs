use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

#[test]
fn removal_spares_what_symlinks_point_to() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "safe").unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    symlink(&outside, tree.join("a/link")).unwrap();
    fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o0)).unwrap();
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
