//! The results of ADD on disk, in libcni's form, so that other tools can read and end what is there: they are the
//! source for DEL and CHECK, and after a reboot for GC.
//!
//! Source: libcni's `cachedInfo` (`api.go`): `/var/lib/cni/results/<network>-<container>-<interface>`, mode 0600.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::attachment::{Attachment, InvokeError};
use super::conflist::{Conflist, MAX_FILE};
use super::result::{AddResult, MAX_RESULT, Problem};
use super::{ContainerId, InterfaceName, NetworkName, Version, shown};

/// libcni's directory below its `CacheDir`.
pub const DIRECTORY: &str = "/var/lib/cni/results";
/// The largest file that is read, in bytes: a configuration in base64, a result, and as much for all else.
pub const MAX_ENTRY: usize = MAX_FILE / 3 * 4 + 2 * MAX_RESULT;

const KIND: &str = "cniCacheV1";

/// One attachment. The names in it are as read: [`Self::attachment`] checks them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheEntry {
    /// `cniCacheV1`.
    pub kind: String,
    /// The sandbox's ID. libcni reads it without regard to case, and other writers make use of that.
    #[serde(alias = "containerID")]
    pub container_id: String,
    /// The list's bytes, in base64 (Go's form of bytes).
    #[serde(default)]
    pub config: Option<String>,
    /// In the sandbox.
    pub if_name: String,
    /// The network.
    pub network_name: String,
    /// The namespace's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// `CNI_ARGS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni_args: Option<Vec<[String; 2]>>,
    /// What capabilities could ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability_args: Option<Map<String, Value>>,
    /// The last plugin's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Map<String, Value>>,
}

/// A cache file that cannot be used. DEL goes on without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// More than [`MAX_ENTRY`].
    #[error("the cached result has {0} bytes, more than the {MAX_ENTRY} that are read")]
    TooLarge(usize),
    /// Not JSON, or not of this form.
    #[error("the cached result cannot be read: {0}")]
    Unreadable(String),
    /// Another kind.
    #[error("the cached result is of the kind \"{0}\" and not {KIND}")]
    Kind(String),
    /// The configuration is not base64.
    #[error("the cached configuration is not in base64")]
    Config,
    /// The result in it.
    #[error("the cached result: {0}")]
    Result(#[from] Problem),
    /// The names in it.
    #[error("the cached result: {0}")]
    Attachment(#[from] InvokeError),
}

/// The name of an attachment's file: one component of a path, at most 255 bytes, by what the types allow. Two networks
/// can share one (`a-b` with `c`, `a` with `b-c`), so a reader asks [`CacheEntry::is_of`].
pub fn file_name(network: &NetworkName, container: &ContainerId, interface: &InterfaceName) -> String {
    format!("{network}-{container}-{interface}")
}

impl CacheEntry {
    /// What is kept of an ADD that succeeded.
    pub fn new(list: &Conflist, attachment: &Attachment, result: &AddResult) -> Self {
        let args: Vec<[String; 2]> = attachment.args.iter().map(|(k, v)| [k.clone(), v.clone()]).collect();
        Self {
            kind: KIND.to_owned(),
            container_id: attachment.container.to_string(),
            config: Some(BASE64_STANDARD.encode(&list.bytes)),
            if_name: attachment.interface.to_string(),
            network_name: list.name.to_string(),
            netns: Some(attachment.netns.clone()).filter(|netns| !netns.is_empty()),
            cni_args: Some(args).filter(|args| !args.is_empty()),
            capability_args: Some(attachment.capability_args.clone()).filter(|args| !args.is_empty()),
            result: Some(result.to_object(list.version)),
        }
    }

    /// The entry of a file's contents. Fields that are not known are left alone.
    ///
    /// # Errors
    /// [`CacheError`]: too large, no JSON, or of another kind (libcni's first form, a bare result, among them).
    pub fn parse(bytes: &[u8]) -> Result<Self, CacheError> {
        if bytes.len() > MAX_ENTRY {
            return Err(CacheError::TooLarge(bytes.len()));
        }
        let unreadable = |error: serde_json::Error| CacheError::Unreadable(shown(&error.to_string()));
        // By way of Value: the last of two equal keys counts, as in Go.
        let value: Value = serde_json::from_slice(bytes).map_err(unreadable)?;
        match value.get("kind").and_then(Value::as_str) {
            Some(KIND) => serde_json::from_value(value).map_err(unreadable),
            kind => Err(CacheError::Kind(shown(kind.unwrap_or_default()))),
        }
    }

    /// The file's contents.
    ///
    /// # Errors
    /// [`CacheError`]: larger than what is read.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CacheError> {
        let bytes = serde_json::to_vec(self).map_err(|error| CacheError::Unreadable(shown(&error.to_string())))?;
        if bytes.len() > MAX_ENTRY { Err(CacheError::TooLarge(bytes.len())) } else { Ok(bytes) }
    }

    /// Whether it is that attachment's, and not another's with the same file name.
    pub fn is_of(&self, network: &NetworkName, container: &ContainerId, interface: &InterfaceName) -> bool {
        self.network_name == network.as_str()
            && self.container_id == container.as_str()
            && self.if_name == interface.as_str()
    }

    /// The attachment as it was at ADD: DEL and CHECK must have the same parameters.
    ///
    /// # Errors
    /// [`CacheError::Attachment`]: a name or value that is not allowed.
    pub fn attachment(&self) -> Result<Attachment, CacheError> {
        let container = ContainerId::parse(&self.container_id).map_err(InvokeError::from)?;
        let interface = InterfaceName::parse(&self.if_name).map_err(InvokeError::from)?;
        let args = self.cni_args.iter().flatten().map(|[key, value]| (key.clone(), value.clone())).collect();
        let netns = self.netns.as_deref().unwrap_or_default();
        Ok(Attachment::new(container, netns, interface, args, self.capability_args.clone().unwrap_or_default())?)
    }

    /// The configuration at the time of ADD, for a DEL after the file has changed or gone: read it with
    /// [`Conflist::parse`] under a name that ends in `.conflist`. None: the writer kept none.
    ///
    /// # Errors
    /// [`CacheError::Config`].
    pub fn config(&self) -> Result<Option<Vec<u8>>, CacheError> {
        let Some(config) = &self.config else { return Ok(None) };
        BASE64_STANDARD.decode(config).map(Some).map_err(|_| CacheError::Config)
    }

    /// The result; `wanted` is its version if it names none. None: the writer kept none.
    ///
    /// # Errors
    /// [`CacheError::Result`]: it is no result.
    pub fn result(&self, wanted: Version) -> Result<Option<AddResult>, CacheError> {
        let Some(result) = &self.result else { return Ok(None) };
        Ok(Some(AddResult::of_object(result.clone(), wanted)?))
    }
}

#[cfg(test)]
mod tests;
