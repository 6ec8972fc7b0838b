//! Archives of images: what `docker save`, `podman save` and `skopeo` write, and OCI image layouts in a tar.
//!
//! In go the JSON members, by name; out comes which members are the configuration and the layers of which images. An
//! archive may be both kinds at once, as newer tools write it: then the OCI layout is read, whose parts have digests.
//! Sources: image-spec 1.1, "Image Layout"; Docker's image specification 1.2 for `manifest.json`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::manifest::{Descriptor, MAX_LAYERS};
use super::{Digest, Reference};

/// Docker's list of images.
pub const DOCKER_MANIFEST: &str = "manifest.json";
/// Says that it is a layout, and of which version.
pub const LAYOUT: &str = "oci-layout";
/// The layout's list of images.
pub const INDEX: &str = "index.json";
/// The longest of these members that is read, in bytes.
pub const MAX_DOCUMENT: usize = 4 << 20;
/// The most images of an archive.
pub const MAX_IMAGES: usize = 1000;

/// The annotations that name an image in a layout: containerd's has the whole name, the specification's often a tag alone.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// An image of Docker's list. Its members are named as they are in the tar, and are clean relative paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerImage {
    /// The configuration.
    pub config: String,
    /// What it is called; none for an image that was saved by its ID.
    pub names: Vec<Reference>,
    /// The layers' tars, the lowest first.
    pub layers: Vec<String>,
}

/// An image, or a list of images, of a layout's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutImage {
    /// The manifest or the index; its bytes are the member [`member`] names.
    pub manifest: Descriptor,
    /// What it is called, where the layout says a whole name.
    pub name: Option<Reference>,
}

/// Why an archive's documents are of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// More than [`MAX_DOCUMENT`].
    #[error("{document} has {size} bytes, more than the {MAX_DOCUMENT} that are read")]
    TooLarge {
        /// Which member.
        document: &'static str,
        /// Its size in bytes.
        size: usize,
    },
    /// The parser's words.
    #[error("{document} cannot be read: {reason}")]
    Unreadable {
        /// Which member.
        document: &'static str,
        /// Where and why.
        reason: String,
    },
    /// Of a layout that does not exist yet.
    #[error("it is an OCI image layout of version {0:?}; 1.0.0 is known")]
    Version(String),
    /// Over [`MAX_IMAGES`] or [`MAX_LAYERS`].
    #[error("{document} has more than {most} {what}")]
    TooMany {
        /// Which member.
        document: &'static str,
        /// images or layers.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// A member that would be outside.
    #[error("{DOCKER_MANIFEST} names {0:?}, which is no clean path inside the archive")]
    Member(String),
    /// A name that is none.
    #[error("{document} calls an image {name:?}, which is not a name with a registry's host")]
    Name {
        /// Which member.
        document: &'static str,
        /// Shortened.
        name: String,
    },
}

fn read<'a, T: Deserialize<'a>>(document: &'static str, bytes: &'a [u8]) -> Result<T, ArchiveError> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(ArchiveError::TooLarge { document, size: bytes.len() });
    }
    let unreadable = |error: serde_json::Error| ArchiveError::Unreadable { document, reason: error.to_string() };
    serde_json::from_slice(bytes).map_err(unreadable)
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Where the blob with that digest is in a layout.
pub fn member(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// The images of Docker's `manifest.json`. Names without a host are docker.io's, as Docker writes them.
///
/// # Errors
/// [`ArchiveError`]: what is wrong with the document.
pub fn docker(bytes: &[u8]) -> Result<Vec<DockerImage>, ArchiveError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Raw {
        config: String,
        #[serde(default)]
        repo_tags: Option<Vec<String>>,
        #[serde(default)]
        layers: Option<Vec<String>>,
    }
    let document = DOCKER_MANIFEST;
    let all: Vec<Raw> = read(document, bytes)?;
    if all.len() > MAX_IMAGES {
        return Err(ArchiveError::TooMany { document, what: "images", most: MAX_IMAGES });
    }
    let image = |raw: Raw| {
        let layers = raw.layers.unwrap_or_default();
        if layers.len() > MAX_LAYERS {
            return Err(ArchiveError::TooMany { document, what: "layers", most: MAX_LAYERS });
        }
        let names = raw.repo_tags.unwrap_or_default();
        if names.len() > MAX_IMAGES {
            return Err(ArchiveError::TooMany { document, what: "names", most: MAX_IMAGES });
        }
        Ok(DockerImage {
            config: clean(raw.config)?,
            names: names.iter().map(|name| reference(document, name)).collect::<Result<_, _>>()?,
            layers: layers.into_iter().map(clean).collect::<Result<_, _>>()?,
        })
    };
    all.into_iter().map(image).collect()
}

