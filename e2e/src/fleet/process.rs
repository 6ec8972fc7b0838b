//! What a process takes of the machine, by the kernel's account.

use std::fs;

use anyhow::{Context, Result};

/// Memory and processor time.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Its memory and its share of what others use too, in bytes.
    pub pss: f64,
    /// All memory that it uses, shared or not, in bytes.
    pub rss: f64,
    /// The time that it ran, in nanoseconds.
    pub cpu_ns: f64,
}

impl Usage {
    /// That of a process that runs.
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let bytes = |name: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
            line.map(|kilobytes: f64| kilobytes * 1024.0).with_context(|| format!("{path} has no {name}"))
        };
        let mut cpu_ns = 0.0;
        let tasks = format!("/proc/{pid}/task");
        for task in fs::read_dir(&tasks).with_context(|| format!("list {tasks}"))? {
            // A thread that has just ended is not counted: they are few and idle.
            let text = fs::read_to_string(task.context("list threads")?.path().join("schedstat")).unwrap_or_default();
            cpu_ns += text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
        }
        Ok(Self { pss: bytes("Pss:")?, rss: bytes("Rss:")?, cpu_ns })
    }
}
