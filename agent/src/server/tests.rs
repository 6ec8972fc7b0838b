//! The router with a scripted API server and journalctl, without TLS; what needs a handshake is shown on a real cluster.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Client;
use plan::history::{ContainerHistory, Exit, PodHistory};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

use super::connection::Peer;
use super::gate::{Credentials, Gate, Refusal};
use super::identity::{Certified, User};
use super::pods::NodePods;
use super::router::{Endpoint, routes};
use crate::systemd::journal::Journalctl;
use crate::world::{Entry, Origin, World};

/// What an API server was asked, and whether it answers.
#[derive(Default)]
struct Asked {
    questions: Mutex<Vec<Value>>,
    down: AtomicBool,
}

impl Asked {
    fn count(&self) -> usize {
        self.questions.lock().unwrap().len()
    }
}

/// Knows the token `good` as ann's, and lets ann read pods and admin do all.
fn api_server(asked: &Arc<Asked>) -> Client {
    let asked = Arc::clone(asked);
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let asked = Arc::clone(&asked);
        async move {
            let path = request.uri().path().to_owned();
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let mut review: Value = serde_json::from_slice(&bytes).unwrap();
            asked.questions.lock().unwrap().push(review.clone());
            if asked.down.load(Ordering::Relaxed) {
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
            }
            let spec = &review["spec"];
            review["status"] = if path.ends_with("/tokenreviews") {
                let user = json!({"username": "ann", "uid": "7", "groups": ["g"], "extra": {"k": ["v"]}});
                let good = spec["token"] == "good";
                if good { json!({"authenticated": true, "user": user}) } else { json!({"error": "no such token"}) }
            } else {
                let attributes = &spec["resourceAttributes"];
                let reads = attributes["verb"] == "get" && attributes["subresource"] == "pods";
                json!({"allowed": spec["user"] == "admin" || spec["user"] == "ann" && reads})
            };
            Ok(Response::new(Body::from(review.to_string())))
        }
    });
    Client::new(service, "default")
}

fn certified(name: &str) -> Certified {
    let user = User { name: name.to_owned(), ..User::default() };
    Certified { user, until_s: u64::try_from(i64::MAX).unwrap() }
}

fn shows<'a>(certificate: Option<&'a Certified>, authorization: Option<&'a [u8]>) -> Credentials<'a> {
    Credentials { certificate, authorization }
}

#[tokio::test]
async fn answers_are_asked_for_once_and_grow_old() {
    static NOW_MS: AtomicI64 = AtomicI64::new(1_000_000);
    let asked = Arc::new(Asked::default());
    let gate = Gate::with_clock(api_server(&asked), "edge-7".to_owned(), || NOW_MS.load(Ordering::Relaxed));
    let good = shows(None, Some(b"Bearer good"));
    for _ in 0..3 {
        assert_eq!(gate.admit(&good, "GET", "/pods").await.unwrap().name, "ann");
    }
    assert_eq!(asked.count(), 2);
    let spec = asked.questions.lock().unwrap()[1]["spec"].clone();
    let attributes =
        json!({"verb": "get", "version": "v1", "resource": "nodes", "subresource": "pods", "name": "edge-7"});
    assert_eq!(
        spec,
        json!({"user": "ann", "uid": "7", "groups": ["g"], "extra": {"k": ["v"]}, "resourceAttributes": attributes})
    );
    let refused = gate.admit(&good, "GET", "/containerLogs/a/b/c").await.unwrap_err();
    let text = "Forbidden (user=ann, verb=get, resource=nodes, subresource(s)=[proxy])";
    assert_eq!(refused.to_string(), text);
    assert_eq!(asked.count(), 3);

    // Nobody answers: what is remembered holds for its time, and no longer.
    asked.down.store(true, Ordering::Relaxed);
    NOW_MS.fetch_add(29_000, Ordering::Relaxed);
    assert!(gate.admit(&good, "GET", "/pods").await.is_ok());
    assert_eq!(gate.admit(&good, "GET", "/containerLogs/a/b/c").await.unwrap_err().to_string(), text);
    NOW_MS.fetch_add(1_000, Ordering::Relaxed);
    let unanswered = gate.admit(&good, "GET", "/containerLogs/a/b/c").await.unwrap_err();
    assert!(matches!(&unanswered, Refusal::Unanswered { .. }), "{unanswered}");
    NOW_MS.fetch_add(90_000, Ordering::Relaxed);
    let unanswered = gate.admit(&good, "GET", "/pods").await.unwrap_err().to_string();
    assert!(unanswered.starts_with("cannot ask the API server whose token this is: "), "{unanswered}");
    // A certificate is its own word, but leave is the API server's.
    let admin = certified("admin");
    assert!(matches!(gate.admit(&shows(Some(&admin), None), "GET", "/pods").await, Err(Refusal::Unanswered { .. })));
    asked.down.store(false, Ordering::Relaxed);
    assert!(gate.admit(&shows(Some(&admin), None), "GET", "/pods").await.is_ok());
    asked.down.store(true, Ordering::Relaxed);
    NOW_MS.fetch_add(299_999, Ordering::Relaxed);
    assert!(gate.admit(&shows(Some(&admin), None), "GET", "/pods").await.is_ok());
    NOW_MS.fetch_add(1, Ordering::Relaxed);
    assert!(gate.admit(&shows(Some(&admin), None), "GET", "/pods").await.is_err());
}

