use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Pod;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::cluster::error::explain;

/// Gives its answers in turn, and remembers what was asked and when.
#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    asked: Arc<Mutex<Vec<(String, Instant)>>>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = (u16, String)>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), asked: Arc::default() }
    }

    fn watch(&self, streams: bool) -> Watch<Pod> {
        let script = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let script = script.clone();
            async move {
                script.asked.lock().unwrap().push((request.uri().to_string(), Instant::now()));
                let next = script.answers.lock().unwrap().pop_front();
                // One that is not scripted is waited for.
                let Some((code, body)) = next else { return std::future::pending().await };
                if code == 0 {
                    return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
                }
                Ok(http::Response::builder().status(code).body(Body::from(body.into_bytes())).unwrap())
            }
        });
        let known = Streams::default();
        if !streams {
            known.are_unknown();
        }
        let fields = Some("spec.nodeName=n".to_owned());
        Watch::new(Client::new(service, "default"), Watched { fields, ..Watched::all(known) })
    }

    /// `list`, or `watch VERSION`, for each request.
    fn asked(&self) -> Vec<String> {
        let short = |uri: &String| match uri.split_once("resourceVersion=") {
            Some((_, version)) if uri.contains("watch=true") => format!("watch {version}"),
            _ => "list".to_owned(),
        };
        self.asked.lock().unwrap().iter().map(|(uri, _)| short(uri)).collect()
    }

    fn pauses(&self) -> Vec<Duration> {
        let asked = self.asked.lock().unwrap();
        asked.windows(2).map(|pair| pair[1].1 - pair[0].1).collect()
    }
}

fn pod(name: &str, version: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "resourceVersion": version.to_string()}})
}

fn list(version: u64, pods: &[Value]) -> (u16, String) {
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": version.to_string()}, "items": pods});
    (200, list.to_string())
}

fn events(events: &[(&str, Value)]) -> (u16, String) {
    (200, events.iter().map(|(kind, object)| format!("{}\n", json!({"type": kind, "object": object}))).collect())
}

fn status(code: u16, retry_after: Option<u32>) -> Value {
    let mut details = json!({"retryAfterSeconds": retry_after.unwrap_or(0)});
    if code == 504 {
        details["causes"] = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
    }
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "code": code, "details": details})
}

fn refusal(code: u16, retry_after: Option<u32>) -> (u16, String) {
    (code, status(code, retry_after).to_string())
}

/// What is said until nothing more is asked for, in short.
async fn told(watch: &mut Watch<Pod>) -> Vec<String> {
    let mut told = Vec::new();
    let short = |pod: Pod| pod.metadata.name.unwrap_or_default();
    while let Ok(next) = timeout(Duration::from_secs(60), watch.next()).await {
        told.push(match next {
            Ok(Event::Init) => "init".to_owned(),
            Ok(Event::InitApply(pod)) => format!("is {}", short(pod)),
            Ok(Event::InitDone) => "done".to_owned(),
            Ok(Event::Apply(pod)) => format!("apply {}", short(pod)),
            Ok(Event::Delete(pod)) => format!("delete {}", short(pod)),
            Err(error) => explain(&error),
        });
    }
    told
}

