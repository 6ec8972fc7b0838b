//! The disk of a virtual machine: an ext4 file system, made of the release's root file system without mounting anything.
//!
//! Takes a release's systemd; gives an image in the cache, which instances copy. The agent is put into the copy, as it is
//! another one after every build.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt_repo::{self, AptRepo};
use crate::sandbox::Systemd;
use crate::{cache, command, rootfs};

/// Raise it when [`make`] comes to give something else.
const RECIPE: &[u8] = b"1";

/// Sparse: what is not used takes no room.
const SIZE: &str = "2G";

/// Where `systemk install` finds the program to write into its unit.
const PROGRAM: [&str; 2] = ["/usr/local/bin", "systemk"];

/// How many tasks a unit may have that says nothing else: as an administrator would set it against fork bombs, as pods have
/// no field for it. systemd's own default, 15 % of what the kernel takes, is a thousand here, which takes long to reach.
pub const DEFAULT_TASKS_MAX: u64 = 200;

/// Emulated beside other work, a machine may stand still for half a minute, and nothing here is about time.
const PATIENCE: &str = "[Service]\nWatchdogSec=2min\n";

const CHANNEL: &str = include_str!("channel.sh");

/// Not one that the shutdown stops: it has to answer whoever asked for that, and tells what holds one up.
const CHANNEL_SERVICE: &str = "[Unit]\nDescription=Commands of the machine that emulates this one\nDefaultDependencies=no\n\
     [Service]\nExecStart=/bin/bash /usr/local/lib/channel.sh\nEnvironment=HOME=/root\nOOMScoreAdjust=-1000\nTasksMax=infinity\n\
     [Install]\nWantedBy=multi-user.target\n";

/// Units that wait for a device (there is no udev), for a terminal or for a network, start work at some random time, or
/// prepare what nobody here uses: emulation makes each process of a boot a tenth of a second.
const MASKED: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dev-ttyS0.device",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "getty@.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "serial-getty@.service",
    "serial-getty@ttyS0.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-networkd-wait-online.service",
    "systemd-pcrphase.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-random-seed.service",
    // The initrd has mounted it writable.
    "systemd-remount-fs.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-user-sessions.service",
];

/// The image for that systemd; made when the cache has none.
pub(super) fn base(systemd: Systemd) -> Result<PathBuf> {
    let lower = rootfs::directory(systemd.release())?;
    let repository = AptRepo::build()?;
    let files = files();
    let mut parts = vec![RECIPE, SIZE.as_bytes(), lower.as_os_str().as_encoded_bytes()];
    parts.push(repository.directory().as_os_str().as_encoded_bytes());
    for (name, content) in &files {
        parts.extend([name.as_bytes(), content.as_bytes()]);
    }
    parts.extend(MASKED.iter().map(|unit| unit.as_bytes()));
    cache::entry("disk", &format!("{}-{}", systemd.release().code_name(), cache::key(&parts)), |path| {
        command::require("mkfs.ext4", "e2fsprogs")?;
        make(&lower, &repository, &files, path)
    })
}

/// A copy of `base` at `disk`, with `agent` as its systemk.
pub(super) fn instance(base: &Path, agent: &Path, disk: &Path) -> Result<()> {
    command::run(Command::new("cp").args(["--reflink=auto", "--sparse=always"]).args([base, disk]))?;
    let [directory, name] = PROGRAM;
    let script = tempfile::NamedTempFile::new().context("make a temporary file")?;
    let request = format!(
        "cd {directory}\nwrite \"{}\" {name}\nset_inode_field {name} mode 0100755\nset_inode_field {name} uid 0\nset_inode_field {name} gid 0\n",
        agent.display()
    );
    fs::write(script.path(), request).context("write what debugfs is to do")?;
    let mut debugfs = Command::new("debugfs");
    let output = debugfs.args(["-w", "-f"]).args([script.path(), disk]).output().context("start debugfs")?;
    // It ends with 0 whatever happens; its first line of stderr is its version.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let wrong: Vec<&str> = said.lines().filter(|line| !line.starts_with("debugfs ")).collect();
    if !output.status.success() || !wrong.is_empty() {
        bail!("put {} into a disk: {}", agent.display(), wrong.join("\n"));
    }
    Ok(())
}

/// Whether the file system is sound, after its machine was shut down.
pub(super) fn check(disk: &Path) -> Result<()> {
    command::run(Command::new("e2fsck").args(["-f", "-n"]).arg(disk)).map(drop)
}

/// What makes the tree a node of its own, by name.
fn files() -> Vec<(&'static str, String)> {
    let limits = format!(
        "[Manager]\nDefaultTasksMax={DEFAULT_TASKS_MAX}\nDefaultTimeoutStartSec=5min\nDefaultTimeoutStopSec=5min\n"
    );
    let text = str::to_owned;
    vec![
        ("etc/hostname", text("vm\n")),
        ("etc/hosts", text("127.0.0.1 localhost vm\n::1 localhost\n")),
        ("etc/machine-id", text("5b1f0c6c2a5e4f0e9d0c7b1a2f3e4d5c\n")),
        ("etc/systemd/system.conf.d/limits.conf", limits),
        ("etc/systemd/system/systemk.service.d/patience.conf", text(PATIENCE)),
        ("etc/systemd/system/channel.service", text(CHANNEL_SERVICE)),
        ("usr/local/lib/channel.sh", text(CHANNEL)),
        // No interface has an address that could be found.
        ("etc/systemk/config.yaml", text("nodeIp: 10.0.0.1\nlogLevel: debug\n")),
        ("etc/apt/sources.list.d/systemk-repo.list", format!("deb [trusted=yes] file:{} ./\n", apt_repo::INSIDE)),
    ]
}

fn make(lower: &Path, repository: &AptRepo, files: &[(&str, String)], path: &Path) -> Result<()> {
    let parent = path.parent().context("an image in a directory")?;
    let scratch = tempfile::tempdir_in(parent).context("make a temporary directory")?;
    let tree = scratch.path().join("tree");
    command::run(Command::new("cp").args(["-a", "--reflink=auto"]).args([lower, &tree]))?;
    // The machine has no network, and a power cut is to find dpkg as careful as it is everywhere.
    for without in ["etc/apt/sources.list", "etc/apt/sources.list.d", "etc/dpkg/dpkg.cfg.d/systemk-sandbox"] {
        cache::remove(&tree.join(without))?;
    }
    for (name, content) in files {
        let file = tree.join(name);
        file.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&file, content))
            .with_context(|| format!("write the image's /{name}"))?;
    }
    let units = tree.join("etc/systemd/system");
    for unit in MASKED {
        cache::remove(&units.join(unit))?;
        symlink("/dev/null", units.join(unit)).with_context(|| format!("mask {unit}"))?;
    }
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants)
        .and_then(|()| symlink("../channel.service", wants.join("channel.service")))
        .context("enable the channel")?;
    let inside = tree.join(apt_repo::INSIDE.trim_start_matches('/'));
    command::run(Command::new("cp").args(["-a", "--no-target-directory"]).args([repository.directory(), &inside]))?;
    // As one of a first boot, systemd would do its jobs again (see `rootfs`).
    for stamp in ["etc/.updated", "var/.updated"] {
        command::run(Command::new("touch").arg("--reference").arg(tree.join("usr")).arg(tree.join(stamp)))?;
    }
    let mut mkfs = Command::new("mkfs.ext4");
    // All of it now: else the kernel goes on with it in the background of every machine.
    mkfs.args(["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d"]).args([&tree, path]).arg(SIZE);
    command::run(&mut mkfs).map(drop)
}
