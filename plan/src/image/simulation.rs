//! What the package manager says it would do, and whether it may.

use std::cmp::Ordering;
use std::fmt;

use super::manager::compare_rpm;

/// A package and a version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The package, without its architecture unless that is a foreign one (`libc6:i386`).
    pub name: String,
    /// The version that is there (removals) or will be (all others).
    pub version: String,
}

/// The package manager's plan, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstallPlan {
    /// Packages that are not installed yet.
    pub installs: Vec<Change>,
    /// Packages that are replaced by a newer version (or the same again).
    pub upgrades: Vec<Change>,
    /// Packages that are replaced by an older version.
    pub downgrades: Vec<Change>,
    /// Packages that would go.
    pub removes: Vec<Change>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The exact package.
    pub name: &'a str,
    /// Its exact version.
    pub version: &'a str,
    /// The pod named that version (or a URL), so an older one may replace a newer one.
    pub explicit: bool,
}

/// Why a plan is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanRefusal {
    /// These packages would be removed.
    Removes(Vec<String>),
    /// The package that was asked for is not part of the plan, or in another version.
    NotInstalled {
        /// What was asked for.
        wanted: String,
        /// What the plan has instead.
        planned: Vec<String>,
    },
    /// These would be replaced by older versions, which nobody asked for.
    Downgrades(Vec<String>),
}

impl InstallPlan {
    /// Sorts the installs anew by what is installed, for a manager whose plan does not say (pacman).
    #[must_use]
    pub fn with_installed(mut self, installed: &[Change]) -> Self {
        for change in std::mem::take(&mut self.installs) {
            let there = installed.iter().find(|there| there.name == change.name);
            match there.map(|there| compare_rpm(&change.version, &there.version)) {
                None => self.installs.push(change),
                Some(Ordering::Less) => self.downgrades.push(change),
                Some(Ordering::Equal | Ordering::Greater) => self.upgrades.push(change),
            }
        }
        self
    }

    /// Whether the plan does what was asked for and no harm.
    ///
    /// # Errors
    /// The first of the refusals that applies, removal first.
    pub fn check(&self, request: Request<'_>) -> Result<(), PlanRefusal> {
        if !self.removes.is_empty() {
            return Err(PlanRefusal::Removes(names(&self.removes)));
        }
        let wanted = |change: &&Change| change.name == request.name && change.version == request.version;
        let changed = self.installs.iter().chain(&self.upgrades).chain(&self.downgrades);
        if changed.clone().find(wanted).is_none() {
            return Err(PlanRefusal::NotInstalled {
                wanted: format!("{} {}", request.name, request.version),
                planned: changed.map(|change| format!("{} {}", change.name, change.version)).collect(),
            });
        }
        let unasked: Vec<_> =
            self.downgrades.iter().filter(|change| !(request.explicit && change.name == request.name)).collect();
        if !unasked.is_empty() {
            return Err(PlanRefusal::Downgrades(names(unasked)));
        }
        Ok(())
    }
}

impl fmt::Display for PlanRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removes(names) => write!(f, "it would remove {}", names.join(", ")),
            Self::NotInstalled { wanted, planned } if planned.is_empty() => {
                write!(f, "the package manager would not install {wanted}")
            }
            Self::NotInstalled { wanted, planned } => {
                write!(f, "the package manager would not install {wanted} but {}", planned.join(", "))
            }
            Self::Downgrades(names) => write!(f, "it would downgrade {}", names.join(", ")),
        }
    }
}

fn names<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Vec<String> {
    changes.into_iter().map(|change| change.name.clone()).collect()
}
