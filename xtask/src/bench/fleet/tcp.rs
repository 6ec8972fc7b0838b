//! Bytes of the agents' connections to the API server, by the kernel's account of each socket: what TCP carries, with TLS and
//! HTTP/2 and without the headers of packets.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};
use e2e::command;

/// Sent and received so far by each socket: by process and local address.
#[derive(Debug, Default)]
pub(super) struct Sockets(BTreeMap<(u32, String), (f64, f64)>);

impl Sockets {
    /// Those that are connected with `port` of this machine now.
    pub(super) fn to(port: u16) -> Result<Self> {
        command::require("ss", "iproute2")?;
        let text = command::run(Command::new("ss").args(["-HOtinp", "dst", &format!("127.0.0.1:{port}")]))?;
        text.lines().map(|line| socket(line).with_context(|| format!("read what ss says: {line}"))).collect()
    }

    /// Sent and received since `before` by the process, and by how many sockets.
    pub(super) fn since(&self, before: &Self, pid: u32) -> (f64, f64, usize) {
        let own = self.0.iter().filter(|((owner, _), _)| *owner == pid);
        own.fold((0.0, 0.0, 0), |(sent, received, count), (key, now)| {
            // One that was not there before has done all of it since.
            let then = before.0.get(key).copied().unwrap_or_default();
            (sent + now.0 - then.0, received + now.1 - then.1, count + 1)
        })
    }
}

impl FromIterator<((u32, String), (f64, f64))> for Sockets {
    fn from_iter<I: IntoIterator<Item = ((u32, String), (f64, f64))>>(sockets: I) -> Self {
        Self(sockets.into_iter().collect())
    }
}

fn socket(line: &str) -> Option<((u32, String), (f64, f64))> {
    let pid = line.split("pid=").nth(1)?.split(',').next()?.parse().ok()?;
    let local = line.split_whitespace().nth(3)?.to_owned();
    let number = |name: &str| {
        let word = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
        // What was never sent is not named.
        word.and_then(|word| word.parse().ok()).unwrap_or(0.0)
    };
    Some(((pid, local), (number("bytes_acked"), number("bytes_received"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_told_apart() {
        let line = |local: &str, sent: u32| {
            format!(
                "ESTAB 0 0 127.0.0.1:{local} 127.0.0.1:16443 users:((\"systemk\",pid=7,fd=9)) ts sack cubic \
                 bytes_sent:90 bytes_acked:{sent} bytes_received:20 segs_out:3"
            )
        };
        let sockets = |lines: &[String]| lines.iter().map(|line| socket(line).unwrap()).collect::<Sockets>();
        let before = sockets(&[line("1", 10)]);
        let after = sockets(&[line("1", 15), line("2", 100)]);
        assert_eq!(after.since(&before, 7), (105.0, 20.0, 2));
        assert_eq!(after.since(&before, 8), (0.0, 0.0, 0));
    }
}
