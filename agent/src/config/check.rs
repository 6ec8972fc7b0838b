//! Settings to a [`Config`]: every value is checked, every problem is collected and names the place to change.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use plan::inputs::NativeRoot;

use super::addresses::{InterfaceText, discover};
use super::settings::{Setting, Settings};
use super::{ClusterConfig, Config, Directories, NodeIdentity, ServingPair, Surroundings, UnqualifiedImages};

struct Check<'a> {
    settings: &'a Settings,
    problems: &'a mut Vec<String>,
}

/// None, or a problem was added, if the settings cannot be used.
pub(super) fn check(
    settings: &Settings,
    surroundings: &Surroundings<'_>,
    problems: &mut Vec<String>,
) -> Option<Config> {
    let mut check = Check { settings, problems };
    check.not_here_yet();
    let directories = check.directories();
    let cluster = check.cluster();
    let listen = check.listen();
    let serving = check.serving();
    let unqualified_images = match check.text("unqualified-images") {
        None | Some("package") => UnqualifiedImages::Package,
        Some("oci") => UnqualifiedImages::Oci,
        Some(other) => {
            let text = format!("must be package or oci, not {other:?}");
            check.problem("unqualified-images", &text);
            UnqualifiedImages::Package
        }
    };
    let native_root = check.native_root();
    let cgroup_root = check.cgroup_root();
    let log_level = check.log_level();
    let name = check.node_name(&surroundings.host_name);
    let remarks = check.remarks();
    let (internal_ips, external_ips) = check.node_addresses(surroundings)?;
    let node = NodeIdentity { name, internal_ips, external_ips };
    Some(Config {
        node,
        directories,
        cluster,
        listen,
        serving,
        unqualified_images,
        native_root,
        cgroup_root,
        log_level,
        remarks,
    })
}

/// One spelling per directory, because an agent knows its pods' units by the text of their paths: what is there of it
/// without symlinks, and no slash too many.
fn canonical(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|there| Some((there.canonicalize().ok()?, there)));
    let Some((mut real, there)) = found.filter(|_| path.is_absolute()) else { return path.to_owned() };
    real.extend(path.strip_prefix(there).into_iter().flat_map(Path::components));
    real
}

