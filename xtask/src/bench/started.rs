//! When a program started, by its own clock: each sends `NAME SECONDS.MICROSECONDS` in a datagram as its first act. That
//! works the same from a pod, a bare unit and a container of another runtime, on the machine's network.

use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

/// Receives what programs say when they start.
pub(super) struct Started {
    socket: UdpSocket,
}

/// Seconds since 1970, as the programs say it.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Started {
    pub(super) fn new() -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("listen on the loopback")?;
        socket.set_read_timeout(Some(Duration::from_secs(1))).context("set a time limit")?;
        Ok(Self { socket })
    }

    /// What a shell has to run to report `name` and stay.
    pub(super) fn script(&self, name: &str) -> Result<String> {
        let port = self.socket.local_addr().context("ask for the port")?.port();
        Ok(format!("echo {name} $EPOCHREALTIME > /dev/udp/127.0.0.1/{port}; exec sleep infinity"))
    }

    /// Waits until programs whose names begin with `prefix` have reported `count` times; gives the last start.
    pub(super) fn wait(&self, prefix: &str, count: usize, deadline: Duration) -> Result<f64> {
        let begun = Instant::now();
        let (mut seen, mut last) = (0, 0.0_f64);
        while seen < count {
            if begun.elapsed() > deadline {
                bail!("{seen} of {count} programs {prefix}* started within {deadline:?}");
            }
            let mut buffer = [0; 256];
            let Ok(length) = self.socket.recv(&mut buffer) else { continue };
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let mut words = text.split_whitespace();
            let (Some(name), Some(Ok(at))) = (words.next(), words.next().map(str::parse::<f64>)) else { continue };
            if name.starts_with(prefix) {
                seen += 1;
                last = last.max(at);
            }
        }
        Ok(last)
    }
}
