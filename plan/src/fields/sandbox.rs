//! Security contexts, apart from who the container is ([`super::identity`]): capabilities, privileges, profiles.
//!
//! A pod that says nothing gets a vendor unit's own hardening, or the runtimes' default capabilities where there is no
//! unit. What it does say is enforced exactly or refused.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, PodSecurityContext, SeccompProfile, SecurityContext, WindowsSecurityContextOptions,
};

use super::Findings;
use crate::launch::Capability;
use crate::launch::capability;
use crate::note::Refusal;

/// What of the sandbox goes into the Launch and the unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Bounding, permitted and effective sets; None: as the unit has them.
    pub capabilities: Option<Vec<Capability>>,
    /// `no_new_privs`.
    pub no_new_privileges: bool,
    /// Lifts the device policy and the capability limits.
    pub privileged: bool,
}

/// The sandbox of one container. `vendor` is true when a vendor unit brings its own hardening.
///
/// # Errors
/// Capability names that do not exist.
pub fn sandbox(context: Option<&SecurityContext>, path: &str, vendor: bool) -> Result<Sandbox, Vec<Refusal>> {
    let privileged = context.and_then(|c| c.privileged).unwrap_or(false);
    let wanted = context.and_then(|c| c.capabilities.as_ref());
    let capabilities = match (privileged, wanted) {
        (true, _) => None,
        (false, None) if vendor => None,
        (false, wanted) => Some(capability_set(wanted, path)?),
    };
    let no_new_privileges = context.and_then(|c| c.allow_privilege_escalation) == Some(false);
    Ok(Sandbox { capabilities, no_new_privileges, privileged })
}

fn capability_set(wanted: Option<&Capabilities>, path: &str) -> Result<Vec<Capability>, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut read = |names: &[String], list: &str| -> (bool, Vec<Capability>) {
        let mut all = false;
        let mut found = Vec::new();
        for (index, name) in names.iter().enumerate() {
            if name.eq_ignore_ascii_case("ALL") {
                all = true;
            } else if let Some(capability) = Capability::parse(name) {
                found.push(capability);
            } else {
                let at = format!("{path}.securityContext.capabilities.{list}[{index}]");
                refusals.push(Refusal::new(at, format!("{name:?} is not a capability; see capabilities(7)")));
            }
        }
        (all, found)
    };
    let none = Vec::new();
    let (add_all, add) = read(wanted.and_then(|w| w.add.as_ref()).unwrap_or(&none), "add");
    let (drop_all, drop) = read(wanted.and_then(|w| w.drop.as_ref()).unwrap_or(&none), "drop");
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut set: Vec<Capability> = match (add_all, drop_all) {
        (true, _) => Capability::all().collect(),
        (false, true) => Vec::new(),
        (false, false) => capability::DEFAULT.iter().filter_map(|n| Capability::parse(n)).collect(),
    };
    set.extend(add);
    set.retain(|c| !drop.contains(c));
    set.sort_unstable();
    set.dedup();
    Ok(set)
}

/// Judges the pod's security context.
pub(super) fn pod_fields(context: &PodSecurityContext, found: &mut Findings) {
    let PodSecurityContext {
        // `identity` and `volumes`.
        fs_group: _,
        run_as_group: _,
        run_as_non_root: _,
        run_as_user: _,
        supplemental_groups: _,
        // It speaks of volumes that outlive a pod; emptyDir and the like are always changed, as by the kubelet.
        fs_group_change_policy: _,
        // `identity`: under Strict a named user's memberships on the host are left out.
        supplemental_groups_policy: _,
        app_armor_profile,
        se_linux_change_policy,
        se_linux_options,
        seccomp_profile,
        sysctls,
        windows_options,
    } = context;
    let at = |field: &str| format!("spec.securityContext.{field}");
    app_armor(app_armor_profile.as_ref(), at("appArmorProfile"), found);
    seccomp(seccomp_profile.as_ref(), at("seccompProfile"), found);
    found.refuse_if(se_linux_options.is_some(), at("seLinuxOptions"), "is not supported yet");
    found.refuse_if(se_linux_change_policy.is_some(), at("seLinuxChangePolicy"), "is not supported yet");
    found.refuse_if(
        sysctls.as_ref().is_some_and(|s| !s.is_empty()),
        at("sysctls"),
        "a pod on the host's network and IPC must not change the host's settings",
    );
    windows(windows_options.as_ref(), &at("windowsOptions"), found);
}

/// Judges a container's security context.
pub(super) fn container_fields(context: &SecurityContext, path: &str, found: &mut Findings) {
    let SecurityContext {
        // `sandbox` and `identity`.
        allow_privilege_escalation,
        capabilities: _,
        privileged,
        run_as_group: _,
        run_as_non_root: _,
        run_as_user: _,
        app_armor_profile,
        proc_mount,
        read_only_root_filesystem,
        se_linux_options,
        seccomp_profile,
        windows_options,
    } = context;
    let at = |field: &str| format!("{path}.securityContext.{field}");
    app_armor(app_armor_profile.as_ref(), at("appArmorProfile"), found);
    seccomp(seccomp_profile.as_ref(), at("seccompProfile"), found);
    found.refuse_if(
        *allow_privilege_escalation == Some(false) && *privileged == Some(true),
        at("allowPrivilegeEscalation"),
        "cannot be false in a privileged container",
    );
    found.refuse_if(
        proc_mount.as_deref().is_some_and(|p| p != "Default"),
        at("procMount"),
        "a package sees the host's /proc; leave it out",
    );
    found.refuse_if(
        *read_only_root_filesystem == Some(true),
        at("readOnlyRootFilesystem"),
        "is not supported yet for packages: /usr, /etc, /opt and /srv are read-only already",
    );
    found.refuse_if(se_linux_options.is_some(), at("seLinuxOptions"), "is not supported yet");
    windows(windows_options.as_ref(), &at("windowsOptions"), found);
}

fn seccomp(profile: Option<&SeccompProfile>, path: String, found: &mut Findings) {
    found.refuse_if(
        profile.is_some_and(|p| p.type_ != "Unconfined"),
        path,
        "seccomp profiles are not supported yet: leave it out or use Unconfined",
    );
}

fn app_armor(profile: Option<&AppArmorProfile>, path: String, found: &mut Findings) {
    found.refuse_if(
        profile.is_some_and(|p| p.type_ != "Unconfined"),
        path,
        "AppArmor profiles are not supported yet: leave it out or use Unconfined",
    );
}

fn windows(options: Option<&WindowsSecurityContextOptions>, path: &str, found: &mut Findings) {
    let Some(WindowsSecurityContextOptions {
        gmsa_credential_spec,
        gmsa_credential_spec_name,
        host_process,
        run_as_user_name: _,
    }) = options
    else {
        return;
    };
    let text = "only runAsUserName has a meaning on this node";
    found.refuse_if(gmsa_credential_spec.is_some(), format!("{path}.gmsaCredentialSpec"), text);
    found.refuse_if(gmsa_credential_spec_name.is_some(), format!("{path}.gmsaCredentialSpecName"), text);
    found.refuse_if(*host_process == Some(true), format!("{path}.hostProcess"), text);
}
