//! The part that changes the host: recorded before it begins, carried through whoever goes away, put right afterwards.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use plan::image::Manager;
use plan::image::apt;
use plan::image::manager::Target;
use plan::image::simulation::InstallPlan;

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
    pub(super) async fn carry_out(self, shared: Arc<Shared>, plan: InstallPlan) -> Result<Installed, PackageError> {
        let wanted = self.wanted();
        let task = tokio::spawn(async move { self.install(&shared, plan).await });
        match task.await {
            Ok(result) => result,
            Err(error) => Err(PackageError::failed(format!("installing {wanted}"), &error.to_string())),
        }
    }

    async fn install(self, shared: &Shared, plan: InstallPlan) -> Result<Installed, PackageError> {
        let new = plan.installs.into_iter().map(|change| change.name).collect();
        let changed = plan.upgrades.into_iter().chain(plan.downgrades).map(|change| (change.name, change.version));
        let file = match &self.target {
            OwnedTarget::Version => None,
            OwnedTarget::File { path, .. } => Some(path.clone()),
        };
        let enabled = enablement::links(Path::new("/"));
        let marker = Marker { wanted: self.wanted(), new, changed: changed.collect(), file, enabled };
        shared.state.set_marker(&marker)?;
        let result = shared.change(shared.manager.install(self.target(), self.explicit), "install.log").await;
        let mut installed = shared.installed(&self.name).await;
        let is_wanted = |package: &plan::image::manager::PackageId| package.version == self.version;
        if !matches!(&installed, Ok(Some(package)) if is_wanted(package)) {
            shared.repair(Some(&marker)).await;
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

    /// After a failure: lets dpkg finish what it can, then takes back the new packages of this installation that still are
    /// not whole. Left half-configured, they would fail every later installation on this host. Those that it replaced are
    /// unpacked again.
    async fn repair(&self, marker: Option<&Marker>) {
        if self.manager != Manager::Apt {
            return;
        }
        self.configure_pending().await;
        let Some(marker) = marker else { return };
        self.take_back(&marker.new).await;
        self.unpack_again(marker).await;
    }

    async fn configure_pending(&self) {
        if let Err(error) = self.change(apt::configure_pending(), "repair.log").await {
            tracing::warn!(%error, "dpkg could not be told to finish what is pending");
        }
    }

    /// What dpkg was replacing when it was cut off is neither the old version nor the new one, and it takes nothing but an
    /// archive of either: from where apt keeps it until it has succeeded, else from the sources, which may not have it any
    /// more. Without one apt refuses every other installation.
    async fn unpack_again(&self, marker: &Marker) {
        let cut_off = self.cut_off(marker).await;
        let cached: Vec<String> = cut_off.iter().filter_map(|(name, version)| archive(marker, name, version)).collect();
        if !cached.is_empty() {
            if let Err(error) = self.change(apt::unpack(&cached), "repair.log").await {
                tracing::warn!(?cached, %error, "dpkg could not be told to unpack again");
            }
            self.configure_pending().await;
        }
        let left = if cached.is_empty() { cut_off.clone() } else { self.cut_off(marker).await };
        if left.is_empty() {
            if !cut_off.is_empty() {
                tracing::warn!(packages = ?cut_off, "packages that were cut off were unpacked again");
            }
            return;
        }
        match self.change(apt::install_again(&left), "repair.log").await {
            Ok((true, _)) => tracing::warn!(packages = ?left, "packages that were cut off were installed again"),
            Ok((false, output)) => tracing::warn!(packages = ?left, output, "packages are left half replaced"),
            Err(error) => tracing::warn!(packages = ?left, %error, "packages are left half replaced"),
        }
    }

    async fn cut_off(&self, marker: &Marker) -> Vec<(String, String)> {
        let mut cut_off = Vec::new();
        for (name, version) in &marker.changed {
            let status = run::query(&self.manager.query_installed(name), super::QUERY).await;
            if status.is_ok_and(|finished| apt::is_cut_off(&finished.stdout)) {
                cut_off.push((name.clone(), version.clone()));
            }
        }
        cut_off
    }

    async fn take_back(&self, new: &[String]) {
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

/// The package's archive, if there still is one on this host.
fn archive(marker: &Marker, name: &str, version: &str) -> Option<String> {
    if let Some(file) = &marker.file
        && marker.wanted == format!("{name} {version}")
        && Path::new(file).is_file()
    {
        return Some(file.clone());
    }
    let entries = fs::read_dir(apt::ARCHIVES).into_iter().flatten().flatten();
    let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let found = names.find(|file| apt::is_archive_of(file, name, version))?;
    Some(format!("{}/{found}", apt::ARCHIVES))
}

/// See [`super::Packages::recover`].
pub(super) async fn recover(shared: &Shared) -> Result<Vec<String>, PackageError> {
    let mut done = Vec::new();
    locks::wait_for_orphan(&shared.state.path("lock")).await;
    let marker = shared.state.marker();
    // dpkg's journal: not empty after it was killed while it wrote its database.
    let interrupted = shared.manager == Manager::Apt
        && fs::read_dir("/var/lib/dpkg/updates").is_ok_and(|mut entries| entries.next().is_some());
    if marker.is_some() || interrupted {
        locks::wait_until_free(shared.manager, &|progress| tracing::info!(%progress, "before recovery")).await?;
        done.push("an installation was interrupted: dpkg was told to finish what is pending".to_owned());
        shared.repair(marker.as_ref()).await;
    }
    // Only now: what was being installed may be one of them.
    shared.state.clear_downloads();
    if let Some(marker) = marker {
        let disabled = shared.settle(&marker).await;
        done.push(format!("the installation of {} was cleaned up; disabled: {}", marker.wanted, disabled.join(" ")));
    }
    quiet::remove_placeholder(shared.manager);
    Ok(done)
}
