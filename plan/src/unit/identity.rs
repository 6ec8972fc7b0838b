//! `[X-Kubernetes]`: whose unit this is. Written by the plan, read back by the agent to adopt units and to find orphans.
//!
//! Every value is base64, so no byte of a name, uid or image can be read as a directive. Unit names are never parsed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// The section's title.
pub const SECTION: &str = "X-Kubernetes";

/// What a unit of ours says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitIdentity {
    /// The node that made it, for people. Whose it is tells the run directory that its files are in: a node's name may
    /// change, and be that of two agents.
    pub node: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub uid: String,
    /// The container; empty in a pod's slice.
    pub container: String,
    /// The attempt, from 0; 0 in a pod's slice.
    pub attempt: u32,
    /// Seconds between the stop request and SIGKILL, for when the pod is gone and only its units are left.
    pub grace_seconds: i64,
}

impl UnitIdentity {
    fn pairs(&self) -> [(&'static str, String); 7] {
        [
            ("Node", self.node.clone()),
            ("Namespace", self.namespace.clone()),
            ("Pod", self.pod.clone()),
            ("UID", self.uid.clone()),
            ("Container", self.container.clone()),
            ("Attempt", self.attempt.to_string()),
            ("GraceSeconds", self.grace_seconds.to_string()),
        ]
    }

    pub(crate) fn render(&self) -> String {
        let mut text = format!("[{SECTION}]\n");
        for (key, value) in self.pairs() {
            text.push_str(&format!("{key}={}\n", STANDARD.encode(value)));
        }
        text
    }

    /// The identity in a unit file's text; None where the section is absent or is not what this program writes.
    pub fn parse(unit_text: &str) -> Option<Self> {
        let (_, section) = unit_text.split_once(&format!("[{SECTION}]\n"))?;
        let mut identity = Self::default();
        let mut seen = 0;
        for line in section.lines().take_while(|l| !l.starts_with('[')) {
            let Some((key, value)) = line.split_once('=') else { continue };
            let value = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
            match key {
                "Node" => identity.node = value,
                "Namespace" => identity.namespace = value,
                "Pod" => identity.pod = value,
                "UID" => identity.uid = value,
                "Container" => identity.container = value,
                "Attempt" => identity.attempt = value.parse().ok()?,
                "GraceSeconds" => identity.grace_seconds = value.parse().ok()?,
                _ => continue,
            }
            seen += 1;
        }
        (seen == identity.pairs().len()).then_some(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let identity = UnitIdentity {
            node: "n1".into(),
            namespace: "default".into(),
            pod: "my.app\n[Service]\nExecStart=/x".into(),
            uid: "u".into(),
            container: "c".into(),
            attempt: 7,
            grace_seconds: 30,
        };
        let text = format!("[Unit]\nDescription=x\n\n{}", identity.render());
        assert_eq!(UnitIdentity::parse(&text), Some(identity));
    }

    #[test]
    fn a_foreign_or_damaged_section_is_nobodys() {
        assert_eq!(UnitIdentity::parse("[Unit]\n"), None);
        assert_eq!(UnitIdentity::parse("[X-Kubernetes]\nNode=!!\n"), None);
        assert_eq!(UnitIdentity::parse("[X-Kubernetes]\nNode=bg==\n"), None);
    }
}
