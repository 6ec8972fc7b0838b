//! Root file systems: made once, and Debian 11's is there for its C library.

use std::fs;

use e2e::rootfs::{self, Release};

#[test]
fn a_program_of_the_machine_starts_on_debian_11() {
    let root = rootfs::directory(Release::Bullseye).unwrap();
    assert!(fs::read_to_string(root.join("etc/debian_version")).unwrap().starts_with("11."));

    // A program that certainly needs no more of the C library than Debian 11 has.
    let cat = root.join("bin/cat");
    let shown = rootfs::run_on(Release::Bullseye, &cat, &["/etc/debian_version"]).unwrap();
    assert!(shown.starts_with("11."), "{shown}");
    assert!(rootfs::run_on(Release::Bullseye, &cat, &["/nonexistent"]).is_err());
    assert_eq!(fs::read_dir(root.join("mnt")).unwrap().count(), 0, "the cached tree was written");
    assert_eq!(rootfs::directory(Release::Bullseye).unwrap(), root);
}
