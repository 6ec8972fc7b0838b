//! Every field of a pod is named here once: routed to the group that maps it, refused with a reason, or noted.
//!
//! `PodSpec`, `Container` and their security contexts are taken apart without `..`, so a field that a new k8s-openapi
//! brings is a compile error that names it. Adding one: CONTRIBUTING.md, "Add a pod field".

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::note::{Note, NoteKind, Refusal};

pub mod command;
pub mod downward;
pub mod env;
pub mod expansion;
pub mod files;
pub mod identity;
pub mod mounts;
pub mod ports;
pub mod resources;
pub mod root;
pub mod sandbox;
pub mod volumes;

#[cfg(test)]
pub(crate) mod fixtures;

/// What stands at a field that systemk does not map.
#[derive(Debug, Default)]
pub struct Findings {
    /// Why the pod cannot run.
    pub refusals: Vec<Refusal>,
    /// What the user should know.
    pub notes: Vec<Note>,
}

impl Findings {
    fn refuse_if(&mut self, present: bool, path: String, text: &str) {
        if present {
            self.refusals.push(Refusal::new(path, text));
        }
    }

    fn note_if(&mut self, present: bool, kind: NoteKind, path: String, text: &str) {
        if present {
            self.notes.push(Note::new(kind, path, text));
        }
    }
}

/// The path of a container in its pod: `spec.containers[1]`.
pub fn container_path(init: bool, index: usize) -> String {
    format!("spec.{}[{index}]", if init { "initContainers" } else { "containers" })
}

/// Looks at every field of a pod that no group maps.
pub fn findings(pod: &Pod) -> Findings {
    let mut found = Findings::default();
    let Some(spec) = &pod.spec else {
        found.refusals.push(Refusal::new("spec", "is missing"));
        return found;
    };
    pod_fields(spec, &mut found);
    ports::findings(spec, &mut found);
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        container_fields(container, &container_path(true, index), true, &mut found);
    }
    for (index, container) in spec.containers.iter().enumerate() {
        container_fields(container, &container_path(false, index), false, &mut found);
    }
    found
}

fn pod_fields(spec: &PodSpec, found: &mut Findings) {
    let PodSpec {
        // Mapped by the groups, or walked by `findings`.
        containers: _,
        init_containers: _,
        volumes: _,
        security_context,
        restart_policy,
        termination_grace_period_seconds,
        host_network: _,
        resources: _,
        overhead: _,
        service_account_name: _,
        service_account: _,
        node_name: _,
        // The scheduler's and the API server's business: the node obeys their outcome.
        affinity: _,
        node_selector: _,
        tolerations: _,
        topology_spread_constraints: _,
        scheduler_name: _,
        scheduling_gates: _,
        scheduling_group: _,
        priority: _,
        priority_class_name: _,
        preemption_policy: _,
        automount_service_account_token: _,
        enable_service_links: _,
        eviction_responders: _,
        // Judged here.
        active_deadline_seconds,
        dns_config,
        dns_policy,
        ephemeral_containers,
        host_aliases,
        host_ipc: _,
        host_pid: _,
        host_users,
        hostname,
        hostname_override,
        image_pull_secrets,
        os,
        readiness_gates,
        resource_claims,
        runtime_class_name,
        set_hostname_as_fqdn,
        share_process_namespace,
        subdomain,
    } = spec;
    let at = |field: &str| format!("spec.{field}");
    found.refuse_if(
        !matches!(restart_policy.as_deref(), None | Some("Always" | "OnFailure" | "Never")),
        at("restartPolicy"),
        "must be Always, OnFailure or Never",
    );
    found.refuse_if(
        termination_grace_period_seconds.is_some_and(|s| s < 0),
        at("terminationGracePeriodSeconds"),
        "must not be negative",
    );
    found.refuse_if(active_deadline_seconds.is_some(), at("activeDeadlineSeconds"), "is not supported yet");
    found.refuse_if(dns_config.is_some(), at("dnsConfig"), "a pod on the host's network uses the host's resolv.conf");
    found.refuse_if(
        dns_policy.as_deref() == Some("None"),
        at("dnsPolicy"),
        "a pod on the host's network uses the host's resolv.conf; use Default",
    );
    // They come to a pod that runs, which must not suffer by it.
    found.note_if(
        ephemeral_containers.as_ref().is_some_and(|e| !e.is_empty()),
        NoteKind::Ignored,
        at("ephemeralContainers"),
        "are not supported yet: the pod goes on without them",
    );
    found.refuse_if(
        host_aliases.as_ref().is_some_and(|h| !h.is_empty()),
        at("hostAliases"),
        "a pod on the host's network uses the host's /etc/hosts; mount a file there instead",
    );
    found.refuse_if(*host_users == Some(false), at("hostUsers"), "a package runs in the host's user namespace");
    found.refuse_if(os.as_ref().is_some_and(|o| o.name != "linux"), at("os.name"), "this node runs linux");
    found.refuse_if(
        readiness_gates.as_ref().is_some_and(|g| !g.is_empty()),
        at("readinessGates"),
        "are not supported yet",
    );
    found.refuse_if(
        resource_claims.as_ref().is_some_and(|c| !c.is_empty()),
        at("resourceClaims"),
        "dynamic resource allocation is not part of systemk",
    );
    found.refuse_if(runtime_class_name.is_some(), at("runtimeClassName"), "is not supported yet: leave it out");
    let host_name = "a pod on the host's network has the host's name";
    found.note_if(hostname.is_some(), NoteKind::Ignored, at("hostname"), host_name);
    found.note_if(hostname_override.is_some(), NoteKind::Ignored, at("hostnameOverride"), host_name);
    found.note_if(subdomain.is_some(), NoteKind::Ignored, at("subdomain"), host_name);
    found.note_if(*set_hostname_as_fqdn == Some(true), NoteKind::Ignored, at("setHostnameAsFQDN"), host_name);
    found.note_if(
        *share_process_namespace == Some(true),
        NoteKind::Ignored,
        at("shareProcessNamespace"),
        "packages run in the host's process namespace: their processes see each other and all of the host's",
    );
    found.note_if(
        image_pull_secrets.as_ref().is_some_and(|s| !s.is_empty()),
        NoteKind::Ignored,
        at("imagePullSecrets"),
        "the package manager's own credentials are used",
    );
    if let Some(context) = security_context {
        sandbox::pod_fields(context, found);
    }
}

