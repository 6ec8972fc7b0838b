//! The agent: builds the parts, joins them, and ends without stopping a pod.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use plan::image::Unqualified;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::causes::causes;
use crate::cluster::connect::Clients;
use crate::cluster::node::{Ask, Description, Health, NameLost};
use crate::cluster::{Cluster, mirrors};
use crate::config::{ClusterConfig, Config, UnqualifiedImages};
use crate::facts::{HOST_VIEWS, node_facts};
use crate::files::{Lock, View, make_dirs, release_views, remove_temporaries};
use crate::images::Images;
use crate::machine::Gauge;
use crate::manifests::{ManifestConfig, SourceEvent};
use crate::packages::Packages;
use crate::reconcile::{Shared, run};
use crate::systemd::bus::Bus;
use crate::systemd::notify::{Notify, watchdog};
use crate::systemd::options::BusOptions;
use crate::wake::Wake;

mod neighbours;

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, in one sentence with its causes.
pub(crate) fn main(config: Config) -> anyhow::Result<ExitCode> {
    log(&config.log_level);
    runtime()?.block_on(async {
        let stop = terminated()?;
        serve(config, stop).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// One thread: the agent waits for systemd nearly all of its life. Files are written by a few threads that come and go.
///
/// # Errors
/// The kernel has no epoll descriptor left.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_secs(2))
        .build()
        .context("start the runtime")
}

/// What is below the API client: it tells of every frame, at `trace` what is in them, and kube at
/// `warn` each answer that it cannot read: any of it may be a Secret.
const QUIET: &str = "h2=warn,hyper=warn,hyper_util=warn,kube_client=error,kube_runtime=info,rustls=warn,tower=warn";

/// To the journal when standard error is connected to it, so that fields stay fields; else as lines.
pub(crate) fn log(level: &str) {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let filter = tracing_subscriber::EnvFilter::try_new(format!("{level},{QUIET}")).unwrap_or_else(|_| "info".into());
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let lines =
        journal.is_none().then(|| tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false));
    tracing_subscriber::registry().with(filter).with(journal).with(lines).init();
}

fn terminated() -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Serves until `stop` resolves.
///
/// # Errors
/// What keeps the agent from starting.
pub(crate) async fn serve(config: Config, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    for remark in &config.remarks {
        tracing::warn!("{remark}");
    }
    let directories = &config.directories;
    for dir in [&directories.run, &directories.state] {
        make_dirs(dir, 0o755, None).with_context(|| format!("make {}", dir.display()))?;
        make_dirs(&dir.join("pods"), 0o700, None).with_context(|| format!("make {}", dir.join("pods").display()))?;
    }
    let _lock = Lock::acquire(&directories.run.join("agent.lock"))?;
    // What is below it and no pod of ours is removed: it is one agent's alone.
    let _state_lock = Lock::acquire(&directories.state.join("agent.lock")).with_context(|| {
        let state = directories.state.display();
        format!(
            "cannot take the state directory {state}: an agent with its own --run-dir needs its own --state-dir too"
        )
    })?;
    let (bus, unit_events) = Bus::open(BusOptions::new(vec!["systemk.".to_owned()]));
    let version = bus
        .systemd_version()
        .await
        .context("ask systemd for its version: is this machine's PID 1 systemd, and does D-Bus run?")?;
    anyhow::ensure!(version >= 252, "systemd {version} is too old: systemk needs 252 or later");
    let mut facts = node_facts(&config, version).context("read this machine's facts")?;
    neighbours::refuse(&facts)?;
    let views = make_views(&mut facts);
    remove_leftovers(&facts);
    warn_of_missing_controllers(&facts.controllers);
    let (wake, wakes) = mpsc::unbounded_channel();
    let images = Images::new(packages(&config), unqualified(&config), wake.clone());
    let shared = Arc::new(Shared::new(bus, images, wake.clone(), facts, views));
    let membership = match &config.cluster {
        Some(cluster) => Some(join(cluster, &config, &shared, wake.clone()).await.context("join the cluster")?),
        None => None,
    };
    tokio::spawn(forward_units(unit_events, wake.clone()));
    let source = tokio::spawn(forward_source(&config, wake));
    let notify = Notify::from_env().context("read $NOTIFY_SOCKET")?;
    if let Some(notify) = &notify {
        let status = format!("systemk {}: node {} on systemd {version}", env!("CARGO_PKG_VERSION"), config.node.name);
        notify.status(&status).context("tell systemd the agent's status")?;
        notify.ready().context("tell systemd that the agent is ready")?;
    }
    tracing::info!(node = config.node.name, systemd = version, "systemk {} is ready", env!("CARGO_PKG_VERSION"));
    let ending = Notify::from_env().context("read $NOTIFY_SOCKET")?;
    let alive = keep_watchdog(notify);
    let lost = async {
        match membership {
            Some(membership) => membership.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = run(Arc::clone(&shared), wakes, stop) => {}
        () = alive => {}
        // An agent that hears of no pod any more must not look healthy: systemd starts it again.
        ended = source => ended.context("the manifest directories' reader panicked")??,
        // What another machine's agent does for the pods of that name must not be undone by this one.
        lost = lost => return Err(lost.context("the part that keeps the node registered panicked")?.into()),
    }
    if let Some(notify) = ending {
        notify.stopping().context("tell systemd that the agent ends")?;
    }
    tracing::info!("the agent ends; its pods go on");
    // A unit's hooks need them; without any, nothing of ours stays mounted on the host.
    if std::fs::read_dir(directories.run.join("pods")).is_ok_and(|mut pods| pods.next().is_none()) {
        release_views(&directories.run.join(HOST_VIEWS)).context("take the views of the host's directories away")?;
    }
    Ok(())
}

/// Makes the node a member of the cluster; resolves when it is one no more. Waits for nobody: an API server that does not
/// answer keeps no agent from being ready.
async fn join(
    cluster: &ClusterConfig,
    config: &Config,
    shared: &Arc<Shared>,
    wake: mpsc::UnboundedSender<Wake>,
) -> anyhow::Result<JoinHandle<NameLost>> {
    let clients = Clients::open(&cluster.kubeconfig).await?;
    let systemd = shared.bus.systemd_version_text().await.context("ask systemd for its version")?;
    let (bus, images) = (shared.bus.clone(), shared.images.clone());
    let gauge = Gauge::new(&config.directories.state);
    let ask: Ask = Box::new(move || {
        let bus = bus.clone();
        Box::pin(async move { bus.systemd_version_text().await.is_ok() && bus.is_listening() })
    });
    let description = Description {
        facts: shared.facts(),
        port: config.listen.port(),
        taint: cluster.taint,
        images: Box::new(move || images.list()),
        health: Health::new(gauge, systemd, ask).context("measure the machine")?,
    };
    tracing::info!(server = %clients.url, "joining the cluster as node {}", config.node.name);
    // Before the Node says where it is.
    crate::server::start(config, &clients, shared).await?;
    let main = clients.main.clone();
    let (joined, kept) = Cluster::start(clients, description, wake);
    shared.join(joined);
    tokio::spawn(mirrors::keep(Arc::clone(shared), main, config.node.name.clone()));
    Ok(kept)
}

/// Makes the views that the facts name, and takes those that cannot be made out of them.
fn make_views(facts: &mut plan::inputs::NodeFacts) -> Vec<View> {
    let mut views = Vec::new();
    facts.views.retain(|source, view| match View::new(Path::new(source), Path::new(view)) {
        Ok(made) => {
            views.push(made);
            true
        }
        Err(error) => {
            tracing::warn!(
                "containers' {source} is left to systemd to make read-only, which is slower: {}",
                causes(&error)
            );
            false
        }
    });
    views
}

/// Half-written files of an agent that was killed. What cannot be removed is in nobody's way.
fn remove_leftovers(facts: &plan::inputs::NodeFacts) {
    let pods = std::fs::read_dir(format!("{}/pods", facts.run_root)).into_iter().flatten().flatten();
    let dirs = pods.map(|pod| pod.path()).filter(|path| path.is_dir());
    for dir in dirs.chain([std::path::PathBuf::from(&facts.unit_dir)]) {
        match remove_temporaries(&dir) {
            Ok(0) => {}
            Ok(count) => tracing::info!(dir = %dir.display(), count, "removed half-written files"),
            Err(error) => tracing::warn!("{}", causes(&error)),
        }
    }
}

fn warn_of_missing_controllers(controllers: &[String]) {
    let missing: Vec<&str> =
        ["cpu", "memory", "pids"].into_iter().filter(|c| !controllers.iter().any(|have| have == c)).collect();
    if !missing.is_empty() {
        tracing::warn!(
            "this host's cgroup2 has no {} controller: limits of these are not enforced",
            missing.join(", ")
        );
    }
}

fn unqualified(config: &Config) -> Unqualified {
    match config.unqualified_images {
        UnqualifiedImages::Package => Unqualified::Package,
        UnqualifiedImages::Oci => Unqualified::Oci,
    }
}

fn packages(config: &Config) -> Option<Packages> {
    let release =
        std::fs::read_to_string("/etc/os-release").or_else(|_| std::fs::read_to_string("/usr/lib/os-release"));
    let packages = Packages::detect(&release.unwrap_or_default(), config.directories.state.join("packages"));
    let Some(packages) = packages else {
        tracing::warn!("no supported package manager on this distribution: only host binaries can be run");
        return None;
    };
    tracing::info!(manager = ?packages.manager(), "packages are this distribution's");
    // Beside the loop: it may wait for another's package manager longer than systemd waits for an agent to be ready.
    let recovery = packages.recover();
    tokio::spawn(async move {
        match recovery.await {
            Ok(done) => done.iter().for_each(|line| tracing::info!("{line}")),
            Err(error) => tracing::warn!("cannot put the package manager right: {}", causes(&error)),
        }
    });
    Some(packages)
}

async fn forward_units(
    mut events: mpsc::Receiver<crate::systemd::signals::UnitEvent>,
    wake: mpsc::UnboundedSender<Wake>,
) {
    while let Some(event) = events.recv().await {
        if wake.send(Wake::Unit(event)).is_err() {
            return;
        }
    }
}

fn forward_source(
    config: &Config,
    wake: mpsc::UnboundedSender<Wake>,
) -> impl Future<Output = anyhow::Result<()>> + Send + 'static {
    let mut directories = config.directories.manifests.clone();
    // What `systemk run` brings: for as long as it runs, or until it is removed.
    directories.push(config.directories.run.join("manifests"));
    directories.push(config.directories.state.join("manifests"));
    let source = ManifestConfig { directories, node_name: config.node.name.clone() };
    async move {
        let (events, mut received) = mpsc::channel(4);
        let watching = tokio::spawn(crate::manifests::watch(source, events));
        while let Some(SourceEvent::Objects(snapshot)) = received.recv().await {
            if wake.send(Wake::Source(snapshot)).is_err() {
                return Ok(());
            }
        }
        watching.await.context("the manifest directories' watcher panicked")?.context("watch the manifest directories")
    }
}

/// Tells systemd's watchdog that the loop's thread is alive. Ends never.
async fn keep_watchdog(notify: Option<Notify>) {
    let (usec, pid) = (std::env::var("WATCHDOG_USEC").ok(), std::env::var("WATCHDOG_PID").ok());
    let every = watchdog(usec.as_deref(), pid.as_deref(), std::process::id());
    let (Some(notify), Some(every)) = (notify, every) else { return std::future::pending().await };
    loop {
        if let Err(error) = notify.alive() {
            tracing::warn!("cannot tell systemd that the agent is alive: {error}");
        }
        tokio::time::sleep(every).await;
    }
}
