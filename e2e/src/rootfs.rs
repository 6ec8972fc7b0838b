//! Root file systems of Debian and Ubuntu by mmdebstrap, cached as directories: the lower layer of every sandbox.
//!
//! Takes the machine's apt sources with their suites rewritten, its apt settings and its own certificate authorities, so
//! that whatever mirror and proxy the machine uses works inside as well. Never changes a cached tree after it is made.

mod apt;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, command, progress};

/// Part of the cache key: raise it when [`bootstrap`] or [`finish`] come to give something else. Their text is not the key,
/// as every edit of a comment would cost each checkout a new tree.
const RECIPE: &[u8] = b"1";

/// A release of Debian or Ubuntu that we make a root file system of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Debian 11 without systemd: only there to show that the binary starts on its C library.
    Bullseye,
    /// Debian 12, systemd 252.
    Bookworm,
    /// Debian 13, systemd 257.
    Trixie,
    /// Ubuntu 24.04, systemd 255.
    Noble,
}

impl Release {
    /// The code name, as apt suites say it.
    pub fn code_name(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Noble => "noble",
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Bullseye => &[],
            Self::Bookworm | Self::Trixie => {
                &["systemd", "systemd-sysv", "dbus", "iproute2", "procps", "ca-certificates", "util-linux"]
            }
            // Its apt is of no priority that a minimal system has.
            Self::Noble => {
                &["apt", "systemd", "systemd-sysv", "dbus", "iproute2", "procps", "ca-certificates", "util-linux"]
            }
        }
    }
}

/// The root file system of `release`, made when the cache has none (about 20 s). Read-only by agreement: it is shared.
pub fn directory(release: Release) -> Result<PathBuf> {
    let sources = apt::sources(release)?;
    let settings = apt::settings()?;
    let authorities = local_authorities()?;
    let packages = release.packages().join(",");
    let mut parts = vec![RECIPE, packages.as_bytes(), sources.as_bytes(), settings.as_bytes()];
    parts.extend(authorities.iter().map(|(_, content)| content.as_slice()));

    cache::entry("rootfs", &format!("{}-{}", release.code_name(), cache::key(&parts)), |path| {
        if !rustix::process::geteuid().is_root() {
            bail!("only root can make a root file system: run this as root");
        }
        command::require("mmdebstrap", "mmdebstrap")?;
        if sources.contains(apt::DEBIAN_KEYRING) && !Path::new(apt::DEBIAN_KEYRING).exists() {
            bail!("{} is missing: apt-get install debian-archive-keyring", apt::DEBIAN_KEYRING);
        }
        progress::during(&format!("making a root file system ({}, about 20 s)", release.code_name()), || {
            bootstrap(release, path, &sources, &settings)?;
            finish(release, path, &sources, &authorities)
        })
    })
}

/// Starts a program of the machine on the root file system of `release` and gives its stdout: shows that its C library has
/// all that the program asks for. The mounts are in a namespace of their own; the cached tree stays as it is.
pub fn run_on(release: Release, program: &Path, arguments: &[&str]) -> Result<String> {
    const ON: &str = r#"root=$1 program=$2; shift 2; mount -t proc proc "$root/proc"; mount -t tmpfs tmpfs "$root/mnt"
        : >"$root/mnt/program"; mount --bind "$program" "$root/mnt/program"; exec chroot "$root" /mnt/program "$@""#;
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-ec", ON, "on"]).args([&directory(release)?, program]).args(arguments);
    command::run(&mut unshare)
}

fn bootstrap(release: Release, path: &Path, sources: &str, settings: &str) -> Result<()> {
    let scratch = tempfile::tempdir().context("make a temporary directory")?;
    let (sources_file, settings_file) = (scratch.path().join("machine.sources"), scratch.path().join("apt.conf"));
    fs::write(&sources_file, sources).context("write the apt sources")?;
    fs::write(&settings_file, settings).context("write the apt settings")?;
    // In a mount namespace of its own: mmdebstrap binds the machine's /dev and /sys into the tree, which must neither be seen
    // on the machine nor still be there when an interrupted tree is removed.
    let mut mmdebstrap = Command::new("unshare");
    mmdebstrap.args(["--mount", "mmdebstrap", "--mode=root", "--format=directory", "--variant=minbase"]);
    mmdebstrap.arg(format!("--aptopt={}", settings_file.display()));
    if !release.packages().is_empty() {
        mmdebstrap.arg(format!("--include={}", release.packages().join(",")));
    }
    command::run(mmdebstrap.arg(release.code_name()).arg(path).arg(&sources_file)).map(drop)
}

/// What a node needs beside its packages, and what makes the first boot as quick as every other.
fn finish(release: Release, path: &Path, sources: &str, authorities: &[(String, Vec<u8>)]) -> Result<()> {
    let write = |inside: &str, content: &[u8]| -> Result<()> {
        let file = path.join(inside);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        fs::write(&file, content).with_context(|| format!("write {}", file.display()))
    };
    for keyring in apt::keyrings(sources) {
        if !path.join(keyring.trim_start_matches('/')).exists() {
            let content = fs::read(keyring).with_context(|| format!("read the apt keyring {keyring}"))?;
            write(keyring.trim_start_matches('/'), &content)?;
        }
    }
    // Instances are thrown away: an fsync per unpacked file only costs time.
    write("etc/dpkg/dpkg.cfg.d/systemk-sandbox", b"force-unsafe-io\n")?;
    if release.packages().is_empty() {
        return Ok(());
    }
    for (name, content) in authorities {
        write(&format!("usr/local/share/ca-certificates/{name}"), content)?;
    }
    command::run(Command::new("chroot").arg(path).arg("update-ca-certificates"))?;
    // systemd compares these with /usr and, finding them as new, skips the jobs of a first boot (ldconfig, catalog, users).
    for stamp in ["etc/.updated", "var/.updated"] {
        write(stamp, b"")?;
        command::run(Command::new("touch").arg("--reference").arg(path.join("usr")).arg(path.join(stamp)))?;
    }
    Ok(())
}

/// The certificate authorities that the machine's administrator added: a proxy's, most of the time.
fn local_authorities() -> Result<Vec<(String, Vec<u8>)>> {
    let Ok(entries) = fs::read_dir("/usr/local/share/ca-certificates") else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.context("list the machine's certificate authorities")?.path();
        if path.is_file() && path.extension().is_some_and(|extension| extension == "crt") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            found.push((name, content));
        }
    }
    found.sort();
    Ok(found)
}
