//! Kubernetes' `$(VAR)` expansion in `env`, `command`, `args` and `subPathExpr`: upstream's
//! `third_party/forked/golang/expansion`, byte for byte. `$$` is a `$`, so `$$(VAR)` is the text `$(VAR)`; a name that is
//! not known leaves `$(NAME)` as it stands; what a variable holds is not expanded again.

/// `text` with every `$(NAME)` that `lookup` knows replaced.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        let Some(next) = after.chars().next() else {
            expanded.push('$');
            return expanded;
        };
        rest = &after[next.len_utf8()..];
        match next {
            '$' => expanded.push('$'),
            '(' => match rest.split_once(')') {
                Some((name, behind)) => {
                    match lookup(name) {
                        Some(value) => expanded.push_str(&value),
                        None => expanded.extend(["$(", name, ")"]),
                    }
                    rest = behind;
                }
                None => expanded.push_str("$("),
            },
            other => expanded.extend(['$', other]),
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        Some(match name {
            "VAR_A" => "A".to_owned(),
            "VAR_B" => "B".to_owned(),
            "VAR_C" => "C".to_owned(),
            "VAR_REF" => "$(VAR_A)".to_owned(),
            "VAR_EMPTY" => String::new(),
            _ => return None,
        })
    }

    /// Upstream's `expand_test.go`.
    #[test]
    fn expands_as_upstream_does() {
        for (input, expected) in [
            ("$(VAR_A)", "A"),
            ("___$(VAR_B)___", "___B___"),
            ("___$(VAR_C)", "___C"),
            ("$(VAR_A)-$(VAR_A)", "A-A"),
            ("$(VAR_A)-1", "A-1"),
            ("$(VAR_REF)", "$(VAR_A)"),
            ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
            ("foo$(VAR_EMPTY)bar", "foobar"),
            ("foo$(VAR_EMPTY)bar$(VAR_A)", "foobarA"),
            ("foo\\$(VAR_A)bar", "foo\\Abar"),
            ("foo\\\\$(VAR_A)bar", "foo\\\\Abar"),
            ("foo$$(VAR_A)bar", "foo$(VAR_A)bar"),
            ("foo$$$(VAR_A)bar", "foo$Abar"),
            ("$$$$$$$(BAZ_VAR)", "$$$$(BAZ_VAR)"),
            ("$$(VAR_A)", "$(VAR_A)"),
            ("$$$$(VAR_A)", "$$(VAR_A)"),
            ("$$$(VAR_A)", "$A"),
            ("$VAR_A", "$VAR_A"),
            ("${VAR_A}", "${VAR_A}"),
            ("$(VAR_UNKNOWN)", "$(VAR_UNKNOWN)"),
            ("$($(VAR_A))", "$($(VAR_A))"),
            ("foo$(VAR_A", "foo$(VAR_A"),
            ("$((VAR_A)bar", "$((VAR_A)bar"),
            ("$(VAR_A(VAR_B)", "$(VAR_A(VAR_B)"),
            ("a$", "a$"),
            ("$", "$"),
            ("$$", "$"),
            ("$()", "$()"),
            ("$é$(VAR_A)", "$éA"),
            ("", ""),
        ] {
            assert_eq!(expand(input, lookup), expected, "{input}");
        }
    }

    proptest! {
        #[test]
        fn text_without_a_dollar_is_unchanged_and_nothing_panics(text in "\\PC*", plain in "[^$]*") {
            let _ = expand(&text, lookup);
            prop_assert_eq!(expand(&plain, lookup), plain);
        }
    }
}
