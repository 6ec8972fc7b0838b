use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use proptest::prelude::*;

use super::*;
use crate::blocked::Blocked;
use crate::fields::fixtures::{facts, pod};
use crate::note::Refusal;

fn gathered() -> Gathered {
    let bytes = |value: &[u8]| ByteString(value.to_vec());
    let map = ConfigMap {
        data: Some([("a.txt".to_owned(), "one".to_owned()), ("b".to_owned(), "two\n".to_owned())].into()),
        binary_data: Some([("bin".to_owned(), bytes(b"\0\xff"))].into()),
        ..ConfigMap::default()
    };
    let odd = ConfigMap { data: Some([("..data".to_owned(), "x".to_owned())].into()), ..ConfigMap::default() };
    let secret = Secret {
        data: Some([("a.txt".to_owned(), bytes(b"s3cret")), ("key".to_owned(), bytes(b"\xfe"))].into()),
        string_data: Some([("plain".to_owned(), "ignored".to_owned())].into()),
        ..Secret::default()
    };
    Gathered {
        config_maps: [("cm".to_owned(), map), ("odd".to_owned(), odd)].into(),
        secrets: [("s".to_owned(), secret)].into(),
        ..Gathered::default()
    }
}

fn outcome(source: &str) -> Result<Option<VolumeFiles>, Unplannable> {
    let pod = pod(&format!(
        "metadata: {{name: p, labels: {{app: web}}}}\nspec:\n  containers: [{{name: c, resources: {{limits: {{memory: 64Mi}}}}}}]\n  \
         volumes: [{{name: v, {source}}}]"
    ));
    let (gathered, facts) = (gathered(), facts());
    let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
    volume_files(&FilesInput {
        pod: &pod,
        volume,
        path: "spec.volumes[0]".to_owned(),
        gathered: &gathered,
        facts: &facts,
    })
}

/// `path mode data` of every file.
fn files(source: &str) -> Vec<String> {
    let shown =
        |file: &VolumeFile| format!("{} {:o} {}", file.path, file.mode, String::from_utf8_lossy(&file.data).trim_end());
    outcome(source).unwrap().unwrap().files.iter().map(shown).collect()
}

fn refusals(source: &str) -> Vec<String> {
    match outcome(source) {
        Err(Unplannable::Refused(refusals)) => refusals.iter().map(ToString::to_string).collect(),
        other => panic!("{source}: {other:?}"),
    }
}

#[test]
fn config_maps_and_secrets() {
    for (source, expected) in [
        ("configMap: {name: cm}", vec!["a.txt 644 one", "b 644 two", "bin 644 \0\u{fffd}"]),
        ("configMap: {name: cm, defaultMode: 256}", vec!["a.txt 400 one", "b 400 two", "bin 400 \0\u{fffd}"]),
        (
            "configMap: {name: cm, items: [{key: b, path: ./x//y/z, mode: 511}, {key: bin, path: q}]}",
            vec!["q 644 \0\u{fffd}", "x/y/z 777 two"],
        ),
        ("configMap: {name: none, optional: true}", vec![]),
        ("configMap: {name: none, optional: true, items: [{key: a, path: a}]}", vec![]),
        ("configMap: {name: cm, optional: true, items: [{key: no, path: a}, {key: b, path: b}]}", vec!["b 644 two"]),
        ("secret: {secretName: s, defaultMode: 0}", vec!["a.txt 0 s3cret", "key 0 \u{fffd}"]),
        ("secret: {secretName: s, items: [{key: a.txt, path: a..b}]}", vec!["a..b 644 s3cret"]),
        ("secret: {secretName: none, optional: true}", vec![]),
    ] {
        assert_eq!(files(source), expected, "{source}");
    }
}

#[test]
fn projected_sources_share_a_directory_and_the_later_wins() {
    assert_eq!(
        files(
            "projected: {defaultMode: 288, sources: [{configMap: {name: cm, items: [{key: b, path: b}, {key: a.txt, path: a.txt}]}}, \
             {secret: {name: s, items: [{key: a.txt, path: a.txt, mode: 256}]}}, \
             {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]}"
        ),
        ["a.txt 400 s3cret", "b 440 two", "labels 440 app=\"web\""]
    );
}

#[test]
fn downward_files() {
    assert_eq!(
        files(
            "downwardAPI: {items: [{path: d/name, fieldRef: {fieldPath: metadata.name}, mode: 256}, \
             {path: memory, resourceFieldRef: {containerName: c, resource: limits.memory, divisor: 1Mi}}]}"
        ),
        ["d/name 400 p", "memory 644 64"]
    );
}

#[test]
fn directories_are_another_groups() {
    for source in ["emptyDir: {}", "hostPath: {path: /srv}", "configMap: null"] {
        assert_eq!(outcome(source), Ok(None), "{source}");
    }
}

