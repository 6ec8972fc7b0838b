//! The contents of volumes that are data: configMap, secret, projected and downwardAPI, as the kubelet's volume plugins
//! make them. Gives names, modes and bytes; the agent writes them (`..data` and its swap are its business).
//!
//! What the pod says wrongly is refused at its field; what an object lacks blocks the pod, as in the kubelet, until the
//! object has it.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource, KeyToPath, Pod,
    ProjectedVolumeSource, SecretProjection, SecretVolumeSource, Volume, VolumeProjection,
};
use sha2::{Digest, Sha256};

use crate::blocked::{FAILED_MOUNT, Reasons, Unplannable};
use crate::fields::downward::{FieldUse, field_value, resource_value};
use crate::inputs::{Gathered, NodeFacts};

mod kind;
mod path;
pub(crate) mod token;

use kind::VolumeKind;

/// The mode of a file of which neither volume nor item says one.
pub const DEFAULT_FILE_MODE: u32 = 0o644;
/// The mode of the volume's directories.
pub const DIRECTORY_MODE: u32 = 0o755;

/// The files of one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFiles {
    /// In path order; no path is a directory of another one.
    pub files: Vec<VolumeFile>,
    /// Mode of every directory of the volume, the top one too; setgid with a `gid`.
    pub dir_mode: u32,
    /// Owning group of every file and directory (`fsGroup`); None: root's.
    pub gid: Option<u32>,
    /// SHA-256 over owners, names, modes and data, in hex: the volume is written anew when it differs.
    pub hash: String,
}

/// One file of a volume.
#[derive(Clone, PartialEq, Eq)]
pub struct VolumeFile {
    /// Relative and clean: no empty, `.` or `..` component, at most 255 bytes each and 4096 in all; any byte but NUL.
    pub path: String,
    /// The contents; may be secret, so `Debug` does not show them.
    pub data: Vec<u8>,
    /// 0 ..= 0777.
    pub mode: u32,
    /// Owning user; None: root.
    pub uid: Option<u32>,
}

impl fmt::Debug for VolumeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.uid.map(|uid| format!(" uid {uid}")).unwrap_or_default();
        write!(f, "{} {:04o}{owner} <{} bytes>", self.path, self.mode, self.data.len())
    }
}

/// Where a volume's contents come from.
pub struct FilesInput<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// One of its volumes.
    pub volume: &'a Volume,
    /// The volume's field path: `spec.volumes[0]`.
    pub path: String,
    /// The ConfigMaps and Secrets.
    pub gathered: &'a Gathered,
    /// The node.
    pub facts: &'a NodeFacts,
}

/// The files of a configMap, secret, projected or downwardAPI volume; None for emptyDir, hostPath and a volume that names
/// no kind, which is an emptyDir. Every other kind is refused by name.
pub fn volume_files(input: &FilesInput<'_>) -> Result<Option<VolumeFiles>, Unplannable> {
    let path = &input.path;
    let mut payload = Payload { input, files: BTreeMap::new(), reasons: Reasons::default() };
    match kind::of(input.volume, path)? {
        VolumeKind::Directory => return Ok(None),
        VolumeKind::ConfigMap(source) => payload.config_map_volume(&format!("{path}.configMap"), source),
        VolumeKind::Secret(source) => payload.secret_volume(&format!("{path}.secret"), source),
        VolumeKind::DownwardApi(source) => payload.downward_volume(&format!("{path}.downwardAPI"), source),
        VolumeKind::Projected(source) => payload.projected_volume(&format!("{path}.projected"), source),
    }
    payload.finish().map(Some)
}

/// What the kubelet does with `fsGroup` (`SetVolumeOwnership`) to these volumes, all of which it mounts read-only:
/// `gid` owns everything, files become readable to it, directories searchable and setgid.
pub fn with_fs_group(files: &mut VolumeFiles, gid: u32) {
    files.gid = Some(gid);
    files.dir_mode |= 0o2550;
    for file in &mut files.files {
        file.mode |= 0o440;
    }
    files.hash = hash(files);
}

/// A ConfigMap or Secret as a volume names it.
struct Source<'a> {
    /// The field path.
    path: &'a str,
    name: &'a str,
    items: Option<&'a Vec<KeyToPath>>,
    optional: Option<bool>,
    mode: u32,
}

struct Payload<'a> {
    input: &'a FilesInput<'a>,
    files: BTreeMap<String, Content>,
    reasons: Reasons,
}

/// One file, by its path.
struct Content {
    data: Vec<u8>,
    mode: u32,
    uid: Option<u32>,
}

