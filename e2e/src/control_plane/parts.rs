//! The four programs of a control plane and the arguments that each is started with.
//!
//! Paths are relative to the control plane's directory, in which all of them run: a socket's path has to be short.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::command;

/// The range of the services' addresses, and the API server's own in it.
const SERVICES: &str = "10.96.0.0/16";
pub(super) const SERVICE_ADDRESS: &str = "10.96.0.1";

/// Where etcd listens: nobody but the API server has to reach it, and the directory is root's alone.
const ETCD: &str = "unix://etcd.sock";
const ETCD_PEER: &str = "unix://etcd-peer.sock";

/// Requests per second that a client allows itself. At the default of 20 it takes the controller manager 5 s to make its service
/// accounts, and 100 pods the scheduler 2 s: nodes are measured here, not those.
const QPS: &str = "--kube-api-qps=500";
const BURST: &str = "--kube-api-burst=500";

/// Where the API server writes what it was asked for.
pub(super) const AUDIT_LOG: &str = "audit.log";
pub(super) const AUDIT_POLICY: (&str, &str) = (
    "audit-policy.yaml",
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n",
);

/// A program of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// Where the API server keeps everything.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers: service accounts, Deployments, node life cycle, certificate signing, ...
    ControllerManager,
    /// The scheduler.
    Scheduler,
}

impl Part {
    /// The name of its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }

    /// The kubeconfig with which it talks to the API server, and who it is there.
    pub(super) fn client(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::ControllerManager => Some(("controller-manager.kubeconfig", "system:kube-controller-manager")),
            Self::Scheduler => Some(("scheduler.kubeconfig", "system:kube-scheduler")),
            Self::Etcd | Self::ApiServer => None,
        }
    }

    /// Starts it from the programs in `programs`, in `home`, in a session of its own: neither a terminal's signals nor the end
    /// of this process end it. What it says goes to `home`/PROGRAM.log.
    pub(super) fn spawn(self, programs: &Path, home: &Path, port: u16, audit: bool) -> Result<Child> {
        let log = File::options().create(true).append(true).open(home.join(format!("{}.log", self.program())));
        let log = log.with_context(|| format!("open the log of {}", self.program()))?;
        let mut command = Command::new("setsid");
        command.arg(programs.join(self.program())).args(self.arguments(port, audit)).current_dir(home);
        command.stdin(Stdio::null()).stdout(log.try_clone().context("share a log")?).stderr(log);
        command.spawn().with_context(|| format!("start {}", self.program()))
    }

    /// The end of what it said.
    pub(super) fn said(self, home: &Path) -> String {
        let log = std::fs::read(home.join(format!("{}.log", self.program()))).unwrap_or_default();
        command::tail(&String::from_utf8_lossy(&log), 15)
    }

    fn arguments(self, port: u16, audit: bool) -> Vec<String> {
        match self {
            Self::Etcd => words(&[
                "--data-dir=etcd",
                // All of it is thrown away in the end, and tests wait for every write.
                "--unsafe-no-fsync",
                &format!("--listen-client-urls={ETCD}"),
                &format!("--advertise-client-urls={ETCD}"),
                &format!("--listen-peer-urls={ETCD_PEER}"),
                &format!("--initial-advertise-peer-urls={ETCD_PEER}"),
                &format!("--initial-cluster=default={ETCD_PEER}"),
                "--log-level=warn",
            ]),
            Self::ApiServer => api_server(port, audit),
            Self::ControllerManager => words(&[
                "--kubeconfig=controller-manager.kubeconfig",
                // One of a kind: it need not ask whether it may lead, and nobody reads its metrics.
                "--leader-elect=false",
                "--secure-port=0",
                "--use-service-account-credentials=true",
                "--controllers=*,bootstrap-signer-controller,token-cleaner-controller",
                "--root-ca-file=pki/ca.crt",
                "--service-account-private-key-file=pki/sa.key",
                "--cluster-signing-cert-file=pki/ca.crt",
                "--cluster-signing-key-file=pki/ca.key",
                QPS,
                BURST,
            ]),
            Self::Scheduler => {
                words(&["--kubeconfig=scheduler.kubeconfig", "--leader-elect=false", "--secure-port=0", QPS, BURST])
            }
        }
    }
}

fn api_server(port: u16, audit: bool) -> Vec<String> {
    let mut arguments = words(&[
        &format!("--etcd-servers={ETCD}"),
        "--bind-address=127.0.0.1",
        &format!("--secure-port={port}"),
        // Nothing but this machine reaches it, so there is no address to announce as that of the service `kubernetes`.
        "--endpoint-reconciler-type=none",
        "--advertise-address=192.0.2.1",
        &format!("--service-cluster-ip-range={SERVICES}"),
        "--tls-cert-file=pki/apiserver.crt",
        "--tls-private-key-file=pki/apiserver.key",
        "--client-ca-file=pki/ca.crt",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--enable-bootstrap-token-auth=true",
        "--allow-privileged=true",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--service-account-key-file=pki/sa.pub",
        "--service-account-signing-key-file=pki/sa.key",
        "--kubelet-client-certificate=pki/apiserver-kubelet-client.crt",
        "--kubelet-client-key=pki/apiserver-kubelet-client.key",
        // The host name of a sandbox is known to the sandbox alone.
        "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
        "--requestheader-client-ca-file=pki/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--proxy-client-cert-file=pki/front-proxy-client.crt",
        "--proxy-client-key-file=pki/front-proxy-client.key",
    ]);
    if audit {
        arguments.push(format!("--audit-log-path={AUDIT_LOG}"));
        arguments.push(format!("--audit-policy-file={}", AUDIT_POLICY.0));
    }
    arguments
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
