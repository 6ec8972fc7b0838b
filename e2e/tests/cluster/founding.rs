//! What the founding program's manifests show, in a real cluster: packages and host binaries side by side, a Deployment that
//! lists its token, prometheus that finds and scrapes pods through the API, and the flags of that program's README.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::process::Command;

use e2e::agent::{INSTALLED, SOON};
use e2e::apt_repo::{AptRepo, Archive};
use e2e::command::{require, run_within};
use e2e::debian_repo;
use e2e::eventually::wait_until;
use e2e::member::{Member, cluster, own_address};
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::workload::{apply, kubectl, on_nodes, pods, wait_all, wait_log, workload};
use super::{script, shell};

on_both! {
    packages_and_shells
    a_failing_container_is_one_pod
    prometheus_finds_pods_and_scrapes_them
    addresses_and_directories_of_flags
    addresses_of_version_6
}

/// A node with its kubelet API there; its agent is still to be started.
fn at(address: SocketAddr, systemd: Systemd, what: &str, flags: &str) -> Member {
    let binary = e2e::agent::binary().unwrap();
    Member::prepare_at(address, &binary, cluster().unwrap(), systemd, what, flags).unwrap()
}

fn mounted(mut container: Value, mounts: &[(&str, &str)]) -> Value {
    let mounts: Vec<Value> = mounts.iter().map(|(volume, path)| json!({"name": volume, "mountPath": path})).collect();
    container["volumeMounts"] = json!(mounts);
    container
}

