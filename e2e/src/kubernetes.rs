//! The programs of a Kubernetes control plane, upstream's own code: from a directory that the user names, else built once.
//!
//! Gives a directory with `etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler` and `kubectl`. What is built is
//! `e2e/kubernetes`, one program called by those five names.

mod build;
mod go;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cache;

/// The release, as `kubectl version` and the API server say it. `e2e/kubernetes/go.mod` pins the same one.
pub const VERSION: &str = "v1.37.2";

/// Names a directory of ready programs, which skips the build.
pub const VARIABLE: &str = "SYSTEMK_KUBERNETES";

/// The names that the one program goes by.
const PROGRAMS: &[&str] = &["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"];

/// The directory of the programs: the one that `SYSTEMK_KUBERNETES` names, else a cached build (minutes the first time).
pub fn directory() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        return ready(Path::new(&named));
    }
    let mut parts: Vec<&[u8]> = build::SOURCES.iter().map(|(_, content)| content.as_bytes()).collect();
    let flags = build::flags();
    parts.extend(flags.iter().map(|flag| flag.as_bytes()));
    cache::entry("kubernetes", &format!("{VERSION}-{}", cache::key(&parts)), |directory| {
        let go = go::find_or_install()?;
        std::fs::create_dir(directory).with_context(|| format!("make {}", directory.display()))?;
        let binary = directory.join("kubernetes");
        build::build(&go, &flags, &binary)?;
        PROGRAMS.iter().try_for_each(|name| {
            std::os::unix::fs::symlink("kubernetes", directory.join(name)).with_context(|| format!("link {name}"))
        })
    })
}

/// `directory`, if all programs are in it.
fn ready(directory: &Path) -> Result<PathBuf> {
    let missing: Vec<&str> = PROGRAMS.iter().copied().filter(|name| !directory.join(name).is_file()).collect();
    if !missing.is_empty() {
        let shown = directory.display();
        bail!("{VARIABLE}={shown} lacks {}: name a directory with all of {}", missing.join(", "), PROGRAMS.join(", "));
    }
    directory.canonicalize().with_context(|| format!("resolve {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_directory_has_to_be_complete() {
        let directory = tempfile::tempdir().unwrap();
        for name in &PROGRAMS[1..] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let error = ready(directory.path()).unwrap_err().to_string();
        assert!(error.contains("lacks etcd:") && error.contains(VARIABLE), "{error}");
        std::fs::write(directory.path().join("etcd"), "").unwrap();
        assert_eq!(ready(directory.path()).unwrap(), directory.path().canonicalize().unwrap());
    }

    #[test]
    fn the_module_pins_the_same_release() {
        let (_, module) = build::SOURCES[0];
        assert!(
            module.contains(&format!("k8s.io/kubernetes {VERSION}\n")),
            "go.mod has another release than {VERSION}"
        );
    }
}
