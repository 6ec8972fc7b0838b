//! Who may ask a node's kubelet API for what, and with what certificate it answers.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::agent::SOON;
use e2e::command::{require, run_within};
use e2e::control_plane::Identity;
use e2e::eventually::wait_until;
use e2e::member::{Member, cluster};
use e2e::sandbox::Systemd;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::script;

on_both! { who_may_ask certificate_of_files }

/// Tells the API server where the node's kubelet API is, if the node has not done so itself.
pub(super) fn register(member: &Member) {
    let (name, kubectl) = (member.name.as_str(), member.kubectl());
    if kubectl.find(&["node", name]).unwrap().is_none() {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        kubectl.apply(&node.to_string()).unwrap();
    }
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": member.address.to_string()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
    }});
    kubectl.run(&["patch", "node", name, "--subresource=status", "-p", &status.to_string()]).unwrap();
}

/// Somebody who talks to the node itself.
pub(super) struct Asker {
    url: String,
    keys: TempDir,
    flags: Vec<String>,
}

impl Asker {
    fn anonymous(member: &Member) -> Self {
        require("curl", "curl").unwrap();
        let flags = vec!["--insecure".to_owned()];
        Self { url: format!("https://{}:10250", member.address), keys: tempfile::tempdir().unwrap(), flags }
    }

    /// With the rights that an API server has on its nodes.
    pub(super) fn of_api_server(member: &Member) -> Self {
        Self::of(member, "kubernetes-admin-of-nodes", Some("system:masters"))
    }

    /// With a certificate of the cluster's CA.
    fn of(member: &Member, user: &str, group: Option<&str>) -> Self {
        let identity = match group {
            Some(group) => Identity::member(user, group),
            None => Identity::user(user),
        };
        Self::with(member, &identity)
    }

    fn with(member: &Member, identity: &Identity) -> Self {
        let kubeconfig = member.cluster.kubeconfig(identity).unwrap();
        let data = |key: &str| {
            let line = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap();
            STANDARD.decode(line.trim()).unwrap()
        };
        Self::anonymous(member).showing(&data("client-certificate-data:"), &data("client-key-data:"))
    }

    fn showing(mut self, certificate: &[u8], key: &[u8]) -> Self {
        for (flag, content) in [("--cert", certificate), ("--key", key)] {
            let file = self.keys.path().join(flag);
            fs::write(&file, content).unwrap();
            self.flags.extend([flag.to_owned(), file.display().to_string()]);
        }
        self
    }

    fn bearing(mut self, token: &str) -> Self {
        self.flags.extend(["--header".to_owned(), format!("Authorization: Bearer {token}")]);
        self
    }

    fn only_if_signed_by(mut self, certificate: &Path) -> Self {
        self.flags.retain(|flag| flag != "--insecure");
        self.flags.extend(["--cacert".to_owned(), certificate.display().to_string()]);
        self
    }

    /// The code and the text of the answer; 0 and what curl says when there is none.
    pub(super) fn get(&self, path: &str) -> (u16, String) {
        self.ask(path, &[])
    }

    fn ask(&self, path: &str, more: &[&str]) -> (u16, String) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--path-as-is", "--max-time", "20"]);
        curl.args(["--write-out", "\n%{http_code}"]).args(&self.flags).args(more);
        let said = run_within(SOON, curl.arg(format!("{}{path}", self.url)), b"").unwrap();
        let (text, code) = said.stdout.rsplit_once('\n').unwrap();
        let code = code.parse().unwrap();
        (code, if code == 0 { said.stderr } else { text.to_owned() })
    }
}

