//! Keys and certificates of a control plane, as files: the authority of servers and clients, the one of aggregated API servers,
//! the key of service account tokens, and whatever the authority signs for clients later.
//!
//! Takes a directory; gives PEM. ECDSA P-256 throughout, by rcgen on ring.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

/// Who a client certificate says its holder is.
#[derive(Clone, Debug)]
pub struct Identity {
    user: String,
    group: Option<String>,
    /// None: for longer than any test.
    until: Option<SystemTime>,
}

impl Identity {
    /// A kubelet's, for the node of that name: what the Node authorizer and NodeRestriction go by.
    pub fn node(name: &str) -> Self {
        Self { user: format!("system:node:{name}"), group: Some("system:nodes".to_owned()), until: None }
    }

    /// A user that no role is bound to, unless a test does it.
    pub fn user(name: &str) -> Self {
        Self { user: name.to_owned(), group: None, until: None }
    }

    /// The same one with a certificate that is no longer valid.
    pub fn expired(self) -> Self {
        // 2020-01-01.
        Self { until: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800)), ..self }
    }

    /// The same one with a certificate that is valid for so long from now on.
    pub fn lasting(self, time: Duration) -> Self {
        Self { until: Some(SystemTime::now() + time), ..self }
    }

    /// A user of a group.
    pub fn member(user: &str, group: &str) -> Self {
        Self { user: user.to_owned(), group: Some(group.to_owned()), until: None }
    }
}

/// A certificate and its key, both as PEM.
#[derive(Clone, Debug)]
pub(super) struct Certified {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// The directory of a control plane's keys.
#[derive(Clone, Debug)]
pub(super) struct Pki {
    directory: PathBuf,
}

/// The names of the two authorities: a certificate is signed again by name and key, so these stay as they are.
const AUTHORITY: (&str, &str) = ("ca", "kubernetes");
const FRONT_PROXY: (&str, &str) = ("front-proxy-ca", "kubernetes-front-proxy");

/// What pods and kubectl call the API server, beside the addresses.
const SERVER_NAMES: [&str; 5] =
    ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];

impl Pki {
    /// The keys in `directory`, which [`Pki::make`] made.
    pub(super) fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Makes all that the control plane's own programs need. `service_address` is the first address of the services' range.
    pub(super) fn make(&self, service_address: &str) -> Result<()> {
        fs::create_dir_all(&self.directory).with_context(|| format!("make {}", self.directory.display()))?;
        for (file, name) in [AUTHORITY, FRONT_PROXY] {
            let key = KeyPair::generate().context("make the key of an authority")?;
            let certificate = authority(name).self_signed(&key).context("sign the certificate of an authority")?;
            self.write(file, &Certified { certificate: certificate.pem(), key: key.serialize_pem() })?;
        }
        self.write("apiserver", &self.server(&["127.0.0.1", "::1", service_address])?)?;
        // Who the API server is to kubelets (for logs and exec), and to aggregated API servers.
        self.write("apiserver-kubelet-client", &self.client(&Identity::member("kube-apiserver", "system:masters"))?)?;
        let front_proxy = client(&Identity::user("front-proxy-client"));
        self.write("front-proxy-client", &self.sign(FRONT_PROXY, front_proxy)?)?;
        let tokens = KeyPair::generate().context("make the key of service account tokens")?;
        self.write_file("sa.pub", &tokens.public_key_pem())?;
        self.write_file("sa.key", &tokens.serialize_pem())
    }

    /// A client certificate that the API server takes.
    pub(super) fn client(&self, identity: &Identity) -> Result<Certified> {
        self.sign(AUTHORITY, client(identity)).with_context(|| format!("make a certificate for {}", identity.user))
    }

    /// A certificate that clients take for the API server's, with these names and addresses beside the usual names.
    pub(super) fn server(&self, names: &[&str]) -> Result<Certified> {
        let names = SERVER_NAMES.iter().chain(names).map(|name| (*name).to_owned());
        let mut server = CertificateParams::new(names.collect::<Vec<_>>()).context("name the server")?;
        server.distinguished_name = name("kube-apiserver", None);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(AUTHORITY, server)
    }

    /// The certificate of the authority that signed the API server's.
    pub(super) fn authority(&self) -> Result<String> {
        self.read(&format!("{}.crt", AUTHORITY.0))
    }

    /// The path of one of the files.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    fn sign(&self, (file, name): (&str, &str), params: CertificateParams) -> Result<Certified> {
        let authority_key =
            KeyPair::from_pem(&self.read(&format!("{file}.key"))?).context("read an authority's key")?;
        let key = KeyPair::generate().context("make a key")?;
        let issuer = Issuer::new(authority(name), authority_key);
        let certificate = params.signed_by(&key, &issuer).context("sign a certificate")?;
        Ok(Certified { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    fn write(&self, name: &str, certified: &Certified) -> Result<()> {
        self.write_file(&format!("{name}.crt"), &certified.certificate)?;
        self.write_file(&format!("{name}.key"), &certified.key)
    }

    fn write_file(&self, name: &str, content: &str) -> Result<()> {
        super::write_private(&self.path(name), content)
    }

    fn read(&self, name: &str) -> Result<String> {
        read(&self.path(name))
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// The manifest of a request for a node's client certificate, as a kubelet sends it with its bootstrap token. For tests of what
/// becomes of it: the key is forgotten.
pub fn node_certificate_request(node: &str) -> Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("system:node:{node}"), Some("system:nodes"));
    let key = KeyPair::generate().context("make a key")?;
    let request = params.serialize_request(&key).and_then(|request| request.pem()).context("make a request")?;
    let manifest = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": node},
        "spec": {
            "request": STANDARD.encode(request),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"],
        },
    });
    Ok(manifest.to_string())
}

fn authority(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(common_name, None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
    params
}

fn client(identity: &Identity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&identity.user, identity.group.as_deref());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    if let Some(until) = identity.until {
        params.not_after = until.into();
    }
    params
}

fn name(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}
