//! The machine as it is measured: what it is, what it has, and what is left of it. Reads files of /proc and /sys and asks one
//! file system for its size; changes nothing, decides nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use plan::node::Machine;

mod cpus;
mod left;

/// What a machine whose limits nobody counts is said to take: a kubelet's `maxPods`.
const PODS: i64 = 110;

/// Where it is measured.
#[derive(Clone, Debug)]
pub(crate) struct Gauge {
    /// `/`, but in tests.
    root: PathBuf,
    /// The state directory: the pods' directories are on its file system.
    state: PathBuf,
}

/// The size of it was not to be had.
#[derive(Debug, thiserror::Error)]
#[error("ask the file system of {directory} for its size")]
pub(crate) struct MeasureError {
    directory: PathBuf,
    #[source]
    errno: rustix::io::Errno,
}

impl Gauge {
    /// Of this machine, whose pods' directories are below `state`.
    pub(crate) fn new(state: &Path) -> Self {
        Self { root: PathBuf::from("/"), state: state.to_owned() }
    }

    /// What the machine is and has. `systemd` is what the running systemd says of itself: `252.39-1~deb12u1`.
    ///
    /// # Errors
    /// The file system of the state directory does not say how large it is.
    pub(crate) fn machine(&self, systemd: &str) -> Result<Machine, MeasureError> {
        let uname = rustix::system::uname();
        let machine_id = self.machine_id();
        let storage = self.file_system()?;
        Ok(Machine {
            system_uuid: self.system_uuid().unwrap_or_else(|| machine_id.clone()),
            machine_id,
            boot_id: self.line("proc/sys/kernel/random/boot_id").unwrap_or_default(),
            kernel_version: uname.release().to_string_lossy().into_owned(),
            os_image: self.os_image(),
            systemd: systemd.to_owned(),
            architecture: go_architecture(std::env::consts::ARCH).to_owned(),
            cpu_milli: self.cpu_milli(),
            memory_bytes: self.memory_bytes(),
            storage_bytes: left::bytes(storage.f_blocks, storage.f_frsize),
            swap_bytes: self.meminfo("SwapTotal").unwrap_or(0),
            huge_pages: self.huge_pages(),
            pods: PODS,
        })
    }

    /// Millicores: the processors that services get, and no more than the machine's own quota where it is a container.
    pub(crate) fn cpu_milli(&self) -> i64 {
        let processors = self.processors().unwrap_or_else(|| {
            // Without /proc: what this process may use.
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        });
        let all = i64::try_from(processors).unwrap_or(1).saturating_mul(1000);
        let quota = self.cgroup("cpu.max").and_then(|text| cpus::quota_milli(&text));
        quota.map_or(all, |quota| quota.min(all))
    }

    /// The processors that are there and that PID 1, and with it every service, may run on: a container's cpuset and
    /// `CPUAffinity=` in system.conf count, an affinity of this service does not.
    fn processors(&self) -> Option<usize> {
        let online = cpus::list(&self.line("sys/devices/system/cpu/online")?);
        let status = self.text("proc/1/status");
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(cpus::list);
        let count = allowed.map_or(online.len(), |allowed| online.intersection(&allowed).count());
        (count > 0).then_some(count)
    }

    /// Bytes, and no more than the machine's own limit where it is a container.
    pub(crate) fn memory_bytes(&self) -> i64 {
        let all = self.meminfo("MemTotal").unwrap_or(0);
        self.cgroup_limit("memory.max").map_or(all, |limit| limit.min(all))
    }

    /// As the kubelet's cadvisor asks: the older name of the file where systemd has not made one.
    fn machine_id(&self) -> String {
        let files = ["etc/machine-id", "var/lib/dbus/machine-id"];
        files.iter().find_map(|file| self.line(file)).unwrap_or_default()
    }

    /// The firmware's name for the machine: PCs', then device trees' (cadvisor, `GetSystemUUID`).
    fn system_uuid(&self) -> Option<String> {
        let files = ["sys/class/dmi/id/product_uuid", "proc/device-tree/system-id", "proc/device-tree/vm,uuid"];
        files.iter().find_map(|file| self.line(file)).map(|line| line.trim_end_matches('\0').to_owned())
    }

    fn os_image(&self) -> String {
        let release = ["etc/os-release", "usr/lib/os-release"].iter().find_map(|file| {
            let text = self.text(file);
            (!text.is_empty()).then_some(text)
        });
        let fields = plan::image::os_release::fields(&release.unwrap_or_default());
        fields.get("PRETTY_NAME").filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| "Linux".to_owned())
    }

    /// By size, those of which there is none too, as a kubelet lists them.
    fn huge_pages(&self) -> BTreeMap<String, i64> {
        let entries = fs::read_dir(self.root.join("sys/kernel/mm/hugepages")).into_iter().flatten().flatten();
        let sizes = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kib: i64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let pages: i64 = self.line(&format!("sys/kernel/mm/hugepages/{name}/nr_hugepages"))?.parse().ok()?;
            let bytes = kib.saturating_mul(1024);
            Some((page_size(bytes), pages.saturating_mul(bytes)))
        });
        sizes.collect()
    }

    /// A line of /proc/meminfo in bytes.
    fn meminfo(&self, name: &str) -> Option<i64> {
        let text = self.text("proc/meminfo");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: i64 = value.split_whitespace().next()?.parse().ok()?;
        Some(kib.saturating_mul(1024))
    }

    /// A file of the root of the cgroup2 hierarchy, which has limits in a container only.
    fn cgroup(&self, file: &str) -> Option<String> {
        ["sys/fs/cgroup", "sys/fs/cgroup/unified"].iter().find_map(|base| self.line(&format!("{base}/{file}")))
    }

    /// None: there is no limit.
    fn cgroup_limit(&self, file: &str) -> Option<i64> {
        self.cgroup(file)?.parse().ok()
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.root.join(file)).unwrap_or_default()
    }

    /// The only line of a file; None also if it is empty.
    fn line(&self, file: &str) -> Option<String> {
        let text = self.text(file).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    fn file_system(&self) -> Result<rustix::fs::StatVfs, MeasureError> {
        rustix::fs::statvfs(&self.state).map_err(|errno| MeasureError { directory: self.state.clone(), errno })
    }
}

/// `2Mi` for the resource `hugepages-2Mi`.
fn page_size(bytes: i64) -> String {
    let units = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
    let whole = units.iter().find(|(bits, _)| bytes.trailing_zeros() >= *bits);
    whole.map_or_else(|| bytes.to_string(), |(bits, unit)| format!("{}{unit}", bytes >> bits))
}

/// Go's spelling of Rust's: `kubernetes.io/arch` is the kubelet's GOARCH.
fn go_architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "loongarch64" => "loong64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        other => other,
    }
}

#[cfg(test)]
mod tests;
