//! Images as the loop sees them: one state per container and attempt. Pulls run beside the loop and wake it when they end.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use plan::backoff::{PullBackoff, SHOW_ERROR_MS};
use plan::image::{ImageRef, PullPolicy, Unqualified};
use plan::inputs::{ImageFacts, ImageState, PackageFacts};
use tokio::sync::mpsc;

use crate::causes::causes;
use crate::packages::{InUse, PackageError, Packages, UnitsStamp};
use crate::reconcile::failpoint::crossing;
use crate::wake::Wake;

/// One container's attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttemptKey {
    pub(crate) uid: String,
    pub(crate) container: String,
    pub(crate) attempt: u32,
}

/// What is known of an attempt's image.
#[derive(Clone, Debug)]
enum Pull {
    Running {
        message: String,
    },
    /// None: a file of the host.
    Ready {
        package: Option<String>,
    },
    Failed {
        reason: String,
        message: String,
        /// Another pod has to go first.
        in_use: bool,
    },
}

/// Why a pull failed.
struct Failure {
    reason: String,
    message: String,
    in_use: bool,
}

impl Failure {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into(), in_use: false }
    }
}

/// What a pull is to do.
#[derive(Clone, Debug)]
pub(crate) struct PullRequest {
    pub(crate) key: AttemptKey,
    /// `namespace/name`, for messages to other pods.
    pub(crate) pod: String,
    pub(crate) image: String,
    pub(crate) policy: Option<String>,
}

