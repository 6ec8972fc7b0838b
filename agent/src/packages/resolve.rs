//! From an image to one exact package: what is there, which version is meant, whether it may be installed.

use std::path::Path;
use std::time::Duration;

use plan::image::apt::lists_are_stale;
use plan::image::manager::{Candidates, PackageId, Target};
use plan::image::simulation::{Change, InstallPlan, PlanRefusal, Request};
use plan::image::{ImageRef, PackageRef, PackageUrl, PullPolicy, Unqualified, VersionPin};
use sha2::{Digest, Sha256};

use super::install::{Operation, OwnedTarget};
use super::state::UrlPackage;
use super::{InUse, Installed, NETWORK, PackageError, Packages, Progress, QUERY, locks, query};

fn unchanged(package: PackageId) -> Installed {
    Installed { package: Some(package), changed: false, warnings: Vec::new() }
}

pub(super) async fn package(
    packages: &Packages,
    wanted: &PackageRef,
    policy: PullPolicy,
    in_use: &impl Fn(&str) -> Option<InUse>,
    progress: &impl Fn(Progress),
) -> Result<Installed, PackageError> {
    let name = wanted.name.as_str();
    if !packages.shared.manager.accepts_name(name) {
        return Err(PackageError::InvalidName { name: name.to_owned() });
    }
    let satisfied = |package: &PackageId| policy != PullPolicy::Always && wanted.version.matches(&package.version);
    // What is there needs no turn: a pod that runs an installed package never waits for another's installation.
    if let Some(package) = packages.installed(name).await?.filter(satisfied) {
        return Ok(unchanged(package));
    }
    if policy == PullPolicy::Never {
        return Err(PackageError::NeverPull { image: wanted.to_string() });
    }

    let turn = packages.turn(progress).await;
    packages.shared.state.create()?;
    let mut refreshed = packages.refresh(false, progress).await?;
    // Lists of this minute know all there is to know: a pod with a wrong name asks again and again.
    let mut asked = packages.shared.lists_age().is_some_and(|age| age < Duration::from_secs(60));
    let mut forced = false;
    loop {
        let installed = packages.installed(name).await?;
        if let Some(package) = installed.as_ref().filter(|package| satisfied(package)) {
            return Ok(unchanged(package.clone()));
        }
        let candidates = candidates(packages, name).await?;
        let version = match choose(&wanted.version, &candidates) {
            Some(version) => version,
            None if !asked => {
                asked = true;
                refreshed = packages.refresh(true, progress).await?;
                continue;
            }
            // The lists could not be fetched: that is the reason, not that the name is wrong.
            None => return Err(refreshed.unwrap_or_else(|| missing(wanted, candidates))),
        };
        if let Some(package) = &installed {
            if package.version == version {
                return Ok(unchanged(package.clone()));
            }
            if let Some(user) = in_use(name) {
                return keep(wanted, package, &version, user);
            }
        }
        let operation = Operation {
            name: name.to_owned(),
            version,
            target: OwnedTarget::Version,
            explicit: wanted.version.is_explicit(),
            turn: turn.clone(),
        };
        match simulate_and_install(packages, operation, in_use, progress).await {
            Err(PackageError::Failed { lines, .. }) if !forced && lists_are_stale(&lines) => {
                forced = true;
                refreshed = packages.refresh(true, progress).await?;
            }
            result => return result,
        }
    }
}

async fn candidates(packages: &Packages, name: &str) -> Result<Candidates, PackageError> {
    let finished = query(&packages.shared.manager.query_candidates(name), QUERY).await?;
    Ok(packages.shared.manager.parse_candidates(name, &finished.stdout))
}

/// The manager's own choice if the pin allows it, else the newest that it allows.
fn choose(pin: &VersionPin, candidates: &Candidates) -> Option<String> {
    let candidate = candidates.candidate.as_ref()?;
    if pin.matches(candidate) {
        return Some(candidate.clone());
    }
    candidates.versions.iter().find(|version| pin.matches(version)).cloned()
}