impl Check<'_> {
    fn problem(&mut self, name: &str, text: &str) {
        let origin = self.settings.get(name).map_or_else(|| format!("--{name}"), |setting| setting.origin.to_string());
        self.problems.push(format!("{origin} {text}"));
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.settings.get(name)?.values.first().map(String::as_str)
    }

    fn list(&self, name: &str) -> Vec<String> {
        self.settings.get(name).map(|setting| setting.values.clone()).unwrap_or_default()
    }

    fn switch(&mut self, name: &str) -> bool {
        match self.text(name).map(str::to_lowercase).as_deref() {
            None | Some("false" | "0" | "no") => false,
            Some("true" | "1" | "yes") => true,
            Some(_) => {
                self.problem(name, "must be true or false");
                false
            }
        }
    }

    fn not_here_yet(&mut self) {
        if self.switch("user") {
            self.problem("user", "cannot be used: rootless mode is not here yet; run systemk as root");
        }
        if self.text("pod-network").is_some_and(|network| network != "host") {
            self.problem("pod-network", "must be host: pod networks of their own are not here yet");
        }
    }

    fn remarks(&mut self) -> Vec<String> {
        let mut remarks = Vec::new();
        for name in ["addr", "certfile", "client-ca-file"] {
            if self.settings.contains_key(name) && !self.settings.contains_key("kubeconfig") {
                remarks.push(format!("--{name} has no effect without --kubeconfig"));
            }
        }
        if self.switch("disable-taint") && !self.settings.contains_key("kubeconfig") {
            remarks.push("--disable-taint has no effect without --kubeconfig".to_owned());
        }
        remarks
    }

    fn cluster(&mut self) -> Option<ClusterConfig> {
        let standalone = self.switch("standalone");
        let taint = !self.switch("disable-taint");
        let client_ca_file = self.text("client-ca-file").map(PathBuf::from);
        if let Some(file) = &client_ca_file {
            self.absolute("client-ca-file", file);
        }
        let kubeconfig = PathBuf::from(self.text("kubeconfig")?);
        self.absolute("kubeconfig", &kubeconfig);
        if standalone {
            self.problem("kubeconfig", "and --standalone cannot both be given: a standalone node has no cluster");
        }
        Some(ClusterConfig { kubeconfig, client_ca_file, taint })
    }

    fn directories(&mut self) -> Directories {
        let one = |check: &mut Self, name: &str, default: &str| {
            let path = PathBuf::from(check.text(name).unwrap_or(default));
            check.absolute(name, &path);
            canonical(&path)
        };
        let run = one(self, "run-dir", "/run/systemk");
        let state = one(self, "state-dir", "/var/lib/systemk");
        let many = |check: &mut Self, name: &str| {
            let paths: Vec<PathBuf> = check.list(name).into_iter().map(PathBuf::from).collect();
            for path in &paths {
                check.absolute(name, path);
            }
            paths
        };
        let mut manifests = many(self, "manifests");
        if manifests.is_empty() {
            manifests.push(PathBuf::from("/etc/systemk/manifests"));
        }
        let allowed = many(self, "dir");
        if run == state {
            self.problem("run-dir", "and --state-dir must be two directories");
        }
        Directories { run, state, manifests, allowed }
    }

    fn absolute(&mut self, name: &str, path: &Path) {
        let clean = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !clean || path.as_os_str().as_encoded_bytes().iter().any(u8::is_ascii_control) {
            self.problem(name, &format!("must be an absolute path without .., not {:?}", path.display().to_string()));
        }
    }

    /// `:10250`, `127.0.0.1:10250`, `[::1]:10250`.
    fn listen(&mut self) -> SocketAddr {
        let default = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 10250));
        let Some(text) = self.text("addr") else { return default };
        let everywhere = text.strip_prefix(':').and_then(|port| port.parse().ok());
        let parsed = everywhere.map(|port: u16| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
        match parsed.or_else(|| text.parse().ok()) {
            Some(address) if address.port() != 0 => address,
            _ => {
                let text = format!("must be [ADDRESS]:PORT with a port from 1 to 65535, not {text:?}");
                self.problem("addr", &text);
                default
            }
        }
    }

    fn serving(&mut self) -> Option<ServingPair> {
        let file = |check: &Self, name: &str| check.text(name).map(PathBuf::from);
        match (file(self, "certfile"), file(self, "keyfile")) {
            (Some(certificate), Some(key)) => Some(ServingPair { certificate, key }),
            (None, None) => None,
            (Some(_), None) => {
                self.problem("certfile", "needs --keyfile as well");
                None
            }
            (None, Some(_)) => {
                self.problem("keyfile", "needs --certfile as well");
                None
            }
        }
    }

    fn native_root(&mut self) -> NativeRoot {
        let values = self.list("native-root");
        if values.is_empty() {
            return NativeRoot::Default;
        }
        if values.iter().any(|value| value == "all") {
            if values.len() > 1 {
                self.problem("native-root", "is all and a directory; all has every directory in it");
            }
            return NativeRoot::All;
        }
        for value in &values {
            let name = value.strip_prefix('/').unwrap_or_default().trim_end_matches('/');
            if name.is_empty() || name.contains('/') || matches!(name, "." | "..") {
                self.problem(
                    "native-root",
                    &format!("must be all or a top-level directory such as /data, not {value:?}"),
                );
            }
        }
        NativeRoot::Also(values.iter().map(|value| value.trim_end_matches('/').to_owned()).collect())
    }

    /// A `-` in the name of a slice is a level of its tree, so the root must have none.
    fn cgroup_root(&mut self) -> String {
        let root = self.text("cgroup-root").unwrap_or("kubepods").to_owned();
        let clean = root.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if root.is_empty() || root.len() > 64 || !clean {
            self.problem("cgroup-root", "must be 1 to 64 letters, digits and _, without .slice");
        }
        root
    }

    fn log_level(&mut self) -> String {
        let level = self.text("log-level").unwrap_or("info").to_owned();
        if let Err(error) = level.parse::<tracing_subscriber::EnvFilter>() {
            self.problem("log-level", &format!("is not a log filter: {error}"));
        }
        level
    }

    fn node_name(&mut self, host_name: &str) -> String {
        let name = self.text("nodename").unwrap_or(host_name).to_owned();
        let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let word = |part: &str| {
            let bytes = part.as_bytes();
            bytes.first().copied().is_some_and(edge)
                && bytes.last().copied().is_some_and(edge)
                && bytes.iter().all(|&b| edge(b) || b == b'-')
        };
        if name.len() > 253 || !name.split('.').all(word) {
            let text = format!("must be lower-case letters, digits, - and . (RFC 1123), not {name:?}");
            self.problem("nodename", &text);
        }
        name
    }

    fn node_addresses(&mut self, surroundings: &Surroundings<'_>) -> Option<(Vec<IpAddr>, Vec<IpAddr>)> {
        let internal = self.addresses("node-ip");
        let external = self.addresses("node-external-ip");
        if !internal.is_empty() && !external.is_empty() {
            return Some((internal, external));
        }
        let given = self.settings.contains_key("node-ip") || self.settings.contains_key("node-external-ip");
        let read = |name: &str| (surroundings.read)(Path::new(name)).ok().flatten().unwrap_or_default();
        let found = discover(&InterfaceText {
            fib_trie: read("/proc/net/fib_trie"),
            route: read("/proc/net/route"),
            if_inet6: read("/proc/net/if_inet6"),
        });
        match (internal.is_empty(), external.is_empty(), found) {
            (true, true, None) if !given => {
                let text = "is needed: no interface has an address other than loopback and link-local";
                self.problem("node-ip", text);
                None
            }
            // A value was given and is wrong: that is the problem to tell.
            (true, true, None) => None,
            (true, true, Some(found)) => Some((vec![found.internal], vec![found.external])),
            (false, _, None) => Some((internal.clone(), internal)),
            (_, false, None) => Some((external.clone(), external)),
            // What discovery copied from the other side is no better than a copy of what was given.
            (false, _, Some(found)) if found.internal == found.external => Some((internal.clone(), internal)),
            (_, false, Some(found)) if found.internal == found.external => Some((external.clone(), external)),
            (false, _, Some(found)) => Some((internal, vec![found.external])),
            (_, false, Some(found)) => Some((vec![found.internal], external)),
        }
    }

    fn addresses(&mut self, name: &str) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for value in self.settings.get(name).map_or(&[][..], |Setting { values, .. }| values) {
            match value.parse::<IpAddr>() {
                Ok(address) if address.is_unspecified() || address.is_multicast() => {
                    self.problem(name, &format!("must be an address of this machine, not {address}"));
                }
                Ok(address) if addresses.contains(&address) => {}
                Ok(address) => addresses.push(address),
                Err(_) => self.problem(name, &format!("must be an IPv4 or IPv6 address, not {value:?}")),
            }
        }
        addresses
    }
}
