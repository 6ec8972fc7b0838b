use super::pattern::MAX_PATTERN;
use super::*;

fn matches(glob: &str, target: &str) -> bool {
    Pattern::parse(glob).is_ok_and(|glob| Pattern::of_image(target).is_some_and(|target| glob.matches(&target)))
}

fn secret(name: &str) -> Source {
    Source::Secret { namespace: "ns".into(), name: name.into(), uid: format!("uid-{name}") }
}

fn ring(registries: &[&str]) -> Vec<Credential> {
    let credential = |registry: &&str| Credential::new(registry, registry, "pw", Source::Node).unwrap();
    registries.iter().map(credential).collect()
}

fn found(registries: &[&str], image: &str) -> Vec<String> {
    let mut keyring = Keyring::new();
    keyring.push(ring(registries));
    keyring.lookup(image).iter().map(|credential| credential.username.clone()).collect()
}

/// The only entry of a `.dockercfg`.
fn entry(entry: &str) -> Result<Credential, Malformed> {
    let mut read = Format::Dockercfg.read(format!("{{\"r.io\":{entry}}}").as_bytes(), &Source::Node).unwrap();
    read.credentials.pop().ok_or_else(|| read.malformed.remove(0))
}

#[test]
fn patterns() {
    for (glob, target, expected) in [
        ("*.example.io", "a.example.io", true),
        ("a.*.io", "a.example.io", true),
        ("a.example.*", "a.example.io", true),
        ("*-eu.example.io", "pull-eu.example.io", true),
        ("app*.example.io", "app1.example.io", true),
        ("a*b*c.io", "a-b-b-c.io", true),
        ("a*b*c.io", "ac.io", false),
        ("ab*bc.io", "abc.io", false),
        ("a**.io", "a.io", true),
        ("*example.io", "example.io", true),
        ("*.*.*.example.io", "a.b.c.example.io", true),
        ("*.example.io/team", "a.example.io/team", true),
        ("a.*.io/team", "a.example.io/team/app", true),
        ("*.example.io:5000/team", "a.example.io:5000/team", true),
        ("a.example.io:", "a.example.io/app", true),
        ("*", "localhost/app", true),
        // A star is one label.
        ("*", "example.io/app", false),
        ("*.example.io", "example.io", false),
        ("*.*.example.io", "a.example.io", false),
        ("*example.io", "a.example.io", false),
        ("*.io", "a.example.io", false),
        ("example.io", "example.com", false),
        ("k*.io", "quay.io", false),
        // Ports are the same or there is none: 443 is nobody's default.
        ("*.example.io:1234/team", "a.example.io:1111/team", false),
        ("a.*.io/team", "a.example.io:1111/team", false),
        ("example.io:443", "example.io/app", false),
        ("example.io", "example.io:443/app", false),
        // A path's stars are stars.
        ("example.io/*", "example.io/app", false),
        ("example.io/team/", "example.io/team", false),
        ("[::1]:5000", "[::1]:5000/app", true),
        ("[::1]", "[::1]/app", true),
        ("[::1]", "[::2]/app", false),
        ("https://example.io", "example.io/app", false),
        ("example.io?x=1#y", "example.io/app", true),
        ("user:pw@example.io", "example.io/app", true),
        ("EXAMPLE.io", "example.io/app", false),
        ("bücher.*", "bücher.io/app", true),
    ] {
        assert_eq!(matches(glob, target), expected, "{glob} {target}");
    }
}

#[test]
fn no_patterns() {
    let long = "a".repeat(MAX_PATTERN + 1);
    let bad = "|/|/path|:5000|a:b|a:b:5000|::1|::1:5000|[::1|[::1]x|[::1]:x|[*]|[1.2.3.4]|a[b]|x[::1]|a b.io|a\\b.io\
        |{a}|%61.io|%invalid%|a.io/%2f|a\nb.io|a.io/\u{7f}|a\0|user@|a.io:-1|a.io:+1|a.io:\u{663}";
    for bad in bad.split('|').chain([long.as_str()]) {
        assert!(Pattern::parse(bad).is_err(), "{bad:?}");
    }
    assert!(Pattern::of_image("evil.io@docker.io/app").is_none());
}

#[test]
fn globs_are_linear() {
    let host = "a".repeat(1000);
    let glob = "a*".repeat(500) + "b";
    assert!(!matches(&glob, &host));
    assert!(matches(&"*".repeat(1000), &host));
}

#[test]
fn schemes_and_versions_of_registries() {
    for (registry, image) in [
        ("https://hello.example.io", "hello.example.io/foo/bar"),
        ("http://*.example.io/path", "a.example.io/path/foo"),
        ("https://*.example.io:8888", "a.example.io:8888/foo"),
        ("https://*.example.io/path:1111", "a.example.io/path:1111/foo/bar"),
        ("https://*.example.io/v1/", "a.example.io/path/foo"),
        ("https://*.example.io/v2/", "a.example.io/path/foo"),
        ("https://quay.io/v1/", "quay.io"),
        ("quay.io/v2/team", "quay.io/team/app"),
        ("example.io:1111", "example.io:1111/path"),
        ("example.io/", "example.io/path"),
    ] {
        assert_eq!(found(&[registry], image), [registry], "{image}");
    }
    for (registry, image) in [
        ("https://hello.example.io", "world.example.org/foo"),
        ("https://*.example.com", "a.example.io/foo"),
        ("https://a.example.c*", "a.example.io/foo"),
        ("https://a.*.io/path:1111", "a.example.io/path/sub:1111/foo"),
        ("quay.io/v1", "quay.io/foo"),
        ("HTTPS://quay.io", "quay.io/foo"),
    ] {
        assert!(found(&[registry], image).is_empty(), "{registry} {image}");
    }
}

