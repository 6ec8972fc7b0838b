use serde_json::{Value, json};

use super::*;

fn digest(byte: char) -> String {
    format!("sha256:{}", byte.to_string().repeat(64))
}

fn blob(media_type: &str, byte: char) -> Value {
    json!({"mediaType": media_type, "digest": digest(byte), "size": 7})
}

fn manifest(layers: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": blob(OCI_CONFIG, 'c'), "layers": layers})
}

fn parse(document: &Value) -> Result<Document, ManifestError> {
    Document::parse(document.to_string().as_bytes(), "")
}

#[test]
fn images_of_both_makers_are_read() {
    let layers = [
        blob("application/vnd.oci.image.layer.v1.tar", '1'),
        blob("application/vnd.oci.image.layer.v1.tar+gzip", '2'),
        blob("application/vnd.oci.image.layer.v1.tar+zstd", '3'),
        blob("application/vnd.docker.image.rootfs.diff.tar.gzip", '4'),
    ];
    let Document::Manifest(image) = parse(&manifest(&layers)).unwrap() else { panic!("it is an image") };
    let found: Vec<_> = image.layers.iter().map(|layer| layer.compression).collect();
    assert_eq!(found, [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Gzip]);
    assert_eq!((image.config.digest.to_string(), image.config.size), (digest('c'), 7));

    // Without a type of its own: the registry's word, or the shape.
    let bare = json!({"schemaVersion": 2, "config": blob(DOCKER_CONFIG, 'c'), "layers": []});
    for content_type in ["", DOCKER_MANIFEST, "application/vnd.oci.image.manifest.v1+json; charset=utf-8"] {
        assert!(matches!(Document::parse(bare.to_string().as_bytes(), content_type), Ok(Document::Manifest(_))));
    }
}

#[test]
fn what_is_no_image_is_told_apart() {
    let both = json!({"schemaVersion": 2, "config": blob(OCI_CONFIG, 'c'), "layers": [], "manifests": []});
    assert_eq!(parse(&both), Err(ManifestError::Ambiguous));
    let mut posing = manifest(&[]);
    posing["mediaType"] = json!(OCI_INDEX);
    assert_eq!(parse(&posing), Err(ManifestError::Ambiguous));
    assert_eq!(parse(&json!({"schemaVersion": 1, "fsLayers": []})), Err(ManifestError::SchemaOne));

    let chart =
        json!({"schemaVersion": 2, "config": blob("application/vnd.cncf.helm.config.v1+json", 'c'), "layers": []});
    assert_eq!(parse(&chart).unwrap_err().to_string(), "it is no image but application/vnd.cncf.helm.config.v1+json");
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let said = parse(&manifest(&[blob(foreign, '1')])).unwrap_err().to_string();
    assert_eq!(said, format!("layer {} is of the type {foreign}, which is not supported", digest('1')));
    let many = vec![blob("application/vnd.oci.image.layer.v1.tar", '1'); MAX_LAYERS + 1];
    assert!(matches!(parse(&manifest(&many)), Err(ManifestError::TooMany { count: 128, .. })));
}

#[test]
fn hostile_documents_are_refused() {
    for bytes in [&b""[..], b"{", b"[]", b"null", b"{}", b"\xff", br#"{"schemaVersion":2,"config":{}}"#] {
        assert!(matches!(Document::parse(bytes, ""), Err(ManifestError::Unreadable(_))), "{bytes:?}");
    }
    assert_eq!(Document::parse(&vec![b' '; MAX_MANIFEST + 1], ""), Err(ManifestError::TooLarge(MAX_MANIFEST + 1)));
    let mut escape = manifest(&[]);
    escape["config"]["digest"] = json!("sha256:../../../etc/passwd");
    assert!(matches!(parse(&escape), Err(ManifestError::Unreadable(_))));
    let negative = json!({"schemaVersion": 2, "config": {"mediaType": OCI_CONFIG, "digest": digest('c'), "size": -1}});
    assert!(matches!(parse(&negative), Err(ManifestError::Unreadable(_))));
    let mut loud = manifest(&[]);
    loud["config"]["mediaType"] = json!("\u{1b}[2Jx");
    assert_eq!(parse(&loud).unwrap_err().to_string(), "it is no image but \\u{1b}[2Jx");
    // Deep nesting is the parser's to refuse.
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(Document::parse(deep.as_bytes(), ""), Err(ManifestError::Unreadable(_))));
}

#[test]
fn a_list_is_chosen_from_by_platform() {
    let of = |byte, os: &str, architecture: &str, variant: &str| {
        let mut listed = blob(OCI_MANIFEST, byte);
        listed["platform"] = json!({"os": os, "architecture": architecture, "variant": variant});
        listed
    };
    let list = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        of('1', "unknown", "unknown", ""), of('2', "linux", "arm", "v6"), of('3', "linux", "arm", "v7"),
        of('4', "linux", "amd64", ""), of('5', "linux", "amd64", ""),
    ]});
    let Document::Index(list) = parse(&list).unwrap() else { panic!("it is a list") };
    let chosen = |machine: &str| choose(&list, &Platform::of_machine(machine)).map(|chosen| chosen.digest.to_string());
    assert_eq!(chosen("x86_64"), Ok(digest('4')));
    assert_eq!(chosen("armv7l"), Ok(digest('3')));
    assert_eq!(chosen("armv6l"), Ok(digest('2')));
    let said = chosen("s390x").unwrap_err().to_string();
    assert_eq!(said, "there is no image for linux/s390x; the image is for linux/arm/v6, linux/arm/v7, linux/amd64");

    let any: Vec<Descriptor> =
        serde_json::from_value(json!([blob(OCI_MANIFEST, '6'), blob("text/plain", '7')])).unwrap();
    assert_eq!(choose(&any, &Platform::of_machine("x86_64")).unwrap().digest.to_string(), digest('6'));
    assert!(choose(&any[1..], &Platform::of_machine("x86_64")).unwrap_err().to_string().ends_with("is for nothing"));
}
