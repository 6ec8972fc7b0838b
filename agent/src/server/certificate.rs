//! The certificate that the node shows: somebody's files, or one of its own, signed by itself, which the API server takes for
//! as long as it is not told to verify kubelets (`--kubelet-certificate-authority`).

use std::path::PathBuf;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::tls::TlsError;
use crate::config::{NodeIdentity, ServingPair};
use crate::files::{make_dirs, read_bounded, write_atomic};

/// The largest file that is read, bytes: a bundle of all public authorities has a quarter of it.
pub(super) const LARGEST: u64 = 1024 * 1024;

/// How long a certificate of our own is good, and how long before its end there is another: the kubelet's year, seconds.
const LIFE_S: u64 = 365 * 24 * 3600;
const RENEWED_S: u64 = 30 * 24 * 3600;
/// Clocks differ: it is valid since a while.
const SKEW_S: u64 = 3600;

/// Where the serving certificate comes from.
#[derive(Clone, Debug)]
pub(super) enum Serving {
    /// From the administrator.
    Files(ServingPair),
    /// From here.
    Own(OwnCertificate),
}

/// One that the agent makes itself.
#[derive(Clone, Debug)]
pub(super) struct OwnCertificate {
    /// Certificate and key in one file, so that there is never one without the other.
    pub(super) file: PathBuf,
    /// Whom it is for.
    pub(super) node: NodeIdentity,
}

/// A certificate with those that vouch for it, and its key.
pub(super) struct Pair {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Serving {
    /// The files whose change makes another certificate.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Files(ServingPair { certificate, key }) => vec![certificate.clone(), key.clone()],
            Self::Own(own) => vec![own.file.clone()],
        }
    }

    /// Reads it; one of our own is made where there is none that can be used for a while. `now_s`: seconds since the epoch.
    pub(super) fn load(&self, now_s: u64) -> Result<Pair, TlsError> {
        match self {
            Self::Files(ServingPair { certificate, key }) => Ok(Pair {
                chain: certificates(certificate)?,
                key: PrivateKeyDer::from_pem_slice(&read(key)?)
                    .map_err(|error| TlsError::unfit(key, format!("it has no private key: {error}")))?,
            }),
            Self::Own(own) => own.load(now_s),
        }
    }
}

impl OwnCertificate {
    fn load(&self, now_s: u64) -> Result<Pair, TlsError> {
        if let Some(pair) = self.kept().filter(|pair| self.is_current(&pair.chain, now_s)) {
            return Ok(pair);
        }
        let pem = self.make(now_s).map_err(|error| TlsError::unfit(&self.file, error.to_string()))?;
        if let Some(directory) = self.file.parent() {
            make_dirs(directory, 0o700, None)?;
        }
        write_atomic(&self.file, pem.as_bytes(), 0o600)?;
        tracing::info!(file = %self.file.display(), "made a serving certificate for the kubelet API, signed by itself");
        self.kept().ok_or_else(|| TlsError::unfit(&self.file, "it is not what was just written".to_owned()))
    }

    /// What is there, if it can be read: else it is made anew.
    fn kept(&self) -> Option<Pair> {
        let pem = read_bounded(&self.file, LARGEST).ok()?;
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().ok()?;
        Some(Pair { chain, key: PrivateKeyDer::from_pem_slice(&pem).ok()? })
    }