#[test]
fn the_most_specific_first() {
    let registries = ["example.io", "*.io", "example.io/pong", "ex*.io", "example.io/pong/deep"];
    assert_eq!(found(&registries, "example.io/ping"), ["example.io", "ex*.io", "*.io"]);
    assert_eq!(found(&registries, "example.io/pongz:1")[0], "example.io/pong");
    assert_eq!(
        found(&registries, "example.io/pong/deep@sha256:00"),
        ["example.io/pong/deep", "example.io/pong", "example.io", "ex*.io", "*.io"]
    );
    assert!(found(&registries, "foo.example.com/pong").is_empty());
}

#[test]
fn docker_hub() {
    for hub in ["https://index.docker.io/v1/", "index.docker.io", "http://index.docker.io/v2/"] {
        for image in ["nginx", "google/registry", "docker.io/library/nginx:1.27", "index.docker.io/foo/bar"] {
            assert_eq!(found(&[hub], image), [hub], "{image}");
        }
        for image in ["", "/", "quay.io/foo", "registry:5000/foo", "mydocker.io/foo", "docker.io.evil.io/foo"] {
            assert!(found(&[hub], image).is_empty(), "{image}");
        }
    }
    // Only what no entry is written for.
    assert_eq!(found(&["index.docker.io", "docker.io"], "docker.io/library/nginx"), ["docker.io"]);
    assert_eq!(found(&["docker.io/team"], "docker.io/library/nginx"), [""; 0]);
}

#[test]
fn rings_come_one_after_the_other() {
    let mut keyring = Keyring::new();
    let of = |registry, name| Credential::new(registry, "u", "p", secret(name)).unwrap();
    keyring.push([of("quay.io", "one"), of("quay.io/team", "two"), of("https://quay.io/v1/", "three")]);
    keyring.push(ring(&["quay.io/team/app", "index.docker.io"]));
    let sources: Vec<_> = keyring.lookup("quay.io/team/app:1").iter().map(|found| found.source.clone()).collect();
    assert_eq!(sources, [secret("two"), secret("one"), secret("three"), Source::Node]);
    assert_eq!(keyring.lookup("docker.io/library/nginx").len(), 1);
    assert!(Keyring::new().lookup("docker.io/library/nginx").is_empty());
}

#[test]
fn references_without_tag_and_digest() {
    for (image, expected) in [
        ("docker.io/library/nginx:1.27", "docker.io/library/nginx"),
        ("docker.io/library/nginx:1.27@sha256:00", "docker.io/library/nginx"),
        ("localhost:5000/app", "localhost:5000/app"),
        ("localhost:5000/app@sha256:00", "localhost:5000/app"),
        ("[::1]:5000/app:x", "[::1]:5000/app"),
        ("localhost:5000", "localhost:5000"),
        ("nginx@sha256:00", "nginx"),
        ("", ""),
        ("/", "/"),
        ("@", ""),
        ("ü/é:ß", "ü/é"),
    ] {
        assert_eq!(repository(image), expected, "{image}");
    }
}

