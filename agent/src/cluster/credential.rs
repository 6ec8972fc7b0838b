//! Who the kubeconfig says that this node is to the API server: what its client certificate tells, before anybody is asked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::AuthInfo;
use x509_cert::Certificate;
use x509_cert::der::DecodePem as _;
use x509_cert::der::oid::db::rfc4519::{COMMON_NAME, ORGANIZATION_NAME};

use super::error::{causes, code, explain};

/// The user of a node is this and its name; its group is [`NODES`] (node authorizer).
const NODE_USER: &str = "system:node:";
const NODES: &str = "system:nodes";

/// A certificate is a few kilobytes.
const LIMIT: u64 = 1024 * 1024;

/// Which file, and what its certificate says. Clones follow each other.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    file: PathBuf,
    /// None: a token, or a program that gives one.
    certificate: Arc<Mutex<Option<Holder>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    user: String,
    groups: Vec<String>,
    /// Valid so long; seconds since the epoch.
    not_after_s: i64,
}

impl Credential {
    /// Of the user in the kubeconfig `file`.
    ///
    /// # Errors
    /// What is wrong with the certificate.
    pub(super) fn new(file: &Path, user: &AuthInfo) -> Result<Self, String> {
        let pem = match (&user.client_certificate_data, &user.client_certificate) {
            (Some(data), _) => STANDARD.decode(data).map_err(|e| format!("client-certificate-data: {}", causes(&e)))?,
            (None, Some(path)) => crate::files::read_bounded(Path::new(path), LIMIT)
                .map_err(|e| format!("client-certificate: {}", causes(&e)))?,
            (None, None) => return Ok(Self::with(file, None)),
        };
        let certificate = holder(&pem).ok_or("its client certificate cannot be read: it is no X.509 in PEM")?;
        Ok(Self::with(file, Some(certificate)))
    }

    fn with(file: &Path, certificate: Option<Holder>) -> Self {
        Self { file: file.to_owned(), certificate: Arc::new(Mutex::new(certificate)) }
    }

    fn holder(&self) -> Option<Holder> {
        self.certificate.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file has another one now.
    pub(super) fn becomes(&self, other: &Self) {
        let holder = other.holder();
        *self.certificate.lock().unwrap_or_else(PoisonError::into_inner) = holder;
    }

    /// The node's name, if it is a node's: what the node authorizer and NodeRestriction go by.
    pub(super) fn node(&self) -> Option<String> {
        let holder = self.holder().filter(|holder| holder.groups.iter().any(|group| group == NODES))?;
        holder.user.strip_prefix(NODE_USER).map(str::to_owned)
    }

    /// As [`explain`], knowing who asked: `node` is the name that this node gives itself.
    pub(super) fn explain(&self, error: &kube::Error, node: &str, now_ms: i64) -> String {
        let file = self.file.display();
        match (code(error), &self.holder()) {
            (Some(401), Some(holder)) if holder.not_after_s <= now_ms.div_euclid(1000) => {
                let at = jiff::Timestamp::from_second(holder.not_after_s).map(|at| at.to_string()).unwrap_or_default();
                format!("the client certificate of {file} has expired at {at} (401): the kubeconfig needs a new one")
            }
            (Some(401), Some(holder)) => format!(
                "it does not accept the client certificate of {file} for {:?} (401): it is revoked, or another cluster's",
                holder.user
            ),
            (Some(401), None) => {
                format!("it does not accept the token of {file} (401): it is expired, revoked or another cluster's")
            }
            (Some(403), _) if self.node().is_some_and(|whose| whose != node) => format!(
                "{file} is for the node {:?} and this node's name is {node:?}, so the API server forbids it (403): give \
                 the node that name with --nodename, or a kubeconfig of its own",
                self.node().unwrap_or_default()
            ),
            _ => explain(error),
        }
    }
}

/// A kubelet's rotated file has the key in it too.
fn holder(pem: &[u8]) -> Option<Holder> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = std::str::from_utf8(pem).ok()?;
    let begin = text.find("-----BEGIN CERTIFICATE-----")?;
    let end = begin + text[begin..].find(END)? + END.len();
    let certificate = Certificate::from_pem(&text[begin..end]).ok()?;
    let body = certificate.tbs_certificate();
    let all = |kind| {
        let values = body.subject().iter().filter(move |attribute| attribute.oid == kind);
        values.filter_map(|attribute| std::str::from_utf8(attribute.value.value()).ok().map(str::to_owned))
    };
    Some(Holder {
        user: all(COMMON_NAME).next()?,
        groups: all(ORGANIZATION_NAME).collect(),
        not_after_s: i64::try_from(body.validity().not_after.to_unix_duration().as_secs()).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn credential(user: &str, groups: &[&str]) -> Credential {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.not_after = date_time_ymd(2020, 1, 1);
        let key = KeyPair::generate().unwrap();
        let pem = key.serialize_pem() + &params.self_signed(&key).unwrap().pem();
        let user = AuthInfo { client_certificate_data: Some(STANDARD.encode(pem)), ..AuthInfo::default() };
        Credential::new(Path::new("/etc/kubeconfig"), &user).unwrap()
    }

    fn refusal(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status { code, message: "no".to_owned(), ..Status::default() }))
    }

    #[test]
    fn a_nodes_certificate_names_it() {
        assert_eq!(credential("system:node:a", &["system:nodes"]).node().as_deref(), Some("a"));
        assert_eq!(credential("system:node:a", &[]).node(), None);
        assert_eq!(credential("admin", &["system:masters"]).node(), None);
        let token = Credential::new(Path::new("/k"), &AuthInfo::default()).unwrap();
        assert_eq!(token.node(), None);
        let broken = AuthInfo { client_certificate_data: Some(STANDARD.encode("x")), ..AuthInfo::default() };
        assert!(Credential::new(Path::new("/k"), &broken).unwrap_err().contains("X.509"));
    }

    #[test]
    fn a_refusal_names_the_file_and_what_is_wrong_with_it() {
        let node = credential("system:node:a", &["system:nodes"]);
        let in_2019 = 1_560_000_000_000;
        let said = |error, name, now_ms| node.explain(&refusal(error), name, now_ms);
        let expired = said(401, "a", 1_600_000_000_000);
        assert!(expired.contains("/etc/kubeconfig has expired at 2020-01-01T00:00:00Z"), "{expired}");
        assert!(said(401, "a", in_2019).contains("\"system:node:a\" (401)"));
        let other = said(403, "b", in_2019);
        assert!(other.contains("is for the node \"a\" and this node's name is \"b\""), "{other}");
        assert!(said(403, "a", in_2019).contains("forbids it (403): no"));
    }
}
