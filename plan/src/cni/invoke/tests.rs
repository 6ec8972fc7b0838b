use super::*;
use crate::cni::attachment::{MAX_ARG, MAX_ARGS, MAX_DIRECTORIES, MAX_PATH, pod_args};
use crate::cni::conflist::tests::BRIDGE;
use crate::cni::result::tests::BRIDGE_1_1;

fn list(text: &str) -> Conflist {
    Conflist::parse("10-net.conflist", text.as_bytes()).unwrap()
}

fn older(version: &str) -> Conflist {
    list(&BRIDGE.replacen("1.1.0", version, 1).replace(r#"["0.4.0", "1.0.0", "1.1.0"]"#, "[]"))
}

fn path() -> PluginPath {
    PluginPath::new(&["/opt/cni/bin/", "/usr/lib/cni"]).unwrap()
}

fn id(text: &str) -> ContainerId {
    ContainerId::parse(text).unwrap()
}

fn eth0() -> InterfaceName {
    InterfaceName::parse("eth0").unwrap()
}

fn attachment_at(netns: &str) -> Attachment {
    let args = pod_args("default", "web-0", "6c1b3a7e-0000-4000-8000-000000000000", &id("abc")).unwrap();
    let capabilities = json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 1000, "ingressBurst": 4_294_967_295_u64},
        "mac": "c2:11:22:33:44:55",
    });
    Attachment::new(id("abc"), netns, eth0(), args, capabilities.as_object().unwrap().clone()).unwrap()
}

fn attachment() -> Attachment {
    attachment_at("/run/netns/blue")
}

fn result() -> AddResult {
    AddResult::parse(&PluginType::parse("bridge").unwrap(), Version::V1_1, BRIDGE_1_1.as_bytes()).unwrap()
}

fn stdin(invocation: &Invocation) -> Value {
    serde_json::from_slice(&invocation.stdin).unwrap()
}

fn programs(invocations: &[Invocation]) -> Vec<&str> {
    invocations.iter().map(|invocation| invocation.plugin.as_str()).collect()
}

#[test]
fn the_chain_of_add_is_the_specifications() {
    let (list, attachment, path) = (list(BRIDGE), attachment(), path());
    let first = add(&list, 0, &attachment, &path, None).unwrap();
    assert_eq!(first.plugin.as_str(), "bridge");
    let text = String::from_utf8(first.stdin.clone()).unwrap();
    let golden = concat!(
        r#"{"bridge":"cni0","cniVersion":"1.1.0","dns":{"nameservers":["10.1.0.1"]},"#,
        r#""ipam":{"gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.1.0.0/16","type":"host-local"},"#,
        r#""keyA":["some more","plugin specific"],"name":"dbnet","type":"bridge"}"#,
    );
    assert_eq!(text, golden);

    let port = json!([{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]);
    let previous: Value = result().to_object(Version::V1_1).into();
    let second = add(&list, 1, &attachment, &path, Some(&result())).unwrap();
    assert_eq!(
        stdin(&second),
        json!({"cniVersion":"1.1.0","name":"dbnet","type":"portmap","snat":true,
            "runtimeConfig":{"portMappings":port},"prevResult":previous})
    );
    let third = add(&list, 2, &attachment, &path, Some(&result())).unwrap();
    assert_eq!(
        stdin(&third),
        json!({"cniVersion":"1.1.0","name":"dbnet","type":"firewall","prevResult":previous,"runtimeConfig":
            {"portMappings":port,"bandwidth":{"ingressRate":1000,"ingressBurst":4_294_967_295_u64}}})
    );
    add(&list, 3, &attachment, &path, Some(&result())).unwrap_err();
    add(&list, 0, &attachment, &path, Some(&result())).unwrap_err();
    add(&list, 1, &attachment, &path, None).unwrap_err();
    assert_eq!(
        add(&list, 0, &attachment_at(""), &path, None).unwrap_err().to_string(),
        "CNI_NETNS is empty, which only DEL allows"
    );
}

#[test]
fn the_environment_is_exact() {
    let call = add(&list(BRIDGE), 0, &attachment(), &path(), None).unwrap();
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=abc;\
                K8S_POD_UID=6c1b3a7e-0000-4000-8000-000000000000";
    let wanted = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "abc"),
        ("CNI_NETNS", "/run/netns/blue"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", args),
        ("CNI_PATH", "/opt/cni/bin:/usr/lib/cni"),
    ];
    assert_eq!(call.env, wanted.map(|(key, value)| (key, value.to_owned())));
    assert_eq!(path().candidates(&call.plugin), ["/opt/cni/bin/bridge", "/usr/lib/cni/bridge"]);
    let call = &status(&list(BRIDGE), &path())[0];
    assert_eq!(call.env.iter().filter(|(_, value)| !value.is_empty()).count(), 2);
}

