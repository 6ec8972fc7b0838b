//! Many nodes behind one real API server, as kubemark has them: each an agent's own process, with nothing of it replaced, but for
//! the systemd that it talks to, which starts and stops units and runs no program.
//!
//! Each agent has mounts of its own: its /run is empty, so that it writes its units nowhere else. Needs root.

mod bus;
mod limit;
mod process;
mod systemd;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use self::bus::Bus;
use self::limit::Inotify;
pub use self::process::Usage;
use crate::command;
use crate::control_plane::{ControlPlane, Part};
use crate::eventually::wait_within;

/// The namespace of its pods.
pub const NAMESPACE: &str = "fleet";

/// A list of all nodes or pods takes something of the machine that the nodes need.
const SELDOM: Duration = Duration::from_secs(1);

/// What an agent is started in. Arguments: its directory, its binary, the agent's arguments.
const SCRIPT: &str = r#"set -e
mount -t tmpfs -o size=64m,mode=755 run /run
mkdir -p /run/systemd/system /run/manifests
mount --bind "$1/os-release" /usr/lib/os-release
binary=$2
shift 2
exec "$binary" agent "$@""#;

/// Of no distribution: no agent of a fleet is to look after this machine's packages.
const OS_RELEASE: &str = "ID=fleet\nPRETTY_NAME=\"A node of a fleet\"\n";

/// A fleet. Dropping it ends all of its agents, and so does the end of the thread that started them.
pub struct Fleet {
    /// The cluster that they are nodes of.
    pub cluster: ControlPlane,
    /// The nodes.
    pub nodes: Vec<HollowNode>,
    binary: PathBuf,
    directory: TempDir,
    buses: Handle,
    /// Dropped to end the buses' thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    limit: Inotify,
}

/// One node.
pub struct HollowNode {
    /// Its name in the cluster.
    pub name: String,
    child: Child,
    bus: Arc<Bus>,
    log: PathBuf,
}

