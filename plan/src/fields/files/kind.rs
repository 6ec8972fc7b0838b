//! Which kind of volume it is. The API's struct is taken apart without `..`: a kind that a new Kubernetes adds does not
//! compile until it is mapped or refused here.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeSource, ProjectedVolumeSource, SecretVolumeSource, Volume,
};

use crate::blocked::Unplannable;
use crate::note::Refusal;

/// The kinds that run here.
pub(super) enum VolumeKind<'a> {
    /// emptyDir, hostPath, or none, which is an emptyDir: directories, not contents.
    Directory,
    ConfigMap(&'a ConfigMapVolumeSource),
    Secret(&'a SecretVolumeSource),
    DownwardApi(&'a DownwardAPIVolumeSource),
    Projected(&'a ProjectedVolumeSource),
}

/// The kind of the volume at `path`; every kind that does not run here is a refusal, and so is a second kind.
pub(super) fn of<'a>(volume: &'a Volume, path: &str) -> Result<VolumeKind<'a>, Unplannable> {
    let Volume {
        aws_elastic_block_store,
        azure_disk,
        azure_file,
        cephfs,
        cinder,
        config_map,
        csi,
        downward_api,
        empty_dir,
        ephemeral,
        fc,
        flex_volume,
        flocker,
        gce_persistent_disk,
        git_repo,
        glusterfs,
        host_path,
        image,
        iscsi,
        name: _,
        nfs,
        persistent_volume_claim,
        photon_persistent_disk,
        portworx_volume,
        projected,
        quobyte,
        rbd,
        scale_io,
        secret,
        storageos,
        vsphere_volume,
    } = volume;
    // Those that could be served one day, then those whose drivers Kubernetes itself has moved out or dropped.
    let later = [
        ("csi", csi.is_some()),
        ("ephemeral", ephemeral.is_some()),
        ("image", image.is_some()),
        ("nfs", nfs.is_some()),
        ("persistentVolumeClaim", persistent_volume_claim.is_some()),
    ];
    let never = [
        ("awsElasticBlockStore", aws_elastic_block_store.is_some()),
        ("azureDisk", azure_disk.is_some()),
        ("azureFile", azure_file.is_some()),
        ("cephfs", cephfs.is_some()),
        ("cinder", cinder.is_some()),
        ("fc", fc.is_some()),
        ("flexVolume", flex_volume.is_some()),
        ("flocker", flocker.is_some()),
        ("gcePersistentDisk", gce_persistent_disk.is_some()),
        ("gitRepo", git_repo.is_some()),
        ("glusterfs", glusterfs.is_some()),
        ("iscsi", iscsi.is_some()),
        ("photonPersistentDisk", photon_persistent_disk.is_some()),
        ("portworxVolume", portworx_volume.is_some()),
        ("quobyte", quobyte.is_some()),
        ("rbd", rbd.is_some()),
        ("scaleIO", scale_io.is_some()),
        ("storageos", storageos.is_some()),
        ("vsphereVolume", vsphere_volume.is_some()),
    ];
    let refusal = |yet: &str, kinds: &[(&str, bool)]| -> Vec<Refusal> {
        let given = kinds.iter().filter(|(_, given)| *given);
        let text = |name: &str| format!("{name} volumes are not supported{yet}: use hostPath or emptyDir");
        given.map(|(name, _)| Refusal::new(format!("{path}.{name}"), text(name))).collect()
    };
    let refusals = [refusal(" yet", &later), refusal("", &never)].concat();
    if !refusals.is_empty() {
        return Err(Unplannable::Refused(refusals));
    }
    let given = [
        config_map.as_ref().map(VolumeKind::ConfigMap),
        secret.as_ref().map(VolumeKind::Secret),
        downward_api.as_ref().map(VolumeKind::DownwardApi),
        projected.as_ref().map(VolumeKind::Projected),
        empty_dir.as_ref().map(|_| VolumeKind::Directory),
        host_path.as_ref().map(|_| VolumeKind::Directory),
    ];
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next()) {
        (None, _) => Ok(VolumeKind::Directory),
        (Some(kind), None) => Ok(kind),
        (Some(_), Some(_)) => Err(Unplannable::refused(path, "may not have more than one kind of volume")),
    }
}
