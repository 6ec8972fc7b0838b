//! systemd's expansion of variables in Exec lines, as systemd 252's `replace_env_argv` does it.
//!
//! - A word that begins with `$` but not `${` or `$$` is one variable's name, whole: its value is split at blanks into zero
//!   or more words, quotes and backslashes of the value honoured (never refused: an open quote ends with the value).
//!   `$FOO/bar` names a variable that cannot exist, so the word vanishes.
//! - In every other word `${FOO}` becomes the value as it is, or nothing where unset, and `$$` becomes `$`. `a$FOO` and
//!   `${FOO:-x}` stay as they are: both belong to other callers of that code in systemd.
//!
//! Differences between versions that are left alone: 254 and later also refuse names that are no shell identifiers, where
//! 252 looks up whatever is written. No environment that systemd makes holds such a name, but a pod's may (`my.name`), so
//! 252's rule is the useful one. The program itself is never expanded (systemd takes its path before it expands); what it
//! is told it is called is, with the other words.

/// The words after expansion. `value` looks a name up in the final environment.
pub fn expand<'e>(words: &[&[u8]], value: impl Fn(&[u8]) -> Option<&'e [u8]>) -> Vec<Vec<u8>> {
    let mut expanded = Vec::with_capacity(words.len());
    for &word in words {
        match word {
            [b'$', rest @ ..] if !matches!(rest.first(), Some(b'{' | b'$')) => {
                expanded.extend(value(rest).map(split).unwrap_or_default());
            }
            _ => expanded.push(substitute(word, &value)),
        }
    }
    expanded
}

/// `replace_env` without its flags.
fn substitute<'e>(word: &[u8], value: impl Fn(&[u8]) -> Option<&'e [u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'$' {
            out.push(*first);
            continue;
        }
        match tail {
            [b'$', after @ ..] => {
                out.push(b'$');
                rest = after;
            }
            // A `:` before the `}` is the extended syntax, which Exec lines do not have; with neither, nothing closes it.
            [b'{', inside @ ..] => match inside.iter().position(|b| matches!(b, b'}' | b':')) {
                Some(end) if inside[end] == b'}' => {
                    out.extend_from_slice(value(&inside[..end]).unwrap_or_default());
                    rest = &inside[end + 1..];
                }
                Some(colon) => {
                    out.extend_from_slice(b"${");
                    out.extend_from_slice(&inside[..=colon]);
                    rest = &inside[colon + 1..];
                }
                None => {
                    out.extend_from_slice(b"${");
                    out.extend_from_slice(inside);
                    rest = &[];
                }
            },
            // The character after a lone `$` is taken with it.
            [other, after @ ..] => {
                out.extend_from_slice(&[b'$', *other]);
                rest = after;
            }
            [] => out.push(b'$'),
        }
    }
    out
}

/// `strv_split_full(value, WHITESPACE, EXTRACT_RELAX|EXTRACT_UNQUOTE)`.
fn split(value: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' if quote.is_none() => words.extend(word.take()),
            // Within single quotes too; the last one, with nothing to escape, is dropped.
            b'\\' => word.get_or_insert_default().extend(bytes.next()),
            _ if quote == Some(byte) => quote = None,
            b'"' | b'\'' if quote.is_none() => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::expand;

    const ENV: [(&str, &str); 9] = [
        ("A", "one"),
        ("TWO", "one two"),
        ("EMPTY", ""),
        ("BLANK", " \t\n "),
        ("QUOTED", r#"a "b c" 'd  e'f "" g\ h"#),
        ("OPEN", r#"x "y z"#),
        ("SLASH", r"a\"),
        ("DOLLAR", "$A ${A}"),
        ("my.name", "dotted"),
    ];

    fn run(words: &[&str]) -> Vec<String> {
        let words: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        let value = |name: &[u8]| ENV.iter().find(|(n, _)| n.as_bytes() == name).map(|(_, v)| v.as_bytes());
        expand(&words, value).into_iter().map(|w| String::from_utf8(w).unwrap()).collect()
    }

    /// Each of these was also run through the real systemd 252 (`my.name` apart, which its `Environment=` refuses).
    #[test]
    fn as_systemd_does() {
        let cases: [(&str, &[&str]); 40] = [
            ("plain", &["plain"]),
            ("", &[""]),
            ("$A", &["one"]),
            ("$TWO", &["one", "two"]),
            ("$EMPTY", &[]),
            ("$BLANK", &[]),
            ("$NONE", &[]),
            ("$A/b", &[]),
            ("$", &[]),
            ("$ A", &[]),
            ("$QUOTED", &["a", "b c", "d  ef", "", "g h"]),
            ("$OPEN", &["x", "y z"]),
            ("$SLASH", &["a"]),
            ("$DOLLAR", &["$A", "${A}"]),
            ("${TWO}", &["one two"]),
            ("${EMPTY}", &[""]),
            ("${NONE}", &[""]),
            ("x${A}y${TWO}z", &["xoneyone twoz"]),
            ("${QUOTED}", &[r#"a "b c" 'd  e'f "" g\ h"#]),
            ("a$A", &["a$A"]),
            ("a$A${A}", &["a$Aone"]),
            ("a$", &["a$"]),
            ("$$", &["$"]),
            ("$$A", &["$A"]),
            ("$${A}", &["${A}"]),
            ("a$$$$b", &["a$$b"]),
            ("$$${A}", &["$one"]),
            ("${A", &["${A"]),
            ("${", &["${"]),
            ("${}", &[""]),
            ("${A:-d}", &["${A:-d}"]),
            ("${A:+${A}}", &["${A:+one}"]),
            ("${my.name}", &["dotted"]),
            ("${A${A}", &[""]),
            ("${A:}${A}", &["${A:}one"]),
            ("a$ ${A}", &["a$ one"]),
            ("$-{A}", &[]),
            ("$'A'", &[]),
            ("'${A}'", &["'one'"]),
            ("x$${A}${A}", &["x${A}one"]),
        ];
        for (word, expected) in cases {
            assert_eq!(run(&[word]), expected, "{word:?}");
        }
    }

    #[test]
    fn words_keep_their_order() {
        assert_eq!(run(&["-x", "$NONE", "$TWO", "-y", "${NONE}"]), ["-x", "one", "two", "-y", ""]);
    }
}
