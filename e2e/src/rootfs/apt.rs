//! The machine's apt configuration, rewritten for another release of Debian; Ubuntu's own sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Release;
use crate::command;

/// Where Debian keeps the keys of its archive.
pub(super) const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Debian's own mirrors: for machines whose apt does not serve Debian.
const DEFAULT_SOURCES: &str = "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: SUITE SUITE-updates\nComponents: main\n\
     Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
     Types: deb\nURIs: http://deb.debian.org/debian-security\nSuites: SUITE-security\nComponents: main\n\
     Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";

const UBUNTU_KEYRING: &str = "/usr/share/keyrings/ubuntu-archive-keyring.gpg";

/// The package that has the keys of Ubuntu's archive, in that archive: no key vouches for it yet, so its digest does.
const UBUNTU_KEYRING_PACKAGE: [&str; 2] = [
    "http://archive.ubuntu.com/ubuntu/pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb",
    "SHA256:36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8",
];

/// deb822 sources of `release`: Ubuntu's archive, or the machine's stanzas for its own Debian release, pointed at this one.
pub(super) fn sources(release: Release) -> Result<String> {
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    if release == Release::Noble {
        install_ubuntu_keyring()?;
        return Ok(format!(
            "Types: deb\nURIs: http://archive.ubuntu.com/ubuntu\nSuites: noble noble-updates noble-security\n\
             Components: main universe\nSigned-By: {UBUNTU_KEYRING}\n"
        ));
    }
    let mut found = Vec::new();
    if field("ID") == "debian" {
        for file in source_files()? {
            let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            let deb822 = file.extension().is_some_and(|extension| extension == "sources");
            let stanzas = if deb822 { stanzas(&text) } else { text.lines().filter_map(one_line).collect() };
            found.extend(stanzas.iter().filter_map(|s| rewrite(s, &field("VERSION_CODENAME"), release.code_name())));
        }
    }
    if found.is_empty() {
        return Ok(DEFAULT_SOURCES.replace("SUITE", release.code_name()));
    }
    Ok(found.join("\n"))
}

/// Installs the keys of Ubuntu's archive where Ubuntu has them, which is readable to apt's own user inside as well.
fn install_ubuntu_keyring() -> Result<()> {
    if Path::new(UBUNTU_KEYRING).exists() {
        return Ok(());
    }
    let scratch = tempfile::tempdir().context("make a temporary directory")?;
    let package = scratch.path().join("keyring.deb");
    let [url, digest] = UBUNTU_KEYRING_PACKAGE;
    let mut fetch = Command::new("/usr/lib/apt/apt-helper");
    command::run(fetch.args(["download-file", url]).arg(&package).arg(digest))?;
    command::run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(scratch.path()))?;
    let keys = scratch.path().join(UBUNTU_KEYRING.trim_start_matches('/'));
    // Whole or not at all: another test process may be about to read it.
    let new = format!("{UBUNTU_KEYRING}.{}", std::process::id());
    fs::copy(keys, &new)
        .and_then(|_| fs::rename(&new, UBUNTU_KEYRING))
        .with_context(|| format!("write {UBUNTU_KEYRING}"))
}

/// The machine's settings on how to reach an archive (proxies, certificates, date checks), as apt.conf text.
pub(super) fn settings() -> Result<String> {
    let dump = command::run(Command::new("apt-config").arg("dump")).context("read the machine's apt settings")?;
    let wanted = ["Acquire::http", "Acquire::https", "Acquire::ForceIPv", "Acquire::Check-", "Acquire::Retries"];
    let mut lines: Vec<String> =
        dump.lines().filter(|line| wanted.iter().any(|start| line.starts_with(start))).map(str::to_owned).collect();
    for scheme in ["http", "https"] {
        if let Some(proxy) = std::env::var(format!("{scheme}_proxy")).ok().filter(|proxy| !proxy.is_empty()) {
            lines.push(format!("Acquire::{scheme}::Proxy \"{proxy}\";"));
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// The keyring files that `sources` name.
pub(super) fn keyrings(sources: &str) -> Vec<&str> {
    let named = sources.lines().filter_map(|line| line.strip_prefix("Signed-By:"));
    named.flat_map(str::split_whitespace).filter(|word| word.starts_with('/')).collect()
}

fn source_files() -> Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        for entry in entries {
            files.push(entry.context("list the machine's apt sources")?.path());
        }
    }
    let read = |path: &Path| path.is_file() && path.extension().is_some_and(|e| e == "list" || e == "sources");
    files.retain(|path| read(path));
    files.sort();
    Ok(files)
}

/// The stanzas of a deb822 file without their comments.
fn stanzas(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let split = lines.split(|line| line.trim().is_empty()).filter(|lines| !lines.is_empty());
    split.map(|lines| lines.join("\n") + "\n").collect()
}

/// A one-line source as a stanza: `deb [signed-by=KEYRING ...] URI SUITE COMPONENT...`.
fn one_line(line: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("deb ")?.trim();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let components = words.collect::<Vec<_>>().join(" ");
    let mut stanza = format!("Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {components}\n");
    for option in options.split_whitespace() {
        match option.split_once('=')? {
            ("signed-by", keyring) => stanza += &format!("Signed-By: {keyring}\n"),
            ("trusted", value) => stanza += &format!("Trusted: {value}\n"),
            _ => {}
        }
    }
    Some(stanza)
}

/// `stanza` for release `to` if it serves release `from` (other archives name their suites otherwise), else nothing.
fn rewrite(stanza: &str, from: &str, to: &str) -> Option<String> {
    let value =
        |field: &str| stanza.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::trim);
    if value("Enabled") == Some("no") || !value("Types")?.split_whitespace().any(|kind| kind == "deb") {
        return None;
    }
    let pocket = |suite: &str| {
        let rest = suite.strip_prefix(from)?;
        ["", "-updates", "-security"].contains(&rest).then(|| format!("{to}{rest}"))
    };
    let suites: Vec<String> = value("Suites")?.split_whitespace().filter_map(pocket).collect();
    if suites.is_empty() {
        return None;
    }
    let line = |line: &str| match line.split_once(':') {
        Some(("Types", _)) => "Types: deb".to_owned(),
        Some(("Suites", _)) => format!("Suites: {}", suites.join(" ")),
        _ => line.to_owned(),
    };
    Some(stanza.lines().map(|text| line(text) + "\n").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites_debian_and_leaves_other_archives() {
        let debian = "# a comment\nTypes: deb deb-src\nURIs: http://mirror/debian\nSuites: bookworm bookworm-updates\n\
                      Components: main\nSigned-By: /k.gpg\n\nTypes: deb\nURIs: http://other\nSuites: nodistro\n";
        let stanzas = stanzas(debian);
        assert_eq!(stanzas.len(), 2);
        let trixie = rewrite(&stanzas[0], "bookworm", "trixie").unwrap();
        assert!(trixie.contains("Suites: trixie trixie-updates\n") && trixie.contains("Types: deb\n"), "{trixie}");
        assert_eq!(keyrings(&trixie), ["/k.gpg"]);
        assert_eq!(rewrite(&stanzas[1], "bookworm", "trixie"), None);
    }

    #[test]
    fn one_line_sources_become_stanzas() {
        let stanza = one_line("deb [arch=amd64 signed-by=/k.gpg] http://m/debian bookworm main contrib").unwrap();
        assert_eq!(
            stanza,
            "Types: deb\nURIs: http://m/debian\nSuites: bookworm\nComponents: main contrib\nSigned-By: /k.gpg\n"
        );
        assert_eq!(one_line("# deb http://m/debian bookworm main"), None);
    }
}
