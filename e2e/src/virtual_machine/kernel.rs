//! What a virtual machine boots: Debian's cloud kernel of the release, and an initrd of ours that only mounts the disk.
//!
//! Takes a release's systemd; gives the paths of both, cached. The package is taken apart, not installed: its scripts would
//! make an initrd for hardware that is not there, with a whole udev that emulation takes its time over.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::sandbox::Systemd;
use crate::{cache, command, debian_repo};

/// Raise it when [`make`] comes to give something else.
const RECIPE: &[u8] = b"2";

const PACKAGES: [&str; 2] = ["linux-image-cloud-amd64", "busybox-static"];

const INIT: &str = include_str!("initrd.sh");

/// In the order in which they need each other. One that the package does not have is built into its kernel.
const MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "virtio-rng",
];

/// The two files.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub(super) image: PathBuf,
    pub(super) initrd: PathBuf,
}

impl Kernel {
    /// That of the systemd's release.
    pub(super) fn of(systemd: Systemd) -> Result<Self> {
        let packages = debian_repo::fetch(systemd, &PACKAGES)?;
        let origin = packages.as_os_str().as_encoded_bytes();
        let key = cache::key(&[RECIPE, INIT.as_bytes(), MODULES.join(" ").as_bytes(), origin]);
        let directory = cache::entry("kernel", &format!("{}-{key}", systemd.release().code_name()), |path| {
            command::require("cpio", "cpio")?;
            command::require("xz", "xz-utils")?;
            make(&packages, path)
        })?;
        Ok(Self { image: directory.join("vmlinuz"), initrd: directory.join("initrd") })
    }
}

fn make(packages: &Path, path: &Path) -> Result<()> {
    fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
    let scratch = tempfile::tempdir_in(path).context("make a temporary directory")?;
    for entry in fs::read_dir(packages).context("list the fetched packages")? {
        let package = entry.context("list the fetched packages")?.path();
        let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("linux-image-") || name.starts_with("busybox-static_") {
            command::run(Command::new("dpkg-deb").arg("--extract").args([&package, scratch.path()]))?;
        }
    }
    let kernels = find(scratch.path(), "vmlinuz-*")?;
    ensure!(kernels.len() == 1, "one kernel was fetched, not {kernels:?}");
    fs::copy(&kernels[0], path.join("vmlinuz")).context("keep the kernel")?;
    initrd(scratch.path(), &path.join("initrd"))
}

fn initrd(packages: &Path, target: &Path) -> Result<()> {
    let tree = tempfile::tempdir_in(packages).context("make a temporary directory")?;
    let root = tree.path();
    let mut modules = String::new();
    for name in MODULES {
        let Some(file) = find(packages, &format!("{name}.ko*"))?.pop() else { continue };
        let packed = root.join(file.file_name().unwrap_or_default());
        fs::copy(&file, &packed).with_context(|| format!("copy {}", file.display()))?;
        if packed.extension().is_some_and(|extension| extension == "xz") {
            command::run(Command::new("xz").arg("--decompress").arg(&packed))?;
        }
        modules += &format!("{name}.ko\n");
    }
    for directory in ["dev", "root"] {
        fs::create_dir(root.join(directory)).with_context(|| format!("make the initrd's /{directory}"))?;
    }
    let busybox =
        find(packages, "busybox")?.into_iter().find(|path| path.parent().is_some_and(|parent| parent.ends_with("bin")));
    let busybox = busybox.context("busybox-static has no busybox")?;
    fs::copy(&busybox, root.join("busybox")).context("copy busybox")?;
    fs::write(root.join("modules"), modules).context("write the list of modules")?;
    fs::write(root.join("init"), INIT).context("write init")?;
    command::run(Command::new("chmod").arg("755").args([root.join("init"), root.join("busybox")]))?;
    let mut pack = Command::new("sh");
    pack.args(["-c", "find . | cpio --quiet --create --format=newc --owner=0:0 >\"$1\"", "pack"]);
    command::run(pack.arg(target).current_dir(root)).map(drop)
}

/// What is named like `pattern` below `directory`.
fn find(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let found = command::run(Command::new("find").arg(directory).args(["-name", pattern, "-not", "-type", "d"]))?;
    Ok(found.lines().map(PathBuf::from).collect())
}
