//! The cluster's own controllers and scheduler run their pods on our nodes.

use e2e::agent::{INSTALLED, SOON};
use e2e::apt_repo::{AptRepo, Archive};
use e2e::eventually::wait_until;
use e2e::member::Member;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::shell;
use super::workload::{apply, kubectl, on_nodes, pods, wait_all, wait_log, workload};

on_both! { deployments daemon_sets_and_stateful_sets jobs packages_roll_over_two_nodes }

fn deployments(systemd: Systemd) {
    let member = Member::join(systemd, "deploy").unwrap();
    let of = |word: &str| {
        let spec = json!({"containers": [shell("main", &format!("echo {word}; sleep infinity"))]});
        workload("Deployment", "web", on_nodes(&[&member], spec), json!({"replicas": 3}))
    };
    apply(&member, &of("one"));
    kubectl(&member, &["rollout", "status", "deployment/web", "--timeout=55s"]);
    let first = wait_all(&member, "web", 3, |_| true);
    apply(&member, &of("two"));
    kubectl(&member, &["rollout", "status", "deployment/web", "--timeout=55s"]);
    let second =
        wait_all(&member, "web", 3, |pod| pod["spec"]["containers"][0]["command"][2] == "echo two; sleep infinity");
    let uids = |pods: &[Value]| pods.iter().map(|pod| pod["metadata"]["uid"].clone()).collect::<Vec<_>>();
    assert!(uids(&second).iter().all(|uid| !uids(&first).contains(uid)));
    wait_log(&member, &["deployment/web"], "two\n");
    kubectl(&member, &["rollout", "undo", "deployment/web"]);
    kubectl(&member, &["rollout", "status", "deployment/web", "--timeout=55s"]);
    kubectl(&member, &["scale", "deployment/web", "--replicas=1"]);
    wait_all(&member, "web", 1, |pod| pod["spec"]["containers"][0]["command"][2] == "echo one; sleep infinity");
    kubectl(&member, &["delete", "deployment", "web"]);
    wait_until("no pod", SOON, || pods(&member, "web").is_empty().then_some(())).unwrap();
    wait_until("no unit", SOON, || {
        member.sandbox.sh("! systemctl --no-legend list-units 'systemk.*.*' | grep web").ok()
    })
    .unwrap();
}

fn daemon_sets_and_stateful_sets(systemd: Systemd) {
    let member = Member::join(systemd, "sets").unwrap();
    let serves = || json!({"containers": [shell("main", "sleep infinity & wait")]});
    apply(&member, &workload("DaemonSet", "each", on_nodes(&[&member], serves()), json!({})));
    let each = wait_all(&member, "each", 1, |_| true);
    assert_eq!(each[0]["spec"]["nodeName"], member.name);
    // One that is deleted comes back.
    kubectl(&member, &["delete", "pod", each[0]["metadata"]["name"].as_str().unwrap()]);
    wait_all(&member, "each", 1, |pod| pod["metadata"]["uid"] != each[0]["metadata"]["uid"]);

    let ordered = workload(
        "StatefulSet",
        "ordered",
        on_nodes(&[&member], serves()),
        json!({"replicas": 3, "serviceName": "ordered"}),
    );
    apply(&member, &ordered);
    let pods = wait_all(&member, "ordered", 3, |_| true);
    let mut started: Vec<(String, String)> = pods
        .iter()
        .map(|pod| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let state = &pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"];
            (text(state), text(&pod["metadata"]["name"]))
        })
        .collect();
    started.sort();
    let names: Vec<&str> = started.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["ordered-0", "ordered-1", "ordered-2"]);
}

