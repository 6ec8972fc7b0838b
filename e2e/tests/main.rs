//! The fixtures themselves, on the real thing. Needs root and a package archive.
#![expect(clippy::unwrap_used, reason = "the lint's exception for tests does not reach the functions that they share")]

/// Makes of `fn name(systemd: Systemd)` the tests `name::on_252` and `name::on_257`: the same must hold on both.
macro_rules! on_both {
    ($($test:ident $(,)?)+) => {$(
        mod $test {
            #[test]
            fn on_252() {
                super::$test(e2e::sandbox::Systemd::V252);
            }

            #[test]
            fn on_257() {
                super::$test(e2e::sandbox::Systemd::V257);
            }
        }
    )+};
}

mod apt_repo;
mod cli;
mod cluster;
mod control_plane;
mod go_defects;
mod packages;
mod pods;
mod release;
mod robust;
mod rootfs;
mod sandbox;
mod vm;
