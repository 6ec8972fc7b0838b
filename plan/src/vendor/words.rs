//! systemd's words: how a value is cut at blanks, with quotes and C escapes (`extract_first_word()`).
//!
//! Takes a value, gives its words; and writes a word so that it reads back the same. It expands nothing.

use std::fmt;

const WHITESPACE: [u8; 4] = *b" \t\n\r";

/// Whether backslashes are C escapes. Exec lines and `Environment=` say so; paths only take the next character as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escapes {
    /// `\n`, `\x20`, `\u00e4`…; an unknown one stays, backslash included, as systemd has it after a warning.
    C,
    /// `\` and a character is that character.
    Literal,
}

/// Why a value has no words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordError {
    /// A quote is not closed, or the value ends in a backslash inside of one.
    Unbalanced,
    /// Escapes make bytes that are no UTF-8.
    NotUtf8,
    /// A control character cannot be written in this directive.
    Control,
}

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unbalanced => "its quotes are not balanced",
            Self::NotUtf8 => "its escapes make bytes that are no UTF-8",
            Self::Control => "it holds a control character that cannot be written there",
        })
    }
}

/// Cuts the first word off `rest`, with the blanks after it. None: there is none left.
pub fn first(rest: &mut &str, escapes: Escapes) -> Result<Option<String>, WordError> {
    let bytes = rest.as_bytes();
    let mut at = skip_blanks(bytes, 0);
    if at >= bytes.len() {
        *rest = "";
        return Ok(None);
    }
    let mut word: Vec<u8> = Vec::new();
    let mut quote: Option<u8> = None;
    while at < bytes.len() {
        let byte = bytes[at];
        at += 1;
        match (quote, byte) {
            (_, b'\\') => at = escape(bytes, at, escapes, quote, &mut word)?,
            (Some(open), _) if byte == open => quote = None,
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, _) if WHITESPACE.contains(&byte) => {
                at -= 1;
                break;
            }
            (_, _) => word.push(byte),
        }
    }
    if quote.is_some() {
        return Err(WordError::Unbalanced);
    }
    *rest = rest.get(skip_blanks(bytes, at)..).unwrap_or_default();
    String::from_utf8(word).map(Some).map_err(|_| WordError::NotUtf8)
}

/// All words of a value.
pub fn split(value: &str, escapes: Escapes) -> Result<Vec<String>, WordError> {
    let mut rest = value;
    let mut words = Vec::new();
    while let Some(word) = first(&mut rest, escapes)? {
        words.push(word);
    }
    Ok(words)
}

fn skip_blanks(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|byte| !WHITESPACE.contains(byte)).map_or(bytes.len(), |blanks| from + blanks)
}

/// Reads what follows a backslash; gives where the word goes on.
fn escape(
    bytes: &[u8],
    at: usize,
    escapes: Escapes,
    quote: Option<u8>,
    word: &mut Vec<u8>,
) -> Result<usize, WordError> {
    let Some(&byte) = bytes.get(at) else {
        // Outside of quotes systemd's second, relaxed attempt keeps it.
        return match (quote, escapes) {
            (None, Escapes::C) => {
                word.push(b'\\');
                Ok(at)
            }
            (None, Escapes::Literal) | (Some(_), _) => Err(WordError::Unbalanced),
        };
    };
    if escapes == Escapes::Literal {
        word.push(byte);
        return Ok(at + 1);
    }
    if let Some((text, used)) = c_escape(&bytes[at..]) {
        word.extend_from_slice(&text);
        return Ok(at + used);
    }
    word.extend_from_slice(&[b'\\', byte]);
    Ok(at + 1)
}

