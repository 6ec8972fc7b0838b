//! Carries steps out: the only writer of units and of the pods' files. It decides nothing; it stops at the first failure,
//! and the next look finds what is missing.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plan::attempt::StartRefusal;
use plan::inputs::NodeFacts;
use plan::pod_plan::{AttemptPlan, Make, MakeKind};
use plan::steps::Step;

use self::clean::{clean_attempt, remove_pod};
use super::failpoint::crossing;
use super::history::save;
use super::host::{Stalled, on_host};
use super::{PodRef, Shared, now_ms, orphans};
use crate::files::{
    FileError, RemoveError, make_dirs, make_dirs_beneath, remove_tree, set_owner_and_mode, write_volatile,
};
use crate::images::{AttemptKey, PullRequest};
use crate::systemd::bus::touch_unit_dir;
use crate::systemd::error::BusError;
use crate::wake::Wake;

/// The signals of a stop are there within milliseconds of its job's end.
const SIGNALS: Duration = Duration::from_secs(2);

mod clean;
mod volume;

/// An effect that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// A file of the pod or of a unit.
    #[error(transparent)]
    File(#[from] FileError),
    /// A path of the host that does not answer.
    #[error(transparent)]
    Stalled(#[from] Stalled),
    /// Something that could not be removed.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// The kernel.
    #[error("{action} {path}")]
    Io { action: &'static str, path: String, source: io::Error },
    /// systemd.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The Launch could not be written as JSON.
    #[error("write the Launch")]
    Launch(#[source] serde_json::Error),
    /// Another agent has the same pod, or something else the unit's name.
    #[error(
        "{path} is not this agent's (whose --run-dir is {run_root}): another agent has the same pod, or the name is taken"
    )]
    Anothers { path: String, run_root: String },
    /// A unit whose end was seen runs again.
    #[error("{0} was started again by somebody else")]
    RunsAgain(String),
    /// The worker for files is gone: the agent is ending.
    #[error("the agent is ending")]
    Ending,
}

fn io_error(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> ApplyError {
    move |source| ApplyError::Io { action, path: path.to_owned(), source }
}

/// Runs blocking file work beside the loop: a disk that stalls holds up this pod and no other.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApplyError> + Send + 'static,
) -> Result<T, ApplyError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ApplyError::Ending))
}

