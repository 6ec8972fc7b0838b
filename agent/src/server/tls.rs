//! TLS of the kubelet API: what the node shows, and whose certificates it takes. Files are read again when they have changed,
//! which is looked at when somebody connects: nothing runs while nobody does. What cannot be used then is warned of, and the
//! last that could stays in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::{Mutex, watch};

use super::certificate::{Serving, certificates};
use crate::causes::causes;
use crate::files::FileError;

/// Files are looked at no more often.
const LOOK: Duration = Duration::from_secs(2);

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what it should be.
    #[error("{}: {problem}", file.display())]
    Unfit {
        /// Its path.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A part that fits, with another that does not fit it.
    #[error("the certificates cannot be used: {0}")]
    Rejected(String),
}

impl TlsError {
    pub(super) fn unfit(file: &Path, problem: String) -> Self {
        Self::Unfit { file: file.to_owned(), problem }
    }
}

/// Who vouches for clients.
#[derive(Clone, Debug)]
pub(super) enum ClientCa {
    /// The certificates of a PEM file.
    File(PathBuf),
    /// The cluster's CA as the kubeconfig has it, DER.
    OfKubeconfig(Vec<Vec<u8>>),
}

impl ClientCa {
    fn load(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        match self {
            Self::File(file) => certificates(file),
            Self::OfKubeconfig(certificates) => Ok(certificates.iter().cloned().map(CertificateDer::from).collect()),
        }
    }
}

/// A certificate of our own is looked at for its age, however little its file changes.
const GROWS_OLD: Duration = Duration::from_secs(3600);

/// What makes a file another one: its inode, size and time.
type Stamp = Option<(u64, u64, SystemTime)>;

#[derive(Clone)]
struct Source {
    serving: Serving,
    authority: ClientCa,
}

struct Loaded {
    config: Arc<ServerConfig>,
    authorities: Vec<CertificateDer<'static>>,
}

struct Current {
    loaded: Loaded,
    stamps: Vec<Stamp>,
    /// When the files were last looked at, and when they were last read.
    looked: Instant,
    read: Instant,
}

/// The configuration for the next handshake.
pub(super) struct Tls {
    source: Source,
    current: Mutex<Current>,
    /// Counts other authorities: who was let in by those before has to show their certificate again.
    authorities: watch::Sender<u64>,
}

impl Tls {
    /// Reads all of it once.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(super) async fn open(serving: Serving, authority: ClientCa) -> Result<Self, TlsError> {
        let source = Source { serving, authority };
        let (stamps, loaded) = source.look().await;
        let now = Instant::now();
        let current = Current { loaded: loaded?, stamps, looked: now, read: now };
        Ok(Self { source, current: Mutex::new(current), authorities: watch::Sender::new(0) })
    }

    /// The newest configuration, and who is told when its authorities are no longer the ones that count.
    pub(super) async fn current(&self) -> (Arc<ServerConfig>, watch::Receiver<u64>) {
        let mut current = self.current.lock().await;
        if current.looked.elapsed() >= LOOK {
            self.refresh(&mut current).await;
        }
        let mut changed = self.authorities.subscribe();
        changed.mark_unchanged();
        (Arc::clone(&current.loaded.config), changed)
    }

    async fn refresh(&self, current: &mut Current) {
        current.looked = Instant::now();
        let old = matches!(self.source.serving, Serving::Own(_)) && current.read.elapsed() >= GROWS_OLD;
        let stamps = self.source.clone().stamps().await;
        if stamps == current.stamps && !old {
            return;
        }
        current.read = current.looked;
        let (stamps, loaded) = self.source.look().await;
        let same = stamps == current.stamps;
        current.stamps = stamps;
        match loaded {
            Ok(loaded) => {
                let others = loaded.authorities != current.loaded.authorities;
                current.loaded = loaded;
                if !same {
                    tracing::info!("the kubelet API's certificates were read again");
                }
                if others {
                    self.authorities.send_modify(|count| *count += 1);
                }
            }
            Err(error) if !same => {
                tracing::warn!("the kubelet API goes on with the certificates it has: {}", causes(&error));
            }
            Err(_) => {}
        }
    }
}

impl Source {
    /// On a thread of its own: a file may lie on a disk that stalls.
    async fn look(&self) -> (Vec<Stamp>, Result<Loaded, TlsError>) {
        let source = self.clone();
        let look = move || {
            let before = source.stamps_now();
            let loaded = source.load();
            // A certificate of our own may have been made just now; others that change meanwhile are read again.
            let stamps = if matches!(source.serving, Serving::Own(_)) { source.stamps_now() } else { before };
            (stamps, loaded)
        };
        let panicked = |_| (Vec::new(), Err(TlsError::Rejected("reading them panicked".to_owned())));
        tokio::task::spawn_blocking(look).await.unwrap_or_else(panicked)
    }

    async fn stamps(self) -> Vec<Stamp> {
        tokio::task::spawn_blocking(move || self.stamps_now()).await.unwrap_or_default()
    }

    fn stamps_now(&self) -> Vec<Stamp> {
        use std::os::unix::fs::MetadataExt as _;
        let mut files = self.serving.files();
        if let ClientCa::File(file) = &self.authority {
            files.push(file.clone());
        }
        let stamp = |file: PathBuf| {
            let found = std::fs::metadata(file).ok()?;
            Some((found.ino(), found.len(), found.modified().ok()?))
        };
        files.into_iter().map(stamp).collect()
    }

    fn load(&self) -> Result<Loaded, TlsError> {
        let rejected = |error: &dyn std::error::Error| TlsError::Rejected(causes(error));
        let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let pair = self.serving.load(now_s)?;
        let authorities = self.authority.load()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| rejected(&error))?;
        let mut roots = RootCertStore::empty();
        for certificate in &authorities {
            roots.add(certificate.clone()).map_err(|error| rejected(&error))?;
        }
        let builder = if authorities.is_empty() {
            builder.with_no_client_auth()
        } else {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            // Without a certificate there may still be a token.
            let verifier = verifier.allow_unauthenticated().build().map_err(|error| rejected(&error))?;
            builder.with_client_cert_verifier(verifier)
        };
        let mut config = builder.with_single_cert(pair.chain, pair.key).map_err(|error| rejected(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A resumed session would bring a certificate along that nobody verifies again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Loaded { config: Arc::new(config), authorities })
    }
}