impl Payload<'_> {
    fn config_map_volume(&mut self, path: &str, source: &ConfigMapVolumeSource) {
        let ConfigMapVolumeSource { default_mode, default_user, items, name, optional } = source;
        let mode = self.default_mode(path, *default_mode);
        self.refuse_user(&format!("{path}.defaultUser"), *default_user);
        self.config_map(Source { path, name, items: items.as_ref(), optional: *optional, mode });
    }

    fn secret_volume(&mut self, path: &str, source: &SecretVolumeSource) {
        let SecretVolumeSource { default_mode, default_user, items, optional, secret_name } = source;
        let mode = self.default_mode(path, *default_mode);
        self.refuse_user(&format!("{path}.defaultUser"), *default_user);
        match secret_name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => self.secret(Source { path, name, items: items.as_ref(), optional: *optional, mode }),
            None => self.reasons.refuse(format!("{path}.secretName"), "is required"),
        }
    }

    fn downward_volume(&mut self, path: &str, source: &DownwardAPIVolumeSource) {
        let DownwardAPIVolumeSource { default_mode, default_user, items } = source;
        let mode = self.default_mode(path, *default_mode);
        self.refuse_user(&format!("{path}.defaultUser"), *default_user);
        self.downward_items(path, items.as_ref(), mode);
    }

    /// All sources in one directory; where two give the same path the later one wins, as in the kubelet.
    fn projected_volume(&mut self, path: &str, source: &ProjectedVolumeSource) {
        let ProjectedVolumeSource { default_mode, default_user, sources } = source;
        let mode = self.default_mode(path, *default_mode);
        self.refuse_user(&format!("{path}.defaultUser"), *default_user);
        for (index, source) in sources.iter().flatten().enumerate() {
            self.projection(&format!("{path}.sources[{index}]"), source, mode);
        }
    }

    fn projection(&mut self, path: &str, source: &VolumeProjection, mode: u32) {
        let VolumeProjection {
            cluster_trust_bundle,
            config_map,
            downward_api,
            pod_certificate,
            secret,
            service_account_token,
        } = source;
        let given = [
            cluster_trust_bundle.is_some(),
            config_map.is_some(),
            downward_api.is_some(),
            pod_certificate.is_some(),
            secret.is_some(),
            service_account_token.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() != 1 {
            return self.reasons.refuse(path, "must have exactly one source");
        }
        let later =
            [(cluster_trust_bundle.is_some(), "clusterTrustBundle"), (pod_certificate.is_some(), "podCertificate")];
        for (_, name) in later.into_iter().filter(|(given, _)| *given) {
            self.reasons.refuse(format!("{path}.{name}"), "is not supported yet");
        }
        if let Some(projection) = service_account_token {
            self.service_account_token(&format!("{path}.serviceAccountToken"), projection, mode);
        }
        if let Some(ConfigMapProjection { items, name, optional }) = config_map {
            let path = &format!("{path}.configMap");
            self.config_map(Source { path, name, items: items.as_ref(), optional: *optional, mode });
        }
        if let Some(SecretProjection { items, name, optional }) = secret {
            let path = &format!("{path}.secret");
            self.secret(Source { path, name, items: items.as_ref(), optional: *optional, mode });
        }
        if let Some(projection) = downward_api {
            self.downward_items(&format!("{path}.downwardAPI"), projection.items.as_ref(), mode);
        }
    }

    fn config_map(&mut self, source: Source<'_>) {
        let found = self.input.gathered.config_maps.get(source.name).map(|map| {
            let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
            let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
            binary.chain(text).collect()
        });
        self.object(source, found, "configmap", "configmap references non-existent config key");
    }

    /// `stringData` is write-only: whoever stores the Secret has merged it.
    fn secret(&mut self, source: Source<'_>) {
        let found = self.input.gathered.secrets.get(source.name).map(|secret| {
            secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect()
        });
        self.object(source, found, "secret", "references non-existent secret key");
    }

    /// `MakePayload` of both plugins: all keys, or the items.
    fn object(&mut self, source: Source<'_>, found: Option<BTreeMap<&str, &[u8]>>, kind: &str, missing_key: &str) {
        let Source { path, name, items, optional, mode } = source;
        let optional = optional == Some(true);
        if found.is_none() && !optional {
            self.block(&format!("{kind} {name:?} not found"));
        }
        let known = found.is_some() || optional;
        let keys = found.unwrap_or_default();
        if items.is_none_or(Vec::is_empty) {
            for (key, data) in keys {
                match path::clean(key) {
                    Ok(clean) => self.put(clean, data.to_vec(), mode),
                    // The object can be put right without touching the pod.
                    Err(reason) => self.block(&format!("key {key:?} of {kind} {name:?} is no file name: {reason}")),
                }
            }
            return;
        }
        for (index, item) in items.into_iter().flatten().enumerate() {
            let KeyToPath { key, mode: own_mode, path: target, user } = item;
            let path = format!("{path}.items[{index}]");
            self.refuse_user(&format!("{path}.user"), *user);
            let mode = self.mode(&format!("{path}.mode"), *own_mode, mode);
            match (path::clean(target), keys.get(key.as_str())) {
                (Err(reason), _) => self.reasons.refuse(format!("{path}.path"), reason),
                (Ok(clean), Some(data)) => self.put(clean, data.to_vec(), mode),
                (Ok(_), None) if optional || !known => {}
                (Ok(_), None) => self.block(&format!("{missing_key}: {key}")),
            }
        }
    }

    /// `downwardapi.CollectData`.
    fn downward_items(&mut self, path: &str, items: Option<&Vec<DownwardAPIVolumeFile>>, mode: u32) {
        let FilesInput { pod, facts, .. } = *self.input;
        for (index, item) in items.into_iter().flatten().enumerate() {
            let DownwardAPIVolumeFile { field_ref, mode: own_mode, path: target, resource_field_ref, user } = item;
            let path = format!("{path}.items[{index}]");
            self.refuse_user(&format!("{path}.user"), *user);
            let mode = self.mode(&format!("{path}.mode"), *own_mode, mode);
            let (place, value) = match (field_ref, resource_field_ref) {
                (Some(selector), None) => {
                    (format!("{path}.fieldRef.fieldPath"), field_value(pod, facts, FieldUse::File, selector))
                }
                (None, Some(selector)) => {
                    (format!("{path}.resourceFieldRef"), resource_value(pod, facts, None, selector))
                }
                (Some(_), Some(_)) | (None, None) => {
                    (path.clone(), Err("must have one of fieldRef and resourceFieldRef".to_owned()))
                }
            };
            match (path::clean(target), value) {
                (Ok(clean), Ok(value)) => self.put(clean, value.into_bytes(), mode),
                (clean, value) => {
                    for (at, reason) in [(format!("{path}.path"), clean.err().map(str::to_owned)), (place, value.err())]
                    {
                        if let Some(reason) = reason {
                            self.reasons.refuse(at, reason);
                        }
                    }
                }
            }
        }
    }

    fn put(&mut self, path: String, data: Vec<u8>, mode: u32) {
        self.files.insert(path, Content { data, mode, uid: None });
    }

    fn default_mode(&mut self, path: &str, mode: Option<i32>) -> u32 {
        self.mode(&format!("{path}.defaultMode"), mode, DEFAULT_FILE_MODE)
    }

    fn mode(&mut self, path: &str, mode: Option<i32>, otherwise: u32) -> u32 {
        match mode.map(u32::try_from) {
            None => otherwise,
            Some(Ok(mode @ 0..=0o777)) => mode,
            Some(_) => {
                self.reasons.refuse(path, "must be between 0 and 0777 octal (511 decimal)");
                otherwise
            }
        }
    }

    /// An alpha field of 1.37 whose gate is off.
    fn refuse_user(&mut self, path: &str, user: Option<i64>) {
        if user.is_some() {
            self.reasons.refuse(path, "is not supported: the files belong to root, fsGroup gives them a group");
        }
    }

    fn block(&mut self, cause: &str) {
        let name = &self.input.volume.name;
        self.reasons.block(FAILED_MOUNT, format!("MountVolume.SetUp failed for volume {name:?} : {cause}"));
    }

    fn finish(mut self) -> Result<VolumeFiles, Unplannable> {
        for path in self.files.keys() {
            let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
            for parent in parents.filter(|parent| self.files.contains_key(*parent)) {
                self.reasons.refuse(&self.input.path, format!("{parent:?} is a file and the directory of {path:?}"));
            }
        }
        let file = |(path, Content { data, mode, uid })| VolumeFile { path, data, mode, uid };
        let files = self.files.into_iter().map(file).collect();
        let mut files = VolumeFiles { files, dir_mode: DIRECTORY_MODE, gid: None, hash: String::new() };
        files.hash = hash(&files);
        self.reasons.finish(files)
    }
}

/// Every variable part with its length before it, so that no two volumes give the same input.
fn hash(files: &VolumeFiles) -> String {
    let VolumeFiles { files, dir_mode, gid, hash: _ } = files;
    let mut digest = Sha256::new();
    digest.update(dir_mode.to_le_bytes());
    digest.update(gid.map_or(u64::MAX, u64::from).to_le_bytes());
    for VolumeFile { path, data, mode, uid } in files {
        for part in [path.as_bytes(), data.as_slice()] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.update(mode.to_le_bytes());
        digest.update(uid.map_or(u64::MAX, u64::from).to_le_bytes());
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
