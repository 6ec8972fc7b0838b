//! What an API server would refuse in a pod, all of it: on a node without one nobody else looks.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe};

use super::{names, ports, volumes};
use crate::note::Refusal;

pub(super) fn validate(pod: &Pod, problems: &mut Vec<Refusal>) {
    names::metadata(&pod.metadata, problems);
    let Some(spec) = &pod.spec else {
        problems.push(Refusal::new("spec", "is required"));
        return;
    };
    pod_level(spec, problems);
    let mut host_ports = BTreeSet::new();
    let known_volumes = volumes::validate(spec, problems);
    if spec.containers.is_empty() {
        problems.push(Refusal::new("spec.containers", "must have at least one container"));
    }
    if spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        problems.push(Refusal::new("spec.ephemeralContainers", "cannot be part of a new pod"));
    }
    let mut seen = BTreeSet::new();
    let init = spec.init_containers.iter().flatten().enumerate().map(|(index, c)| ("initContainers", index, c));
    let main = spec.containers.iter().enumerate().map(|(index, c)| ("containers", index, c));
    for (list, index, container) in init.chain(main) {
        let path = format!("spec.{list}[{index}]");
        if !names::is_label(&container.name) {
            problems.push(Refusal::new(format!("{path}.name"), names::LABEL));
        } else if !seen.insert(container.name.as_str()) {
            problems.push(Refusal::new(format!("{path}.name"), format!("{} is there twice", container.name)));
        }
        validate_container(container, &path, &known_volumes, problems);
        // Init containers run one after the other.
        let mut alone = BTreeSet::new();
        let taken = if list == "containers" { &mut host_ports } else { &mut alone };
        ports::host_ports(container, spec.host_network == Some(true), &path, taken, problems);
    }
}

pub(super) fn one_of(value: Option<&str>, choices: &[&str], path: &str, problems: &mut Vec<Refusal>) {
    if value.is_some_and(|value| !choices.contains(&value)) {
        problems.push(Refusal::new(path, format!("must be {}", choices.join(" or "))));
    }
}

fn at_least(value: Option<i64>, least: i64, path: &str, problems: &mut Vec<Refusal>) {
    if value.is_some_and(|value| value < least) {
        problems.push(Refusal::new(path, format!("must be at least {least}")));
    }
}

fn pod_level(spec: &PodSpec, problems: &mut Vec<Refusal>) {
    one_of(spec.restart_policy.as_deref(), &["Always", "OnFailure", "Never"], "spec.restartPolicy", problems);
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    one_of(spec.dns_policy.as_deref(), &policies, "spec.dnsPolicy", problems);
    let grace = spec.termination_grace_period_seconds;
    at_least(grace, 0, "spec.terminationGracePeriodSeconds", problems);
    at_least(spec.active_deadline_seconds, 1, "spec.activeDeadlineSeconds", problems);
    if spec.hostname.as_deref().is_some_and(|name| !name.is_empty() && !names::is_label(name)) {
        problems.push(Refusal::new("spec.hostname", names::LABEL));
    }
    if let Some(context) = &spec.security_context {
        let path = "spec.securityContext";
        user_id(context.run_as_user, &format!("{path}.runAsUser"), problems);
        user_id(context.run_as_group, &format!("{path}.runAsGroup"), problems);
        user_id(context.fs_group, &format!("{path}.fsGroup"), problems);
        for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
            user_id(Some(*group), &format!("{path}.supplementalGroups[{index}]"), problems);
        }
    }
}

/// Kubernetes' own bounds; the kernel's 2^32-1 means "no change" and is never reached.
fn user_id(id: Option<i64>, path: &str, problems: &mut Vec<Refusal>) {
    if id.is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id)) {
        problems.push(Refusal::new(path, "must be between 0 and 2147483647"));
    }
}

fn validate_container(container: &Container, path: &str, volumes: &BTreeSet<&str>, problems: &mut Vec<Refusal>) {
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        problems.push(Refusal::new(format!("{path}.image"), "is required"));
    } else if image.trim() != image {
        problems.push(Refusal::new(format!("{path}.image"), "must not begin or end with a blank"));
    }
    let pull = ["Always", "IfNotPresent", "Never"];
    one_of(container.image_pull_policy.as_deref(), &pull, &format!("{path}.imagePullPolicy"), problems);
    let policy = container.termination_message_policy.as_deref();
    let policies = ["File", "FallbackToLogsOnError"];
    one_of(policy, &policies, &format!("{path}.terminationMessagePolicy"), problems);
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let path = format!("{path}.env[{index}]");
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            problems.push(Refusal::new(format!("{path}.name"), "is required and must not have a = in it"));
        }
        if variable.value_from.is_some() && variable.value.as_deref().is_some_and(|value| !value.is_empty()) {
            problems.push(Refusal::new(path, "has a value and a valueFrom; one is possible"));
        }
    }
    ports::ports(container, path, problems);
    mounts(container, path, volumes, problems);
    if let Some(context) = &container.security_context {
        user_id(context.run_as_user, &format!("{path}.securityContext.runAsUser"), problems);
        user_id(context.run_as_group, &format!("{path}.securityContext.runAsGroup"), problems);
    }
    for (name, probe) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        if let Some(probe) = probe {
            validate_probe(probe, name, &format!("{path}.{name}"), problems);
        }
    }
}

fn mounts(container: &Container, path: &str, volumes: &BTreeSet<&str>, problems: &mut Vec<Refusal>) {
    let mut seen = BTreeSet::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        if !volumes.contains(mount.name.as_str()) {
            let text = format!("there is no volume {} in spec.volumes", super::shorten(&mount.name));
            problems.push(Refusal::new(format!("{path}.name"), text));
        }
        let parts = || mount.mount_path.split('/').filter(|part| !part.is_empty() && *part != ".");
        if !mount.mount_path.starts_with('/') || mount.mount_path.contains('\0') || parts().any(|part| part == "..") {
            problems.push(Refusal::new(format!("{path}.mountPath"), "must be absolute and without .."));
        } else if !seen.insert(parts().collect::<Vec<_>>()) {
            let text = format!("{} is mounted twice", super::shorten(&mount.mount_path));
            problems.push(Refusal::new(format!("{path}.mountPath"), text));
        }
        for (name, sub_path) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if sub_path.as_deref().is_some_and(|sub| !sub.is_empty() && !volumes::is_relative(sub)) {
                problems.push(Refusal::new(format!("{path}.{name}"), "must be relative and without .."));
            }
        }
    }
}

fn validate_probe(probe: &Probe, name: &str, path: &str, problems: &mut Vec<Refusal>) {
    let actions = [probe.exec.is_some(), probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.grpc.is_some()];
    if actions.into_iter().filter(|there| *there).count() != 1 {
        problems.push(Refusal::new(path, "must have exactly one of exec, httpGet, tcpSocket and grpc"));
    }
    for (field, value, least) in [
        ("initialDelaySeconds", probe.initial_delay_seconds, 0),
        ("timeoutSeconds", probe.timeout_seconds, 1),
        ("periodSeconds", probe.period_seconds, 1),
        ("successThreshold", probe.success_threshold, 1),
        ("failureThreshold", probe.failure_threshold, 1),
    ] {
        at_least(value.map(i64::from), least, &format!("{path}.{field}"), problems);
    }
    if name != "readinessProbe" && probe.success_threshold.is_some_and(|count| count > 1) {
        problems.push(Refusal::new(format!("{path}.successThreshold"), "must be 1"));
    }
}
