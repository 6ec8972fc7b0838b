//! Stays with pods from the moment their manifest is there until they are gone. Looks at their reports at a short
//! interval: this is a command in the foreground, not the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use plan::journal::{LogLine, sanitize_for_terminal};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Left;
use super::progress::Progress;
use super::said::{Said, exit_code, is_over, waits};
use super::seen::{is_named, unseen};
use crate::cli::followed::{self, Attempts, Begin, ContainerName};
use crate::cli::output::is_unread;
use crate::cli::reports::{Agent, key};
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

struct Follow<'a> {
    agent: &'a Agent,
    left: Left,
    progress: Progress,
    said: Said,
    /// Newest report of each pod, by uid; also after it is gone.
    pods: BTreeMap<String, Report>,
    gone: BTreeSet<String>,
    outputs: Vec<Output>,
    lines: (mpsc::Sender<followed::Said>, mpsc::Receiver<followed::Said>),
    /// Who asked for the stop that is under way.
    stopping: Option<Stopping>,
    /// A pod went before its end, and not because of us.
    removed: bool,
    begun: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    /// The pods have ended.
    Over,
    /// A signal of this number, or nobody who reads.
    Asked(u8),
    /// Asked twice.
    Forced(u8),
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
        stopping: None,
        removed: false,
        begun: Instant::now(),
    };
    let ended = follow.run().await;
    // Also after an error nothing is left for the agent to run.
    let removed = follow.remove_manifest();
    let code = ended?;
    removed?;
    Ok(code)
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
            tokio::select! {
                said = self.lines.1.recv() => if let Some(said) = said { self.show(said)? },
                number = asked(&mut interrupt, &mut terminate, &mut hangup) => if self.stop(number)? {
                    return Ok(ExitCode::from(128 + number));
                },
                _ = tick.tick() => {
                    self.look()?;
                    if self.is_done() {
                        break;
                    }
                }
            }
        }
        self.drain().await?;
        let reports: Vec<Report> = self.pods.values().cloned().collect();
        Ok(ExitCode::from(match self.stopping {
            Some(Stopping::Asked(number) | Stopping::Forced(number)) => 128 + number,
            // Somebody who waits for the pods' work must not take a removal for its end.
            Some(Stopping::Over) | None => exit_code(&reports).max(u8::from(self.removed)),
        }))
    }

    /// True if the person is tired of waiting.
    fn stop(&mut self, number: u8) -> anyhow::Result<bool> {
        match self.stopping {
            Some(Stopping::Forced(_)) => return Ok(true),
            Some(Stopping::Asked(_)) => {
                self.stopping = Some(Stopping::Forced(number));
                self.progress.line("killing what is left");
                let units: Vec<&str> =
                    self.pods.values().flat_map(|r| &r.units).map(|(_, unit)| unit.as_str()).collect();
                let mut kill = Command::new("systemctl");
                kill.args(["kill", "--signal=SIGKILL"]).args(units).stderr(Stdio::null());
                kill.spawn().context("start systemctl")?;
            }
            Some(Stopping::Over) | None => {
                self.stopping = Some(Stopping::Asked(number));
                self.remove_manifest()?;
                self.progress.line("stopping (once more kills at once)");
            }
        }
        Ok(false)
    }

    fn remove_manifest(&mut self) -> anyhow::Result<()> {
        self.left.lock = None;
        match std::fs::remove_file(&self.left.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.left.path.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
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
            self.stopping = Some(Stopping::Over);
            self.remove_manifest()?;
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
            let name = ContainerName::new(report, &container);
            let prefix = if several { format!("[{}/{container}] ", name.pod) } else { String::new() };
            let (attempts, receiver) = watch::channel(Attempts::default());
            let begin = Begin { attempt: 0, since: Some(self.left.since), tail: None };
            let sender = (self.outputs.len(), self.lines.0.clone());
            tokio::spawn(async move {
                if let Err(error) = followed::follow(name, begin, receiver, sender).await {
                    crate::cli::output::tell(&format!("systemk: cannot read the journal: {error}"));
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
        self.remove_manifest()
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

/// A line as it is printed: always with a newline, as another container's, or a remark of ours, may follow.
fn shown(prefix: &str, line: &LogLine) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(prefix.len() + line.bytes.len() + 1);
    bytes.extend_from_slice(prefix.as_bytes());
    if std::io::stdout().is_terminal() {
        bytes.extend_from_slice(sanitize_for_terminal(&line.bytes).as_bytes());
    } else {
        bytes.extend_from_slice(&line.bytes);
    }
    bytes.push(b'\n');
    bytes
}

async fn asked(interrupt: &mut Signal, terminate: &mut Signal, hangup: &mut Signal) -> u8 {
    tokio::select! {
        _ = hangup.recv() => 1,
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
    }
}