/// Carries the steps out in order, up to the first failure. A pod that `ends` is ended all the same where only its history
/// cannot be saved or systemd is too busy to queue a stop: a full /run must not keep alive what fills it, and the SIGKILL
/// that follows a stop must not wait for it.
pub(super) async fn apply(shared: &Arc<Shared>, pod: &PodRef, steps: Vec<Step>, ends: bool) -> Result<(), ApplyError> {
    let mut first = None;
    for step in steps {
        let passed_over = ends && matches!(step, Step::SaveHistory(_) | Step::StopUnit { .. });
        if let Step::SaveHistory(history) = &step
            && ends
        {
            // The deadline holds for this life of the agent even where it cannot be saved.
            let history = (**history).clone();
            shared.with(|w| w.entries.get_mut(&pod.uid).map(|e| e.history = Some(history)));
        }
        match apply_one(shared, pod, step).await {
            Ok(()) => {}
            Err(error) if passed_over => first = first.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    first.map_or(Ok(()), Err)
}

async fn apply_one(shared: &Arc<Shared>, pod: &PodRef, step: Step) -> Result<(), ApplyError> {
    match step {
        Step::SaveHistory(history) => {
            crossing("history.before-save");
            let facts = shared.facts();
            let saved = history.clone();
            blocking(move || Ok(save(&facts, &saved)?)).await?;
            crossing("history.after-save");
            shared.with(|w| w.entries.get_mut(&pod.uid).map(|e| e.history = Some(*history)));
            Ok(())
        }
        Step::PrepareVolume(volume) => {
            crossing("volume.before");
            volume::prepare(shared, pod, volume.content).await?;
            crossing("volume.after");
            Ok(())
        }
        Step::Pull { container, attempt } => {
            pull(shared, pod, container, attempt);
            Ok(())
        }
        Step::CreateAttempt(attempt) => {
            crossing("attempt.before-create");
            let (container, number) = (attempt.container.clone(), attempt.attempt);
            if let Err(error) = create(shared, pod, attempt).await {
                // A container whose files cannot be made must not hold up the pod's others.
                let message = crate::causes::causes(&error);
                let text = format!("Error: cannot create container {container}: {message}");
                shared.event_of(&pod.uid, Some(&container), true, "Failed", &text);
                refuse(shared, pod, container, number, message);
            } else {
                shared.event_of(
                    &pod.uid,
                    Some(&container),
                    false,
                    "Created",
                    &format!("Created container {container}"),
                );
            }
            crossing("attempt.after-create");
            Ok(())
        }
        Step::StartUnit { unit, container, attempt } => start_unit(shared, pod, unit, container, attempt).await,
        Step::StopUnit { unit, container } => stop_unit(shared, pod, &unit, &container).await,
        Step::KillUnit { unit, container } => {
            crossing("unit.before-kill");
            let text = format!("Killing container {container}, {unit}: its grace is over");
            shared.event_of(&pod.uid, Some(&container), false, "Killing", &text);
            gone_is_fine(shared.bus.kill_unit(&unit, 9).await)
        }
        Step::CleanAttempt { unit, container, attempt } => clean_attempt(shared, pod, &unit, &container, attempt).await,
        Step::RemovePod { uid, made_paths } => remove_pod(shared, &uid, made_paths).await,
    }
}

fn gone_is_fine(result: Result<(), BusError>) -> Result<(), ApplyError> {
    match result {
        Ok(()) | Err(BusError::NoSuchUnit { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn pull(shared: &Shared, pod: &PodRef, container: String, attempt: u32) {
    let Some(found) = plan::pod::containers(&pod.pod).find(|c| c.name == container) else { return };
    shared.images.pull(PullRequest {
        key: AttemptKey { uid: pod.uid.clone(), container, attempt },
        pod: pod.full_name.clone(),
        image: found.image.clone().unwrap_or_default(),
        policy: found.image_pull_policy.clone(),
    });
}

async fn create(shared: &Arc<Shared>, pod: &PodRef, attempt: Box<AttemptPlan>) -> Result<(), ApplyError> {
    let make = |path: &str| make_dirs_beneath(Path::new(path), 0o755);
    on_host(shared, &pod.uid, attempt.host_paths.clone(), make).await?.into_iter().collect::<Result<(), _>>()?;
    let making = Arc::clone(shared);
    let uid = pod.uid.clone();
    blocking(move || {
        making.refresh_views()?;
        crossing("attempt.views-refreshed");
        create_attempt(&making.facts(), &uid, &attempt)
    })
    .await
}

/// Makes an attempt's directories, Launch and unit file anew. Its unit has never been loaded, or is gone.
fn create_attempt(facts: &NodeFacts, uid: &str, attempt: &AttemptPlan) -> Result<(), ApplyError> {
    if let Some(name) = orphans::rival(facts, uid, &attempt.unit) {
        let path = format!("{}/{name}", facts.unit_dir);
        return Err(ApplyError::Anothers { path, run_root: facts.run_root.clone() });
    }
    for dir in &attempt.own_dirs {
        remove_tree(Path::new(dir))?;
        make_dirs(Path::new(dir), 0o700, None)?;
    }
    crossing("attempt.dirs-made");
    for make in &attempt.make {
        make_one(make)?;
    }
    let launch = serde_json::to_vec(&attempt.launch).map_err(ApplyError::Launch)?;
    write_volatile(Path::new(&attempt.launch_path), &launch, 0o600)?;
    crossing("attempt.launch-written");
    let dir = Path::new(&facts.unit_dir);
    let slice = dir.join(&attempt.slice);
    // A pod's slice is written once: a loaded unit's file is never changed.
    if slice.symlink_metadata().is_err() {
        write_volatile(&slice, attempt.slice_text.as_bytes(), 0o644)?;
    }
    write_volatile(&dir.join(&attempt.unit), attempt.unit_text.as_bytes(), 0o644)?;
    touch_unit_dir(dir).map_err(io_error("touch", &facts.unit_dir))
}

fn make_one(make: &Make) -> Result<(), ApplyError> {
    let path = Path::new(&make.path);
    match &make.kind {
        MakeKind::Directory => {
            // The attempt's own directories are new: none is there with another mode.
            Ok(make_dirs(path, make.mode, None)?)
        }
        MakeKind::File(text) => {
            // Not through `write_volatile`: the mode has to be exact, whatever the umask.
            std::fs::write(path, text).map_err(io_error("write", &make.path))?;
            Ok(set_owner_and_mode(path, None, Some(make.mode))?)
        }
        MakeKind::Symlink(target) => std::os::unix::fs::symlink(target, path).map_err(io_error("link", &make.path)),
    }
}

async fn start_unit(
    shared: &Arc<Shared>,
    pod: &PodRef,
    unit: String,
    container: String,
    attempt: u32,
) -> Result<(), ApplyError> {
    let refused = shared.with(|w| w.entries.get(&pod.uid).and_then(|e| e.refused.get(&container)).map(|r| r.attempt));
    if refused == Some(attempt) {
        return Ok(());
    }
    shared.expect_start(&pod.uid, &unit);
    crossing("unit.before-start");
    let facts = shared.facts();
    let started = shared.bus.start_fresh_unit(&unit, Path::new(&facts.unit_dir)).await;
    crossing("unit.after-start");
    match started {
        Ok(job) => {
            shared.start_accepted(&unit, job.id);
            let (shared_job, wake, uid) = (Arc::clone(shared), shared.wake.clone(), pod.uid.clone());
            let unit_name = unit.clone();
            tokio::spawn(async move {
                if let Ok(result) = job.result().await {
                    shared_job.start_ended(&unit_name, result);
                }
                let _ended = wake.send(Wake::Pod(uid));
            });
            let text = format!("Started container {container} as {}", plan::unit::name::every_attempt(&unit));
            shared.event_of(&pod.uid, Some(&container), false, "Started", &text);
            Ok(())
        }
        Err(BusError::Busy { request }) => {
            shared.forget_unit_state(&unit);
            Err(BusError::Busy { request }.into())
        }
        Err(BusError::Disconnected { reason }) => {
            shared.forget_unit_state(&unit);
            Err(BusError::Disconnected { reason }.into())
        }
        Err(refused) => {
            let message = refused.to_string();
            shared.forget_unit_state(&unit);
            let text = format!("Error: failed to start container {container}: {message}");
            shared.event_of(&pod.uid, Some(&container), true, "Failed", &text);
            refuse(shared, pod, container, attempt, message);
            Ok(())
        }
    }
}

/// Notes that an attempt could not be made or started: the next look ends it, and the back-off decides on another.
fn refuse(shared: &Shared, pod: &PodRef, container: String, attempt: u32, message: String) {
    let refusal = StartRefusal { attempt, reason: "CreateContainerError".to_owned(), message, at_ms: now_ms() };
    shared.with(|w| w.entries.get_mut(&pod.uid).map(|e| e.refused.insert(container, refusal)));
    shared.look(&pod.uid);
}

async fn stop_unit(shared: &Arc<Shared>, pod: &PodRef, unit: &str, container: &str) -> Result<(), ApplyError> {
    crossing("unit.before-stop");
    match shared.bus.stop_unit(unit).await {
        Ok(job) => {
            shared.stop_accepted(unit, job.id);
            let text = format!("Stopping container {container}, {unit}");
            shared.event_of(&pod.uid, Some(container), false, "Killing", &text);
            let (shared_job, uid, unit, id) = (Arc::clone(shared), pod.uid.clone(), unit.to_owned(), job.id);
            tokio::spawn(async move {
                let done = job.done().await.is_ok();
                shared_job.stop_ended(&unit, id, done);
                let _ended = shared_job.wake.send(Wake::Pod(uid.clone()));
                tokio::time::sleep(SIGNALS).await;
                if shared_job.stop_untold(&unit, id) {
                    let _ended = shared_job.wake.send(Wake::Pod(uid));
                }
            });
        }
        Err(BusError::NoSuchUnit { .. }) => {
            shared.forget_unit_state(unit);
            shared.look(&pod.uid);
        }
        Err(error) => return Err(error.into()),
    }
    crossing("unit.after-stop");
    Ok(())
}