#[tokio::test(start_paused = true)]
async fn what_there_is_and_what_changes() {
    let script = Script::new([
        list(5, &[pod("a", 3)]),
        events(&[("ADDED", pod("b", 6)), ("BOOKMARK", pod("", 8)), ("DELETED", pod("a", 9))]),
    ]);
    let told = told(&mut script.watch(false)).await;
    assert_eq!(told, ["init", "is a", "done", "apply b", "delete a"]);
    assert_eq!(script.asked(), ["list", "watch 5", "watch 9"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_listed_once_more_however_that_is_said() {
    for gone in [refusal(410, None), events(&[("ERROR", status(410, None))])] {
        let script = Script::new([list(5, &[pod("a", 3)]), gone, list(7, &[pod("a", 3)])]);
        let told = told(&mut script.watch(false)).await;
        assert_eq!(told, ["init", "is a", "done", "init", "is a", "done"]);
        assert_eq!(script.asked(), ["list", "watch 5", "list", "watch 7"]);
        assert!(script.pauses()[1] >= Duration::from_millis(50), "{:?}", script.pauses());
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_is_left_alone_for_as_long_as_it_asks() {
    let script =
        Script::new([refusal(429, Some(7)), list(5, &[]), refusal(429, Some(9)), events(&[("ADDED", pod("a", 6))])]);
    let told = told(&mut script.watch(false)).await;
    assert_eq!(told[1..3], ["init", "done"]);
    assert_eq!(script.asked(), ["list", "list", "watch 5", "watch 5", "watch 6"]);
    let pauses = script.pauses();
    assert!(pauses[0] >= Duration::from_secs(7) && pauses[2] >= Duration::from_secs(9), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn older_lists_and_events_are_not_believed() {
    let script = Script::new([
        list(5, &[pod("a", 3)]),
        events(&[
            ("ADDED", pod("b", 6)),
            ("MODIFIED", pod("a", 4)),
            ("DELETED", pod("a", 8)),
            ("ERROR", status(410, None)),
        ]),
        list(6, &[pod("a", 3), pod("b", 6)]),
        list(9, &[pod("b", 6)]),
    ]);
    let told = told(&mut script.watch(false)).await;
    assert_eq!(told[..5], ["init", "is a", "done", "apply b", "delete a"]);
    assert!(told[5].contains("older list"), "{told:?}");
    assert_eq!(told[6..], ["init", "is b", "done"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_cut_off_is_said_without_its_words() {
    let (_, whole) = list(5, &[pod("password", 3)]);
    let script = Script::new([(200, whole[..whole.len() - 20].to_owned()), list(5, &[])]);
    let told = told(&mut script.watch(false)).await;
    assert!(told[0].contains("it is cut off") && !told[0].contains("password"), "{told:?}");
    assert_eq!(told[1..], ["init", "done"]);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_does_not_keep_those_after_it() {
    let odd = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": ["password"], "resourceVersion": "6"}});
    let script = Script::new([list(5, &[]), events(&[("ADDED", odd.clone()), ("ADDED", pod("b", 7))])]);
    let told = told(&mut script.watch(false)).await;
    assert!(told[2].contains("cannot be read") && !told[2].contains("password"), "{told:?}");
    assert_eq!(told[3..], ["apply b"]);
    assert_eq!(script.asked(), ["list", "watch 5", "watch 7"]);
    // However many: those after them do not wait, and the watch is not given up.
    let mut many: Vec<(&str, Value)> = (6..60).map(|_| ("ADDED", odd.clone())).collect();
    many.push(("ADDED", pod("b", 60)));
    let script = Script::new([list(5, &[]), events(&many)]);
    let mut watch = script.watch(false);
    let began = Instant::now();
    while !matches!(watch.next().await, Ok(Event::Apply(_))) {}
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// One that is deleted while the server tells what there is.
#[tokio::test(start_paused = true)]
async fn what_goes_while_it_is_told_is_not_there() {
    let with_uid = |name: &str, version| {
        let mut pod = pod(name, version);
        pod["metadata"]["uid"] = json!(name);
        pod
    };
    let begun = events(&[
        ("ADDED", with_uid("a", 3)),
        ("ADDED", with_uid("b", 4)),
        ("DELETED", with_uid("a", 5)),
        ("MODIFIED", with_uid("b", 6)),
        ("BOOKMARK", all(7)),
    ]);
    let script = Script::new([begun]);
    assert_eq!(told(&mut script.watch(true)).await, ["init", "is b", "done"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_is_not_begun_in_a_hurry() {
    let script = Script::new([list(5, &[]), events(&[]), events(&[]), events(&[])]);
    told(&mut script.watch(false)).await;
    assert_eq!(script.asked(), ["list", "watch 5", "watch 5", "watch 5", "watch 5"]);
    assert!(script.pauses()[1..].iter().all(|pause| *pause >= Duration::from_millis(50)), "{:?}", script.pauses());
}

/// The end of what there is, in a watch that begins with it.
fn all(version: u64) -> Value {
    let mut mark = pod("", version);
    mark["metadata"]["annotations"] = json!({ALL: "true"});
    mark
}

#[tokio::test(start_paused = true)]
async fn what_there_is_can_begin_the_watch() {
    let begun = events(&[
        ("ADDED", pod("a", 3)),
        ("BOOKMARK", all(7)),
        ("MODIFIED", pod("a", 8)),
        ("ERROR", status(410, None)),
    ]);
    // A server that does not know it is asked for a list, and only that from then on.
    let lists = [refusal(400, None), list(9, &[]), events(&[("ERROR", status(410, None))]), list(9, &[])];
    let script = Script::new([vec![begun], lists.to_vec()].concat());
    let told = told(&mut script.watch(true)).await;
    assert_eq!(told, ["init", "is a", "done", "apply a", "init", "done", "init", "done"]);
    assert_eq!(script.asked()[..6], ["watch ", "watch 8", "list", "watch 9", "list", "watch 9"]);
    let asked = script.asked.lock().unwrap();
    let query = &asked[0].0;
    assert!(query.contains("sendInitialEvents=true") && query.contains("resourceVersionMatch=NotOlderThan"), "{query}");
    let seconds: u64 = query.split("timeoutSeconds=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
    assert!((LASTS.as_secs()..=2 * LASTS.as_secs()).contains(&seconds), "{query}");
}

#[tokio::test(start_paused = true)]
async fn what_all_nodes_share_is_passed_on_as_it_comes() {
    let script = Script::new([events(&[("ADDED", pod("a", 3)), ("ADDED", pod("b", 4)), ("BOOKMARK", all(7))])]);
    let mut watch = script.watch(true);
    watch.watched.fields = None;
    assert_eq!(told(&mut watch).await, ["init", "is a", "is b", "done"]);
    // What had no end is said anew.
    let script =
        Script::new([events(&[("ADDED", pod("a", 3))]), events(&[("ADDED", pod("b", 4)), ("BOOKMARK", all(7))])]);
    let mut watch = script.watch(true);
    watch.watched.fields = None;
    let told = told(&mut watch).await;
    assert!(told[2].contains("ended before all was said"), "{told:?}");
    assert_eq!(
        (&told[..2], &told[3..]),
        (&["init", "is a"].map(str::to_owned)[..], &["init", "is b", "done"].map(str::to_owned)[..])
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_long_outage_all_that_there_is_is_asked_for() {
    let away = std::iter::repeat_n(refusal(503, None), 12);
    let begun = || events(&[("ADDED", pod("a", 3)), ("BOOKMARK", all(7)), ("ERROR", status(500, None))]);
    let script = Script::new(std::iter::once(begun()).chain(away).chain([begun()]));
    let told = told(&mut script.watch(true)).await;
    assert_eq!(told.iter().filter(|told| *told == "init").count(), 2, "{told:?}");
    let asked = script.asked();
    assert_eq!(asked[..2], ["watch ", "watch 7"]);
    assert!(script.asked.lock().unwrap()[12].0.contains("sendInitialEvents=true"), "{asked:?}");
    let longest = script.pauses().into_iter().max().unwrap();
    assert!(longest > Duration::from_secs(10) && longest <= Duration::from_secs(60), "{longest:?}");
}

/// What nobody changes says nothing for hours: that its watch began again is a word, too, and what breaks it then is another
/// matter than what broke it before.
#[tokio::test(start_paused = true)]
async fn two_breaks_a_minute_apart_are_no_outage() {
    let broken = || events(&[("BOOKMARK", pod("", 9)), ("ERROR", status(503, None))]);
    let answers = std::iter::once(list(5, &[])).chain(std::iter::repeat_with(broken).take(40));
    let script = Script::new(answers);
    told(&mut script.watch(false)).await;
    let asked = script.asked();
    assert_eq!(asked.iter().filter(|asked| *asked == "list").count(), 1, "{asked:?}");
    let pauses = script.pauses();
    assert!(pauses.len() > 30 && pauses.iter().all(|pause| *pause <= Duration::from_secs(30)), "{pauses:?}");
}

/// A server that says no is there, and its nodes need not keep out of each other's way for as long.
#[tokio::test(start_paused = true)]
async fn an_answer_ends_an_outage() {
    for (code, longest) in [(403, 30), (410, 30), (500, 30), (502, 60), (503, 60)] {
        let script = Script::new(std::iter::repeat_n(refusal(code, None), 40));
        let pauses = {
            told(&mut script.watch(false)).await;
            script.pauses()
        };
        let most = pauses.iter().max().unwrap();
        assert!(*most <= Duration::from_secs(longest), "{code}: {pauses:?}");
        assert!(longest == 30 || *most > Duration::from_secs(30), "{code}: {pauses:?}");
    }
}

/// Nobody listened there: whoever does now has begun anew.
#[tokio::test(start_paused = true)]
async fn a_server_that_was_away_is_not_asked_to_go_on() {
    let answers = [events(&[("ADDED", pod("a", 3)), ("BOOKMARK", all(7))]), (0, String::new())];
    let script = Script::new(answers.into_iter().chain([events(&[("BOOKMARK", all(9))])]));
    told(&mut script.watch(true)).await;
    let anew: Vec<bool> =
        script.asked.lock().unwrap()[..3].iter().map(|(uri, _)| uri.contains("sendInitialEvents=true")).collect();
    assert_eq!(anew, [true, false, true]);
}

/// Somebody has put back an older etcd: its server never comes to what was seen before.
#[tokio::test(start_paused = true)]
async fn a_server_that_stays_behind_is_believed_in_the_end() {
    let begun = |version| events(&[("BOOKMARK", all(version)), ("ERROR", status(410, None))]);
    let behind = std::iter::repeat_n(refusal(504, None), 40);
    let script = Script::new(std::iter::once(begun(900)).chain(behind).chain([begun(7)]));
    told(&mut script.watch(true)).await;
    let asked = script.asked();
    assert_eq!(asked[1], "watch 900");
    assert!(asked.iter().skip(2).any(|asked| asked == "watch "), "{asked:?}");
}