impl Fleet {
    /// One without nodes: agents of `binary` will join `cluster`.
    pub fn new(cluster: ControlPlane, binary: &Path) -> Result<Self> {
        command::require("setpriv", "util-linux")?;
        let directory = tempfile::tempdir().context("make the fleet's directory")?;
        let runtime = Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        let buses = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            // Either way it is over.
            runtime.block_on(stopped).ok();
        });
        let admin = cluster.admin();
        admin.run(&["create", "namespace", NAMESPACE])?;
        // Where no controller makes it.
        admin.output(&["create", "serviceaccount", "default", "-n", NAMESPACE])?;
        let (stop, thread) = (Some(stop), Some(thread));
        let binary = binary.to_owned();
        Ok(Self { cluster, nodes: Vec::new(), binary, directory, buses, stop, thread, limit: Inotify::default() })
    }

    /// Starts agents until there are `count`; does not wait for them.
    pub fn grow(&mut self, count: usize) -> Result<()> {
        self.limit.allow(count)?;
        while self.nodes.len() < count {
            let node = self.start(self.nodes.len()).with_context(|| format!("start node {}", self.nodes.len()))?;
            self.nodes.push(node);
        }
        Ok(())
    }

    fn start(&self, number: usize) -> Result<HollowNode> {
        let name = format!("hollow-{number:03}");
        let home = self.directory.path().join(&name);
        fs::create_dir(&home).context("make its directory")?;
        let write = |file: &str, text: &str| -> Result<PathBuf> {
            let path = home.join(file);
            let made = fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
            made.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
                .with_context(|| format!("write its {file}"))?;
            Ok(path)
        };
        let kubeconfig = write("kubeconfig", &self.cluster.node_kubeconfig(&name)?)?;
        write("os-release", OS_RELEASE)?;
        let socket = home.join("bus");
        let listener = UnixListener::bind(&socket).context("listen as its bus")?;
        let bus = Arc::new(Bus::default());
        let serving = Arc::clone(&bus);
        self.buses.spawn(async move {
            if let Err(error) = serving.serve(listener).await {
                crate::progress::line(&format!("the bus of a node of a fleet is over: {error}"));
            }
        });
        let address = address(number);
        let log = home.join("log");
        let output = fs::File::create(&log).context("make its log")?;
        let mut agent = Command::new("unshare");
        agent.args(["--mount", "--propagation", "private", "setpriv", "--pdeathsig", "KILL", "sh", "-c", SCRIPT, "sh"]);
        agent.arg(&home).arg(&self.binary).arg("--kubeconfig").arg(kubeconfig).args(["--nodename", &name]);
        agent.args(["--node-ip", &address, "--addr", &format!("{address}:10250"), "--log-level", "debug"]);
        agent.args(["--run-dir", "/run/systemk", "--state-dir", "/run/state", "--manifests", "/run/manifests"]);
        agent.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        agent.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", socket.display()));
        agent.stdin(Stdio::null()).stdout(output.try_clone().context("share its log")?).stderr(output);
        let child = agent.spawn().context("start its agent")?;
        Ok(HollowNode { name, child, bus, log })
    }

    /// Waits until the API server has every node as ready.
    pub fn wait_ready(&self, deadline: Duration) -> Result<()> {
        let admin = self.cluster.admin();
        let found = wait_within("all nodes to be ready", deadline, SELDOM, || {
            let path = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
            let said = admin.run(&["get", "nodes", "-o", path]).ok()?;
            let ready = said.split_whitespace().filter(|status| *status == "True").count();
            (ready >= self.nodes.len()).then_some(())
        });
        found.with_context(|| {
            let ended = self.nodes.iter().find(|node| Usage::of(node.pid()).is_err());
            ended.map_or_else(String::new, |node| {
                format!("{} has ended; it said:\n{}", node.name, command::tail(&node.said(), 20))
            })
        })
    }

    /// Makes `each` pods on every node, past the scheduler.
    pub fn run_pods(&self, prefix: &str, each: usize) -> Result<()> {
        // The certificate that comes with a token is in a ConfigMap, which a controller makes.
        let token = self.cluster.record().parts.contains(&Part::ControllerManager);
        let pods: Vec<Value> = self
            .nodes
            .iter()
            .flat_map(|node| {
                (0..each).map(|number| pod(&node.name, &format!("{prefix}-{}-{number}", node.name), token))
            })
            .collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string();
        let admin = self.cluster.admin();
        admin.output_with(Duration::from_secs(180), &["create", "-f", "-"], &list)?.ok().map(drop)
    }

    /// Waits until the API server has `count` pods as running.
    pub fn wait_running(&self, count: usize, deadline: Duration) -> Result<()> {
        let admin = self.cluster.admin();
        wait_within("all pods to run", deadline, SELDOM, || {
            let said = admin.run(&["get", "pods", "-n", NAMESPACE, "-o", "jsonpath={.items[*].status.phase}"]).ok()?;
            (said.split_whitespace().filter(|phase| *phase == "Running").count() >= count).then_some(())
        })
    }

    /// How often each unit of each node was started.
    pub fn starts(&self) -> BTreeMap<(String, String), usize> {
        let of = |node: &HollowNode| {
            let name = node.name.clone();
            node.bus.starts().into_iter().map(move |(unit, count)| ((name.clone(), unit), count))
        };
        self.nodes.iter().flat_map(of).collect()
    }
}

impl HollowNode {
    /// The agent's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the agent takes of the machine.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid())
    }

    /// What the agent said.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// A program that stays; nothing runs it. `token`: with one, as a pod has that says nothing of it.
fn pod(node: &str, name: &str, token: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "nodeName": node, "automountServiceAccountToken": token,
            "containers": [{"name": "main", "image": "/bin/bash", "command": ["/bin/bash", "-c", "sleep infinity"]}],
        },
    })
}

/// A loopback address for the node's kubelet API, apart from those of single nodes.
fn address(number: usize) -> String {
    format!("127.{}.{}.{}", 192 + std::process::id() % 62, number / 250 + 1, number % 250 + 1)
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // One that has ended needs no end.
            node.child.kill().ok();
        }
        for node in &mut self.nodes {
            node.child.wait().ok();
        }
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
