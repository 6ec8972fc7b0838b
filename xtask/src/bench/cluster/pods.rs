//! The pods of the node as a watcher at the API server sees them.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::super::node::LONG;
use super::server::{Change, Kind, Server, Watch, is_ready};

/// One measurement's pods, by name: since when each runs, if it does.
pub(super) struct Pods {
    watch: Watch,
    running: HashMap<String, Option<Instant>>,
}

/// A pod of a program that ends at once when it is asked to.
pub(super) fn pod(namespace: &str, node: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "main", "image": "/bin/bash", "command": ["/bin/bash", "-c", "exec sleep infinity"]}],
        },
    })
}

impl Pods {
    /// Watches the pods of a namespace.
    pub(super) fn watch(server: &Server, namespace: &str) -> Result<Self> {
        Ok(Self { watch: server.watch(Kind::Pods, Some(namespace), "")?, running: HashMap::new() })
    }

    /// Waits until `count` pods of that prefix run and are ready; gives when the last did.
    pub(super) fn wait_running(&mut self, prefix: &str, count: usize) -> Result<Instant> {
        let deadline = Instant::now() + LONG;
        loop {
            let of_prefix = self.running.iter().filter(|(name, _)| name.starts_with(prefix));
            let running: Vec<Instant> = of_prefix.filter_map(|(_, running)| *running).collect();
            if running.len() >= count {
                return running.into_iter().max().context("no pod was waited for");
            }
            self.take(deadline).with_context(|| format!("{} of {count} pods {prefix}* run", running.len()))?;
        }
    }

    /// Waits until `count` pods of that prefix are there, whatever they do.
    pub(super) fn wait_seen(&mut self, prefix: &str, count: usize) -> Result<()> {
        let deadline = Instant::now() + LONG;
        while self.running.keys().filter(|name| name.starts_with(prefix)).count() < count {
            self.take(deadline)?;
        }
        Ok(())
    }

    /// Waits until no pod of that prefix is left; gives when the last one went.
    pub(super) fn wait_gone(&mut self, prefix: &str) -> Result<Instant> {
        let deadline = Instant::now() + LONG;
        let mut at = Instant::now();
        loop {
            let left = self.running.keys().filter(|name| name.starts_with(prefix)).count();
            if left == 0 {
                return Ok(at);
            }
            at = self.take(deadline).with_context(|| format!("{left} pods {prefix}* are left"))?;
        }
    }

    fn take(&mut self, deadline: Instant) -> Result<Instant> {
        let (at, change) = self.watch.next("the watch of pods", deadline)?;
        match change {
            Change::Seen(seen) => {
                let ready = is_ready(&seen);
                let since = self.running.entry(seen.metadata.name.unwrap_or_default()).or_default();
                *since = since.or(ready.then_some(at));
            }
            Change::Gone(name) => _ = self.running.remove(&name),
            Change::Begun | Change::Broken(_) => {}
        }
        Ok(at)
    }
}
