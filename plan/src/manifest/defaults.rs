//! The defaults that an API server fills in and that the rest of the plan therefore counts on.
//! Source: `pkg/apis/core/v1/defaults.go` of Kubernetes 1.37. `imagePullPolicy` is left to the plan: it depends on the image.

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Pod, Probe, ResourceRequirements, Volume};

fn default<T>(field: &mut Option<T>, value: T) {
    field.get_or_insert(value);
}

fn default_text(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}

pub(super) fn fill(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    default_text(&mut spec.restart_policy, "Always");
    default_text(&mut spec.dns_policy, "ClusterFirst");
    default(&mut spec.termination_grace_period_seconds, 30);
    default(&mut spec.enable_service_links, true);
    let host_network = spec.host_network.unwrap_or_default();
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        fill_container(container, host_network);
    }
    spec.volumes.iter_mut().flatten().for_each(fill_volume);
}

fn fill_container(container: &mut Container, host_network: bool) {
    default_text(&mut container.termination_message_path, "/dev/termination-log");
    default_text(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        default_text(&mut port.protocol, "TCP");
        if host_network && port.host_port.unwrap_or_default() == 0 {
            port.host_port = Some(port.container_port);
        }
    }
    if let Some(resources) = &mut container.resources {
        requests_from_limits(resources);
    }
    let probes = [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    probes.into_iter().flatten().for_each(fill_probe);
}

/// A limit without a request is the request as well, which decides the pod's QoS class.
fn requests_from_limits(resources: &mut ResourceRequirements) {
    if let Some(limits) = &resources.limits {
        let requests = resources.requests.get_or_insert_default();
        for (name, quantity) in limits {
            requests.entry(name.clone()).or_insert_with(|| quantity.clone());
        }
    }
}

fn fill_probe(probe: &mut Probe) {
    for (field, value) in [
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ] {
        if field.unwrap_or_default() == 0 {
            *field = Some(value);
        }
    }
    if let Some(http) = &mut probe.http_get {
        default_text(&mut http.path, "/");
        default_text(&mut http.scheme, "HTTP");
    }
}

fn fill_volume(volume: &mut Volume) {
    if super::volumes::sources(volume).is_empty() {
        volume.empty_dir = Some(EmptyDirVolumeSource::default());
    }
    let modes = [
        volume.secret.as_mut().map(|source| &mut source.default_mode),
        volume.config_map.as_mut().map(|source| &mut source.default_mode),
        volume.downward_api.as_mut().map(|source| &mut source.default_mode),
        volume.projected.as_mut().map(|source| &mut source.default_mode),
    ];
    for mode in modes.into_iter().flatten() {
        default(mode, 0o644);
    }
}
