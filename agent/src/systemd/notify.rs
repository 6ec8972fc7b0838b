//! `sd_notify`: tells the systemd that started the agent how it is.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where to report to. Absent when nobody asked.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notify {
    /// From the value of `$NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub(crate) fn new(notify_socket: &OsStr) -> io::Result<Self> {
        let address = match notify_socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(notify_socket)?,
            _ => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "NOTIFY_SOCKET is neither a path nor abstract"));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    /// From the environment; `None` if the agent was not started by systemd as `Type=notify`.
    pub(crate) fn from_env() -> io::Result<Option<Self>> {
        std::env::var_os("NOTIFY_SOCKET")
            .filter(|socket| !socket.is_empty())
            .map(|socket| Self::new(&socket))
            .transpose()
    }

    /// The agent serves.
    pub(crate) fn ready(&self) -> io::Result<()> {
        self.send("READY=1")
    }

    /// The agent is going down.
    pub(crate) fn stopping(&self) -> io::Result<()> {
        self.send("STOPPING=1")
    }

    /// The agent lives. To be said as often as [`watchdog`] has it.
    pub(crate) fn alive(&self) -> io::Result<()> {
        self.send("WATCHDOG=1")
    }

    /// One line for `systemctl status`.
    pub(crate) fn status(&self, line: &str) -> io::Result<()> {
        self.send(&format!("STATUS={}", line.replace('\n', " ")))
    }

    fn send(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(drop)
    }
}

/// How often to give a sign of life, from the values of `$WATCHDOG_USEC` and `$WATCHDOG_PID`: twice in the time that systemd
/// waits for one, as sd_watchdog_enabled(3) has it. One that comes just when the time is over finds the process killed.
pub(crate) fn watchdog(usec: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let usec: u64 = usec?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn reports_reach_path_and_abstract_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("systemk-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}").into(), UnixDatagram::bind_addr(&abstract_address).unwrap()),
        ];
        for (value, socket) in sockets {
            let notify = Notify::new(&value).unwrap();
            notify.ready().unwrap();
            notify.status("2 pods\n1 waiting").unwrap();
            notify.alive().unwrap();
            notify.stopping().unwrap();
            let all = [received(&socket), received(&socket), received(&socket), received(&socket)];
            assert_eq!(all, ["READY=1", "STATUS=2 pods 1 waiting", "WATCHDOG=1", "STOPPING=1"]);
        }
        assert!(Notify::new(OsStr::new("vsock:2:1")).is_err());
    }

    #[test]
    fn the_watchdog_is_for_the_process_it_names() {
        let table = [
            (Some("6000000"), None, Some(3)),
            (Some("6000000"), Some("7"), Some(3)),
            (Some("6000000"), Some("8"), None),
            (Some("0"), None, None),
            (Some("x"), None, None),
            (None, None, None),
        ];
        for (usec, pid, seconds) in table {
            assert_eq!(watchdog(usec, pid, 7), seconds.map(Duration::from_secs), "{usec:?} {pid:?}");
        }
    }
}
