//! Which of the files is the node's network.

use super::{Conflist, ConflistError, Form, MAX_FILES};

/// No file describes a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no usable network configuration{}", listed(.skipped))]
pub struct NoNetwork {
    /// Why not, for each file with a fitting name.
    pub skipped: Vec<ConflistError>,
}

fn listed(skipped: &[ConflistError]) -> String {
    // As many as fit into one message of a condition.
    let mut text: String = skipped.iter().take(3).map(|error| format!("; {error}")).collect();
    if skipped.len() > 3 {
        text += &format!("; and {} more", skipped.len() - 3);
    }
    text
}

/// The network of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Of the first good file.
    pub list: Conflist,
    /// What was wrong with those before it.
    pub skipped: Vec<ConflistError>,
}

/// The network of the first file by name, in bytes' order, that can be used (go-cni: `WithDefaultConf`; the kubelet's
/// runtimes agree). `files` are names and contents in any order; those with other extensions are ignored.
///
/// # Errors
/// [`NoNetwork`]: there is none among the first [`MAX_FILES`].
pub fn choose<N: AsRef<str>, B: AsRef<[u8]>>(files: &[(N, B)]) -> Result<Choice, NoNetwork> {
    let mut files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_ref(), bytes.as_ref())).collect();
    files.retain(|(name, _)| Form::of(name).is_some());
    files.sort_unstable_by_key(|(name, _)| *name);
    let mut skipped = Vec::new();
    for (name, bytes) in files.into_iter().take(MAX_FILES) {
        match Conflist::parse(name, bytes) {
            Ok(list) => return Ok(Choice { list, skipped }),
            Err(error) => skipped.push(error),
        }
    }
    Err(NoNetwork { skipped })
}