#[test]
fn del_goes_backwards_with_the_cached_result() {
    let calls = del(&list(BRIDGE), &attachment_at(""), &path(), Some(&result()));
    assert_eq!(programs(&calls), ["firewall", "portmap", "bridge"]);
    for call in &calls {
        assert_eq!(stdin(call)["prevResult"], Value::from(result().to_object(Version::V1_1)));
        assert_eq!((call.env[0].1.as_str(), call.env[2].1.as_str()), ("DEL", ""));
    }
    assert_eq!(stdin(&calls[1])["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
    for call in del(&list(BRIDGE), &attachment(), &path(), None) {
        assert_eq!(stdin(&call).get("prevResult"), None);
    }
    let old = del(&older("0.4.0"), &attachment(), &path(), Some(&result()));
    assert_eq!(stdin(&old[0])["cniVersion"], "0.4.0");
    assert_eq!(stdin(&old[0])["prevResult"]["cniVersion"], "0.4.0");
    assert_eq!(stdin(&old[0])["prevResult"]["ips"][0]["version"], "6");
}

#[test]
fn check_can_be_disabled() {
    let mut list = older("0.4.0");
    let calls = check(&list, &attachment(), &path(), &result()).unwrap();
    assert_eq!(programs(&calls), ["bridge", "portmap", "firewall"]);
    assert!(calls.iter().all(|call| call.env[0].1 == "CHECK" && stdin(call).get("prevResult").is_some()));
    check(&list, &attachment_at(""), &path(), &result()).unwrap_err();
    list.disable_check = true;
    assert_eq!(check(&list, &attachment(), &path(), &result()).unwrap(), []);
}

#[test]
fn gc_and_status_are_of_1_1() {
    let valid = [(id("abc"), eth0()), (id("def"), eth0())];
    let calls = gc(&list(BRIDGE), &valid, &path()).unwrap();
    assert_eq!(programs(&calls), ["bridge", "portmap", "firewall"]);
    let wanted = json!([{"containerID":"abc","ifname":"eth0"},{"containerID":"def","ifname":"eth0"}]);
    assert_eq!(
        stdin(&calls[1]),
        json!({"cniVersion":"1.1.0","name":"dbnet","type":"portmap","snat":true,
            "cni.dev/valid-attachments":wanted,"cni.dev/attachments":wanted})
    );
    assert_eq!(stdin(&gc(&list(BRIDGE), &[], &path()).unwrap()[0])["cni.dev/valid-attachments"], json!([]));
    gc(&list(BRIDGE), &vec![(id("a"), eth0()); MAX_ATTACHMENTS + 1], &path()).unwrap_err();
    let calls = status(&list(BRIDGE), &path());
    assert_eq!(stdin(&calls[1]), json!({"cniVersion":"1.1.0","name":"dbnet","type":"portmap","snat":true}));
    for version in ["0.4.0", "1.0.0"] {
        assert_eq!(gc(&older(version), &valid, &path()).unwrap(), []);
        assert_eq!(status(&older(version), &path()), []);
    }
    let disabled = Conflist { disable_gc: true, ..list(BRIDGE) };
    assert_eq!(gc(&disabled, &valid, &path()).unwrap(), []);
    let call = super::version(&disabled.plugins[0], &path());
    assert_eq!((call.env[0].1.as_str(), call.stdin), ("VERSION", br#"{"cniVersion":"1.1.0"}"#.to_vec()));
}

#[test]
fn stale_attachments_are_the_networks_own() {
    let list = list(BRIDGE);
    let entry = CacheEntry::new(&list, &attachment(), &result());
    let gone = CacheEntry { container_id: "gone".into(), ..entry.clone() };
    let other = CacheEntry { network_name: "other".into(), ..gone.clone() };
    let all = [entry, gone.clone(), other];
    assert_eq!(stale(&list, &all, &[(id("abc"), eth0())]), [&gone]);
    let disabled = Conflist { disable_gc: true, ..list };
    assert!(stale(&disabled, &all, &[]).is_empty());
}

#[test]
fn a_file_cannot_speak_for_the_runtime() {
    let text = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a","name":"other","cniVersion":"0.1.0",
        "prevResult":{"ips":[]},"args":{"x":1},"runtimeConfig":{"mac":"x"},"capabilities":{"mac":true,"none":true}}]}"#;
    let call = add(&list(text), 0, &attachment(), &path(), None).unwrap();
    let wanted = json!({"type":"a","name":"n","cniVersion":"1.0.0","args":{"x":1},
        "runtimeConfig":{"mac":"c2:11:22:33:44:55"}});
    assert_eq!(stdin(&call), wanted);
}

#[test]
fn hostile_parameters_are_refused() {
    for (namespace, name, uid) in [("a;b", "n", "u"), ("a", "n=m", "u"), ("a", "n", "u\n"), ("a", "n", "\0")] {
        pod_args(namespace, name, uid, &id("abc")).unwrap_err();
    }
    let error = pod_args("a;K8S_POD_UID=\u{1b}", "n", "u", &id("abc")).unwrap_err().to_string();
    assert!(error.starts_with(r#"CNI_ARGS: K8S_POD_NAMESPACE="a;K8S_POD_UID=\u{1b}" may not have"#), "{error}");
    pod_args(&"a".repeat(MAX_ARG + 1), "n", "u", &id("abc")).unwrap_err();
    for netns in ["run/netns", "/a\0", "/a\nb", &format!("/{}", "a".repeat(MAX_PATH))] {
        Attachment::new(id("abc"), netns, eth0(), Vec::new(), Map::new()).unwrap_err();
    }
    let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    for args in [pair("", "x"), pair("a=b", "x"), pair("a", "x;y"), vec![("a".into(), "b".into()); MAX_ARGS + 1]] {
        Attachment::new(id("abc"), "/x", eth0(), args, Map::new()).unwrap_err();
    }
    for directory in ["", "bin", "/a:/b", "/a\n"] {
        PluginPath::new(&[directory]).unwrap_err();
    }
    PluginPath::new::<&str>(&[]).unwrap_err();
    PluginPath::new(&["/a"; MAX_DIRECTORIES + 1]).unwrap_err();
}
