//! What a plugin says when it fails.

use serde_json::{Map, Value};

use super::{PluginType, shortened};

/// The most of a plugin's standard output or error that is looked at here, in bytes.
pub const MAX_OUTPUT: usize = 64 << 10;
/// The most characters of a plugin's text that a message shows: what plugins say is often a chain of their causes.
const MAX_SHOWN: usize = 1000;

/// A plugin's error (specification, "Error"), fit to be shown: control characters escaped, long texts shortened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the CNI plugin {plugin} failed: {message}{}{}", with_details(.details), with_code(.code))]
pub struct PluginError {
    /// Which one.
    pub plugin: PluginType,
    /// The specification's below 100, its own from there; 0 if it gave none.
    pub code: u64,
    /// Short.
    pub message: String,
    /// Longer, or empty.
    pub details: String,
}

fn with_details(details: &str) -> String {
    if details.is_empty() { String::new() } else { format!("; {details}") }
}

fn with_code(code: &u64) -> String {
    if *code == 0 { String::new() } else { format!(" (code {code})") }
}

impl PluginError {
    /// The error of `plugin`, which ended as `ending` says ("exit status 1", "signal 9") and wrote `stdout` and
    /// `stderr`. Without an error object the standard error stands for it, as with libcni (`RawExec`).
    pub fn parse(plugin: &PluginType, ending: &str, stdout: &[u8], stderr: &[u8]) -> Self {
        let plain = |message: String| Self { plugin: plugin.clone(), code: 0, message, details: String::new() };
        let stdout = &stdout[..stdout.len().min(MAX_OUTPUT)];
        if stdout.trim_ascii().is_empty() {
            return match text(stderr) {
                said if said.is_empty() => plain(format!("{} without a message", shortened(ending, 100))),
                said => plain(said),
            };
        }
        match serde_json::from_slice(stdout) {
            Ok(Value::Object(object)) => Self::of_object(plugin, &object),
            _ => plain(format!("{}, and it wrote no error object but: {}", shortened(ending, 100), text(stdout))),
        }
    }

    /// Fields of another type are taken for missing: the error is worth more than its form.
    pub(super) fn of_object(plugin: &PluginType, object: &Map<String, Value>) -> Self {
        let text = |field| object.get(field).and_then(Value::as_str).map(|text| shortened(text.trim(), MAX_SHOWN));
        let message = text("msg").filter(|message| !message.is_empty());
        Self {
            plugin: plugin.clone(),
            code: object.get("code").and_then(Value::as_u64).unwrap_or(0),
            message: message.unwrap_or_else(|| "it gave no message".to_owned()),
            details: text("details").unwrap_or_default(),
        }
    }

    /// Code 11: the same call may succeed a little later.
    pub fn is_transient(&self) -> bool {
        self.code == 11
    }

    /// Code 3: the plugin does not know the container, so there is nothing that a DEL would have to take away.
    pub fn is_unknown_container(&self) -> bool {
        self.code == 3
    }

    /// Codes 50 and 51, of STATUS: no ADD would succeed now; with 51 the pods that run may be cut off too.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.code, 50 | 51)
    }
}

/// The end of what a program wrote: its last lines say why it failed.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(MAX_OUTPUT)..]);
    let text = text.trim();
    let over = text.chars().count().saturating_sub(MAX_SHOWN);
    let end: String = text.chars().skip(over).collect();
    let begin = if over > 0 { "…" } else { "" };
    format!("{begin}{}", shortened(&end, MAX_SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(stdout: &str, stderr: &str) -> PluginError {
        let plugin = PluginType::parse("bridge").unwrap();
        PluginError::parse(&plugin, "exit status 1", stdout.as_bytes(), stderr.as_bytes())
    }

    #[test]
    fn an_error_object_is_told_with_its_plugin() {
        let full =
            r#"{"cniVersion":"1.1.0","code":7,"msg":"Invalid Configuration","details":"192.168.0.0/31 too small"}"#;
        let cases = [
            (full, "", "the CNI plugin bridge failed: Invalid Configuration; 192.168.0.0/31 too small (code 7)"),
            (r#"{"code":100,"msg":"no"}"#, "log", "the CNI plugin bridge failed: no (code 100)"),
            (r#"{"code":"x","msg":3}"#, "", "the CNI plugin bridge failed: it gave no message"),
            (r#"{"code":-1,"msg":"a\u001b[1m\nb"}"#, "", r"the CNI plugin bridge failed: a\u{1b}[1m\nb"),
            ("", "cannot\tfind it\n", r"the CNI plugin bridge failed: cannot\tfind it"),
            (" \n", " ", "the CNI plugin bridge failed: exit status 1 without a message"),
            ("panic!", "", "the CNI plugin bridge failed: exit status 1, and it wrote no error object but: panic!"),
            ("[1]", "", "the CNI plugin bridge failed: exit status 1, and it wrote no error object but: [1]"),
        ];
        for (stdout, stderr, wanted) in cases {
            assert_eq!(error(stdout, stderr).to_string(), wanted);
        }
    }

    #[test]
    fn codes_have_their_meaning() {
        let of = |code: u32| error(&format!(r#"{{"code":{code},"msg":"m"}}"#), "");
        assert!(of(11).is_transient() && !of(5).is_transient());
        assert!(of(3).is_unknown_container() && !of(11).is_unknown_container());
        assert!(of(50).is_unavailable() && of(51).is_unavailable() && !of(52).is_unavailable());
    }

    #[test]
    fn floods_are_cut() {
        let said = error("", &format!("{}\0 the reason", "x".repeat(1 << 20)));
        assert!(said.message.ends_with(r"\0 the reason") && said.message.starts_with('…'), "{said}");
        assert!(said.to_string().len() < 1100);
        let said = error(&format!(r#"{{"code":1,"msg":"{}"}}"#, "m".repeat(40_000)), "");
        assert!(said.to_string().len() < 1100);
        assert!(error(&"[".repeat(1 << 20), "").to_string().len() < 1300);
    }
}
