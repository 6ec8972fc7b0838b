use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::*;

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
    files.iter().map(|file| (file.path.to_owned(), file.content.to_vec())).collect()
}

fn file<'a>(path: &'a str, content: &'a [u8], mode: u32) -> VolumeFile<'a> {
    VolumeFile { path, content, mode, uid: None }
}

fn hidden(volume: &Path) -> usize {
    let names = fs::read_dir(volume).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.as_bytes().starts_with(b"..")).count()
}

#[test]
fn volume_has_the_kubelets_layout() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v");
    let volume = AtomicVolume::new(&path);
    let files: [VolumeFile<'_>; 2] = [file("a", b"1", 0o400), file("d/e/f", b"2", 0o644)];
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
    assert_eq!(volume.write(&[file("d/e/f", b"3", 0o644)], None).unwrap(), Written::Changed);
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
    volume.write(&[file("a", b"1", 0o440)], Some(4242)).unwrap();
    assert_eq!(fs::metadata(dir.path().join("v/a")).unwrap().gid(), 4242);
    assert_eq!(volume.write(&[file("a", b"1", 0o440)], Some(4242)).unwrap(), Written::Unchanged);
    assert_eq!(volume.write(&[file("a", b"1", 0o440)], Some(4243)).unwrap(), Written::Changed);
    // A token has an owner beside it.
    let owned = [VolumeFile { uid: Some(1234), ..file("a", b"1", 0o640) }, file("b", b"2", 0o644)];
    assert_eq!(volume.write(&owned, Some(4243)).unwrap(), Written::Changed);
    let owners = ["v/a", "v/b"].map(|path| fs::metadata(dir.path().join(path)).unwrap()).map(|m| (m.uid(), m.gid()));
    assert_eq!(owners, [(1234, 4243), (0, 4243)]);
    assert_eq!(volume.write(&owned, Some(4243)).unwrap(), Written::Unchanged);
    let other = [VolumeFile { uid: Some(1235), ..owned[0] }, owned[1]];
    assert_eq!(volume.write(&other, Some(4243)).unwrap(), Written::Changed);
}

#[test]
fn volume_refuses_paths_that_leave_it() {
    let dir = tempfile::tempdir().unwrap();
    let volume = AtomicVolume::new(dir.path().join("v"));
    for path in ["", "/a", "../a", "a/../b", "..a", "a//b", "./a", "a/"] {
        assert!(volume.write(&[file(path, b"", 0o644)], None).is_err(), "{path}");
    }
    assert!(volume.write(&[file("a", b"", 0o644), file("a/b", b"", 0o644)], None).is_err());
    assert!(volume.write(&[file("a", b"", 0o644), file("a", b"", 0o644)], None).is_err());
    assert!(!dir.path().join("v").exists());
}

#[test]
fn volume_cut_anywhere_has_old_or_new_files_and_heals() {
    let old: [VolumeFile<'_>; 2] = [file("a", b"old", 0o644), file("gone", b"old", 0o644)];
    let new: [VolumeFile<'_>; 3] = [file("a", b"new", 0o644), file("n/x", b"new", 0o644), file("z", b"new", 0o600)];
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
    volume.write(&[file("a", b"old", 0o644)], None).unwrap();
    for full in ["make directory", "create", "write", "link data", "switch data"] {
        let action = move |step: &'static str| if step == full { Err(Errno::NOSPC) } else { Ok(()) };
        let result = failpoint::with(action, || volume.write(&[file("a", b"new", 0o644)], None)).unwrap();
        assert!(result.unwrap_err().is_no_space(), "{full}");
        assert_eq!(fs::read(path.join("a")).unwrap(), b"old");
        assert!(hidden(&path) <= 3);
    }
    volume.write(&[file("a", b"new", 0o644)], None).unwrap();
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
                files.push(file(name, contents[random(3) as usize], if random(2) == 0 { 0o644 } else { 0o400 }));
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
