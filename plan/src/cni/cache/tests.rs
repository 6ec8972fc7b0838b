use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::cni::PluginType;
use crate::cni::conflist::tests::BRIDGE;
use crate::cni::result::tests::BRIDGE_1_1;

fn names(network: &str, container: &str, interface: &str) -> (NetworkName, ContainerId, InterfaceName) {
    let network = NetworkName::parse(network).unwrap();
    (network, ContainerId::parse(container).unwrap(), InterfaceName::parse(interface).unwrap())
}

fn entry() -> (Conflist, Attachment, AddResult, CacheEntry) {
    let list = Conflist::parse("a.conflist", BRIDGE.as_bytes()).unwrap();
    let result = AddResult::parse(&PluginType::parse("x").unwrap(), Version::V1_1, BRIDGE_1_1.as_bytes()).unwrap();
    let (_, container, interface) = names("n", "abc", "eth0");
    let args = vec![("IgnoreUnknown".to_owned(), "1".to_owned())];
    let capabilities = Map::from_iter([("mac".to_owned(), json!("c2:11:22:33:44:55"))]);
    let attachment = Attachment::new(container, "/run/netns/blue", interface, args, capabilities).unwrap();
    let entry = CacheEntry::new(&list, &attachment, &result);
    (list, attachment, result, entry)
}

#[test]
fn an_entry_has_libcnis_form() {
    let (list, attachment, result, entry) = entry();
    let bytes = entry.to_bytes().unwrap();
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    let config = BASE64_STANDARD.encode(BRIDGE);
    assert_eq!(
        value,
        json!({"kind":"cniCacheV1","containerId":"abc","config":config,"ifName":"eth0","networkName":"dbnet",
            "netns":"/run/netns/blue","cniArgs":[["IgnoreUnknown","1"]],"capabilityArgs":{"mac":"c2:11:22:33:44:55"},
            "result":result.to_object(Version::V1_1)})
    );
    let again = CacheEntry::parse(&bytes).unwrap();
    assert_eq!(again, entry);
    assert_eq!(again.attachment().unwrap(), attachment);
    assert_eq!(again.config().unwrap(), Some(list.bytes));
    assert_eq!(again.result(Version::V1_1).unwrap(), Some(result));
}

#[test]
fn entries_of_other_writers_are_read() {
    let least = r#"{"kind":"cniCacheV1","containerID":"a","ifName":"eth0","networkName":"n","config":null,"new":[]}"#;
    let entry = CacheEntry::parse(least.as_bytes()).unwrap();
    assert_eq!((entry.config().unwrap(), entry.result(Version::V1_0).unwrap()), (None, None));
    entry.attachment().unwrap();
    let (network, container, interface) = names("n", "a", "eth0");
    assert!(entry.is_of(&network, &container, &interface));
    assert!(!entry.is_of(&network, &ContainerId::parse("b").unwrap(), &interface));
}

#[test]
fn bad_entries_are_errors() {
    let with = |fields: &str| {
        let head = r#""kind":"cniCacheV1","containerId":"a","ifName":"eth0","networkName":"n""#;
        CacheEntry::parse(format!("{{{head},{fields}}}").as_bytes())
    };
    for text in
        ["", "{", "[]", "{}", r#"{"cniVersion":"0.4.0"}"#, r#"{"kind":"cniCacheV2"}"#, r#"{"kind":"cniCacheV1"}"#]
    {
        CacheEntry::parse(text.as_bytes()).unwrap_err();
    }
    assert!(matches!(CacheEntry::parse(&vec![b' '; MAX_ENTRY + 1]), Err(CacheError::TooLarge(_))));
    with(r#""cniArgs":[["a"]]"#).unwrap_err();
    with(r#""cniArgs":[["a","b;c"]]"#).unwrap().attachment().unwrap_err();
    with(r#""netns":"../x""#).unwrap().attachment().unwrap_err();
    with(r#""config":"%""#).unwrap().config().unwrap_err();
    with(r#""result":{"cniVersion":"0.1.0"}"#).unwrap().result(Version::V1_0).unwrap_err();
    let mut entry = with(r#""x":1"#).unwrap();
    entry.container_id = "../../etc".into();
    entry.attachment().unwrap_err();
    entry.config = Some("A".repeat(MAX_ENTRY));
    entry.to_bytes().unwrap_err();
}

#[test]
fn the_file_name_is_libcnis() {
    let (network, container, interface) = names("dbnet", "abc", "eth0");
    assert_eq!(file_name(&network, &container, &interface), "dbnet-abc-eth0");
    let (network, container, interface) = names(&"n".repeat(150), &"c".repeat(88), &"i".repeat(15));
    assert_eq!(file_name(&network, &container, &interface).len(), 255);
}

proptest! {
    #[test]
    fn a_file_name_is_one_component(
        network in "[a-z./\\\\-]{0,6}|\\PC{0,8}", container in "[a-z./-]{0,6}", interface in "[a-z./:-]{0,4}|\\PC{0,8}",
    ) {
        let network = NetworkName::parse(&network);
        let container = ContainerId::parse(&container);
        if let (Ok(network), Ok(container), Ok(interface)) = (network, container, InterfaceName::parse(&interface)) {
            let name = file_name(&network, &container, &interface);
            prop_assert!(!name.contains('/') && !name.contains('\0') && !name.starts_with('.'));
            prop_assert!(name.len() <= 255);
        }
    }

    #[test]
    fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        drop(CacheEntry::parse(&bytes));
        drop(Conflist::parse("a.conflist", &bytes));
        drop(Conflist::parse("a.conf", &bytes));
    }
}
