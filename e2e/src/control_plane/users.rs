//! Users of a control plane: their kubeconfigs, and their kubectl.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use super::kubeconfig::{self, Credentials};
use super::{ControlPlane, Identity, Kubectl};

/// The administrator's kubeconfig in the control plane's directory.
pub(super) const ADMIN: &str = "admin.kubeconfig";

/// Who may ask for a node's certificate with a bootstrap token, and whose requests are approved: what kubeadm binds.
const BOOTSTRAP_ROLES: &str = include_str!("bootstrap.yaml");

pub(super) fn administrator() -> Identity {
    Identity::member("kubernetes-admin", "system:masters")
}

impl ControlPlane {
    /// The path of the administrator's kubeconfig.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.home.join(ADMIN)
    }

    /// A kubeconfig with a certificate for `identity`, to be written wherever it is used.
    pub fn kubeconfig(&self, identity: &Identity) -> Result<String> {
        let pki = self.pki();
        let certified = pki.client(identity)?;
        Ok(kubeconfig::text(&self.server(), &pki.authority()?, &Credentials::Certificate(&certified)))
    }

    /// A new certificate for `identity` and its key in one PEM, as a kubelet keeps the one that it rotates.
    pub fn certificate(&self, identity: &Identity) -> Result<String> {
        let certified = self.pki().client(identity)?;
        Ok(certified.certificate + &certified.key)
    }

    /// The kubeconfig of the node of that name, with the rights of a kubelet and no more.
    pub fn node_kubeconfig(&self, node: &str) -> Result<String> {
        self.kubeconfig(&Identity::node(node))
    }

    /// A kubeconfig with a new bootstrap token: good for asking for a node's certificate, which is then approved.
    pub fn bootstrap_kubeconfig(&self) -> Result<String> {
        let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("make a token")?.replace('-', "");
        let (id, secret) = (&random[..6], &random[6..22]);
        self.apply(&BOOTSTRAP_ROLES.replace("TOKEN-ID", id).replace("TOKEN-SECRET", secret))?;
        let credentials = format!("{id}.{secret}");
        Ok(kubeconfig::text(&self.server(), &self.pki().authority()?, &Credentials::Token(&credentials)))
    }

    /// kubectl as `identity`.
    pub fn client(&self, identity: &Identity) -> Result<Kubectl> {
        self.client_of(&self.kubeconfig(identity)?)
    }

    /// kubectl with a kubeconfig.
    pub fn client_of(&self, kubeconfig: &str) -> Result<Kubectl> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("client-{}-{number}.kubeconfig", std::process::id());
        super::write_private(&self.home.join(&name), kubeconfig)?;
        Ok(Kubectl { kubeconfig: self.home.join(name), ..self.admin() })
    }

    pub(super) fn write_kubeconfig(&self, file: &str, identity: &Identity) -> Result<()> {
        super::write_private(&self.home.join(file), &self.kubeconfig(identity)?)
    }
}