/// What a pull has to say to its pod.
#[derive(Clone, Debug)]
pub(crate) struct PullNote {
    pub(crate) container: String,
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What a package ships, as it was read when these stamps were true.
#[derive(Clone, Debug)]
struct CachedFacts {
    database: Option<SystemTime>,
    units: UnitsStamp,
    facts: PackageFacts,
}

#[derive(Debug, Default)]
struct Known {
    pulls: HashMap<AttemptKey, Pull>,
    /// By pod and image, as the kubelet's: a restart of the container does not forget a failing registry.
    backoffs: HashMap<(String, String), PullBackoff>,
    /// Package name to the pods that run it and the version they started with.
    users: HashMap<String, HashMap<String, (String, String)>>,
    facts: HashMap<String, CachedFacts>,
    notes: HashMap<String, Vec<PullNote>>,
}

/// The node's images.
#[derive(Clone)]
pub(crate) struct Images {
    packages: Option<Packages>,
    unqualified: Unqualified,
    known: Arc<Mutex<Known>>,
    wake: mpsc::UnboundedSender<Wake>,
}

impl Images {
    pub(crate) fn new(packages: Option<Packages>, unqualified: Unqualified, wake: mpsc::UnboundedSender<Wake>) -> Self {
        Self { packages, unqualified, known: Arc::default(), wake }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Known) -> R) -> R {
        f(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The state of an attempt's image. `begun`: the attempt runs already, so its package is not fetched again.
    pub(crate) async fn state(&self, key: &AttemptKey, image: &str, begun: bool, now_ms: i64) -> ImageState {
        let parsed = match ImageRef::parse(image, self.unqualified) {
            Ok(parsed) => parsed,
            Err(invalid) => return failed("InvalidImageName", invalid.to_string(), None),
        };
        match &parsed {
            ImageRef::Path(path) => return ImageState::Present(ImageFacts::HostBinary { path: path.clone() }),
            ImageRef::Package(package) if begun => {
                if let Some(facts) = self.facts(&package.name).await {
                    return ImageState::Present(ImageFacts::Package(facts));
                }
            }
            ImageRef::Url(url) if begun => {
                let known = self.packages.as_ref().and_then(|p| p.of_url(&url.url));
                if let Some(name) = known
                    && let Some(facts) = self.facts(&name).await
                {
                    return ImageState::Present(ImageFacts::Package(facts));
                }
            }
            ImageRef::Package(_) | ImageRef::Url(_) | ImageRef::Oci(_) => {}
        }
        let pull = self.with(|k| k.pulls.get(key).cloned());
        match pull {
            Some(Pull::Ready { package: None }) | None => self.waiting(key, image, now_ms),
            Some(Pull::Ready { package: Some(name) }) => match self.facts(&name).await {
                Some(facts) => ImageState::Present(ImageFacts::Package(facts)),
                None => ImageState::Needed,
            },
            Some(Pull::Running { message }) => ImageState::Pulling { message },
            Some(Pull::Failed { reason, message, .. }) => self.after_failure(key, image, &reason, message, now_ms),
        }
    }

    /// No pull of this attempt has ended: a back-off of the pod's image may still hold it.
    fn waiting(&self, key: &AttemptKey, image: &str, now_ms: i64) -> ImageState {
        let retry =
            self.with(|k| k.backoffs.get(&(key.uid.clone(), image.to_owned())).and_then(PullBackoff::retry_at_ms));
        match retry {
            Some(at) if at > now_ms => {
                failed("ImagePullBackOff", format!("Back-off pulling image {image:?}"), Some(at))
            }
            Some(_) | None => ImageState::Needed,
        }
    }

    fn after_failure(&self, key: &AttemptKey, image: &str, reason: &str, message: String, now_ms: i64) -> ImageState {
        let backoff = self.with(|k| k.backoffs.get(&(key.uid.clone(), image.to_owned())).copied());
        let Some(backoff) = backoff else { return ImageState::Needed };
        match backoff.retry_at_ms() {
            Some(at) if at <= now_ms => ImageState::Needed,
            at => {
                let waits = backoff.wait(now_ms) == plan::backoff::PullWait::ImagePullBackOff;
                let shown = if waits && reason == "ErrImagePull" { "ImagePullBackOff" } else { reason };
                let text = if shown == "ImagePullBackOff" {
                    format!("Back-off pulling image {image:?}: {message}")
                } else {
                    message
                };
                failed(shown, text, at)
            }
        }
    }

    /// What a package ships, read again when the package database or somebody's drop-ins for its units have changed.
    async fn facts(&self, name: &str) -> Option<PackageFacts> {
        let database = ["/var/lib/dpkg/status", "/var/lib/rpm", "/usr/lib/sysimage/rpm", "/var/lib/pacman/local"]
            .iter()
            .find_map(|p| std::fs::metadata(p).ok()?.modified().ok());
        let root = Path::new("/");
        if let Some(cached) = self.with(|k| k.facts.get(name).filter(|c| c.database == database).cloned())
            && cached.units == UnitsStamp::of(root, &cached.facts)
        {
            return Some(cached.facts);
        }
        let began = SystemTime::now();
        let facts = match self.packages.as_ref()?.facts(name).await {
            Ok(facts) => facts?,
            Err(error) => {
                tracing::warn!(package = name, "{error}");
                return None;
            }
        };
        // A stamp can only be had of units that are known, and something may have changed since they were read.
        let units = UnitsStamp::of(root, &facts);
        if units.is_settled(began, SystemTime::now()) {
            let cached = CachedFacts { database, units, facts: facts.clone() };
            self.with(|k| k.facts.insert(name.to_owned(), cached));
        }
        Some(facts)
    }

    /// Starts a pull beside the loop, unless one is under way.
    pub(crate) fn pull(&self, request: PullRequest) {
        let already = self.with(|k| matches!(k.pulls.get(&request.key), Some(Pull::Running { .. })));
        if already {
            return;
        }
        self.set(&request.key, Pull::Running { message: format!("Pulling image {:?}", request.image) });
        let images = self.clone();
        tokio::spawn(async move { images.run(request).await });
    }

    fn set(&self, key: &AttemptKey, pull: Pull) {
        self.with(|k| k.pulls.insert(key.clone(), pull));
    }

    /// Whether the pod still waits for this pull: it may have been deleted meanwhile, and then it uses nothing.
    fn is_wanted(&self, key: &AttemptKey) -> bool {
        self.with(|k| k.pulls.contains_key(key))
    }

    fn note(&self, key: &AttemptKey, warning: bool, reason: &'static str, message: String) {
        let note = PullNote { container: key.container.clone(), warning, reason, message };
        self.with(|k| k.notes.entry(key.uid.clone()).or_default().push(note));
        self.look(&key.uid);
    }

    /// What pulls had to say since the last look.
    pub(crate) fn take_notes(&self, uid: &str) -> Vec<PullNote> {
        self.with(|k| k.notes.remove(uid)).unwrap_or_default()
    }

    fn look(&self, uid: &str) {
        // The loop is gone only when the agent ends.
        let _ended = self.wake.send(Wake::Pod(uid.to_owned()));
    }

    async fn run(self, request: PullRequest) {
        let began = std::time::Instant::now();
        crossing("image.before-install");
        let outcome = self.ensure(&request).await;
        crossing("image.after-install");
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let key = &request.key;
        if !self.is_wanted(key) {
            return;
        }
        let backoff_key = (key.uid.clone(), request.image.clone());
        match outcome {
            Ok((package, changed, warnings)) => {
                self.with(|k| k.backoffs.remove(&backoff_key));
                for warning in warnings {
                    self.note(key, true, "ImageUnverified", warning);
                }
                let took = began.elapsed().as_secs_f32();
                let text = if changed {
                    format!("Successfully pulled image {:?} in {took:.1}s", request.image)
                } else {
                    format!("Image {:?} already present on node", request.image)
                };
                // Noted first: a look that finds the image there starts the container, and events are in their order.
                self.note(key, false, "Pulled", text);
                self.set(key, Pull::Ready { package });
                self.look(&key.uid);
            }
            Err(Failure { reason, message, in_use }) => {
                self.with(|k| k.backoffs.entry(backoff_key).or_default().on_failure(now_ms));
                self.set(key, Pull::Failed { reason: reason.clone(), message: message.clone(), in_use });
                let text = format!("Failed to pull image {:?}: {reason}: {message}", request.image);
                self.note(key, true, "Failed", text);
                // The status says then that it is a back-off.
                tokio::time::sleep(Duration::from_millis(SHOW_ERROR_MS.unsigned_abs())).await;
                self.look(&key.uid);
            }
        }
    }

    async fn ensure(&self, request: &PullRequest) -> Result<(Option<String>, bool, Vec<String>), Failure> {
        let parsed = ImageRef::parse(&request.image, self.unqualified)
            .map_err(|e| Failure::new("InvalidImageName", e.to_string()))?;
        let policy = PullPolicy::from_field(request.policy.as_deref())
            .map_err(|e| Failure::new("ErrImagePull", e.to_string()))?;
        if let ImageRef::Oci(reference) = &parsed {
            let text =
                format!("{reference} is an OCI image: this version runs packages, package files and host binaries");
            return Err(Failure::new("ErrImagePull", text));
        }
        let Some(packages) = &self.packages else {
            return Err(Failure::new(
                "ErrImagePull",
                "this distribution's package manager is not supported: use the path of a host binary",
            ));
        };
        let key = &request.key;
        let in_use = |name: &str| self.in_use(name, &key.uid);
        // Told once there is something to do: what is there already is only said to be there.
        let told = AtomicBool::new(false);
        let progress = |progress: crate::packages::Progress| {
            if self.is_wanted(key) {
                if !told.swap(true, Ordering::Relaxed) {
                    self.note(key, false, "Pulling", format!("Pulling image {:?}", request.image));
                }
                self.set(key, Pull::Running { message: progress.to_string() });
                self.look(&key.uid);
            }
        };
        let installed = packages.ensure(&parsed, policy, in_use, progress).await.map_err(|e| Failure {
            in_use: matches!(e, PackageError::InUse { .. }),
            ..Failure::new(e.reason(), causes(&e))
        })?;
        if let Some(package) = &installed.package {
            let pods = |k: &mut Known| {
                if !k.pulls.contains_key(key) {
                    return;
                }
                let users = k.users.entry(package.name.clone()).or_default();
                users.insert(key.uid.clone(), (request.pod.clone(), package.version.clone()));
            };
            self.with(pods);
        }
        Ok((installed.package.map(|p| p.name), installed.changed, installed.warnings))
    }

    /// Another living pod that runs a package, and in which version.
    fn in_use(&self, package: &str, uid: &str) -> Option<InUse> {
        self.with(|k| {
            let users = k.users.get(package)?;
            let (_, (pod, version)) = users.iter().find(|(other, _)| other.as_str() != uid)?;
            Some(InUse { version: version.clone(), pod: pod.clone() })
        })
    }

    /// A container that another agent started runs, or may: its package is in use.
    pub(crate) fn adopt(&self, uid: &str, pod: &str, package: &str, version: &str) {
        let user = (pod.to_owned(), version.to_owned());
        self.with(|k| {
            k.users.entry(package.to_owned()).or_default().entry(uid.to_owned()).or_insert(user);
        });
    }

    /// What pods of this node run, as `image:` names it: packages in use, by name and by name and version, with what their
    /// files take. What is installed and no pod's is not listed: a machine has hundreds of packages, and any of them can be run.
    pub(crate) fn list(&self) -> Vec<(Vec<String>, Option<i64>)> {
        let mut packages: Vec<(Vec<String>, Option<i64>)> = self.with(|k| {
            let used = k.users.iter().filter_map(|(name, users)| {
                let versions: BTreeSet<&str> = users.values().map(|(_, version)| version.as_str()).collect();
                let pinned = versions.into_iter().map(|version| format!("{name}={version}"));
                let size = k.facts.get(name).and_then(|known| i64::try_from(known.facts.size).ok());
                (!users.is_empty()).then(|| ([name.clone()].into_iter().chain(pinned).collect(), size))
            });
            used.collect()
        });
        packages.sort_unstable();
        packages
    }

    /// Forgets a pod that is gone; others may be waiting for its packages.
    pub(crate) fn forget(&self, uid: &str) {
        self.with(|k| {
            k.pulls.retain(|key, _| key.uid != uid);
            k.backoffs.retain(|(pod, _), _| pod != uid);
            k.notes.remove(uid);
            for users in k.users.values_mut() {
                users.remove(uid);
            }
            // Whoever waits for a package that was in use asks again at once, not at the end of a back-off.
            let Known { pulls, backoffs, .. } = k;
            pulls.retain(|key, pull| {
                let waits = matches!(pull, Pull::Failed { in_use: true, .. });
                if waits {
                    backoffs.retain(|(pod, _), _| *pod != key.uid);
                }
                !waits
            });
        });
    }

    /// An attempt that ended needs nothing remembered.
    pub(crate) fn forget_attempt(&self, key: &AttemptKey) {
        self.with(|k| k.pulls.remove(key));
    }
}

fn failed(reason: &str, message: String, retry_at_ms: Option<i64>) -> ImageState {
    ImageState::Failed { reason: reason.to_owned(), message, retry_at_ms }
}
