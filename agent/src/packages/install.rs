//! The part that changes the host: recorded before it begins, carried through whoever goes away, put right afterwards.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use plan::image::Manager;
use plan::image::apt;
use plan::image::manager::Target;
use plan::image::simulation::Change;

use super::state::{Download, Marker};
use super::{Installed, PackageError, Shared, Turn, enablement, locks, quiet, run};

/// One installation, simulated and found harmless.
#[derive(Clone)]
pub(super) struct Operation {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) target: OwnedTarget,
    /// An older version may replace a newer one.
    pub(super) explicit: bool,
    pub(super) turn: Turn,
}

#[derive(Clone)]
pub(super) enum OwnedTarget {
    Version,
    /// A downloaded file, which stays until the installation ends.
    File {
        path: String,
        _download: Arc<Download>,
    },
}

impl Operation {
    /// For messages.
    pub(super) fn wanted(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    pub(super) fn target(&self) -> Target<'_> {
        self.target.borrow(&self.name, &self.version)
    }

    /// Runs the package manager in a task of its own: a caller that goes away from here on cancels nothing, because dpkg
    /// cut off midway leaves a broken host.
    pub(super) async fn carry_out(self, shared: Arc<Shared>, new: Vec<Change>) -> Result<Installed, PackageError> {
        let wanted = self.wanted();
        let task = tokio::spawn(async move { self.install(&shared, new).await });
        match task.await {
            Ok(result) => result,
            Err(error) => Err(PackageError::failed(format!("installing {wanted}"), &error.to_string())),
        }
    }

    async fn install(self, shared: &Shared, new: Vec<Change>) -> Result<Installed, PackageError> {
        let new: Vec<String> = new.into_iter().map(|change| change.name).collect();
        let enabled = enablement::links(Path::new("/"));
        let marker = Marker { wanted: self.wanted(), new, enabled };
        shared.state.set_marker(&marker)?;
        let result = shared.change(shared.manager.install(self.target(), self.explicit), "install.log").await;
        let mut installed = shared.installed(&self.name).await;
        let is_wanted = |package: &plan::image::manager::PackageId| package.version == self.version;
        if !matches!(&installed, Ok(Some(package)) if is_wanted(package)) {
            shared.repair(&marker.new).await;
            installed = shared.installed(&self.name).await;
        }
        let disabled = shared.settle(&marker).await;
        drop(self.turn);
        let (succeeded, output) = result?;
        let Some(package) = installed?.filter(is_wanted) else {
            return Err(PackageError::failed(format!("installing {}", marker.wanted), &output));
        };
        let mut warnings = Vec::new();
        if !succeeded {
            // Another package that was broken before fails every run of apt; this one is complete.
            let error = PackageError::failed(format!("installing {}", marker.wanted), &output);
            warnings.push(format!("the package is installed, but the package manager complains: {error}"));
        }
        tracing::info!(package = marker.wanted, ?disabled, "installed");
        Ok(Installed { package: Some(package), changed: true, warnings })
    }
}

impl Shared {
    async fn change(&self, argv: Vec<String>, log: &str) -> Result<(bool, String), PackageError> {
        let argv = quiet::quietly(self.manager, &self.state.path("policy"), argv)?;
        let lock = locks::own(&self.state.path("lock"))?;
        run::uninterrupted(&argv, &self.state.path(log), lock).await
    }

    /// After a failure: lets dpkg finish what it can, then takes back the packages of this installation that still are
    /// not whole. Left half-configured, they would fail every later installation on this host.
    async fn repair(&self, new: &[String]) {
        if self.manager != Manager::Apt {
            return;
        }
        if let Err(error) = self.change(apt::configure_pending(), "repair.log").await {
            tracing::warn!(%error, "dpkg could not be told to finish what is pending");
        }
        // Also after a success: dpkg killed while it unpacked has nothing to configure, and apt installs nothing over what
        // is half unpacked.
        let mut broken = Vec::new();
        for name in new {
            let status = run::query(&self.manager.query_installed(name), super::QUERY).await;
            if status.is_ok_and(|finished| apt::is_broken(&finished.stdout)) {
                broken.push(name.clone());
            }
        }
        if broken.is_empty() {
            return;
        }
        match self.change(apt::take_back(&broken), "repair.log").await {
            Ok((true, _)) => tracing::warn!(?broken, "packages whose installation failed were taken back"),
            Ok((false, output)) => tracing::warn!(?broken, output, "packages are left half installed"),
            Err(error) => tracing::warn!(?broken, %error, "packages are left half installed"),
        }
    }

    /// Disables what the installation enabled, and forgets about it.
    async fn settle(&self, marker: &Marker) -> Vec<String> {
        let mut files = Vec::new();
        for name in &marker.new {
            // Not installed after all: it ships nothing.
            files.extend(self.files(name).await.unwrap_or_default());
        }
        let disabled = enablement::disable_new(Path::new("/"), &marker.enabled, &files);
        quiet::remove_placeholder(self.manager);
        self.state.clear_marker();
        disabled
    }
}

/// See [`super::Packages::recover`].
pub(super) async fn recover(shared: &Shared) -> Result<Vec<String>, PackageError> {
    let mut done = Vec::new();
    locks::wait_for_orphan(&shared.state.path("lock")).await;
    shared.state.clear_downloads();
    let marker = shared.state.marker();
    // dpkg's journal: not empty after it was killed while it wrote its database.
    let interrupted = shared.manager == Manager::Apt
        && fs::read_dir("/var/lib/dpkg/updates").is_ok_and(|mut entries| entries.next().is_some());
    if marker.is_some() || interrupted {
        locks::wait_until_free(shared.manager, &|progress| tracing::info!(%progress, "before recovery")).await?;
        done.push("an installation was interrupted: dpkg was told to finish what is pending".to_owned());
        shared.repair(marker.as_ref().map_or(&[], |marker| marker.new.as_slice())).await;
    }
    if let Some(marker) = marker {
        let disabled = shared.settle(&marker).await;
        done.push(format!("the installation of {} was cleaned up; disabled: {}", marker.wanted, disabled.join(" ")));
    }
    quiet::remove_placeholder(shared.manager);
    Ok(done)
}
