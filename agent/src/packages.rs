//! Distribution packages on the host: the effects behind package images.
//!
//! Takes a parsed [`ImageRef`] and sees to it that the package is installed, by running the distribution's package manager;
//! gives what is installed and what it ships. One operation at a time, each in the caller's task: nothing here blocks the
//! agent's loop. Dropping a future cancels it up to the moment when the package manager begins to change the host; from
//! there a task of its own carries the installation through. Never removes a package that was installed before.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use plan::image::manager::PackageId;
use plan::image::os_release::OsRelease;
use plan::image::{ImageRef, Manager, PullPolicy, apt};
use plan::inputs::PackageFacts;
use tokio::sync::{Mutex, OwnedMutexGuard};

mod enablement;
mod error;
mod facts;
mod install;
mod locks;
mod quiet;
mod resolve;
mod run;
mod state;

pub(crate) use error::PackageError;
pub(crate) use facts::UnitsStamp;
pub(crate) use locks::HeldLock;

use run::{Finished, query};
use state::State;

/// Answers from the local database.
const QUERY: Duration = Duration::from_secs(60);
/// Lists and package files come over the network.
const NETWORK: Duration = Duration::from_secs(30 * 60);
/// Lists older than this are fetched anew.
const FRESH: Duration = Duration::from_secs(60 * 60);

/// What an operation is doing, for the pod's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    WaitingForTurn,
    WaitingForLock(HeldLock),
    RefreshingLists,
    Downloading { url: String },
    Simulating { wanted: String },
    Installing { wanted: String },
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WaitingForTurn => f.write_str("waiting for another package's installation"),
            Self::WaitingForLock(lock) => write!(f, "waiting for {lock}"),
            Self::RefreshingLists => f.write_str("fetching the package lists"),
            Self::Downloading { url } => write!(f, "downloading {url}"),
            Self::Simulating { wanted } => write!(f, "checking what installing {wanted} would do"),
            Self::Installing { wanted } => write!(f, "installing {wanted}"),
        }
    }
}

/// A living pod (another than the one that asks) that runs a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InUse {
    /// The version it was started with.
    pub(crate) version: String,
    /// `namespace/name`.
    pub(crate) pod: String,
}

/// What [`Packages::ensure`] found or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    /// None for a file of the host.
    pub(crate) package: Option<PackageId>,
    /// Whether anything was installed now.
    pub(crate) changed: bool,
    /// What the user should hear as a Warning event.
    pub(crate) warnings: Vec<String>,
}

/// The host's packages. Clones share one queue.
#[derive(Clone)]
pub(crate) struct Packages {
    shared: Arc<Shared>,
}

struct Shared {
    manager: Manager,
    state: State,
    operation: Arc<Mutex<()>>,
}

/// The right to change packages; shared with the task that carries an installation through.
type Turn = Arc<OwnedMutexGuard<()>>;

impl Packages {
    /// Chooses the package manager by the text of os-release; None: this distribution's is not supported. `directory` is
    /// for what must outlive the agent (`/var/lib/systemk/packages`).
    pub(crate) fn detect(os_release: &str, directory: PathBuf) -> Option<Self> {
        let manager = Manager::detect(&OsRelease::parse(os_release))?;
        let shared = Shared { manager, state: State::new(directory), operation: Arc::default() };
        Some(Self { shared: Arc::new(shared) })
    }

    /// The package manager in use.
    pub(crate) fn manager(&self) -> Manager {
        self.shared.manager
    }

    /// Puts right what an agent or a host that died midway left: to be called once, before the first [`Self::ensure`]. It is
    /// the first in the queue from the call on, so installations wait for it, and pods that need none do not. Waits for an
    /// installation that still runs; gives sentences about what was done.
    pub(crate) fn recover(&self) -> impl Future<Output = Result<Vec<String>, PackageError>> + Send + use<> {
        let first = Arc::clone(&self.shared.operation).try_lock_owned();
        let shared = Arc::clone(&self.shared);
        async move {
            let _turn = match first {
                Ok(turn) => turn,
                Err(_) => Arc::clone(&shared.operation).lock_owned().await,
            };
            shared.state.create()?;
            install::recover(&shared).await
        }
    }

