//! The package managers, as one table: what to run for each step and how to read what it prints.
//!
//! Everything here is a list of arguments or a parser; nothing is run. Names come after `--` wherever the tool knows it,
//! and were matched against a strict pattern before; both are needed, because apt still reads `name-` as *remove* there.

use std::cmp::Ordering;

use super::os_release::OsRelease;
use super::simulation::InstallPlan;
use super::url::PackageFormat;
use super::{apt, dnf, pacman, zypper};

/// The distribution's package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// Debian, Ubuntu and their children.
    Apt,
    /// Fedora, RHEL and their children.
    Dnf,
    /// Arch and its children.
    Pacman,
    /// openSUSE and SLES.
    Zypper,
}

/// A program and its arguments.
pub type Argv = Vec<String>;

/// A package as the database or a package file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageId {
    /// Its name.
    pub name: String,
    /// Its full version, epoch included where the manager shows it.
    pub version: String,
    /// The distribution's name of its architecture.
    pub arch: String,
}

/// What could be installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// What a plain installation would pick. None: no package has that exact name (it may still be a virtual one).
    pub candidate: Option<String>,
    /// All versions of the sources, newest first.
    pub versions: Vec<String>,
}

/// What to install.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A package of the sources in an exact version.
    Version {
        /// The package.
        name: &'a str,
        /// As [`Candidates`] gave it.
        version: &'a str,
    },
    /// A package file's absolute path.
    File(&'a str),
}

impl Manager {
    /// By `ID`, then by `ID_LIKE` in its order.
    pub fn detect(os_release: &OsRelease) -> Option<Self> {
        os_release.ids().find_map(|id| {
            Some(match id {
                "debian" | "ubuntu" | "raspbian" | "linuxmint" => Self::Apt,
                "fedora" | "rhel" | "centos" | "rocky" | "almalinux" | "amzn" => Self::Dnf,
                "arch" | "archarm" | "manjaro" => Self::Pacman,
                "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" | "suse" | "sles" => Self::Zypper,
                _ => return None,
            })
        })
    }

    /// The program's name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apt => "apt",
            Self::Dnf => "dnf",
            Self::Pacman => "pacman",
            Self::Zypper => "zypper",
        }
    }

    /// Which package files it installs.
    pub fn format(self) -> PackageFormat {
        match self {
            Self::Apt => PackageFormat::Deb,
            Self::Dnf | Self::Zypper => PackageFormat::Rpm,
            Self::Pacman => PackageFormat::Pacman,
        }
    }

    /// The distribution's own rule for names, stricter than what an image may say.
    pub fn accepts_name(self, name: &str) -> bool {
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        match self {
            // Debian policy 5.6.1.
            Self::Apt => {
                name.len() >= 2
                    && name.bytes().next().is_some_and(lower)
                    && name.bytes().all(|byte| lower(byte) || b"+-.".contains(&byte))
            }
            Self::Pacman => name.bytes().all(|byte| lower(byte) || b"+-._".contains(&byte)),
            Self::Dnf | Self::Zypper => true,
        }
    }

    /// What is installed under `name`; a non-zero exit means nothing.
    pub fn query_installed(self, name: &str) -> Argv {
        match self {
            Self::Apt => apt::query_installed(name),
            Self::Dnf | Self::Zypper => dnf::query_installed(name),
            Self::Pacman => pacman::query_installed(name),
        }
    }

    /// Reads [`Self::query_installed`]: None when exactly `name` is not fully installed.
    pub fn parse_installed(self, name: &str, output: &str) -> Option<PackageId> {
        match self {
            Self::Apt => apt::parse_installed(name, output),
            Self::Dnf | Self::Zypper => dnf::parse_installed(name, output),
            Self::Pacman => pacman::parse_info(output).filter(|package| package.name == name),
        }
    }

    /// Name, version and architecture of a package file.
    pub fn query_file(self, path: &str) -> Argv {
        match self {
            Self::Apt => apt::query_file(path),
            Self::Dnf | Self::Zypper => dnf::query_file(path),
            Self::Pacman => pacman::query_file(path),
        }
    }

    /// Reads [`Self::query_file`].
    pub fn parse_file(self, output: &str) -> Option<PackageId> {
        match self {
            Self::Apt => apt::parse_file(output),
            Self::Dnf | Self::Zypper => dnf::parse_package(output),
            Self::Pacman => pacman::parse_info(output),
        }
    }

    /// The paths that an installed package owns.
    pub fn list_files(self, name: &str) -> Argv {
        match self {
            Self::Apt => apt::list_files(name),
            Self::Dnf | Self::Zypper => dnf::list_files(name),
            Self::Pacman => pacman::list_files(name),
        }
    }

    /// Reads [`Self::list_files`], whose remarks (diversions, "contains no files") are no paths.
    pub fn parse_files(self, output: &str) -> Vec<String> {
        output
            .lines()
            .filter(|line| line.starts_with('/') && *line != "/.")
            .map(|line| line.trim_end_matches('/').to_owned())
            .filter(|path| !path.is_empty())
            .collect()
    }

    /// Which versions of exactly `name` the sources have.
    pub fn query_candidates(self, name: &str) -> Argv {
        match self {
            Self::Apt => apt::query_candidates(name),
            Self::Dnf => dnf::query_candidates(name),
            Self::Pacman => pacman::query_candidates(name),
            Self::Zypper => zypper::query_candidates(name),
        }
    }

    /// Reads [`Self::query_candidates`].
    pub fn parse_candidates(self, name: &str, output: &str) -> Candidates {
        match self {
            Self::Apt => apt::parse_candidates(name, output),
            Self::Dnf => dnf::parse_candidates(name, output),
            Self::Pacman => pacman::parse_candidates(name, output),
            Self::Zypper => zypper::parse_candidates(name, output),
        }
    }

    /// What installing `target` would do; `explicit` allows an older version.
    pub fn simulate(self, target: Target<'_>, explicit: bool) -> Argv {
        match self {
            Self::Apt => apt::simulate(target, explicit),
            Self::Dnf => dnf::simulate(target),
            Self::Pacman => pacman::simulate(target),
            Self::Zypper => zypper::simulate(target, explicit),
        }
    }

    /// Whether [`Self::simulate`] ends with this exit status when it worked: `dnf --assumeno` calls it an error.
    pub fn simulated(self, status: i32) -> bool {
        match self {
            Self::Apt | Self::Pacman | Self::Zypper => status == 0,
            Self::Dnf => status == 0 || status == 1,
        }
    }

    /// Reads [`Self::simulate`].
    pub fn parse_plan(self, output: &str) -> InstallPlan {
        match self {
            Self::Apt => apt::parse_plan(output),
            Self::Dnf => dnf::parse_plan(output),
            Self::Pacman => pacman::parse_plan(output),
            Self::Zypper => zypper::parse_plan(output),
        }
    }

    /// Whether [`Self::parse_plan`] cannot tell new packages from others: [`InstallPlan::with_installed`] then can.
    pub fn plans_blindly(self) -> bool {
        self == Self::Pacman
    }

    /// Installs `target` and what it depends on, asking nothing.
    pub fn install(self, target: Target<'_>, explicit: bool) -> Argv {
        match self {
            Self::Apt => apt::install(target, explicit),
            Self::Dnf => dnf::install(target),
            Self::Pacman => pacman::install(target),
            Self::Zypper => zypper::install(target, explicit),
        }
    }

    /// Fetches the package lists.
    pub fn refresh(self) -> Argv {
        match self {
            Self::Apt => apt::refresh(),
            Self::Dnf => dnf::refresh(),
            Self::Pacman => pacman::refresh(),
            Self::Zypper => zypper::refresh(),
        }
    }

    /// Fetches `url` to the file `destination`; `sha256` is checked where the tool can (systemk checks it in any case).
    pub fn download(self, url: &str, destination: &str, sha256: Option<&str>) -> Argv {
        match self {
            Self::Apt => apt::download(url, destination, sha256),
            Self::Dnf | Self::Pacman | Self::Zypper => {
                let argv = ["curl", "-fsSL", "--proto", "=https", "--retry", "2", "-o", destination, "--", url];
                argv.map(str::to_owned).to_vec()
            }
        }
    }
}

