use serde_json::Map;

use super::config::CONFIG_KIND;
use super::*;

fn with(mut base: Value, changes: Value) -> Value {
    base.as_object_mut().unwrap().append(changes.as_object().cloned().as_mut().unwrap());
    base
}

fn config(changes: Value) -> Result<Vec<Provider>, InvalidProviders> {
    let base = json!({ "name": "ecr", "matchImages": ["*.dkr.example.com"], "apiVersion": API_VERSION });
    let provider = with(with(base, json!({ "defaultCacheDuration": "12h" })), changes);
    read_config(&json!({ "apiVersion": CONFIG_API_VERSION, "kind": CONFIG_KIND, "providers": [provider] }))
}

fn tokens(changes: Value) -> Value {
    let base = json!({ "serviceAccountTokenAudience": "aud", "cacheType": "ServiceAccount" });
    json!({ "tokenAttributes": with(with(base, json!({ "requireServiceAccount": true })), changes) })
}

fn provider(changes: Value) -> Provider {
    config(changes).unwrap().remove(0)
}

fn account() -> Account {
    let annotations = BTreeMap::from([("example.com/role".to_owned(), "puller".to_owned())]);
    let [namespace, name, uid, token] = ["ns", "sa", "u1", "t0ken"].map(str::to_owned);
    Account { namespace, name, uid, annotations, token }
}

fn answer(changes: Value) -> String {
    let base = json!({ "kind": RESPONSE_KIND, "apiVersion": API_VERSION, "cacheKeyType": "Registry" });
    let auth = json!({ "auth": { "*.dkr.example.com": { "username": "AWS", "password": "hunter2" } } });
    with(with(base, auth), changes).to_string()
}

const IMAGE: &str = "1.dkr.example.com/app:v1";

#[test]
fn a_configuration() {
    let made = provider(json!({ "args": ["get", "-v"], "env": [{ "name": "A", "value": "b" }, { "name": "C" }] }));
    assert!(!format!("{made:?}").contains("-v") && !format!("{made:?}").contains("\"b\""));
    assert_eq!(made.name, "ecr");
    assert_eq!(made.default_cache_duration, Duration::from_secs(12 * 3600));
    assert_eq!(made.args, ["get", "-v"]);
    assert_eq!(made.env, [("A".to_owned(), "b".to_owned()), ("C".to_owned(), String::new())]);
    assert_eq!(made.token_attributes, None);
    let old = provider(json!({ "apiVersion": "credentialprovider.kubelet.k8s.io/v1alpha1" }));
    assert!(old.request(IMAGE, None).contains("v1alpha1"));
}

#[test]
fn refused_with_the_fields_path() {
    let (required, optional) = ("requiredServiceAccountAnnotationKeys", "optionalServiceAccountAnnotationKeys");
    let cases = json!([
        ["name: is required", { "name": "" }], ["name: is required", { "name": null }],
        ["name: \"foo/../bar\" holds a / or", { "name": "foo/../bar" }], ["name: \".\" is not", { "name": "." }],
        ["name: \"foo bar\" holds a / or", { "name": "foo bar" }], ["name: \"..\" is not", { "name": ".." }],
        ["name: \"a\\n\" holds a control", { "name": "a\n" }], ["name: is not a string", { "name": 1 }],
        ["name: \"aaa", { "name": "a".repeat(256) }], ["apiVersion: is required", { "apiVersion": null }],
        ["apiVersion: \"cred", { "apiVersion": "credentialprovider.kubelet.k8s.io/v2" }],
        ["matchImages: needs", { "matchImages": [] }], ["matchImages[1]: \"%a%\"", { "matchImages": ["a", "%a%"] }],
        ["defaultCacheDuration: is required", { "defaultCacheDuration": null }],
        ["defaultCacheDuration: \"-1m\" is less", { "defaultCacheDuration": "-1m" }],
        ["defaultCacheDuration: \"1 day\" is not", { "defaultCacheDuration": "1 day" }],
        ["defaultCacheDuration: is not a string", { "defaultCacheDuration": 60 }],
        ["unknown: is not a field", { "unknown": 1 }], ["args: is not a list", { "args": "hunter2" }],
        ["args: no argument", { "args": ["\0"] }], ["args[1]: is not", { "args": ["a", 1] }],
        ["env[0].name: is required", { "env": [{ "value": "hunter2" }] }], ["env[0]: is not", { "env": ["x"] }],
        ["env[0].name: no variable", { "env": [{ "name": "A=", "value": "hunter2" }] }],
        ["env[0].name: no variable", { "env": [{ "name": "A", "value": "hunter2\0" }] }],
        ["env[0].value: is not", { "env": [{ "name": "A", "value": ["hunter2"] }] }],
        ["tokenAttributes: is not an object", { "tokenAttributes": [] }],
        ["tokenAttributes.serviceAccountTokenAudience: is", tokens(json!({ "serviceAccountTokenAudience": "" }))],
        ["tokenAttributes.cacheType: is required", tokens(json!({ "cacheType": "" }))],
        ["tokenAttributes.cacheType: \"Pod\" is not", tokens(json!({ "cacheType": "Pod" }))],
        ["tokenAttributes.requireServiceAccount: is", tokens(json!({ "requireServiceAccount": null }))],
        [format!("tokenAttributes.{required}[0]: \"ends-\""), tokens(json!({ required: ["ends-"] }))],
        [format!("tokenAttributes.{optional}[0]: \"a/b/c\""), tokens(json!({ optional: ["a/b/c"] }))],
        [format!("tokenAttributes.{required}[1]: \"a\" is there"), tokens(json!({ required: ["a", "a"] }))],
    ]);
    for case in cases.as_array().unwrap() {
        let (expected, changes) = (case[0].as_str().unwrap(), case[1].clone());
        let told = config(changes).unwrap_err().to_string();
        assert!(told.starts_with(&format!("providers[0].{expected}")), "{told} {expected}");
        assert!(told.len() < 400 && !["hunter2", "\n", "; "].iter().any(|bad| told.contains(bad)), "{told}");
    }
    let both = tokens(json!({ required: ["a"], optional: ["a"], "requireServiceAccount": false }));
    assert_eq!(config(both).unwrap_err().0.len(), 2);
    let mut old = tokens(json!({}));
    old["apiVersion"] = json!("credentialprovider.kubelet.k8s.io/v1beta1");
    assert_eq!(config(old).unwrap_err().0[0].field, "providers[0].tokenAttributes");
}

