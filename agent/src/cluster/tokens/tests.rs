use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// How long anything may take here.
const LONG: Duration = Duration::from_secs(10);

/// An API server that answers as it is told, and what it was asked: path and body.
#[derive(Clone, Default)]
struct Api {
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Api {
    fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let path = format!("{} {}", request.method(), request.uri().path());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                api.asked.lock().unwrap().push((path, serde_json::from_slice(&body).unwrap()));
                let answer = api.answers.lock().unwrap().pop_front();
                let Some((code, body)) = answer else { std::future::pending().await };
                let body = Body::from(serde_json::to_vec(&body).unwrap());
                Ok::<_, std::convert::Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }

    fn grants(&self, token: &str, seconds: i64) {
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
            "spec": {"expirationSeconds": seconds}, "status": {"token": token, "expirationTimestamp": "2000-01-01T00:00:00Z"},
        });
        self.answers.lock().unwrap().push_back((201, body));
    }

    fn fails(&self, code: u16, message: &str) {
        // As the API server's: what is forbidden or not found is named.
        let kind = message.split(' ').next();
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code,
            "details": {"kind": kind}});
        self.answers.lock().unwrap().push_back((code, body));
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

struct Node {
    api: Api,
    tokens: Arc<Tokens>,
    clock_ms: Arc<AtomicI64>,
    woken: mpsc::UnboundedReceiver<Wake>,
    pod: Pod,
}

impl Node {
    fn new() -> Self {
        let api = Api::default();
        let (wake, woken) = mpsc::unbounded_channel();
        let clock_ms = Arc::new(AtomicI64::new(1_000_000));
        let clock = Arc::clone(&clock_ms);
        let clock = Box::new(move || clock.load(Ordering::SeqCst));
        let tokens = Arc::new(Tokens { clock, ..Tokens::new(wake) });
        tokio::spawn(keep(Arc::clone(&tokens), api.client()));
        let pod = "{metadata: {name: p, namespace: ns, uid: u}, spec: {serviceAccountName: robot, containers: []}}";
        Self { api, tokens, clock_ms, woken, pod: serde_saphyr::from_str(pod).unwrap() }
    }

    /// What one look at the pod finds of a token: its text, why there is none (`-`), or that it is awaited (`?`).
    fn look(&self, ended: bool) -> String {
        let found = self.tokens.of_pod(&self.pod, &[key(None)], ended);
        let shown = format!("{:?}", found.tokens);
        assert!(!shown.contains("secret"), "{shown}");
        match found.tokens.get(&key(None)) {
            Some(Ok(token)) => String::from_utf8(token.as_bytes().to_vec()).unwrap(),
            Some(Err(why)) => format!("-{why}"),
            None => format!("?{}", found.awaited.join(", ")),
        }
    }

    /// The pod is to be looked at again.
    async fn woken(&mut self) {
        match tokio::time::timeout(LONG, self.woken.recv()).await.unwrap().unwrap() {
            Wake::Pod(uid) => assert_eq!(uid, "u"),
            other => panic!("{other:?}"),
        }
    }

    /// Looks until it finds that; the pod's wakes say when.
    async fn finds(&mut self, expected: &str) {
        loop {
            let found = self.look(false);
            if found == expected {
                return;
            }
            tokio::time::timeout(LONG, self.woken()).await.unwrap_or_else(|_| panic!("{found}"));
        }
    }

