//! `os-release(5)`: which distribution this is.

/// The two fields that choose a package manager.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OsRelease {
    /// `ID=`, lower case; `linux` when missing, as the manual page says.
    pub id: String,
    /// `ID_LIKE=`, closest relative first.
    pub id_like: Vec<String>,
}

impl OsRelease {
    /// Reads the file's text. Keys are compared whole (`VERSION_ID` is not `ID`), a later assignment wins, shell quotes
    /// and escapes are undone.
    pub fn parse(text: &str) -> Self {
        let mut release = Self { id: "linux".to_owned(), id_like: Vec::new() };
        for line in text.lines() {
            match line.trim().split_once('=') {
                Some(("ID", value)) => release.id = unquote(value).to_ascii_lowercase(),
                Some(("ID_LIKE", value)) => {
                    release.id_like = unquote(value).split_whitespace().map(str::to_ascii_lowercase).collect();
                }
                _ => {}
            }
        }
        release
    }

    /// `ID`, then each of `ID_LIKE`.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.id.as_str()).chain(self.id_like.iter().map(String::as_str))
    }
}

/// Every field of the file by its key.
pub fn fields(text: &str) -> std::collections::BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
    pairs.filter(|(key, _)| !key.starts_with('#')).map(|(key, value)| (key.to_owned(), unquote(value))).collect()
}

fn unquote(value: &str) -> String {
    let value = value.trim();
    let single = value.len() >= 2 && value.starts_with('\'') && value.ends_with('\'');
    if single {
        return value[1..value.len() - 1].to_owned();
    }
    let double = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
    let inner = if double { &value[1..value.len() - 1] } else { value };
    let mut plain = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            other => plain.push(other),
        }
    }
    plain
}
