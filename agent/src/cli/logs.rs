//! `systemk logs`: what a container has written, from the journal of its attempts' units.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use plan::journal::{LogLine, LogWriter, sanitize_for_terminal};
use tokio::sync::{mpsc, watch};

use super::followed::{self, Attempts, Begin, ContainerName};
use super::output::{is_unread, tell, write};
use super::reports::Agent;
use crate::config::LogsArguments;
use crate::reconcile::report::Report;

/// How often it is looked whether there is a new attempt.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn main(arguments: &LogsArguments) -> anyhow::Result<ExitCode> {
    let since = match checked(arguments) {
        Ok(since) => since,
        Err(error) => {
            tell(&format!("systemk: {error}"));
            return Ok(ExitCode::from(2));
        }
    };
    let agent = Agent::at(&arguments.agent.run_dir);
    let report = agent.find(&arguments.namespace, &arguments.pod)?;
    let container = container(&report, arguments.container.as_deref())?;
    let name = ContainerName::new(&report, &container);
    let begin = begin(&report, since, arguments.tail);
    let Attempts { newest, ended, .. } = Attempts::of(Some(&report), &container);
    let mut printer = Printer::new(arguments.timestamps);
    crate::app::runtime()?.block_on(async {
        if arguments.follow {
            let begin = Begin { attempt: newest.unwrap_or(0), ..begin };
            return follow(&agent, name, begin, &mut printer).await;
        }
        let attempt = match (newest, arguments.previous) {
            (Some(newest), false) => newest,
            (Some(newest), true) if newest > 0 => newest - 1,
            (Some(_), true) => bail!("the container {container} of pod {} has not been started before", name.pod),
            (None, _) => bail!(
                "the container {container} of pod {} has not been started yet: {}",
                name.pod,
                why(&report, &container)
            ),
        };
        let query = followed::query(&name, attempt, &begin, false);
        for line in followed::written_so_far(query, ended).await.context("read the journal")? {
            if !printer.print(&line)? {
                break;
            }
        }
        printer.finish()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// When the lines begin, from arguments that make sense together.
fn checked(arguments: &LogsArguments) -> anyhow::Result<Option<Timestamp>> {
    if arguments.follow && arguments.previous {
        bail!("--previous is the output of an attempt that has ended: there is nothing to --follow");
    }
    arguments.since.as_deref().map(|text| since(text, Timestamp::now())).transpose()
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

/// Units of the same names may have run for an earlier pod of the same manifest: nothing before this one is its own.
fn begin(report: &Report, since: Option<Timestamp>, tail: Option<u64>) -> Begin {
    let started = Timestamp::from_millisecond(report.started_ms).ok();
    Begin { attempt: 0, since: since.max(started), tail }
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
    fn new(timestamps: bool) -> Self {
        Self { writer: LogWriter::new(timestamps, None), terminal: std::io::stdout().is_terminal(), open: false }
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

/// `90s`, `5m`, `2h`, `1h30m`, `3d`, or a time of RFC 3339.
fn since(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let seconds = duration(text).with_context(|| {
        format!("--since must be an age such as 90s, 5m or 1h30m, or a time such as 2026-01-31T12:00:00Z, not {text:?}")
    })?;
    Ok(now.checked_sub(jiff::SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn duration(text: &str) -> Option<i64> {
    let mut seconds: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.chars().next()?;
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 24 * 3600,
            _ => return None,
        };
        seconds = number.parse::<i64>().ok()?.checked_mul(factor)?.checked_add(seconds)?;
        rest = tail.get(unit.len_utf8()..)?;
    }
    (!text.is_empty()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn since_is_an_age_or_a_time() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let at = |text: &str| since(text, now).unwrap().to_string();
        assert_eq!(at("90s"), "2026-01-01T23:58:30Z");
        assert_eq!(at("1h30m"), "2026-01-01T22:30:00Z");
        assert_eq!(at("1d"), "2026-01-01T00:00:00Z");
        assert_eq!(at("2025-12-31T10:00:00+02:00"), "2025-12-31T08:00:00Z");
        for wrong in ["", "5", "m", "5x", "5mm", "-5m", "yesterday", "99999999999999999999s"] {
            assert!(since(wrong, now).is_err(), "{wrong}");
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
