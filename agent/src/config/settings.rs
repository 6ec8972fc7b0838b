//! Every setting's values and where they come from: flag, else environment, else config file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args as _;
use clap::parser::ValueSource;

use super::cli::AgentFlags;
use super::{DEFAULT_FILE, Surroundings, file};

/// Where a value was found, so that a message can name what has to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Flag(String),
    Variable(String),
    File(PathBuf, String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Variable(name) => f.write_str(name),
            Self::File(path, key) => write!(f, "{}: {key}", path.display()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) values: Vec<String>,
    pub(super) origin: Origin,
}

/// By the flag's long name. A flag that takes no value has the value `true` or `false`.
pub(super) type Settings = BTreeMap<String, Setting>;

/// What kind of values a flag takes.
pub(super) struct Flag {
    /// `node-ip`.
    pub(super) name: String,
    /// It can be repeated.
    pub(super) list: bool,
    /// It takes no value.
    pub(super) switch: bool,
}

impl Flag {
    pub(super) fn key(&self) -> String {
        let mut key = String::new();
        for (index, part) in self.name.split('-').enumerate() {
            let mut letters = part.chars();
            match letters.next() {
                Some(first) if index > 0 => key.extend(first.to_uppercase()),
                Some(first) => key.push(first),
                None => {}
            }
            key.push_str(letters.as_str());
        }
        key
    }

    fn variable(&self) -> String {
        format!("SYSTEMK_{}", self.name.to_uppercase().replace('-', "_"))
    }
}

/// The agent's flags, read off the one definition, so that file and environment cannot lack one.
pub(super) fn flags() -> Vec<Flag> {
    let command = AgentFlags::augment_args(clap::Command::new("agent"));
    let flag = |argument: &clap::Arg| {
        let name = argument.get_long()?.to_owned();
        let action = argument.get_action();
        let list = matches!(action, clap::ArgAction::Append);
        Some(Flag { name, list, switch: matches!(action, clap::ArgAction::SetTrue) })
    };
    command.get_arguments().filter_map(flag).collect()
}

pub(super) fn gather(
    matches: &clap::ArgMatches,
    surroundings: &Surroundings<'_>,
    problems: &mut Vec<String>,
) -> Settings {
    let flags = flags();
    let mut settings = Settings::new();
    for flag in &flags {
        if let Some(setting) = from_matches(flag, matches).or_else(|| from_environment(flag, surroundings)) {
            settings.insert(flag.name.clone(), setting);
        }
    }
    let named = settings.get("config").and_then(|setting| setting.values.first());
    let path = PathBuf::from(named.map_or(DEFAULT_FILE, String::as_str));
    match (surroundings.read)(&path) {
        Ok(Some(text)) => {
            for (name, setting) in file::parse(&text, &path, &flags, problems) {
                settings.entry(name).or_insert(setting);
            }
        }
        Ok(None) if named.is_none() => {}
        Ok(None) => problems.push(missing(&path)),
        Err(reason) => problems.push(format!("cannot read {}: {reason}", path.display())),
    }
    settings
}

fn missing(path: &Path) -> String {
    format!("the config file {} does not exist", path.display())
}

fn from_matches(flag: &Flag, matches: &clap::ArgMatches) -> Option<Setting> {
    let id = flag.name.replace('-', "_");
    if matches.value_source(&id) != Some(ValueSource::CommandLine) {
        return None;
    }
    let values = if flag.switch {
        vec!["true".to_owned()]
    } else {
        matches.get_raw(&id)?.map(|value| value.to_string_lossy().into_owned()).collect()
    };
    Some(Setting { values, origin: Origin::Flag(flag.name.clone()) })
}

/// An empty variable is as good as none: that is how a unit file's EnvironmentFile takes one back.
fn from_environment(flag: &Flag, surroundings: &Surroundings<'_>) -> Option<Setting> {
    let name = flag.variable();
    let text = (surroundings.variable)(&name).filter(|text| !text.is_empty())?;
    let values = if flag.list {
        text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    } else {
        vec![text]
    };
    Some(Setting { values, origin: Origin::Variable(name) })
}
