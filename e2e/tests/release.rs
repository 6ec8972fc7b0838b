//! The release binary: one file that starts on every distribution.

use e2e::release;
use e2e::rootfs::{self, Release};

#[test]
fn the_release_binary_is_small_and_starts_everywhere() {
    let binary = release::binary().unwrap();
    let size = binary.metadata().unwrap().len();
    assert!(size <= release::LARGEST, "{size} bytes are more than {}", release::LARGEST);
    for release in [Release::Bullseye, Release::Bookworm, Release::Trixie] {
        let version = rootfs::run_on(release, &binary, &["version"]).unwrap();
        assert!(version.starts_with("systemk "), "{release:?}: {version}");
        let help = rootfs::run_on(release, &binary, &["--help"]).unwrap();
        assert!(help.contains("agent"), "{release:?}: {help}");
    }
}