#[tokio::test]
async fn nobody_is_anonymous() {
    let asked = Arc::new(Asked::default());
    let gate = Gate::new(api_server(&asked), "edge-7".to_owned());
    for header in [None, Some(&b"Basic YTpi"[..]), Some(b"Bearer"), Some(b"Bearer a b"), Some(b"\xff\xfe")] {
        assert_eq!(gate.admit(&shows(None, header), "GET", "/healthz").await, Err(Refusal::Unauthorized));
    }
    assert_eq!(asked.count(), 0, "nothing to ask about");
    for _ in 0..2 {
        assert_eq!(gate.admit(&shows(None, Some(b"Bearer bad")), "GET", "/healthz").await, Err(Refusal::Unauthorized));
    }
    assert_eq!(asked.count(), 1);
    let mut over = certified("admin");
    over.until_s = 1_000;
    assert_eq!(gate.admit(&shows(Some(&over), None), "GET", "/healthz").await, Err(Refusal::Unauthorized));
    // A name that a terminal would obey, and a method that is none.
    let strange = certified("a\x1b[31m\nb");
    let refused = gate.admit(&shows(Some(&strange), None), "BREW", "/").await.unwrap_err().to_string();
    assert_eq!(refused, "Forbidden (user=a\\u{1b}[31m\\nb, verb=*, resource=nodes, subresource(s)=[proxy])");
}

/// A node with one pod, whose journal is a script.
struct Node {
    router: Router,
    world: Arc<Mutex<World>>,
    reports: watch::Sender<u64>,
    directory: tempfile::TempDir,
    readers: Arc<Semaphore>,
}

fn node(script: &str) -> Node {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("journalctl");
    let entry = "entry() { printf '__CURSOR=%s\\n__REALTIME_TIMESTAMP=5000000\\n_TRANSPORT=stdout\\nPRIORITY=6\\nMESSAGE=%s\\n\\n' $1 \"$2\"; }";
    let text = format!("#!/bin/sh\necho \"$@\" >>{}/arguments\n{entry}\n{script}\n", directory.path().display());
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut world = World::default();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "11111111-2222-3333-4444-555555555555"},
        "spec": {"containers": [{"name": "main"}, {"name": "late"}]},
    }))
    .unwrap();
    let status: PodStatus = serde_json::from_value(json!({"phase": "Running", "containerStatuses": [
        {"name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}},
        {"name": "late", "image": "", "imageID": "", "ready": false, "restartCount": 0,
         "state": {"waiting": {"reason": "ContainerCreating"}}},
    ]}))
    .unwrap();
    let running = ContainerHistory { attempt: Some(0), ..ContainerHistory::default() };
    let mut entry = Entry::new(pod, Origin::Cluster, 0);
    entry.status = Some(status);
    entry.history = Some(PodHistory { containers: [("main".to_owned(), running)].into(), ..PodHistory::default() });
    world.entries.insert("11111111-2222-3333-4444-555555555555".to_owned(), entry);
    let (world, reports) = (Arc::new(Mutex::new(world)), watch::Sender::new(0));
    let readers = Arc::new(Semaphore::new(2));
    let journalctl =
        Journalctl { command: vec!["/bin/sh".into(), program.into()], streams: directory.path().join("streams") };
    let pods = NodePods::new(Arc::clone(&world), reports.subscribe());
    let endpoint = Endpoint { pods, journalctl, readers: Arc::clone(&readers) };
    let gate = Gate::new(api_server(&Arc::default()), "edge-7".to_owned());
    Node { router: routes(gate, endpoint), world, reports, directory, readers }
}

impl Node {
    async fn ask(&self, method: Method, path: &str) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let certificate = Some(Arc::new(certified("admin")));
        request.extensions_mut().insert(Peer { address: ([127, 0, 0, 1], 1).into(), certificate });
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let response = self.ask(Method::GET, path).await;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    fn arguments(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("arguments")).unwrap_or_default()
    }
}

const MAIN: &str = "/containerLogs/shop/web/main";

