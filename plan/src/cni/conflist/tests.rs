use super::*;
use crate::cni::MAX_NETWORK_NAME;

pub(crate) const BRIDGE: &str = r#"{
  "cniVersion": "1.1.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0"], "name": "dbnet",
  "plugins": [
    {"type": "bridge", "bridge": "cni0", "keyA": ["some more", "plugin specific"],
     "ipam": {"type": "host-local", "subnet": "10.1.0.0/16", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0"}]},
     "dns": {"nameservers": ["10.1.0.1"]}},
    {"type": "portmap", "capabilities": {"portMappings": true, "mac": false}, "snat": true},
    {"type": "firewall", "capabilities": {"bandwidth": true, "portMappings": true}}
  ]}"#;
const PTP: &str = r#"{"cniVersion":"0.4.0","name":"k8s-pod-network","disableCheck":"TRUE","plugins":[
  {"type":"ptp","mtu":1460,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.4.0.0/24"}]]}}]}"#;
const LOOPBACK: &str = r#"{"cniVersion":"1.0.0","name":"cni-loopback","type":"loopback"}"#;
const FLANNEL: &str = r#"{"name":"cbr0","cniVersion":"0.3.1","cniVersions":["0.3.1","1.0.0","9.0.0"],"plugins":[
  {"type":"flannel","delegate":{"hairpinMode":true,"isDefaultGateway":true}},
  {"type":"portmap","capabilities":{"portMappings":true}}]}"#;
const CALICO: &str = r#"{"name":"k8s-pod-network","cniVersion":"1.0.0","disableGC":true,"plugins":[
  {"type":"calico","log_level":"info","datastore_type":"kubernetes","nodename":"n1","mtu":0,
   "ipam":{"type":"calico-ipam"},"policy":{"type":"k8s"},
   "kubernetes":{"kubeconfig":"/etc/cni/net.d/calico-kubeconfig"}},
  {"type":"portmap","snat":true,"capabilities":{"portMappings":true}},
  {"type":"bandwidth","capabilities":{"bandwidth":true}}]}"#;
const CILIUM: &str = r#"{"cniVersion":"0.4.0","name":"cilium","loadOnlyInlinedPlugins":true,
  "plugins":[{"type":"cilium-cni","enable-debug":false,"log-file":"/var/run/cilium/cilium-cni.log"}]}"#;

fn parsed(file: &str, text: &str) -> Conflist {
    Conflist::parse(file, text.as_bytes()).unwrap()
}

