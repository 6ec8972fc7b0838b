//! The text of the agent's service.
//!
//! What the agent starts itself, the package managers and their maintainer scripts, inherits this sandbox, and host mounts
//! that it makes (a Memory emptyDir) must be seen by PID 1. So there is nothing here that makes a mount namespace
//! (`ProtectSystem=`, `ProtectHome=`, `ProtectKernelLogs=`, `PrivateTmp=`, …), and nothing that a package may rightly want:
//! `NoNewPrivileges=` and `RestrictSUIDSGID=` (set-id programs are unpacked and called), `SystemCallArchitectures=` (foreign
//! architectures' ldconfig), `MemoryDenyWriteExecute=` (scripts in languages with a JIT), `RestrictNamespaces=` (the agent
//! itself installs in a mount namespace of its own), `ProtectClock=` (the first releases of 252 close all devices with it,
//! also to a boot loader's scripts; without its capability nobody sets a clock). Pods are started by PID 1: none of this
//! reaches them.

use std::path::Path;

use anyhow::ensure;

/// Everything but the program.
const TEMPLATE: &str = "\
# Written by 'systemk install' and taken away by 'systemk uninstall'. Settings belong in /etc/systemk/config.yaml, changes
# to this unit in a drop-in ('systemctl edit systemk').
[Unit]
Description=Kubernetes node whose container runtime is systemd
Documentation=man:systemd.service(5)
# The node's addresses are looked up once, at the start.
Wants=network-online.target
After=dbus.service network-online.target
# However often it fails: it is started again.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=@BINARY@ agent
WatchdogSec=30s
Restart=always
RestartSec=1s
# Only the agent ends: an installation under way is carried through, and the next agent waits for it.
KillMode=process
# Pods are the first to go when memory runs out, and a package manager that is killed takes nothing with it.
OOMScoreAdjust=-900
OOMPolicy=continue
LimitNOFILE=65536:524288
UMask=0022
# What neither the agent nor a package's scripts need. More is not taken away because those scripts run in here.
CapabilityBoundingSet=~CAP_SYS_BOOT CAP_SYS_PACCT CAP_BLOCK_SUSPEND CAP_WAKE_ALARM CAP_SYS_TIME
RestrictRealtime=yes
LockPersonality=yes
KeyringMode=private

[Install]
WantedBy=multi-user.target
";

/// The unit for the program `binary`.
///
/// # Errors
/// A path that a unit cannot name.
pub(super) fn text(binary: &Path) -> anyhow::Result<String> {
    let path = binary.to_str().unwrap_or_default();
    let plain =
        path.starts_with('/') && !path.chars().any(|c| c.is_control() || c.is_whitespace() || "\"'\\$;".contains(c));
    ensure!(plain, "{} cannot be written into a unit: move it to a path of plain letters", binary.display());
    Ok(TEMPLATE.replace("@BINARY@", &path.replace('%', "%%")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_named_exactly() {
        let unit = text(Path::new("/opt/100%/systemk")).unwrap();
        assert!(unit.contains("\nExecStart=/opt/100%%/systemk agent\n"));
        assert!(text(Path::new("/opt/my programs/systemk")).is_err());
        assert!(text(Path::new("/x\nUser=nobody")).is_err());
        assert!(text(Path::new("relative")).is_err());
    }

    #[test]
    fn nothing_makes_a_mount_namespace() {
        let directives: Vec<&str> = TEMPLATE.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        for bad in [
            "ProtectSystem",
            "ProtectHome",
            "ProtectKernelLogs",
            "ProtectKernelTunables",
            "PrivateTmp",
            "PrivateDevices",
        ] {
            assert!(!directives.contains(&bad), "{bad}");
        }
    }
}
