//! Takes wakes and starts looks: a closed set of reasons, one look per pod at a time, no polling. The slow relist is a
//! safety net for signals that were lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Shared, history, now_ms, orphans, report, sync};
use crate::manifests::Snapshot;
use crate::systemd::signals::UnitEvent;
use crate::wake::{Synced, Wake};
use crate::world::{Entry, KnownUnit, Origin, Stop, World};
use plan::observed::JobResult;

/// How often everything is compared with what systemd lists.
const RELIST: Duration = Duration::from_secs(60);

/// Runs until the channel closes or `stop` resolves. Stopping the loop stops no pod.
pub(crate) async fn run(shared: Arc<Shared>, mut wakes: mpsc::UnboundedReceiver<Wake>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut relist = tokio::time::interval_at(Instant::now() + RELIST, RELIST);
    relist.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let next = shared.with(|w| w.next_wake_ms());
        let sleep = tokio::time::sleep_until(deadline(next));
        tokio::select! {
            () = &mut stop => return,
            wake = wakes.recv() => match wake {
                Some(wake) => handle(&shared, wake),
                None => return,
            },
            // Sleeping is cancel-safe: the deadline is computed anew in every round.
            () = sleep, if next.is_some() => due(&shared),
            _ = relist.tick() => start_relist(&shared),
        }
    }
}

fn deadline(next_ms: Option<i64>) -> Instant {
    let wait_ms = next_ms.map_or(0, |at| (at - now_ms()).max(0));
    Instant::now() + Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0))
}

fn handle(shared: &Arc<Shared>, wake: Wake) {
    match wake {
        Wake::Source(snapshot) => {
            tell_remarks(shared, &snapshot);
            if let Err(error) = report::note_unused(&shared.facts().run_root, &snapshot.errors) {
                tracing::warn!("{}", crate::causes::causes(&error));
            }
            take(shared, |w| w.take_snapshot(*snapshot, now_ms()));
        }
        Wake::Cluster(event) => {
            if let Some(cluster) = shared.cluster() {
                cluster.heard(&event);
            }
            take(shared, |w| w.take_pods(event, now_ms()));
        }
        Wake::Unit(event) => unit_event(shared, event),
        Wake::Pod(uid) => start(shared, &uid),
        Wake::Synced(synced) => finished(shared, *synced),
        Wake::Listed(units) => listed(shared, units),
    }
}

/// Takes over a source's word. Once a source has said something, what was its and is not any more is stopped.
fn take(shared: &Arc<Shared>, word: impl FnOnce(&mut World) -> BTreeSet<String>) {
    let known = |w: &World| (w.manifests_known, w.sources_known());
    let (before, touched) = shared.with(|w| (known(w), word(w)));
    // Also when a file may have become readable: the pods that it had and has no more would run on beside those that it has.
    if shared.with(|w| known(w) != before || !w.left_alone.is_empty()) {
        adopt_orphans(shared);
    }
    if shared.with(|w| std::mem::take(&mut w.mirrors_changed)) {
        shared.mirrors.notify_one();
    }
    start_all(shared, touched);
}

/// What is wrong with the manifests, each remark once for as long as it stands.
fn tell_remarks(shared: &Shared, snapshot: &Snapshot) {
    let all = snapshot.errors.iter().chain(&snapshot.warnings);
    let remarks: BTreeSet<String> =
        all.map(|(file, texts)| format!("{}: {}", file.display(), texts.join("; "))).collect();
    let known = shared.with(|w| std::mem::replace(&mut w.manifest_remarks, remarks.clone()));
    for remark in remarks.difference(&known) {
        tracing::warn!("{remark}");
    }
}

fn start_all(shared: &Arc<Shared>, uids: BTreeSet<String>) {
    for uid in uids {
        start(shared, &uid);
    }
}

