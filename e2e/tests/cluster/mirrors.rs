//! Pods of manifests beside a cluster: they run without it, and it shows them.

use e2e::agent::SOON;
use e2e::eventually::wait_until;
use e2e::member::{Member, cluster};
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::shell;

on_both! { a_manifest_is_mirrored }

fn manifest(member: &Member, script: &str) -> String {
    let metadata = json!({"name": "agent", "namespace": member.name, "labels": {"app": "agent"}});
    let spec = json!({"terminationGracePeriodSeconds": 2, "containers": [shell("main", script)]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).to_string()
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn a_manifest_is_mirrored(systemd: Systemd) {
    let member = Member::join_to(cluster().unwrap(), systemd, "mirrors", "").unwrap();
    let mirror = format!("agent-{}", member.name);
    member.apply("agent.json", &manifest(&member, "sleep infinity")).unwrap();
    let shown = member.wait_running(&mirror).unwrap();
    assert_eq!(shown["metadata"]["annotations"]["kubernetes.io/config.source"], "file");
    assert_eq!(shown["metadata"]["ownerReferences"][0]["kind"], "Node");
    assert_eq!(
        (&shown["metadata"]["labels"]["app"], &shown["spec"]["nodeName"]),
        (&json!("agent"), &json!(member.name))
    );
    let id = &shown["status"]["containerStatuses"][0]["containerID"];
    assert!(id.as_str().is_some_and(|id| id.starts_with("systemd://")), "{id}");

    // Deleting the picture does nothing to what it shows, and it comes back.
    member.kubectl().run(&["delete", "pod", &mirror, "-n", &member.name, "--force", "--grace-period=0"]).unwrap();
    let again = wait_until("the mirror to be back", SOON, || {
        let pod = member.pod(&mirror).unwrap()?;
        (uid(&pod) != uid(&shown) && pod["status"]["phase"] == "Running").then_some(pod)
    })
    .unwrap();
    assert_eq!(&again["status"]["containerStatuses"][0]["containerID"], id);

    // A changed manifest is another pod, and another picture.
    member.apply("agent.json", &manifest(&member, "echo changed; sleep infinity")).unwrap();
    wait_until("the changed mirror", SOON, || {
        let pod = member.pod(&mirror).unwrap()?;
        let command = pod["spec"]["containers"][0]["command"][2].as_str()?.contains("changed");
        (command && pod["status"]["phase"] == "Running").then_some(())
    })
    .unwrap();

    // It is there when its agent is away, and goes with its manifest, also if nobody looked.
    member.sandbox.run(&["systemctl", "stop", "systemk"]).unwrap();
    member.remove("agent.json").unwrap();
    assert!(member.pod(&mirror).unwrap().is_some());
    member.start_agent().unwrap();
    member.wait_deleted(&mirror).unwrap();
    member.wait_gone("agent").unwrap();
}