fn missing(wanted: &PackageRef, candidates: Candidates) -> PackageError {
    let name = wanted.name.clone();
    if candidates.candidate.is_none() {
        return PackageError::UnknownPackage { name };
    }
    PackageError::NoSuchVersion { name, wanted: wanted.to_string(), available: candidates.versions }
}

/// Another pod runs the package: what is installed will do for a pod that did not ask for anything else (it would wait for
/// ever in a Deployment whose image is a bare name), and every other one waits.
fn keep(wanted: &PackageRef, package: &PackageId, newer: &str, user: InUse) -> Result<Installed, PackageError> {
    let name = wanted.name.clone();
    if !wanted.version.matches(&package.version) {
        return Err(PackageError::InUse { name, version: user.version, pod: user.pod, wanted: newer.to_owned() });
    }
    let warning = format!("{name} {newer} is available; {} stays while pod {} uses it", package.version, user.pod);
    Ok(Installed { warnings: vec![warning], ..unchanged(package.clone()) })
}

pub(super) async fn url(
    packages: &Packages,
    wanted: &PackageUrl,
    policy: PullPolicy,
    in_use: &impl Fn(&str) -> Option<InUse>,
    progress: &impl Fn(Progress),
) -> Result<Installed, PackageError> {
    let shared = &packages.shared;
    if wanted.format != shared.manager.format() {
        let (expected, found) = (shared.manager.format().suffix(), wanted.format.suffix());
        return Err(PackageError::WrongFormat { expected, found });
    }
    let mut warnings = Vec::new();
    if wanted.sha256.is_none() {
        warnings.push(format!("{} has no #sha256=…: whoever controls that server is root on this node", wanted.url));
    }
    if let Some(package) = remembered(packages, wanted).await? {
        return Ok(Installed { warnings, ..unchanged(package) });
    }
    if policy == PullPolicy::Never {
        return Err(PackageError::NeverPull { image: wanted.to_string() });
    }

    let turn = packages.turn(progress).await;
    shared.state.create()?;
    if let Some(package) = remembered(packages, wanted).await? {
        return Ok(Installed { warnings, ..unchanged(package) });
    }
    progress(Progress::Downloading { url: wanted.url.clone() });
    let download = shared.state.download_directory()?;
    let file = download.file(&format!("package{}", wanted.format.suffix()));
    let path = file.to_string_lossy().into_owned();
    let fetch = shared.manager.download(&wanted.url, &path, wanted.sha256.as_deref());
    shared.succeed(&format!("downloading {}", wanted.url), &fetch, NETWORK).await?;
    let sha256 = hash(&file).await?;
    if let Some(expected) = wanted.sha256.as_ref().filter(|expected| **expected != sha256) {
        let (url, expected) = (wanted.url.clone(), expected.clone());
        return Err(PackageError::HashMismatch { url, expected, found: sha256 });
    }
    let found = shared.succeed("reading the package file", &shared.manager.query_file(&path), QUERY).await?;
    let package = shared.manager.parse_file(&found.stdout).filter(is_plain);
    let package = package.ok_or_else(|| PackageError::failed("reading the package file", found.words()))?;
    let remember = UrlPackage { name: package.name.clone(), version: package.version.clone(), sha256 };

    let installed = packages.installed(&package.name).await?;
    if installed.as_ref().is_some_and(|installed| installed.version == package.version) {
        shared.state.remember_url(&wanted.url, remember)?;
        return Ok(Installed { warnings, ..unchanged(package) });
    }
    if installed.is_some()
        && let Some(user) = in_use(&package.name)
    {
        let wanted = package.version;
        return Err(PackageError::InUse { name: package.name, version: user.version, pod: user.pod, wanted });
    }
    // Its dependencies come from the lists.
    let refreshed = packages.refresh(false, progress).await?;
    let target = OwnedTarget::File { path, _download: download.into() };
    let operation = Operation { name: package.name, version: package.version, target, explicit: true, turn };
    let result = match simulate_and_install(packages, operation.clone(), in_use, progress).await {
        Err(PackageError::Failed { lines, .. }) if refreshed.is_none() && lists_are_stale(&lines) => {
            packages.refresh(true, progress).await?;
            simulate_and_install(packages, operation, in_use, progress).await
        }
        result => result,
    };
    let mut installed = result?;
    shared.state.remember_url(&wanted.url, remember)?;
    installed.warnings.extend(warnings);
    Ok(installed)
}

