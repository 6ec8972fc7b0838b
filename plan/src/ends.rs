//! What the log says of containers that ended: each end once, when it is saved.

use k8s_openapi::api::core::v1::Pod;

use crate::history::{Exit, PodHistory};
use crate::pod::containers;
use crate::pod_plan::{ContainerRole, RestartPolicy};

/// The reason of an end that is as it should be.
pub const COMPLETED: &str = "Completed";

/// One end, as it is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// Whose end.
    pub container: String,
    /// The user should look.
    pub warning: bool,
    /// The event's reason.
    pub reason: &'static str,
    /// The event's message.
    pub message: String,
    /// What shows the container's status has it from there; an attempt that never ran is no end there.
    pub ran: bool,
}

/// The ends that `after` knows and `before` did not. `stops`: it is the agent that ends the pod. `refused`: the attempts, by
/// container, of which it was told why they were not started.
pub fn ends(pod: &Pod, before: &PodHistory, after: &PodHistory, stops: bool, refused: &[(String, u32)]) -> Vec<Told> {
    let mut told = Vec::new();
    for (container, now) in &after.containers {
        let known = before.containers.get(container).cloned().unwrap_or_default();
        // Another start of the same unit: its end is the previous one at once.
        let restarted = now.previous.as_ref().filter(|e| known.previous.as_ref() != Some(*e));
        if let Some(exit) = restarted.filter(|e| known.exit.as_ref() != Some(*e)) {
            let message = format!("container {container} {}; somebody else has started it again", how(exit, false));
            told.push(Told { container: container.clone(), warning: true, reason: "Restarted", message, ran: true });
        }
        // A clock that was put back changes a known end, and is none.
        let new = known.exit.is_none() || known.attempt != now.attempt;
        let Some(exit) = now.exit.as_ref().filter(|_| new) else { continue };
        let spec = pod.spec.as_ref();
        let is_init = spec.iter().flat_map(|s| s.init_containers.iter().flatten()).any(|c| c.name == *container);
        let role = if is_init { ContainerRole::Init } else { ContainerRole::App };
        let again = !stops && RestartPolicy::of(pod).restarts_as(role, exit);
        let delay_s = now.backoff.delay_ms / 1000;
        let next = match (again, delay_s) {
            (false, _) => String::new(),
            (true, 0) => "; it is started again".to_owned(),
            (true, _) => format!("; it is started again in {delay_s}s (back-off)"),
        };
        let what = if !exit.never_ran {
            how(&shown(pod, container, exit), stops)
        } else if refused.contains(&(container.clone(), exit.attempt)) {
            // Why was told when it happened.
            "was not started".to_owned()
        } else {
            format!("was not started: {}", shown(pod, container, exit).message)
        };
        let failed = exit.exit_code != 0 || exit.never_ran;
        let reason = match (again && delay_s > 0, failed && !stops) {
            (true, _) => "BackOff",
            (false, true) => "Failed",
            (false, false) => COMPLETED,
        };
        let message = format!("container {container} {what}{next}");
        let container = container.clone();
        told.push(Told { container, warning: failed && !stops, reason, message, ran: !exit.never_ran });
    }
    told
}

fn how(exit: &Exit, stops: bool) -> String {
    let mut text = match exit.signal.filter(|signal| *signal != 0) {
        Some(15) if !stops && exit.message.is_empty() => {
            "was stopped by somebody else than this agent (signal 15)".to_owned()
        }
        Some(signal) => format!("was ended by signal {signal}"),
        None => format!("ended with exit code {}", exit.exit_code),
    };
    for more in [&exit.reason, &exit.message] {
        if !matches!(more.as_str(), "" | "Completed" | "Error") {
            text.push_str(&format!(": {more}"));
        }
    }
    text
}

