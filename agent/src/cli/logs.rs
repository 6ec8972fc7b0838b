//! `systemk logs`: what a container has written, from the journal of its attempts' units.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use plan::journal::options::{LogOptions, Since};
use plan::journal::{LogLine, LogWriter, sanitize_for_terminal};
use tokio::sync::{mpsc, watch};

use super::followed::{self, Attempts};
use super::output::{is_unread, tell, write};
use super::reports::Agent;
use crate::config::LogsArguments;
use crate::logs::{self, Begin, ContainerName};
use crate::reconcile::report::Report;
use crate::systemd::journal::Journalctl;

/// How often it is looked whether there is a new attempt.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn main(arguments: &LogsArguments) -> anyhow::Result<ExitCode> {
    let options = match options(arguments) {
        Ok(options) => options,
        Err(error) => {
            tell(&format!("systemk: {error}"));
            return Ok(ExitCode::from(2));
        }
    };
    let agent = Agent::at(&arguments.agent.run_dir);
    let report = agent.find(&arguments.namespace, &arguments.pod)?;
    let container = container(&report, arguments.container.as_deref())?;
    let name = followed::name(&report, &container);
    let known = Attempts::of(Some(&report), &container);
    let mut printer = Printer::new(&options);
    crate::app::runtime()?.block_on(async {
        if options.follow {
            let begin = Begin::new(known.newest.unwrap_or(0), &options, report.started_ms, Timestamp::now());
            return follow(&agent, name, begin, &mut printer).await;
        }
        let attempt = shown(&report, &container, options.previous)?;
        let ended = known.ended || known.newest > Some(attempt);
        let begin = Begin::new(attempt, &options, report.started_ms, Timestamp::now());
        let open = logs::open_written(Journalctl::default(), &name, &begin, ended).await;
        let mut lines = open.context("read the journal")?;
        while let Some(line) = lines.next().await.context("read the journal")? {
            if !printer.print(&line)? {
                break;
            }
        }
        printer.finish()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What is wanted, from arguments that make sense together.
fn options(arguments: &LogsArguments) -> anyhow::Result<LogOptions> {
    if arguments.follow && arguments.previous {
        bail!("--previous is the output of an attempt that has ended: there is nothing to --follow");
    }
    let since = |text: &str| {
        Since::from_text(text).with_context(|| {
            format!(
                "--since must be an age such as 90s, 5m or 1h30m, or a time such as 2026-01-31T12:00:00Z, not {text:?}"
            )
        })
    };
    Ok(LogOptions {
        follow: arguments.follow,
        previous: arguments.previous,
        since: arguments.since.as_deref().map(since).transpose()?,
        tail: arguments.tail,
        timestamps: arguments.timestamps,
        ..LogOptions::default()
    })
}

/// The attempt that is shown; a first one also while it is only being started.
fn shown(report: &Report, container: &str, previous: bool) -> anyhow::Result<u32> {
    let pod = report.pod.metadata.name.as_deref().unwrap_or_default();
    let of_report = report.logs.iter().find(|(name, ..)| name == container);
    let newest = Attempts::of(Some(report), container).newest;
    match (of_report, previous) {
        (Some((_, _, Some(before))), true) => Ok(*before),
        (Some((_, Some(now), _)), false) => Ok(*now),
        (_, true) if newest.is_some() => bail!("the container {container} of pod {pod} has not been started before"),
        (..) => newest.with_context(|| {
            format!("the container {container} of pod {pod} has not been started yet: {}", why(report, container))
        }),
    }
}

/// The container that is meant: the only or the first one, said where there are others.
fn container(report: &Report, wanted: Option<&str>) -> anyhow::Result<String> {
    let spec = report.pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let init: Vec<&str> = init.map(|container| container.name.as_str()).collect();
    let app: Vec<&str> = spec.into_iter().flat_map(|spec| &spec.containers).map(|c| c.name.as_str()).collect();
    let all: Vec<&str> = app.iter().chain(&init).copied().collect();
    let pod = report.pod.metadata.name.as_deref().unwrap_or_default();
    match (wanted, all.as_slice()) {
        (Some(wanted), all) if all.contains(&wanted) => Ok(wanted.to_owned()),
        (Some(wanted), all) => bail!("pod {pod} has no container {wanted}; it has {}", all.join(", ")),
        (None, [only]) => Ok((*only).to_owned()),
        (None, [first, ..]) => {
            tell(&format!("systemk: container {first} of {}; -c chooses another", all.join(", ")));
            Ok((*first).to_owned())
        }
        (None, []) => bail!("nothing is known of the containers of pod {pod}: it is being removed"),
    }
}

/// Why a container was not started, as its status says.
fn why(report: &Report, container: &str) -> String {
    let status = report.pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref()).into_iter().flatten();
    let app = status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    let waiting = init.chain(app).find(|c| c.name == container).and_then(|c| c.state.as_ref()?.waiting.as_ref());
    let Some(waiting) = waiting else {
        return status.and_then(|status| status.message.clone()).unwrap_or_else(|| "the pod is new".to_owned());
    };
    let reason = waiting.reason.as_deref().unwrap_or_default();
    match waiting.message.as_deref().filter(|message| !message.is_empty()) {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    }
}

async fn follow(agent: &Agent, name: ContainerName, begin: Begin, printer: &mut Printer) -> anyhow::Result<()> {
    let (attempts, receiver) = watch::channel(Attempts::default());
    let (sender, mut lines) = mpsc::channel(256);
    let (uid, container) = (name.uid.clone(), name.container.clone());
    let following = tokio::spawn(followed::follow(name, begin, receiver, (0, sender)));
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            said = lines.recv() => match said {
                Some((_, Some(line))) => if !printer.print(&line)? { return Ok(()) },
                Some((_, None)) => printer.finish()?,
                None => break,
            },
            _ = tick.tick() => {
                if is_unread() {
                    return Ok(());
                }
                let now = Attempts::of(agent.report(&uid).as_ref(), &container);
                attempts.send_if_modified(|old| std::mem::replace(old, now) != now);
            }
        }
    }
    following.await.context("follow the journal")?.context("read the journal")
}

