//! The API server inside a sandbox that has a network of its own: the same address there as on the machine, so the same
//! kubeconfigs. One way only: the API server does not reach what listens inside, such as a node's server of logs.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::ControlPlane;
use crate::sandbox::Sandbox;

/// Passes connections on until it is dropped, which breaks them.
#[derive(Debug)]
pub struct Relay {
    listener: Arc<TcpListener>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    accepting: Option<JoinHandle<()>>,
}

impl ControlPlane {
    /// Lets `sandbox`, which has a network namespace of its own, reach the API server. Ends with the sandbox's boot.
    pub fn relay_into(&self, sandbox: &Sandbox) -> Result<Relay> {
        let init = sandbox.record().init.context("the sandbox does not run")?.pid;
        let namespace = File::open(format!("/proc/{init}/ns/net")).context("open the sandbox's network namespace")?;
        let port = self.record.port;
        // A socket belongs to the namespace in which it was made, and only this thread goes there.
        let listen = thread::spawn(move || -> Result<TcpListener> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .context("enter the sandbox's network namespace")?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("listen in the sandbox")
        });
        let listener = Arc::new(listen.join().map_err(|_| anyhow!("the thread in the sandbox's network died"))??);
        let open = Arc::new(Mutex::new(Vec::new()));
        let (accepting_on, accepted) = (Arc::clone(&listener), Arc::clone(&open));
        let accepting = thread::spawn(move || {
            for inside in accepting_on.incoming() {
                // The end of the relay shuts the listener down.
                let Ok(inside) = inside else { break };
                // As from an API server that is down: the client's connection ends.
                let Ok(outside) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                pass_on(inside, outside, &accepted).ok();
            }
        });
        Ok(Relay { listener, open, accepting: Some(accepting) })
    }
}

/// Copies both ways, each until its end, which is passed on.
fn pass_on(inside: TcpStream, outside: TcpStream, open: &Mutex<Vec<TcpStream>>) -> io::Result<()> {
    let (from_inside, from_outside) = (inside.try_clone()?, outside.try_clone()?);
    open.lock().unwrap_or_else(PoisonError::into_inner).extend([inside.try_clone()?, outside.try_clone()?]);
    for (mut from, mut to) in [(from_inside, outside), (from_outside, inside)] {
        thread::spawn(move || {
            // However it ends, the other side has to hear of it.
            io::copy(&mut from, &mut to).ok();
            to.shutdown(Shutdown::Write).ok();
        });
    }
    Ok(())
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Wakes the accepting thread. What is closed already needs no end.
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).ok();
        if let Some(accepting) = self.accepting.take() {
            accepting.join().ok();
        }
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}
