//! Keys and certificates of a control plane, as files: the authority of servers and clients, the one of aggregated API servers,
//! the key of service account tokens, and whatever the authority signs for clients later.
//!
//! Takes a directory; gives PEM. ECDSA P-256 throughout, by rcgen on ring.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde_json::json;

/// Who a client certificate says its holder is.
#[derive(Clone, Debug)]
pub struct Identity {
    user: String,
    group: Option<String>,
    expired: bool,
}

impl Identity {
    /// A kubelet's, for the node of that name: what the Node authorizer and NodeRestriction go by.
    pub fn node(name: &str) -> Self {
        Self { user: format!("system:node:{name}"), group: Some("system:nodes".to_owned()), expired: false }
    }

    /// A user that no role is bound to, unless a test does it.
    pub fn user(name: &str) -> Self {
        Self { user: name.to_owned(), group: None, expired: false }
    }

    /// The same one with a certificate that is no longer valid.
    pub fn expired(self) -> Self {
        Self { expired: true, ..self }
    }

    /// A user of a group.
    pub fn member(user: &str, group: &str) -> Self {
        Self { user: user.to_owned(), group: Some(group.to_owned()), expired: false }
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
        let names = SERVER_NAMES.into_iter().chain(["127.0.0.1", "::1", service_address]);
        let mut server =
            CertificateParams::new(names.map(str::to_owned).collect::<Vec<_>>()).context("name the server")?;
        server.distinguished_name = name("kube-apiserver", None);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.write("apiserver", &self.sign(AUTHORITY, server)?)?;
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
    if identity.expired {
        params.not_after = date_time_ymd(2020, 1, 1);
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
