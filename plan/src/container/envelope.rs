//! The unit envelope: what systemd itself is told of a container. Nothing a pod says is in it but mount paths.

use super::{Parts, service_type};
use crate::fields::identity::Who;
use crate::fields::resources::PodResources;
use crate::fields::root::Bind;
use crate::unit::name::INSIDE;
use crate::unit::{BadPath, Section, UnitFile, UnitIdentity};
use crate::vendor::{self, VendorService};

/// The shortest time that systemd gives a stop by itself. The grace is the agent's own timer: it covers the whole stop and
/// can be changed while it runs, which `TimeoutStopSec=` cannot.
const STOP_BACKSTOP_S: i64 = 600;

/// Writes the service's directives.
///
/// # Errors
/// A path that systemd cannot be told.
pub(super) fn service_file(
    file: &mut UnitFile,
    mut parts: Parts<'_>,
    slice: &str,
    launch_path: &str,
) -> Result<(), (String, BadPath)> {
    file.set(Section::Unit, "Description", "Kubernetes container %N");
    // Back-off, counts and rules of restarts are the agent's: systemd must not refuse a start for its rate.
    file.set(Section::Unit, "StartLimitIntervalSec", "0");
    let mut vendor = parts.vendor.take();
    if let Some(vendor) = &mut vendor {
        override_vendor(vendor, &parts);
    }
    basics(file, vendor.as_ref(), &parts, slice, launch_path);
    exec_lines(file, &parts);
    limits(file, &parts);
    if let Some(vendor) = &vendor {
        // What the envelope says itself stands; what the vendor says twice is a list, or systemd takes the last.
        let ours: Vec<bool> =
            vendor.directives.iter().map(|d| section(d).is_some_and(|s| file.has(s, &d.name))).collect();
        for (directive, ours) in vendor.directives.iter().zip(ours) {
            if let Some(section) = section(directive).filter(|_| !ours) {
                file.vendor(section, &directive.name, &directive.value);
            }
        }
    }
    mounts(file, vendor.as_ref(), &parts)
}

fn section(directive: &vendor::Directive) -> Option<Section> {
    match directive.section {
        vendor::Section::Unit => Some(Section::Unit),
        vendor::Section::Service => Some(Section::Service),
        vendor::Section::Install => None,
    }
}

/// Takes out what the pod says otherwise.
fn override_vendor(vendor: &mut VendorService, parts: &Parts<'_>) {
    let mut drop = vec!["Type"];
    if matches!(parts.who, Who::Is { .. }) {
        drop.extend(["User", "Group", "SupplementaryGroups", "DynamicUser"]);
        // Bound as they are: systemd would chown the host's to root.
        drop.extend(["StateDirectory", "CacheDirectory", "LogsDirectory"]);
    }
    if parts.command.replaced {
        drop.extend(["PIDFile", "GuessMainPID", "RemainAfterExit", "WatchdogSec", "TimeoutStartSec", "BusName"]);
    }
    if parts.resources.limits.memory_max.is_some() {
        drop.extend(["MemoryMax", "MemorySwapMax"]);
    }
    if parts.resources.limits.cpu_quota_us_per_s.is_some() {
        drop.extend(["CPUQuota", "CPUQuotaPeriodSec"]);
    }
    if parts.resources.limits.cpu_weight.is_some() {
        drop.extend(["CPUWeight", "StartupCPUWeight"]);
    }
    if parts.sandbox.capabilities.is_some() || parts.sandbox.privileged {
        drop.extend(["CapabilityBoundingSet", "AmbientCapabilities"]);
    }
    if parts.sandbox.privileged {
        drop.extend(["PrivateDevices", "DeviceAllow", "NoNewPrivileges"]);
    }
    for name in drop {
        let _taken = vendor.take(name);
    }
}

