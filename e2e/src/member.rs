//! A sandbox node that is a member of a real cluster.
//!
//! It is on the machine's network, with a loopback address of its own as the node's: so the API server reaches its kubelet API,
//! and several nodes listen on the same port. Endpoints refuse such addresses; a test that needs them gives the node another.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Result;
use serde_json::{Value, json};

use crate::agent::{self, Node, SOON};
use crate::control_plane::{ControlPlane, ControlPlaneSpec, Kubectl, Proxy};
use crate::eventually::wait_until;
use crate::sandbox::{SandboxSpec, Systemd};

/// Where its kubeconfig lies inside.
pub const KUBECONFIG: &str = "/etc/systemk/kubeconfig";

/// Where pods find a client of the cluster's release.
pub const KUBECTL: &str = "/usr/local/bin/kubectl";

/// A node with an agent that has joined a control plane. Both go when the last user of each is dropped.
pub struct Member {
    /// The machine and its agent.
    pub node: Node,
    /// Its name in the cluster; its pods are in a namespace of the same name.
    pub name: String,
    /// Where the kubelet API listens.
    pub address: IpAddr,
    /// The cluster.
    pub cluster: Arc<ControlPlane>,
}

impl Deref for Member {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

/// The control plane that the tests of one process share, for as long as one of them uses it.
pub fn cluster() -> Result<Arc<ControlPlane>> {
    static CURRENT: Mutex<Weak<ControlPlane>> = Mutex::new(Weak::new());
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = current.upgrade() {
        return Ok(running);
    }
    let started = Arc::new(ControlPlane::start(ControlPlaneSpec::for_test("cluster"))?);
    *current = Arc::downgrade(&started);
    Ok(started)
}

/// Of the 16 million loopback addresses one that no other node of this machine has.
pub fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let second = u8::try_from(64 + number % 128).unwrap_or(64);
    Ipv4Addr::new(127, second, high.max(1), low.clamp(1, 254))
}

impl Member {
    /// Boots a node and joins it to the cluster that tests share.
    pub fn join(systemd: Systemd, what: &str) -> Result<Self> {
        Self::join_to(cluster()?, systemd, what, "")
    }

    /// Boots a node and joins it to `cluster`; the agent has `flags` beside the necessary ones.
    pub fn join_to(cluster: Arc<ControlPlane>, systemd: Systemd, what: &str, flags: &str) -> Result<Self> {
        let member = Self::prepare(cluster, systemd, what, flags)?;
        member.start_agent()?;
        Ok(member)
    }

    /// As [`Member::join_to`], with the agent still to be started.
    pub fn prepare(cluster: Arc<ControlPlane>, systemd: Systemd, what: &str, flags: &str) -> Result<Self> {
        Self::prepare_with(&agent::binary()?, cluster, systemd, what, &format!("{flags} --log-level debug"))
    }

    /// The same with a binary of the caller's.
    pub fn prepare_with(
        binary: &Path,
        cluster: Arc<ControlPlane>,
        systemd: Systemd,
        what: &str,
        flags: &str,
    ) -> Result<Self> {
        Self::prepare_at((own_address(), 10250).into(), binary, cluster, systemd, what, flags)
    }

    /// The same with the kubelet API at an address of the caller's, which becomes the node's.
    pub fn prepare_at(
        at: SocketAddr,
        binary: &Path,
        cluster: Arc<ControlPlane>,
        systemd: Systemd,
        what: &str,
        flags: &str,
    ) -> Result<Self> {
        let spec = SandboxSpec::for_test(systemd, what);
        let (name, address) = (spec.name.clone(), at.ip());
        let flags = format!("--kubeconfig {KUBECONFIG} --nodename {name} --node-ip {address} --addr {at} {flags}");
        // A client for pods to use, with what the node gives them.
        let spec = spec.bind_ro(cluster.admin().program(), KUBECTL);
        let node = Node::boot_with(binary, spec, &flags)?;
        node.sandbox.write_secret(KUBECONFIG, cluster.node_kubeconfig(&name)?)?;
        let member = Self { node, name, address, cluster };
        member.kubectl().run(&["create", "namespace", &member.name])?;
        // No pod can be made before it.
        let account = ["serviceaccount", "default", "-n", &member.name];
        member.kubectl().wait_for("the service account", SOON, &account, |_| true)?;
        Ok(member)
    }

    /// Puts a proxy between the node and its API server. The agent is still to be started.
    pub fn behind_proxy(&self) -> Result<Proxy> {
        let proxy = self.cluster.proxy(&self.name, own_address().into())?;
        self.node.sandbox.write_secret(KUBECONFIG, proxy.kubeconfig())?;
        Ok(proxy)
    }

    /// kubectl as the administrator.
    pub fn kubectl(&self) -> Kubectl {
        self.cluster.admin()
    }

    /// Makes a pod on this node, past the scheduler.
    pub fn run(&self, name: &str, mut spec: Value) -> Result<()> {
        spec["nodeName"] = json!(self.name);
        let metadata = json!({"name": name, "namespace": self.name});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        self.kubectl().apply(&pod.to_string())
    }

    /// The pod as the API server has it.
    pub fn pod(&self, name: &str) -> Result<Option<Value>> {
        self.kubectl().find(&["pod", name, "-n", &self.name])
    }

    /// Waits until the API server has a status of the pod as `is` wants it; gives the pod.
    pub fn wait_pod(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        let asked = ["pod", name, "-n", &self.name];
        self.kubectl().wait_for(what, self.patience, &asked, |pod| is(&pod["status"])).map_err(|error| {
            let log = self.sandbox.sh("journalctl -u systemk -n 40 --no-pager -o cat").unwrap_or_default();
            error.context(format!("the agent's log:\n{log}"))
        })
    }

    /// Waits until the API server shows it Running with every container ready.
    pub fn wait_running(&self, name: &str) -> Result<Value> {
        self.wait_pod(name, "the pod to run", |status| {
            let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
            status["phase"] == "Running" && status["conditions"].as_array().is_some_and(|all| all.iter().any(ready))
        })
    }

    /// Waits until the API server has no such pod.
    pub fn wait_deleted(&self, name: &str) -> Result<()> {
        wait_until("the pod to be gone", self.patience, || self.pod(name).ok()?.is_none().then_some(()))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Others use the cluster on; what was this node's would only be in their way.
        let kubectl = self.kubectl();
        for what in [["node", &self.name], ["namespace", &self.name]] {
            kubectl.output(&[&["delete", "--wait=false", "--ignore-not-found"][..], &what].concat()).ok();
        }
    }
}
