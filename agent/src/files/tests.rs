use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

mod removal;
mod volume;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
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
fn what_is_made_for_others_is_made_below_no_symlink() {
    let dir = tempfile::tempdir().unwrap();
    let (allowed, outside) = (dir.path().join("allowed"), dir.path().join("outside"));
    fs::create_dir(&allowed).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink(&outside, allowed.join("link")).unwrap();
    make_dirs_beneath(&allowed.join("a/b"), 0o755).unwrap();
    make_file_beneath(&allowed.join("a/f"), 0o644).unwrap();
    make_file_beneath(&allowed.join("a/f"), 0o644).unwrap();
    assert!(make_dirs_beneath(&allowed.join("link/b"), 0o755).is_err());
    assert!(make_dirs_beneath(&allowed.join("link/b/c"), 0o755).is_err());
    assert!(make_file_beneath(&allowed.join("link/f"), 0o644).is_err());
    symlink(outside.join("target"), allowed.join("dangling")).unwrap();
    // Something is there; it is not followed.
    make_file_beneath(&allowed.join("dangling"), 0o644).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
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
