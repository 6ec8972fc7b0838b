//! The root of a native container: the host's programs and configuration read-only, its own /run, /tmp and /var.
//!
//! `RootDirectory=` is a skeleton of the container's own directories with host paths bound into it. Not
//! `TemporaryFileSystem=/`: that costs a start 353 ms with 300 host mounts where this costs 66 (systemd 257).

use std::collections::BTreeSet;

use crate::inputs::{ImageFacts, NativeRoot, NodeFacts, PathKind};
use crate::pod_plan::{Make, MakeKind};
use crate::unit::name::{AttemptDirs, INSIDE};

/// One bind mount of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// On the host.
    pub source: String,
    /// In the container's root.
    pub target: String,
    /// Recursively read-only.
    pub read_only: bool,
    /// A missing source is passed over instead of failing the unit.
    pub optional: bool,
}

impl Bind {
    fn new(source: impl Into<String>, target: impl Into<String>, read_only: bool) -> Self {
        Self { source: source.into(), target: target.into(), read_only, optional: false }
    }

    fn same(path: &str, read_only: bool) -> Self {
        Self::new(path, path, read_only)
    }

    /// A host path as containers see it, read-only.
    ///
    /// From the host's read-only view, which needs no `BindReadOnlyPaths=`: for each of those systemd reads the whole
    /// mount table again, so that 300 foreign mounts of the host cost a start 27 ms more with four of them (252).
    pub fn host(facts: &NodeFacts, path: &str) -> Self {
        let view = facts.views.iter().find_map(|(top, view)| {
            let rest = path.strip_prefix(top.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{view}{rest}"))
        });
        view.map_or_else(|| Self::same(path, true), |source| Self::new(source, path, false))
    }

    fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

/// Whose a path in the container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The container's own: nothing there is the host's.
    Container,
    /// The host's, read-only.
    HostReadOnly,
    /// The host's, writable: a package's own directory below /var.
    HostWritable,
    /// The kernel's or devices: /proc, /sys, /dev.
    Kernel,
}

/// A native container's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Root {
    /// Bind mounts.
    pub binds: Vec<Bind>,
    /// The skeleton's contents.
    pub make: Vec<Make>,
    read_only: Vec<String>,
    writable: Vec<String>,
}

/// Shown read-only wherever the host has them.
const PROGRAMS: [&str; 4] = ["usr", "etc", "opt", "srv"];
/// Symlinks into /usr on a merged system, directories on an old one.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Never the host's, whatever `--native-root` says.
const PRIVATE: [&str; 10] = ["proc", "sys", "dev", "run", "tmp", "var", "home", "root", "lost+found", "boot"];

/// Directories below /var that belong to no single package (the filesystem hierarchy's and dpkg's own).
const SHARED_VAR: [&str; 22] = [
    "/var",
    "/var/backups",
    "/var/cache",
    "/var/cache/apt",
    "/var/cache/debconf",
    "/var/lib",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/misc",
    "/var/lib/pam",
    "/var/lib/private",
    "/var/lib/systemd",
    "/var/local",
    "/var/lock",
    "/var/log",
    "/var/log/journal",
    "/var/log/private",
    "/var/mail",
    "/var/opt",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];

/// The root of one attempt. `declared` are further writable paths that the vendor's unit names (`ReadWritePaths=`).
pub fn root(facts: &NodeFacts, dirs: &AttemptDirs, image: &ImageFacts, declared: &[String]) -> Root {
    let mut root = Root::default();
    skeleton(&mut root, dirs);
    for path in shown(facts) {
        root.binds.push(Bind::host(facts, &path));
        root.read_only.push(path);
    }
    for name in MERGED {
        if let Some(PathKind::Symlink(target)) = facts.root_entries.get(name) {
            root.make.push(Make {
                path: format!("{}/{name}", dirs.root),
                kind: MakeKind::Symlink(target.clone()),
                mode: 0o777,
            });
            // What lies behind it is the host's, too.
            root.read_only.push(format!("/{name}"));
        }
    }
    for path in ["/proc", "/sys", "/dev"] {
        root.binds.push(Bind::same(path, false));
    }
    private(&mut root, facts, dirs);
    for path in writable_paths(image, declared) {
        root.binds.push(Bind::same(&path, false).optional());
        root.writable.push(path);
    }
    // What is bound from a view stays read-only whatever `ReadWritePaths=` says: the host's own is bound over it.
    let in_view = |path: &&String| facts.views.keys().any(|top| is_below(path, top));
    root.binds.extend(declared.iter().filter(in_view).map(|path| Bind::same(path, false).optional()));
    if let ImageFacts::HostBinary { path } = image
        && root.owner(path) == Owner::Container
    {
        // Missing: the program's own start says so with the true errno.
        root.binds.push(Bind::host(facts, path).optional());
        root.read_only.push(path.clone());
    }
    root
}

