//! Commands for a virtual machine, through a virtio port: QEMU's standard input and output are its other end.
//!
//! Takes a script; gives its exit code and output. One at a time. `channel.sh` is what answers.

use std::io::{Read, Write};
use std::process::{ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::command::Output;

/// What a pipe takes without anybody reading: a longer request could hang on a machine that never comes up.
const LONGEST: usize = 60_000;

/// The two ends; the machine's end of them is the end of the channel.
#[derive(Debug)]
pub(super) struct Channel {
    requests: ChildStdin,
    answers: ChildStdout,
    /// Read already, and not part of an answer that was given out.
    unread: Vec<u8>,
    number: u64,
}

/// The first line of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    number: u64,
    code: i32,
    stdout: usize,
    stderr: usize,
}

impl Channel {
    pub(super) fn new(requests: ChildStdin, answers: ChildStdout) -> Self {
        Self { requests, answers, unread: Vec::new(), number: 0 }
    }

    /// Runs `script` to its end, with `set -e`. Past the deadline it still runs, and the channel is of no more use.
    pub(super) fn call(&mut self, script: &str, deadline: Duration) -> Result<Output> {
        self.number += 1;
        let request = format!("{} {}\n", self.number, encode(script));
        ensure!(request.len() <= LONGEST, "a script of {} bytes is too long for the channel", script.len());
        self.requests.write_all(request.as_bytes()).and_then(|()| self.requests.flush()).context("ask the machine")?;
        let until = Instant::now() + deadline;
        let head = loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                break head(&line)?;
            }
            self.read(until)?;
        };
        ensure!(head.number == self.number, "the answer is to request {}, not to {}", head.number, self.number);
        while self.unread.len() < head.stdout + head.stderr {
            self.read(until)?;
        }
        let mut take = |length| {
            let bytes: Vec<u8> = self.unread.drain(..length).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok(Output { code: head.code, stdout: take(head.stdout), stderr: take(head.stderr) })
    }

    fn read(&mut self, until: Instant) -> Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).context("a deadline that long")?;
        let ready = poll(&mut [PollFd::new(&self.answers, PollFlags::IN)], Some(&timeout));
        if ready.context("wait for the machine's answer")? == 0 {
            bail!("no answer within the deadline");
        }
        let mut buffer = [0; 65536];
        let length = self.answers.read(&mut buffer).context("read the machine's answer")?;
        ensure!(length > 0, "the machine is off");
        self.unread.extend_from_slice(&buffer[..length]);
        Ok(())
    }
}

fn head(line: &[u8]) -> Result<Head> {
    let text = String::from_utf8_lossy(line);
    let words: Vec<&str> = text.split_whitespace().collect();
    let [number, code, stdout, stderr] = words[..] else { bail!("the channel says {text:?}") };
    let context = || format!("the channel says {text:?}");
    Ok(Head {
        number: number.parse().with_context(context)?,
        code: code.parse().with_context(context)?,
        stdout: stdout.parse().with_context(context)?,
        stderr: stderr.parse().with_context(context)?,
    })
}

/// A script as one line, for printf's `%b`.
fn encode(script: &str) -> String {
    let mut line = String::with_capacity(script.len());
    for character in script.chars() {
        match character {
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            control if control.is_ascii_control() => line.push_str(&format!("\\x{:02x}", u32::from(control))),
            other => line.push(other),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_script_is_a_line_and_the_same_script_again() {
        let script = "echo 'a\\nb'\n\tprintf '%s' \"\\x41 ü\"\r\n";
        let line = encode(script);
        assert!(!line.contains(['\n', '\t', '\r']), "{line}");
        let back =
            Command::new("bash").args(["-c", "printf -v back %b \"$1\"; printf %s \"$back\"", "x", &line]).output();
        assert_eq!(String::from_utf8(back.unwrap().stdout).unwrap(), script);
    }

    #[test]
    fn answers_are_cut_where_their_head_says_and_an_end_is_told() {
        let answer = r"read -r line; printf '1 7 4 3\na\nb\nerr'; read -r line; printf '2 x\n'; read -r line";
        let mut child =
            Command::new("bash").args(["-c", answer]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut channel = Channel::new(child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let soon = Duration::from_secs(30);
        let output = channel.call("anything", soon).unwrap();
        assert_eq!(output, Output { code: 7, stdout: "a\nb\n".to_owned(), stderr: "err".to_owned() });
        assert!(channel.call("more", soon).unwrap_err().to_string().contains("2 x"));
        assert_eq!(channel.call("more", soon).unwrap_err().to_string(), "the machine is off");
        child.wait().unwrap();
    }
}