fn pod(member: &Member, name: &str, spec: Value) -> String {
    let metadata = json!({"name": name, "namespace": member.name, "labels": {"app": name}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).to_string()
}

/// Waits for a line of a container of a pod as kubectl shows it.
fn says(member: &Member, pod: &str, container: &str, line: &str) {
    let log = || member.kubectl().run(&["logs", pod, "-c", container, "-n", &member.name]).unwrap_or_default();
    wait_until(line, member.patience, || log().lines().any(|l| l == line).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {:?}", log()));
}

/// Packages that pods of this node may name, which then wait for their installation.
fn offer(member: &mut Member, packages: &[&str]) {
    debian_repo::install_into(&member.sandbox, packages).unwrap();
    member.node.patience = INSTALLED;
}

fn packages_and_shells(systemd: Systemd) {
    let mut member = Member::join(systemd, "founding").unwrap();
    offer(&mut member, &["uptimed", "openssh-server"]);

    // `uptimed-deploy`: a package beside a shell with a disk, and the token that every pod has.
    let token = "/var/run/secrets/kubernetes.io/serviceaccount";
    let lists = format!("touch /data/cdrom/here; ls /data/cdrom; ls {token}; exec sleep infinity");
    let of_deployment = json!({
        "volumes": [{"name": "disk", "emptyDir": {}}],
        "containers": [
            {"name": "uptimed", "image": "uptimed"},
            mounted(shell("while", &lists), &[("disk", "/data/cdrom")]),
        ],
    });
    let scaled = |replicas: u32| {
        workload("Deployment", "uptimed", on_nodes(&[&member], of_deployment.clone()), json!({"replicas": replicas}))
    };
    apply(&member, &scaled(1));
    let first = wait_all(&member, "uptimed", 1, |_| true);
    apply(&member, &scaled(3));
    let three = wait_all(&member, "uptimed", 3, |_| true);
    let names: Vec<&str> = three.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
    assert!(names.contains(&first[0]["metadata"]["name"].as_str().unwrap()), "{names:?}");
    for name in names {
        wait_log(&member, &[name, "-c", "while"], "here\nca.crt\nnamespace\ntoken\n");
    }

    // `uptimed`: an init container, another's user, and a file of a ConfigMap whose change is seen.
    kubectl(&member, &["create", "configmap", "words", "--from-literal=word=first"]);
    let reads = "id -u; until false; do cat /etc/words/word; echo; sleep 0.2; done";
    let spec = json!({
        "nodeName": member.name, "terminationGracePeriodSeconds": 5, "securityContext": {"runAsUser": 1},
        "initContainers": [shell("waits", "sleep 1; echo waited")],
        "volumes": [{"name": "words", "configMap": {"name": "words"}}],
        "containers": [shell("other", "exec sleep infinity"), mounted(shell("reads", reads), &[("words", "/etc/words")])],
    });
    apply(&member, &pod(&member, "reader", spec));
    says(&member, "reader", "waits", "waited");
    says(&member, "reader", "reads", "1");
    says(&member, "reader", "reads", "first");
    kubectl(&member, &["patch", "configmap", "words", "-p", r#"{"data": {"word": "second"}}"#]);
    says(&member, "reader", "reads", "second");

    // `while`: one writes what the other sees.
    let spec = json!({
        "nodeName": member.name, "terminationGracePeriodSeconds": 5,
        "volumes": [{"name": "disk", "emptyDir": {}}],
        "containers": [
            mounted(shell("writes", "echo seen >/w/file; exec sleep infinity"), &[("disk", "/w")]),
            mounted(shell("lists", "until [ -s /r/file ] && cat /r/file; do sleep 0.1; done; exec sleep infinity"), &[("disk", "/r")]),
        ],
    });
    apply(&member, &pod(&member, "while", spec));
    says(&member, "while", "lists", "seen");

    // `openssh-server`: the package's name is not its unit's.
    let listens = json!({
        "name": "sshd", "image": "openssh-server",
        "args": ["-D", "-p", "2222", "-o", format!("ListenAddress={}", member.address)],
    });
    let spec = json!({"nodeName": member.name, "terminationGracePeriodSeconds": 5, "containers": [listens]});
    apply(&member, &pod(&member, "sshd", spec));
    member.wait_running("sshd").unwrap();
    let greeting = format!("exec 3<>/dev/tcp/{}/2222; read -t 5 -r line <&3; echo \"$line\"", member.address);
    let greets = || member.sandbox.exec(&["bash", "-c", &greeting]).ok().filter(|o| o.stdout.contains("SSH-2.0"));
    wait_until("the server to greet", SOON, greets).unwrap();

    // `coredns`: a package file from afar.
    let repo = AptRepo::build().unwrap();
    repo.install_into(&member.sandbox, Archive::OursOnly).unwrap();
    let server = repo.serve_https(&member.sandbox).unwrap();
    let image = server.url(&AptRepo::deb("sk-versions", "1.0-1"));
    let spec = json!({
        "nodeName": member.name, "terminationGracePeriodSeconds": 5, "containers": [{"name": "c", "image": image}],
    });
    apply(&member, &pod(&member, "remote", spec));
    says(&member, "remote", "c", "sk-versions: 1.0-1");
}

/// The founding program's Deployment of such a container had made twelve pods within a minute.
fn a_failing_container_is_one_pod(systemd: Systemd) {
    let member = Member::join(systemd, "fails").unwrap();
    let fails = on_nodes(&[&member], json!({"containers": [shell("main", "exit 3")]}));
    apply(&member, &workload("Deployment", "fails", fails, json!({"replicas": 1})));
    let restarted = || {
        let all = pods(&member, "fails");
        let container = &all.first()?["status"]["containerStatuses"][0];
        let again = container["restartCount"].as_u64() >= Some(2);
        (again && container["state"]["waiting"]["reason"] == "CrashLoopBackOff").then_some(all)
    };
    let all = wait_until("the second restart", 2 * SOON, restarted).unwrap();
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_eq!(all[0]["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(all[0]["status"]["phase"], "Running");
}

/// Debian 13's prometheus talks to the API itself. Debian 12's is built without that: there a second container of the pod asks,
/// with the same token, and writes down what it finds.
fn discovery(systemd: Systemd, member: &Member) -> Value {
    match systemd {
        Systemd::V257 => json!({
            "kubernetes_sd_configs": [{
                "role": "pod", "namespaces": {"names": [member.name]},
                "selectors": [{"role": "pod", "label": "app=exporter"}],
            }],
            "relabel_configs": [{"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"}],
        }),
        _ => json!({"file_sd_configs": [{"files": ["/targets/pods.json"], "refresh_interval": "1s"}]}),
    }
}

const ASKS: &str = r#"
list='{range .items[?(@.status.podIP)]}{"{\"targets\": [\""}{.status.podIP}:{.spec.containers[0].ports[0].containerPort}{"\"], \"labels\": {\"pod\": \""}{.metadata.name}{"\"}},"}{end}'
while true; do
    found=$(HOME=/tmp kubectl get pods -l app=exporter -o jsonpath="$list") &&
        echo "[${found%,}]" >/targets/new && mv /targets/new /targets/pods.json
    sleep 0.5
done
"#;

fn prometheus_finds_pods_and_scrapes_them(systemd: Systemd) {
    require("curl", "curl").unwrap();
    // A pod's address is the node's external one, of which this machine has one for all nodes.
    let address = own_address();
    let flags = format!("--node-external-ip {address}");
    let mut member = at((address, 10250).into(), systemd, "prometheus", &flags);
    member.start_agent().unwrap();
    offer(&mut member, &["prometheus", "prometheus-node-exporter"]);
    let account = format!("{}:prometheus", member.name);
    kubectl(&member, &["create", "serviceaccount", "prometheus"]);
    kubectl(&member, &["create", "role", "finds", "--verb=get,list,watch", "--resource=pods"]);
    kubectl(&member, &["create", "rolebinding", "finds", "--role=finds", &format!("--serviceaccount={account}")]);
    let mut job = discovery(systemd, &member);
    job["job_name"] = json!("pods");
    job["scrape_interval"] = json!("1s");
    let configuration = json!({"scrape_configs": [job]}).to_string();
    kubectl(&member, &["create", "configmap", "prometheus", &format!("--from-literal=prometheus.yml={configuration}")]);

    let server = json!({
        "name": "server", "image": "prometheus",
        "args": [
            "--config.file=/etc/prometheus.d/prometheus.yml", "--storage.tsdb.path=/tsdb",
            format!("--web.listen-address={}:9090", member.address),
        ],
    });
    let volumes = &[("configuration", "/etc/prometheus.d"), ("tsdb", "/tsdb"), ("targets", "/targets")];
    let mut containers = vec![mounted(server, volumes)];
    if systemd == Systemd::V252 {
        containers.push(mounted(shell("asks", ASKS), &[("targets", "/targets")]));
    }
    let spec = json!({
        "nodeName": member.name, "serviceAccountName": "prometheus", "terminationGracePeriodSeconds": 5,
        "containers": containers,
        "volumes": [
            {"name": "configuration", "configMap": {"name": "prometheus"}},
            {"name": "tsdb", "emptyDir": {}}, {"name": "targets", "emptyDir": {}},
        ],
    });
    apply(&member, &pod(&member, "prometheus", spec));
    member.wait_running("prometheus").unwrap();

    export(&member, "one", 9101);
    wait_up(&member, &["one"]);
    export(&member, "two", 9102);
    wait_up(&member, &["one", "two"]);
    kubectl(&member, &["delete", "pod", "one"]);
    wait_up(&member, &["two"]);
}

/// A pod that has something to scrape.
fn export(member: &Member, name: &str, port: u16) {
    let container = json!({
        "name": "exporter", "image": "prometheus-node-exporter", "ports": [{"containerPort": port}],
        "args": [format!("--web.listen-address={}:{port}", member.address)],
    });
    let spec = json!({"nodeName": member.name, "terminationGracePeriodSeconds": 5, "containers": [container]});
    let metadata = json!({"name": name, "namespace": member.name, "labels": {"app": "exporter"}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    apply(member, &pod.to_string());
    member.wait_running(name).unwrap();
}

/// Waits until prometheus scrapes just these pods, all with success.
fn wait_up(member: &Member, names: &[&str]) {
    let url = format!("http://{}:9090/api/v1/targets?state=active", member.address);
    let ask = || {
        let mut curl = Command::new("curl");
        let said = run_within(SOON, curl.args(["--silent", "--noproxy", "*", "--max-time", "5", &url]), b"").ok()?;
        serde_json::from_str::<Value>(&said.stdout).ok()
    };
    let up = || {
        let answer = ask()?;
        let targets = answer["data"]["activeTargets"].as_array()?;
        let mut healthy: Vec<&str> = targets
            .iter()
            .filter(|target| target["health"] == "up")
            .filter_map(|target| target["labels"]["pod"].as_str())
            .collect();
        healthy.sort_unstable();
        (healthy == names && targets.len() == names.len()).then_some(())
    };
    wait_until(&format!("{names:?} to be scraped"), SOON, up).unwrap_or_else(|error| {
        let log = member.kubectl().run(&["logs", "prometheus", "--all-containers", "-n", &member.name]);
        panic!("{error}: {:#?}\n{}", ask(), log.unwrap_or_else(|error| format!("{error:#}")))
    });
}

fn addresses_and_directories_of_flags(systemd: Systemd) {
    // An address of this machine that the API server does not need to reach.
    let flags = "--node-external-ip 192.0.2.7 --dir /srv/allowed -d /data";
    let member = Member::prepare(cluster().unwrap(), systemd, "flags", flags).unwrap();
    member.sandbox.sh("mkdir -p /srv/allowed/in /srv/other; echo found >/srv/allowed/in/file").unwrap();
    member.start_agent().unwrap();
    let of = |path: &str| {
        let mut spec =
            script("cat /there/file; echo $SYSTEMK_NODE_INTERNAL_IP $SYSTEMK_NODE_EXTERNAL_IP; exec sleep infinity");
        spec["volumes"] = json!([{"name": "there", "hostPath": {"path": path}}]);
        spec["containers"][0]["volumeMounts"] = json!([{"name": "there", "mountPath": "/there"}]);
        spec
    };
    member.run("allowed", of("/srv/allowed/in")).unwrap();
    let pod = member.wait_running("allowed").unwrap();
    let status = &pod["status"];
    assert_eq!((&status["podIP"], &status["podIPs"]), (&json!("192.0.2.7"), &json!([{"ip": "192.0.2.7"}])));
    assert_eq!(status["hostIP"], member.address.to_string());
    says(&member, "allowed", "main", "found");
    says(&member, "allowed", "main", &format!("{} 192.0.2.7", member.address));

    member.run("elsewhere", of("/srv/other")).unwrap();
    let refused = member.wait_pod("elsewhere", "a refusal", |status| status["phase"] == "Failed").unwrap();
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.contains("/srv/other") && message.contains("--dir"), "{message}");
}

/// The founding program took the port of such an address apart wrongly.
fn addresses_of_version_6(systemd: Systemd) {
    // Nobody else of this machine's has it; the agent takes it a moment later.
    let port = TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap().port();
    let member = at((Ipv6Addr::LOCALHOST, port).into(), systemd, "six", "--node-external-ip ::1");
    member.start_agent().unwrap();
    let asked = ["node", &member.name];
    let node = member.kubectl().wait_for("the node", SOON, &asked, |node| !node["status"]["addresses"].is_null());
    let node = node.unwrap();
    assert_eq!(node["status"]["addresses"][0], json!({"type": "InternalIP", "address": "::1"}));
    assert_eq!(node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"], port);
    member.run("six", script("echo six; exec sleep infinity")).unwrap();
    let pod = member.wait_running("six").unwrap();
    assert_eq!((&pod["status"]["podIP"], &pod["status"]["hostIP"]), (&json!("::1"), &json!("::1")));
    says(&member, "six", "main", "six");
}
