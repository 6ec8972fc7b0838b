//! What the package side remembers in its directory: which URL gave which package, the installation under way, downloads.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::PackageError;
use super::enablement::Links;

const VERSION: u32 = 1;

/// The directory; only root looks inside.
pub(super) struct State {
    directory: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

/// Which package each URL gave.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Urls {
    pub(super) urls: BTreeMap<String, UrlPackage>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UrlPackage {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) sha256: String,
}

/// The installation under way: written before it begins, removed when what it enabled is disabled again.
#[derive(Serialize, Deserialize)]
pub(super) struct Marker {
    /// For messages.
    pub(super) wanted: String,
    /// The packages that were not installed before.
    pub(super) new: Vec<String>,
    /// The packages that were installed before in another version, with the version that is to replace it.
    #[serde(default)]
    pub(super) changed: BTreeMap<String, String>,
    /// The downloaded file that is installed.
    #[serde(default)]
    pub(super) file: Option<String>,
    /// What was enabled before.
    pub(super) enabled: Links,
}

impl State {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn create(&self) -> Result<(), PackageError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(PackageError::io("create", &self.directory))
    }

    /// A missing file is the default, and so is one that cannot be read: all that is lost is a download or a warning.
    pub(super) fn urls(&self) -> Urls {
        self.read("urls.json").unwrap_or_default()
    }

    pub(super) fn remember_url(&self, url: &str, package: UrlPackage) -> Result<(), PackageError> {
        let mut urls = self.urls();
        urls.urls.insert(url.to_owned(), package);
        self.write("urls.json", urls)
    }

    pub(super) fn marker(&self) -> Option<Marker> {
        self.read("installing.json")
    }

    pub(super) fn set_marker(&self, marker: &Marker) -> Result<(), PackageError> {
        self.write("installing.json", marker)
    }

    pub(super) fn clear_marker(&self) {
        if let Err(error) = fs::remove_file(self.path("installing.json"))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the finished installation's record stays; it is looked at again at the next start");
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let text = fs::read(self.path(name)).ok()?;
        match serde_json::from_slice::<Versioned<T>>(&text) {
            Ok(file) if file.version == VERSION => Some(file.content),
            Ok(file) => {
                tracing::warn!(name, version = file.version, "unknown version, the file is left out of account");
                None
            }
            Err(error) => {
                tracing::warn!(name, %error, "unreadable, the file is left out of account");
                None
            }
        }
    }

    fn write<T: Serialize>(&self, name: &str, content: T) -> Result<(), PackageError> {
        let path = self.path(name);
        let temporary = self.path(&format!("{name}.new"));
        let write = || {
            let text = serde_json::to_vec_pretty(&Versioned { version: VERSION, content })?;
            let mut file = File::create(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(PackageError::io("write", &path))
    }

    /// A private directory for one download, which goes with the value.
    pub(super) fn download_directory(&self) -> Result<Download, PackageError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = self.path("downloads").join(format!("{}.{next}", std::process::id()));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(PackageError::io("create", &directory))?;
        Ok(Download { directory })
    }

    /// Downloads of an agent that was killed.
    pub(super) fn clear_downloads(&self) {
        remove_all(&self.path("downloads"));
    }
}

/// One download's directory.
pub(super) struct Download {
    directory: PathBuf,
}

impl Download {
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        remove_all(&self.directory);
    }
}

fn remove_all(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, directory = %directory.display(), "cannot remove downloads");
    }
}
