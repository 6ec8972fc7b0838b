use proptest::prelude::*;

use super::*;

fn entry<'a>(path: &'a [u8], kind: Kind, link: &'a [u8]) -> Entry<'a> {
    Entry { path, kind, link, mode: 0o100_4755, uid: 1, gid: 2 }
}

/// Where and what, for what is made.
fn made(path: &str, kind: Kind, link: &str) -> (String, Make) {
    match entry(path.as_bytes(), kind, link.as_bytes()).action() {
        Ok(Action::Make { path, make, mode, uid, gid }) => {
            assert_eq!((mode, uid, gid), (0o4755, 1, 2));
            (path.to_string(), make)
        }
        other => panic!("{path}: {other:?}"),
    }
}

fn problem(path: &[u8], kind: Kind, link: &[u8]) -> Problem {
    entry(path, kind, link).action().unwrap_err().problem
}

#[test]
fn what_images_have_is_made() {
    for path in ["usr/bin/env", "./usr/bin/env", "/usr/bin/env", "//usr/./bin//env/"] {
        assert_eq!(made(path, Kind::Regular, ""), ("usr/bin/env".into(), Make::File), "{path}");
    }
    for root in ["./", "/", ".", ""] {
        assert_eq!(made(root, Kind::Directory, ""), (String::new(), Make::Directory), "{root}");
    }
    let out = "../../../etc/passwd";
    assert_eq!(made("a/l", Kind::Symlink, out), ("a/l".into(), Make::Symlink(out.into())));
    let (at, make) = made("a/h", Kind::HardLink, "./usr/bin/env");
    assert_eq!((at.as_str(), make), ("a/h", Make::HardLink(CleanPath::of(b"usr/bin/env").unwrap())));
    assert_eq!(made("run/pipe", Kind::Fifo, ""), ("run/pipe".into(), Make::Fifo));
}

#[test]
fn whiteouts_hide_what_they_name_and_some_entries_are_of_no_use() {
    assert_eq!(made("etc/.wh.passwd", Kind::Regular, ""), ("etc/passwd".into(), Make::Whiteout));
    assert_eq!(made(".wh.etc", Kind::Regular, ""), ("etc".into(), Make::Whiteout));
    assert_eq!(made("etc/.wh..wh..opq", Kind::Regular, ""), ("etc".into(), Make::Opaque));
    assert_eq!(made(".wh..wh..opq", Kind::Regular, ""), (String::new(), Make::Opaque));
    assert_eq!(entry(b"dev/console", Kind::Character, b"").action(), Ok(Action::Skip));
    for path in [&b".wh..wh.plnk"[..], b".wh..wh.aufs", b".wh..wh.orph/x"] {
        assert_eq!(entry(path, Kind::Regular, b"").action(), Ok(Action::Skip));
    }
    for path in [&b"a/.wh."[..], b".wh..", b"a/.wh...", b".wh.a/b", b"x/.wh..wh/y"] {
        assert_eq!(problem(path, Kind::Regular, b""), Problem::Whiteout, "{}", shown(path));
    }
}

#[test]
fn hostile_entries_are_refused() {
    let cases: [(&[u8], Kind, &[u8], Problem); 15] = [
        (b"../etc/passwd", Kind::Regular, b"", Problem::Upwards),
        (b"/../etc/passwd", Kind::Regular, b"", Problem::Upwards),
        (b"a/../b", Kind::Regular, b"", Problem::Upwards),
        (b"..", Kind::Directory, b"", Problem::Upwards),
        (b"a\0b", Kind::Regular, b"", Problem::Nul),
        (b"./", Kind::Symlink, b"/etc", Problem::Root),
        (b"/", Kind::Regular, b"", Problem::Root),
        (b"tmp/sda", Kind::Block, b"", Problem::Device),
        (b"etc/shadow", Kind::Character, b"", Problem::Device),
        (b"h", Kind::HardLink, b"../../etc/shadow", Problem::HardLink),
        (b"h", Kind::HardLink, b"/", Problem::HardLink),
        (b"h", Kind::HardLink, b"a/.wh.b", Problem::HardLink),
        (b"l", Kind::Symlink, b"", Problem::Link),
        (b"l", Kind::Symlink, b"a\0b", Problem::Nul),
        (b"x", Kind::Other(b'V'), b"", Problem::Kind(b'V')),
    ];
    for (path, kind, link, wanted) in cases {
        assert_eq!(problem(path, kind, link), wanted, "{}", shown(path));
    }
    let (long, deep) = (vec![b'a'; MAX_COMPONENT + 1], b"a/".repeat(MAX_DEPTH + 1));
    assert_eq!(problem(&long, Kind::Regular, b""), Problem::TooLong);
    assert_eq!(problem(&deep, Kind::Directory, b""), Problem::TooDeep);
    assert_eq!(problem(&b"a/".repeat(MAX_PATH), Kind::Directory, b""), Problem::TooLong);
    for (uid, gid) in [(u64::from(u32::MAX), 0), (0, u64::from(u32::MAX)), (1 << 32, 0)] {
        let owned = Entry { uid, gid, ..entry(b"a", Kind::Regular, b"") };
        assert_eq!(owned.action().unwrap_err().problem, Problem::Owner);
    }
    let said = entry(b"../\x1b[2J\xff", Kind::Regular, b"").action().unwrap_err().to_string();
    assert_eq!(said, "its entry \"../\\u{1b}[2J\u{fffd}\" leads upwards");
}

#[test]
fn attributes_of_the_image_and_of_others() {
    let own = ["user.x", "security.capability", "system.posix_acl_access", "system.posix_acl_default"];
    own.iter().for_each(|name| assert!(is_attribute(name.as_bytes()), "{name}"));
    let others =
        ["trusted.overlay.opaque", "trusted.x", "user.overlay.redirect", "user.", "security.selinux", "security.ima"];
    others.iter().for_each(|name| assert!(!is_attribute(name.as_bytes()), "{name}"));
    assert!(!is_attribute(b"user.a\0b") && !is_attribute(format!("user.{}", "a".repeat(255)).as_bytes()));
}

fn is_clean(path: &CleanPath) -> bool {
    path.0.iter().all(|name| {
        let is_name = !name.is_empty() && name.len() <= MAX_COMPONENT && name != b"." && name != b"..";
        is_name && !name.contains(&b'/') && !name.contains(&0)
    })
}

fn kinds() -> impl Strategy<Value = Kind> {
    use Kind::{Block, Character, Directory, Fifo, HardLink, Regular, Symlink};
    prop::sample::select(vec![Regular, HardLink, Symlink, Directory, Character, Block, Fifo, Kind::Other(0)])
}

/// Bytes that are likely to mean something.
fn paths() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec!["/", ".", "..", "a", "b", ".wh.", ".wh..wh..opq", ".wh..wh.", "\0", "\u{e4}"]);
    let meaning = prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat().into_bytes());
    prop_oneof![meaning, prop::collection::vec(any::<u8>(), 0..40)]
}

proptest! {
    #[test]
    fn no_path_and_no_hard_link_leads_out(path in paths(), kind in kinds(), link in paths()) {
        if let Ok(Action::Make { path, make, .. }) = entry(&path, kind, &link).action() {
            prop_assert!(is_clean(&path), "{:?}", path);
            if let Make::HardLink(target) = &make {
                prop_assert!(is_clean(target) && target.name().is_some(), "{:?}", target);
            }
            // The root is only ever itself.
            let may_be_root = matches!(make, Make::Directory | Make::Opaque);
            prop_assert!(path.name().is_some() || may_be_root, "{:?}", make);
        }
    }
}
