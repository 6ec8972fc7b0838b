//! What must hold for any text that calls itself a unit file.

use plan::vendor::words::{Escapes, quote, split};
use plan::vendor::{Fragment, Section, SpecifierFacts, VendorContext, VendorUnit, adopt, directives, syntax};
use proptest::prelude::*;

fn unit(name: &str, text: String) -> VendorUnit {
    VendorUnit { name: name.to_owned(), fragments: vec![Fragment { path: "/lib/systemd/system/u".to_owned(), text }] }
}

/// A unit of known directives with values that are hard to write.
fn unit_text() -> impl Strategy<Value = String> {
    let rules: Vec<_> = directives::rules().filter(|rule| rule.section != Section::Install).collect();
    let value = prop_oneof![
        r#"[a-z/%"'\\ ;:$@!+~\t-]{0,12}"#,
        r#"(/[a-z%iInN]{1,4}| |"|\\n|\\x0a|%I|%%){0,6}"#,
        Just("CAP_KILL".to_owned()),
        "\\PC{0,8}",
    ];
    prop::collection::vec((prop::sample::select(rules), value), 0..12).prop_map(|lines| {
        let mut text = "[Service]\nExecStart=/bin/x\n".to_owned();
        for (rule, value) in lines {
            text.push_str(&format!("[{}]\n{}={value}\n", rule.section, rule.name));
        }
        text
    })
}

proptest! {
    #[test]
    fn the_parser_reads_anything(text in "\\PC*|[\\[\\]a-zA-Z=\\\\\n\r\0#; ]*") {
        let parsed = syntax::parse(&text);
        if let Ok(unit) = parsed {
            for assignment in unit.assignments {
                prop_assert!(!assignment.name.is_empty());
                prop_assert!(!assignment.value.contains(['\n', '\r', '\0']));
            }
        }
    }

    #[test]
    fn words_read_back(words in prop::collection::vec("\\PC{0,8}|[ \\\\\"'\u{1}-\u{7f}]{0,8}", 0..6)) {
        let quoted: Vec<String> = words.iter().map(|word| quote(word, Escapes::C).unwrap()).collect();
        prop_assert_eq!(split(&quoted.join(" "), Escapes::C).unwrap(), words);
    }

    #[test]
    fn literal_words_read_back(words in prop::collection::vec("[ -~]{0,8}", 0..6)) {
        let quoted: Vec<String> = words.iter().map(|word| quote(word, Escapes::Literal).unwrap()).collect();
        prop_assert_eq!(split(&quoted.join(" "), Escapes::Literal).unwrap(), words);
    }

    #[test]
    fn what_is_rendered_reads_back(
        text in unit_text(),
        name in prop::sample::select(vec!["u.service", "u@a\\x0ab-c.service", "u-v@x.service", "a\\x5c.service"]),
        program_given: bool,
        pod_identity: bool,
    ) {
        let facts = SpecifierFacts { hostname: "a b\n".to_owned(), ..SpecifierFacts::default() };
        let ctx = VendorContext {
            runtime_root: "systemk/pods/u/c/0/run",
            run_dir: "/run/systemk/pods/u/c/0/run",
            program_given,
            pod_identity,
            specifiers: &facts,
        };
        match adopt(&unit(name, text), &ctx) {
            Ok(service) => {
                let mut rendered = String::new();
                for directive in &service.directives {
                    rendered.push_str(&format!("[{}]\n{directive}\n", directive.section));
                }
                let read = syntax::parse(&rendered).unwrap().assignments;
                prop_assert_eq!(read.len(), service.directives.len(), "{}", rendered);
                for (assignment, directive) in read.iter().zip(&service.directives) {
                    prop_assert_eq!(&assignment.section, &directive.section.to_string());
                    prop_assert_eq!(&assignment.name, &directive.name);
                    prop_assert_eq!(&assignment.value, &directive.value);
                }
                for line in &service.lines {
                    prop_assert!(!line.line.argv.is_empty());
                    prop_assert!(line.prefix.ends_with(':'));
                }
            }
            Err(refusals) => prop_assert!(!refusals.is_empty()),
        }
    }

    #[test]
    fn adopting_anything_does_not_panic(text in "\\PC*", name in "\\PC{0,10}(.service)?") {
        let facts = SpecifierFacts::default();
        let ctx = VendorContext {
            runtime_root: "r",
            run_dir: "/run/r",
            program_given: false,
            pod_identity: false,
            specifiers: &facts,
        };
        prop_assert!(adopt(&unit(&name, text), &ctx).is_err_and(|refusals| !refusals.is_empty()));
    }
}
