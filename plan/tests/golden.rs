//! Whole pods in, all that is written for them out: one directory of `cases` a case.
//!
//! A case is `pod.yaml` (with the ConfigMaps and Secrets that it uses), for a pod of an API server also `cluster.yaml` (its
//! `server`, the `services` of the namespace, why there is `noToken`), and `expect/`: each container's unit and Launch, the
//! pod's slice, and `pod.txt` with the rest. `BLESS=1` rewrites `expect/`; a file there that nothing yields is a failure.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "the cases are files")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use k8s_openapi::api::core::v1::Service;
use plan::admission::Claimants;
use plan::inputs::{
    ApiServer, ClusterFacts, Gathered, HostPath, ImageFacts, ImageState, NativeRoot, Needs, NodeFacts, PasswdRow,
    PathKind, ServiceAddress, Token, TokenKey,
};
use plan::manifest::{self, Manifest};
use plan::pod::{needs, plan};
use plan::pod_plan::{PodPlan, VolumeContent};
use plan::vendor::SpecifierFacts;

/// What the host has: a directory's path and its entries.
const HOST: [(&str, &[&str]); 7] = [
    ("/", &["etc", "usr", "opt", "srv", "mnt"]),
    ("/etc", &["hosts", "mtab@", "ssh"]),
    ("/etc/ssh", &["sshd_config"]),
    ("/usr", &["share"]),
    ("/usr/share", &["doc", "odd name"]),
    ("/opt", &[]),
    ("/mnt", &[]),
];

fn facts() -> NodeFacts {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let directories = ["etc", "usr", "opt", "srv", "home", "var"].map(|n| (n.to_owned(), PathKind::Directory));
    let links = ["bin", "lib"].map(|n| (n.to_owned(), PathKind::Symlink(format!("usr/{n}"))));
    NodeFacts {
        node_name: "node1".to_owned(),
        internal_ips: owned(&["10.0.0.5"]),
        external_ips: owned(&["192.0.2.7"]),
        systemd_version: 252,
        run_root: "/run/systemk".to_owned(),
        state_root: "/var/lib/systemk".to_owned(),
        unit_dir: "/run/systemd/system".to_owned(),
        slice_root: "kubepods".to_owned(),
        binary: "/usr/bin/systemk".to_owned(),
        root_entries: directories.into_iter().chain(links).collect(),
        views: ["/usr", "/etc", "/opt", "/srv"].map(|top| (top.to_owned(), format!("/run/systemk/host{top}"))).into(),
        native_root: NativeRoot::Default,
        etc_run_targets: owned(&["/run/systemd/resolve/stub-resolv.conf"]),
        specifiers: SpecifierFacts::default(),
        controllers: owned(&["cpu", "memory", "pids"]),
        allowed_dirs: Vec::new(),
        cpu_milli: 4000,
        memory_bytes: 8 << 30,
    }
}

fn host_path(path: &str) -> HostPath {
    let holds = |dir: &str| HOST.iter().find(|(d, _)| *d == dir).map(|(_, entries)| *entries);
    if holds(path).is_some() {
        let (existing, resolved) = (path.to_owned(), path.to_owned());
        return HostPath { kind: Some(PathKind::Directory), existing, resolved, entries: Vec::new() };
    }
    let ancestors: Vec<String> = Path::new(path).ancestors().map(|a| a.display().to_string()).collect();
    let existing = ancestors.into_iter().find(|a| holds(a).is_some()).unwrap();
    let kind = |name: &str| match (name.strip_suffix('@'), name.contains('.') || name == "hosts") {
        (Some(_), _) => PathKind::Symlink("../proc/self/mounts".to_owned()),
        (None, true) => PathKind::File,
        (None, false) => PathKind::Directory,
    };
    let entries = holds(&existing).unwrap().iter().map(|n| (n.trim_end_matches('@').to_owned(), kind(n))).collect();
    HostPath { kind: None, existing, resolved: path.to_owned(), entries }
}

/// `cluster.yaml`; every token is the text of what it was asked for.
fn cluster(case: &Path, needs: &Needs) -> Option<ClusterFacts> {
    let text = fs::read_to_string(case.join("cluster.yaml")).ok()?;
    let mut given: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    let services: Vec<Service> = serde_json::from_value(given["services"].take()).unwrap_or_default();
    let missing = given["noToken"].as_str().map(str::to_owned);
    let token = |key: &TokenKey| match &missing {
        Some(why) => Err(why.clone()),
        None => Ok(Token::new(format!("{key:?}"))),
    };
    let named = |s: &Service| Some((s.metadata.name.clone()?, ServiceAddress::of(s)?));
    Some(ClusterFacts {
        server: ApiServer {
            host: given["server"]["host"].as_str().unwrap().to_owned(),
            port: given["server"]["port"].as_u64().unwrap().try_into().unwrap(),
        },
        services: services.iter().filter_map(named).collect::<BTreeMap<_, _>>().into(),
        tokens: needs.tokens.iter().map(|key| (key.clone(), token(key))).collect(),
    })
}

