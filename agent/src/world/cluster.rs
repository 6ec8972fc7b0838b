//! What the API server says of this node's pods, taken over into the world.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodCondition};

use super::{Entry, Origin, Stop, World, full_name};
use crate::cluster::pods::PodEvent;

/// The least grace of a pod that was deleted by force: the kubelet's.
const FORCED_GRACE_S: i64 = 1;

impl World {
    /// Takes over an event; gives the uids to look at.
    pub(crate) fn take_pods(&mut self, event: PodEvent, now_ms: i64) -> BTreeSet<String> {
        match event {
            PodEvent::Applied(pod) => self.applied(*pod, now_ms),
            PodEvent::Deleted(pod) => self.deleted(&pod, now_ms).into_iter().collect(),
            PodEvent::Listed(pods) => self.listed(pods, now_ms),
        }
    }

    fn listed(&mut self, pods: Vec<Pod>, now_ms: i64) -> BTreeSet<String> {
        let listed: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        let known = self.entries.iter().filter(|(_, entry)| entry.origin == Origin::Cluster);
        let missing: Vec<String> =
            known.map(|(uid, _)| uid.clone()).filter(|uid| !listed.contains(uid.as_str())).collect();
        self.gone.retain(|uid| listed.contains(uid.as_str()));
        self.mirrors.clear();
        self.mirrors_changed = true;
        // A list says nothing of how a pod that is not in it was deleted.
        let mut touched: BTreeSet<String> =
            missing.into_iter().filter_map(|uid| self.forgotten(uid, None, now_ms)).collect();
        touched.extend(pods.into_iter().flat_map(|pod| self.applied(pod, now_ms)));
        self.cluster_known = true;
        touched
    }

    fn applied(&mut self, pod: Pod, now_ms: i64) -> BTreeSet<String> {
        if is_mirror(&pod) {
            return self.mirrored(pod);
        }
        let uid = pod.metadata.uid.clone().filter(|uid| !uid.is_empty() && !self.gone.contains(uid));
        uid.filter(|uid| self.taken(uid, pod, now_ms)).into_iter().collect()
    }

    /// What is known of a pod of a manifest has to be said of a new image of it, too: gives the pods that it may show.
    fn mirrored(&mut self, mirror: Pod) -> BTreeSet<String> {
        let (name, uid) = (full_name(&mirror), mirror.metadata.uid.clone());
        let shown =
            self.entries.iter().filter(|(_, entry)| may_show(&name, entry)).map(|(uid, _)| uid.clone()).collect();
        self.mirrors_changed = true;
        match self.mirrors.insert(name, Arc::new(mirror)) {
            Some(known) if known.metadata.uid == uid => BTreeSet::new(),
            Some(_) | None => shown,
        }
    }

    /// Gives whether it has to be looked at.
    fn taken(&mut self, uid: &str, pod: Pod, now_ms: i64) -> bool {
        let stop = stop(&pod, now_ms);
        let Some(entry) = self.entries.get_mut(uid) else {
            let mut entry = Entry::new(pod, Origin::Cluster, now_ms);
            entry.stop = stop;
            self.entries.insert(uid.to_owned(), entry);
            return true;
        };
        // One that was only known by what is left of it, or that a list has left out for a moment.
        let adopted = entry.origin != Origin::Cluster;
        if adopted && stop.is_none() && entry.stop.is_some() {
            // It stops, which cannot be taken back: it begins anew, and nobody is told that it is gone.
            entry.again = Some((pod, Origin::Cluster));
            return true;
        }
        entry.origin = Origin::Cluster;
        let hurried = stop.is_some() && entry.stop.map(|s| s.grace_ms) != stop.map(|s| s.grace_ms);
        if hurried {
            entry.stop = stop;
        }
        let changed = adopted || hurried || differs(&entry.pod, &pod);
        entry.pod = Arc::new(pod);
        changed
    }

    /// The API server does not know it any more: somebody deleted it by force, or this node has asked for it.
    fn deleted(&mut self, pod: &Pod, now_ms: i64) -> Option<String> {
        if is_mirror(pod) {
            self.mirrors_changed |= self.mirrors.remove(&full_name(pod)).is_some();
            return None;
        }
        let marked_s = pod.metadata.deletion_timestamp.as_ref().and(pod.metadata.deletion_grace_period_seconds);
        self.forgotten(pod.metadata.uid.clone()?, marked_s, now_ms)
    }

    /// `marked_s`: the grace that it was deleted with, in seconds; None: its own.
    fn forgotten(&mut self, uid: String, marked_s: Option<i64>, now_ms: i64) -> Option<String> {
        self.gone.remove(&uid);
        let entry = self.entries.get_mut(&uid)?;
        entry.origin = Origin::Forgotten;
        let grace_s = marked_s.unwrap_or_else(|| entry.own_grace_s()).max(FORCED_GRACE_S);
        entry.stop = Some(Stop::asked(now_ms, grace_s));
        Some(uid)
    }
}

/// By its name only, in which the node's comes last: whether it is up to date is asked when something is said of it.
fn may_show(mirror: &str, entry: &Entry) -> bool {
    let of = |name: &str| mirror.strip_prefix(name).is_some_and(|node| node.starts_with('-'));
    matches!(entry.origin, Origin::Manifest(_)) && of(&entry.full_name())
}

fn is_mirror(pod: &Pod) -> bool {
    plan::mirror::shows(pod).is_some()
}

