//! `%` specifiers, for the vendor's own name: our unit has another one, so none may be left for systemd to expand.
//!
//! Takes a value and a node's facts, gives the text; which values have specifiers at all is said in the table.

use std::fmt;

use super::VendorUnit;
use super::name::{UnitName, unescape};

/// What the specifiers that name the machine stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecifierFacts {
    /// `%H`; `%l` is what is before its first dot.
    pub hostname: String,
    /// `%q`, `PRETTY_HOSTNAME=` of /etc/machine-info; None: the short hostname.
    pub pretty_hostname: Option<String>,
    /// `%m`, 32 hexadecimal digits.
    pub machine_id: String,
    /// `%b`, 32 hexadecimal digits.
    pub boot_id: String,
    /// `%v`, `uname -r`.
    pub kernel_release: String,
    /// `%a` in systemd's spelling: `x86-64`, `arm64`.
    pub architecture: String,
    /// What os-release says.
    pub os: OsFacts,
}

/// Fields of /etc/os-release; empty where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OsFacts {
    /// `%o`, `ID=`.
    pub id: String,
    /// `%w`, `VERSION_ID=`.
    pub version_id: String,
    /// `%W`, `VARIANT_ID=`.
    pub variant_id: String,
    /// `%B`, `BUILD_ID=`.
    pub build_id: String,
    /// `%M`, `IMAGE_ID=`.
    pub image_id: String,
    /// `%A`, `IMAGE_VERSION=`.
    pub image_version: String,
}

/// Why a value cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecifierError {
    /// systemd knows none of that letter, and would ignore the directive or refuse the unit.
    Unknown(char),
    /// It is known, and has no value for this unit.
    Unresolved(char),
    /// It expands to text that would be read differently where it stands.
    Unwritable(char),
}

impl fmt::Display for SpecifierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(letter) => write!(f, "there is no specifier %{letter}"),
            Self::Unresolved(letter) => write!(f, "the specifier %{letter} has no value for this unit"),
            Self::Unwritable(letter) => {
                write!(f, "the specifier %{letter} stands for text that cannot be written there")
            }
        }
    }
}

/// Expands the specifiers of one unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Specifiers<'a> {
    name: UnitName<'a>,
    fragment: &'a str,
    facts: &'a SpecifierFacts,
}

impl<'a> Specifiers<'a> {
    pub(super) fn new(unit: &'a VendorUnit, name: UnitName<'a>, facts: &'a SpecifierFacts) -> Self {
        let fragment = unit.fragments.first().map_or("", |fragment| fragment.path.as_str());
        Self { name, fragment, facts }
    }

    /// The text itself: `%%` is one `%`, as a program or a person sees it.
    pub(super) fn text(&self, value: &str) -> Result<String, SpecifierError> {
        self.expand(value, |_, text| Ok(text.to_owned()), "%")
    }

    /// As [`Self::text`] for a command line, where the one specifier whose value only systemd knows becomes a variable.
    pub(super) fn argument(&self, word: &str, variables: bool) -> Result<String, SpecifierError> {
        if !variables || !word.contains("%d") {
            return self.text(word);
        }
        // `%%d` is no specifier, so the parts between `%%` are looked at one by one.
        let parts: Result<Vec<String>, SpecifierError> =
            word.split("%%").map(|part| self.text(&part.replace("%d", "${CREDENTIALS_DIRECTORY}"))).collect();
        Ok(parts?.join("%"))
    }

    /// For a value that is one string: systemd reads nothing but `%` in it.
    pub(super) fn whole(&self, value: &str) -> Result<String, SpecifierError> {
        let writable = |letter, text: &str| {
            if text.chars().any(char::is_control) || text.ends_with('\\') {
                return Err(SpecifierError::Unwritable(letter));
            }
            Ok(text.replace('%', "%%"))
        };
        self.expand(value, writable, "%%")
    }

    /// For a value with a syntax of its own (quotes, blanks, `:`): what is put in must mean nothing in any of them.
    pub(super) fn spliced(&self, value: &str) -> Result<String, SpecifierError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-@+\\".contains(&byte) || byte >= 0x80;
        let writable = |letter, text: &str| {
            if !text.bytes().all(plain) {
                return Err(SpecifierError::Unwritable(letter));
            }
            // Instances have `\x2d` in their names; a doubled backslash is one in every such syntax.
            Ok(text.replace('\\', "\\\\"))
        };
        self.expand(value, writable, "%%")
    }

    fn expand(
        &self,
        value: &str,
        write: impl Fn(char, &str) -> Result<String, SpecifierError>,
        percent: &str,
    ) -> Result<String, SpecifierError> {
        let mut expanded = String::with_capacity(value.len());
        let mut rest = value.chars();
        while let Some(character) = rest.next() {
            if character != '%' {
                expanded.push(character);
                continue;
            }
            match rest.next() {
                None => expanded.push_str(percent),
                Some('%') => expanded.push_str(percent),
                Some(letter) if letter.is_ascii_alphanumeric() => {
                    expanded.push_str(&write(letter, &self.value(letter)?)?);
                }
                // systemd reserves only letters and digits.
                Some(other) => {
                    expanded.push_str(percent);
                    expanded.push(other);
                }
            }
        }
        Ok(expanded)
    }

    fn value(&self, letter: char) -> Result<String, SpecifierError> {
        let unescaped = |text: &str| unescape(text).ok_or(SpecifierError::Unresolved(letter));
        let short = self.facts.hostname.split('.').next().unwrap_or_default();
        let instance = self.name.instance.unwrap_or_default();
        let (directory, _) = self.fragment.rsplit_once('/').unwrap_or_default();
        Ok(match letter {
            'n' => self.name.full.to_owned(),
            'N' => self.name.stem.to_owned(),
            'p' => self.name.prefix.to_owned(),
            'P' => unescaped(self.name.prefix)?,
            'i' => instance.to_owned(),
            'I' => unescaped(instance)?,
            'j' => self.name.last_component().to_owned(),
            'J' => unescaped(self.name.last_component())?,
            'f' => self.name.path().ok_or(SpecifierError::Unresolved(letter))?,
            'y' => self.fragment.to_owned(),
            'Y' => directory.to_owned(),
            't' => "/run".to_owned(),
            'S' => "/var/lib".to_owned(),
            'C' => "/var/cache".to_owned(),
            'L' => "/var/log".to_owned(),
            'E' => "/etc".to_owned(),
            'T' => "/tmp".to_owned(),
            'V' => "/var/tmp".to_owned(),
            'h' => "/root".to_owned(),
            's' => "/bin/sh".to_owned(),
            'u' | 'g' => "root".to_owned(),
            'U' | 'G' => "0".to_owned(),
            'H' => self.facts.hostname.clone(),
            'l' => short.to_owned(),
            'q' => self.facts.pretty_hostname.clone().unwrap_or_else(|| short.to_owned()),
            'm' => self.facts.machine_id.clone(),
            'b' => self.facts.boot_id.clone(),
            'v' => self.facts.kernel_release.clone(),
            'a' => self.facts.architecture.clone(),
            'o' => self.facts.os.id.clone(),
            'w' => self.facts.os.version_id.clone(),
            'W' => self.facts.os.variant_id.clone(),
            'B' => self.facts.os.build_id.clone(),
            'M' => self.facts.os.image_id.clone(),
            'A' => self.facts.os.image_version.clone(),
            // The credentials directory is named after our unit.
            'd' => return Err(SpecifierError::Unresolved(letter)),
            _ => return Err(SpecifierError::Unknown(letter)),
        })
    }
}