/// A name as Docker shortens it, written out.
fn reference(document: &'static str, name: &str) -> Result<Reference, ArchiveError> {
    let full = crate::image::ImageRef::parse(&format!("oci://{name}"), crate::image::Unqualified::Oci);
    match full {
        Ok(crate::image::ImageRef::Oci(reference)) => Ok(reference.with_default_tag()),
        Ok(_) | Err(_) => Err(ArchiveError::Name { document, name: short(name) }),
    }
}

/// A member's name that is looked up among the tar's own: it never becomes a path of the host, but what is not clean is a
/// mistake or an attempt.
fn clean(name: String) -> Result<String, ArchiveError> {
    let is_clean = name.len() <= super::layer::MAX_PATH
        && !name.chars().any(char::is_control)
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if is_clean { Ok(name) } else { Err(ArchiveError::Member(short(&name))) }
}

/// The images of a layout, from its `oci-layout` and `index.json`.
///
/// # Errors
/// [`ArchiveError`]: what is wrong with either document.
pub fn layout(layout: &[u8], index: &[u8]) -> Result<Vec<LayoutImage>, ArchiveError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(flatten)]
        manifest: Descriptor,
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
    }
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<Entry>,
    }
    let Layout { image_layout_version: version } = read(LAYOUT, layout)?;
    // The versions after it are to be compatible (image-spec: "oci-layout file"); there is none so far.
    if !version.starts_with("1.") {
        return Err(ArchiveError::Version(short(&version)));
    }
    let Index { manifests } = read(INDEX, index)?;
    if manifests.len() > MAX_IMAGES {
        return Err(ArchiveError::TooMany { document: INDEX, what: "images", most: MAX_IMAGES });
    }
    let image = |entry: Entry| {
        let annotations = entry.annotations.unwrap_or_default();
        let said = NAMES.iter().find_map(|name| annotations.get(*name)).map(String::as_str);
        // A tag alone (`latest`, `1.2`) names no image: whoever loads it says what it is called.
        let name = said.filter(|name| name.contains('/')).map(|name| reference(INDEX, name)).transpose()?;
        Ok(LayoutImage { manifest: entry.manifest, name })
    };
    manifests.into_iter().map(image).collect()
}

/// `oci-layout`, as it is written.
pub fn render_layout() -> String {
    json!({"imageLayoutVersion": "1.0.0"}).to_string()
}

/// `index.json` of those images.
pub fn render_index(images: &[LayoutImage]) -> String {
    let entry = |image: &LayoutImage| {
        let LayoutImage { manifest: Descriptor { media_type, digest, size, platform }, name } = image;
        let mut entry = json!({"mediaType": media_type, "digest": digest, "size": size});
        if let Some(platform) = platform {
            entry["platform"] = json!(platform);
        }
        if let Some(name) = name {
            let tag = name.tag().unwrap_or("latest");
            entry["annotations"] = json!({NAMES[0]: name.to_string(), NAMES[1]: tag});
        }
        entry
    };
    let manifests: Vec<_> = images.iter().map(entry).collect();
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    })
    .to_string()
}

