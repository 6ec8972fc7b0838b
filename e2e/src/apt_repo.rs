//! A package archive of our own: small packages, one per trait, that make package tests independent of any mirror.
//!
//! Takes the trees in `e2e/packages` (a file tree each, with `DEBIAN/control` and maintainer scripts); gives a directory
//! that apt reads as `deb [trusted=yes] file:... ./`. Cached by content. All are `Architecture: all` and need nothing but
//! what every Debian has.
//!
//! | package | trait |
//! |---|---|
//! | `sk-nounit` | a program (`/usr/bin/sk-nounit`) and no unit |
//! | `sk-simple` | `Type=simple`, unit below `/lib`; a line per second; `--greeting --interval --count` |
//! | `sk-notify` | `Type=notify`, ready by a child; and `sk-notify-main.service`, ready by the main process |
//! | `sk-forking` | `Type=forking` with `PIDFile=/run/sk-forking.pid` |
//! | `sk-oneshot` | `Type=oneshot`, three `ExecStart=` (one may fail), `RemainAfterExit=yes` |
//! | `sk-othername` | its unit is `skother.service` |
//! | `sk-continued` | `ExecStart=` over several lines, `EnvironmentFile=-`, `$OPTIONS` and `${NAME}`; prints its arguments |
//! | `sk-dropin` | a packaged drop-in replaces `ExecStart=` |
//! | `sk-dirs` | the four directories of a service; `User=sk-dirs` (uid 64990) made by its postinst |
//! | `sk-alias` | `Alias=sk-alias-alias.service` |
//! | `sk-conflicts` | `Conflicts=sk-simple.service`, `Requires=` and `BindsTo=` units of its own |
//! | `sk-condition` | a condition that never holds |
//! | `sk-dbus` | `Type=dbus`, `BusName=io.systemk.Test` |
//! | `sk-template` | a template behind a wrapper unit that does nothing, as postgresql has it |
//! | `sk-onlytemplate` | nothing but a template unit |
//! | `sk-dynamic` | `DynamicUser=yes` with a state directory |
//! | `sk-autostart` | starts a unit and an init script from its postinst; each start adds a line to `/var/lib/sk-autostart.started` |
//! | `sk-badpostinst` | its postinst prints three lines and fails |
//! | `sk-blocks` | there as 1.0-1 and 2.0-1; its preinst and postinst wait while `/var/lib/sk-blocks.hold-preinst` and `-postinst` are there; each run adds a line to a file |
//! | `sk-versions` | there as 1.0-1 and 2.0-1; prints its version |
//! | `sk-exit` | exits with its argument; `--run` until TERM, `--term-after SECONDS` takes that long over it |
//! | `sk-var` | ships files below `/var/lib` and `/srv` |

mod https;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

pub use self::https::HttpsServer;
use crate::sandbox::Sandbox;
use crate::{cache, command};

/// How a sandbox installs packages, without a question; their names follow.
pub const INSTALL: [&str; 6] = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q"];

/// Where the repository is inside a sandbox.
pub const INSIDE: &str = "/srv/systemk-repo";

const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packages");

/// Whether a sandbox keeps Debian's own archive beside ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    /// Ours only: what is installed is the same everywhere, and nothing asks a mirror.
    OursOnly,
    /// Debian's as well, as the machine reaches it.
    WithDebian,
}

/// The built repository.
#[derive(Clone, Debug)]
pub struct AptRepo {
    directory: PathBuf,
}

impl AptRepo {
    /// The repository of the packages as they are in this checkout; built when the cache has none.
    pub fn build() -> Result<Self> {
        command::require("dpkg-scanpackages", "dpkg-dev")?;
        let files = files(Path::new(PACKAGES))?;
        let mut parts: Vec<&[u8]> = vec![include_bytes!("apt_repo.rs")];
        for (name, content) in &files {
            parts.extend([name.as_os_str().as_encoded_bytes(), content.as_slice()]);
        }
        let directory = cache::entry("apt-repo", &cache::key(&parts), |path| {
            fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
            for package in subdirectories(Path::new(PACKAGES))? {
                build_package(&package, path).with_context(|| format!("build the package of {}", package.display()))?;
            }
            let index =
                command::run(Command::new("dpkg-scanpackages").args(["--multiversion", "."]).current_dir(path))?;
            fs::write(path.join("Packages"), index).context("write the package index")
        })?;
        Ok(Self { directory })
    }

