//! A pod's volumes: ours are made on the file threads, the host's where one that does not answer holds up nobody else.

use std::path::Path;
use std::sync::Arc;

use plan::pod_plan::{HostPathCreate, VolumeContent};

use super::{ApplyError, blocking};
use crate::files::{
    AtomicVolume, Owner, VolumeFile, ensure_tmpfs, make_dirs, make_dirs_beneath, make_file_beneath, set_owner_and_mode,
};
use crate::reconcile::host::on_host;
use crate::reconcile::{PodRef, Shared};

pub(super) async fn prepare(shared: &Arc<Shared>, pod: &PodRef, content: VolumeContent) -> Result<(), ApplyError> {
    match content {
        VolumeContent::Empty { path, mode, gid, tmpfs_bytes } => {
            blocking(move || {
                make_dirs(Path::new(&path), 0o755, None)?;
                if let Some(bytes) = tmpfs_bytes {
                    ensure_tmpfs(Path::new(&path), bytes, mode)?;
                }
                let owner = gid.map(|gid| Owner { uid: 0, gid });
                Ok(set_owner_and_mode(Path::new(&path), owner, Some(mode))?)
            })
            .await
        }
        VolumeContent::Files { path, files } => {
            blocking(move || {
                let list: Vec<VolumeFile<'_>> = files.files.iter().map(written).collect();
                AtomicVolume::new(&path).write(&list, files.gid)?;
                let owner = files.gid.map(|gid| Owner { uid: 0, gid });
                Ok(set_owner_and_mode(Path::new(&path), owner, Some(files.dir_mode))?)
            })
            .await
        }
        VolumeContent::Host { create: None, .. } => Ok(()),
        VolumeContent::Host { path, create: Some(create) } => {
            let made = on_host(shared, &pod.uid, vec![path], move |path| host_path(path, create)).await?;
            made.into_iter().collect()
        }
    }
}

fn written(file: &plan::fields::files::VolumeFile) -> VolumeFile<'_> {
    let plan::fields::files::VolumeFile { path, data, mode, uid } = file;
    VolumeFile { path, content: data, mode: *mode, uid: *uid }
}

fn host_path(path: &str, create: HostPathCreate) -> Result<(), ApplyError> {
    match create {
        HostPathCreate::Directory => Ok(make_dirs_beneath(Path::new(path), 0o755)?),
        HostPathCreate::File => Ok(make_file_beneath(Path::new(path), 0o644)?),
    }
}
