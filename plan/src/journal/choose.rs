//! Which attempt of a container `logs` shows, and which one `logs --previous`: k8s.io/kubernetes `pkg/kubelet/kubelet_pods.go`,
//! validateContainerLogStatus. An attempt is a unit of its own, so the answer is a number.

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

use crate::history::ContainerHistory;

/// Why there is no log to show. Printed in the kubelet's words, which tools look for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLog {
    /// The pod's status says nothing of the container: it was rejected, or is just being looked at.
    #[error("container {container:?} in pod {pod:?} is not available")]
    NotAvailable {
        /// The pod's name.
        pod: String,
        /// The container's.
        container: String,
    },
    /// It was not started yet.
    #[error("container {container:?} in pod {pod:?} is waiting to start{}", why(.reason))]
    Waiting {
        /// The pod's name.
        pod: String,
        /// The container's.
        container: String,
        /// The reason in its status; empty: none.
        reason: String,
    },
    /// It was never started and never will be.
    #[error("container {container:?} in pod {pod:?} is terminated")]
    Terminated {
        /// The pod's name.
        pod: String,
        /// The container's.
        container: String,
    },
    /// There was no run before.
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious {
        /// The pod's name.
        pod: String,
        /// The container's.
        container: String,
    },
}

fn why(reason: &str) -> String {
    match reason {
        "" => " - no logs yet".to_owned(),
        "ErrImagePull" => ": image can't be pulled".to_owned(),
        "ImagePullBackOff" => ": trying and failing to pull image".to_owned(),
        other => format!(": {other}"),
    }
}

/// The number of the attempt whose log is shown.
///
/// # Errors
/// There is none.
pub fn attempt(
    pod: &str,
    container: &str,
    status: &PodStatus,
    history: &ContainerHistory,
    previous: bool,
) -> Result<u32, NoLog> {
    let (pod, container) = (pod.to_owned(), container.to_owned());
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let Some(shown) = lists.into_iter().flatten().flatten().find(|shown| shown.name == container) else {
        return Err(NoLog::NotAvailable { pod, container });
    };
    let state = shown.state.clone().unwrap_or_default();
    let last = last(shown, history);
    if previous {
        return last.ok_or(NoLog::NoPrevious { pod, container });
    }
    match (state.running, state.terminated, last) {
        (Some(_), ..) => history.attempt.ok_or(NoLog::NotAvailable { pod, container }),
        (None, Some(_), last) => {
            let newest = history.attempt.filter(|_| history.exit.as_ref().is_none_or(|exit| !exit.never_ran));
            newest.or(last).ok_or(NoLog::Terminated { pod, container })
        }
        // The next attempt has begun, which the status will say in a moment.
        (None, None, Some(last)) => Ok(history.attempt.filter(|_| history.exit.is_none()).unwrap_or(last)),
        // A kubelet has no log before there was a program; a unit has one from its first ExecStartPre= on.
        (None, None, None)
            if history.exit.as_ref().is_some_and(|exit| exit.never_ran && !exit.invocation.is_empty()) =>
        {
            history.attempt.ok_or(NoLog::NotAvailable { pod, container })
        }
        (None, None, None) => {
            let reason = state.waiting.and_then(|waiting| waiting.reason).unwrap_or_default();
            Err(NoLog::Waiting { pod, container, reason })
        }
    }
}

/// The attempt that `lastState` shows: of a container that waits for its next start the one that has just ended.
fn last(shown: &ContainerStatus, history: &ContainerHistory) -> Option<u32> {
    shown.last_state.as_ref()?.terminated.as_ref()?;
    let waits = shown.state.as_ref().is_some_and(|state| state.waiting.is_some());
    let newest = history.exit.as_ref().filter(|exit| waits && !exit.never_ran);
    newest.or(history.previous.as_ref()).map(|exit| exit.attempt)
}