/// More may read the log than may read the status: where a value may have come into a path, the reason stays there.
fn shown(pod: &Pod, container: &str, exit: &Exit) -> Exit {
    let expands = containers(pod).find(|c| c.name == container).is_some_and(|c| {
        let words = c.command.iter().flatten().take(1);
        let paths = c.volume_mounts.iter().flatten().filter_map(|m| m.sub_path_expr.as_ref());
        words.chain(paths).any(|text| text.contains("$("))
    });
    if expands && !exit.message.is_empty() && (exit.never_ran || exit.reason == "StartError") {
        return Exit { message: "its status says why".to_owned(), ..exit.clone() };
    }
    exit.clone()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::ContainerHistory;

    fn pod(policy: &str, program: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {"restartPolicy": policy, "containers": [{"name": "a", "image": "x", "command": [program]}]},
        }))
        .unwrap()
    }

    fn exit(code: i32, signal: Option<i32>) -> Exit {
        Exit { exit_code: code, signal, finished_ms: 5, reason: "Error".into(), ..Exit::default() }
    }

    fn history(exit: Option<Exit>, exits: u32) -> PodHistory {
        let mut container = ContainerHistory { attempt: Some(0), exit, ..ContainerHistory::default() };
        (0..exits).for_each(|_| container.backoff.on_exit(0));
        PodHistory { containers: [("a".to_owned(), container)].into(), ..PodHistory::default() }
    }

    fn said(pod: &Pod, end: Exit, exits: u32, stops: bool) -> (bool, &'static str, String) {
        let told = ends(pod, &history(None, 0), &history(Some(end), exits), stops, &[]);
        let told = told.into_iter().next().unwrap();
        (told.warning, told.reason, told.message)
    }

    #[test]
    fn an_end_is_told_with_what_follows() {
        let always = pod("Always", "/bin/x");
        let once = pod("Never", "/bin/x");
        let text = "container a ended with exit code 3";
        assert_eq!(said(&once, exit(3, None), 1, false), (true, "Failed", text.to_owned()));
        assert_eq!(said(&always, exit(3, None), 1, false), (true, "Failed", format!("{text}; it is started again")));
        assert_eq!(
            said(&always, exit(3, None), 3, false),
            (true, "BackOff", format!("{text}; it is started again in 20s (back-off)"))
        );
        assert_eq!(said(&once, exit(0, None), 1, false).1, "Completed");
        assert_eq!(said(&once, exit(137, Some(9)), 1, false).2, "container a was ended by signal 9");
        let term = exit(143, Some(15));
        assert!(said(&once, term.clone(), 1, false).2.contains("stopped by somebody else"));
        let stopped = "container a was ended by signal 15".to_owned();
        assert_eq!(said(&always, term, 1, true), (false, "Completed", stopped));
    }

    #[test]
    fn an_end_is_told_once() {
        let pod = pod("Always", "/bin/x");
        let ended = history(Some(exit(3, None)), 1);
        assert!(ends(&pod, &ended, &ended, false, &[]).is_empty());
        let earlier = history(Some(Exit { finished_ms: 1, ..exit(3, None) }), 1);
        assert!(ends(&pod, &ended, &earlier, false, &[]).is_empty(), "the clock was put back");
        // The next attempt begins: the end becomes the previous one.
        let mut begun = history(None, 1);
        let container = begun.containers.get_mut("a").unwrap();
        container.attempt = Some(1);
        container.previous = Some(exit(3, None));
        assert!(ends(&pod, &ended, &begun, false, &[]).is_empty());
        // With no end known before, it was somebody else's start.
        let told = ends(&pod, &history(None, 0), &begun, false, &[]);
        assert_eq!(told.len(), 1);
        assert!(told[0].message.ends_with("somebody else has started it again"), "{told:?}");
    }

    #[test]
    fn a_start_that_failed_says_why_but_no_value() {
        let failed = Exit {
            reason: "StartError".into(),
            message: "exec \"/usr/bin/nope\": no such file".into(),
            ..exit(127, None)
        };
        let text = said(&pod("Never", "/usr/bin/nope"), failed.clone(), 1, false).2;
        assert_eq!(text, "container a ended with exit code 127: StartError: exec \"/usr/bin/nope\": no such file");
        let hidden = said(&pod("Never", "$(TOKEN)"), failed.clone(), 1, false).2;
        assert!(!hidden.contains("nope"), "{hidden}");
        let never = Exit { never_ran: true, ..failed };
        let refused = ends(&pod("Never", "x"), &history(None, 0), &history(Some(never), 1), false, &[("a".into(), 0)]);
        assert_eq!(refused[0].message, "container a was not started; it is started again");
        assert!(!refused[0].ran);
    }
}
