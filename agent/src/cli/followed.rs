//! A container's log across its attempts. Every attempt is a unit of its own, so each has a reader of its own; they are
//! read one after the other. Takes what the reports say of the container, gives lines.

use plan::journal::LogLine;
use tokio::sync::{mpsc, watch};

use super::reports::key;
use crate::logs::{self, Begin, ContainerName};
use crate::reconcile::report::Report;
use crate::systemd::journal::Journalctl;

/// What is known of a container's attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempts {
    /// The newest one's number; None before the first.
    pub(super) newest: Option<u32>,
    /// The newest one has ended.
    pub(super) ended: bool,
    /// There will be no other.
    pub(super) over: bool,
}

/// The container of that name of the pod of a report.
pub(super) fn name(report: &Report, container: &str) -> ContainerName {
    let (namespace, pod) = key(report);
    ContainerName {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        uid: report.pod.metadata.uid.clone().unwrap_or_default(),
        container: container.to_owned(),
    }
}

impl Attempts {
    /// What a report says; None: the pod is gone.
    pub(super) fn of(report: Option<&Report>, container: &str) -> Self {
        let Some(report) = report else { return Self { ended: true, over: true, newest: None } };
        let known = report.attempts.iter().find(|(name, ..)| name == container);
        let ended = known.is_some_and(|(.., ended)| *ended);
        let phase = report.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let terminal = matches!(phase, Some("Succeeded" | "Failed"));
        let newest = known.map(|(_, attempt, _)| *attempt);
        Self { newest, ended, over: terminal && (ended || newest.is_none()) }
    }
}

/// What a follower sends: its tag, and a line or, after the last line of an attempt, None.
pub(super) type Said = (usize, Option<LogLine>);

/// Sends every line until the container is over. Ends early when nobody takes them.
///
/// # Errors
/// The journal cannot be read.
pub(super) async fn follow(
    name: ContainerName,
    mut begin: Begin,
    mut attempts: watch::Receiver<Attempts>,
    (tag, lines): (usize, mpsc::Sender<Said>),
) -> std::io::Result<()> {
    let mut last_known = None;
    loop {
        let attempt = begin.attempt;
        let now = until(&mut attempts, |now| now.over || now.newest >= Some(attempt)).await;
        last_known = now.newest.max(last_known);
        if last_known < Some(attempt) {
            return Ok(());
        }
        let (end, ended) = watch::channel(false);
        let mut reader = logs::open(Journalctl::default(), &name, &begin, true, ended)?;
        let has_ended =
            |now: &Attempts| now.over || now.newest > Some(attempt) || now.newest == Some(attempt) && now.ended;
        let mut waits = true;
        loop {
            tokio::select! {
                line = reader.next() => match line? {
                    Some(line) => if lines.send((tag, Some(line))).await.is_err() { return Ok(()) },
                    None => break,
                },
                seen = until(&mut attempts, has_ended), if waits => {
                    last_known = seen.newest.max(last_known);
                    waits = false;
                    end.send_replace(true);
                }
            }
        }
        if lines.send((tag, None)).await.is_err() {
            return Ok(());
        }
        begin = Begin { attempt: attempt + 1, tail: None, ..begin };
    }
}

/// A sender that is gone says that the container is over.
async fn until(attempts: &mut watch::Receiver<Attempts>, wanted: impl FnMut(&Attempts) -> bool) -> Attempts {
    let seen = attempts.wait_for(wanted).await.map(|now| *now);
    seen.unwrap_or(Attempts { over: true, ..Attempts::default() })
}