/// Whether nothing more is written by that attempt. A container of which nothing is known writes nothing.
pub fn has_ended(history: Option<&ContainerHistory>, attempt: u32) -> bool {
    history.is_none_or(|known| known.attempt > Some(attempt) || known.exit.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::history::Exit;

    fn status(state: &Value, last: &Value) -> PodStatus {
        let of = |name: &str| json!([{"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state, "lastState": last}]);
        serde_json::from_value(json!({"containerStatuses": of("main"), "initContainerStatuses": of("first")})).unwrap()
    }

    fn exit(attempt: u32) -> Option<Exit> {
        Some(Exit { attempt, ..Exit::default() })
    }

    fn chosen(state: &Value, last: &Value, history: &ContainerHistory, previous: bool) -> Result<u32, String> {
        let status = status(state, last);
        let of = |name: &str| attempt("web", name, &status, history, previous).map_err(|no| no.to_string());
        assert_eq!(of("first").map_err(|no| no.replace("first", "main")), of("main"));
        of("main")
    }

    #[test]
    fn the_kubelets_choice() {
        let (ended, none) = (json!({"terminated": {"exitCode": 1}}), json!({}));
        let (runs, waits) = (json!({"running": {}}), json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        let first = ContainerHistory { attempt: Some(0), ..ContainerHistory::default() };
        let first_ended = ContainerHistory { exit: exit(0), ..first.clone() };
        // Attempt 1 never ran, so the run before 2 was 0.
        let third = ContainerHistory { attempt: Some(2), previous: exit(0), ..ContainerHistory::default() };
        let third_ended = ContainerHistory { exit: exit(2), ..third.clone() };
        let failed = Some(Exit { attempt: 1, never_ran: true, ..Exit::default() });
        let second_failed =
            ContainerHistory { attempt: Some(1), exit: failed, previous: exit(0), ..ContainerHistory::default() };
        let table = [
            (&runs, &none, &first, Ok(0), Err("previous terminated container \"main\" in pod \"web\" not found")),
            (
                &ended,
                &none,
                &first_ended,
                Ok(0),
                Err("previous terminated container \"main\" in pod \"web\" not found"),
            ),
            (&waits, &ended, &first_ended, Ok(0), Ok(0)),
            (&runs, &ended, &third, Ok(2), Ok(0)),
            (&waits, &ended, &third_ended, Ok(2), Ok(2)),
            (&waits, &ended, &third, Ok(2), Ok(0)),
            (&ended, &ended, &third_ended, Ok(2), Ok(0)),
            (&waits, &ended, &second_failed, Ok(0), Ok(0)),
            (&ended, &ended, &second_failed, Ok(0), Ok(0)),
        ];
        for (state, last, history, now, before) in table {
            assert_eq!(chosen(state, last, history, false), now.map_err(str::to_owned), "{state} {history:?}");
            assert_eq!(chosen(state, last, history, true), before.map_err(str::to_owned), "{state} {history:?}");
        }
    }

    #[test]
    fn nothing_to_show_in_the_kubelets_words() {
        let none = ContainerHistory::default();
        let table = [
            (json!({"waiting": {"reason": "ContainerCreating"}}), "is waiting to start: ContainerCreating"),
            (json!({"waiting": {"reason": "PodInitializing"}}), "is waiting to start: PodInitializing"),
            (json!({"waiting": {"reason": "ErrImagePull"}}), "is waiting to start: image can't be pulled"),
            (
                json!({"waiting": {"reason": "ImagePullBackOff"}}),
                "is waiting to start: trying and failing to pull image",
            ),
            (json!({}), "is waiting to start - no logs yet"),
            (json!({"terminated": {"exitCode": 137}}), "is terminated"),
            (json!({"running": {}}), "is not available"),
        ];
        // Its ExecStartPre= failed, and has said why.
        let exit = Exit { invocation: "i".to_owned(), never_ran: true, ..Exit::default() };
        let begun = ContainerHistory { attempt: Some(0), exit: Some(exit), ..ContainerHistory::default() };
        let failed = json!({"waiting": {"reason": "CreateContainerError"}});
        assert_eq!(chosen(&failed, &json!({}), &begun, false), Ok(0));
        for (state, text) in table {
            let expected = format!("container \"main\" in pod \"web\" {text}");
            assert_eq!(chosen(&state, &json!({}), &none, false), Err(expected));
        }
        let unknown = attempt("web", "other", &PodStatus::default(), &none, false).unwrap_err().to_string();
        assert_eq!(unknown, "container \"other\" in pod \"web\" is not available");
    }

    #[test]
    fn an_attempt_ends_with_its_exit_or_its_successor() {
        let running = ContainerHistory { attempt: Some(1), ..ContainerHistory::default() };
        assert!(has_ended(Some(&running), 0) && !has_ended(Some(&running), 1));
        assert!(has_ended(Some(&ContainerHistory { exit: exit(1), ..running }), 1) && has_ended(None, 0));
    }
}
