use std::collections::BTreeMap;

use crate::fields::fixtures::{facts, pod};
use crate::inputs::{Gathered, HostPath, ImageFacts, ImageState, PackageFacts, PasswdRow, PathKind};
use crate::launch::Capability;
use crate::pod_plan::AttemptPlan;
use crate::vendor::{Fragment, VendorUnit};

/// The attempt of a pod of one container whose package's unit has those lines in `[Service]`.
fn attempt(service: &str, container: &str) -> AttemptPlan {
    let text = format!("[Service]\nExecStart=/usr/sbin/d\n{service}");
    let unit = VendorUnit {
        name: "d.service".into(),
        fragments: vec![Fragment { path: "/usr/lib/systemd/system/d.service".into(), text }],
    };
    let package = PackageFacts { name: "d".into(), version: "1".into(), units: vec![unit], ..PackageFacts::default() };
    let pod = pod(&format!(
        "{{metadata: {{name: p, namespace: n, uid: u}}, spec: {{volumes: [{{name: v, emptyDir: {{}}}}], \
         containers: [{{name: c, image: d, {container}}}]}}}}"
    ));
    let user = PasswdRow { name: "daemon".into(), uid: 7, gid: 7, groups: Vec::new(), home: "/".into() };
    let missing = |existing: &str, path: &str| HostPath {
        kind: None,
        existing: existing.into(),
        resolved: path.into(),
        entries: vec![("passwd".into(), PathKind::File)],
    };
    let gathered = Gathered {
        images: [("c".to_owned(), ImageState::Present(ImageFacts::Package(package)))].into(),
        users: [("daemon".to_owned(), user)].into(),
        host_paths: [
            ("/etc/new".to_owned(), missing("/etc", "/etc/new")),
            ("/var/lib/d".to_owned(), missing("/var/lib", "/var/lib/d")),
        ]
        .into(),
        ..Gathered::default()
    };
    let mut facts = facts();
    facts.root_entries =
        BTreeMap::from([("usr".to_owned(), PathKind::Directory), ("etc".to_owned(), PathKind::Directory)]);
    let plan = crate::pod::plan(&pod, &gathered, &facts, &BTreeMap::new()).unwrap();
    plan.containers[0].attempt.clone().unwrap()
}

const OTHER: &str = "securityContext: {runAsUser: 4242}";

/// systemd would chown the host's directories to root, which the unit then runs as until init becomes the pod's identity.
#[test]
fn state_of_the_host_is_bound_as_it_is_for_another_identity() {
    let service = "User=daemon\nStateDirectory=d\nLogsDirectory=d\n";
    let own = attempt(service, "");
    assert!(own.unit_text.contains("\nStateDirectory=d\n") && own.unit_text.contains("\nUser=daemon\n"));
    let by_name = attempt(service, "securityContext: {windowsOptions: {runAsUserName: daemon}}");
    assert_eq!((&by_name.unit_text, &by_name.launch), (&own.unit_text, &own.launch));

    let other = attempt(service, OTHER);
    assert!(!other.unit_text.contains("StateDirectory=") && !other.unit_text.contains("LogsDirectory="));
    assert!(other.unit_text.contains("BindPaths=\"-/var/lib/d\":\"/var/lib/d\""), "{}", other.unit_text);
    // The one that is missing is made, and goes with the pod if it is empty then.
    assert_eq!(other.host_paths, ["/var/lib/d"]);
    let value = |name: &str| other.launch.env.iter().find(|v| v.name == name).map(|v| v.value.as_str());
    assert_eq!((value("STATE_DIRECTORY"), value("LOGS_DIRECTORY")), (Some("/var/lib/d"), Some("/var/log/d")));
}

#[test]
fn a_bounding_set_goes_to_init_with_another_identity() {
    let service = "CapabilityBoundingSet=CAP_CHOWN\nCapabilityBoundingSet=CAP_KILL\n";
    let own = attempt(service, "");
    assert_eq!(own.launch.capabilities, None);
    // Both lines: what a vendor says twice is a list.
    assert!(own.unit_text.contains("\nCapabilityBoundingSet=CAP_CHOWN\nCapabilityBoundingSet=CAP_KILL\n"));
    let other = attempt(service, OTHER);
    assert!(!other.unit_text.contains("CapabilityBoundingSet="));
    let named = ["CAP_CHOWN", "CAP_KILL"].map(|name| Capability::parse(name).unwrap());
    assert_eq!(other.launch.capabilities.unwrap(), named);
}

/// systemd takes one of two mounts at the same place, and the mount point would be made on the host.
#[test]
fn a_rebuilt_directory_takes_the_place_of_the_hosts() {
    let text = attempt("", "volumeMounts: [{name: v, mountPath: /etc/new}]").unit_text;
    let at_etc: Vec<&str> = text.lines().filter(|l| l.ends_with(":\"/etc\"")).collect();
    assert_eq!(at_etc.len(), 1, "{text}");
    assert!(at_etc[0].contains("/rebuilt/0"), "{text}");
}