fn jobs(systemd: Systemd) {
    let member = Member::join(systemd, "jobs").unwrap();
    let job = |script: &str| {
        let mut spec = on_nodes(&[&member], json!({"containers": [shell("main", script)]}));
        spec["restartPolicy"] = json!("Never");
        json!({"backoffLimit": 1, "template": {"spec": spec}})
    };
    let object = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "batch/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
    };
    let mut three = job("echo done");
    three["completions"] = json!(3);
    three["parallelism"] = json!(2);
    apply(&member, &object("Job", "three", three));
    kubectl(&member, &["wait", "--for=condition=complete", "job/three", "--timeout=55s"]);
    apply(&member, &object("Job", "fails", job("exit 3")));
    kubectl(&member, &["wait", "--for=condition=failed", "job/fails", "--timeout=55s"]);
    let cron = json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job("echo yearly")}});
    apply(&member, &object("CronJob", "yearly", cron));
    kubectl(&member, &["create", "job", "now", "--from=cronjob/yearly"]);
    kubectl(&member, &["wait", "--for=condition=complete", "job/now", "--timeout=55s"]);
    wait_log(&member, &["job/now"], "yearly\n");
}

/// The version of a package that a node has.
fn version(member: &Member) -> String {
    member.sandbox.sh("dpkg-query -W -f '${Version}' sk-versions").unwrap_or_default()
}

/// Waits until the Node says that it has the image, and what it takes.
fn listed_as_an_image(member: &Member, name: &str) {
    let image = wait_until("the image at the node", SOON, || {
        let node = member.kubectl().find(&["node", &member.name]).ok()??;
        let of_name = |image: &&Value| image["names"].as_array().is_some_and(|names| names.contains(&json!(name)));
        let image = node["status"]["images"].as_array()?.iter().find(of_name)?;
        image["sizeBytes"].is_number().then(|| image.clone())
    });
    let image = image.unwrap();
    let shipped =
        member.sandbox.sh("dpkg -L sk-versions | while read -r f; do [ -f \"$f\" ] && stat -c %s \"$f\"; done");
    let size: u64 = shipped.unwrap().lines().map(|line| line.parse::<u64>().unwrap()).sum();
    assert_eq!((&image["names"][0], &image["sizeBytes"]), (&json!("sk-versions"), &json!(size)));
}

fn packages_roll_over_two_nodes(systemd: Systemd) {
    let (one, two) = (Member::join(systemd, "roll-a").unwrap(), Member::join(systemd, "roll-b").unwrap());
    for member in [&one, &two] {
        AptRepo::build().unwrap().install_into(&member.sandbox, Archive::OursOnly).unwrap();
    }
    let of = |version: &str, strategy: Value| {
        let mut spec =
            on_nodes(&[&one, &two], json!({"containers": [{"name": "c", "image": format!("sk-versions={version}")}]}));
        spec["topologySpreadConstraints"] = json!([{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "pkg"}},
        }]);
        workload("Deployment", "pkg", spec, json!({"replicas": 2, "strategy": strategy}))
    };
    let in_place = || json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
    let rolled = || one.kubectl().run(&["rollout", "status", "deployment/pkg", "--timeout=5s", "-n", &one.name]).ok();
    apply(&one, &of("1.0-1", in_place()));
    wait_until("the first version on both nodes", 2 * INSTALLED, rolled).unwrap();
    assert_eq!((version(&one), version(&two)), ("1.0-1".to_owned(), "1.0-1".to_owned()));
    listed_as_an_image(&one, "sk-versions=1.0-1");
    apply(&one, &of("2.0-1", in_place()));
    wait_until("the second version on both nodes", 2 * INSTALLED, rolled).unwrap();
    wait_all(&one, "pkg", 2, |pod| pod["spec"]["containers"][0]["image"] == "sk-versions=2.0-1");
    assert_eq!((version(&one), version(&two)), ("2.0-1".to_owned(), "2.0-1".to_owned()));

    // With the default surge the new pod and the old one would wait for each other: it says so, and what to do.
    let surge = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    apply(&one, &of("1.0-1", surge));
    let said = wait_until("the new pod to say what it waits for", 2 * SOON, || {
        let all = pods(&one, "pkg");
        let messages = all.iter().filter_map(|pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str().map(str::to_owned)
        });
        messages.into_iter().find(|message| message.contains("in use by pod"))
    })
    .unwrap();
    assert!(said.contains(&format!("{}/pkg-", one.name)) && said.contains("maxSurge: 0"), "{said}");
}
