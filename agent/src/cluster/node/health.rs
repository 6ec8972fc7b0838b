//! How the machine is: measured again and again, beside the heartbeats, so that a disk which does not answer makes the node
//! unready and not silent.

use std::pin::Pin;
use std::time::Duration;

use plan::node::{Available, Machine, Pressures};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::causes::causes;
use crate::machine::{Gauge, MeasureError};
use crate::reconcile::now_ms;

/// A measurement takes under a millisecond; what is not there by then comes with the next look.
const PATIENCE: Duration = Duration::from_secs(1);

/// What does not answer for so long makes the node unready: what a kubelet gives its runtime
/// (`maxWaitForContainerRuntime`).
const SILENT: Duration = Duration::from_secs(30);

type Measured = Result<(Machine, Available), MeasureError>;

/// Asks systemd for a sign of life: whether it answers, and its signals arrive.
pub(crate) type Ask = Box<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// The machine, as it was when it last said something.
pub(crate) struct Health {
    gauge: Gauge,
    systemd: String,
    machine: Machine,
    available: Available,
    pressures: Pressures,
    /// The last measurement's problem.
    problem: Option<String>,
    /// One that has not ended yet, and since when.
    running: Option<(JoinHandle<Measured>, Instant)>,
    ask: Ask,
    /// A question that was not answered yet.
    asked: Option<(JoinHandle<bool>, Instant)>,
    /// The first question that was not answered as it should be.
    deaf_since: Option<Instant>,
}

impl Health {
    /// Measures for the first time. `systemd` is what the running systemd says of itself.
    ///
    /// # Errors
    /// The machine cannot be measured.
    pub(crate) fn new(gauge: Gauge, systemd: String, ask: Ask) -> Result<Self, MeasureError> {
        let machine = gauge.machine(&systemd)?;
        let available = gauge.available()?;
        let pressures = Pressures::default().seen(&machine, &available, now_ms());
        let (problem, running, asked, deaf_since) = (None, None, None, None);
        Ok(Self { gauge, systemd, machine, available, pressures, problem, running, ask, asked, deaf_since })
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What the pressures are judged by, for people.
    pub(super) fn measured(&self) -> String {
        plan::node::measured(&self.machine, &self.available)
    }

    pub(super) fn pressures(&self) -> &Pressures {
        &self.pressures
    }

    /// Looks again, for no longer than two seconds.
    pub(super) async fn look(&mut self) {
        self.listen().await;
        let (gauge, systemd) = (self.gauge.clone(), self.systemd.clone());
        let begin = || {
            let measure = move || Ok((gauge.machine(&systemd)?, gauge.available()?));
            (tokio::task::spawn_blocking(measure), Instant::now())
        };
        let (mut task, since) = self.running.take().unwrap_or_else(begin);
        match tokio::time::timeout(PATIENCE, &mut task).await {
            Err(_) => self.running = Some((task, since)),
            Ok(Ok(Ok((machine, available)))) => {
                self.pressures = self.pressures.seen(&machine, &available, now_ms());
                (self.machine, self.available, self.problem) = (machine, available, None);
            }
            Ok(Ok(Err(error))) => self.problem = Some(causes(&error)),
            Ok(Err(panicked)) => self.problem = Some(format!("measure the machine: {panicked}")),
        }
    }

    /// A bus that is silent breaks no connection: only a question finds out.
    async fn listen(&mut self) {
        let (mut task, since) = self.asked.take().unwrap_or_else(|| (tokio::spawn((self.ask)()), Instant::now()));
        let hears = match tokio::time::timeout(PATIENCE, &mut task).await {
            Ok(answered) => answered.unwrap_or(false),
            Err(_) => {
                self.asked = Some((task, since));
                false
            }
        };
        self.deaf_since = (!hears).then(|| self.deaf_since.unwrap_or(since));
    }

    /// Why the node is not ready; None: it is.
    pub(super) fn not_ready(&self) -> Option<String> {
        let silent = |since: &Instant| since.elapsed() >= SILENT;
        if self.deaf_since.as_ref().is_some_and(silent) {
            return Some("systemd does not answer on D-Bus".to_owned());
        }
        if self.running.as_ref().is_some_and(|(_, since)| silent(since)) {
            return Some("the file system of the state directory does not answer".to_owned());
        }
        self.problem.clone()
    }
}