fn gathered(manifest: &Manifest, case: &Path) -> Gathered {
    let pod = &manifest.pods[0];
    let spec = pod.spec.as_ref().unwrap();
    let image =
        |path: &Option<String>| ImageState::Present(ImageFacts::HostBinary { path: path.clone().unwrap_or_default() });
    let images: BTreeMap<String, ImageState> = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .map(|c| (c.name.clone(), image(&c.image)))
        .collect();
    let needs = needs(pod, &images);
    let games =
        PasswdRow { name: "games".to_owned(), uid: 5, gid: 60, groups: vec![20], home: "/usr/games".to_owned() };
    Gathered {
        config_maps: manifest.config_maps.iter().map(|m| (m.metadata.name.clone().unwrap(), m.clone())).collect(),
        secrets: manifest.secrets.iter().map(|s| (s.metadata.name.clone().unwrap(), s.clone())).collect(),
        images,
        users: [("games".to_owned(), games)].into(),
        primary_groups: [(1, 1)].into(),
        host_paths: needs.host_paths.iter().map(|p| (p.clone(), host_path(p))).collect(),
        claimants: Claimants::default(),
        cluster: cluster(case, &needs),
    }
}

fn volumes(plan: &PodPlan, text: &mut String) {
    for volume in &plan.volumes {
        match &volume.content {
            VolumeContent::Files { path, files } => {
                writeln!(text, "volume {}: {path} {:o} {:?}", volume.name, files.dir_mode, files.gid).unwrap();
                for file in &files.files {
                    writeln!(text, "    {file:?}").unwrap();
                }
            }
            other @ (VolumeContent::Empty { .. } | VolumeContent::Host { .. }) => {
                writeln!(text, "volume {}: {other:?}", volume.name).unwrap();
            }
        }
    }
}

/// By file name: everything that is written for the pod.
fn rendered(case: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(case.join("pod.yaml")).unwrap();
    let documents: Vec<serde_json::Value> = text.split("\n---\n").map(|d| serde_saphyr::from_str(d).unwrap()).collect();
    let manifest = manifest::parse(&documents, "node1").unwrap_or_else(|e| panic!("{}: {e:?}", case.display()));
    let mut files = BTreeMap::new();
    let mut rest = String::new();
    match plan(&manifest.pods[0], &gathered(&manifest, case), &facts(), &BTreeMap::new()) {
        Ok(plan) => {
            writeln!(rest, "slice {}", plan.slice).unwrap();
            volumes(&plan, &mut rest);
            plan.notes.iter().for_each(|n| writeln!(rest, "note {n}").unwrap());
            plan.blocked.iter().for_each(|b| writeln!(rest, "blocked {}: {}", b.reason, b.message).unwrap());
            for container in &plan.containers {
                match &container.attempt {
                    Ok(attempt) => {
                        let name = &container.name;
                        let launch = serde_json::to_string_pretty(&attempt.launch).unwrap() + "\n";
                        files.insert(format!("{name}.service"), attempt.unit_text.clone());
                        files.insert(format!("{name}.launch.json"), launch);
                        files.insert("pod.slice".to_owned(), attempt.slice_text.clone());
                        writeln!(rest, "container {name} ({:?}): {}", container.role, attempt.unit).unwrap();
                        attempt
                            .make
                            .iter()
                            .for_each(|m| writeln!(rest, "    make {} {:o} {:?}", m.path, m.mode, m.kind).unwrap());
                    }
                    Err(blocked) => {
                        writeln!(rest, "container {}: {}: {}", container.name, blocked.reason, blocked.message)
                            .unwrap();
                    }
                }
            }
        }
        Err(refusals) => refusals.iter().for_each(|r| writeln!(rest, "refused {r}").unwrap()),
    }
    files.insert("pod.txt".to_owned(), rest);
    files
}

fn sorted(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn what_is_written_for_pods() {
    let bless = env::var_os("BLESS").is_some();
    let cases = sorted(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases"));
    assert!(cases.len() >= 8, "the cases are missing");
    let mut problems = String::new();
    for case in cases {
        let files = rendered(&case);
        let expect = case.join("expect");
        if bless {
            fs::remove_dir_all(&expect).ok();
            fs::create_dir_all(&expect).unwrap();
            files.iter().for_each(|(name, text)| fs::write(expect.join(name), text).unwrap());
        }
        for (name, text) in &files {
            let known = fs::read_to_string(expect.join(name)).unwrap_or_default();
            if known != *text {
                let shown = known.lines().zip(text.lines()).find(|(k, t)| k != t);
                writeln!(problems, "{}/expect/{name}: {shown:?}", case.display()).unwrap();
            }
        }
        for path in sorted(&expect) {
            if !files.contains_key(path.file_name().unwrap().to_str().unwrap()) {
                writeln!(problems, "{} is stale", path.display()).unwrap();
            }
        }
    }
    assert!(problems.is_empty(), "BLESS=1 rewrites these:\n{problems}");
}