#[tokio::test]
async fn a_log_and_what_is_none() {
    let node = node("entry a one; entry b two");
    assert_eq!(node.get(MAIN).await, (200, "one\ntwo\n".to_owned()));
    let query = format!("{MAIN}?limitBytes=5&timestamps=false&tailLines=7");
    assert_eq!(node.get(&query).await, (200, "one\nt".to_owned()));
    let arguments = node.arguments();
    assert!(
        arguments.contains("_SYSTEMD_UNIT=systemk.shop.web.main_") && arguments.contains("--lines=7"),
        "{arguments}"
    );
    let stamped = node.get(&format!("{MAIN}?timestamps=true")).await.1;
    assert!(stamped.starts_with("1970-01-01T00:00:05.000000000Z one\n"), "{stamped}");
    let table = [
        (
            "/containerLogs/shop/web/late",
            400,
            "container \"late\" in pod \"web\" is waiting to start: ContainerCreating",
        ),
        (
            "/containerLogs/shop/web/main?previous=1",
            400,
            "previous terminated container \"main\" in pod \"web\" not found",
        ),
        ("/containerLogs/shop/web/none", 404, "container \"none\" not found in pod \"web\""),
        ("/containerLogs/default/web/main", 404, "pod \"web\" does not exist"),
        ("/containerLogs/shop/--follow%0a/main", 404, "pod \"--follow\\n\" does not exist"),
        (
            "/containerLogs/shop/web/main?tailLines=x",
            400,
            "Unable to decode query: tailLines must be an integer, not \"x\"",
        ),
        ("/exec/shop/web/main", 501, "systemk does not support exec in this version"),
        ("/containerLogs/shop/web", 404, "404 page not found"),
        ("/healthz/nothing", 404, "404 page not found"),
    ];
    let before = node.arguments();
    for (path, code, text) in table {
        assert_eq!(node.get(path).await, (code, text.to_owned()), "{path}");
    }
    assert_eq!(node.arguments(), before, "no journalctl was started for any of them");
}

#[tokio::test]
async fn verbs_pods_and_health() {
    let node = node("true");
    for method in [Method::POST, Method::DELETE, Method::HEAD, Method::OPTIONS] {
        let response = node.ask(method.clone(), MAIN).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(response.headers()["allow"], "GET");
    }
    for path in ["/healthz", "/healthz/ping", "/healthz/log", "/healthz/syncloop"] {
        assert_eq!(node.get(path).await, (200, "ok".to_owned()), "{path}");
    }
    let list: Value = serde_json::from_str(&node.get("/pods").await.1).unwrap();
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]["name"]), (&json!("PodList"), &json!("web")));
    assert_eq!(list["items"][0]["status"]["phase"], "Running");
    drop(node.reports);
    let mut request = Request::get("/healthz").body(Body::empty()).unwrap();
    let certificate = Some(Arc::new(certified("admin")));
    request.extensions_mut().insert(Peer { address: ([127, 0, 0, 1], 1).into(), certificate });
    let response = node.router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "the loop is gone");
}

/// A process of ours, by the arguments that only it has.
fn follows(directory: &Path) -> bool {
    let script = directory.join("journalctl").display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(&script))
}

async fn piece(body: &mut Body) -> Option<String> {
    let frame = body.frame().await?.unwrap();
    Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
}

/// Fails where it takes more than half a minute.
async fn soon(what: &str, mut is: impl FnMut() -> bool) {
    let waited = async {
        while !is() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), waited).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn a_follower_ends_with_the_attempt_or_with_its_client() {
    let node =
        node("case \"$*\" in *--follow*) entry a one; exec sleep 1000;; *--after-cursor=a*) entry b last;; esac");
    let mut body = node.ask(Method::GET, &format!("{MAIN}?follow=true")).await.into_body();
    assert_eq!(piece(&mut body).await.as_deref(), Some("one\n"));
    node.reports.send_modify(|count| *count += 1);
    // Something was reported, but not its end: both go on.
    let mut second = node.ask(Method::GET, &format!("{MAIN}?follow=true")).await.into_body();
    assert_eq!(piece(&mut second).await.as_deref(), Some("one\n"));
    assert_eq!(node.ask(Method::GET, MAIN).await.status(), StatusCode::TOO_MANY_REQUESTS);
    drop(second);
    assert_eq!(node.readers.available_permits(), 1);
    let end = || {
        let mut world = node.world.lock().unwrap();
        let entry = world.entries.values_mut().next().unwrap();
        let containers = &mut entry.history.as_mut().unwrap().containers;
        containers.get_mut("main").unwrap().exit = Some(Exit::default());
    };
    end();
    node.reports.send_modify(|count| *count += 1);
    assert_eq!(piece(&mut body).await.as_deref(), Some("last\n"));
    assert_eq!(piece(&mut body).await, None);
    assert_eq!(node.readers.available_permits(), 2);
    soon("no journalctl is left", || !follows(node.directory.path())).await;
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_is_told() {
    let node = node("echo 'no such journal' >&2; exit 3");
    let told = "cannot read the journal: journalctl: exit status: 3: no such journal";
    assert_eq!(node.get(MAIN).await, (500, told.to_owned()));
    assert_eq!(node.readers.available_permits(), 2);
    // After the first words there is no other way to say it than to break off.
    let cut = self::node("case \"$*\" in *--follow*) entry a one; exit 3;; esac");
    let mut body = cut.ask(Method::GET, &format!("{MAIN}?follow=true")).await.into_body();
    assert_eq!(piece(&mut body).await.as_deref(), Some("one\n"));
    assert!(body.frame().await.unwrap().is_err());
}