/// Docker's `manifest.json` of those images, for tools that know nothing else.
pub fn render_docker(images: &[DockerImage]) -> String {
    let entry = |DockerImage { config, names, layers }: &DockerImage| {
        let names: Vec<String> = names.iter().map(Reference::to_string).collect();
        json!({"Config": config, "RepoTags": names, "Layers": layers})
    };
    json!(images.iter().map(entry).collect::<Vec<_>>()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn docker_archives_are_read_and_written() {
        let bytes = br#"[{"Config":"0123.json","RepoTags":["busybox:1","quay.io/a/b:2","c/d"],
            "Layers":["aa/layer.tar","blobs/sha256/bb"]},{"Config":"x.json","RepoTags":null,"Layers":null}]"#;
        let images = docker(bytes).unwrap();
        let names = ["docker.io/library/busybox:1", "quay.io/a/b:2", "docker.io/c/d:latest"].map(reference);
        assert_eq!(images[0].names, names);
        assert_eq!((images[0].config.as_str(), images[0].layers.len()), ("0123.json", 2));
        assert_eq!((images[1].names.len(), images[1].layers.len()), (0, 0));
        assert_eq!(docker(render_docker(&images).as_bytes()), Ok(images));
    }

    #[test]
    fn layouts_are_read_and_written() {
        let manifest = Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            digest: Digest::of(b"m"),
            size: 7,
            platform: None,
        };
        let named = LayoutImage { manifest: manifest.clone(), name: Some(reference("quay.io/a/b:2")) };
        let images = vec![named, LayoutImage { manifest: manifest.clone(), name: None }];
        let index = render_index(&images);
        assert_eq!(layout(render_layout().as_bytes(), index.as_bytes()), Ok(images));
        assert_eq!(member(&manifest.digest), format!("blobs/sha256/{}", manifest.digest.hex()));
        // As buildx and skopeo write it: the specification's annotation with a tag alone.
        let digest = manifest.digest;
        let tag = format!(
            r#"{{"manifests":[{{"mediaType":"m","digest":"{digest}","size":1,
                "annotations":{{"org.opencontainers.image.ref.name":"latest"}}}}]}}"#
        );
        assert_eq!(layout(render_layout().as_bytes(), tag.as_bytes()).unwrap()[0].name, None);
    }

    #[test]
    fn hostile_archives_are_refused() {
        let said = |document: &str| docker(document.as_bytes()).unwrap_err().to_string();
        for member in ["../x", "/etc/passwd", "a//b", "", "a/./b", "a\\u0000b", "\\u001b[2J"] {
            let config = format!(r#"[{{"Config":"{member}"}}]"#);
            assert!(said(&config).ends_with("is no clean path inside the archive"), "{member}");
            let layer = format!(r#"[{{"Config":"c","Layers":["{member}"]}}]"#);
            assert!(said(&layer).ends_with("is no clean path inside the archive"), "{member}");
        }
        assert!(said(r#"[{"Config":"c","RepoTags":["A b"]}]"#).contains("calls an image \"A b\""));
        assert!(said("{}").starts_with("manifest.json cannot be read"));
        let many = format!(r#"[{{"Config":"c","Layers":[{}"l"]}}]"#, "\"l\",".repeat(MAX_LAYERS));
        assert_eq!(said(&many), "manifest.json has more than 127 layers");
        let images = format!("[{}{{\"Config\":\"c\"}}]", "{\"Config\":\"c\"},".repeat(MAX_IMAGES));
        assert_eq!(said(&images), "manifest.json has more than 1000 images");
        assert!(matches!(docker(&vec![b' '; MAX_DOCUMENT + 1]), Err(ArchiveError::TooLarge { .. })));

        let index = br#"{"manifests":[{"mediaType":"m","digest":"sha256:../..","size":1}]}"#;
        assert!(matches!(
            layout(render_layout().as_bytes(), index),
            Err(ArchiveError::Unreadable { document: INDEX, .. })
        ));
        let newer = layout(br#"{"imageLayoutVersion":"2.0.0"}"#, b"{\"manifests\":[]}");
        assert_eq!(newer, Err(ArchiveError::Version("2.0.0".to_owned())));
    }
}
