//! A node has a kubelet's rights and no more: Node authorizer, NodeRestriction, bootstrap tokens; and the audit log tells.

use e2e::agent::SOON;
use e2e::control_plane::{ControlPlane, ControlPlaneSpec, Identity, Kubectl};
use e2e::eventually::wait_until;
use serde_json::json;

fn lease(node: &str) -> String {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": node, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": 40},
    })
    .to_string()
}

/// What the API server says when it refuses a manifest.
fn refusal(kubectl: &Kubectl, manifest: &str) -> String {
    let output = kubectl.output_with(SOON, &["create", "-f", "-"], manifest).unwrap();
    assert_ne!(output.code, 0, "it was not refused: {output:?}");
    output.stderr
}

fn create(kubectl: &Kubectl, manifest: &str) {
    kubectl.output_with(SOON, &["create", "-f", "-"], manifest).unwrap().ok().unwrap();
}

#[test]
fn a_node_writes_what_is_its_own() {
    let control_plane = ControlPlane::start(ControlPlaneSpec::for_test("own").api_only().audited()).unwrap();
    let one = control_plane.client(&Identity::node("one")).unwrap();

    create(&one, &super::node("one"));
    create(&one, &lease("one"));
    let other_node = refusal(&one, &super::node("other"));
    assert!(other_node.contains("node \"one\" is not allowed to modify node \"other\""), "{other_node}");
    let other_lease = refusal(&one, &lease("other"));
    assert!(other_lease.contains("Forbidden"), "{other_lease}");
    let labelled = json!({"metadata": {"labels": {"node-restriction.kubernetes.io/zone": "x"}}}).to_string();
    let labelled = one.output(&["patch", "node", "one", "-p", &labelled]).unwrap();
    assert!(labelled.code != 0 && labelled.stderr.contains("not allowed"), "{labelled:?}");

    // Each of it is in the log, under the node's name and with what came of it.
    let asked = |verb: &str, resource: &str, code: u16| {
        wait_until("the line of the audit log", SOON, || {
            let events = control_plane.audit().unwrap();
            let found = events.into_iter().find(|event| {
                let about = (event.verb.as_str(), event.object_ref.resource.as_str(), event.response_status.code);
                event.user.username == "system:node:one" && about == (verb, resource, code)
            });
            found.filter(|event| event.stage == "ResponseComplete")
        })
        .unwrap()
    };
    assert_eq!(asked("create", "nodes", 201).object_ref.subresource, "");
    assert_eq!(asked("create", "leases", 201).object_ref.namespace, "kube-node-lease");
    assert!(asked("create", "nodes", 403).user_agent.starts_with("kubectl"));
    asked("create", "leases", 403);
}

#[test]
fn a_node_reads_a_secret_once_a_pod_of_its_own_uses_it() {
    let control_plane = ControlPlane::start(ControlPlaneSpec::for_test("secret").api_only()).unwrap();
    let (one, other) = ("one", "other");
    let client = |node| control_plane.client(&Identity::node(node)).unwrap();
    let (reader, stranger) = (client(one), client(other));
    for name in [one, other] {
        control_plane.apply(&super::node(name)).unwrap();
    }
    control_plane.admin().run(&["create", "secret", "generic", "used", "--from-literal=word=magic"]).unwrap();
    let ask = ["get", "secret", "used", "-o", "jsonpath={.data.word}"];
    let refused = reader.output(&ask).unwrap();
    assert!(refused.code != 0 && refused.stderr.contains("no relationship found between node"), "{refused:?}");

    // Without a nodeName first: that it is bound is what counts.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user"},
        "spec": {
            "containers": [{"name": "c", "image": "nginx"}],
            "volumes": [{"name": "v", "secret": {"secretName": "used"}}],
        },
    });
    control_plane.apply(&pod.to_string()).unwrap();
    assert_ne!(reader.output(&ask).unwrap().code, 0, "a pod of no node gave it the right");
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "user"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": one},
    });
    let bind = ["create", "--raw", "/api/v1/namespaces/default/pods/user/binding", "-f", "-"];
    control_plane.admin().output_with(SOON, &bind, &binding.to_string()).unwrap().ok().unwrap();

    // The authorizer hears of it by a watch.
    let word = wait_until("the right to read it", SOON, || reader.output(&ask).ok()?.ok().ok()).unwrap();
    assert_eq!(word, "bWFnaWM=");
    assert_ne!(stranger.output(&ask).unwrap().code, 0, "another node read it");
    assert_ne!(reader.output(&["get", "secrets"]).unwrap().code, 0, "it listed all of them");
}

#[test]
fn an_expired_certificate_and_an_unknown_token_are_nobody() {
    let control_plane = ControlPlane::start(ControlPlaneSpec::for_test("nobody").api_only()).unwrap();
    for kubeconfig in [
        control_plane.kubeconfig(&Identity::node("late").expired()).unwrap(),
        control_plane.bootstrap_kubeconfig().unwrap().replace("token: ", "token: x"),
    ] {
        let refused = control_plane.client_of(&kubeconfig).unwrap().output(&["get", "nodes"]).unwrap();
        assert!(refused.code != 0 && refused.stderr.contains("Unauthorized"), "{refused:?}");
    }
}

#[test]
fn a_bootstrap_token_is_good_for_asking_for_a_certificate() {
    let control_plane = ControlPlane::start(ControlPlaneSpec::for_test("bootstrap")).unwrap();
    let newcomer = control_plane.client_of(&control_plane.bootstrap_kubeconfig().unwrap()).unwrap();
    let who = newcomer.run(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.groups}"]).unwrap();
    assert!(who.contains("system:bootstrappers:systemk"), "{who}");
    let may = |verb: &str, what: &str| newcomer.output(&["auth", "can-i", verb, what]).unwrap().stdout;
    assert_eq!(may("create", "certificatesigningrequests"), "yes\n");
    assert_eq!(may("get", "secrets"), "no\n");

    let request = e2e::control_plane::node_certificate_request("newcomer").unwrap();
    create(&newcomer, &request);
    // Approved and signed by the controller manager, as a kubelet's is.
    let signed = control_plane.wait_for("the certificate", &["certificatesigningrequest", "newcomer"], |request| {
        request["status"]["certificate"].is_string()
    });
    assert_eq!(signed.unwrap()["status"]["conditions"][0]["type"], "Approved");
}
