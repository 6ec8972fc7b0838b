//! Stays with pods from the moment their manifest is there until they are gone. Looks at their reports at a short
//! interval: this is a command in the foreground, not the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Left;
use super::ending::{Stopping, asked};
use super::progress::{Progress, shown};
use super::said::{Said, exit_code, is_over, waits};
use super::seen::{is_named, unseen};
use crate::cli::followed::{self, Attempts};
use crate::cli::output::is_unread;
use crate::cli::reports::{Agent, key};
use crate::logs::Begin;
use crate::reconcile::report::Report;

/// How often the reports are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// A manifest that is not taken up by then is worth a word.
const SEEN: Duration = Duration::from_secs(5);

/// One container whose output is shown.
struct Output {
    uid: String,
    container: String,
    /// Before each line, where there is more than one container.
    prefix: String,
    attempts: watch::Sender<Attempts>,
}

pub(super) struct Follow<'a> {
    pub(super) agent: &'a Agent,
    pub(super) left: Left,
    pub(super) progress: Progress,
    said: Said,
    /// Newest report of each pod, by uid; also after it is gone.
    pub(super) pods: BTreeMap<String, Report>,
    gone: BTreeSet<String>,
    outputs: Vec<Output>,
    lines: (mpsc::Sender<followed::Said>, mpsc::Receiver<followed::Said>),
    /// Why a container's output can be shown no longer.
    broken: (mpsc::UnboundedSender<std::io::Error>, mpsc::UnboundedReceiver<std::io::Error>),
    /// Who asked for the stop that is under way.
    pub(super) stopping: Option<Stopping>,
    /// A pod went before its end, and not because of us.
    removed: bool,
    begun: Instant,
}

/// Shows all that happens until the pods are gone.
pub(super) async fn to_the_end(agent: &Agent, left: Left) -> anyhow::Result<ExitCode> {
    let mut follow = Follow {
        agent,
        left,
        progress: Progress::new(),
        said: Said::default(),
        pods: BTreeMap::new(),
        gone: BTreeSet::new(),
        outputs: Vec::new(),
        lines: mpsc::channel(256),
        broken: mpsc::unbounded_channel(),
        stopping: None,
        removed: false,
        begun: Instant::now(),
    };
    // What is left at an error, or at a signal that does not wait, is removed with the manifest: `Left` sees to that.
    follow.run().await
}

