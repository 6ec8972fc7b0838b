//! Running the package manager's programs: the environment they get and how much of their output is kept.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::PackageError;

/// What is kept of error output and of an installation's log.
const TAIL: usize = 64 * 1024;
/// The largest answer of a query: the file list of the largest packages is a few MiB.
const MAX_ANSWER: u64 = 32 * 1024 * 1024;

/// A finished program.
pub(super) struct Finished {
    /// Its exit status; None after a signal.
    pub(super) status: Option<i32>,
    pub(super) stdout: String,
    /// The last of its error output.
    pub(super) stderr: String,
}

impl Finished {
    pub(super) fn succeeded(&self) -> bool {
        self.status == Some(0)
    }

    /// What went wrong is on standard error for most tools, and on standard output for the rest.
    pub(super) fn words(&self) -> &str {
        if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr }
    }
}

/// Nothing of the agent's environment but where programs, proxies and root's home are.
fn command(argv: &[String]) -> Command {
    const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    const PROXY: [&str; 8] =
        ["http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"];
    let mut command = Command::new(argv.first().map_or("", String::as_str));
    command
        .args(argv.iter().skip(1))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()))
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("DEBCONF_NONINTERACTIVE_SEEN", "true")
        .envs(PROXY.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .current_dir("/")
        .stdin(Stdio::null())
        // A signal to the agent's group (^C in a terminal) is not for them.
        .process_group(0);
    command
}

/// Runs something that changes nothing, or may be cut off at any point: it is killed at the deadline and when the caller
/// goes away.
pub(super) async fn query(argv: &[String], deadline: Duration) -> Result<Finished, PackageError> {
    let step = || argv.iter().take(2).cloned().collect::<Vec<_>>().join(" ");
    let start = || -> io::Result<_> {
        let mut child = command(argv).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((child, stdout, stderr))
    };
    let (mut child, stdout, stderr) = start().map_err(|error| PackageError::failed(step(), &error.to_string()))?;
    let read = async {
        let (stdout, stderr) = tokio::try_join!(answer(stdout), tail(stderr))?;
        let status = child.wait().await?.code();
        Ok::<_, io::Error>(Finished { status, stdout, stderr })
    };
    match tokio::time::timeout(deadline, read).await {
        Ok(finished) => finished.map_err(|error| PackageError::failed(step(), &error.to_string())),
        Err(_) => Err(PackageError::failed(step(), &format!("no answer after {} s", deadline.as_secs()))),
    }
}

async fn answer(stream: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn tail(mut stream: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut kept = Vec::new();
    let mut chunk = vec![0; 8192];
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Ok(String::from_utf8_lossy(&kept).into_owned());
        }
        kept.extend_from_slice(&chunk[..count]);
        if kept.len() > 2 * TAIL {
            kept.drain(..kept.len() - TAIL);
        }
    }
}

/// Runs something that must not be cut off. Its output goes to `log`, not to a pipe: it outlives an agent that is killed
/// (a pipe without a reader would end apt midway), and a daemon that a maintainer script leaves behind holds nothing open
/// that is waited for. Gives whether it succeeded and the last of the log.
///
/// `lock` becomes its standard input: an empty file whose flock lasts as long as any process of it, so that the next agent
/// can wait for what this one left behind, also in the moments when the package manager itself holds no lock.
pub(super) async fn uninterrupted(argv: &[String], log: &Path, lock: File) -> Result<(bool, String), PackageError> {
    let output = File::create(log).map_err(PackageError::io("write", log))?;
    let errors = output.try_clone().map_err(PackageError::io("write", log))?;
    let status = command(argv).stdin(lock).stdout(output).stderr(errors).kill_on_drop(false).status().await;
    let status = status.map_err(|error| PackageError::failed(argv.join(" "), &error.to_string()))?;
    let mut file = File::open(log).map_err(PackageError::io("read", log))?;
    let mut bytes = Vec::new();
    let start = file.metadata().map_or(0, |metadata| metadata.len()).saturating_sub(TAIL as u64);
    file.seek(SeekFrom::Start(start))
        .and_then(|_| file.read_to_end(&mut bytes))
        .map_err(PackageError::io("read", log))?;
    Ok((status.success(), String::from_utf8_lossy(&bytes).into_owned()))
}
