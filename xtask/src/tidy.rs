//! What this repository has agreed on and no compiler checks. Takes its files; gives every breach at once.

mod lock;
mod sources;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// What `plan` may depend on: it has no way to reach a clock, a file or a network.
const PLAN_DEPENDENCIES: &[&str] = &["base64", "jiff", "k8s-openapi", "serde", "serde_json", "sha2", "thiserror"];

/// Breaches of the agreements below `workspace`, and what comes near to one.
#[derive(Debug, Default)]
struct Findings {
    wrong: Vec<String>,
    near: Vec<String>,
}

/// Checks everything; prints what comes near to a limit, and fails with what is over it.
pub(crate) fn check(workspace: &Path) -> Result<()> {
    let read = |name: &str| {
        let path = workspace.join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let mut findings = Findings::default();
    plan_dependencies(&read("plan/Cargo.toml")?, &mut findings);
    lock::check(&read("Cargo.lock")?, &mut findings);
    sources::check(workspace, &mut findings)?;
    if let Ok(text) = read("ARCHITECTURE.md") {
        findings.wrong.extend(
            named_paths(&text)
                .filter(|path| !workspace.join(path).exists())
                .map(|path| format!("ARCHITECTURE.md names `{path}`, which does not exist")),
        );
    }
    findings.near.iter().for_each(|text| println!("note: {text}"));
    if !findings.wrong.is_empty() {
        bail!("\n  {}", findings.wrong.join("\n  "));
    }
    Ok(())
}

/// Names in the `[dependencies]` of a manifest.
fn plan_dependencies(manifest: &str, findings: &mut Findings) {
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if section == "[dependencies]" && !line.starts_with(['[', '#']) && !name.is_empty() {
            if !PLAN_DEPENDENCIES.contains(&name) {
                findings.wrong.push(format!("plan/Cargo.toml depends on {name}: plan is pure, see xtask/src/tidy.rs"));
            }
        } else if section.starts_with("[dependencies.") || section.starts_with("[target") {
            findings.wrong.push(format!("plan/Cargo.toml has {section}: list its dependencies in [dependencies]"));
        }
    }
}

/// What a page in this repository names as a path of it: in backticks, with a slash or a known ending, without blanks.
fn named_paths(text: &str) -> impl Iterator<Item = &str> {
    const TOP: &[&str] = &["plan/", "agent/", "e2e/", "xtask/", "docs/", "packaging/", ".ci/"];
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|word| TOP.iter().any(|top| word.starts_with(top)))
        .filter(|word| !word.contains([' ', '*', '<', '{', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_stays_pure() {
        let mut findings = Findings::default();
        let manifest = "[package]\nname = \"plan\"\n\n[dependencies]\nserde.workspace = true\ntokio = \"1\"\n\n\
                        [dev-dependencies]\nproptest.workspace = true\n";
        plan_dependencies(manifest, &mut findings);
        assert_eq!(findings.wrong.len(), 1, "{findings:?}");
        assert!(findings.wrong[0].contains("tokio"), "{findings:?}");
    }

    #[test]
    fn paths_are_told_from_other_quoted_words() {
        let page = "See `plan/src/steps.rs`, `agent/src/`, not `serde`, `cargo xtask ci`, `plan/tests/cases/<name>`.";
        assert_eq!(named_paths(page).collect::<Vec<_>>(), ["plan/src/steps.rs", "agent/src/"]);
    }
}
