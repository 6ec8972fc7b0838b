//! `go build` of `e2e/kubernetes`. Takes a Go; gives one static binary. The compiler's own cache (`GOCACHE`) keeps the parts, so
//! that a changed flag costs a link and not the ten minutes or more of the first build.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::VERSION;
use crate::{command, progress};

/// What is compiled, which is the cache's key together with the flags.
pub(super) const SOURCES: [(&str, &str); 3] = [
    ("go.mod", include_str!("../../kubernetes/go.mod")),
    ("go.sum", include_str!("../../kubernetes/go.sum")),
    ("main.go", include_str!("../../kubernetes/main.go")),
];

/// Packages that provide a version: the programs' own, and what clients call themselves (`User-Agent`, so the audit log).
const STAMPED: [&str; 2] = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];

/// The flags of `go build`. Stripped, as nobody debugs upstream here: 148 MB.
pub(super) fn flags() -> Vec<String> {
    let numbers: Vec<&str> = VERSION.trim_start_matches('v').split('.').collect();
    let mut linker = "-s -w".to_owned();
    for package in STAMPED {
        let stamps = [("gitVersion", VERSION), ("gitMajor", numbers[0]), ("gitMinor", numbers[1])];
        linker.extend(stamps.map(|(name, value)| format!(" -X {package}.{name}={value}")));
    }
    // Without the state of our repository: it says nothing about this program, and asking git may be refused.
    vec!["-trimpath".to_owned(), "-buildvcs=false".to_owned(), "-ldflags".to_owned(), linker]
}

/// Builds the program at `binary` with `go`.
pub(super) fn build(go: &Path, flags: &[String], binary: &Path) -> Result<()> {
    let packages = progress::during(&format!("fetching the Go modules of Kubernetes {VERSION}"), || {
        let list = command::run(in_module(go).args(["list", "-deps", "."]));
        Ok(list.context("fetch Go modules (their proxy has to be within reach)")?.lines().count())
    })?;
    let what = format!("building Kubernetes {VERSION} (once, 10 to 20 minutes on two cores)");
    progress::during_counted(&what, |how_far| {
        let mut build = in_module(go);
        // Each package is named on stderr as it is compiled; those in Go's cache are not.
        build.args(["build", "-v"]).args(flags).arg("-o").arg(binary).arg(".");
        let mut child = build.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut said = Vec::new();
        for line in BufReader::new(child.stderr.take().context("take Go's output")?).lines() {
            said.push(line.context("read Go's output")?);
            how_far(&format!("{} of at most {packages} packages", said.len()));
        }
        if !child.wait().context("wait for Go")?.success() {
            bail!("`go build` of Kubernetes failed:\n{}", command::tail(&said.join("\n"), 20));
        }
        Ok(())
    })
}

/// A go command in the module. No C: the binary is static, as upstream's are, and no C compiler is needed.
fn in_module(go: &Path) -> Command {
    let mut command = Command::new(go);
    command.current_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("kubernetes"));
    // Where the Go that was found is too old for go.mod, it fetches the one named there.
    command.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "auto").env("GOWORK", "off");
    // A user's settings for other programs would make another binary, and the cache's key does not know them.
    command.env("GOFLAGS", "-mod=readonly").env_remove("GOOS").env_remove("GOARCH");
    command
}
