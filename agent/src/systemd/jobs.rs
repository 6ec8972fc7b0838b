//! Jobs in flight: from `StartUnit` and its like until systemd's `JobRemoved`.
//!
//! At most [`LIMIT`] at a time. PID 1 keeps one match rule for every queued job of a client, dbus-daemon allows a connection
//! 512 of them and cuts the connection beyond that: 1000 starts at once ended every signal for good (systemd 252).
//!
//! The reply to a call and the signal come over two connections, in any order: results that arrive while a call is still
//! unanswered are kept until it is known whose they are.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plan::observed::JobResult;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::error::BusError;

/// How many jobs may be in flight.
pub(crate) const LIMIT: usize = 64;

/// How many stops may be in flight beside them. A stop lasts up to its pod's grace; dbus-daemon's limit is 512 in all.
const STOPS: usize = 192;

/// And how many starts that last: a oneshot's job ends with its program, which may run for days.
const LASTING: usize = 192;

/// A start that is in flight for so long lasts.
const LASTS: Duration = Duration::from_secs(2);

/// How long a request waits for its place.
const PATIENCE: Duration = Duration::from_secs(30);

/// A job that systemd has accepted. Dropping it does not cancel the job, and its place among the [`LIMIT`] stays taken until it ends.
#[derive(Debug)]
pub(crate) struct Job {
    /// systemd's number for it.
    pub(crate) id: u32,
    /// The unit.
    pub(crate) unit: String,
    result: oneshot::Receiver<Result<JobResult, BusError>>,
}

impl Job {
    /// How the job ended. [`BusError::Disconnected`]: it ended unseen, look at the unit.
    pub(crate) async fn result(self) -> Result<JobResult, BusError> {
        let gone = || BusError::Disconnected { reason: "the signal task has ended".to_owned() };
        self.result.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Waits for the end, and anything but `done` is [`BusError::JobFailed`].
    pub(crate) async fn done(self) -> Result<(), BusError> {
        let unit = self.unit.clone();
        match self.result().await? {
            JobResult::Done => Ok(()),
            result => Err(BusError::JobFailed { unit, result }),
        }
    }
}

/// The jobs that this process has asked for.
#[derive(Debug)]
pub(super) struct Jobs {
    table: Mutex<Table>,
    slots: Arc<Semaphore>,
    /// The same for stops.
    stops: Arc<Semaphore>,
    /// The same for starts that last.
    lasting: Arc<Semaphore>,
    /// Signals may have been missed: ask systemd about every waiting job.
    pub(super) recheck: Notify,
}

#[derive(Debug, Default)]
struct Table {
    /// Counts the losses of the signal connection.
    epoch: u64,
    /// Calls that wait for their reply. While there are any, `early` collects.
    calls: usize,
    early: HashMap<u32, JobResult>,
    /// systemd gives two requests that it merges the same job, so one id can have several waiters.
    waiting: HashMap<u32, Vec<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    done: oneshot::Sender<Result<JobResult, BusError>>,
    slot: OwnedSemaphorePermit,
}

impl Jobs {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            table: Mutex::default(),
            slots: Arc::new(Semaphore::new(limit)),
            stops: Arc::new(Semaphore::new(STOPS)),
            lasting: Arc::new(Semaphore::new(LASTING)),
            recheck: Notify::new(),
        }
    }

    /// Waits for a place among the jobs in flight; not for ever. Stops and starts that last have places of their own: they
    /// must not keep anything from being stopped or started.
    pub(super) async fn slot(&self, stop: bool) -> Result<OwnedSemaphorePermit, BusError> {
        let closed = |_| BusError::Disconnected { reason: "shutting down".to_owned() };
        let slots = if stop { &self.stops } else { &self.slots };
        // One that is dropped loses its place in the queue.
        let mut place = pin!(Arc::clone(slots).acquire_owned());
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if !stop && slots.available_permits() == 0 {
                self.set_aside();
            }
            if let Ok(slot) = tokio::time::timeout(LASTS, place.as_mut()).await {
                return slot.map_err(closed);
            }
        }
        Err(BusError::Busy { request: "a further job".to_owned() })
    }

    /// Starts that last give their places back and take others.
    fn set_aside(&self) {
        let mut table = self.table();
        let starts = table.waiting.values_mut().flatten().filter(|one| Arc::ptr_eq(one.slot.semaphore(), &self.slots));
        for one in starts.filter(|one| one.since.elapsed() >= LASTS) {
            let Ok(place) = Arc::clone(&self.lasting).try_acquire_owned() else { return };
            one.slot = place;
        }
    }

    /// To be called before the request is sent.
    pub(super) fn calling(&self) -> Calling<'_> {
        let mut table = self.table();
        table.calls += 1;
        Calling { jobs: self, epoch: table.epoch }
    }

    /// A `JobRemoved` signal.
    pub(super) fn removed(&self, id: u32, result: &JobResult) {
        let mut table = self.table();
        if let Some(waiting) = table.waiting.remove(&id) {
            drop(table);
            answer(waiting, &Ok(result.clone()));
        } else if table.calls > 0 {
            table.early.insert(id, result.clone());
        }
    }

    /// The signal connection is gone: results may be missed from here on.
    pub(super) fn signals_lost(&self) {
        let mut table = self.table();
        table.epoch += 1;
        table.early.clear();
    }

    /// The jobs that have been waited for at least so long.
    pub(super) fn waiting_for(&self, at_least: Duration) -> Vec<u32> {
        let table = self.table();
        let old = |waiting: &[Waiting]| waiting.iter().any(|one| one.since.elapsed() >= at_least);
        table.waiting.iter().filter(|(_, waiting)| old(waiting)).map(|(id, _)| *id).collect()
    }

    /// These jobs ended without a signal that reached us. Gives the number of those that were still waited for.
    pub(super) fn ended_unseen(&self, ids: &[u32]) -> usize {
        let waiting: Vec<_> = {
            let mut table = self.table();
            ids.iter().filter_map(|id| table.waiting.remove(id)).collect()
        };
        let reason = "the job ended while signals were lost".to_owned();
        let error = Err(BusError::Disconnected { reason });
        let jobs = waiting.len();
        waiting.into_iter().for_each(|one| answer(one, &error));
        jobs
    }

    /// How many jobs are waited for.
    #[cfg(test)]
    pub(super) fn in_flight(&self) -> usize {
        self.table().waiting.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(waiting: Vec<Waiting>, result: &Result<JobResult, BusError>) {
    for one in waiting {
        // Nobody listens if the caller chose not to wait.
        drop(one.done.send(result.clone()));
    }
}

/// A request whose job has no number yet.
pub(super) struct Calling<'a> {
    jobs: &'a Jobs,
    epoch: u64,
}