    /// Whether it is for this node as it is now, and not near its end.
    fn is_current(&self, chain: &[CertificateDer<'_>], now_s: u64) -> bool {
        let first = chain.first().and_then(|der| x509_cert::Certificate::from_der(der).ok());
        let Some(certificate) = first else { return false };
        let certificate = certificate.tbs_certificate();
        let validity = certificate.validity();
        let begins_s = validity.not_before.to_unix_duration().as_secs();
        let ends_s = validity.not_after.to_unix_duration().as_secs();
        let names = certificate.get_extension::<SubjectAltName>().ok().flatten().map(|(_, names)| names.0);
        let named: Vec<String> = names.into_iter().flatten().filter_map(|name| text(&name)).collect();
        begins_s <= now_s && now_s + RENEWED_S < ends_s && named == self.names()
    }

    fn names(&self) -> Vec<String> {
        let mut names = vec![self.node.name.clone()];
        for address in self.node.internal_ips.iter().chain(&self.node.external_ips).map(ToString::to_string) {
            if !names.contains(&address) {
                names.push(address);
            }
        }
        names
    }

    fn make(&self, now_s: u64) -> Result<String, rcgen::Error> {
        let mut params = CertificateParams::new(self.names())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{}", self.node.name));
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(now_s.saturating_sub(SKEW_S));
        params.not_after = epoch + Duration::from_secs(now_s + LIFE_S);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(certificate.pem() + &key.serialize_pem())
    }
}

fn text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(bytes) => match bytes.as_bytes().len() {
            4 => <[u8; 4]>::try_from(bytes.as_bytes()).ok().map(|ip| std::net::IpAddr::from(ip).to_string()),
            _ => <[u8; 16]>::try_from(bytes.as_bytes()).ok().map(|ip| std::net::IpAddr::from(ip).to_string()),
        },
        _ => None,
    }
}

/// The certificates of a PEM file: one at least.
pub(super) fn certificates(file: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file)?).collect();
    let all = all.map_err(|error| TlsError::unfit(file, format!("it is not PEM: {error}")))?;
    if all.is_empty() { Err(TlsError::unfit(file, "it has no certificate".to_owned())) } else { Ok(all) }
}

fn read(file: &std::path::Path) -> Result<Vec<u8>, TlsError> {
    Ok(read_bounded(file, LARGEST)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOW: u64 = 1_795_000_000;

    #[test]
    fn our_own_is_kept_private_and_made_anew_when_it_no_longer_fits() {
        let dir = tempfile::tempdir().unwrap();
        let node = NodeIdentity {
            name: "edge-7".to_owned(),
            internal_ips: vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
            external_ips: vec!["10.0.0.5".parse().unwrap()],
        };
        let own = OwnCertificate { file: dir.path().join("pki/serving.pem"), node };
        let first = own.load(NOW).unwrap().chain;
        let mode = std::fs::metadata(&own.file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(own.names(), ["edge-7", "10.0.0.5", "fd00::5"]);
        assert_eq!(own.load(NOW + 300 * 24 * 3600).unwrap().chain, first, "kept while it is good");
        let renewed = own.load(NOW + 336 * 24 * 3600).unwrap().chain;
        assert_ne!(renewed, first);
        // A clock that was set back by a year: nobody would take it.
        assert_ne!(own.load(NOW).unwrap().chain, renewed);
        let kept = own.load(NOW).unwrap().chain;
        let mut moved = own.clone();
        moved.node.internal_ips.truncate(1);
        assert_ne!(moved.load(NOW).unwrap().chain, kept);
        std::fs::write(&own.file, "-----BEGIN CERTIFICATE-----\nnonsense").unwrap();
        assert!(own.load(NOW).is_ok());
    }

    #[test]
    fn what_is_wrong_with_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let own = OwnCertificate {
            file: path("own.pem"),
            node: NodeIdentity { name: "n".to_owned(), internal_ips: Vec::new(), external_ips: Vec::new() },
        };
        own.load(NOW).unwrap();
        let load = |certificate: &str, key: &str| {
            Serving::Files(ServingPair { certificate: path(certificate), key: path(key) }).load(NOW)
        };
        std::fs::write(path("empty.pem"), "").unwrap();
        assert!(load("own.pem", "own.pem").is_ok());
        let said = |certificate, key| crate::causes::causes(&load(certificate, key).err().unwrap());
        assert!(said("none.pem", "own.pem").contains("none.pem"));
        assert!(said("empty.pem", "own.pem").contains("empty.pem: it has no certificate"));
        assert!(said("own.pem", "empty.pem").contains("empty.pem: it has no private key"));
    }
}
