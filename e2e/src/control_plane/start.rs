//! From a spec to a control plane that is ready.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::parts::{self, Part};
use super::pki::Pki;
use super::record::{self, Record};
use super::{ControlPlane, ControlPlaneSpec, users};
use crate::eventually::wait_until;
use crate::process::Process;
use crate::{command, kubernetes};

/// How long a start may take: 4 s on two idle cores, the rest is for machines that build at the same time.
pub const READY: Duration = Duration::from_secs(180);

/// Ports to choose from: below those that the kernel gives to outgoing connections, so that none of them takes the port while
/// an API server is down.
const PORTS: std::ops::Range<u16> = 16443..32000;

/// What has to run before anything else can.
const STORE_AND_SERVER: [Part; 2] = [Part::Etcd, Part::ApiServer];

impl ControlPlane {
    pub(super) fn start_new(spec: ControlPlaneSpec, stays: bool) -> Result<Self> {
        spec.check()?;
        command::require("setsid", "util-linux")?;
        let ControlPlaneSpec { name, parts, audit } = spec;
        let programs = kubernetes::directory()?;
        let mut record = Record { name, programs, port: 0, parts, audit, stays, processes: BTreeMap::new() };
        let (home, owner) = {
            let _registry = record::registry_lock()?;
            record::reap_stale()?;
            if Record::home(&record.name)?.exists() {
                bail!("a control plane `{}` is up already: stop it or take another name", record.name);
            }
            record.port = free_port(&record::list()?)?;
            let home = record.make_home()?;
            let owner = record::own(&home)?;
            record.save()?;
            (home, owner)
        };
        let mut control_plane = Self { record, home, owner: Some(owner), children: BTreeMap::new() };
        match control_plane.furnish().and_then(|()| control_plane.run()) {
            Ok(()) => Ok(control_plane),
            Err(error) => {
                control_plane.remove()?;
                Err(error.context("start a control plane"))
            }
        }
    }

    pub(super) fn pki(&self) -> Pki {
        Pki::at(self.home.join("pki"))
    }

    /// Makes the keys and the files that the programs are started with.
    fn furnish(&self) -> Result<()> {
        self.pki().make(parts::SERVICE_ADDRESS)?;
        for part in &self.record.parts {
            if let Some((file, user)) = part.client() {
                self.write_kubeconfig(file, &super::Identity::user(user))?;
            }
        }
        self.write_kubeconfig(users::ADMIN, &users::administrator())?;
        let (file, policy) = parts::AUDIT_POLICY;
        super::write_private(&self.home.join(file), policy)
    }

    /// Starts what does not run and waits until all of it is ready.
    pub(super) fn run(&mut self) -> Result<()> {
        for part in STORE_AND_SERVER {
            self.start_part(part)?;
        }
        self.await_api_server()?;
        // They give up after 10 s without an API server, so not before it is there.
        for part in self.record.parts.clone() {
            self.start_part(part)?;
        }
        self.await_service_account()
    }

    /// Starts a program, unless it runs.
    pub(super) fn start_part(&mut self, part: Part) -> Result<()> {
        if self.record.runs(part) {
            return Ok(());
        }
        let Record { programs, port, audit, .. } = &self.record;
        let child = part.spawn(programs, &self.home, *port, *audit)?;
        let Some(process) = Process::of(child.id()) else {
            bail!("{} ended at once; it said:\n{}", part.program(), part.said(&self.home));
        };
        self.record.processes.insert(part, process);
        if let Some(mut before) = self.children.insert(part, child) {
            before.wait().with_context(|| format!("wait for the {} before", part.program()))?;
        }
        self.record.save()
    }

    /// Waits until the API server says that it is ready.
    pub(super) fn await_api_server(&self) -> Result<()> {
        let admin = self.admin();
        self.while_running(&STORE_AND_SERVER, "the API server", || {
            // Not a kubectl for every try, as each costs a tenth of a second.
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.record.port)).ok()?;
            let ready = admin.run(&["get", "--raw", "/readyz", "--request-timeout=10s"]).ok()?;
            (ready == "ok").then_some(())
        })
    }

    /// Waits for the service account that every pod needs. Its controller makes it; where that does not run, we do.
    fn await_service_account(&self) -> Result<()> {
        let admin = self.admin();
        let find = ["get", "serviceaccount/default", "--namespace=default", "--output=name"];
        let made = !self.record.parts.contains(&Part::ControllerManager);
        self.while_running(&self.record.parts, "the default service account", || {
            if made {
                // The namespace may not be there yet.
                admin.run(&["create", "serviceaccount", "default", "--namespace=default"]).ok();
            }
            admin.run(&find).ok().map(drop)
        })
    }

    /// Waits for a step of the start, which fails at once when a program ends before.
    fn while_running<T>(&self, parts: &[Part], what: &str, probe: impl Fn() -> Option<T>) -> Result<T> {
        let ended = || parts.iter().find(|part| !self.record.runs(**part));
        let found = wait_until(what, READY, || match ended() {
            Some(part) => Some(Err(anyhow!("{} ended; it said:\n{}", part.program(), part.said(&self.home)))),
            None => probe().map(Ok),
        });
        found.with_context(|| format!("the API server said:\n{}", Part::ApiServer.said(&self.home)))?
    }
}

/// A port on which nothing listens and that no other control plane has. The caller holds the registry lock.
fn free_port(others: &[Record]) -> Result<u16> {
    // Each process begins elsewhere: a registry in another cache directory does not know this one.
    let offset = std::process::id() as usize % PORTS.len();
    let mut candidates = PORTS.skip(offset).chain(PORTS.take(offset));
    let free = candidates.find(|port| {
        others.iter().all(|other| other.port != *port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
    });
    free.context("no free port for an API server")
}