/// A pod that was marked for deletion stops. Its grace counts from when this node hears of it.
fn stop(pod: &Pod, now_ms: i64) -> Option<Stop> {
    pod.metadata.deletion_timestamp.as_ref()?;
    let grace_s = pod.metadata.deletion_grace_period_seconds.unwrap_or(30).max(FORCED_GRACE_S);
    Some(Stop::asked(now_ms, grace_s))
}

/// Whether the pod has to be looked at again: what this node writes itself, and comes back, is nothing new.
fn differs(known: &Pod, new: &Pod) -> bool {
    let (a, b) = (&known.metadata, &new.metadata);
    known.spec != new.spec
        || a.labels != b.labels
        || a.annotations != b.annotations
        || a.generation != b.generation
        // Somebody else says that it is over.
        || is_over(known) != is_over(new)
        || foreign(known).ne(foreign(new))
}

/// The API server says that the pod has ended, whoever told it so.
pub(crate) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn foreign(pod: &Pod) -> impl Iterator<Item = &PodCondition> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|condition| !plan::status::is_own(condition))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn pod(uid: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.into());
        pod.metadata.name = Some(format!("pod-{uid}"));
        pod.spec = Some(PodSpec { termination_grace_period_seconds: Some(40), ..PodSpec::default() });
        pod
    }

    fn deleting(uid: &str, grace_s: i64) -> Pod {
        let mut pod = pod(uid);
        pod.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        pod.metadata.deletion_grace_period_seconds = Some(grace_s);
        pod
    }

    fn applied(world: &mut World, pod: Pod) -> Vec<String> {
        world.take_pods(PodEvent::Applied(Box::new(pod)), 1).into_iter().collect()
    }

    fn grace_ms(world: &World, uid: &str) -> Option<i64> {
        world.entries[uid].stop.map(|s| s.grace_ms)
    }

    #[test]
    fn a_pod_comes_changes_and_is_deleted() {
        let mut world = World::default();
        assert_eq!(applied(&mut world, pod("a")), ["a"]);
        assert_eq!(applied(&mut world, pod("a")), [""; 0], "nothing new");
        let mut told = pod("a");
        told.status = Some(PodStatus { phase: Some("Running".into()), ..PodStatus::default() });
        assert_eq!(applied(&mut world, told), [""; 0], "our own word came back");
        let mut labelled = pod("a");
        labelled.metadata.labels = Some([("k".to_owned(), "v".to_owned())].into());
        assert_eq!(applied(&mut world, labelled), ["a"]);
        assert_eq!(applied(&mut world, deleting("a", 20)), ["a"]);
        assert_eq!(grace_ms(&world, "a"), Some(20_000));
        assert_eq!(applied(&mut world, deleting("a", 5)), ["a"], "the grace was shortened");
        assert_eq!(grace_ms(&world, "a"), Some(5_000));
        // Nothing is left of it: what is said of it until it is deleted there makes no new pod.
        world.gone.insert("a".into());
        world.forget("a");
        assert_eq!(applied(&mut world, deleting("a", 5)), [""; 0]);
        world.take_pods(PodEvent::Deleted(Box::new(deleting("a", 5))), 1);
        assert!(world.gone.is_empty() && world.entries.is_empty());
    }

    #[test]
    fn a_pod_that_is_forgotten_by_the_server_stops_with_its_own_grace_or_by_force() {
        let mut world = World::default();
        let listed = |pods: Vec<Pod>| PodEvent::Listed(pods);
        world.take_pods(listed(vec![pod("a"), pod("b"), pod("c")]), 1);
        assert!(world.cluster_known && world.entries.len() == 3);
        let touched = world.take_pods(listed(vec![pod("a"), pod("c")]), 1);
        assert_eq!(touched.into_iter().collect::<Vec<_>>(), ["b"]);
        assert_eq!(grace_ms(&world, "b"), Some(40_000));
        assert_eq!(world.entries["b"].origin, Origin::Forgotten);
        world.take_pods(PodEvent::Deleted(Box::new(deleting("c", 0))), 1);
        assert_eq!(grace_ms(&world, "c"), Some(1_000));
        assert_eq!(grace_ms(&world, "a"), None);
    }

    #[test]
    fn a_pod_that_a_list_left_out_for_a_moment_begins_anew() {
        let mut world = World::default();
        world.take_pods(PodEvent::Listed(vec![pod("a")]), 1);
        world.take_pods(PodEvent::Listed(vec![]), 1);
        assert_eq!(world.entries["a"].origin, Origin::Forgotten);
        world.take_pods(PodEvent::Listed(vec![pod("a")]), 1);
        assert!(world.entries["a"].stop.is_some() && world.entries["a"].again.is_some());
        world.forget("a");
        assert_eq!((&world.entries["a"].origin, world.entries["a"].stop), (&Origin::Cluster, None));
    }

    #[test]
    fn a_pod_that_others_have_ended_is_looked_at() {
        let mut world = World::default();
        applied(&mut world, pod("a"));
        let mut failed = pod("a");
        failed.status = Some(PodStatus { phase: Some("Failed".into()), ..PodStatus::default() });
        assert_eq!(applied(&mut world, failed), ["a"]);
    }

    #[test]
    fn a_mirror_is_no_pod() {
        let mut world = World::default();
        let mut mirror = pod("m");
        mirror.metadata.annotations = Some([(plan::mirror::MIRROR.to_owned(), "hash".to_owned())].into());
        assert_eq!(applied(&mut world, mirror), [""; 0]);
        assert!(world.entries.is_empty() && world.mirrors.len() == 1);
    }
}
