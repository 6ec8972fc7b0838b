//! What is left of what can run out. Cheap: asked every few seconds for as long as the agent lives.

use plan::node::Available;

use super::{Gauge, MeasureError};

impl Gauge {
    /// What is left now.
    ///
    /// # Errors
    /// The file system of the state directory does not say what is free.
    pub(crate) fn available(&self) -> Result<Available, MeasureError> {
        let storage = self.file_system()?;
        Ok(Available {
            memory_bytes: self.memory_left(),
            storage_bytes: bytes(storage.f_bavail, storage.f_frsize),
            inodes: (storage.f_favail, storage.f_files),
            pids: self.pids_left(),
        })
    }

    /// In a container with a limit of its own, also what is left of that: all but the working set, as a kubelet counts it
    /// (usage without the page cache that was not used lately).
    fn memory_left(&self) -> i64 {
        let machine = self.meminfo("MemAvailable").unwrap_or(i64::MAX);
        let of_limit = self.cgroup_limit("memory.max").and_then(|limit| {
            let used = self.cgroup_limit("memory.current")?;
            let stat = ["sys/fs/cgroup", "sys/fs/cgroup/unified"].map(|base| self.text(&format!("{base}/memory.stat")));
            let idle = stat.iter().flat_map(|text| text.lines()).find_map(|line| line.strip_prefix("inactive_file "));
            let idle: i64 = idle.and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
            Some(limit.saturating_sub(used.saturating_sub(idle)).max(0))
        });
        of_limit.map_or(machine, |left| left.min(machine))
    }

    /// Of the least of the limits (kubelet, `pkg/kubelet/stats/pidlimit`), and of a container's own.
    fn pids_left(&self) -> (u64, u64) {
        let number = |file: &str| self.line(file)?.parse::<u64>().ok();
        let most = [number("proc/sys/kernel/pid_max"), number("proc/sys/kernel/threads-max")];
        let machine = most.into_iter().flatten().min().map(|most| {
            let used = self.line("proc/loadavg").and_then(|line| {
                // `0.20 0.18 0.12 1/80 11206`: running of all threads.
                line.split_whitespace().nth(3)?.split_once('/')?.1.parse::<u64>().ok()
            });
            (most.saturating_sub(used.unwrap_or(0)), most)
        });
        let own = self.cgroup_limit("pids.max").and_then(|limit| {
            let limit = u64::try_from(limit).ok()?;
            let used = u64::try_from(self.cgroup_limit("pids.current")?).ok()?;
            Some((limit.saturating_sub(used), limit))
        });
        // The one of which the smaller part is left; 0 of 0 says that nothing is known.
        let all = [machine, own].into_iter().flatten();
        all.min_by_key(|(left, most)| left.saturating_mul(1000) / most.max(&1)).unwrap_or((0, 0))
    }
}

pub(super) fn bytes(blocks: u64, size: u64) -> i64 {
    i64::try_from(blocks.saturating_mul(size)).unwrap_or(i64::MAX)
}
