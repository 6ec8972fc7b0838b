//! Manifests and lists of them, of OCI and of Docker: one shape under two names.
//!
//! What is refused: schema 1, layers that are not in this registry ("foreign"), encrypted ones, and what is no image.

use serde::{Deserialize, Serialize};

use super::{Digest, Platform};

/// The longest manifest or list that is read, in bytes (distribution-spec: registries should take 4 MiB).
pub const MAX_MANIFEST: usize = 4 << 20;
/// The most layers of an image: what the kernel's overlay can stack in one page of options was 127 in Docker's time.
pub const MAX_LAYERS: usize = 127;
/// The most manifests that a list may have.
const MAX_LISTED: usize = 1000;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What a registry is told that would do (`Accept:`).
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip, nearly all there is.
    Gzip,
    /// zstd.
    Zstd,
}

/// A blob that something refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is said to be.
    pub media_type: String,
    /// What it must hash to.
    pub digest: Digest,
    /// Its length in bytes: no more is read.
    pub size: u64,
    /// In a list: what it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// One layer, the lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The packed tar.
    pub blob: Descriptor,
    /// How it is packed.
    pub compression: Compression,
}

/// One image of one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The image's configuration; its digest is the image's ID.
    pub config: Descriptor,
    /// The lowest first.
    pub layers: Vec<Layer>,
}

/// What a registry gives for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// An image.
    Manifest(Manifest),
    /// One for each platform.
    Index(Vec<Descriptor>),
}

/// Why a document is no image that can run here; `ErrImagePull` shows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MAX_MANIFEST`].
    #[error("the manifest has {0} bytes, more than the {MAX_MANIFEST} that are read")]
    TooLarge(usize),
    /// Not JSON, or without what every manifest has; the parser's words.
    #[error("the manifest cannot be read: {0}")]
    Unreadable(String),
    /// Docker's first format.
    #[error("it is an image of Docker's schema 1, which registries gave up in 2020: push it again with a newer client")]
    SchemaOne,
    /// Both a list and an image, which readers take for different things (CVE-2021-41190).
    #[error("the manifest is both an image and a list of images")]
    Ambiguous,
    /// Some other kind of artifact.
    #[error("it is no image but {0}")]
    NotAnImage(String),
    /// A layer of a kind that is not known.
    #[error("layer {digest} is of the type {media_type}, which is not supported")]
    Layer {
        /// Which one.
        digest: Digest,
        /// What it says it is.
        media_type: String,
    },
    /// More than [`MAX_LAYERS`], or than a thousand manifests in a list.
    #[error("it has {count} {what}, more than the {most} that are supported")]
    TooMany {
        /// layers or manifests.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many could be.
        most: usize,
    },
    /// A list without this machine's platform.
    #[error("there is no image for {wanted}; the image is for {}", .offered.join(", "))]
    Platform {
        /// This machine's.
        wanted: Platform,
        /// What there is, each once.
        offered: Vec<String>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    schema_version: u64,
    media_type: String,
    artifact_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Default for Raw {
    fn default() -> Self {
        let (media_type, artifact_type) = (String::new(), String::new());
        Self { schema_version: 0, media_type, artifact_type, config: None, layers: None, manifests: None }
    }
}

/// A type without its parameters: registries add a charset.
fn bare(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// Shortened and harmless: it comes from a registry.
fn shown(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}

impl Document {
    /// Reads the document `bytes` that a registry called `content_type` (empty: it did not).
    ///
    /// # Errors
    /// [`ManifestError`]: it is no image, or none of a kind that is supported.
    pub fn parse(bytes: &[u8], content_type: &str) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| ManifestError::Unreadable(error.to_string()))?;
        if raw.schema_version == 1 {
            return Err(ManifestError::SchemaOne);
        }
        let said = if raw.media_type.is_empty() { bare(content_type) } else { bare(&raw.media_type) };
        if raw.manifests.is_some() && (raw.layers.is_some() || raw.config.is_some()) {
            return Err(ManifestError::Ambiguous);
        }
        match (raw.manifests, raw.config) {
            (Some(_), _) if matches!(said, OCI_MANIFEST | DOCKER_MANIFEST) => Err(ManifestError::Ambiguous),
            (_, Some(_)) if matches!(said, OCI_INDEX | DOCKER_LIST) => Err(ManifestError::Ambiguous),
            (Some(manifests), _) => list(manifests).map(Self::Index),
            (None, Some(config)) => {
                image(config, raw.layers.unwrap_or_default(), &raw.artifact_type).map(Self::Manifest)
            }
            (None, None) if said.is_empty() => {
                Err(ManifestError::Unreadable("it has neither config nor manifests".to_owned()))
            }
            (None, None) => Err(ManifestError::NotAnImage(shown(said))),
        }
    }
}

