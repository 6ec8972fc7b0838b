//! The node's conditions, with a kubelet's types, reasons and messages.

use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Machine, NodeInput};

/// `memory.available<100Mi`.
pub(super) const MEMORY_LEFT: i64 = 100 << 20;

/// A pressure that was there is told for so long after it was last seen, so that the scheduler does not send at once what was
/// just too much (`evictionPressureTransitionPeriod`).
const HELD_MS: i64 = 5 * 60 * 1000;

/// `nodefs.available<10%`, in bytes.
pub(super) fn storage_left(machine: &Machine) -> i64 {
    machine.storage_bytes / 10
}

/// What is left of what can run out, as measured now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    /// Bytes: what the kernel could hand out without swapping (`MemAvailable`).
    pub memory_bytes: i64,
    /// Bytes for unprivileged users in the file system of the pods' directories.
    pub storage_bytes: i64,
    /// Free inodes there, and how many there are; a file system without a limit says 0 of 0.
    pub inodes: (u64, u64),
    /// Process ids that are free, and how many there are.
    pub pids: (u64, u64),
}

/// What there is left, and what has to be, in one line.
pub fn measured(machine: &Machine, available: &Available) -> String {
    let mib = |bytes: i64| format!("{} MiB", bytes >> 20);
    let Available { memory_bytes, storage_bytes, inodes, pids } = available;
    format!(
        "there are left {} of memory (at least {}), {} of the disk (at least {}), {} of {} inodes and {} of {} process ids (at \
         least 5 %)",
        mib(*memory_bytes),
        mib(MEMORY_LEFT),
        mib(*storage_bytes),
        mib(storage_left(machine)),
        inodes.0,
        inodes.1,
        pids.0,
        pids.1,
    )
}

/// When the node was last seen short of something; milliseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressures {
    memory_ms: Option<i64>,
    storage_ms: Option<i64>,
    pids_ms: Option<i64>,
}

impl Pressures {
    /// What is known after a measurement.
    #[must_use]
    pub fn seen(self, machine: &Machine, available: &Available, now_ms: i64) -> Self {
        let few = |(left, all): (u64, u64), parts: u64| all > 0 && left < all / parts;
        let at = |short: bool, before: Option<i64>| if short { Some(now_ms) } else { before };
        let storage = available.storage_bytes < storage_left(machine) || few(available.inodes, 20);
        Self {
            memory_ms: at(available.memory_bytes < MEMORY_LEFT, self.memory_ms),
            storage_ms: at(storage, self.storage_ms),
            pids_ms: at(few(available.pids, 20), self.pids_ms),
        }
    }
}

/// All four, in a kubelet's order.
pub(super) fn conditions(input: &NodeInput<'_>) -> Vec<NodeCondition> {
    let held = |seen_ms: Option<i64>| seen_ms.is_some_and(|at| input.now_ms.saturating_sub(at) < HELD_MS);
    let pressure = |kind: &str, seen_ms, yes: (&str, &str), no: (&str, &str)| {
        let is = held(seen_ms);
        let (reason, message) = if is { yes } else { no };
        condition(input, kind, is, reason, message)
    };
    let ready = match input.not_ready {
        None => condition(input, "Ready", true, "KubeletReady", "kubelet is posting ready status"),
        Some(why) => condition(input, "Ready", false, "KubeletNotReady", why),
    };
    vec![
        pressure(
            "MemoryPressure",
            input.pressures.memory_ms,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            input.pressures.storage_ms,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            "PIDPressure",
            input.pressures.pids_ms,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        ready,
    ]
}

fn condition(input: &NodeInput<'_>, kind: &str, is: bool, reason: &str, message: &str) -> NodeCondition {
    let status = if is { "True" } else { "False" };
    // Whole seconds, as the API keeps them: else every report would differ from what comes back.
    let now = jiff::Timestamp::from_second(input.now_ms.div_euclid(1000)).ok().map(Time);
    let before = previous(input.previous, kind).filter(|old| old.status == status);
    NodeCondition {
        last_heartbeat_time: now.clone(),
        last_transition_time: before.and_then(|old| old.last_transition_time.clone()).or(now),
        message: Some(message.to_owned()),
        reason: Some(reason.to_owned()),
        status: status.to_owned(),
        type_: kind.to_owned(),
    }
}

fn previous<'a>(status: Option<&'a NodeStatus>, kind: &str) -> Option<&'a NodeCondition> {
    status?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}
