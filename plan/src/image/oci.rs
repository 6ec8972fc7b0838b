//! OCI references: recognised and written out in full here; what to do with them is the OCI flavour's.

use super::InvalidImage;

/// Whether the part before the first `/` names a registry (the rule of every OCI client).
pub(super) fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

/// `nginx` as `docker.io/library/nginx`, `a/b` as `docker.io/a/b`; `text` is what the user wrote.
pub(super) fn normalize(text: &str, reference: &str) -> Result<String, InvalidImage> {
    let full = match reference.split_once('/') {
        Some((first, _)) if is_host(first) => reference.to_owned(),
        Some(_) => format!("docker.io/{reference}"),
        None => format!("docker.io/library/{reference}"),
    };
    if is_reference(&full) {
        Ok(full)
    } else {
        Err(InvalidImage::new(text, "it is not an OCI reference (host/name, then :tag or @sha256:digest)"))
    }
}

/// `host[:port]/name[/name…][:tag][@algorithm:hex]`.
fn is_reference(full: &str) -> bool {
    let (rest, digest) = match full.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (full, None),
    };
    let Some((host, rest)) = rest.split_once('/') else { return false };
    let (name, tag) = match rest.split_once(':') {
        Some((name, tag)) => (name, Some(tag)),
        None => (rest, None),
    };
    is_registry(host)
        && name.len() <= 255
        && name.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
}

fn is_registry(host: &str) -> bool {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.split('.').all(is_label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_component(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    part.bytes().next().is_some_and(is_word)
        && part.bytes().last().is_some_and(is_word)
        && part.bytes().all(|byte| is_word(byte) || b"._-".contains(&byte))
        && !part.contains("..")
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= 128
        && tag.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return false,
        };
        hex.len() == length && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}
