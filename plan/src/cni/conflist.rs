//! The files of `/etc/cni/net.d`: a network and the chain of its plugins.
//!
//! Source: specification 1.1, section 1; libcni's `NetworkConfFromBytes` and `ConfListFromConf`; go-cni's choice of the
//! first file by name. Unlike go-cni, which gives up at the first file that it cannot read, such files are skipped.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

pub use choose::{Choice, NoNetwork, choose};

use super::{NameError, NetworkName, PluginType, Version, shown};

mod choose;

/// The largest file that is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;
/// The most plugins of a network.
pub const MAX_PLUGINS: usize = 64;
/// The most capabilities of a plugin.
pub const MAX_CAPABILITIES: usize = 64;
/// The most files that are tried, the first by name.
pub const MAX_FILES: usize = 256;
/// The most entries of `cniVersions`.
const MAX_VERSIONS: usize = 64;

/// A network.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflist {
    /// The name of the file that it is from, fit to be shown.
    pub file: String,
    /// What it is called.
    pub name: NetworkName,
    /// The newest version that both sides know.
    pub version: Version,
    /// CHECK must not be called.
    pub disable_check: bool,
    /// GC must not be called.
    pub disable_gc: bool,
    /// Nothing may be added to `plugins`.
    pub load_only_inlined_plugins: bool,
    /// In the order of ADD; at least one.
    pub plugins: Vec<Plugin>,
    /// What the result cache keeps of it: the file, or the list that was made of a single plugin's.
    pub bytes: Vec<u8>,
}

/// One link of the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// Its program.
    pub kind: PluginType,
    /// Those that it declares with `true`.
    pub capabilities: BTreeSet<String>,
    /// All of its object, as it stands in the file.
    pub config: Map<String, Value>,
}

/// A file that describes no network that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct ConflistError {
    /// Its name, fit to be shown.
    pub file: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No extension that says what it is.
    #[error("the name must end in .conflist, .conf or .json")]
    Extension,
    /// More than [`MAX_FILE`].
    #[error("it has {0} bytes, more than the {MAX_FILE} that are read")]
    TooLarge(usize),
    /// Not JSON; the parser's words.
    #[error("it is not JSON: {0}")]
    Json(String),
    /// A field is missing.
    #[error("{0} is missing")]
    Missing(String),
    /// A field is of another type.
    #[error("{field} must be {wanted}")]
    Type {
        /// Its path.
        field: String,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// No version in common.
    #[error("{}", version_problem(.0))]
    Version(Vec<String>),
    /// A name that is not allowed.
    #[error("{field}: {error}")]
    Name {
        /// Its path.
        field: String,
        /// Which rule.
        error: NameError,
    },
    /// An empty list.
    #[error("plugins is empty")]
    NoPlugins,
    /// Over a limit.
    #[error("{field} has more than the {most} entries that are supported")]
    TooMany {
        /// Its path.
        field: String,
        /// The limit.
        most: usize,
    },
    /// A further plugin for a list that takes none.
    #[error("the network {0} takes no plugins of other files (loadOnlyInlinedPlugins)")]
    OnlyInlined(NetworkName),
}

fn version_problem(given: &[String]) -> String {
    let known = Version::ALL.map(Version::as_str).join(", ");
    match given {
        [] => format!("cniVersion is missing, which means 0.1.0; supported are {known}"),
        given => format!("cniVersion {} is not supported; supported are {known}", given.join(", ")),
    }
}

enum Form {
    List,
    Single,
}

impl Form {
    fn of(file: &str) -> Option<Self> {
        match file.rsplit_once('.')?.1 {
            "conflist" => Some(Self::List),
            "conf" | "json" => Some(Self::Single),
            _ => None,
        }
    }
}

