//! `cargo xtask demo --cluster`: the node joins an unmodified control plane, whose controllers roll packages on it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use e2e::apt_repo::{AptRepo, Archive};
use e2e::control_plane::{ControlPlane, ControlPlaneSpec};
use e2e::eventually::wait_until;
use e2e::member::Member;
use e2e::progress;
use e2e::sandbox::Systemd;

use super::place::{self, shown};
use super::say;
use crate::cargo;

const SOON: Duration = Duration::from_secs(60);

/// Runs it. Control plane and node are gone when it returns, also after an error.
pub(super) fn main(systemd: Systemd) -> Result<()> {
    // By itself first: its progress has lines of its own.
    e2e::kubernetes::directory()?;
    let control_plane = progress::during("starting etcd, API server, controllers and scheduler", || {
        ControlPlane::start(ControlPlaneSpec::for_test("demo"))
    })?;
    let control_plane = Arc::new(control_plane);
    let member = progress::during(&format!("booting a node with systemd {}", systemd.version()), || {
        let member = Member::prepare(Arc::clone(&control_plane), systemd, "demo", "")?;
        AptRepo::build()?.install_into(&member.sandbox, Archive::WithDebian)?;
        Ok(member)
    })?;
    let demo = Demo { member, home: cargo::workspace().join("e2e/manifests/cluster") };
    demo.show()?;
    progress::line("\nremoving the node and the control plane");
    Ok(())
}

struct Demo {
    member: Member,
    /// Where commands run.
    home: PathBuf,
}

impl Demo {
    fn show(&self) -> Result<()> {
        let name = &self.member.name;
        say("A control plane of Kubernetes v1.37, and no node.")?;
        self.shell("kubectl version")?;
        self.shell("kubectl get nodes")?;

        say("The agent joins, with the rights of a kubelet and no more.")?;
        self.inside("systemctl cat systemk | grep ExecStart")?;
        self.inside("systemctl start systemk")?;
        self.shell(&format!("kubectl wait --for=condition=Ready --timeout=60s node/{name}"))?;
        self.shell(&format!("kubectl label node {name} node-role.kubernetes.io/agent="))?;
        self.shell("kubectl get nodes -o wide")?;

        say("A Deployment whose image is a package of the distribution.")?;
        self.shell("cat uptimed.yaml")?;
        self.shell("kubectl apply -f uptimed.yaml")?;
        self.shell("kubectl rollout status deployment/uptimed --timeout=300s")?;
        self.shell("kubectl get pods -o wide")?;
        self.inside("systemctl list-units --no-pager --no-legend 'systemk.*.*' 'kubepods*-pod*'")?;
        self.shell("kubectl get events --field-selector source=kubelet")?;

        say(
            "A changed setting rolls it: the old pod ends before the new one begins, as a host has one of each daemon.",
        )?;
        self.shell("kubectl set env deployment/uptimed TZ=UTC")?;
        self.shell("kubectl rollout status deployment/uptimed --timeout=60s")?;
        self.shell("kubectl get pods -o custom-columns=NAME:.metadata.name,PHASE:.status.phase,TZ:.spec.containers[0].env[0].value")?;

        say("One of our own packages, and its next version.")?;
        self.shell("kubectl apply -f versions.yaml")?;
        self.shell("kubectl rollout status deployment/versions --timeout=60s")?;
        self.shell("kubectl logs deployment/versions")?;
        self.shell("kubectl set image deployment/versions versions=sk-versions=2.0-1")?;
        self.shell("kubectl rollout status deployment/versions --timeout=60s")?;
        self.said("versions", "2.0-1")?;
        self.shell("kubectl logs deployment/versions")?;
        self.inside("dpkg-query -W sk-versions")?;

        say("Away with them: nothing is left.")?;
        self.shell("kubectl delete deployment uptimed versions")?;
        self.shell("kubectl wait --for=delete pod --all --timeout=60s")?;
        self.inside("systemctl list-units --all --no-pager --no-legend 'systemk.*.*' 'kubepods*-pod*' | wc -l")?;
        let left = "systemctl list-units --all --no-legend 'systemk.*.*' 'kubepods*-pod*'; \
                    ls -A /run/systemd/system | grep '^systemk[.].*[.]' || true; find /var/lib/systemk/pods -mindepth 1";
        let left = self.member.sandbox.sh(left)?;
        if !left.trim().is_empty() {
            bail!("something is left:\n{left}");
        }
        Ok(())
    }

    /// Shows what a person at kubectl types.
    fn shell(&self, script: &str) -> Result<()> {
        let kubectl = self.member.kubectl();
        let programs = kubectl.program().parent().context("kubectl's directory")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command.args(["-c", script]).current_dir(&self.home);
        command.env("PATH", format!("{}:{path}", programs.display())).env("KUBECONFIG", kubectl.kubeconfig());
        command.env("KUBECACHEDIR", self.member.cluster.admin_kubeconfig().with_file_name("kubectl-cache"));
        shown(command, script)
    }

    /// Shows what a person on the node types.
    fn inside(&self, script: &str) -> Result<()> {
        let enter = self.member.sandbox.enter_argv()?;
        let mut command = Command::new(&enter[0]);
        command.args(&enter[1..]).args(["bash", "-c", script]).env("SYSTEMD_PAGER", "cat");
        shown(command, &format!("ssh node {script}"))
    }

    /// Waits until the log of a Deployment's pod has `text`: it may run a moment before its program speaks.
    fn said(&self, deployment: &str, text: &str) -> Result<()> {
        wait_until(&format!("{deployment} to say {text}"), SOON, || {
            let log = self.member.kubectl().run(&["logs", &format!("deployment/{deployment}")]).ok()?;
            (log.contains(text) || place::interrupted()).then_some(())
        })
    }
}