    fn later(&self, seconds: i64) {
        self.clock_ms.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// Until the API server was asked so often: nothing says so here.
    async fn is_asked(&self, times: usize) {
        let asked = async {
            while self.api.asked() < times {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, asked).await.unwrap();
    }
}

fn key(audience: Option<&str>) -> TokenKey {
    TokenKey { audience: audience.map(str::to_owned), expiration_seconds: 3607 }
}

#[tokio::test]
async fn a_token_is_asked_for_once_bound_to_the_pod() {
    let mut node = Node::new();
    node.api.grants("secret-1", 3607);
    assert_eq!(node.look(false), "?a token of ServiceAccount robot");
    node.woken().await;
    assert_eq!(node.look(false), "secret-1");
    assert_eq!(node.look(false), "secret-1");
    // Another audience is another token, asked for beside the one that is known.
    node.api.grants("secret-vault", 3607);
    let both = [key(None), key(Some("vault"))];
    assert_eq!(node.tokens.of_pod(&node.pod, &both, false).awaited.len(), 1);
    node.woken().await;
    assert_eq!(node.tokens.of_pod(&node.pod, &both, false).tokens.len(), 2);
    let asked = node.api.asked.lock().unwrap().clone();
    let paths: Vec<&str> = asked.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["POST /api/v1/namespaces/ns/serviceaccounts/robot/token"; 2]);
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"});
    assert_eq!(asked[0].1["spec"], json!({"boundObjectRef": bound, "expirationSeconds": 3607}));
    assert_eq!(asked[1].1["spec"]["audiences"], json!(["vault"]));
}

#[tokio::test]
async fn it_is_asked_for_anew_at_four_fifths_of_what_was_granted() {
    let mut node = Node::new();
    // Less than what was asked for.
    node.api.grants("secret-1", 600);
    node.finds("secret-1").await;
    node.later(469);
    assert_eq!(node.look(false), "secret-1");
    node.later(12);
    node.api.grants("secret-2", 600);
    // The look gives the old one, which is still good; the new one is a reason to look again.
    assert_eq!(node.look(false), "secret-1");
    node.woken().await;
    assert_eq!(node.look(false), "secret-2");
    assert_eq!(node.api.asked(), 2);
}

#[tokio::test]
async fn a_token_that_cannot_be_had_anew_is_used_until_it_ends_and_not_after() {
    let mut node = Node::new();
    node.api.grants("secret-1", 600);
    node.finds("secret-1").await;
    node.later(500);
    node.api.fails(500, "no storage");
    assert_eq!(node.look(false), "secret-1");
    node.woken().await;
    assert_eq!(node.look(false), "secret-1");
    node.later(101);
    node.api.fails(500, "no storage");
    let expired = "-token expired and refresh failed: the API server answered 500: no storage";
    assert_eq!(node.look(false), expired);
    node.is_asked(3).await;
    node.later(60);
    node.api.grants("secret-2", 600);
    node.finds("secret-2").await;
}

#[tokio::test]
async fn a_refusal_right_after_binding_is_only_lag() {
    let unrelated = "serviceaccounts \"robot\" is forbidden: no relationship found between node and this object";
    for (code, refusal) in [(403, unrelated), (404, "pods \"p\" not found")] {
        let mut node = Node::new();
        node.api.fails(code, refusal);
        assert_eq!(node.look(false), "?a token of ServiceAccount robot");
        node.finds(&format!("?a token of ServiceAccount robot ({refusal})")).await;
        for _ in 0..3 {
            node.api.fails(code, refusal);
            node.later(60);
            let asked = node.api.asked();
            node.look(false);
            node.is_asked(asked + 1).await;
        }
        node.finds(&format!("-failed to fetch token: {refusal}")).await;
        node.api.grants("secret-1", 600);
        node.later(60);
        node.finds("secret-1").await;
    }
}

#[tokio::test]
async fn a_missing_account_is_told_at_once_in_the_kubelets_words() {
    let mut node = Node::new();
    node.api.fails(404, "serviceaccounts \"robot\" not found");
    node.finds("-failed to fetch token: serviceaccounts \"robot\" not found").await;
    // An answer that is no TokenRequest is not repeated: it may hold one all the same.
    node.api.answers.lock().unwrap().push_back((201, json!({"status": {"token": ["secret-1"]}})));
    node.later(60);
    node.finds("-failed to fetch token: the API server's answer is not a TokenRequest").await;
    node.api.answers.lock().unwrap().push_back((201, json!({"status": {"token": ""}})));
    node.later(60);
    node.finds("-failed to fetch token: the API server's answer holds no token").await;
}

#[tokio::test]
async fn nothing_is_kept_for_a_pod_that_is_gone_nor_asked_for_one_that_ended() {
    let mut node = Node::new();
    node.api.grants("secret-1", 600);
    node.finds("secret-1").await;
    node.later(10_000);
    // It has it in its volume: nothing is written, nothing asked for.
    assert_eq!(node.look(true), "secret-1");
    assert!(node.tokens.with(|pods| slots::next(pods, i64::MAX)).is_err_and(|at| at.is_none()));
    node.tokens.release("u");
    assert!(node.tokens.with(|pods| pods.is_empty()));
    // As after a restart of the agent.
    assert_eq!(node.look(true), "?a token of ServiceAccount robot");
    assert!(node.tokens.with(|pods| slots::next(pods, i64::MAX)).is_err_and(|at| at.is_none()));
    // The answer to a request that was under way finds nobody.
    assert_eq!(node.look(false), "?a token of ServiceAccount robot");
    node.is_asked(2).await;
    assert!(node.tokens.of_pod(&node.pod, &[], false).tokens.is_empty());
    assert!(node.tokens.with(|pods| pods.is_empty()));
    assert_eq!(node.api.asked(), 2);
}

#[tokio::test]
async fn no_more_than_a_few_are_asked_for_at_once() {
    let node = Node::new();
    for number in 0..40 {
        let mut pod = node.pod.clone();
        pod.metadata.uid = Some(format!("u{number}"));
        node.tokens.of_pod(&pod, &[key(None)], false);
    }
    node.is_asked(IN_FLIGHT).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.api.asked(), IN_FLIGHT);
}
