//! The Container Network Interface: which network the node's files describe, how its plugins are called, and what they
//! answer. Programs are run and files are read and written elsewhere; here it is JSON in and JSON out.
//!
//! Sources: the CNI specification 1.1 (`SPEC.md`, `CONVENTIONS.md`), libcni 1.3, and what containerd and go-cni add for
//! Kubernetes. The flow: [`conflist::choose`], [`runtime_config::RuntimeConfig::capability_args`], then for each plugin
//! [`invoke::add`] and [`result::AddResult::parse`], and at the end [`cache::CacheEntry`] for [`invoke::del`].

use std::fmt;

pub mod attachment;
pub mod cache;
pub mod cidr;
pub mod conflist;
pub mod failure;
pub mod invoke;
pub mod result;
pub mod runtime_config;

/// The longest name of a network, in bytes. With [`MAX_CONTAINER_ID`], [`MAX_INTERFACE`] and two hyphens it makes the
/// 255 that a file name may have: a cache file's name always fits.
pub const MAX_NETWORK_NAME: usize = 150;
/// The longest container ID, in bytes; runtimes use 64.
pub const MAX_CONTAINER_ID: usize = 88;
/// The longest interface name, in bytes (Linux: IFNAMSIZ is 16, with the NUL).
pub const MAX_INTERFACE: usize = 15;
/// The longest plugin name, in bytes (Linux: NAME_MAX).
pub const MAX_PLUGIN_TYPE: usize = 255;

/// A version of the specification that is supported, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.4.0: CHECK, and the result of ADD for DEL.
    V0_4,
    /// 1.0.0: results without `version`.
    V1_0,
    /// 1.1.0: GC, STATUS, `cniVersions`.
    V1_1,
}

impl Version {
    /// All of them, the oldest first.
    pub const ALL: [Self; 3] = [Self::V0_4, Self::V1_0, Self::V1_1];

    /// The version of that exact name; None: it is not supported.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_4 => "0.4.0",
            Self::V1_0 => "1.0.0",
            Self::V1_1 => "1.1.0",
        }
    }

    /// Whether its plugins know GC and STATUS (specification 1.1).
    pub fn has_gc_and_status(self) -> bool {
        self >= Self::V1_1
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that the protocol does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {what} \"{text}\" {reason}")]
pub struct NameError {
    /// What it would name.
    pub what: &'static str,
    /// The name, shortened.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Shortened and harmless: it comes from a file or a program of others.
pub(crate) fn shown(text: &str) -> String {
    shortened(text, 200)
}

/// At most `most` characters of `text`, escaped where they would not print.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let mut out: String = text.chars().take(most).flat_map(escaped).collect();
    if text.chars().nth(most).is_some() {
        out.push('…');
    }
    out
}

/// Quotes are left: they do no harm and plugins' messages are full of them. So are backslashes, or what was escaped in
/// one message would be escaped again in the next.
fn escaped(c: char) -> impl Iterator<Item = char> {
    let plain = matches!(c, '"' | '\'' | '\\');
    let escape = (!plain).then(|| c.escape_debug());
    escape.into_iter().flatten().chain(plain.then_some(c))
}

/// The specification's pattern for network names and container IDs: `[A-Za-z0-9][A-Za-z0-9_.-]*` (libcni, `pkg/utils`).
fn check_name(what: &'static str, text: &str, most: usize) -> Result<(), NameError> {
    let error = |reason| Err(NameError { what, text: shown(text), reason });
    if text.is_empty() {
        return error("is empty");
    }
    if text.len() > most {
        return error("is too long");
    }
    if !text.as_bytes()[0].is_ascii_alphanumeric() {
        return error("must begin with a letter or a digit");
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return error("may have only letters, digits, '_', '.' and '-'");
    }
    Ok(())
}

/// What the kernel takes (`dev_valid_name`), less what does not print, and `%`, which the kernel replaces by a number.
fn check_interface(text: &str) -> Result<(), NameError> {
    let error = |reason| Err(NameError { what: "interface name", text: shown(text), reason });
    if text.is_empty() {
        return error("is empty");
    }
    if text.len() > MAX_INTERFACE {
        return error("is longer than the 15 bytes of Linux");
    }
    if matches!(text, "." | "..") {
        return error("is a directory");
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || "/:%".contains(c)) {
        return error("may not have '/', ':', '%', white space or control characters");
    }
    Ok(())
}

/// The name of a program in the plugin directories, so one component of a path and nothing else (specification,
/// "Plugin configuration objects": no `/` and no `\`).
fn check_plugin_type(text: &str) -> Result<(), NameError> {
    let error = |reason| Err(NameError { what: "plugin type", text: shown(text), reason });
    if text.is_empty() {
        return error("is empty");
    }
    if text.len() > MAX_PLUGIN_TYPE {
        return error("is longer than a file name");
    }
    if matches!(text, "." | "..") {
        return error("is a directory");
    }
    if text.chars().any(|c| c.is_control() || "/\\".contains(c)) {
        return error("may not have '/', '\\' or control characters: it is a file name");
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident($check:expr);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The checked name.
            ///
            /// # Errors
            /// [`NameError`]: the rules of the type are not kept.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(text).map(|()| Self(text.to_owned()))
            }

            /// As it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// A network's name: `[A-Za-z0-9][A-Za-z0-9_.-]*`, at most [`MAX_NETWORK_NAME`] bytes.
    NetworkName(|text| check_name("network name", text, MAX_NETWORK_NAME));
    /// A container's ID, for Kubernetes its sandbox's: the pattern of [`NetworkName`], at most [`MAX_CONTAINER_ID`]
    /// bytes.
    ContainerId(|text| check_name("container ID", text, MAX_CONTAINER_ID));
    /// An interface of the sandbox, such as `eth0`: what Linux takes, at most [`MAX_INTERFACE`] bytes.
    InterfaceName(check_interface);
    /// A plugin's program: a bare file name, at most [`MAX_PLUGIN_TYPE`] bytes.
    PluginType(check_plugin_type);
}

#[cfg(test)]
mod tests;
