//! How a registry wants to be asked: `WWW-Authenticate:`, and the token that its token server grants.
//!
//! RFC 9110, 11.6.1 for the header; distribution's `spec/auth/token.md` for the rest.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// The longest header or answer that is read, in bytes.
pub const MAX_ANSWER: usize = 1 << 20;
const MAX_HEADER: usize = 8 << 10;
/// As long as a token is good whose server does not say so.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// One way to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A token of that server.
    Bearer {
        /// The token server's URL.
        realm: String,
        /// What the token is for; empty: it did not say.
        service: String,
        /// What it must allow; empty: it did not say.
        scope: String,
    },
    /// Name and password.
    Basic,
}

/// What the token server grants. It is a credential: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// For `Authorization: Bearer`.
    pub token: String,
    /// How long from now on it is good.
    pub life: Duration,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("life", &self.life).finish_non_exhaustive()
    }
}

/// Why an answer of a token server is none. Nothing of the answer is repeated: it may hold a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Not JSON, or far too long.
    #[error("the token server's answer cannot be read")]
    Unreadable,
    /// JSON without a token.
    #[error("the token server's answer holds no token")]
    Empty,
    /// A token that would not fit into a header.
    #[error("the token server's token cannot be sent in a header")]
    Unsendable,
}

/// The challenges of one `WWW-Authenticate:` header, as they come. What is not understood is passed over.
pub fn parse(header: &str) -> Vec<Challenge> {
    if header.len() > MAX_HEADER {
        return Vec::new();
    }
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    let mut challenges = Vec::new();
    while !rest.is_empty() {
        let (scheme, after) = token(rest);
        if scheme.is_empty() {
            // Nothing that a challenge could begin with: the rest is nobody's.
            break;
        }
        let (parameters, after) = parameters(after);
        let parameter = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        if scheme.eq_ignore_ascii_case("bearer") && !parameter("realm").is_empty() {
            let (service, scope) = (parameter("service"), parameter("scope"));
            challenges.push(Challenge::Bearer { realm: parameter("realm"), service, scope });
        } else if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        }
        rest = after;
    }
    challenges
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// `name=value, name="quoted"` up to the next challenge; gives them and what is left.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let begin = rest.trim_start_matches([' ', '\t', ',']);
        let (name, after) = token(begin);
        let after = after.trim_start_matches([' ', '\t']);
        let Some(value) = after.strip_prefix('=').filter(|_| !name.is_empty()) else {
            // A scheme, or a token68 (`Negotiate YII=`), which none of ours has.
            let skipped = if name.is_empty() { begin.trim_start_matches(|c| c != ',') } else { begin };
            return (found, skipped.trim_start_matches([' ', '\t', ',']));
        };
        let value = value.trim_start_matches([' ', '\t']);
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted_string(quoted),
            None => {
                let (value, after) = token(value);
                (value.to_owned(), after)
            }
        };
        found.push((name.to_owned(), value));
        // What follows a value but is no separator belongs to nobody.
        rest = after.trim_start_matches(|c| c != ',' && c != ' ' && c != '\t');
    }
}

/// After the opening quote; one that is never closed ends with the header.
fn quoted_string(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// Reads a token server's answer.
///
/// # Errors
/// [`GrantError`]: there is no token in it that can be used.
pub fn grant(answer: &[u8]) -> Result<Grant, GrantError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: Option<String>,
        /// OAuth 2's name for the same.
        #[serde(default)]
        access_token: Option<String>,
        #[serde(default)]
        expires_in: Option<f64>,
    }
    if answer.len() > MAX_ANSWER {
        return Err(GrantError::Unreadable);
    }
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| GrantError::Unreadable)?;
    let filled = |token: Option<String>| token.filter(|token| !token.is_empty());
    let token = filled(answer.token).or_else(|| filled(answer.access_token)).ok_or(GrantError::Empty)?;
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(GrantError::Unsendable);
    }
    // The specification's default is its minimum too: older clients break below it.
    let said = answer.expires_in.filter(|seconds| seconds.is_finite() && *seconds > 0.0);
    let life = said.map_or(DEFAULT_LIFE, |seconds| Duration::from_secs_f64(seconds.clamp(60.0, 86_400.0)));
    Ok(Grant { token, life })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: &str, scope: &str) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.into(), scope: scope.into() }
    }

    #[test]
    fn registries_headers_are_read() {
        let hub =
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        assert_eq!(parse(hub), [bearer("https://auth.example/token", "registry.example", "repository:a/b:pull,push")]);
        let two = r#"Basic realm="a, Bearer realm=x", bearer Realm = "https://t/\"q\"" , error="insufficient_scope""#;
        assert_eq!(parse(two), [Challenge::Basic, bearer("https://t/\"q\"", "", "")]);
        assert_eq!(parse("Basic"), [Challenge::Basic]);
        assert_eq!(parse("Negotiate, Basic realm=x"), [Challenge::Basic]);
        assert_eq!(parse("Bearer service=\"no realm\""), []);
        assert_eq!(parse(""), []);
        assert_eq!(parse("Bearer realm=\"never closed"), [bearer("never closed", "", "")]);
        assert_eq!(parse(&format!("Basic realm=\"{}\"", "x".repeat(MAX_HEADER))), []);
    }

    proptest! {
        #[test]
        fn any_header_comes_to_an_end(header in "[ -~\\t]{0,200}") {
            prop_assert!(parse(&header).len() <= header.len());
        }

        #[test]
        fn what_is_quoted_is_taken_as_it_is(realm in "[ -~]{1,40}") {
            let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(parse(&format!("Bearer realm=\"{quoted}\",scope=s")), [bearer(&realm, "", "s")]);
        }
    }

    #[test]
    fn grants_of_both_kinds_and_their_lives() {
        let read = |text: &str| grant(text.as_bytes()).map(|grant| (grant.token, grant.life.as_secs()));
        assert_eq!(read(r#"{"token":"t","expires_in":300,"issued_at":"x"}"#), Ok(("t".into(), 300)));
        assert_eq!(read(r#"{"access_token":"a"}"#), Ok(("a".into(), 60)));
        assert_eq!(read(r#"{"token":"","access_token":"a","expires_in":1}"#), Ok(("a".into(), 60)));
        assert_eq!(read(r#"{"token":"t","expires_in":1e300}"#), Ok(("t".into(), 86_400)));
        assert_eq!(read("{}"), Err(GrantError::Empty));
        assert_eq!(read("no"), Err(GrantError::Unreadable));
        assert_eq!(read(r#"{"token":"a\r\nX: y"}"#), Err(GrantError::Unsendable));
        assert_eq!(grant(&vec![b' '; MAX_ANSWER + 1]), Err(GrantError::Unreadable));
        let shown = format!("{:?}", grant(br#"{"token":"hidden"}"#).unwrap());
        assert!(!shown.contains("hidden"), "{shown}");
    }
}
