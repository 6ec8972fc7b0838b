//! From a kubeconfig to clients: one HTTP/2 connection for everything, or as many as its watches need, and one for heartbeats,
//! so that no flood of pods delays a lease (the kubelet keeps a heartbeat client for the same reason).
//!
//! kube's own client speaks HTTP/1.1, a TLS connection for each watch; 100 pods would have hundreds.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Client;
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError, LoadDataError};
use plan::inputs::ApiServer;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service as _, ServiceBuilder};

use super::credential::Credential;
use super::error::{causes, chain};
use addresses::InTurn;
use follow::{Followed, Stamp};
use limits::{Answer, Limited};
use spread::Spread;

mod addresses;
mod follow;
mod limits;
mod spread;

const USER_AGENT: &str = concat!("systemk/", env!("CARGO_PKG_VERSION"));

/// How long a TCP connection may take to be made, all addresses together.
const CONNECT: Duration = Duration::from_secs(10);

/// And with TLS on it: a server that takes connections and says nothing must not keep a watch for ever.
const HANDSHAKE: Duration = Duration::from_secs(12);

/// A connection that stays silent is asked for a sign of life after the first time, and given up after the second: a
/// server that was cut off sends no reset, and its watches would wait for ever.
const PINGS: Pings = Pings { every: Duration::from_secs(10), answered_in: Duration::from_secs(5), while_idle: true };

/// A heartbeat is given up after 10 s, and the next one must not wait in vain for an answer on the same connection: a Lease
/// lasts 40 s. Between heartbeats nothing is asked.
const HEARTBEAT_PINGS: Pings =
    Pings { every: Duration::from_secs(3), answered_in: Duration::from_secs(3), while_idle: false };

/// How a silent connection is found to be dead.
struct Pings {
    every: Duration,
    answered_in: Duration,
    while_idle: bool,
}

/// What the parts of the cluster room talk through. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Clients {
    /// Watches, statuses, events, tokens.
    pub(crate) main: Client,
    /// The lease and the Node object alone, on a connection of its own.
    pub(crate) heartbeat: Client,
    /// Who the kubeconfig says that this node is.
    pub(crate) credential: Credential,
    /// The API server's URL, for messages and for `KUBERNETES_SERVICE_HOST`.
    pub(crate) url: http::Uri,
    /// The certificates of its CA, DER; empty: the system's.
    pub(crate) ca: Vec<Vec<u8>>,
}

/// Why there is no client. Nothing was sent yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The file cannot be used.
    #[error("kubeconfig {file}: {problem}")]
    Kubeconfig {
        /// Its path.
        file: PathBuf,
        /// What is wrong, and with what in it.
        problem: String,
    },
}

impl Clients {
    /// Reads the file and makes the clients, which follow it; connects when something is first asked for.
    ///
    /// # Errors
    /// The file, or a file that it names, cannot be read or used.
    pub(crate) async fn open(file: &Path) -> Result<Self, ConnectError> {
        let read = read(file).await?;
        let (credential, url, ca) = (read.credential.clone(), read.url.clone(), read.ca.clone());
        let followed = Followed::new(file, read);
        let (main, heartbeat) = (followed.client(|read| &read.main), followed.client(|read| &read.heartbeat));
        Ok(Self { main, heartbeat, credential, url, ca })
    }
}

/// A way to the API server.
type Connection = BoxCloneSyncService<Request<Body>, Response<Answer>, BoxError>;

/// What a kubeconfig comes to.
struct Read {
    main: Connection,
    heartbeat: Connection,
    credential: Credential,
    url: Uri,
    ca: Vec<Vec<u8>>,
    /// The file and those that it names, and what they were just before they were read.
    files: Vec<PathBuf>,
    stamps: Vec<Stamp>,
}

async fn read(file: &Path) -> Result<Read, ConnectError> {
    let wrong = |problem: String| ConnectError::Kubeconfig { file: file.to_owned(), problem };
    let mut stamps = follow::stamps(&[file.to_owned()]);
    let text = crate::files::read_bounded(file, 4 * 1024 * 1024).map_err(|e| wrong(causes(&e)))?;
    let text = String::from_utf8(text).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
    let mut kubeconfig = Kubeconfig::from_yaml(&text).map_err(|e| wrong(explain(&e)))?;
    let named = beside(&mut kubeconfig, file);
    stamps.extend(follow::stamps(&named));
    let files = [vec![file.to_owned()], named].concat();
    users_exist(&kubeconfig).map_err(wrong)?;
    let options = KubeConfigOptions::default();
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| wrong(explain(&e)))?;
    // By it an administrator finds this node's requests in the audit log.
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT)));
    let credential = Credential::new(file, &config.auth_info).map_err(wrong)?;
    let main = connection(&config, &PINGS, 0).map_err(|e| wrong(unusable(&e)))?;
    let heartbeat = connection(&config, &HEARTBEAT_PINGS, 1).map_err(|e| wrong(unusable(&e)))?;
    let ca = config.root_cert.clone().unwrap_or_default();
    Ok(Read { main, heartbeat, credential, url: config.cluster_url, ca, files, stamps })
}

