//! `systemk plan`: what it prints is what the agent then writes, byte for byte.

use e2e::agent::Node;
use e2e::apt_repo::{AptRepo, Archive};
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::support::*;

on_both! { a_plan_is_what_is_written_then, a_plan_says_what_would_not_work }

/// Of its own uid, so that nothing of the names depends on when it is read.
fn full() -> Value {
    let metadata = json!({"name": "full", "uid": "11111111-2222-3333-4444-555555555555", "labels": {"tier": "web"}});
    let mut side = shell("side", "echo up; sleep infinity");
    side["securityContext"] = json!({"runAsUser": 65534, "capabilities": {"drop": ["ALL"]}});
    let main = json!({
        "name": "main", "image": "sk-simple", "args": ["--greeting", "$(A) 100%"],
        "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
        "env": [{"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}},
            {"name": "A", "value": "a b"}, {"name": "B", "value": "$(PW)!"},
            {"name": "TIER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['tier']"}}}],
        "volumeMounts": [{"name": "empty", "mountPath": "/data"}, {"name": "memory", "mountPath": "/memory"},
            {"name": "map", "mountPath": "/etc/app"}, {"name": "secret", "mountPath": "/secret"}, {"name": "host", "mountPath": "/host"}],
    });
    let volumes = json!([{"name": "empty", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "map", "configMap": {"name": "m"}}, {"name": "secret", "secret": {"secretName": "s"}},
        {"name": "host", "hostPath": {"path": "/mnt/h", "type": "DirectoryOrCreate"}}]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"terminationGracePeriodSeconds": 3,
        "initContainers": [shell("first", "echo first")], "containers": [main, side], "volumes": volumes}});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "b"}});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"pw": "hunter2"}});
    json!({"apiVersion": "v1", "kind": "List", "items": [map, secret, pod]})
}

/// A file as it is on the node.
fn written(node: &Node, path: &Value) -> String {
    node.sandbox.read_file(path.as_str().unwrap()).unwrap()
}

fn a_plan_is_what_is_written_then(systemd: Systemd) {
    let node = installed(systemd, "cli-plan");
    AptRepo::build().unwrap().install_into(&node.sandbox, Archive::OursOnly).unwrap();
    let file = write(&node, "full", &full());
    let early = ok(&node, &format!("systemk plan {file}"));
    holds(
        &early,
        &["The package sk-simple is not installed: its unit is not known until it is.", "systemk.default.full.side_"],
    );
    ok(&node, "DEBIAN_FRONTEND=noninteractive apt-get install -qy sk-simple");

    let before = ok(&node, "find /run/systemk /var/lib/systemk /run/systemd/system /mnt | sort");
    let text = ok(&node, &format!("systemk plan --show-secrets {file}"));
    let json_text = ok(&node, &format!("systemk plan --show-secrets -o json {file}"));
    let yaml_text = ok(&node, &format!("systemk plan --show-secrets -o yaml - < {file}"));
    for output in ["", "-o json", "-o yaml"] {
        let hidden = ok(&node, &format!("systemk plan {output} {file}"));
        assert!(!hidden.contains("hunter2") && hidden.contains("<secret>!"), "{hidden}");
    }
    assert_eq!(
        ok(&node, "find /run/systemk /var/lib/systemk /run/systemd/system /mnt | sort"),
        before,
        "a plan changes nothing"
    );
    let plan: Value = serde_json::from_str(&json_text).unwrap();
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml_text).unwrap(), plan);

    node.apply("full.json", &full().to_string()).unwrap();
    node.wait_ready("full").unwrap();
    let pod = &plan["pods"][0];
    assert_eq!(written(&node, &pod["slice"]["path"]), pod["slice"]["text"].as_str().unwrap());
    let containers = pod["containers"].as_array().unwrap();
    assert_eq!(containers.iter().map(|c| c["name"].as_str().unwrap()).collect::<Vec<_>>(), ["first", "main", "side"]);
    for container in containers {
        // An init container's files go when it has ended well.
        if container["init"] == true {
            continue;
        }
        let (unit, launch) = (&container["unit"], &container["launch"]);
        assert_eq!(written(&node, &unit["path"]), unit["text"].as_str().unwrap());
        assert_eq!(serde_json::from_str::<Value>(&written(&node, &launch["path"])).unwrap(), launch["content"]);
        let pretty = serde_json::to_string_pretty(&launch["content"]["lines"]).unwrap();
        for part in [
            unit["path"].as_str().unwrap(),
            unit["text"].as_str().unwrap().trim_end(),
            launch["path"].as_str().unwrap(),
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
        assert!(serde_json::from_str::<Value>(&pretty).is_ok());
    }
    // What is not as the package says, first.
    let notes = [
        "Pod default/full\n",
        "  dropped sk-simple.service [Install] WantedBy=: ",
        "  dropped sk-simple.service [Service] Restart=: the pod's restartPolicy",
        "  volume empty: an empty directory /var/lib/systemk/pods/",
        "  volume host: the host's /mnt/h, made if it is missing\n",
        "# /run/systemd/system/kubepods-",
    ];
    holds(&text, &notes);
    let kinds: Vec<&Value> = pod["notes"].as_array().unwrap().iter().map(|note| &note["kind"]).collect();
    assert!(kinds.contains(&&json!("dropped")), "{kinds:?}");
}

fn a_plan_says_what_would_not_work(systemd: Systemd) {
    // No agent is needed.
    let node = bare(systemd, "cli-plan-not");
    let spec = json!({"hostAliases": [{"ip": "10.0.0.9", "hostnames": ["x"]}],
        "containers": [{"name": "main", "image": "/bin/true", "tty": true}]});
    let refused = write(&node, "refused", &pod("refused", spec));
    let said = exec(&node, &format!("systemk plan {refused}"));
    assert_eq!((said.code, said.stderr.as_str()), (1, ""));
    holds(&said.stdout, &["Pod default/refused\nit would be refused:\n", "refused spec."]);
    for path in ["spec.hostAliases: ", "spec.containers[0].tty: "] {
        holds(&said.stdout, &[path]);
    }
    let said = exec(&node, &format!("systemk plan -o json {refused}"));
    let data: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.code, data["pods"][0]["refusals"].as_array().map(Vec::len)), (1, Some(2)));

    let noted = json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "/bin/true", "imagePullPolicy": "Always", "imaginary": 1}]});
    let noted = write(&node, "noted", &pod("noted", noted));
    let said = exec(&node, &format!("systemk plan {noted}"));
    assert_eq!(said.code, 0, "{said:?}");
    holds(
        &said.stderr,
        &["warning: Pod default/noted spec.containers[0].imaginary: is not a field that Kubernetes has"],
    );

    write(&node, "bad", &pod("bad", json!({"containers": [{"image": "/bin/true"}]})));
    fails(
        &node,
        "systemk plan /root/bad.json",
        2,
        &["error: /root/bad.json: Pod default/bad spec.containers[0].name: "],
    );
    fails(&node, "systemk plan /root/none.json", 1, &["systemk: cannot open /root/none.json"]);
    fails(&node, "systemk plan -o wide /root/bad.json", 2, &["invalid value 'wide'"]);
    fails(
        &node,
        "systemk plan --config /root/none.yaml /root/bad.json",
        1,
        &["the config file /root/none.yaml does not exist"],
    );
    assert_eq!(exec(&node, "ls -d /run/systemk /var/lib/systemk").code, 2);
}