#[test]
fn entries() {
    for (text, username, password) in [
        (r#"{"username":"foo","password":"bar","email":"a@b.c"}"#, "foo", "bar"),
        (r#"{"auth":"Zm9vOmJhcg=="}"#, "foo", "bar"),
        (r#"{"auth":"Zm9vOmJhcg"}"#, "foo", "bar"),
        (r#"{"auth":"Zm9vOm\nJhcg==\n"}"#, "foo", "bar"),
        (r#"{"auth":"Zm9vOmJhcgo="}"#, "foo", "bar\n"),
        (r#"{"auth":"Zm9vOmJhOnI="}"#, "foo", "ba:r"),
        (r#"{"username":"foo","password":"bar","auth":"cGluZzpwb25n"}"#, "ping", "pong"),
        (r#"{"Username":"foo","PASSWORD":"bar","auth":""}"#, "foo", "bar"),
        (r#"{"username":null,"password":"bar","unknown":[{}]}"#, "", "bar"),
        (r#"{"auth":"Og=="}"#, "", ""),
        ("null", "", ""),
        ("{}", "", ""),
    ] {
        let credential = entry(text).unwrap();
        assert_eq!((&*credential.username, &*credential.password), (username, password), "{text}");
        assert_eq!(credential.is_anonymous(), username.is_empty() && password.is_empty(), "{text}");
    }
    let tokens = entry(r#"{"auth":"MDAwMDo=","identitytoken":"refresh","registrytoken":"bearer"}"#).unwrap();
    assert_eq!(tokens.identity_token.as_deref(), Some("refresh"));
    assert_eq!(tokens.registry_token.as_deref(), Some("bearer"));
    for text in [
        r#"{"auth":"pants"}"#,
        r#"{"auth":"cGFudHM="}"#,
        r#"{"auth":"Zm9vOmJhcg== "}"#,
        r#"{"auth":"//86//8="}"#,
        r#"{"email":false}"#,
        r#"{"password":{"hunter2":1}}"#,
        r#"{"registrytoken":"hunter2\r\nX-Evil: 1"}"#,
        r#""hunter2""#,
        "[]",
    ] {
        let told = entry(text).unwrap_err().to_string();
        assert!(told.starts_with("registry \"r.io\": its ") || told.starts_with("registry \"r.io\": a "), "{told}");
        assert!(!told.contains("hunter2") && !told.contains("pants"), "{told}");
    }
}

#[test]
fn the_good_entries_of_a_bad_file() {
    let file = br#"{"auths":{"good.io":{"auth":"Zm9vOmJhcg=="},"bad.io":{"auth":"?"},"a b":{},
        "https://me:hun/ter2@x y":{}}, "credsStore":"desktop"}"#;
    let read = Format::ConfigJson.read(file, &secret("pull")).unwrap();
    assert_eq!(read.credentials.len(), 1);
    assert_eq!(read.credentials[0].source, secret("pull"));
    let names: Vec<_> = read.malformed.iter().map(|malformed| malformed.registry.as_str()).collect();
    assert_eq!(names, ["a b", "bad.io", "x y"]);
    let long = "\u{202e}\n\"".repeat(500);
    let told = Credential::new(&long, "", "", Source::Node).unwrap_err().to_string();
    assert!(told.len() < 2000 && !told.contains(['\n', '\u{202e}']), "{told}");
}

#[test]
fn whole_files() {
    let read = |format: Format, text: &str| format.read(text.as_bytes(), &Source::Node);
    for empty in ["{}", r#"{"auths":null}"#, r#"{"auths":{}}"#, r#"{"HttpHeaders":{"a":"b"}}"#] {
        assert_eq!(read(Format::ConfigJson, empty), Ok(Registries::default()), "{empty}");
    }
    assert_eq!(read(Format::ConfigJson, r#"{"auths":[]}"#), Err(InvalidConfig::AuthsNotObject));
    assert_eq!(read(Format::Dockercfg, "[]"), Err(InvalidConfig::NotObject));
    for bad in ["", "{", "\0", "{\"r.io\":{\"password\":\"hunter2\"", &"[".repeat(100_000)] {
        let error = read(Format::Dockercfg, bad).unwrap_err();
        assert!(matches!(error, InvalidConfig::NotJson { .. }), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let large = " ".repeat(MAX_CONFIG + 1);
    assert_eq!(read(Format::Dockercfg, &large), Err(InvalidConfig::TooLarge(MAX_CONFIG + 1)));
    let many: Vec<_> = (0..=MAX_REGISTRIES).map(|n| format!("\"r{n}.io\":{{}}")).collect();
    let many = format!("{{{}}}", many.join(","));
    assert_eq!(read(Format::Dockercfg, &many), Err(InvalidConfig::TooMany(MAX_REGISTRIES + 1)));
    let key = |secret_type| Format::of_secret_type(secret_type).map(Format::key);
    assert_eq!(key("kubernetes.io/dockerconfigjson"), Some(".dockerconfigjson"));
    assert_eq!(key("kubernetes.io/dockercfg"), Some(".dockercfg"));
    assert_eq!(key("Opaque"), None);
}

#[test]
fn a_hash_is_of_the_login() {
    let of = |registry, username, password, source| Credential::new(registry, username, password, source).unwrap();
    let ada = of("a.io", "ada", "smash", Source::Node);
    assert_eq!(ada.hash().len(), 64);
    assert_eq!(ada.hash(), of("b.io/x", "ada", "smash", secret("s")).hash());
    assert_ne!(ada.hash(), of("a.io", "adas", "mash", Source::Node).hash());
    let token = Credential { identity_token: Some("t".into()), ..ada.clone() };
    let other = Credential { registry_token: Some("t".into()), ..ada.clone() };
    assert_ne!(ada.hash(), token.hash());
    assert_ne!(token.hash(), other.hash());
}

#[test]
fn debug_output_has_no_login() {
    let read = Format::Dockercfg
        .read(br#"{"r.io":{"username":"me-9","password":"hunter2","identitytoken":"tok-7"}}"#, &secret("pull"))
        .unwrap();
    let mut keyring = Keyring::new();
    keyring.push(read.credentials.clone());
    let told = format!("{keyring:?} {read:#?}");
    assert!(told.contains("r.io") && told.contains("pull"));
    assert!(!told.contains("hunter2") && !told.contains("tok-7") && !told.contains("me-9"), "{told}");
    assert!(Source::Node.is_node_wide() && !secret("x").is_node_wide());
}