/// Starts a look, or notes that the one under way is not the last.
fn start(shared: &Arc<Shared>, uid: &str) {
    let begin = shared.with(|w| {
        let Some(entry) = w.entries.get_mut(uid) else { return false };
        if entry.running {
            entry.dirty = true;
            return false;
        }
        entry.running = true;
        entry.dirty = false;
        entry.wake_at_ms = None;
        true
    });
    if !begin {
        return;
    }
    let (shared, uid) = (Arc::clone(shared), uid.to_owned());
    tokio::spawn(async move {
        let wake = shared.wake.clone();
        // A panic in one pod's look must not leave that pod for ever "running".
        let look = tokio::spawn(sync(shared, uid.clone()));
        let synced = look.await.unwrap_or_else(|panic| {
            tracing::error!(uid, "a look at the pod panicked: {panic}");
            Synced { uid, wake_at_ms: Some(now_ms() + 10_000), gone: false }
        });
        let _ended = wake.send(Wake::Synced(Box::new(synced)));
    });
}

fn finished(shared: &Arc<Shared>, synced: Synced) {
    let Synced { uid, wake_at_ms, gone } = synced;
    if gone {
        shared.images.forget(&uid);
        forget_in_cluster(shared, &uid);
        let waiting: BTreeSet<String> = shared.with(|w| {
            w.forget(&uid);
            // A namesake, or a pod that waits for another version of a package, may go on now. One that runs waits for
            // nobody: of 100 pods that go, each must not have the others looked at.
            let waits = |e: &Entry| {
                let containers = e.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
                let waiting = containers.flat_map(|c| &c.state).any(|state| state.waiting.is_some());
                waiting || e.status.as_ref().is_none_or(|s| s.phase.as_deref() != Some("Running"))
            };
            w.entries.iter().filter(|(_, e)| waits(e)).map(|(uid, _)| uid.clone()).collect()
        });
        shared.tell_readers();
        return start_all(shared, waiting);
    }
    let again = shared.with(|w| {
        let Some(entry) = w.entries.get_mut(&uid) else { return false };
        entry.running = false;
        entry.wake_at_ms = wake_at_ms;
        std::mem::take(&mut entry.dirty)
    });
    if again {
        start(shared, &uid);
    }
}

/// Nothing is left of a pod: the API server is told, unless it was the first to forget it.
fn forget_in_cluster(shared: &Shared, uid: &str) {
    let Some(cluster) = shared.cluster() else { return };
    cluster.release(uid);
    let gone = shared.with(|w| {
        let entry = w.entries.get(uid).filter(|e| e.origin == Origin::Cluster)?;
        // Only who was asked to says that a pod may be forgotten.
        entry.pod.metadata.deletion_timestamp.as_ref()?;
        let pod = Arc::clone(&entry.pod);
        w.gone.insert(uid.to_owned()).then_some(pod)
    });
    if let Some(pod) = gone {
        cluster.statuses.gone(&pod);
    }
}

fn due(shared: &Arc<Shared>) {
    let now = now_ms();
    let uids: BTreeSet<String> = shared.with(|w| {
        let due = w.entries.iter().filter(|(_, e)| !e.running && e.wake_at_ms.is_some_and(|at| at <= now));
        due.map(|(uid, _)| uid.clone()).collect()
    });
    start_all(shared, uids);
}

fn unit_event(shared: &Arc<Shared>, event: UnitEvent) {
    let uid = shared.with(|w| match event {
        UnitEvent::Changed { name, change } => {
            let unit = w.units.get_mut(&name)?;
            unit.changed(&change);
            Some(unit.uid.clone())
        }
        UnitEvent::Removed { name } => {
            let unit = w.units.get_mut(&name)?;
            unit.removed();
            Some(unit.uid.clone())
        }
        UnitEvent::JobRemoved { id, unit, result } => {
            let known = w.units.get_mut(&unit)?;
            known.job_removed(id, result == JobResult::Done);
            Some(known.uid.clone())
        }
        UnitEvent::Resync { reason } => {
            tracing::info!(?reason, "looking at every unit again");
            for unit in w.units.values_mut() {
                unit.heard += 1;
                unit.state = None;
            }
            None
        }
    });
    match uid {
        Some(uid) => start(shared, &uid),
        None => {
            // Either a resync, or a unit of which nothing is known (any more).
            let stale: BTreeSet<String> =
                shared.with(|w| w.units.values().filter(|u| u.state.is_none()).map(|u| u.uid.clone()).collect());
            start_all(shared, stale);
        }
    }
}