fn who_may_ask(systemd: Systemd) {
    let member = Member::join(systemd, "access").unwrap();
    register(&member);
    member.run("web", script("echo hello; sleep infinity")).unwrap();
    member.wait_running("web").unwrap();
    let kubectl = member.kubectl();
    let logs = format!("/containerLogs/{}/web/main", member.name);

    let nobody = Asker::anonymous(&member);
    for path in ["/healthz", "/pods", &logs, "/", "/nothing", "/exec/a/b/c"] {
        assert_eq!(nobody.get(path), (401, "Unauthorized".to_owned()), "{path}");
    }
    assert_eq!(Asker::anonymous(&member).bearing("made-up").get("/pods").0, 401);
    foreign_certificates(&member);

    // A user without a role, whose roles come one by one.
    let user = format!("ann-{}", member.name);
    let ann = Asker::of(&member, &user, None);
    let (code, text) = ann.get("/pods");
    let said = format!("Forbidden (user={user}, verb=get, resource=nodes, subresource(s)=[pods proxy])");
    assert_eq!((code, text), (403, said));
    assert_eq!(ann.get(&logs).0, 403);
    let bind = |role: &str, resource: &str, subject: &str| {
        let name = format!("{role}-{}", member.name);
        kubectl.run(&["create", "clusterrole", &name, "--verb=get", &format!("--resource={resource}")]).unwrap();
        kubectl.run(&["create", "clusterrolebinding", &name, &format!("--clusterrole={name}"), subject]).unwrap();
    };
    // A refusal is good for 30 s, so nobody has asked as this one yet.
    let bob = format!("bob-{}", member.name);
    bind("pods", "nodes/pods", &format!("--user={bob}"));
    let bob = Asker::of(&member, &bob, None);
    let (code, text) = bob.get("/pods");
    let list: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{code} {error}: {text}"));
    assert_eq!((code, &list["kind"], &list["apiVersion"]), (200, &json!("PodList"), &json!("v1")));
    let pod = list["items"].as_array().unwrap().iter().find(|pod| pod["metadata"]["name"] == "web").unwrap();
    assert_eq!((&pod["status"]["phase"], &pod["spec"]["nodeName"]), (&json!("Running"), &json!(member.name)));
    assert_eq!(bob.get(&logs).0, 403);

    // A token of a service account; what it may read it may not run.
    let account = ["-n", member.name.as_str()];
    kubectl.run(&[&["create", "serviceaccount", "scraper"][..], &account].concat()).unwrap();
    bind("proxy", "nodes/proxy", &format!("--serviceaccount={}:scraper", member.name));
    let token = kubectl.run(&[&["create", "token", "scraper"][..], &account].concat()).unwrap();
    let scraper = Asker::anonymous(&member).bearing(token.trim());
    assert_eq!(scraper.get(&logs), (200, "hello\n".to_owned()));
    assert_eq!(scraper.get("/healthz"), (200, "ok".to_owned()));
    assert_eq!(scraper.get("/exec/a/b/c").0, 403);
    assert_eq!(scraper.ask("/pods", &["--request", "DELETE"]).0, 403);

    let all = Asker::of_api_server(&member);
    // Whoever connects and says nothing keeps nobody out.
    let silent: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect((member.address, 10250)).unwrap()).collect();
    assert_eq!(kubectl.run(&[&["logs", "web"][..], &account].concat()).unwrap(), "hello\n");
    drop(silent);
    assert_eq!(all.get("/exec/a/b/c"), (501, "systemk does not support exec in this version".to_owned()));
    assert_eq!(all.get("/portForward/a/b").0, 501);
    assert_eq!(all.get("/nothing"), (404, "404 page not found".to_owned()));
    assert_eq!(all.ask("/pods", &["--request", "POST"]), (405, "405: Method Not Allowed".to_owned()));
    assert!(all.ask(&logs, &["--request", "DELETE", "--include"]).1.to_lowercase().contains("\nallow: get"));
    for version in ["--http1.1", "--http2"] {
        assert_eq!(all.ask(&logs, &[version]), (200, "hello\n".to_owned()), "{version}");
    }
    let journal = member.sandbox.sh("journalctl -u systemk --no-pager -o cat").unwrap();
    assert!(!journal.contains(token.trim()), "a token in the agent's log");
    for role in ["pods", "proxy"] {
        let name = format!("{role}-{}", member.name);
        kubectl.run(&["delete", "clusterrole,clusterrolebinding", &name]).unwrap();
    }
}

/// They do not get as far as a question.
fn foreign_certificates(member: &Member) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "kubernetes-admin");
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    let certificate = params.self_signed(&key).unwrap();
    let foreign = Asker::anonymous(member).showing(certificate.pem().as_bytes(), key.serialize_pem().as_bytes());
    let expired = Asker::with(member, &Identity::member("kubernetes-admin", "system:masters").expired());
    for asker in [foreign, expired] {
        let (code, said) = asker.get("/healthz");
        assert_eq!(code, 0, "{said}");
    }
}

fn certificate_of_files(systemd: Systemd) {
    let flags = "--certfile /etc/systemk/tls/tls.crt --keyfile /etc/systemk/tls/tls.key";
    let member = Member::prepare(cluster().unwrap(), systemd, "certfile", flags).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let renew = |name: &str| {
        let address = member.address.to_string();
        let (params, key) = (CertificateParams::new(vec![address]).unwrap(), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap().pem();
        let file = directory.path().join(name);
        fs::write(&file, &certificate).unwrap();
        // As cert-manager does: never one without the other.
        member.sandbox.write_file(format!("/etc/systemk/{name}/tls.crt"), &certificate).unwrap();
        member.sandbox.write_file(format!("/etc/systemk/{name}/tls.key"), key.serialize_pem()).unwrap();
        member
            .sandbox
            .sh(&format!("ln -sfn {name} /etc/systemk/tls.new && mv -T /etc/systemk/tls.new /etc/systemk/tls"))
            .unwrap();
        Asker::of_api_server(&member).only_if_signed_by(&file)
    };
    let first = renew("first");
    member.start_agent().unwrap();
    assert_eq!(first.get("/healthz"), (200, "ok".to_owned()));
    let second = renew("second");
    wait_until("the new certificate", SOON, || (second.get("/healthz").0 == 200).then_some(())).unwrap();
    assert_eq!(first.get("/healthz").0, 0);
    // One that cannot be used is not.
    member.sandbox.write_file("/etc/systemk/second/tls.key", "nonsense").unwrap();
    let warned = || {
        member.sandbox.sh("journalctl -u systemk --no-pager -o cat").unwrap().contains("tls.key: it has no private key")
    };
    wait_until("a warning", SOON, || {
        assert_eq!(second.get("/healthz").0, 200);
        warned().then_some(())
    })
    .unwrap();
    // Nothing of ours was made for it.
    assert!(member.sandbox.sh("ls /var/lib/systemk/pki").is_err());
}