#[test]
fn what_is_missing_blocks_with_the_kubelets_words() {
    for (source, cause) in [
        ("configMap: {name: none}", "configmap \"none\" not found"),
        ("configMap: {name: none, items: [{key: a, path: a}]}", "configmap \"none\" not found"),
        ("configMap: {name: cm, items: [{key: k, path: a}]}", "configmap references non-existent config key: k"),
        ("secret: {secretName: none}", "secret \"none\" not found"),
        ("secret: {secretName: s, items: [{key: plain, path: a}]}", "references non-existent secret key: plain"),
        ("projected: {sources: [{secret: {name: none}}, {configMap: {name: none}}]}", "secret \"none\" not found"),
        ("configMap: {name: odd}", "key \"..data\" of configmap \"odd\" is no file name: must not start with '..'"),
    ] {
        let message = format!("MountVolume.SetUp failed for volume \"v\" : {cause}");
        assert_eq!(outcome(source), Err(Unplannable::Blocked(Blocked::new("FailedMount", message))), "{source}");
    }
}

#[test]
fn what_the_pod_says_wrongly_is_refused_at_its_path() {
    for (source, expected) in [
        (
            "configMap: {name: cm, defaultMode: 512}",
            "configMap.defaultMode: must be between 0 and 0777 octal (511 decimal)",
        ),
        (
            "secret: {secretName: s, defaultUser: 5}",
            "secret.defaultUser: is not supported: the files belong to root, fsGroup gives them a group",
        ),
        ("secret: {}", "secret.secretName: is required"),
        ("secret: {secretName: s, items: [{key: key, path: ../x}]}", "secret.items[0].path: must not start with '..'"),
        ("configMap: {name: cm, items: [{key: b, path: a/../b}]}", "configMap.items[0].path: must not contain '..'"),
        ("configMap: {name: cm, items: [{key: b, path: /a}]}", "configMap.items[0].path: must be a relative path"),
        ("configMap: {name: cm, items: [{key: b, path: ./}]}", "configMap.items[0].path: must name a file"),
        (
            "configMap: {name: cm, items: [{key: b, path: b, mode: -1}]}",
            "configMap.items[0].mode: must be between 0 and 0777 octal (511 decimal)",
        ),
        ("projected: {sources: [{}]}", "projected.sources[0]: must have exactly one source"),
        (
            "projected: {sources: [{serviceAccountToken: {path: token}}]}",
            "projected.sources[0].serviceAccountToken: needs an API server, and none knows this pod: it is a manifest's",
        ),
        (
            "projected: {sources: [{clusterTrustBundle: {name: x, path: x}}]}",
            "projected.sources[0].clusterTrustBundle: is not supported yet",
        ),
        (
            "projected: {sources: [{podCertificate: {keyType: ED25519, signerName: x.io/y}}]}",
            "projected.sources[0].podCertificate: is not supported yet",
        ),
        ("downwardAPI: {items: [{path: x}]}", "downwardAPI.items[0]: must have one of fieldRef and resourceFieldRef"),
        (
            "downwardAPI: {items: [{path: x, fieldRef: {fieldPath: status.podIP}}]}",
            "downwardAPI.items[0].fieldRef.fieldPath: unsupported fieldPath: status.podIP",
        ),
        (
            "persistentVolumeClaim: {claimName: x}",
            "persistentVolumeClaim: persistentVolumeClaim volumes are not supported yet: use hostPath or emptyDir",
        ),
        ("gitRepo: {repository: x}", "gitRepo: gitRepo volumes are not supported: use hostPath or emptyDir"),
    ] {
        assert_eq!(refusals(source), [format!("spec.volumes[0].{expected}")], "{source}");
    }
    let conflict = "configMap: {name: cm, items: [{key: b, path: a}, {key: b, path: a/b}]}";
    assert_eq!(refusals(conflict), ["spec.volumes[0]: \"a\" is a file and the directory of \"a/b\""]);
    assert_eq!(
        refusals("emptyDir: {}, configMap: {name: cm}"),
        ["spec.volumes[0]: may not have more than one kind of volume"]
    );
    let both = "downwardAPI: {items: [{path: /x, fieldRef: {fieldPath: no}}]}";
    assert_eq!(refusals(both).len(), 2);
}

/// Mode and owner of a token's file in a pod of these containers and this pod security context.
fn token(containers: &str, context: &str) -> (u32, Option<u32>) {
    let source = "projected: {defaultMode: 288, sources: [{serviceAccountToken: {path: t}}]}";
    let pod = pod(&format!(
        "{{metadata: {{name: p}}, spec: {{securityContext: {context}, {containers}, volumes: [{{name: v, {source}}}]}}}}"
    ));
    let key = crate::inputs::TokenKey { audience: None, expiration_seconds: 3600 };
    assert_eq!(crate::pod::needs(&pod, &BTreeMap::new()).tokens, std::slice::from_ref(&key));
    let tokens = [(key, Ok(crate::inputs::Token::new("hunter2".to_owned())))].into();
    let cluster = Some(crate::inputs::ClusterFacts { tokens, ..Default::default() });
    let (gathered, facts) = (Gathered { cluster, ..Gathered::default() }, facts());
    let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
    let input = FilesInput { pod: &pod, volume, path: String::new(), gathered: &gathered, facts: &facts };
    let file = volume_files(&input).unwrap().unwrap().files.remove(0);
    assert!(file.data == b"hunter2" && !format!("{file:?} {gathered:?}").contains("hunter2"));
    (file.mode, file.uid)
}