/// systemd's `cunescape_one()`: what an escape stands for and how many bytes after the backslash it takes.
fn c_escape(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let simple = |byte: u8| Some((vec![byte], 1));
    match *bytes.first()? {
        b'a' => simple(7),
        b'b' => simple(8),
        b'f' => simple(12),
        b'n' => simple(b'\n'),
        b'r' => simple(b'\r'),
        b't' => simple(b'\t'),
        b'v' => simple(11),
        b's' => simple(b' '),
        same @ (b'\\' | b'"' | b'\'') => simple(same),
        b'x' => {
            let value = number(bytes.get(1..3)?, 16)?;
            Some((vec![u8::try_from(value).ok()?], 3))
        }
        b'0'..=b'7' => {
            let value = number(bytes.get(..3)?, 8)?;
            Some((vec![u8::try_from(value).ok()?], 3))
        }
        b'u' => Some((unicode(bytes.get(1..5)?)?, 5)),
        b'U' => Some((unicode(bytes.get(1..9)?)?, 9)),
        _ => None,
    }
}

/// The number that digits name; none is no number, and neither is NUL, which no argument can hold.
fn number(digits: &[u8], radix: u32) -> Option<u32> {
    digits
        .iter()
        .try_fold(0_u32, |value, digit| value.checked_mul(radix)?.checked_add(char::from(*digit).to_digit(radix)?))
        .filter(|value| *value != 0)
}

fn unicode(digits: &[u8]) -> Option<Vec<u8>> {
    Some(char::from_u32(number(digits, 16)?)?.to_string().into_bytes())
}

/// Writes a word so that [`first`] reads it back. `%` is the caller's to escape.
pub fn quote(word: &str, escapes: Escapes) -> Result<String, WordError> {
    let plain = |byte: u8| !WHITESPACE.contains(&byte) && byte >= b' ' && !matches!(byte, b'"' | b'\'' | b'\\' | 0x7f);
    if !word.is_empty() && word != ";" && word.bytes().all(plain) {
        return Ok(word.to_owned());
    }
    let mut quoted = String::from("\"");
    for character in word.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\0'..='\x1f' | '\x7f' => match escapes {
                Escapes::C if character != '\0' => quoted.push_str(&format!("\\x{:02x}", u32::from(character))),
                Escapes::C | Escapes::Literal => return Err(WordError::Control),
            },
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    Ok(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: &[&str]) {
        assert_eq!(split(value, Escapes::C).unwrap(), expected, "{value}");
    }

    #[test]
    fn words_of_the_man_pages() {
        check("/bin/echo one 'two two' \"three  three\"", &["/bin/echo", "one", "two two", "three  three"]);
        check(r"ONE='one' 'TWO=two two' THREE=", &["ONE=one", "TWO=two two", "THREE="]);
        check(r#"ONE='one' "TWO='two two' too" THREE="#, &["ONE=one", "TWO='two two' too", "THREE="]);
        check("sh -c 'dmesg | tac'", &["sh", "-c", "dmesg | tac"]);
        check(r#"a"b c"d '' "" 'it"s'"#, &["ab cd", "", "", "it\"s"]);
        check("  \t ", &[]);
    }

    #[test]
    fn escapes_of_the_man_page() {
        check(r#"\a\b\f\n\r\t\v\\\"\'\s"#, &["\x07\x08\x0c\n\r\t\x0b\\\"' "]);
        check(r"\x41\101\u00e4\U0001F600", &["AA\u{e4}\u{1f600}"]);
        check(r"'\x20' a\sb", &[" ", "a b"]);
        check(r"\xc3\xa4", &["\u{e4}"]);
    }

    #[test]
    fn unknown_escapes_stay() {
        check(r"\q \x0 \x00 \400 \u12 \uD800 a\ b", &[r"\q", r"\x0", r"\x00", r"\400", r"\u12", r"\uD800", r"a\ b"]);
        check(r"a\", &[r"a\"]);
        assert_eq!(split(r"a\b\ c \\", Escapes::Literal).unwrap(), [r"ab c", r"\"]);
    }

    #[test]
    fn what_has_no_words() {
        assert_eq!(split("\"a", Escapes::C), Err(WordError::Unbalanced));
        assert_eq!(split("'a\\", Escapes::C), Err(WordError::Unbalanced));
        assert_eq!(split("a\\", Escapes::Literal), Err(WordError::Unbalanced));
        assert_eq!(split(r"\xff", Escapes::C), Err(WordError::NotUtf8));
        assert_eq!(quote("a\n", Escapes::Literal), Err(WordError::Control));
    }
}