impl Conflist {
    /// The network that `file` with the contents `bytes` describes. The name's ending says what it is: `.conflist`, or
    /// `.conf` and `.json` for a single plugin, which becomes a list of one.
    ///
    /// # Errors
    /// [`ConflistError`]: the file's name and what is wrong.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, ConflistError> {
        Self::read(file, bytes).map_err(|problem| ConflistError { file: shown(file), problem })
    }

    fn read(file: &str, bytes: &[u8]) -> Result<Self, Problem> {
        let form = Form::of(file).ok_or(Problem::Extension)?;
        let object = object_of(bytes)?;
        match form {
            Form::List => Self::of_list(file, &object, bytes.to_vec()),
            Form::Single => Self::of_single(file, object),
        }
    }

    fn of_list(file: &str, object: &Map<String, Value>, bytes: Vec<u8>) -> Result<Self, Problem> {
        let name = name(object)?;
        let version = version(object)?;
        let plugins = match object.get("plugins") {
            None => return Err(Problem::Missing("plugins".to_owned())),
            Some(Value::Array(plugins)) if plugins.is_empty() => return Err(Problem::NoPlugins),
            Some(Value::Array(plugins)) if plugins.len() > MAX_PLUGINS => return Err(too_many("plugins", MAX_PLUGINS)),
            Some(Value::Array(plugins)) => plugins.iter().enumerate(),
            Some(_) => return Err(wrong_type("plugins", "a list")),
        };
        let plugins = plugins.map(|(at, plugin)| match plugin {
            Value::Object(config) => plugin_of(&format!("plugins[{at}]."), config),
            _ => Err(wrong_type(&format!("plugins[{at}]"), "an object")),
        });
        Ok(Self {
            file: shown(file),
            name,
            version,
            disable_check: flag(object, "disableCheck")?,
            disable_gc: flag(object, "disableGC")?,
            load_only_inlined_plugins: flag(object, "loadOnlyInlinedPlugins")?,
            plugins: plugins.collect::<Result<_, _>>()?,
            bytes,
        })
    }

    /// libcni's `ConfListFromConf`: name and version of the plugin are the list's, and the list says nothing else.
    fn of_single(file: &str, object: Map<String, Value>) -> Result<Self, Problem> {
        let name = name(&object)?;
        let only = object.get("cniVersion").into_iter().map(|version| ("cniVersion".to_owned(), version.clone()));
        let version = version(&only.collect())?;
        let plugin = plugin_of("", &object)?;
        let list = json!({"cniVersion": version.as_str(), "name": name.as_str(), "plugins": [object]});
        Ok(Self {
            file: shown(file),
            name,
            version,
            disable_check: false,
            disable_gc: false,
            load_only_inlined_plugins: false,
            plugins: vec![plugin],
            bytes: list.to_string().into_bytes(),
        })
    }

    /// Adds the plugin of a file in the directory of the network's name (`/etc/cni/net.d/<name>/*.conf`, in the order
    /// of their names; specification 1.1 and libcni's `NetworkPluginConfsFromFiles`) to the end of the chain.
    ///
    /// # Errors
    /// [`ConflistError`]: it is no plugin's configuration, or the network takes no more.
    pub fn append(&mut self, file: &str, bytes: &[u8]) -> Result<(), ConflistError> {
        let plugin = self.further(bytes).map_err(|problem| ConflistError { file: shown(file), problem })?;
        self.plugins.push(plugin);
        Ok(())
    }

    fn further(&self, bytes: &[u8]) -> Result<Plugin, Problem> {
        if self.load_only_inlined_plugins {
            return Err(Problem::OnlyInlined(self.name.clone()));
        }
        if self.plugins.len() >= MAX_PLUGINS {
            return Err(too_many("plugins", MAX_PLUGINS));
        }
        plugin_of("", &object_of(bytes)?)
    }
}

fn wrong_type(field: &str, wanted: &'static str) -> Problem {
    Problem::Type { field: field.to_owned(), wanted }
}

fn too_many(field: &str, most: usize) -> Problem {
    Problem::TooMany { field: field.to_owned(), most }
}

fn object_of(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    if bytes.len() > MAX_FILE {
        return Err(Problem::TooLarge(bytes.len()));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(wrong_type("the file", "an object")),
        Err(error) => Err(Problem::Json(shown(&error.to_string()))),
    }
}

fn name(object: &Map<String, Value>) -> Result<NetworkName, Problem> {
    match object.get("name") {
        None => Err(Problem::Missing("name".to_owned())),
        Some(Value::String(name)) => {
            NetworkName::parse(name).map_err(|error| Problem::Name { field: "name".to_owned(), error })
        }
        Some(_) => Err(wrong_type("name", "a string")),
    }
}

/// The newest of `cniVersion` and `cniVersions` that is supported (specification 1.1, "Version considerations"); others
/// beside it do no harm.
fn version(object: &Map<String, Value>) -> Result<Version, Problem> {
    let mut given: Vec<&str> = Vec::new();
    match object.get("cniVersion") {
        None => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) => given.push(text),
        Some(_) => return Err(wrong_type("cniVersion", "a string")),
    }
    match object.get("cniVersions") {
        None => {}
        Some(Value::Array(versions)) if versions.len() > MAX_VERSIONS => {
            return Err(too_many("cniVersions", MAX_VERSIONS));
        }
        Some(Value::Array(versions)) => {
            for version in versions {
                given.push(version.as_str().ok_or_else(|| wrong_type("cniVersions", "a list of strings"))?);
            }
        }
        Some(_) => return Err(wrong_type("cniVersions", "a list of strings")),
    }
    let newest = given.iter().filter_map(|text| Version::parse(text)).max();
    newest.ok_or_else(|| Problem::Version(given.iter().take(5).map(|text| super::shortened(text, 20)).collect()))
}

/// libcni's `readBool`: early versions of the specification had the words as strings.
fn flag(object: &Map<String, Value>, field: &str) -> Result<bool, Problem> {
    match object.get(field) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => Err(wrong_type(field, "true or false")),
    }
}

fn plugin_of(path: &str, config: &Map<String, Value>) -> Result<Plugin, Problem> {
    let field = format!("{path}type");
    let kind = match config.get("type") {
        None => return Err(Problem::Missing(field)),
        Some(Value::String(kind)) => PluginType::parse(kind).map_err(|error| Problem::Name { field, error })?,
        Some(_) => return Err(wrong_type(&field, "a string")),
    };
    let field = format!("{path}capabilities");
    let mut capabilities = BTreeSet::new();
    match config.get("capabilities") {
        None | Some(Value::Null) => {}
        Some(Value::Object(all)) if all.len() > MAX_CAPABILITIES => return Err(too_many(&field, MAX_CAPABILITIES)),
        Some(Value::Object(all)) => {
            for (capability, value) in all {
                let supported = value.as_bool().ok_or_else(|| wrong_type(&field, "an object of true and false"))?;
                if supported {
                    capabilities.insert(capability.clone());
                }
            }
        }
        Some(_) => return Err(wrong_type(&field, "an object of true and false")),
    }
    Ok(Plugin { kind, capabilities, config: config.clone() })
}

#[cfg(test)]
pub(crate) mod tests;
