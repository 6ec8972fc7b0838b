use proptest::prelude::*;
use serde_json::json;

use super::*;

pub(crate) const BRIDGE_1_1: &str = r#"{"cniVersion":"1.1.0",
  "interfaces":[{"name":"cni0","mac":"00:11:22:33:44:55"},{"name":"veth3243","mac":"55:44:33:22:11:11","sandbox":""},
    {"name":"eth0","mac":"99:88:77:66:55:44","mtu":1450,"pciID":"0000:04:00.5","sandbox":"/var/run/netns/blue"}],
  "ips":[{"address":"fd00::5/64","interface":2},{"address":"10.1.0.5/16","gateway":"10.1.0.1","interface":2},
    {"address":"10.1.0.1/16","interface":0}],
  "routes":[{"dst":"0.0.0.0/0"},{"dst":"10.0.0.0/8","gw":"10.1.0.1","mtu":1400,"table":100,"scope":0}],
  "dns":{"nameservers":["10.1.0.1"],"search":[]}}"#;
const CALICO_0_3: &str = r#"{"cniVersion":"0.3.1","ips":[{"version":"4","address":"192.168.9.3/32"}],"dns":{}}"#;

fn plugin() -> PluginType {
    PluginType::parse("bridge").unwrap()
}

fn read(text: &str) -> Result<AddResult, ResultError> {
    AddResult::parse(&plugin(), Version::V1_0, text.as_bytes())
}