fn error(file: &str, text: &str) -> String {
    Conflist::parse(file, text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn networks_of_the_world_are_read() {
    let cases = [
        (BRIDGE, "dbnet", Version::V1_1, vec!["bridge", "portmap", "firewall"], [false, false, false]),
        (PTP, "k8s-pod-network", Version::V0_4, vec!["ptp"], [true, false, false]),
        (FLANNEL, "cbr0", Version::V1_0, vec!["flannel", "portmap"], [false, false, false]),
        (CALICO, "k8s-pod-network", Version::V1_0, vec!["calico", "portmap", "bandwidth"], [false, true, false]),
        (CILIUM, "cilium", Version::V0_4, vec!["cilium-cni"], [false, false, true]),
    ];
    for (text, name, version, plugins, flags) in cases {
        let list = parsed("10-net.conflist", text);
        assert_eq!((list.name.as_str(), list.version), (name, version));
        assert_eq!(list.plugins.iter().map(|plugin| plugin.kind.as_str()).collect::<Vec<_>>(), plugins);
        assert_eq!([list.disable_check, list.disable_gc, list.load_only_inlined_plugins], flags);
        assert_eq!(list.bytes, text.as_bytes());
    }
    let list = parsed("10-net.conflist", BRIDGE);
    assert_eq!(list.plugins[1].capabilities, BTreeSet::from(["portMappings".to_owned()]));
    assert_eq!(list.plugins[0].config["keyA"], json!(["some more", "plugin specific"]));
}

#[test]
fn a_single_plugin_becomes_a_list_that_can_be_read_again() {
    for file in ["99-loopback.conf", "lo.json"] {
        let list = parsed(file, LOOPBACK);
        assert_eq!((list.name.as_str(), list.version, list.plugins.len()), ("cni-loopback", Version::V1_0, 1));
        let again = Conflist::parse("x.conflist", &list.bytes).unwrap();
        assert_eq!(again.plugins, list.plugins);
        assert_eq!((again.name, again.version), (list.name, list.version));
    }
    assert_eq!(error("a.conf", BRIDGE), "a.conf: type is missing");
    assert_eq!(error("a.conflist", LOOPBACK), "a.conflist: plugins is missing");
}

#[test]
fn what_is_wrong_is_told_with_file_and_field() {
    let known = "supported are 0.4.0, 1.0.0, 1.1.0";
    let with = |fields: &str| format!(r#"{{"cniVersion":"1.0.0","name":"n",{fields}}}"#);
    let cases = [
        ("", "it is not JSON: EOF while parsing a value at line 1 column 0".to_owned()),
        ("[]", "the file must be an object".to_owned()),
        (r#"{"cniVersion":"1.0.0"}"#, "name is missing".to_owned()),
        (r#"{"name":7}"#, "name must be a string".to_owned()),
        (r#"{"name":"../x"}"#, r#"name: the network name "../x" must begin with a letter or a digit"#.to_owned()),
        (r#"{"name":"n"}"#, format!("cniVersion is missing, which means 0.1.0; {known}")),
        (r#"{"name":"n","cniVersion":""}"#, format!("cniVersion is missing, which means 0.1.0; {known}")),
        (r#"{"name":"n","cniVersion":"0.3.1"}"#, format!("cniVersion 0.3.1 is not supported; {known}")),
        (
            r#"{"name":"n","cniVersion":"9\u0000","cniVersions":["0.2.0"]}"#,
            format!(r"cniVersion 9\0, 0.2.0 is not supported; {known}"),
        ),
        (r#"{"name":"n","cniVersion":1}"#, "cniVersion must be a string".to_owned()),
        (r#"{"name":"n","cniVersions":"1.0.0"}"#, "cniVersions must be a list of strings".to_owned()),
        (r#"{"name":"n","cniVersions":[1]}"#, "cniVersions must be a list of strings".to_owned()),
        (&with(r#""x":1"#), "plugins is missing".to_owned()),
        (&with(r#""plugins":[]"#), "plugins is empty".to_owned()),
        (&with(r#""plugins":{}"#), "plugins must be a list".to_owned()),
        (&with(r#""plugins":["bridge"]"#), "plugins[0] must be an object".to_owned()),
        (&with(r#""plugins":[{"type":"a"},{}]"#), "plugins[1].type is missing".to_owned()),
        (&with(r#""plugins":[{"type":null}]"#), "plugins[0].type must be a string".to_owned()),
        (&with(r#""plugins":[{"type":".."}]"#), r#"plugins[0].type: the plugin type ".." is a directory"#.to_owned()),
        (
            &with(r#""plugins":[{"type":"a","capabilities":[]}]"#),
            "plugins[0].capabilities must be an object of true and false".to_owned(),
        ),
        (
            &with(r#""plugins":[{"type":"a","capabilities":{"mac":"yes"}}]"#),
            "plugins[0].capabilities must be an object of true and false".to_owned(),
        ),
        (&with(r#""plugins":[{"type":"a"}],"disableCheck":"maybe""#), "disableCheck must be true or false".to_owned()),
        (&with(r#""plugins":[{"type":"a"}],"disableGC":1"#), "disableGC must be true or false".to_owned()),
    ];
    for (text, wanted) in cases {
        assert_eq!(error("a.conflist", text), format!("a.conflist: {wanted}"), "{text}");
    }
}

#[test]
fn everything_has_a_limit() {
    let plugins = |count| vec![r#"{"type":"a"}"#; count].join(",");
    let list = |count| format!(r#"{{"cniVersion":"1.0.0","name":"n","plugins":[{}]}}"#, plugins(count));
    assert_eq!(parsed("a.conflist", &list(64)).plugins.len(), 64);
    assert!(error("a.conflist", &list(65)).contains("plugins has more than the 64 entries"));
    assert!(error("a.conflist", &" ".repeat(MAX_FILE + 1)).contains("more than the 1048576 that are read"));
    assert!(error("a.conflist", &"[".repeat(MAX_FILE)).contains("recursion limit"));
    assert!(error("a.conflist", &format!(r#"{{"name":"{}"}}"#, "a".repeat(MAX_NETWORK_NAME + 1))).contains("too long"));
    assert!(error("a\u{1b}[31m.txt", "{}").starts_with(r"a\u{1b}[31m.txt: the name must end in"));
    Conflist::parse("a.conflist", b"{\"name\":\"\xff\"}").unwrap_err();
}

#[test]
fn the_first_good_file_by_name_is_chosen() {
    let files = [
        ("99-loopback.conf", LOOPBACK),
        ("20-b.conflist", BRIDGE),
        ("10-a.conflist", "{"),
        ("00-readme.txt", PTP),
        ("05-kubeconfig", CALICO),
        ("15-old.conf", r#"{"cniVersion":"0.2.0","name":"n","type":"x"}"#),
    ];
    let choice = choose(&files).unwrap();
    assert_eq!((choice.list.file.as_str(), choice.list.name.as_str()), ("20-b.conflist", "dbnet"));
    let skipped: Vec<&str> = choice.skipped.iter().map(|error| error.file.as_str()).collect();
    assert_eq!(skipped, ["10-a.conflist", "15-old.conf"]);

    let none: [(&str, &[u8]); 0] = [];
    assert_eq!(choose(&none).unwrap_err().to_string(), "there is no usable network configuration");
    let bad = ["a.conf", "b.conf", "c.conf", "d.conf", "e.conf"].map(|name| (name, "[]"));
    let error = choose(&bad).unwrap_err().to_string();
    let wanted = "there is no usable network configuration; a.conf: the file must be an object; \
                  b.conf: the file must be an object; c.conf: the file must be an object; and 2 more";
    assert_eq!(error, wanted);
}

#[test]
fn plugins_of_the_networks_directory_follow() {
    let mut list = parsed("a.conflist", PTP);
    list.append("10-tuning.conf", br#"{"type":"tuning","capabilities":{"mac":true}}"#).unwrap();
    assert_eq!(list.plugins[1].kind.as_str(), "tuning");
    let error = list.append("x.conf", b"{}").unwrap_err();
    assert_eq!(error.to_string(), "x.conf: type is missing");
    let mut closed = parsed("a.conflist", CILIUM);
    let error = closed.append("x.conf", br#"{"type":"tuning"}"#).unwrap_err();
    assert!(error.to_string().contains("the network cilium takes no plugins of other files"), "{error}");
}
