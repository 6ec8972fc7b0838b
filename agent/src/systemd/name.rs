//! Unit names as D-Bus object paths: systemd writes every byte but `[A-Za-z0-9]` as `_` and two hex digits.

/// Where units live on the bus.
pub(crate) const UNIT_ROOT: &str = "/org/freedesktop/systemd1/unit";

/// The object path of `unit`.
pub(crate) fn unit_path(unit: &str) -> String {
    let mut path = String::with_capacity(UNIT_ROOT.len() + 1 + unit.len() * 2);
    path.push_str(UNIT_ROOT);
    path.push('/');
    escape_into(&mut path, unit, true);
    path
}

/// The escaped form of the beginning of a unit's name, to compare object paths with before they are decoded.
pub(crate) fn escape_prefix(prefix: &str) -> String {
    let mut escaped = String::with_capacity(prefix.len() * 2);
    escape_into(&mut escaped, prefix, true);
    escaped
}

fn escape_into(out: &mut String, name: &str, first: bool) {
    if name.is_empty() && first {
        out.push('_');
    }
    for (at, byte) in name.bytes().enumerate() {
        let digit_first = first && at == 0 && byte.is_ascii_digit();
        if byte.is_ascii_alphanumeric() && !digit_first {
            out.push(char::from(byte));
        } else {
            out.push('_');
            out.push_str(&hex(&[byte]));
        }
    }
}

/// The unit at an object path; `None` for paths that are not a unit's.
pub(crate) fn unit_at(path: &str) -> Option<String> {
    let escaped = escaped_name(path)?;
    if escaped == "_" {
        return Some(String::new());
    }
    let mut name = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'_' {
            let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
            name.push(high << 4 | low);
        } else {
            name.push(byte);
        }
    }
    String::from_utf8(name).ok()
}

/// The last component of a unit's object path, still escaped.
pub(crate) fn escaped_name(path: &str) -> Option<&str> {
    path.strip_prefix(UNIT_ROOT)?.strip_prefix('/').filter(|name| !name.is_empty() && !name.contains('/'))
}

/// Two digits for each byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_path() {
        for name in
            ["systemk.default.web.nginx_0a1b2c3d_0.service", "kubepods-pod1_2.slice", "9p.mount", "a@b\\x2d.service"]
        {
            let path = unit_path(name);
            assert!(path.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'/' || b == b'_'), "{path}");
            assert_eq!(unit_at(&path).as_deref(), Some(name));
        }
        assert_eq!(unit_path("-.slice"), "/org/freedesktop/systemd1/unit/_2d_2eslice");
        assert_eq!(unit_path("9p"), "/org/freedesktop/systemd1/unit/_39p");
    }

    #[test]
    fn other_paths_are_no_units() {
        for path in
            ["/org/freedesktop/systemd1", "/org/freedesktop/systemd1/unit/", "/org/freedesktop/systemd1/unit/a_", "/x"]
        {
            assert_eq!(unit_at(path), None, "{path}");
        }
    }
}
