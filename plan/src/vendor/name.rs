//! Unit names: their prefix and instance, and systemd's escaping of paths in them.

/// A service's name in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnitName<'a> {
    /// All of it.
    pub(super) full: &'a str,
    /// Without `.service`.
    pub(super) stem: &'a str,
    /// Before the first `@`, or the stem.
    pub(super) prefix: &'a str,
    /// Between the first `@` and `.service`: empty for a template, None for a plain unit.
    pub(super) instance: Option<&'a str>,
}

impl<'a> UnitName<'a> {
    /// The parts of a name that systemd would accept for a service.
    pub(super) fn parse(full: &'a str) -> Option<Self> {
        let stem = full.strip_suffix(".service")?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        if full.len() > 255 || !stem.bytes().all(allowed) {
            return None;
        }
        let (prefix, instance) =
            stem.split_once('@').map_or((stem, None), |(prefix, instance)| (prefix, Some(instance)));
        (!prefix.is_empty()).then_some(Self { full, stem, prefix, instance })
    }

    /// `foo@.service`: it runs only as an instance.
    pub(super) fn is_template(&self) -> bool {
        self.instance == Some("")
    }

    /// After the last `-` of the prefix.
    pub(super) fn last_component(&self) -> &'a str {
        self.prefix.rsplit_once('-').map_or(self.prefix, |(_, last)| last)
    }

    /// systemd's `%f`: the instance, or the prefix of a plain unit, as an absolute path.
    pub(super) fn path(&self) -> Option<String> {
        let escaped = self.instance.filter(|instance| !instance.is_empty()).unwrap_or(self.prefix);
        let text = if escaped == "-" { String::new() } else { unescape(escaped)? };
        Some(if text.starts_with('/') { text } else { format!("/{text}") })
    }
}

/// Undoes systemd-escape(1): `-` is `/`, `\x2d` is `-`. None where that gives no UTF-8 or the escape is none.
pub(super) fn unescape(escaped: &str) -> Option<String> {
    let bytes = escaped.as_bytes();
    let mut text = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'-' => text.push(b'/'),
            b'\\' => {
                let digits = std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok()?;
                if bytes.get(at) != Some(&b'x') || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                text.push(u8::from_str_radix(digits, 16).ok()?);
                at += 3;
            }
            _ => text.push(byte),
        }
    }
    String::from_utf8(text).ok()
}
