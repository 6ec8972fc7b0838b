//! Escaping of values in unit files, in one place only (`systemd.syntax(7)`, tried on 252 and 257).

use thiserror::Error;

/// A path that cannot be written into a unit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadPath {
    /// `\xNN` is not decoded in `BindPaths=`, so such a byte cannot be written at all.
    #[error("has a control character, which systemd cannot be told")]
    ControlCharacter,
    /// systemd drops a line that has one.
    #[error("has a code point that is not a character (U+FFFF and the like), which systemd cannot be told")]
    NotCharacter,
    /// systemd 255 and later hand mounts to their executor with quotes unescaped: one alone fails the unit, two move the
    /// mount to another place (tried on 257).
    #[error("has a quotation mark, which systemd loses on the way to its own executor")]
    Quote,
    /// systemd refuses relative paths.
    #[error("is not absolute")]
    NotAbsolute,
    /// PID 1 has crashed on longer ones (CVE-2021-33910).
    #[error("is longer than 4095 bytes")]
    TooLong,
    /// A component that would leave the place it is meant for.
    #[error("must not contain '.' or '..' as a component")]
    Dots,
}

/// One value on one line: line ends and NUL become spaces, a trailing backslash cannot continue the line, `%` is literal.
pub fn line(value: &str) -> String {
    let mut text: String =
        value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().replace('%', "%%");
    if text.ends_with('\\') {
        text.push(' ');
    }
    text
}

/// The checks that every path in a mount has to pass.
///
/// # Errors
/// See [`BadPath`].
pub fn check_path(path: &str) -> Result<(), BadPath> {
    if path.chars().any(char::is_control) {
        return Err(BadPath::ControlCharacter);
    }
    if path.chars().any(|c| matches!(u32::from(c), 0xfdd0..=0xfdef) || u32::from(c) & 0xfffe == 0xfffe) {
        return Err(BadPath::NotCharacter);
    }
    if path.contains(['"', '\'']) {
        return Err(BadPath::Quote);
    }
    if !path.starts_with('/') {
        return Err(BadPath::NotAbsolute);
    }
    if path.len() > 4095 {
        return Err(BadPath::TooLong);
    }
    if path.split('/').any(|c| c == ".." || c == ".") {
        return Err(BadPath::Dots);
    }
    Ok(())
}

/// `"source":"target"` with each side quoted apart: inside double quotes systemd takes `\\` and `\"`, and `%%` after that.
///
/// # Errors
/// See [`BadPath`].
pub fn path_pair(optional: bool, source: &str, target: &str) -> Result<String, BadPath> {
    check_path(source)?;
    check_path(target)?;
    Ok(format!("{}:{}", quote(if optional { "-" } else { "" }, source), quote("", target)))
}

fn quote(prefix: &str, path: &str) -> String {
    let mut quoted = String::with_capacity(path.len() + 3);
    quoted.push('"');
    quoted.push_str(prefix);
    for c in path.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            '%' => quoted.push_str("%%"),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_its_directive() {
        assert_eq!(path_pair(false, "/a b", "/c:d").unwrap(), r#""/a b":"/c:d""#);
        assert_eq!(path_pair(false, r"/a\", "/%n").unwrap(), r#""/a\\":"/%%n""#);
        assert_eq!(path_pair(false, "/a\u{10ffff}", "/b"), Err(BadPath::NotCharacter));
        assert_eq!(path_pair(false, r#"/a""#, "/b"), Err(BadPath::Quote));
        assert_eq!(path_pair(false, "/a", "/it's"), Err(BadPath::Quote));
        assert_eq!(path_pair(false, "/a\n[Service]\nExecStartPre=/x", "/b"), Err(BadPath::ControlCharacter));
        assert_eq!(path_pair(false, "a", "/b"), Err(BadPath::NotAbsolute));
        assert_eq!(path_pair(false, "/a/../b", "/b"), Err(BadPath::Dots));
        assert_eq!(path_pair(false, &format!("/{}", "x".repeat(4095)), "/b"), Err(BadPath::TooLong));
    }

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(line("a\nb\0%h\\"), "a b %%h\\ ");
    }
}