fn value(result: &AddResult, version: Version) -> Value {
    result.to_object(version).into()
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn results_of_each_version_are_read() {
    let new = read(BRIDGE_1_1).unwrap();
    assert_eq!(new.version, Version::V1_1);
    assert_eq!(new.pod_ips("eth0"), addresses(&["fd00::5", "10.1.0.5"]));
    assert_eq!(new.interface("eth0").unwrap().mtu, Some(1450));
    assert_eq!(new.routes[1].gw, Some("10.1.0.1".parse().unwrap()));

    let old = read(CALICO_0_3).unwrap();
    assert_eq!(old.version, Version::V0_4);
    assert_eq!(old.pod_ips("eth0"), addresses(&["192.168.9.3"]));
    assert_eq!(old.interface("eth0"), None);

    for (text, version) in [
        (r#"{}"#, Version::V1_0),
        (r#"{"cniVersion":""}"#, Version::V1_0),
        (r#"{"cniVersion":null,"ips":null,"interfaces":null,"routes":null,"dns":null}"#, Version::V1_0),
        (r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.1/8","gateway":""}]}"#, Version::V0_4),
        (r#"{"cniVersion":"0.3.0","code":0,"unknown":[1]}"#, Version::V0_4),
        (" {\"cniVersion\":\"1.0.0\"} \n", Version::V1_0),
    ] {
        assert_eq!(read(text).unwrap().version, version, "{text}");
    }
}

#[test]
fn a_result_is_converted_for_the_next_plugin() {
    let new = read(BRIDGE_1_1).unwrap();
    let old = value(&new, Version::V0_4);
    assert_eq!(old["cniVersion"], "0.4.0");
    assert_eq!(
        old["ips"],
        json!([{"version":"6","address":"fd00::5/64","interface":2},
            {"version":"4","address":"10.1.0.5/16","gateway":"10.1.0.1","interface":2},
            {"version":"4","address":"10.1.0.1/16","interface":0}])
    );
    assert_eq!(old["interfaces"][2], json!({"name":"eth0","mac":"99:88:77:66:55:44","sandbox":"/var/run/netns/blue"}));
    assert_eq!(old["routes"][1], json!({"dst":"10.0.0.0/8","gw":"10.1.0.1","mtu":1400,"table":100,"scope":0}));
    assert_eq!(old["dns"], json!({"nameservers":["10.1.0.1"]}));
    assert_eq!(read(&old.to_string()).unwrap().pod_ips("eth0"), new.pod_ips("eth0"));
    assert_eq!(value(&new.clone().converted(Version::V0_4), Version::V0_4), old);

    let up = value(&read(CALICO_0_3).unwrap(), Version::V1_0);
    assert_eq!(up, json!({"cniVersion":"1.0.0","ips":[{"address":"192.168.9.3/32"}]}));
    assert_eq!(value(&new, Version::V1_0)["interfaces"][2]["pciID"], "0000:04:00.5");
    assert_eq!(new.clone().converted(Version::V1_0).version, Version::V1_0);
}

#[test]
fn the_pods_addresses_are_its_interfaces() {
    // The host's interface of the same name comes first, and one address twice.
    let text = r#"{"interfaces":[{"name":"eth0"},{"name":"eth0","sandbox":"/run/netns/x"},{"name":"lo","sandbox":"/x"}],
      "ips":[{"address":"192.0.2.1/24","interface":0},{"address":"10.0.0.2/8","interface":1},
        {"address":"10.0.0.3/8"},{"address":"10.0.0.2/24","interface":1},{"address":"127.0.0.1/8","interface":2}]}"#;
    let result = read(text).unwrap();
    assert_eq!(result.pod_ips("eth0"), addresses(&["10.0.0.2", "10.0.0.3"]));
    assert_eq!(result.pod_ips("lo"), addresses(&["10.0.0.3", "127.0.0.1"]));
    assert_eq!(result.pod_ips("eth1"), addresses(&["10.0.0.3"]));
    let nowhere = read(r#"{"interfaces":[{"name":"eth0"}],"ips":[{"address":"10.0.0.2/8","interface":0}]}"#).unwrap();
    assert_eq!(nowhere.pod_ips("eth0"), addresses(&["10.0.0.2"]));
}

#[test]
fn what_is_no_result_is_told_with_its_plugin() {
    let cases = [
        ("", "it wrote nothing, though the specification wants a result from every plugin of the chain"),
        (" \n", "it wrote nothing, though the specification wants a result from every plugin of the chain"),
        ("ok", "it is not a JSON object: expected value at line 1 column 1"),
        ("null", "it is not a JSON object: it is another value"),
        (
            r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.1/8"}}"#,
            "its cniVersion 0.2.0 is not supported (0.3.0 to 1.1.0 are)",
        ),
        (r#"{"cniVersion":"\u0007"}"#, r"its cniVersion \u{7} is not supported (0.3.0 to 1.1.0 are)"),
        (r#"{"cniVersion":1}"#, "cniVersion: not a string"),
        (
            r#"{"ips":[{"address":"10.0.0.1"}]}"#,
            "ips: \"10.0.0.1\" is not an address with a prefix length such as 10.1.0.5/16",
        ),
        (r#"{"ips":[{"gateway":"10.0.0.1"}]}"#, "ips: missing field `address`"),
        (r#"{"ips":[{"address":"10.0.0.1/8","gateway":"x\u001b"}]}"#, r"ips: x\u{1b} is not an address"),
        (r#"{"ips":[{"address":"10.0.0.1/8","interface":0}]}"#, "ips: interface 0 is none of the 0 in interfaces"),
        (r#"{"interfaces":[{}]}"#, "interfaces: missing field `name`"),
        (r#"{"routes":[{"gw":"10.0.0.1"}]}"#, "routes: missing field `dst`"),
        (
            r#"{"code":7,"msg":"no","cniVersion":"1.0.0"}"#,
            "it ended with success and an error: the CNI plugin bridge failed: no (code 7)",
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(read(text).unwrap_err().to_string(), format!("the result of the CNI plugin bridge: {wanted}"));
    }
    read(r#"{"interfaces":[{"name":"a"}],"ips":[{"address":"10.0.0.1/8","interface":-1}]}"#).unwrap_err();
    read(r#"{"dns":{"nameservers":"10.0.0.1"}}"#).unwrap_err();
    assert!(matches!(read(&" ".repeat(MAX_RESULT + 1)).unwrap_err().problem, Problem::TooLarge(_)));
    let many = vec![r#"{"dst":"::/0"}"#; MAX_ENTRIES + 1].join(",");
    assert!(read(&format!(r#"{{"routes":[{many}]}}"#)).unwrap_err().to_string().contains("more than the 1000"));
}

#[test]
fn versions_that_a_plugin_supports_are_read() {
    let of = |text: &str| supported(&plugin(), text.as_bytes());
    let all = r#"{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.3.1","1.0.0","0.4.0","1.1.0","2.0.0"]}"#;
    assert_eq!(of(all).unwrap(), Version::ALL);
    assert_eq!(of(r#"{"supportedVersions":["0.2.0"]}"#).unwrap(), []);
    of("{}").unwrap_err();
    of(r#"{"supportedVersions":"1.0.0"}"#).unwrap_err();
}

proptest! {
    #[test]
    fn no_output_panics(text in "(?s).{0,200}|[{}\\[\\]\":,a-z0-9/.]{0,60}") {
        drop(read(&text));
    }

    #[test]
    fn a_result_survives_its_own_form(v4: u32, v6: u128, prefix in 0u8..=32, index in 0usize..3) {
        let text = format!(
            r#"{{"interfaces":[{{"name":"a"}},{{"name":"b"}},{{"name":"c"}}],
                "ips":[{{"address":"{}/{prefix}","interface":{index}}},{{"address":"{}/{prefix}"}}]}}"#,
            std::net::Ipv4Addr::from(v4), std::net::Ipv6Addr::from(v6),
        );
        let result = read(&text).unwrap();
        for version in Version::ALL {
            let again = read(&value(&result, version).to_string()).unwrap();
            prop_assert_eq!(&again, &result.clone().converted(version));
        }
    }
}