#[test]
fn a_token_is_its_only_users_or_its_groups_as_in_the_kubelet() {
    let one = "containers: [{name: a}]";
    assert_eq!(token(one, "{}"), (0o440, None));
    assert_eq!(token(one, "{runAsUser: 7}"), (0o600, Some(7)));
    assert_eq!(token(one, "{runAsUser: 0}"), (0o600, Some(0)));
    assert_eq!(token(one, "{fsGroup: 7}"), (0o600, None));
    let own = "containers: [{name: a, securityContext: {runAsUser: 8}}, {name: b, securityContext: {runAsUser: 8}}]";
    assert_eq!(token(own, "{runAsUser: 7}"), (0o600, Some(8)));
    let some = "containers: [{name: a, securityContext: {runAsUser: 8}}, {name: b}]";
    assert_eq!(token(some, "{}"), (0o440, None));
    assert_eq!(token(some, "{runAsUser: 7}"), (0o440, None));
    let init = "initContainers: [{name: i, securityContext: {runAsUser: 9}}], containers: [{name: a}]";
    assert_eq!(token(init, "{runAsUser: 7}"), (0o440, None));
}

#[test]
fn fs_group_gives_the_group_read_and_changes_the_hash() {
    let mut volume = outcome("secret: {secretName: s, defaultMode: 256}").unwrap().unwrap();
    let before = volume.clone();
    with_fs_group(&mut volume, 1001);
    assert_eq!((volume.gid, volume.dir_mode), (Some(1001), 0o2755));
    assert!(volume.files.iter().all(|file| file.mode == 0o440));
    assert_ne!(volume.hash, before.hash);
    assert_eq!(volume.hash.len(), 64);
    assert!(!format!("{volume:?}").contains("s3cret"));
}

#[test]
fn the_hash_tells_names_modes_and_data_apart() {
    let hash = |source: &str| outcome(source).unwrap().unwrap().hash;
    let sources = [
        "configMap: {name: cm}",
        "configMap: {name: cm, defaultMode: 256}",
        "configMap: {name: cm, items: [{key: b, path: a}]}",
        "configMap: {name: cm, items: [{key: b, path: b}]}",
        "configMap: {name: cm, items: [{key: a.txt, path: b}]}",
    ];
    let hashes: std::collections::BTreeSet<String> = sources.iter().map(|source| hash(source)).collect();
    assert_eq!(hashes.len(), sources.len());
    assert_eq!(hash(sources[0]), hash(sources[0]));
}

proptest! {
    #[test]
    fn a_clean_path_stays_below_the_volume(path in "\\PC*", dotted in "[./a]{0,20}") {
        for path in [path, dotted] {
            if let Ok(clean) = path::clean(&path) {
                prop_assert!(!clean.is_empty() && !clean.starts_with('/') && !clean.contains('\0'));
                prop_assert!(clean.split('/').all(|name| !matches!(name, "" | "." | "..") && name.len() <= 255));
                prop_assert_eq!(path::clean(&clean), Ok(clean.clone()));
            }
        }
    }

    #[test]
    fn no_volume_panics(key in any::<String>(), path in any::<String>(), mode in any::<i32>(), field in any::<String>()) {
        let items = Some(vec![KeyToPath { key, mode: Some(mode), path: path.clone(), user: None }]);
        let volume = Volume {
            name: path.clone(),
            config_map: Some(ConfigMapVolumeSource { name: "cm".to_owned(), items, ..Default::default() }),
            ..Volume::default()
        };
        let downward = Volume {
            downward_api: Some(DownwardAPIVolumeSource {
                items: Some(vec![DownwardAPIVolumeFile {
                    path,
                    mode: Some(mode),
                    field_ref: Some(k8s_openapi::api::core::v1::ObjectFieldSelector { api_version: None, field_path: field }),
                    ..Default::default()
                }]),
                ..Default::default()
            }),
            ..Volume::default()
        };
        let (pod, gathered, facts) = (Pod::default(), gathered(), facts());
        for volume in [volume, downward] {
            let input = FilesInput { pod: &pod, volume: &volume, path: "v".to_owned(), gathered: &gathered, facts: &facts };
            if let Ok(Some(files)) = volume_files(&input) {
                prop_assert!(files.files.iter().all(|file| file.mode <= 0o777));
            }
        }
    }
}

#[test]
fn refusals_of_every_kind_name_it() {
    let sources = [
        "nfs: {server: a, path: /b}",
        "csi: {driver: d}",
        "image: {reference: r}",
        "iscsi: {iqn: i, lun: 1, targetPortal: t}",
    ];
    for source in sources {
        let kind = source.split(':').next().unwrap();
        match outcome(source) {
            Err(Unplannable::Refused(refusals)) => {
                let paths: Vec<&str> = refusals.iter().map(|Refusal { path, .. }| path.as_str()).collect();
                assert_eq!(paths, [format!("spec.volumes[0].{kind}")]);
            }
            other => panic!("{source}: {other:?}"),
        }
    }
}
