//! The contents of volumes that are data.
use std::fmt;

use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::blocked::Unplannable;
use crate::inputs::{Gathered, NodeFacts};

/// The files of one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFiles {
    /// In path order.
    pub files: Vec<VolumeFile>,
    /// Mode of every directory of the volume, the top one too.
    pub dir_mode: u32,
    /// Owning group of every file and directory (`fsGroup`).
    pub gid: Option<u32>,
    /// SHA-256 over group, names, modes and data, in hex: rewrite when it differs.
    pub hash: String,
}

/// One file of a volume.
#[derive(Clone, PartialEq, Eq)]
pub struct VolumeFile {
    /// Relative, cleaned, without `..`.
    pub path: String,
    /// May be a secret.
    pub data: Vec<u8>,
    /// 0 ..= 0777.
    pub mode: u32,
}

impl fmt::Debug for VolumeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:04o} <{} bytes>", self.path, self.mode, self.data.len())
    }
}

/// Where a volume's contents come from.
#[derive(Debug)]
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

/// The files of a configMap, secret, projected or downwardAPI volume; None for emptyDir and hostPath.
pub fn volume_files(input: &FilesInput<'_>) -> Result<Option<VolumeFiles>, Unplannable> {
    let _ = input;
    todo!()
}

/// What the kubelet does with `fsGroup`.
pub fn with_fs_group(files: &mut VolumeFiles, gid: u32) {
    files.gid = Some(gid);
}
