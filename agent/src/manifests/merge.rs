//! All files of all directories to one snapshot. Of two objects with one name the first in order stands, so that adding a
//! file cannot replace what another file started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Snapshot;
use super::directory::Directory;

type Owners<K> = BTreeMap<K, PathBuf>;

#[derive(Default)]
struct Merge {
    snapshot: Snapshot,
    owners: Owners<(&'static str, String, String)>,
    uids: Owners<String>,
}

pub(super) fn merge(directories: &[Directory]) -> Snapshot {
    let mut merge = Merge::default();
    for directory in directories {
        if let Some(error) = &directory.error {
            merge.snapshot.errors.push((directory.path.clone(), vec![error.clone()]));
        }
        for (name, file) in &directory.files {
            let path = directory.path.join(name);
            let mut errors = file.errors.clone();
            merge.add(&path, &file.good, &mut errors);
            if !errors.is_empty() {
                merge.snapshot.errors.push((path.clone(), errors));
            }
            if !file.good.warnings.is_empty() {
                let warnings = file.good.warnings.iter().map(ToString::to_string).collect();
                merge.snapshot.warnings.push((path, warnings));
            }
        }
    }
    merge.snapshot
}

impl Merge {
    fn add(&mut self, path: &Path, manifest: &plan::manifest::Manifest, errors: &mut Vec<String>) {
        for pod in &manifest.pods {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            if let Some(other) = self.uids.get(&uid) {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let other = other.display();
                errors.push(format!("Pod {name} is not used: a pod of {other} has its name or uid {uid}"));
            } else if self.claim("Pod", &pod.metadata, path, errors).is_some() {
                self.uids.insert(uid.clone(), path.to_owned());
                self.snapshot.pods.insert(uid, (pod.clone(), path.to_owned()));
            }
        }
        for map in &manifest.config_maps {
            if let Some(key) = self.claim("ConfigMap", &map.metadata, path, errors) {
                self.snapshot.config_maps.insert(key, map.clone());
            }
        }
        for secret in &manifest.secrets {
            if let Some(key) = self.claim("Secret", &secret.metadata, path, errors) {
                self.snapshot.secrets.insert(key, secret.clone());
            }
        }
    }

    fn claim(
        &mut self,
        kind: &'static str,
        metadata: &ObjectMeta,
        path: &Path,
        errors: &mut Vec<String>,
    ) -> Option<(String, String)> {
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let name = metadata.name.clone().unwrap_or_default();
        let key = (kind, namespace.clone(), name.clone());
        if let Some(other) = self.owners.get(&key) {
            let other = other.display();
            errors
                .push(format!("{kind} {namespace}/{name} of {} is not used: it is in {other} already", path.display()));
            return None;
        }
        self.owners.insert(key, path.to_owned());
        Some((namespace, name))
    }
}