fn list(manifests: Vec<Descriptor>) -> Result<Vec<Descriptor>, ManifestError> {
    match manifests.len() {
        0..=MAX_LISTED => Ok(manifests),
        count => Err(ManifestError::TooMany { what: "manifests", count, most: MAX_LISTED }),
    }
}

fn image(config: Descriptor, layers: Vec<Descriptor>, artifact: &str) -> Result<Manifest, ManifestError> {
    if !matches!(bare(&config.media_type), OCI_CONFIG | DOCKER_CONFIG) {
        let what = if artifact.is_empty() { &config.media_type } else { artifact };
        return Err(ManifestError::NotAnImage(shown(what)));
    }
    if layers.len() > MAX_LAYERS {
        return Err(ManifestError::TooMany { what: "layers", count: layers.len(), most: MAX_LAYERS });
    }
    let layers = layers.into_iter().map(|blob| {
        let Some(compression) = compression(bare(&blob.media_type)) else {
            return Err(ManifestError::Layer { digest: blob.digest, media_type: shown(&blob.media_type) });
        };
        Ok(Layer { blob, compression })
    });
    Ok(Manifest { config, layers: layers.collect::<Result<_, _>>()? })
}

/// "Foreign" and "nondistributable" ones are left out: their bytes are at URLs that a manifest may choose freely.
fn compression(media_type: &str) -> Option<Compression> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => {
            Some(Compression::None)
        }
        "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Some(Compression::Gzip)
        }
        "application/vnd.oci.image.layer.v1.tar+zstd" | "application/vnd.docker.image.rootfs.diff.tar.zstd" => {
            Some(Compression::Zstd)
        }
        _ => None,
    }
}

/// The one of a list that `platform` runs best; the first of equals.
///
/// # Errors
/// [`ManifestError::Platform`] with what there is.
pub fn choose<'a>(list: &'a [Descriptor], platform: &Platform) -> Result<&'a Descriptor, ManifestError> {
    let is_image =
        |of: &&Descriptor| matches!(bare(&of.media_type), OCI_MANIFEST | DOCKER_MANIFEST | OCI_INDEX | DOCKER_LIST);
    // Without a platform it is for any: lists of one image are made so by some tools.
    let rank = |of: &Descriptor| of.platform.as_ref().map_or(Some(u32::MAX), |its| platform.rank(its));
    let best = list.iter().filter(is_image).filter_map(|of| Some((rank(of)?, of))).min_by_key(|(rank, _)| *rank);
    if let Some((_, best)) = best {
        return Ok(best);
    }
    let mut offered: Vec<String> = Vec::new();
    for descriptor in list.iter().filter(is_image) {
        let name = descriptor.platform.as_ref().map(|platform| shown(&platform.to_string())).unwrap_or_default();
        // What buildkit adds for its attestations.
        if name != "unknown/unknown" && !offered.contains(&name) && offered.len() < 20 {
            offered.push(name);
        }
    }
    if offered.is_empty() {
        offered.push("nothing".to_owned());
    }
    Err(ManifestError::Platform { wanted: platform.clone(), offered })
}

#[cfg(test)]
mod tests;
