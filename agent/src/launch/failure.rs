//! Why the program was not started: the type inside `init`, its exit code, and how it reaches the agent.

use std::fmt;

use plan::launch::Failure;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// What the agent reads at most.
const FILE_LIMIT: usize = 4096;

/// One failed step. Messages name paths and numbers, never arguments or environment values.
#[derive(Debug)]
pub(super) struct StepError {
    pub(super) step: &'static str,
    pub(super) errno: Option<Errno>,
    pub(super) message: String,
    pub(super) exit_code: i32,
}

impl StepError {
    /// A step that the kernel refused: `message: no such file or directory`, exit code 128.
    pub(super) fn os(step: &'static str, errno: Errno, message: impl fmt::Display) -> Self {
        Self { step, errno: Some(errno), message: format!("{message}: {}", describe(errno)), exit_code: 128 }
    }

    /// A step that was refused before the kernel was asked.
    pub(super) fn refused(step: &'static str, message: impl Into<String>) -> Self {
        Self { step, errno: None, message: message.into(), exit_code: 128 }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StepError {}

/// The error in the words that runc and the kubelet use: the C library's, without a capital or the number.
pub(super) fn describe(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match (chars.next(), chars.as_str()) {
        (Some(first), rest) if !rest.starts_with(|c: char| c.is_uppercase()) => {
            first.to_lowercase().collect::<String>() + rest
        }
        _ => text.to_owned(),
    }
}

/// The failure file, opened while still privileged because the identity may not be able to.
pub(super) struct FailureFile(Option<std::fs::File>);

impl FailureFile {
    /// Opens a file that the agent made; it is never created, a symlink is never followed, and anything but a regular file
    /// is left alone. Without a file, standard error (the journal) is the only record.
    pub(super) fn open(path: &str) -> Self {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open(path, flags, Mode::empty()).ok().filter(|fd| {
            rustix::fs::fstat(fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile)
        });
        Self(file.map(std::fs::File::from))
    }

    /// `init` is about to become the container's program: what the agent put into the file, to know whether a unit got
    /// this far at all, goes. A program may then end with 226 without being taken for a mount that failed.
    pub(super) fn reached(&mut self, line: &str) {
        if let Some(file) = &mut self.0
            && line.starts_with("start.")
            && let Err(error) = file.set_len(0)
        {
            eprintln!("systemk init: empty the failure file: {error}");
        }
    }

    /// No file is known yet: the Launch could not be read.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Writes the failure of `line`. The file is emptied here and not when it is opened, and only a `start` line replaces
    /// what is there: the vendor's `ExecStopPost=` lines run through `init` too, after a start that failed, and must not
    /// wipe out why it did.
    pub(super) fn write(&mut self, line: &str, error: &StepError) -> std::io::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        if !line.starts_with("start") && file.metadata()?.len() > 0 {
            return Ok(());
        }
        file.set_len(0)?;
        std::io::Write::write_all(file, &encode(line, error))
    }
}

/// JSON of at most [`FILE_LIMIT`] bytes: an overlong message (a path of control bytes, say) is cut.
fn encode(line: &str, error: &StepError) -> Vec<u8> {
    let mut failure = Failure {
        line: line.chars().take(64).collect(),
        step: error.step.to_owned(),
        errno: error.errno.map_or(0, Errno::raw_os_error),
        message: error.message.clone(),
        exit_code: error.exit_code,
    };
    loop {
        let json = serde_json::to_vec(&failure).unwrap_or_default();
        if json.len() <= FILE_LIMIT {
            return json;
        }
        let keep = failure.message.chars().count() * 3 / 4;
        failure.message = failure.message.chars().take(keep).chain(['…']).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_a_kubelet_user_knows_them() {
        assert_eq!(describe(Errno::NOENT), "no such file or directory");
        assert_eq!(describe(Errno::NOEXEC), "exec format error");
        assert_eq!(describe(Errno::IO), "input/output error");
    }

    #[test]
    fn the_file_never_outgrows_what_the_agent_reads() {
        let error = StepError::refused("chdir", "\u{1}".repeat(10_000));
        let json = encode(&"start.0".repeat(100), &error);
        assert!(json.len() <= FILE_LIMIT);
        let failure: Failure = serde_json::from_slice(&json).unwrap();
        assert_eq!(failure.step, "chdir");
        assert!(failure.message.ends_with('…') && failure.message.len() > 300);
    }
}