fn container_fields(container: &Container, path: &str, init: bool, found: &mut Findings) {
    let Container {
        // Mapped by the groups.
        name: _,
        image: _,
        image_pull_policy: _,
        command: _,
        args: _,
        env: _,
        env_from: _,
        working_dir: _,
        resources: _,
        resize_policy: _,
        volume_mounts: _,
        ports: _,
        security_context,
        // Judged here.
        lifecycle,
        liveness_probe,
        readiness_probe,
        startup_probe,
        restart_policy,
        restart_policy_rules,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
    } = container;
    let at = |field: &str| format!("{path}.{field}");
    let probe = "probes are not supported yet: without one a container is ready while its program runs";
    found.refuse_if(liveness_probe.is_some(), at("livenessProbe"), probe);
    found.refuse_if(readiness_probe.is_some(), at("readinessProbe"), probe);
    found.refuse_if(startup_probe.is_some(), at("startupProbe"), probe);
    found.refuse_if(lifecycle.is_some(), at("lifecycle"), "hooks and stop signals are not supported yet");
    let sidecar = if init { "sidecars are not supported yet" } else { "is not supported yet" };
    found.refuse_if(restart_policy.is_some(), at("restartPolicy"), sidecar);
    found.refuse_if(
        restart_policy_rules.as_ref().is_some_and(|r| !r.is_empty()),
        at("restartPolicyRules"),
        "are not supported yet",
    );
    found.refuse_if(*stdin == Some(true), at("stdin"), "is not supported yet: a container reads /dev/null");
    found.refuse_if(*stdin_once == Some(true), at("stdinOnce"), "is not supported yet");
    found.refuse_if(*tty == Some(true), at("tty"), "is not supported yet");
    found.refuse_if(
        volume_devices.as_ref().is_some_and(|d| !d.is_empty()),
        at("volumeDevices"),
        "are not supported yet",
    );
    found.note_if(
        termination_message_path.as_deref().is_some_and(|p| p != "/dev/termination-log"),
        NoteKind::Ignored,
        at("terminationMessagePath"),
        "termination messages are not read yet",
    );
    found.note_if(
        termination_message_policy.as_deref() == Some("FallbackToLogsOnError"),
        NoteKind::Ignored,
        at("terminationMessagePolicy"),
        "termination messages are not read yet",
    );
    if let Some(context) = security_context {
        sandbox::container_fields(context, path, found);
    }
}
