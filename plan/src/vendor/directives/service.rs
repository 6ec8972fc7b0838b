//! `[Service]`: systemd.service(5) and systemd.kill(5).

use super::{Group, RAW, RAW_LIST, Rewrite, SPLICED_LIST, Treatment, group};
use crate::vendor::Section::Service;

const EXEC: &str = "systemk init runs it, with the pod's environment";
const RESTART: &str = "the pod's restartPolicy and its back-off decide";
const POWER: &str = "a container's end never reboots or stops the node";
const STOP: &str = "the pod's grace period decides, and the unit has only a backstop";
const SOCKETS: &str = "a container is not activated by sockets of the host: it opens its own";

pub(super) const GROUPS: &[Group] = &[
    group(Service, Treatment::Rewritten(Rewrite::Exec("condition"), EXEC), &["ExecCondition"]),
    group(Service, Treatment::Rewritten(Rewrite::Exec("start-pre"), EXEC), &["ExecStartPre"]),
    group(Service, Treatment::Rewritten(Rewrite::Exec("start"), EXEC), &["ExecStart"]),
    group(Service, Treatment::Rewritten(Rewrite::Exec("start-post"), EXEC), &["ExecStartPost"]),
    group(Service, Treatment::Rewritten(Rewrite::Exec("reload"), EXEC), &["ExecReload"]),
    group(Service, Treatment::Rewritten(Rewrite::Exec("stop"), EXEC), &["ExecStop"]),
    group(Service, Treatment::Rewritten(Rewrite::Exec("stop-post"), EXEC), &["ExecStopPost"]),
    group(Service, Treatment::Rewritten(Rewrite::Type, "the unit's renderer writes it"), &["Type"]),
    group(
        Service,
        Treatment::Rewritten(
            Rewrite::PidFile,
            "systemd reads it from the host, where the container's /run is another directory",
        ),
        &["PIDFile"],
    ),
    group(
        Service,
        Treatment::Rewritten(Rewrite::PermissionsStartOnly, "the lines that it concerns have the prefix + instead"),
        &["PermissionsStartOnly"],
    ),
    // About the service's own processes.
    group(
        Service,
        Treatment::Kept(RAW),
        &[
            "ExitType",
            "FileDescriptorStoreMax",
            "GuessMainPID",
            "NonBlocking",
            "OOMPolicy",
            "ReloadSignal",
            "RuntimeMaxSec",
            "RuntimeRandomizedExtraSec",
            "TimeoutAbortSec",
            "TimeoutStartFailureMode",
            "TimeoutStartSec",
            "WatchdogSec",
            "FinalKillSignal",
            "KillSignal",
            "SendSIGHUP",
            "WatchdogSignal",
        ],
    ),
    group(Service, Treatment::Kept(RAW_LIST), &["SuccessExitStatus"]),
    group(Service, Treatment::Kept(SPLICED_LIST), &["OpenFile"]),
    group(
        Service,
        Treatment::Alias(
            "TimeoutStartSec",
            Some("it is kept for the start: how long the stop may take is the pod's grace period"),
        ),
        &["TimeoutSec"],
    ),
    group(Service, Treatment::Ours(STOP), &["SendSIGKILL", "TimeoutStopFailureMode", "TimeoutStopSec"]),
    group(
        Service,
        Treatment::Ours(
            "the main process is told to stop and what is left is killed in the end, as for every container",
        ),
        &["KillMode"],
    ),
    group(Service, Treatment::Ours("a container whose program has ended has ended"), &["RemainAfterExit"]),
    group(
        Service,
        Treatment::Ours("the unit's renderer writes it: the lines go through systemk init"),
        &["NotifyAccess"],
    ),
    group(
        Service,
        Treatment::Dropped(RESTART),
        &[
            "Restart",
            "RestartForceExitStatus",
            "RestartKillSignal",
            "RestartMaxDelaySec",
            "RestartMode",
            "RestartPreventExitStatus",
            "RestartSec",
            "RestartSteps",
            "StartLimitBurst",
            "StartLimitInterval",
        ],
    ),
    group(Service, Treatment::Dropped(POWER), &["FailureAction", "RebootArgument", "StartLimitAction"]),
    group(Service, Treatment::Dropped(SOCKETS), &["Sockets", "USBFunctionDescriptors", "USBFunctionStrings"]),
    group(Service, Treatment::Dropped("the host's D-Bus is not visible in the container"), &["BusName"]),
    group(
        Service,
        Treatment::Dropped("each start of a container is a unit of its own, which keeps nothing of the one before"),
        &["FileDescriptorStorePreserve"],
    ),
    group(
        Service,
        Treatment::Dropped("every line of a container runs in the container's root"),
        &["RootDirectoryStartOnly"],
    ),
];
