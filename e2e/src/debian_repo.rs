//! Some of the distribution's own packages as a repository in a sandbox: fetched once from the machine's archive and cached, so that
//! a sandbox with a network of its own, where the archive is out of reach, can install them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::sandbox::{Sandbox, SandboxSpec, Systemd};
use crate::{cache, command};

/// Where it is inside.
const INSIDE: &str = "/srv/debian-repo";

/// The archive may be far away.
const PATIENCE: Duration = Duration::from_secs(600);

/// Puts `packages` of the sandbox's release, and all that they need, where its apt finds them.
pub fn install_into(sandbox: &Sandbox, packages: &[&str]) -> Result<()> {
    let directory = fetch(sandbox.record().spec.systemd, packages)?;
    for entry in std::fs::read_dir(&directory).context("list the fetched packages")? {
        let path = entry.context("list the fetched packages")?.path();
        let name = path.file_name().unwrap_or_default();
        sandbox.write_file(PathBuf::from(INSIDE).join(name), std::fs::read(&path)?)?;
    }
    sandbox.write_file("/etc/apt/sources.list.d/debian-repo.list", format!("deb [trusted=yes] file:{INSIDE} ./\n"))?;
    sandbox.run(&["apt-get", "update", "-q"]).map(drop)
}

/// The directory of those packages with an index.
pub(crate) fn fetch(systemd: Systemd, packages: &[&str]) -> Result<PathBuf> {
    command::require("dpkg-scanpackages", "dpkg-dev")?;
    let list = packages.join(" ");
    let version = systemd.version().to_string();
    cache::entry(
        "debian-repo",
        &cache::key(&[include_bytes!("debian_repo.rs"), version.as_bytes(), list.as_bytes()]),
        |path| {
            std::fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
            let spec = SandboxSpec::for_test(systemd, "fetch").bind(path, "/srv/fetched");
            let sandbox = Sandbox::start(spec)?;
            let script = format!(
                "apt-get update -q; mkdir -p /srv/fetched/partial; \
             apt-get install -q -y --no-install-recommends --download-only -o Dir::Cache::archives=/srv/fetched {list}"
            );
            sandbox
                .exec_within(PATIENCE, &["bash", "-ec", &script])?
                .ok()
                .context("fetch packages from the archive")?;
            sandbox.sh("rm -rf /srv/fetched/partial /srv/fetched/lock")?;
            let index = command::run(Command::new("dpkg-scanpackages").arg(".").current_dir(path))?;
            std::fs::write(path.join("Packages"), index).context("write the package index")
        },
    )
}
