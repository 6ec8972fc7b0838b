//! What is there of a pod: the only reader of unit state, exit files and failure files.

use std::path::Path;

use plan::attempt::{AttemptObserved, FailureFile, asks_why};
use plan::container::FAILURE_UNREACHED;
use plan::history::{ContainerHistory, PodHistory};
use plan::inputs::NodeFacts;
use plan::launch::Failure;
use plan::launch::exit::{EXIT_FILE, EXIT_VERSION, ExitRecord};
use plan::observed::UnitState;
use plan::steps::PodObserved;
use plan::unit::name::{PodDirs, service};

use super::{Shared, now_ms, orphans};
use crate::files::read_beneath;
use crate::systemd::error::BusError;
use crate::systemd::set_up;

/// What a container may write there is read up to this.
const FAILURE_LIMIT: u64 = 4096;

/// Observes the newest attempt of every container that has one.
pub(super) async fn observe(shared: &Shared, uid: &str, history: &PodHistory) -> Result<PodObserved, BusError> {
    let mut observed = PodObserved::default();
    for (container, known) in &history.containers {
        let Some(attempt) = known.attempt else { continue };
        let unit = service(&history.namespace, &history.name, container, &history.uid, attempt);
        // Before it was seen to run, the unit of that name may be another agent's, which has the same manifest.
        let unseen = known.exit.is_none() && known.run.is_none();
        let state = match known.exit {
            _ if unseen && orphans::is_anothers(&shared.facts(), &unit) => None,
            // Its end is known: only whether something is left matters.
            Some(_) if !shared.is_tracked(&unit) => None,
            Some(_) | None => Some(unit_state(shared, uid, &unit).await?),
        };
        let refused = shared.with(|w| w.entries.get(uid).and_then(|e| e.refused.get(container).cloned()));
        let runs_on = state.as_ref().is_some_and(|s| runs_on(known, s));
        let mut seen =
            if runs_on { AttemptObserved::default() } else { files(&shared.facts(), uid, container, attempt, &unit) };
        seen.unit = state.and_then(there);
        seen.refused = refused;
        seen.attempt = Some(attempt);
        seen.start_job = shared.with(|w| w.units.get(&unit).and_then(|u| u.start_job.clone()));
        if let Some(exit) = asks_why(known, &seen, now_ms()) {
            let file = Path::new(&shared.facts().unit_dir).join(&unit);
            seen.set_up_error = set_up::error_of(&file, &unit, &exit.invocation, exit.exit_code).await;
        }
        observed.containers.insert(container.clone(), seen);
    }
    Ok(observed)
}

/// Whether a container is still in the run that it was last seen in: its files have nothing to say then. In another one
/// (somebody restarted the unit) its exit file tells how the last ended, and is asked even where the new run was there
/// before anything was seen of the old one's end.
fn runs_on(known: &ContainerHistory, unit: &UnitState) -> bool {
    let same = known.run.as_ref().is_some_and(|run| run.invocation == unit.invocation_id);
    known.exit.is_none() && same && unit.active_state == "active" && unit.job.is_none()
}

/// The last word on a unit: from signals, else from systemd itself.
async fn unit_state(shared: &Shared, uid: &str, unit: &str) -> Result<UnitState, BusError> {
    if let Some(mut state) = shared.known_unit(unit) {
        if plan::attempt::is_unmet(&state) && state.conditions.is_empty() {
            // Which ones there are is not in the signal; the unit, loaded anew, still says that.
            state.conditions = shared.bus.unit_properties(unit).await.map(|s| s.conditions).unwrap_or_default();
        }
        return Ok(state);
    }
    let heard = shared.ask_unit(uid, unit);
    let state = match shared.bus.unit_properties(unit).await {
        Ok(state) => state,
        Err(BusError::NoSuchUnit { .. }) => {
            UnitState { name: unit.to_owned(), load_state: "not-found".to_owned(), ..UnitState::default() }
        }
        Err(error) => return Err(error),
    };
    shared.answer_unit(unit, heard, &state);
    Ok(state)
}

/// A unit whose file was deleted is "not-found" after a daemon-reload, and may run all the same.
fn there(mut state: UnitState) -> Option<UnitState> {
    if state.load_state != "not-found" {
        return Some(state);
    }
    if matches!(state.active_state.as_str(), "" | "inactive") {
        return None;
    }
    "loaded".clone_into(&mut state.load_state);
    Some(state)
}

/// What an attempt that does not simply run left in files.
fn files(facts: &NodeFacts, uid: &str, container: &str, attempt: u32, unit: &str) -> AttemptObserved {
    let dirs = PodDirs::new(&facts.run_root, &facts.state_root, uid).attempt(container, attempt);
    let run = Path::new(&dirs.container_run);
    let unit_file = Path::new(&facts.unit_dir).join(unit);
    AttemptObserved {
        exit_record: exit_record(run),
        failure: failure(run),
        started: run.join(".systemk/systemk").symlink_metadata().is_ok(),
        leftovers: (unit_file.symlink_metadata().is_ok() && !orphans::is_anothers(facts, unit))
            || Path::new(&dirs.run).symlink_metadata().is_ok()
            || Path::new(&dirs.state).symlink_metadata().is_ok(),
        ..AttemptObserved::default()
    }
}

/// The container may write all of its /run: nothing there leads out of it.
fn exit_record(run: &Path) -> Option<ExitRecord> {
    let bytes = read_beneath(run, &format!(".systemk/exit/{EXIT_FILE}"), FAILURE_LIMIT).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|record: &ExitRecord| record.version <= EXIT_VERSION)
}

fn failure(run: &Path) -> FailureFile {
    let Ok(bytes) = read_beneath(run, ".systemk/failure", FAILURE_LIMIT) else { return FailureFile::Absent };
    if bytes == FAILURE_UNREACHED.as_bytes() {
        return FailureFile::Unreached;
    }
    serde_json::from_slice::<Failure>(&bytes).map_or(FailureFile::Reached, FailureFile::Failed)
}