/// What is left of pods that no source names is stopped and removed: what manifests had as soon as they are known, before any
/// other pod is looked at, for it holds ports and places in line.
fn adopt_orphans(shared: &Arc<Shared>) {
    let facts = shared.facts();
    let mut touched = BTreeSet::new();
    shared.with(|w| w.left_alone.clear());
    for (uid, found) in orphans::find(&facts) {
        if shared.with(|w| w.entries.contains_key(&uid)) {
            continue;
        }
        let source = report::source_of(&facts.run_root, &uid);
        // Who may want it has not spoken yet: nothing more is read of it.
        if shared.with(|w| !w.sources_known() && (source.is_empty() || !w.manifests_known)) {
            continue;
        }
        // One that waits in line has no unit that would say its name.
        let known = history::load(&facts.run_root, &uid).ok().flatten().filter(|history| !history.name.is_empty());
        let history = known.unwrap_or_else(|| orphans::rebuilt(&uid, &found));
        let place_ms = history.ports.as_ref().map(|ports| ports.since_ms).filter(|_| !source.is_empty());
        shared.with(|w| {
            if crate::manifests::is_among(w.unreadable.iter(), &source) {
                w.left_alone.insert(uid.clone());
                return;
            }
            let mut pod = k8s_openapi::api::core::v1::Pod::default();
            pod.metadata.uid = Some(uid.clone());
            pod.metadata.name = Some(history.name.clone());
            pod.metadata.namespace = Some(history.namespace.clone());
            let grace_s = found.units.iter().map(|u| u.grace_seconds).max().unwrap_or(30);
            let mut entry = Entry::new(pod, Origin::Orphan, now_ms());
            entry.stop = Some(Stop::asked(now_ms(), grace_s));
            tracing::info!(uid, pod = entry.full_name(), "nothing wants this pod any more: stopping it");
            w.adopt(uid.clone(), entry, place_ms);
            touched.insert(uid.clone());
        });
    }
    start_all(shared, touched);
}

fn start_relist(shared: &Arc<Shared>) {
    let counters = shared.bus.counters();
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    let (reconnects, missed) = (counters.reconnects.load(relaxed), counters.missed.load(relaxed));
    tracing::debug!(reconnects, missed, "comparing with what systemd lists");
    adopt_orphans(shared);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        match shared.bus.list_units_by_patterns(&["systemk.*.service"]).await {
            Ok(rows) => {
                let units = rows
                    .into_iter()
                    .map(|row| plan::observed::UnitState {
                        name: row.name,
                        load_state: row.load_state,
                        active_state: row.active_state,
                        sub_state: row.sub_state,
                        ..Default::default()
                    })
                    .collect();
                let _ended = shared.wake.send(Wake::Listed(units));
            }
            Err(error) => tracing::warn!("cannot list the units: {error}"),
        }
    });
}

/// Compares the list with what signals said; a difference is a missed signal, and the unit is asked about.
fn listed(shared: &Arc<Shared>, units: Vec<plan::observed::UnitState>) {
    let listed: std::collections::HashMap<String, (String, String)> =
        units.into_iter().map(|u| (u.name, (u.active_state, u.sub_state))).collect();
    let stale: BTreeSet<String> = shared.with(|w| {
        let mut stale = BTreeSet::new();
        for (name, KnownUnit { uid, state, .. }) in &mut w.units {
            let Some(known) = state else { continue };
            let same = match listed.get(name) {
                Some((active, sub)) => *active == known.active_state && *sub == known.sub_state,
                None => matches!(known.active_state.as_str(), "inactive" | "failed"),
            };
            if !same {
                tracing::warn!(unit = name, "a signal was missed");
                *state = None;
                stale.insert(uid.clone());
            }
        }
        stale
    });
    start_all(shared, stale);
}