fn skeleton(root: &mut Root, dirs: &AttemptDirs) {
    let mut make = |path: String, kind: MakeKind, mode: u32| root.make.push(Make { path, kind, mode });
    make(dirs.root.clone(), MakeKind::Directory, 0o755);
    for (name, mode) in
        [("home", 0o755), ("root", 0o700), ("var", 0o755), ("var/lib", 0o755), ("var/log", 0o755), ("var/cache", 0o755)]
    {
        make(format!("{}/{name}", dirs.root), MakeKind::Directory, mode);
    }
    make(format!("{}/var/run", dirs.root), MakeKind::Symlink("../run".to_owned()), 0o777);
    make(format!("{}/var/lock", dirs.root), MakeKind::Symlink("../run/lock".to_owned()), 0o777);
    make(format!("{}/tmp", dirs.state), MakeKind::Directory, 0o1777);
    make(format!("{}/var-tmp", dirs.state), MakeKind::Directory, 0o1777);
    make(dirs.container_run.clone(), MakeKind::Directory, 0o755);
    make(format!("{}/lock", dirs.container_run), MakeKind::Directory, 0o1777);
    make(format!("{}/.systemk", dirs.container_run), MakeKind::Directory, 0o755);
    make(format!("{}/.systemk/exit", dirs.container_run), MakeKind::Directory, 0o700);
    // Writable by any uid: init may run as the vendor's user. What it says is read as untrusted text.
    let failure = format!("{}/.systemk/failure", dirs.container_run);
    make(failure, MakeKind::File(crate::container::FAILURE_UNREACHED.to_owned()), 0o666);
}

/// /run, /tmp, /var/tmp and what of the host's /run a service cannot do without.
fn private(root: &mut Root, facts: &NodeFacts, dirs: &AttemptDirs) {
    root.binds.push(Bind::new(&dirs.container_run, "/run", false));
    root.binds.push(Bind::new(format!("{}/tmp", dirs.state), "/tmp", false));
    root.binds.push(Bind::new(format!("{}/var-tmp", dirs.state), "/var/tmp", false));
    // The mount point is left to systemd: that it exists proves that the unit was started (see `attempt`).
    root.binds.push(Bind { target: format!("{INSIDE}/systemk"), ..Bind::host(facts, &facts.binary) });
    // The sockets alone, and not read-only, which means nothing to a socket.
    for socket in ["journal/dev-log", "journal/socket", "journal/stdout", "notify"] {
        root.binds.push(Bind::same(&format!("/run/systemd/{socket}"), false).optional());
    }
    for target in &facts.etc_run_targets {
        if !target.starts_with("/run/systemd/journal") {
            root.binds.push(Bind::same(target, true).optional());
        }
    }
}

/// The host's top-level directories that every container is shown read-only.
pub fn shown(facts: &NodeFacts) -> Vec<String> {
    let fixed = PROGRAMS.into_iter().chain(MERGED);
    let fixed = fixed.filter(|name| facts.root_entries.get(*name) == Some(&PathKind::Directory)).map(str::to_owned);
    fixed.chain(extra_names(facts)).map(|name| format!("/{name}")).collect()
}

fn extra_names(facts: &NodeFacts) -> Vec<String> {
    let is_extra = |name: &str| {
        !PROGRAMS.contains(&name)
            && !MERGED.contains(&name)
            && !PRIVATE.contains(&name)
            && crate::unit::escape::check_path(&format!("/{name}")).is_ok()
            && facts.root_entries.get(name) == Some(&PathKind::Directory)
    };
    match &facts.native_root {
        NativeRoot::Default => Vec::new(),
        NativeRoot::Also(names) => {
            names.iter().map(|n| n.trim_matches('/').to_owned()).filter(|n| is_extra(n)).collect()
        }
        NativeRoot::All => facts.root_entries.keys().filter(|n| is_extra(n)).cloned().collect(),
    }
}

/// The topmost paths below /var that are the package's own, and those that its unit declares.
fn writable_paths(image: &ImageFacts, declared: &[String]) -> Vec<String> {
    let shipped: Vec<&str> = match image {
        ImageFacts::Package(package) => package.files.iter().map(|f| f.path.as_str()).collect(),
        ImageFacts::HostBinary { .. } => Vec::new(),
    };
    let candidates: BTreeSet<&str> = shipped
        .into_iter()
        .chain(declared.iter().map(String::as_str))
        .filter(|p| p.starts_with("/var/") && !SHARED_VAR.contains(p))
        .filter(|p| !["/var/run/", "/var/lock/", "/var/tmp/"].iter().any(|private| p.starts_with(private)))
        .collect();
    let mut top: Vec<String> = Vec::new();
    for path in candidates {
        if !top.iter().any(|t| is_below(path, t)) {
            top.push(path.to_owned());
        }
    }
    top
}

/// Whether `path` lies below `base`.
pub fn is_below(path: &str, base: &str) -> bool {
    base == "/" || path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'))
}

fn at_or_below(path: &str, base: &str) -> bool {
    path == base || is_below(path, base)
}

impl Root {
    /// The host's writable directory that `path` is in.
    pub fn writable_base(&self, path: &str) -> Option<&str> {
        self.writable.iter().map(String::as_str).find(|base| at_or_below(path, base))
    }

    /// Whose `path` is.
    pub fn owner(&self, path: &str) -> Owner {
        if ["/proc", "/sys", "/dev"].iter().any(|k| at_or_below(path, k)) {
            return Owner::Kernel;
        }
        if self.writable.iter().any(|w| at_or_below(path, w)) {
            return Owner::HostWritable;
        }
        if self.read_only.iter().any(|r| at_or_below(path, r)) {
            return Owner::HostReadOnly;
        }
        Owner::Container
    }
}