/// The API server's URL as a pod's `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT` say it. They have no place for
/// a path: behind a proxy that needs one, a pod has to be told otherwise.
pub(crate) fn server(url: &http::Uri) -> ApiServer {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
    ApiServer { host, port }
}

/// Relative paths in a kubeconfig are the file's neighbours (client-go, `ResolveLocalPaths`). Gives the files that it names.
fn beside(kubeconfig: &mut Kubeconfig, file: &Path) -> Vec<PathBuf> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    let mut files = Vec::new();
    let mut resolve = |path: &mut Option<String>| {
        if let Some(path) = path.as_mut().filter(|p| !p.is_empty()) {
            let resolved = directory.join(&*path);
            *path = resolved.display().to_string();
            files.push(resolved);
        }
    };
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|c| c.cluster.as_mut()) {
        resolve(&mut cluster.certificate_authority);
    }
    for user in kubeconfig.auth_infos.iter_mut().filter_map(|u| u.auth_info.as_mut()) {
        resolve(&mut user.client_certificate);
        resolve(&mut user.client_key);
        resolve(&mut user.token_file);
    }
    files
}

/// kube asks as nobody where the context's user is missing, and the API server then answers with a riddle.
fn users_exist(kubeconfig: &Kubeconfig) -> Result<(), String> {
    let current = kubeconfig.current_context.as_ref();
    let context = kubeconfig.contexts.iter().find(|context| Some(&context.name) == current);
    let Some(user) = context.and_then(|context| context.context.as_ref()?.user.as_ref()) else { return Ok(()) };
    if kubeconfig.auth_infos.iter().any(|known| known.name == *user) {
        return Ok(());
    }
    Err(format!("the user {user:?} of its current-context is not among its users"))
}

fn explain(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::CurrentContextNotSet => "it has no current-context".to_owned(),
        KubeconfigError::LoadContext(name) => format!("its current-context {name:?} is not among its contexts"),
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("the cluster {name:?} of its current-context is not among its clusters")
        }
        KubeconfigError::MissingClusterUrl => "its cluster has no server".to_owned(),
        KubeconfigError::ParseClusterUrl(error) => format!("its cluster's server is no URL: {error}"),
        // Below its first line it shows the place in the text, which may hold a key.
        KubeconfigError::Parse(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            format!("it is not YAML of a kubeconfig: {}", line.strip_prefix("error: ").unwrap_or(line))
        }
        KubeconfigError::LoadCertificateAuthority(error) => format!("certificate-authority: {}", unloaded(error)),
        KubeconfigError::LoadClientCertificate(error) => format!("client-certificate: {}", unloaded(error)),
        KubeconfigError::LoadClientKey(error) => format!("client-key: {}", unloaded(error)),
        other => causes(other),
    }
}

/// The user's key and token files are only read when a client is made, and what is wrong with them is deep in the error.
fn unusable(error: &kube::Error) -> String {
    let file = chain(error).find_map(|cause| cause.downcast_ref::<KubeconfigError>());
    file.map_or_else(|| causes(error), explain)
}

fn unloaded(error: &LoadDataError) -> String {
    match error {
        LoadDataError::ReadFile(error, path) => format!("read {}: {error}", path.display()),
        other => causes(other),
    }
}

/// `first`: which of the server's addresses is tried first.
fn connection(config: &kube::Config, pings: &Pings, first: usize) -> kube::Result<Connection> {
    let mut tcp = HttpConnector::new_with_resolver(InTurn::from(first));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    let mut tls = config.rustls_client_config()?;
    // The connector fills it from what is enabled below.
    tls.alpn_protocols.clear();
    let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let connector = match config.tls_server_name.clone().and_then(|name| name.try_into().ok()) {
        Some(name) => connector.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name)),
        None => connector,
    };
    let connector = connector.enable_http2().wrap_connector(tcp);
    let connector = tower::service_fn(move |uri: Uri| {
        let mut connector = connector.clone();
        let connect = async move { tokio::time::timeout(HANDSHAKE, connector.call(uri)).await? };
        Box::pin(connect) as Pin<Box<dyn Future<Output = Result<_, BoxError>> + Send>>
    });
    let Pings { every, answered_in, while_idle } = *pings;
    let http = Spread::new(move || {
        legacy::Client::builder(TokioExecutor::new())
            .http2_only(true)
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_keep_alive_interval(every)
            .http2_keep_alive_timeout(answered_in)
            .http2_keep_alive_while_idle(while_idle)
            .build::<_, Body>(connector.clone())
    });
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(config.extra_headers_layer()?)
        .option_layer(config.auth_layer()?)
        .map_err(BoxError::from)
        .service(Limited(http));
    Ok(BoxCloneSyncService::new(service))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_told_where_the_node_reaches_the_server() {
        let told = |url: &str| {
            let ApiServer { host, port } = server(&url.parse().unwrap());
            (host, port)
        };
        assert_eq!(told("https://192.0.2.1:6443"), ("192.0.2.1".to_owned(), 6443));
        assert_eq!(told("https://api.example/k8s/clusters/c-1"), ("api.example".to_owned(), 443));
        assert_eq!(told("https://[2001:db8::1]:6443/"), ("2001:db8::1".to_owned(), 6443));
        assert_eq!(told("http://127.0.0.1"), ("127.0.0.1".to_owned(), 80));
    }
}