#[test]
fn refused_as_a_whole() {
    let of = |value| read_config(&value).unwrap_err().to_string();
    assert!(of(json!([])).contains("is not an object"));
    assert_eq!(of(json!({})), "apiVersion: is required; kind: is required");
    let wrong = json!({ "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "X", "providers": [] });
    assert_eq!(of(wrong), format!("apiVersion: must be {CONFIG_API_VERSION}; kind: must be {CONFIG_KIND}"));
    assert!(of(json!({ "apiVersion": CONFIG_API_VERSION, "kind": CONFIG_KIND })).contains("needs at least one"));
    let one = config(json!({})).unwrap();
    let twice = merge([one.clone(), one.clone()]).unwrap_err().to_string();
    assert_eq!(twice, "providers[1].name: \"ecr\" is there twice");
    assert_eq!(merge([one.clone(), Vec::new()]), Ok(one));
}

#[test]
fn images() {
    let made = provider(json!({ "matchImages": ["*.dkr.example.com", "reg.io:8080/path", "[::1]:5000"] }));
    for image in [IMAGE, "1.dkr.example.com/app@sha256:00", "reg.io:8080/path/app:v1", "[::1]:5000/app"] {
        assert!(made.matches(image), "{image}");
    }
    for image in ["", "reg.io/path/app", "reg.io:8080/app", "1.2.dkr.example.com/app", "x@1.dkr.example.com/a"] {
        assert!(!made.matches(image), "{image}");
    }
}

#[test]
fn requests() {
    let plain = provider(json!({}));
    let request: Value = serde_json::from_str(&plain.request(IMAGE, Some(&account()))).unwrap();
    let (kind, image) = ("CredentialProviderRequest", "1.dkr.example.com/app");
    assert_eq!(request, json!({ "kind": kind, "apiVersion": API_VERSION, "image": image }));
    let asking = provider(tokens(json!({})));
    let request: Value = serde_json::from_str(&asking.request(IMAGE, Some(&account()))).unwrap();
    assert_eq!(request["serviceAccountToken"], "t0ken");
    assert_eq!(request["serviceAccountAnnotations"], json!({ "example.com/role": "puller" }));
    assert!(!asking.request(IMAGE, None).contains("serviceAccount"));
}

#[test]
fn annotations_for_a_plugin() {
    let required = json!({ "requiredServiceAccountAnnotationKeys": ["example.com/Role"] });
    let keys = with(required, json!({ "optionalServiceAccountAnnotationKeys": ["zone"] }));
    let attributes = provider(tokens(keys)).token_attributes.unwrap();
    let all = |keys: &[&str]| -> BTreeMap<_, _> { keys.iter().map(|key| ((*key).into(), "v".into())).collect() };
    assert_eq!(attributes.select(&all(&["zone"])), Err("example.com/Role".to_owned()));
    assert_eq!(attributes.select(&all(&["example.com/Role", "other"])), Ok(all(&["example.com/Role"])));
    assert_eq!(attributes.select(&all(&["example.com/Role", "zone"])).unwrap().len(), 2);
}

#[test]
fn answers() {
    let made = provider(json!({}));
    let read = |changes| made.read_answer(answer(changes).as_bytes(), IMAGE, None).unwrap();
    let got = read(json!({}));
    assert_eq!(got.registries.credentials[0].password, "hunter2");
    assert_eq!(got.registries.credentials[0].source, Source::Provider { provider: "ecr".into() });
    assert!(!format!("{got:?}").contains("hunter2"));
    let keys = made.cache_keys(IMAGE, None);
    assert_eq!(keys[1].scope, Scope::Registry("1.dkr.example.com".into()));
    assert_eq!(got.cache, Some((keys[1].clone(), Duration::from_secs(12 * 3600))));
    for (index, key_type) in ["Image", "Registry", "Global"].into_iter().enumerate() {
        let (key, _) = read(json!({ "cacheKeyType": key_type, "cacheDuration": "5m" })).cache.unwrap();
        assert_eq!(key, keys[index]);
    }
    assert_eq!(keys[0].scope, Scope::Image("1.dkr.example.com/app".into()));
    for none in ["0", "0s", "-5m"] {
        assert_eq!(read(json!({ "cacheDuration": none })).cache, None);
    }
    assert!(read(json!({ "auth": null, "expires": "later" })).registries.credentials.is_empty());
    let mixed = read(json!({ "auth": { "https://a.io/v1/": {}, "b c": { "password": "hunter2" } } })).registries;
    assert_eq!((mixed.credentials[0].registry(), mixed.malformed[0].registry.as_str()), ("a.io", "b c"));
}

#[test]
fn no_answers() {
    let made = provider(json!({}));
    let many: Map<_, _> = (0..=MAX_REGISTRIES).map(|n| (format!("r{n}.io"), json!({}))).collect();
    let changes = json!([
        { "kind": "CredentialProviderRequest" }, { "kind": 5 }, { "apiVersion": null }, { "auth": "hunter2" },
        { "apiVersion": "credentialprovider.kubelet.k8s.io/v1beta1" }, { "cacheDuration": "hunter2" },
        { "cacheDuration": 5 }, { "auth": ["hunter2"] }, { "auth": { "a.io": "hunter2" } },
        { "auth": { "a.io": { "password": ["hunter2"] } } }, { "auth": many }, { "cacheKeyType": "hunter2" },
    ]);
    let bad = ["".into(), "hunter2".into(), "[]".into(), "[".repeat(MAX_RESPONSE), " ".repeat(MAX_RESPONSE + 1)];
    for bad in changes.as_array().unwrap().iter().cloned().map(answer).chain(bad) {
        let told = made.read_answer(bad.as_bytes(), IMAGE, None).unwrap_err().to_string();
        assert!(told.starts_with("its answer") && !told.contains('\n') && !told.contains("hunter2"), "{told}");
    }
    assert_eq!(made.read_answer(b"\xff", IMAGE, None), Err(InvalidAnswer::NotJson));
}

#[test]
fn an_answer_for_a_service_account() {
    let (shared, single) = (provider(tokens(json!({}))), provider(tokens(json!({ "cacheType": "Token" }))));
    let account = account();
    let got = shared.read_answer(answer(json!({})).as_bytes(), IMAGE, Some(&account)).unwrap();
    let source = &got.registries.credentials[0].source;
    assert!(matches!(source, Source::ServiceAccountProvider { uid, .. } if uid == "u1"));
    let later = Account { token: "other".into(), ..account.clone() };
    assert_eq!(shared.cache_keys(IMAGE, Some(&account)), shared.cache_keys(IMAGE, Some(&later)));
    assert_ne!(single.cache_keys(IMAGE, Some(&account)), single.cache_keys(IMAGE, Some(&later)));
    assert_ne!(shared.cache_keys(IMAGE, Some(&account)), shared.cache_keys(IMAGE, None));
    let echo = answer(json!({ "auth": { "a.io": { "password": "t0ken" } } }));
    let read = |provider: &Provider| provider.read_answer(echo.as_bytes(), IMAGE, Some(&account));
    assert_eq!(read(&shared), Err(InvalidAnswer::EchoedToken));
    assert_eq!(read(&single).unwrap().registries.credentials.len(), 1);
    assert!(!format!("{account:?} {:?}", single.cache_keys(IMAGE, Some(&account))).contains("t0ken"));
}

#[test]
fn durations_as_go_reads_them() {
    let good = "0|-0|5s|+5s|-5m|1.5h|1h0m0.5s|7ms2us3ns|1\u{b5}s|1\u{3bc}s|2562047h";
    let got: Vec<_> = good.split('|').map(|text| go_duration(text).unwrap()).collect();
    let (s, h) = (1_000_000_000, 3_600_000_000_000);
    assert_eq!(got, [0, 0, 5 * s, 5 * s, -300 * s, h + h / 2, h + s / 2, 7_002_003, 1000, 1000, 2_562_047 * h]);
    let long = "1h".repeat(500_000);
    let bad = "|-|5|s|.s|1.2.3s|1d|1 s|1s |--1s|1S|\u{663}s|PT1H|1hour|1m ago|2562048h|99999999999999999999s";
    for text in bad.split('|').chain([long.as_str()]) {
        assert_eq!(go_duration(text), None, "{text}");
    }
}