pub(super) fn argv(parts: &[&str]) -> Argv {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

/// RPM's order of versions (rpmvercmp), for sources that do not list the newest first. pacman's is the same but for `^`.
pub(super) fn compare_rpm(left: &str, right: &str) -> Ordering {
    let epoch = |version: &str| match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse::<u64>().unwrap_or(0), rest.to_owned()),
        None => (0, version.to_owned()),
    };
    let ((left_epoch, left), (right_epoch, right)) = (epoch(left), epoch(right));
    left_epoch.cmp(&right_epoch).then_with(|| {
        let (left, left_release) = left.split_once('-').unwrap_or((&left, ""));
        let (right, right_release) = right.split_once('-').unwrap_or((&right, ""));
        compare_segments(left, right).then_with(|| compare_segments(left_release, right_release))
    })
}

fn compare_segments(mut left: &str, mut right: &str) -> Ordering {
    let separator = |c: char| !c.is_ascii_alphanumeric() && c != '~' && c != '^';
    loop {
        left = left.trim_start_matches(separator);
        right = right.trim_start_matches(separator);
        // `~` sorts before everything, even the end; `^` after the end, before everything else.
        match (left.strip_prefix('~'), right.strip_prefix('~')) {
            (Some(l), Some(r)) => {
                (left, right) = (l, r);
                continue;
            }
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        match (left.strip_prefix('^'), right.strip_prefix('^')) {
            (Some(l), Some(r)) => {
                (left, right) = (l, r);
                continue;
            }
            (Some(_), None) => return if right.is_empty() { Ordering::Greater } else { Ordering::Less },
            (None, Some(_)) => return if left.is_empty() { Ordering::Less } else { Ordering::Greater },
            (None, None) => {}
        }
        if left.is_empty() || right.is_empty() {
            return left.len().min(1).cmp(&right.len().min(1));
        }
        let numeric = left.starts_with(|c: char| c.is_ascii_digit());
        let inside = |c: char| if numeric { c.is_ascii_digit() } else { c.is_ascii_alphabetic() };
        let (l, left_rest) = left.split_at(left.find(|c| !inside(c)).unwrap_or(left.len()));
        let (r, right_rest) = right.split_at(right.find(|c| !inside(c)).unwrap_or(right.len()));
        if r.is_empty() {
            // Different kinds: a number is newer than letters.
            return if numeric { Ordering::Greater } else { Ordering::Less };
        }
        let ordering = if numeric {
            let (l, r) = (l.trim_start_matches('0'), r.trim_start_matches('0'));
            l.len().cmp(&r.len()).then_with(|| l.cmp(r))
        } else {
            l.cmp(r)
        };
        if ordering.is_ne() {
            return ordering;
        }
        (left, right) = (left_rest, right_rest);
    }
}
