//! `NodeFacts` from the machine: read once at start, except what may change under a running agent (`refresh`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use plan::inputs::{NodeFacts, PathKind};
use plan::vendor::SpecifierFacts;
use plan::vendor::specifier::OsFacts;

use crate::config::Config;
use crate::files::viewable;
use crate::machine::Gauge;

/// Where systemd looks for unit files that live until reboot.
pub(crate) const UNIT_DIR: &str = "/run/systemd/system";

/// Below the run directory: the read-only views of the host's directories.
pub(crate) const HOST_VIEWS: &str = "host";

/// All that a plan may know of this node. `systemd_version` is what the running systemd said.
pub(crate) fn node_facts(config: &Config, systemd_version: u32) -> std::io::Result<NodeFacts> {
    let text = |ip: &std::net::IpAddr| ip.to_string();
    let gauge = Gauge::new(&config.directories.state);
    let mut facts = NodeFacts {
        node_name: config.node.name.clone(),
        internal_ips: config.node.internal_ips.iter().map(text).collect(),
        external_ips: config.node.external_ips.iter().map(text).collect(),
        systemd_version,
        run_root: config.directories.run.display().to_string(),
        state_root: config.directories.state.display().to_string(),
        unit_dir: UNIT_DIR.to_owned(),
        slice_root: config.cgroup_root.clone(),
        binary: fs::read_link("/proc/self/exe")?.display().to_string(),
        root_entries: root_entries()?,
        views: BTreeMap::new(),
        native_root: config.native_root.clone(),
        etc_run_targets: etc_run_targets(),
        specifiers: specifiers(),
        controllers: controllers(),
        allowed_dirs: config.directories.allowed.iter().map(|d| d.display().to_string()).collect(),
        cpu_milli: gauge.cpu_milli(),
        memory_bytes: gauge.memory_bytes(),
    };
    if crate::sys::knows_mount_attributes() {
        let mount_info = fs::read_to_string("/proc/self/mountinfo")?;
        let views = viewable(plan::fields::root::shown(&facts), &mount_info).into_iter();
        facts.views = views.map(|top| (top.clone(), format!("{}/{HOST_VIEWS}{top}", facts.run_root))).collect();
    }
    Ok(facts)
}

fn root_entries() -> std::io::Result<BTreeMap<String, PathKind>> {
    let mut entries = BTreeMap::new();
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let kind = entry.file_type()?;
        let kind = if kind.is_symlink() {
            PathKind::Symlink(fs::read_link(entry.path())?.display().to_string())
        } else if kind.is_dir() {
            PathKind::Directory
        } else {
            continue;
        };
        entries.insert(name, kind);
    }
    Ok(entries)
}

/// Directories (or files directly in /run) to which symlinks of /etc lead: resolv.conf and the like.
fn etc_run_targets() -> Vec<String> {
    let mut targets = Vec::new();
    for entry in fs::read_dir("/etc").into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|t| t.is_symlink()) {
            continue;
        }
        let Ok(target) = fs::canonicalize(entry.path()) else { continue };
        if !target.starts_with("/run") || target == Path::new("/run") {
            continue;
        }
        // The directory, not the file: such files are replaced by rename, which a bound file would not follow.
        let shown = match target.parent() {
            Some(parent) if target.is_file() && parent != Path::new("/run") => parent.to_path_buf(),
            Some(_) | None => target,
        };
        if let Ok(text) = shown.into_os_string().into_string() {
            targets.push(text);
        }
    }
    targets.sort_unstable();
    targets.dedup();
    targets
}

fn trimmed(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn specifiers() -> SpecifierFacts {
    let uname = rustix::system::uname();
    let release = fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
    let os = plan::image::os_release::fields(&release.unwrap_or_default());
    let field = |name: &str| os.get(name).cloned().unwrap_or_default();
    SpecifierFacts {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        pretty_hostname: None,
        machine_id: trimmed("/etc/machine-id"),
        boot_id: trimmed("/proc/sys/kernel/random/boot_id").replace('-', ""),
        kernel_release: uname.release().to_string_lossy().into_owned(),
        architecture: architecture(&uname.machine().to_string_lossy()).to_owned(),
        os: OsFacts {
            id: field("ID"),
            version_id: field("VERSION_ID"),
            variant_id: field("VARIANT_ID"),
            build_id: field("BUILD_ID"),
            image_id: field("IMAGE_ID"),
            image_version: field("IMAGE_VERSION"),
        },
    }
}

/// systemd's spelling of `uname -m` (systemd.unit(5), ConditionArchitecture=).
fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "x86-64",
        "aarch64" => "arm64",
        "i386" | "i486" | "i586" | "i686" => "x86",
        other => other,
    }
}

/// The controllers of the cgroup2 hierarchy, where systemd enforces limits. On a hybrid machine there are none.
fn controllers() -> Vec<String> {
    for path in ["/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/unified/cgroup.controllers"] {
        if let Ok(text) = fs::read_to_string(path) {
            return text.split_whitespace().map(str::to_owned).collect();
        }
    }
    Vec::new()
}
