use proptest::prelude::*;

use super::*;

#[test]
fn versions_are_exact_and_in_order() {
    for version in Version::ALL {
        assert_eq!(Version::parse(version.as_str()), Some(version));
    }
    for text in ["", "0.3.1", "0.4", "1.0", "1.1.1", "1.2.0", "v1.0.0", " 1.0.0", "2.0.0"] {
        assert_eq!(Version::parse(text), None, "{text}");
    }
    assert!(Version::V0_4 < Version::V1_0 && Version::V1_0 < Version::V1_1);
    assert_eq!(Version::ALL.map(Version::has_gc_and_status), [false, false, true]);
}

#[test]
fn names_are_the_specifications() {
    for good in ["a", "0", "k8s-pod-network", "cbr0", "a_b.c-d", &"a".repeat(MAX_NETWORK_NAME)] {
        assert_eq!(NetworkName::parse(good).unwrap().as_str(), good);
    }
    let long = "a".repeat(MAX_NETWORK_NAME + 1);
    for bad in ["", "-a", ".a", "_a", "a/b", "..", "a b", "ä", "a\n", "a\0", "a;b", long.as_str()] {
        NetworkName::parse(bad).unwrap_err();
        ContainerId::parse(bad).unwrap_err();
    }
}

#[test]
fn interfaces_are_the_kernels() {
    for good in ["eth0", "lo", "net1", "a.100", "abcdefghijklmno", "x;y"] {
        InterfaceName::parse(good).unwrap();
    }
    for bad in ["", ".", "..", "a/b", "a:1", "eth 0", "eth%d", "a\tb", "a\0", "a\u{a0}b", "abcdefghijklmnop"] {
        InterfaceName::parse(bad).unwrap_err();
    }
}

#[test]
fn plugin_types_are_bare_file_names() {
    for good in ["bridge", "cilium-cni", "host-local", "a b", "..x", "portmap.sh"] {
        PluginType::parse(good).unwrap();
    }
    let long = "a".repeat(256);
    for bad in ["", ".", "..", "/bin/sh", "../sh", "a/", "a\\b", "a\0b", "a\nb", long.as_str()] {
        PluginType::parse(bad).unwrap_err();
    }
}

#[test]
fn errors_show_others_text_harmlessly() {
    let error = NetworkName::parse("a\u{1b}[2J\nb\u{202e}").unwrap_err().to_string();
    assert_eq!(error, r#"the network name "a\u{1b}[2J\nb\u{202e}" may have only letters, digits, '_', '.' and '-'"#);
    let error = PluginType::parse(&"/".repeat(5000)).unwrap_err().to_string();
    assert!(error.len() < 300, "{error}");
    assert_eq!(shown(&shown("a\u{7}\\")), r"a\u{7}\");
    assert_eq!(shortened("a'b\"c\td", 5), "a'b\"c…");
    assert_eq!(shortened("a'b\"c\td", 6), "a'b\"c\\t…");
}

proptest! {
    #[test]
    fn no_plugin_type_leaves_its_directory(text in "\\PC{0,12}|[./\\\\a]{0,6}|(?s).{0,300}") {
        if let Ok(kind) = PluginType::parse(&text) {
            prop_assert!(!kind.as_str().contains('/') && !kind.as_str().contains('\0'));
            prop_assert!(!matches!(kind.as_str(), "" | "." | ".."));
            prop_assert!(kind.as_str().len() <= 255);
        }
    }

    #[test]
    fn what_is_shown_has_no_control_characters_and_an_end(text in "(?s).{0,400}") {
        let shown = shown(&text);
        prop_assert!(!shown.chars().any(char::is_control));
        prop_assert!(shown.chars().count() <= 200 * 10 + 1);
    }
}