fn basics(file: &mut UnitFile, vendor: Option<&VendorService>, parts: &Parts<'_>, slice: &str, launch_path: &str) {
    let service = Section::Service;
    let kind = service_type(vendor, parts.command.replaced);
    file.text(service, "Type", &kind.to_string());
    if let Some(access) = vendor.and_then(|v| v.notify_access.as_deref()).filter(|_| !parts.command.replaced) {
        file.text(service, "NotifyAccess", access);
    }
    file.text(service, "Slice", slice);
    file.text(service, "StandardInput", &format!("file:{launch_path}"));
    file.set(service, "StandardOutput", "journal");
    file.set(service, "StandardError", "journal");
    // Else every line is `systemk`'s, for the name of init.
    if !vendor.is_some_and(|v| v.directives.iter().any(|d| d.name == "SyslogIdentifier")) {
        file.set(service, "SyslogIdentifier", "%N");
    }
    file.set(service, "LogRateLimitIntervalSec", "30s");
    // LogRateLimitIntervalSec=0 does not lift the limit (252): it kept 37,500 of 200,000 lines.
    file.set(service, "LogRateLimitBurst", "100000000");
    if vendor.is_none() {
        file.set(service, "SyslogLevelPrefix", "no");
        // Rust's and systemd's habit; a container's program expects the kernel's default.
        file.set(service, "IgnoreSIGPIPE", "no");
    }
    file.set(service, "Restart", "no");
    file.set(service, "KillMode", "mixed");
    file.set(service, "SendSIGKILL", "yes");
    file.number(service, "TimeoutStopSec", parts.names.grace_seconds.clamp(STOP_BACKSTOP_S, 1_000_000_000));
    file.set(service, "OOMPolicy", "kill");
    if !parts.sandbox.privileged {
        file.set(service, "DevicePolicy", "closed");
    }
    file.text(service, "RootDirectory", &parts.dirs.root);
    file.set(service, "MountAPIVFS", "no");
}

fn exec_lines(file: &mut UnitFile, parts: &Parts<'_>) {
    // First among its kind: on 252 a failing ExecStopPost= skips those after it, and the exit would go unrecorded. `+`
    // because only root may write there; it runs inside the container's root all the same.
    file.text(Section::Service, "ExecStopPost", &format!("+:{INSIDE}/systemk exit-hook {INSIDE}/exit"));
    for line in &parts.command.lines {
        file.text(Section::Service, line.directive, &format!("{}{INSIDE}/systemk init {}", line.prefix, line.key));
    }
}

fn limits(file: &mut UnitFile, parts: &Parts<'_>) {
    let service = Section::Service;
    let resources = &parts.resources.limits;
    if let Some(weight) = resources.cpu_weight {
        file.number(service, "CPUWeight", weight);
    }
    if let Some(quota) = resources.cpu_quota_us_per_s {
        file.percent(service, "CPUQuota", quota.div_ceil(100).max(1));
    }
    if let Some(bytes) = resources.memory_max {
        file.number(service, "MemoryMax", bytes);
    }
    if let Some(bytes) = resources.memory_swap_max {
        file.number(service, "MemorySwapMax", bytes);
    }
    if let Some(tasks) = resources.tasks_max {
        file.number(service, "TasksMax", tasks);
    }
    file.number(service, "OOMScoreAdjust", parts.resources.oom_score_adjust);
}

fn mounts(file: &mut UnitFile, vendor: Option<&VendorService>, parts: &Parts<'_>) -> Result<(), (String, BadPath)> {
    let private_devices = vendor.is_some_and(|v| v.private_devices) && !parts.sandbox.privileged;
    let binds: Vec<&Bind> = parts.root.binds.iter().chain(&parts.mounts.binds).collect();
    for (index, bind) in binds.iter().enumerate() {
        // Of two mounts at one place systemd takes the one that it likes better and makes it read-only if either is.
        let replaced = binds.iter().skip(index + 1).any(|later| later.target == bind.target);
        if replaced || private_devices && bind.target == "/dev" {
            continue;
        }
        write(file, bind)?;
    }
    Ok(())
}

fn write(file: &mut UnitFile, bind: &Bind) -> Result<(), (String, BadPath)> {
    file.bind(bind.read_only, bind.optional, &bind.source, &bind.target)
        .map(|_| ())
        .map_err(|bad| (bind.target.clone(), bad))
}

/// The pod's slice.
pub(super) fn slice_file(identity: UnitIdentity, resources: &PodResources) -> UnitFile {
    let mut file = UnitFile::new(identity);
    file.set(Section::Unit, "Description", "Kubernetes pod %N");
    let limits = &resources.limits;
    if let Some(weight) = limits.cpu_weight {
        file.number(Section::Slice, "CPUWeight", weight);
    }
    if let Some(quota) = limits.cpu_quota_us_per_s {
        file.percent(Section::Slice, "CPUQuota", quota.div_ceil(100).max(1));
    }
    if let Some(bytes) = limits.memory_max {
        file.number(Section::Slice, "MemoryMax", bytes);
    }
    if let Some(bytes) = limits.memory_swap_max {
        file.number(Section::Slice, "MemorySwapMax", bytes);
    }
    file
}