    /// Where it is on the machine.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file name of a package of ours in the repository.
    pub fn deb(package: &str, version: &str) -> String {
        format!("{package}_{version}_all.deb")
    }

    /// Puts the repository into the sandbox and makes apt know its packages. A copy, as a running instance's mounts
    /// cannot be added to from outside; it is small and survives a reboot.
    pub fn install_into(&self, sandbox: &Sandbox, archive: Archive) -> Result<()> {
        for entry in fs::read_dir(&self.directory).context("list the package repository")? {
            let entry = entry.context("list the package repository")?;
            let content = fs::read(entry.path()).with_context(|| format!("read {}", entry.path().display()))?;
            sandbox.write_file(Path::new(INSIDE).join(entry.file_name()), content)?;
        }
        sandbox
            .write_file("/etc/apt/sources.list.d/systemk-repo.list", format!("deb [trusted=yes] file:{INSIDE} ./\n"))?;
        if archive == Archive::OursOnly {
            sandbox.sh("for file in /etc/apt/sources.list.d/*.sources; do mv \"$file\" \"$file.disabled\"; done")?;
        }
        sandbox.run(&["apt-get", "update", "-q"]).map(drop)
    }

    /// Serves the repository over HTTPS on the sandbox's loopback, with an authority that the sandbox trusts.
    pub fn serve_https(&self, sandbox: &Sandbox) -> Result<HttpsServer> {
        HttpsServer::start(&self.directory, sandbox)
    }
}

/// Builds each version of the package whose tree is `source` into `repository`.
fn build_package(source: &Path, repository: &Path) -> Result<()> {
    let control = fs::read_to_string(source.join("DEBIAN/control")).context("read DEBIAN/control")?;
    let field = |name: &str| control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let Some(package) = field("Package") else { bail!("DEBIAN/control names no Package") };
    let rest: String =
        control.lines().filter(|line| !line.starts_with("Version: ")).map(|line| format!("{line}\n")).collect();
    for version in field("Version").unwrap_or("1.0-1").split_whitespace() {
        let scratch = tempfile::tempdir().context("make a temporary directory")?;
        // dpkg-deb takes the root directory's mode from here, and a temporary directory is closed to others.
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).context("open the package's root")?;
        for (name, content) in files(source)? {
            let target = scratch.path().join(&name);
            write(&target, &substitute(content, version), mode(&name))?;
        }
        let full = format!(
            "{rest}Version: {version}\nArchitecture: all\nSection: misc\nPriority: optional\n\
             Maintainer: systemk <systemk@localhost>\n"
        );
        write(&scratch.path().join("DEBIAN/control"), full.as_bytes(), 0o644)?;
        if source.join("etc").exists() {
            let conffiles = files(source)?.into_iter().map(|(name, _)| name).filter(|name| name.starts_with("etc"));
            let list: String = conffiles.map(|name| format!("/{}\n", name.display())).collect();
            write(&scratch.path().join("DEBIAN/conffiles"), list.as_bytes(), 0o644)?;
        }
        let deb = repository.join(AptRepo::deb(package, version));
        command::run(
            Command::new("dpkg-deb").args(["--root-owner-group", "-Zgzip", "--build"]).args([scratch.path(), &deb]),
        )?;
    }
    Ok(())
}

/// Programs and scripts are told by where they are: git keeps one bit of it, and a copy may lose that.
fn mode(name: &Path) -> u32 {
    let program = ["usr/bin", "usr/sbin", "etc/init.d"].iter().any(|directory| name.starts_with(directory));
    let script = name.starts_with("DEBIAN") && !name.ends_with("control");
    if program || script { 0o755 } else { 0o644 }
}

fn substitute(content: Vec<u8>, version: &str) -> Vec<u8> {
    match String::from_utf8(content) {
        Ok(text) => text.replace("@VERSION@", version).into_bytes(),
        Err(binary) => binary.into_bytes(),
    }
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, content))
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("write {}", path.display()))
}

fn subdirectories(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path).with_context(|| format!("list {}", path.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.is_dir());
    paths.sort();
    Ok(paths)
}

/// The files below `root` by relative name, in order.
fn files(root: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))? {
            let path = entry.with_context(|| format!("list {}", directory.display()))?.path();
            if path.is_dir() {
                left.push(path);
            } else {
                let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                let name = path.strip_prefix(root).context("a file below its root")?.to_owned();
                found.push((name, content));
            }
        }
    }
    found.sort();
    Ok(found)
}
