//! Whose a Node object is that is there already: this machine's, a machine's that is gone, or another living one's.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;

use super::{LEASE_DURATION_MS, Machine};

/// What a Node of this node's name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// This machine's, or nobody's: an administrator made it.
    Ours,
    /// It says another machine, of which nothing is heard any more: this one has taken its place, or was installed anew.
    Replaced,
    /// Another machine has the name and lives.
    Taken {
        /// What it says of itself in `/etc/machine-id`.
        machine_id: String,
        /// Milliseconds since its heartbeat, by this machine's clock; None: it has no Lease.
        heartbeat_ms: Option<i64>,
    },
}

/// How long the other machine's Lease was seen without a change, in milliseconds of this machine's time. Clocks of machines
/// differ, so a Lease that looks old may be renewed all the time, and one that looks new may be forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silence(pub i64);

/// Whose `node` is.
///
/// A machine is the pair of machine id and system UUID: machines cloned from one image share the first, containers on one
/// machine share the second. A kubelet does not ask and overwrites (v1.37, `tryRegisterWithAPIServer`). Whoever has no
/// heartbeat within a Lease's duration and was found dead by the control plane is gone; without its finding, whoever was
/// silent for as long before our own eyes.
pub fn claim(node: &Node, lease: Option<&Lease>, machine: &Machine, silence: Silence, now_ms: i64) -> Claim {
    let status = node.status.as_ref();
    let Some(info) = status.and_then(|s| s.node_info.as_ref()).filter(|info| !info.machine_id.is_empty()) else {
        return Claim::Ours;
    };
    if info.machine_id == machine.machine_id && info.system_uuid == machine.system_uuid {
        return Claim::Ours;
    }
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref());
    let heartbeat_ms = renewed.map(|at| now_ms.saturating_sub(at.0.as_millisecond()));
    let conditions = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let ready = conditions.filter(|c| c.type_ == "Ready").any(|c| c.status == "True");
    let late = heartbeat_ms.is_none_or(|age| age > LEASE_DURATION_MS);
    if silence.0 > LEASE_DURATION_MS || late && !ready {
        return Claim::Replaced;
    }
    Claim::Taken { machine_id: info.machine_id.clone(), heartbeat_ms }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus, NodeSystemInfo};

    use super::*;

    const NOW: i64 = 1_000_000;

    fn machine(id: &str, uuid: &str) -> Machine {
        Machine { machine_id: id.into(), system_uuid: uuid.into(), ..Machine::default() }
    }

    fn node(id: &str, uuid: &str, ready: &str) -> Node {
        let info = NodeSystemInfo { machine_id: id.into(), system_uuid: uuid.into(), ..NodeSystemInfo::default() };
        let ready = NodeCondition { type_: "Ready".into(), status: ready.into(), ..NodeCondition::default() };
        let status = NodeStatus { node_info: Some(info), conditions: Some(vec![ready]), ..NodeStatus::default() };
        Node { status: Some(status), ..Node::default() }
    }

    fn renewed(age_ms: i64) -> Lease {
        super::super::lease("n", "u", NOW - age_ms)
    }

    fn asked(node: &Node, lease: Option<&Lease>, silence_ms: i64) -> Claim {
        claim(node, lease, &machine("m", "u"), Silence(silence_ms), NOW)
    }

    #[test]
    fn the_same_machine_and_a_node_that_an_administrator_made_are_ours() {
        assert_eq!(asked(&node("m", "u", "True"), Some(&renewed(0)), 0), Claim::Ours);
        assert_eq!(asked(&Node::default(), Some(&renewed(0)), 0), Claim::Ours);
        assert_eq!(asked(&node("", "", "True"), Some(&renewed(0)), 0), Claim::Ours);
    }

    #[test]
    fn a_living_machine_keeps_its_name() {
        for (id, uuid) in [("other", "u"), ("m", "other"), ("other", "other")] {
            let node = node(id, uuid, "True");
            let taken = |heartbeat_ms| Claim::Taken { machine_id: id.into(), heartbeat_ms };
            assert_eq!(asked(&node, Some(&renewed(3000)), 0), taken(Some(3000)));
            // Its clock may be behind ours, or it may be about to make its Lease: not until it was seen silent.
            assert_eq!(asked(&node, Some(&renewed(60_000)), 0), taken(Some(60_000)));
            assert_eq!(asked(&node, None, 0), taken(None));
        }
        let unready = node("other", "u", "Unknown");
        assert!(matches!(asked(&unready, Some(&renewed(3000)), 0), Claim::Taken { .. }), "it has just come back");
    }

    #[test]
    fn the_place_of_a_machine_that_is_gone_is_taken() {
        let found_dead = node("other", "u", "Unknown");
        assert_eq!(asked(&found_dead, Some(&renewed(41_000)), 0), Claim::Replaced);
        assert_eq!(asked(&found_dead, None, 0), Claim::Replaced);
        // Its clock is ahead of ours, and nobody finds nodes dead here.
        assert_eq!(asked(&node("other", "u", "True"), Some(&renewed(-90_000)), 40_001), Claim::Replaced);
    }
}
