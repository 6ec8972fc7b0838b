//! The source files: their size, where `unsafe` is, and that they name no one's machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Findings;

/// Lines of a Rust file: past the first look for the second subject, past the second it is not one file.
const LINES: (usize, usize) = (500, 800);

/// The one module that may use `unsafe`.
const UNSAFE: &str = "agent/src/sys.rs";

pub(super) fn check(workspace: &Path, findings: &mut Findings) -> Result<()> {
    for path in files(workspace)? {
        // Not text: nothing of ours to read.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let name = path.strip_prefix(workspace).unwrap_or(&path).to_string_lossy();
        judge(&name, &text, findings);
    }
    Ok(())
}

fn judge(name: &str, text: &str, findings: &mut Findings) {
    findings.wrong.extend(personal_path(text).map(|line| format!("{name}:{line} names a path of one machine")));
    if !name.ends_with(".rs") {
        return;
    }
    let lines = text.lines().count();
    if lines > LINES.1 {
        findings.wrong.push(format!("{name} has {lines} lines, at most {}", LINES.1));
    } else if lines > LINES.0 {
        findings.near.push(format!("{name} has {lines} lines: look for its second subject (at most {})", LINES.1));
    }
    let unsafe_code = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|form| code.contains(form))
    };
    // This file names the forms.
    if name != UNSAFE && !name.starts_with("xtask/src/tidy/") && text.lines().any(unsafe_code) {
        findings.wrong.push(format!("{name} uses unsafe, which only {UNSAFE} may"));
    }
}

/// The number of the first line with something below a person's home directory, which works on nobody else's machine.
fn personal_path(text: &str) -> Option<usize> {
    let below_a_home = |line: &str, homes: &str| {
        line.split(homes).skip(1).any(|rest| {
            let name = rest.split(|c: char| !c.is_alphanumeric() && c != '-').next().unwrap_or_default();
            // The user of examples and test data.
            !name.is_empty() && name != "user" && rest[name.len()..].starts_with('/')
        })
    };
    let personal = |line: &str| {
        below_a_home(line, concat!("/ho", "me/"))
            || below_a_home(line, concat!("/Us", "ers/"))
            || line.contains(concat!("/ro", "ot/."))
    };
    text.lines().position(personal).map(|index| index + 1)
}

/// Every file of ours: what git knows, or would if it were added.
fn files(workspace: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(workspace).with_context(|| format!("list {}", workspace.display()))? {
        let path = entry.context("list the sources")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_symlink() || ["target", ".git", "Cargo.lock", "go.sum"].contains(&name.as_ref()) {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(name: &str, text: &str) -> Findings {
        let mut findings = Findings::default();
        judge(name, text, &mut findings);
        findings
    }

    #[test]
    fn sizes_have_a_limit_and_a_warning_before_it() {
        assert_eq!(judged("a.rs", &"x\n".repeat(LINES.0)).near.len(), 0);
        assert_eq!(judged("a.rs", &"x\n".repeat(LINES.0 + 1)).near.len(), 1);
        assert_eq!(judged("a.rs", &"x\n".repeat(LINES.1 + 1)).wrong.len(), 1);
        assert_eq!(judged("a.txt", &"x\n".repeat(LINES.1 + 1)).wrong.len(), 0);
    }

    #[test]
    fn unsafe_has_its_place() {
        let text = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(judged(UNSAFE, text).wrong.len(), 0);
        assert_eq!(judged("agent/src/app.rs", text).wrong.len(), 1);
        assert_eq!(judged("agent/src/app.rs", "// unsafe { not code }\n").wrong.len(), 0);
    }

    #[test]
    fn no_path_of_one_machine() {
        let path = concat!("x\nlet p = \"/ho", "me/ann/systemk\";\n");
        assert_eq!(judged("a.sh", path).wrong, ["a.sh:2 names a path of one machine"]);
        for fine in [concat!("/ho", "me/user/x"), concat!("/ho", "me/hosts"), "/home: "] {
            assert_eq!(judged("a.sh", fine).wrong.len(), 0, "{fine}");
        }
    }
}
