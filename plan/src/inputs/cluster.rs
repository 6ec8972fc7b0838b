//! What is known of a pod only because an API server knows it too: tokens of its service account, the services that it may
//! reach, and the API server's own address.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

/// The API server's part of what was gathered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterFacts {
    /// Where programs of this machine reach the API server.
    pub server: ApiServer,
    /// The services of the pod's namespace that have an address, by name; empty where the pod needs none.
    pub services: Arc<BTreeMap<String, ServiceAddress>>,
    /// The tokens that the pod needs; of one that there is none of, why not, in the kubelet's words.
    pub tokens: BTreeMap<TokenKey, Result<Token, String>>,
}

/// Where the node itself reaches its API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServer {
    /// A name or an address; one of IPv6 without brackets, as in `KUBERNETES_SERVICE_HOST`.
    pub host: String,
    /// TCP.
    pub port: u16,
}

/// Which token of the pod's own service account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenKey {
    /// For whom it is; None: for the API server.
    pub audience: Option<String>,
    /// How long it is to be valid.
    pub expiration_seconds: i64,
}

/// A service account's token. It is a credential: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// As the API server gave it.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// What the file of it holds.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

/// What the environment says of a service. A cluster may have thousands, so nothing else of it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAddress {
    /// Its cluster IP, the first one of two.
    pub cluster_ip: String,
    /// In the service's order.
    pub ports: Vec<ServicePort>,
}

/// One of its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty where it has none.
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// 1 to 65535.
    pub port: i32,
}

impl ServiceAddress {
    /// None: a headless one, or an `ExternalName`, which no variable tells of (`IsServiceIPSet` of upstream).
    pub fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let cluster_ip = spec.cluster_ip.clone().filter(|ip| !ip.is_empty() && ip != "None")?;
        let port = |port: &k8s_openapi::api::core::v1::ServicePort| ServicePort {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "TCP".to_owned()),
            port: port.port,
        };
        Some(Self { cluster_ip, ports: spec.ports.iter().flatten().map(port).collect() })
    }
}
