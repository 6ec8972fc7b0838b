//! Who a client certificate says its holder is: k8s.io/apiserver `pkg/authentication/request/x509`, CommonNameUserConversion.
//! Reads names only; that the certificate is genuine was verified before, in the TLS handshake.

use std::collections::BTreeMap;

use x509_cert::Certificate;
use x509_cert::der::asn1::{Ia5String, PrintableString, TeletexString, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Any, Decode as _, Tag, Tagged as _};

/// The groups of everybody whom a certificate or the API server vouches for have this one.
const AUTHENTICATED: &str = "system:authenticated";

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");

/// A user, as the API server knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: Option<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

/// A user, and until when the certificate is valid: seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certified {
    pub(crate) user: User,
    pub(crate) until_s: u64,
}

/// Why a certificate names no user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoIdentity {
    /// It is not a certificate.
    #[error("it cannot be read")]
    Unreadable(#[source] x509_cert::der::Error),
    /// It is for nobody.
    #[error("its subject has no common name (CN), which is the user's name")]
    NoCommonName,
}

/// The holder of a verified certificate. As in Go the last CN counts, and each O is a group.
///
/// # Errors
/// It names no user.
pub(crate) fn of_certificate(der: &[u8]) -> Result<Certified, NoIdentity> {
    let certificate = Certificate::from_der(der).map_err(NoIdentity::Unreadable)?;
    let certificate = certificate.tbs_certificate();
    let mut user = User::default();
    for attribute in certificate.subject().iter() {
        if attribute.oid == COMMON_NAME {
            user.name = text(&attribute.value).map_err(NoIdentity::Unreadable)?;
        } else if attribute.oid == ORGANIZATION {
            user.groups.push(text(&attribute.value).map_err(NoIdentity::Unreadable)?);
        }
    }
    if user.name.is_empty() {
        return Err(NoIdentity::NoCommonName);
    }
    if !user.groups.iter().any(|group| group == AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    Ok(Certified { user, until_s: certificate.validity().not_after.to_unix_duration().as_secs() })
}

fn text(value: &Any) -> Result<String, x509_cert::der::Error> {
    match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned()),
        Tag::PrintableString => value.decode_as::<PrintableString>().map(|text| text.as_str().to_owned()),
        Tag::Ia5String => value.decode_as::<Ia5String>().map(|text| text.as_str().to_owned()),
        Tag::TeletexString => value.decode_as::<TeletexString>().map(|text| text.as_str().to_owned()),
        other => Err(other.value_error().into()),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::*;

    fn certificate(subject: Vec<(DnType, DnValue)>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind, value);
        }
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn subjects() {
        let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
        let printable = |text: &str| DnValue::PrintableString(text.try_into().unwrap());
        let both = certificate(vec![
            (DnType::OrganizationName, printable("system:masters")),
            (DnType::OrganizationalUnitName, utf8("ignored")),
            (DnType::CommonName, utf8("kube-apiserver é")),
        ]);
        let Certified { user, until_s } = of_certificate(&both).unwrap();
        assert_eq!((user.name.as_str(), until_s), ("kube-apiserver é", 1_893_456_000));
        assert_eq!(user.groups, ["system:masters", "system:authenticated"]);
        let member = vec![(DnType::OrganizationName, utf8(AUTHENTICATED)), (DnType::CommonName, utf8("a"))];
        assert_eq!(of_certificate(&certificate(member)).unwrap().user.groups, ["system:authenticated"]);
        for nobody in [vec![], vec![(DnType::OrganizationName, utf8("o"))], vec![(DnType::CommonName, utf8(""))]] {
            assert!(matches!(of_certificate(&certificate(nobody)), Err(NoIdentity::NoCommonName)));
        }
        let wide = DnValue::BmpString("wide".try_into().unwrap());
        assert!(matches!(
            of_certificate(&certificate(vec![(DnType::CommonName, wide)])),
            Err(NoIdentity::Unreadable(_))
        ));
        assert!(matches!(of_certificate(b"\x30\x03abc"), Err(NoIdentity::Unreadable(_))));
    }
}
