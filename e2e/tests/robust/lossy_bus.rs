//! A way to the system bus that loses signals when it is told to: what the agent hears over it, beside answers.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use e2e::sandbox::Sandbox;

/// Where it is inside.
pub(super) const ADDRESS: &str = "unix:path=/run/lossy-bus";

/// The message type of a signal, by the D-Bus specification.
const SIGNAL: u8 = 4;

#[derive(Default)]
struct State {
    loses: AtomicBool,
    lost: AtomicUsize,
    ended: AtomicBool,
}

/// Ends with its owner.
pub(super) struct LossyBus {
    state: Arc<State>,
    socket: PathBuf,
}

impl LossyBus {
    /// One that loses nothing yet.
    pub(super) fn start(sandbox: &Sandbox) -> Self {
        let socket = sandbox.path("/run/lossy-bus").unwrap();
        let bus = sandbox.path("/run/dbus/system_bus_socket").unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = UnixStream::connect(&bus) else { continue };
                pump(client, server, &shared);
            }
        });
        Self { state, socket }
    }

    /// From now on signals are lost, or are not.
    pub(super) fn lose(&self, loses: bool) {
        self.state.loses.store(loses, Ordering::SeqCst);
    }

    /// How many were.
    pub(super) fn lost(&self) -> usize {
        self.state.lost.load(Ordering::SeqCst)
    }
}

impl Drop for LossyBus {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        // Wakes the listener, which may be gone with its sandbox.
        UnixStream::connect(&self.socket).ok();
    }
}

fn pump(client: UnixStream, server: UnixStream, state: &Arc<State>) {
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        io::copy(&mut from_client, &mut to_server).ok();
        to_server.shutdown(Shutdown::Both).ok();
    });
    let state = Arc::clone(state);
    thread::spawn(move || {
        filter(BufReader::new(server), &client, &state).ok();
        client.shutdown(Shutdown::Both).ok();
    });
}

/// Lines until the authentication is over, then messages, whose first byte is their byte order.
fn filter(mut server: BufReader<UnixStream>, mut client: &UnixStream, state: &State) -> io::Result<()> {
    loop {
        let mut first = [0];
        server.read_exact(&mut first)?;
        if first[0] != b'l' {
            let mut line = first.to_vec();
            server.read_until(b'\n', &mut line)?;
            client.write_all(&line)?;
            continue;
        }
        let mut message = vec![b'l'; 16];
        server.read_exact(&mut message[1..])?;
        let number = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap()) as usize;
        let length = 16 + number(12).next_multiple_of(8) + number(4);
        message.resize(length, 0);
        server.read_exact(&mut message[16..])?;
        if message[1] == SIGNAL && state.loses.load(Ordering::SeqCst) {
            state.lost.fetch_add(1, Ordering::SeqCst);
        } else {
            client.write_all(&message)?;
        }
    }
}