impl Follow<'_> {
    async fn run(&mut self) -> anyhow::Result<ExitCode> {
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        // A terminal that closes; nohup's ignored signal would come here too, but `--detach` is the way to stay.
        let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                said = self.lines.1.recv() => said.map_or(Ok(()), |said| self.show(said)),
                error = self.broken.1.recv() => error.map_or(Ok(()), |error| Err(error).context("read the journal")),
                number = asked(&mut interrupt, &mut terminate, &mut hangup) => match self.stop(number) {
                    Ok(true) => return Ok(ExitCode::from(128 + number)),
                    stopped => stopped.map(drop),
                },
                _ = tick.tick() => self.look(),
            };
            if let Err(error) = step {
                self.fail(&error)?;
            }
            if self.is_done() {
                break;
            }
        }
        self.drain().await?;
        let reports: Vec<Report> = self.pods.values().cloned().collect();
        Ok(ExitCode::from(match self.stopping {
            Some(Stopping::Asked(number) | Stopping::Forced(number)) => 128 + number,
            Some(Stopping::Failed) => 1,
            // Somebody who waits for the pods' work must not take a removal for its end.
            Some(Stopping::Over) | None => exit_code(&reports).max(u8::from(self.removed)),
        }))
    }

    fn look(&mut self) -> anyhow::Result<()> {
        if is_unread() {
            self.nobody_reads()?;
        }
        if self.pods.len() < self.left.pods.len() && self.stopping.is_none() {
            self.find()?;
        }
        let uids: Vec<String> = self.pods.keys().filter(|uid| !self.gone.contains(*uid)).cloned().collect();
        for uid in uids {
            match self.agent.report(&uid) {
                Some(report) => self.take(uid, report),
                None => {
                    self.gone.insert(uid.clone());
                    if self.stopping.is_none() {
                        self.removed = true;
                        let name = self.pods.get(&uid).map(|r| key(r).1.to_owned()).unwrap_or_default();
                        self.progress.line(&format!("{name}: removed by somebody else"));
                    }
                }
            }
        }
        for output in &self.outputs {
            let report = self.pods.get(&output.uid).filter(|_| !self.gone.contains(&output.uid));
            let now = Attempts::of(report, &output.container);
            // Told when it changes only: a follower waits for the next change.
            output.attempts.send_if_modified(|old| std::mem::replace(old, now) != now);
        }
        let late = self.pods.len() < self.left.pods.len() && self.begun.elapsed() > SEEN;
        let waiting = match self.stopping {
            Some(_) => None,
            None if late => Some(unseen(self.agent)),
            None => self.pods.values().find_map(waits),
        };
        self.progress.waits(waiting.as_deref().unwrap_or_default());
        let all = self.pods.len() == self.left.pods.len();
        let over = |(uid, report): (&String, &Report)| self.gone.contains(uid) || is_over(report);
        if self.stopping.is_none() && all && self.pods.iter().all(over) {
            self.left.remove()?;
            self.stopping = Some(Stopping::Over);
        }
        Ok(())
    }

    /// Pods of ours that were not there before.
    fn find(&mut self) -> anyhow::Result<()> {
        for report in self.agent.reports()? {
            let ours = Path::new(&report.source) == self.left.path && !report.stopping;
            let uid = report.pod.metadata.uid.clone().unwrap_or_default();
            if ours && self.left.pods.iter().any(|name| is_named(&report, name)) && !self.pods.contains_key(&uid) {
                self.begin_output(&uid, &report);
                self.take(uid, report);
            }
        }
        Ok(())
    }

    fn begin_output(&mut self, uid: &str, report: &Report) {
        let spec = report.pod.spec.as_ref();
        let init = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
        let app = spec.into_iter().flat_map(|spec| &spec.containers);
        let names: Vec<String> = init.chain(app).map(|container| container.name.clone()).collect();
        let several = names.len() > 1 || self.left.pods.len() > 1;
        for container in names {
            let name = followed::name(report, &container);
            let prefix = if several { format!("[{}/{container}] ", name.pod) } else { String::new() };
            let (attempts, receiver) = watch::channel(Attempts::default());
            let begin = Begin { since: Some(self.left.since), ..Begin::default() };
            let sender = (self.outputs.len(), self.lines.0.clone());
            let broken = self.broken.0.clone();
            tokio::spawn(async move {
                if let Err(error) = followed::follow(name, begin, receiver, sender).await {
                    // Nobody listens any more once the pods are gone.
                    drop(broken.send(error));
                }
            });
            self.outputs.push(Output { uid: uid.to_owned(), container, prefix, attempts });
        }
    }

    fn take(&mut self, uid: String, report: Report) {
        for line in self.said.events(&report, self.progress.style) {
            self.progress.line(&line);
        }
        self.pods.insert(uid, report);
    }

    fn show(&mut self, (tag, line): followed::Said) -> anyhow::Result<()> {
        let Some(output) = self.outputs.get(tag) else { return Ok(()) };
        let Some(line) = line else {
            if let Some(report) = self.pods.get(&output.uid) {
                for line in self.said.ends(report, Some(&output.container), self.progress.style) {
                    self.progress.line(&line);
                }
            }
            return Ok(());
        };
        let bytes = shown(&output.prefix, &line);
        if self.progress.output(&bytes)? { Ok(()) } else { self.nobody_reads() }
    }

    /// As after SIGPIPE.
    fn nobody_reads(&mut self) -> anyhow::Result<()> {
        if self.stopping.is_some() {
            return Ok(());
        }
        self.stopping = Some(Stopping::Asked(13));
        self.left.remove()
    }

    fn is_done(&self) -> bool {
        self.stopping.is_some() && self.gone.len() == self.pods.len()
    }

    /// What the journal still has of them.
    async fn drain(&mut self) -> anyhow::Result<()> {
        for output in &self.outputs {
            output.attempts.send_modify(|now| now.over = true);
        }
        // The last sender but the followers' own.
        self.lines.0 = mpsc::channel(1).0;
        let patience = Instant::now() + Duration::from_secs(5);
        while let Ok(Some(said)) = tokio::time::timeout_at(patience, self.lines.1.recv()).await {
            self.show(said)?;
        }
        let reports: Vec<Report> = self.pods.values().cloned().collect();
        for report in &reports {
            for line in self.said.ends(report, None, self.progress.style) {
                self.progress.line(&line);
            }
        }
        Ok(())
    }
}