impl Calling<'_> {
    /// systemd answered with job `id`.
    pub(super) fn accepted(self, id: u32, unit: &str, slot: OwnedSemaphorePermit) -> Job {
        let (done, result) = oneshot::channel();
        let job = Job { id, unit: unit.to_owned(), result };
        let waiting = Waiting { since: Instant::now(), done, slot };
        let mut table = self.jobs.table();
        if let Some(result) = table.early.get(&id).cloned() {
            answer(vec![waiting], &Ok(result));
        } else {
            table.waiting.entry(id).or_default().push(waiting);
            if table.epoch != self.epoch {
                self.jobs.recheck.notify_one();
            }
        }
        drop(table);
        job
    }
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        let mut table = self.jobs.table();
        table.calls -= 1;
        if table.calls == 0 {
            table.early = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_result_that_overtakes_the_reply_is_found() {
        let jobs = Jobs::new(1);
        jobs.removed(7, &JobResult::Failed);
        let (slot, calling) = (jobs.slot(false).await.unwrap(), jobs.calling());
        jobs.removed(7, &JobResult::Done);
        assert_eq!(calling.accepted(7, "a.service", slot).result().await, Ok(JobResult::Done));
        let (slot, calling) = (jobs.slot(false).await.unwrap(), jobs.calling());
        let job = calling.accepted(7, "a.service", slot);
        assert_eq!(jobs.in_flight(), 1, "an old result must not answer a later call");
        jobs.removed(7, &JobResult::Timeout);
        assert_eq!(
            job.done().await,
            Err(BusError::JobFailed { unit: "a.service".to_owned(), result: JobResult::Timeout })
        );
    }

    #[tokio::test]
    async fn starts_that_last_hold_up_no_other() {
        let jobs = Jobs::new(2);
        let mut held = Vec::new();
        for id in [1, 2] {
            let slot = jobs.slot(false).await.unwrap();
            held.push(jobs.calling().accepted(id, "long.service", slot));
        }
        let begun = Instant::now();
        let slot = jobs.slot(false).await.unwrap();
        assert!(begun.elapsed() >= LASTS / 2, "a short start is waited for");
        assert_eq!(jobs.lasting.available_permits(), LASTING - 2);
        held.push(jobs.calling().accepted(3, "short.service", slot));
        (1..=3).for_each(|id| jobs.removed(id, &JobResult::Done));
        for job in held {
            assert_eq!(job.done().await, Ok(()));
        }
        assert_eq!((jobs.slots.available_permits(), jobs.lasting.available_permits()), (2, LASTING));
    }

    #[tokio::test]
    async fn who_waits_longer_than_a_start_lasts_keeps_its_place() {
        let jobs = Jobs::new(1);
        let taken = jobs.slot(false).await.unwrap();
        let order = Mutex::new(Vec::new());
        let wait = async |name: &'static str, after: Duration| {
            tokio::time::sleep(after).await;
            let _slot = jobs.slot(false).await.unwrap();
            order.lock().unwrap().push(name);
        };
        let release = async {
            tokio::time::sleep(LASTS + LASTS / 4).await;
            drop(taken);
        };
        tokio::join!(wait("first", Duration::ZERO), wait("second", LASTS / 2), release);
        assert_eq!(*order.lock().unwrap(), ["first", "second"]);
    }

    #[tokio::test]
    async fn merged_jobs_answer_all_and_a_dropped_one_keeps_its_place() {
        let jobs = Jobs::new(2);
        let mut both = Vec::new();
        for _ in 0..2 {
            let slot = jobs.slot(false).await.unwrap();
            both.push(jobs.calling().accepted(3, "a.service", slot));
        }
        drop(both.pop());
        assert_eq!(jobs.slots.available_permits(), 0);
        jobs.removed(3, &JobResult::Done);
        assert_eq!(jobs.slots.available_permits(), 2);
        assert_eq!(both.pop().unwrap().done().await, Ok(()));
    }
}
