//! OCI references: recognised and written out in full here; what to do with them is the OCI flavour's.

use super::InvalidImage;
use crate::oci::Reference;
use crate::oci::reference::InvalidReference;

/// Whether the part before the first `/` names a registry (the rule of every OCI client).
pub(super) fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

/// `nginx` as `docker.io/library/nginx`, `a/b` as `docker.io/a/b`; `text` is what the user wrote.
pub(super) fn normalize(text: &str, reference: &str) -> Result<Reference, InvalidImage> {
    let full = match reference.split_once('/') {
        Some((first, _)) if is_host(first) => reference.to_owned(),
        Some(_) => format!("docker.io/{reference}"),
        None => format!("docker.io/library/{reference}"),
    };
    full.parse().map_err(|invalid: InvalidReference| InvalidImage::new(text, invalid.to_string()))
}
