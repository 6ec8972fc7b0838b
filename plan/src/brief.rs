//! `Debug` for what holds a user's data: names and sizes, never a value. A log line or a panic message must not be the way
//! by which a Secret, a ConfigMap or a literal environment value leaves the agent's memory.

use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter, Result};

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Volume};

use crate::container::ContainerInput;
use crate::fields::command::CommandInput;
use crate::fields::env::EnvInput;
use crate::fields::files::FilesInput;
use crate::fields::mounts::MountInput;
use crate::inputs::Gathered;
use crate::manifest::Manifest;
use crate::status::StatusInput;
use crate::steps::Desired;

/// Shows an object by what it is called and how large it is.
#[derive(Clone, Copy)]
pub struct Brief<'a, T: ?Sized>(pub &'a T);

impl Debug for Brief<'_, Pod> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let meta = &self.0.metadata;
        let [namespace, name, uid] = [&meta.namespace, &meta.name, &meta.uid].map(|t| t.as_deref().unwrap_or_default());
        write!(f, "{namespace}/{name} ({uid})")
    }
}

impl Debug for Brief<'_, Container> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} ({})", self.0.name, self.0.image.as_deref().unwrap_or_default())
    }
}

impl Debug for Brief<'_, Volume> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(&self.0.name)
    }
}

impl Debug for Brief<'_, Secret> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let data = self.0.data.iter().flatten().map(|(key, value)| (key, value.0.len()));
        let text = self.0.string_data.iter().flatten().map(|(key, value)| (key, value.len()));
        f.debug_map().entries(data.chain(text)).finish()
    }
}

impl Debug for Brief<'_, ConfigMap> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let data = self.0.data.iter().flatten().map(|(key, value)| (key, value.len()));
        let binary = self.0.binary_data.iter().flatten().map(|(key, value)| (key, value.0.len()));
        f.debug_map().entries(data.chain(binary)).finish()
    }
}

impl<K: Debug, V> Debug for Brief<'_, BTreeMap<K, V>>
where
    for<'b> Brief<'b, V>: Debug,
{
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_map().entries(self.0.iter().map(|(key, value)| (key, Brief(value)))).finish()
    }
}

impl<V> Debug for Brief<'_, Vec<V>>
where
    for<'b> Brief<'b, V>: Debug,
{
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_list().entries(self.0.iter().map(Brief)).finish()
    }
}

impl Debug for Gathered {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Gathered")
            .field("config_maps", &Brief(&self.config_maps))
            .field("secrets", &Brief(&self.secrets))
            .field("images", &self.images)
            .field("users", &self.users)
            .field("primary_groups", &self.primary_groups)
            .field("host_paths", &self.host_paths)
            .field("cluster", &self.cluster)
            .finish()
    }
}

impl Debug for Manifest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let name = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| meta.name.clone();
        let maps = self.config_maps.iter().map(|map| (name(&map.metadata), Brief(map))).collect::<Vec<_>>();
        let secrets = self.secrets.iter().map(|secret| (name(&secret.metadata), Brief(secret))).collect::<Vec<_>>();
        f.debug_struct("Manifest")
            .field("pods", &Brief(&self.pods))
            .field("config_maps", &maps)
            .field("secrets", &secrets)
            .field("warnings", &self.warnings)
            .finish()
    }
}

impl Debug for EnvInput<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("EnvInput")
            .field("pod", &Brief(self.pod))
            .field("container", &Brief(self.container))
            .field("path", &self.path)
            .field("gathered", self.gathered)
            .field("defaults", &self.defaults)
            .finish_non_exhaustive()
    }
}

impl Debug for FilesInput<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("FilesInput")
            .field("pod", &Brief(self.pod))
            .field("volume", &Brief(self.volume))
            .field("path", &self.path)
            .field("gathered", self.gathered)
            .finish_non_exhaustive()
    }
}

impl Debug for MountInput<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("MountInput")
            .field("container", &Brief(self.container))
            .field("path", &self.path)
            .field("gathered", self.gathered)
            .finish_non_exhaustive()
    }
}

impl Debug for CommandInput<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("CommandInput")
            .field("container", &Brief(self.container))
            .field("path", &self.path)
            .field("env", &self.env)
            .finish_non_exhaustive()
    }
}

impl Debug for ContainerInput<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("ContainerInput")
            .field("pod", &Brief(self.pod))
            .field("container", &Brief(self.container))
            .field("path", &self.path)
            .field("attempt", &self.attempt)
            .field("gathered", self.gathered)
            .finish_non_exhaustive()
    }
}

impl Debug for Desired<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Run { pod, plan } => f.debug_struct("Run").field("pod", &Brief(*pod)).field("plan", plan).finish(),
            Self::Refused => f.write_str("Refused"),
            Self::Stop { requested_ms, grace_ms } => {
                f.debug_struct("Stop").field("requested_ms", requested_ms).field("grace_ms", grace_ms).finish()
            }
        }
    }
}

impl Debug for StatusInput<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("StatusInput")
            .field("pod", &Brief(self.pod))
            .field("plan", &self.plan)
            .field("history", self.history)
            .field("observed", self.observed)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::fixtures::facts;
    use crate::launch::EnvVar;
    use crate::pod_plan::PodPlan;

    const DOCUMENTS: [&str; 3] = [
        "
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  volumes: [{name: v, secret: {secretName: s}}]
  containers: [{name: c, image: /bin/x, env: [{name: E, value: hunter2}], volumeMounts: [{name: v, mountPath: /v}]}]
",
        "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {key: hunter2}}",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {key: hunter2}}",
    ];

    #[test]
    fn a_debug_print_shows_no_value() {
        let documents = DOCUMENTS.map(|document| serde_saphyr::from_str(document).unwrap());
        let manifest = crate::manifest::parse(&documents, "node1").unwrap();
        let named = |name: &str| name.to_owned();
        let gathered = Gathered {
            secrets: [(named("s"), manifest.secrets[0].clone())].into(),
            config_maps: [(named("m"), manifest.config_maps[0].clone())].into(),
            ..Gathered::default()
        };
        let (pod, facts) = (&manifest.pods[0], facts());
        let spec = pod.spec.as_ref().unwrap();
        let (container, volume) = (&spec.containers[0], &spec.volumes.as_ref().unwrap()[0]);
        let gathered = &gathered;
        let env = EnvInput {
            pod,
            container,
            path: String::new(),
            gathered,
            facts: &facts,
            defaults: vec![EnvVar::new("E", "hunter2")],
        };
        let files = FilesInput { pod, volume, path: String::new(), gathered, facts: &facts };
        let written = crate::fields::files::volume_files(&files).unwrap();
        let plan = crate::pod::plan(pod, gathered, &facts, &BTreeMap::new());
        let desired = Desired::Run { pod, plan: &PodPlan::unplanned(pod) };
        let shown = format!("{env:?}");
        let environment = crate::fields::env::environment(env);
        for text in [
            format!("{manifest:?}"),
            format!("{gathered:?}"),
            format!("{shown} {environment:?}"),
            format!("{files:?} {written:?}"),
            format!("{desired:?}"),
            format!("{plan:?}"),
        ] {
            assert!(!text.contains("hunter2") && !text.contains(&format!("{:?}", b"hunter2")), "{text}");
            assert!(text.contains("7 bytes") || text.contains("\"key\": 7") || text.contains("default/p"), "{text}");
        }
    }
}