/// The package that this URL gave before, if that is what is installed and the hash is still the one that is wanted.
async fn remembered(packages: &Packages, wanted: &PackageUrl) -> Result<Option<PackageId>, PackageError> {
    let Some(known) = packages.shared.state.urls().urls.remove(&wanted.url) else { return Ok(None) };
    if wanted.sha256.as_ref().is_some_and(|sha256| *sha256 != known.sha256) {
        return Ok(None);
    }
    Ok(packages.installed(&known.name).await?.filter(|package| package.version == known.version))
}

/// A package file is a stranger's: its name and version go into arguments, so they must match the patterns of an image.
fn is_plain(package: &PackageId) -> bool {
    let text = format!("package://{}={}", package.name, package.version);
    let exact = VersionPin::Exact(package.version.clone());
    matches!(ImageRef::parse(&text, Unqualified::Package), Ok(ImageRef::Package(parsed))
        if parsed.name == package.name && parsed.version == exact)
}

async fn hash(file: &Path) -> Result<String, PackageError> {
    use tokio::io::AsyncReadExt;
    let mut reader = tokio::fs::File::open(file).await.map_err(PackageError::io("read", file))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let count = reader.read(&mut chunk).await.map_err(PackageError::io("read", file))?;
        if count == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(&chunk[..count]);
    }
}

async fn simulate_and_install(
    packages: &Packages,
    operation: Operation,
    in_use: &impl Fn(&str) -> Option<InUse>,
    progress: &impl Fn(Progress),
) -> Result<Installed, PackageError> {
    let manager = packages.shared.manager;
    let wanted = operation.wanted();
    locks::wait_until_free(manager, progress).await?;
    progress(Progress::Simulating { wanted: wanted.clone() });
    let finished = query(&manager.simulate(operation.target(), operation.explicit), NETWORK).await?;
    if !finished.status.is_some_and(|status| manager.simulated(status)) {
        return Err(PackageError::failed(format!("checking what installing {wanted} would do"), finished.words()));
    }
    let mut plan = manager.parse_plan(&finished.stdout);
    if manager.plans_blindly() {
        let mut there = Vec::new();
        for change in &plan.installs {
            let package = packages.installed(&change.name).await?;
            there.extend(package.map(|PackageId { name, version, .. }| Change { name, version }));
        }
        plan = plan.with_installed(&there);
    }
    let Operation { name, version, explicit, .. } = &operation;
    plan.check(Request { name, version, explicit: *explicit })
        .map_err(|refusal| refused(&wanted, refusal, &finished.stderr))?;
    dependencies_in_use(&plan, in_use)?;
    progress(Progress::Installing { wanted });
    operation.carry_out(packages.shared.clone(), plan).await
}

/// `dnf --assumeno` ends alike for a plan and for an error, whose words are then all there is.
fn refused(wanted: &str, refusal: PlanRefusal, words: &str) -> PackageError {
    match refusal {
        PlanRefusal::NotInstalled { planned, .. } if planned.is_empty() && words.contains("rror") => {
            PackageError::failed(format!("checking what installing {wanted} would do"), words)
        }
        refusal => PackageError::Refused { wanted: wanted.to_owned(), refusal },
    }
}

/// A dependency that would change may itself be what another pod runs.
fn dependencies_in_use(plan: &InstallPlan, in_use: &impl Fn(&str) -> Option<InUse>) -> Result<(), PackageError> {
    for change in plan.upgrades.iter().chain(&plan.downgrades) {
        if let Some(user) = in_use(&change.name).filter(|user| user.version != change.version) {
            let (name, wanted) = (change.name.clone(), change.version.clone());
            return Err(PackageError::InUse { name, version: user.version, pod: user.pod, wanted });
        }
    }
    Ok(())
}

impl OwnedTarget {
    pub(super) fn borrow<'a>(&'a self, name: &'a str, version: &'a str) -> Target<'a> {
        match self {
            Self::Version => Target::Version { name, version },
            Self::File { path, .. } => Target::File(path),
        }
    }
}
