//! `UnitFile`: one unit's text, made of typed directives only.
//!
//! There is no setter that takes a string from a pod and writes it as it stands. What a pod can influence reaches a unit
//! in two ways: as a mount path, through [`escape::path_pair`], and as base64 in `[X-Kubernetes]` (see [`identity`]).

use std::fmt::Write as _;

pub mod escape;
pub mod identity;
pub mod name;

pub use escape::BadPath;
pub use identity::UnitIdentity;

/// The sections of the units that systemk writes, in the order in which they are rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `[Unit]`
    Unit,
    /// `[Service]`
    Service,
    /// `[Slice]`
    Slice,
}

impl Section {
    fn title(self) -> &'static str {
        match self {
            Self::Unit => "Unit",
            Self::Service => "Service",
            Self::Slice => "Slice",
        }
    }
}

/// One directive's name with its rendered value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    section: Section,
    name: String,
    value: String,
}

/// A unit file under construction.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UnitFile {
    entries: Vec<Entry>,
    identity: Option<UnitIdentity>,
}

impl UnitFile {
    /// A unit file that belongs to `identity`.
    pub fn new(identity: UnitIdentity) -> Self {
        Self { entries: Vec::new(), identity: Some(identity) }
    }

    /// A directive whose value is a constant of this program.
    pub fn set(&mut self, section: Section, name: &str, value: &'static str) -> &mut Self {
        self.push(section, name, value.to_owned())
    }

    /// A directive whose value is a number.
    pub fn number(&mut self, section: Section, name: &str, value: impl Into<i128>) -> &mut Self {
        let value = value.into();
        self.push(section, name, value.to_string())
    }

    /// A percentage in hundredths: written with two decimals at most, and with the single `%` that systemd wants there.
    pub fn percent(&mut self, section: Section, name: &str, hundredths: u64) -> &mut Self {
        let (whole, rest) = (hundredths / 100, hundredths % 100);
        let value = if rest == 0 { format!("{whole}%") } else { format!("{whole}.{rest:02}%") };
        self.push(section, name, value)
    }

    /// A directive that names a path, a unit or a command made of the node's own configuration and checked names. Bytes
    /// that could end the line or be read as a specifier are escaped all the same.
    pub fn text(&mut self, section: Section, name: &str, value: &str) -> &mut Self {
        self.push(section, name, escape::line(value))
    }

    /// A vendor's directive: its value comes from `plan::vendor`, which has already parsed, checked and escaped it.
    pub fn vendor(&mut self, section: Section, name: &str, value: &str) -> &mut Self {
        self.push(section, name, value.replace(['\n', '\r', '\0'], " "))
    }

    /// `BindPaths=` or `BindReadOnlyPaths=`: the one place where a path that a pod wrote enters a unit.
    ///
    /// # Errors
    /// A path that systemd cannot be told: a control byte, not absolute, too long.
    /// An `optional` one is passed over by systemd where its source is missing.
    pub fn bind(&mut self, read_only: bool, optional: bool, source: &str, target: &str) -> Result<&mut Self, BadPath> {
        let name = if read_only { "BindReadOnlyPaths" } else { "BindPaths" };
        let value = escape::path_pair(optional, source, target)?;
        Ok(self.push(Section::Service, name, value))
    }

    /// Whether a directive is set.
    pub fn has(&self, section: Section, name: &str) -> bool {
        self.entries.iter().any(|e| e.section == section && e.name == name)
    }

    fn push(&mut self, section: Section, name: &str, value: String) -> &mut Self {
        self.entries.push(Entry { section, name: name.to_owned(), value });
        self
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let mut text =
            String::from("# Written by systemk. It belongs to one attempt of one container and is never changed.\n");
        for section in [Section::Unit, Section::Service, Section::Slice] {
            let mut lines = self.entries.iter().filter(|e| e.section == section).peekable();
            if lines.peek().is_none() {
                continue;
            }
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "[{}]", section.title());
            for entry in lines {
                let _infallible = writeln!(text, "{}={}", entry.name, entry.value);
            }
            text.push('\n');
        }
        if let Some(identity) = &self.identity {
            text.push_str(&identity.render());
        }
        text
    }
}