/// Writes lines to standard output, harmless ones to a terminal.
struct Printer {
    writer: LogWriter,
    terminal: bool,
    open: bool,
}

impl Printer {
    fn new(options: &LogOptions) -> Self {
        let writer = LogWriter::new(options.timestamps, options.limit_bytes);
        Self { writer, terminal: std::io::stdout().is_terminal(), open: false }
    }

    /// False if nobody reads any more.
    fn print(&mut self, line: &LogLine) -> anyhow::Result<bool> {
        let mut bytes = Vec::with_capacity(line.bytes.len() + 1);
        if self.terminal {
            let clean = sanitize_for_terminal(&line.bytes).into_bytes();
            self.writer.write(&LogLine { bytes: clean, ..line.clone() }, &mut bytes);
        } else {
            self.writer.write(line, &mut bytes);
        }
        self.open = line.partial;
        write(&bytes).context("write the output")
    }

    /// An attempt is over: on a terminal its last line ends, so that the prompt or the next attempt has its own.
    fn finish(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.open) && self.terminal {
            write(b"\n").context("write the output")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_attempt_is_what_the_report_says_or_the_first_that_is_started() {
        let report = |logs: serde_json::Value, attempts: serde_json::Value| -> Report {
            let report = json!({
                "pod": {"metadata": {"name": "p"}}, "source": "", "stopping": false, "units": [], "events": [],
                "invocations": [], "logs": logs, "attempts": attempts,
            });
            serde_json::from_value(report).unwrap()
        };
        let second = report(json!([["a", 2, 0]]), json!([["a", 2, false]]));
        assert_eq!((shown(&second, "a", false).unwrap(), shown(&second, "a", true).unwrap()), (2, 0));
        let starts = report(json!([["a", null, null]]), json!([["a", 0, false]]));
        assert_eq!(shown(&starts, "a", false).unwrap(), 0);
        let before = shown(&starts, "a", true).unwrap_err().to_string();
        assert_eq!(before, "the container a of pod p has not been started before");
        for previous in [false, true] {
            let not_yet = shown(&report(json!([]), json!([])), "a", previous).unwrap_err().to_string();
            assert_eq!(not_yet, "the container a of pod p has not been started yet: the pod is new");
        }
    }

    #[test]
    fn the_container_is_the_first_unless_told() {
        let report = json!({
            "pod": {"metadata": {"name": "p"}, "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]}},
            "source": "", "stopping": false, "units": [], "events": [], "invocations": [],
        });
        let report: Report = serde_json::from_value(report).unwrap();
        assert_eq!(container(&report, None).unwrap(), "a");
        assert_eq!(container(&report, Some("i")).unwrap(), "i");
        assert_eq!(container(&report, Some("x")).unwrap_err().to_string(), "pod p has no container x; it has a, b, i");
    }
}