    /// Sees to it that `image` is on the host as `policy` wants it. `in_use` answers for a package's name which *other*
    /// living pod runs it, asked at the last moment because a URL's package is not known before.
    pub(crate) async fn ensure(
        &self,
        image: &ImageRef,
        policy: PullPolicy,
        in_use: impl Fn(&str) -> Option<InUse>,
        progress: impl Fn(Progress),
    ) -> Result<Installed, PackageError> {
        match image {
            ImageRef::Path(path) => {
                if fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
                    return Ok(Installed { package: None, changed: false, warnings: Vec::new() });
                }
                Err(PackageError::NoSuchFile { path: path.clone() })
            }
            ImageRef::Oci(reference) => Err(PackageError::NotAPackage { reference: reference.to_string() }),
            ImageRef::Package(package) => resolve::package(self, package, policy, &in_use, &progress).await,
            ImageRef::Url(url) => resolve::url(self, url, policy, &in_use, &progress).await,
        }
    }

    /// What the installed package `name` ships; None when it is not installed. Debian often splits one program into
    /// several packages (nginx's unit and /var directories are nginx-common's), so what a package directly depends on
    /// counts as its own where both were built from the same source; its own units come first, the others' only where it
    /// has none.
    pub(crate) async fn facts(&self, name: &str) -> Result<Option<PackageFacts>, PackageError> {
        let Some(package) = self.installed(name).await? else { return Ok(None) };
        let root = Path::new("/");
        let files = self.shared.files(name).await?;
        let mut facts = facts::gather(root, package.name, package.version, files);
        let owns_units = !facts.units.is_empty();
        for sibling in self.shared.siblings(name).await? {
            let files = self.shared.files(&sibling).await?;
            let more = facts::gather(root, sibling, String::new(), files);
            facts.files.extend(more.files);
            if !owns_units {
                facts.units.extend(more.units);
            }
        }
        Ok(Some(facts))
    }

    /// The package as it is installed now.
    pub(crate) async fn installed(&self, name: &str) -> Result<Option<PackageId>, PackageError> {
        self.shared.installed(name).await
    }

    /// The package that a URL gave before.
    pub(crate) fn of_url(&self, url: &str) -> Option<String> {
        self.shared.state.urls().urls.remove(url).map(|known| known.name)
    }

    async fn turn(&self, progress: &impl Fn(Progress)) -> Turn {
        if let Ok(turn) = Arc::clone(&self.shared.operation).try_lock_owned() {
            return Arc::new(turn);
        }
        progress(Progress::WaitingForTurn);
        Arc::new(Arc::clone(&self.shared.operation).lock_owned().await)
    }

    /// Fetches the lists if they are old, or in any case if `force`. A failure is no error yet: what is wanted may be
    /// known already. It is given back for the message should it not be.
    async fn refresh(&self, force: bool, progress: &impl Fn(Progress)) -> Result<Option<PackageError>, PackageError> {
        if !force && self.shared.lists_age().is_some_and(|age| age < FRESH) {
            return Ok(None);
        }
        locks::wait_until_free(self.shared.manager, progress).await?;
        progress(Progress::RefreshingLists);
        let finished = query(&self.shared.manager.refresh(), NETWORK).await?;
        if finished.succeeded() {
            let stamp = self.shared.state.path("refreshed");
            fs::write(&stamp, "").map_err(PackageError::io("write", &stamp))?;
            return Ok(None);
        }
        let error = PackageError::failed("fetching the package lists", finished.words());
        tracing::warn!(%error, "going on with the package lists that are there");
        Ok(Some(error))
    }
}

impl Shared {
    async fn installed(&self, name: &str) -> Result<Option<PackageId>, PackageError> {
        let finished = query(&self.manager.query_installed(name), QUERY).await?;
        Ok(self.manager.parse_installed(name, &finished.stdout))
    }

    async fn files(&self, name: &str) -> Result<Vec<String>, PackageError> {
        let finished = query(&self.manager.list_files(name), QUERY).await?;
        if !finished.succeeded() {
            return Err(PackageError::failed(format!("listing the files of {name}"), finished.words()));
        }
        Ok(self.manager.parse_files(&finished.stdout))
    }

    async fn siblings(&self, name: &str) -> Result<Vec<String>, PackageError> {
        if self.manager != Manager::Apt {
            return Ok(Vec::new());
        }
        let answer = query(&apt::query_dependencies(name), QUERY).await?;
        let Some((source, names)) = apt::parse_dependencies(&answer.stdout) else { return Ok(Vec::new()) };
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let answer = query(&apt::query_sources(&names), QUERY).await?;
        Ok(apt::parse_siblings(&source, &answer.stdout))
    }

    async fn succeed(&self, step: &str, argv: &[String], deadline: Duration) -> Result<Finished, PackageError> {
        let finished = query(argv, deadline).await?;
        if finished.succeeded() { Ok(finished) } else { Err(PackageError::failed(step, finished.words())) }
    }

    /// How long ago the lists were fetched, by us or (apt) by anybody. None: never, or in the future.
    fn lists_age(&self) -> Option<Duration> {
        let mut stamps = vec![self.state.path("refreshed")];
        if self.manager == Manager::Apt {
            stamps.push("/var/lib/apt/lists/partial".into());
            stamps.push("/var/lib/apt/periodic/update-success-stamp".into());
        }
        let newest = stamps.iter().filter_map(|path| fs::metadata(path).ok()?.modified().ok()).max()?;
        SystemTime::now().duration_since(newest).ok()
    }
}

#[cfg(test)]
mod tests;
