//! The kubelet API: what the API server asks this node for on behalf of its clients, first of all `kubectl logs`.
//!
//! Only a node of a cluster has it. Takes TLS connections; gives what the loop and the journal know, and changes nothing.
//! Nobody is anonymous: who asks shows a certificate of the cluster's CA or a token, and the API server says what they may.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::cluster::connect::Clients;
use crate::config::Config;
use crate::reconcile::Shared;

mod certificate;
mod connection;
mod gate;
mod handshakes;
mod identity;
mod logs;
pub(crate) mod pods;
mod router;
mod tls;

#[cfg(test)]
mod tests;

use certificate::{OwnCertificate, Serving};
use gate::Gate;
use tls::{ClientCa, Tls, TlsError};

/// Why the node has no kubelet API.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    /// Somebody else is there, or the address is not this machine's.
    #[error("cannot listen on {address} for the kubelet API (--addr; a kubelet listens on port 10250, too)")]
    Listen {
        /// Where.
        address: SocketAddr,
        #[allow(missing_docs)]
        source: io::Error,
    },
    /// Its certificates cannot be used.
    #[error("cannot serve the kubelet API")]
    Tls(#[from] TlsError),
}

/// Listens, and serves until the runtime ends.
///
/// # Errors
/// It cannot be listened, or a certificate cannot be used.
pub(crate) async fn start(config: &Config, clients: &Clients, shared: &Shared) -> Result<(), ServerError> {
    let authority = match config.cluster.as_ref().and_then(|cluster| cluster.client_ca_file.clone()) {
        Some(file) => ClientCa::File(file),
        None => ClientCa::OfKubeconfig(clients.ca.clone()),
    };
    if matches!(&authority, ClientCa::OfKubeconfig(certificates) if certificates.is_empty()) {
        tracing::warn!(
            "the kubeconfig has no certificate-authority, so the API server's client certificate cannot be verified and \
             kubectl logs will not work: say --client-ca-file"
        );
    }
    let serving = match &config.serving {
        Some(pair) => Serving::Files(pair.clone()),
        None => Serving::Own(OwnCertificate { file: own_certificate(config), node: config.node.clone() }),
    };
    let tls = Tls::open(serving, authority).await?;
    let listener = listen(config.listen).await?;
    let gate = Gate::new(clients.main.clone(), config.node.name.clone());
    let router = router::router(gate, shared.node_pods());
    tracing::info!(address = %config.listen, "the kubelet API listens on {}", config.listen);
    tokio::spawn(connection::accept(listener, Arc::new(tls), router));
    Ok(())
}

/// Where a certificate of our own is kept: over restarts of the agent it stays the same.
fn own_certificate(config: &Config) -> PathBuf {
    config.directories.state.join("pki").join("serving.pem")
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    match TcpListener::bind(address).await {
        // A kernel without IPv6 (EAFNOSUPPORT), or with it switched off (EADDRNOTAVAIL).
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            TcpListener::bind(address).await.map_err(|source| ServerError::Listen { address, source })
        }
        bound => bound.map_err(|source| ServerError::Listen { address, source }),
    }
}
