//! Names of units and slices, and where a pod's files are. Identity is read from `[X-Kubernetes]`, never from a name.

use sha2::{Digest, Sha256};

/// What every container unit's name begins with.
pub const PREFIX: &str = "systemk.";

/// systemd's limit, without the `.service`.
const MAX_STEM: usize = 255 - ".service".len();

/// `systemk.<namespace>.<pod>.<container>_<8 hex of sha256(uid)>_<attempt>.service`.
///
/// `_` cannot occur in a Kubernetes name, so two different containers never share a name. Over 255 characters, whatever the
/// number of the attempt, the readable part is cut and has its own hash.
pub fn service(namespace: &str, pod: &str, container: &str, uid: &str, attempt: u32) -> String {
    let tail = format!("_{}_{attempt}", uid_mark(uid));
    let longest = tail.len() - attempt.to_string().len() + u32::MAX.to_string().len();
    let readable = format!("{namespace}.{pod}.{container}");
    if PREFIX.len() + readable.len() + longest <= MAX_STEM {
        return format!("{PREFIX}{readable}{tail}.service");
    }
    let hash = &hex_sha256(&readable)[..32];
    let room = MAX_STEM - PREFIX.len() - longest - hash.len() - 1;
    let head: String = readable.chars().take(room).collect();
    format!("{PREFIX}{head}_{hash}{tail}.service")
}

/// A glob that matches the units of every attempt of the container that has this one: what is said with it is said in the
/// same words of each start, and systemctl and journalctl take it.
pub fn every_attempt(unit: &str) -> String {
    unit.rsplit_once('_').map_or_else(|| unit.to_owned(), |(container, _)| format!("{container}_*.service"))
}

/// A glob that matches the names of all container units of a pod.
pub fn services_of(uid: &str) -> String {
    format!("{PREFIX}*_{}_*.service", uid_mark(uid))
}

/// The 8 hex digits by which a unit's name tells pods of one name apart.
pub fn uid_mark(uid: &str) -> String {
    hex_sha256(uid).chars().take(8).collect()
}

/// `<root>[-burstable|-besteffort]-pod<uid with _>.slice`, as the kubelet's systemd cgroup driver names them.
pub fn slice(root: &str, qos_infix: Option<&str>, uid: &str) -> String {
    let infix = qos_infix.map(|q| format!("-{q}")).unwrap_or_default();
    format!("{root}{infix}-pod{}.slice", uid.replace('-', "_"))
}

/// Lower-case hex of the SHA-256 of `text`.
pub fn hex_sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// The directories of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodDirs {
    /// `/run/systemk/pods/<uid>`: launches, histories, small volumes, the containers' private `/run`.
    pub run: String,
    /// `/var/lib/systemk/pods/<uid>`: root skeletons, `/tmp`s, emptyDirs on disk.
    pub state: String,
}

/// The directories of one attempt of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptDirs {
    /// Holds `launch.json` and `run`; root only.
    pub run: String,
    /// The container's `/run`.
    pub container_run: String,
    /// Holds `root`, `tmp`, `var-tmp`.
    pub state: String,
    /// `RootDirectory=`.
    pub root: String,
}

/// Inside the container: where systemk's binary and the failure file are.
pub const INSIDE: &str = "/run/.systemk";

impl PodDirs {
    /// The directories of the pod `uid`, which has been checked to be one path component.
    pub fn new(run_root: &str, state_root: &str, uid: &str) -> Self {
        Self { run: format!("{run_root}/pods/{uid}"), state: format!("{state_root}/pods/{uid}") }
    }

    /// The directories of one attempt; a container's name is a DNS label, so it is one path component.
    pub fn attempt(&self, container: &str, attempt: u32) -> AttemptDirs {
        let run = format!("{}/containers/{container}/{attempt}", self.run);
        let state = format!("{}/containers/{container}/{attempt}", self.state);
        AttemptDirs { container_run: format!("{run}/run"), root: format!("{state}/root"), run, state }
    }

    /// Where a volume's own directory is: on disk or in memory.
    pub fn volume(&self, on_disk: bool, name: &str) -> String {
        format!("{}/volumes/{name}", if on_disk { &self.state } else { &self.run })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_bounded() {
        assert_eq!(service("default", "my.app", "web", "u-1", 3), "systemk.default.my.app.web_a24a7f55_3.service");
        let long = service(&"n".repeat(63), &"p".repeat(253), &"c".repeat(63), "u-1", u32::MAX);
        assert_eq!(long.len(), 255);
        let other = service(&"n".repeat(63), &"p".repeat(253), &"d".repeat(63), "u-1", u32::MAX);
        assert_ne!(long, other);
    }

    #[test]
    fn all_attempts_of_a_container_have_one_pattern() {
        let attempt = |pod: &str, number| every_attempt(&service("default", pod, "web", "u-1", number));
        assert_eq!(attempt("my.app", 0), "systemk.default.my.app.web_a24a7f55_*.service");
        for length in [1, 200, 210, 211, 212, 213, 214, 215, 220, 253] {
            let pod = "p".repeat(length);
            for number in [9, 10, 1_000_000, u32::MAX] {
                assert_eq!(attempt(&pod, 0), attempt(&pod, number), "{length}");
            }
        }
    }

    #[test]
    fn slices_nest_by_their_dashes() {
        assert_eq!(slice("kubepods", Some("burstable"), "a-b"), "kubepods-burstable-poda_b.slice");
        assert_eq!(slice("kubepods", None, "a-b"), "kubepods-poda_b.slice");
    }
}
