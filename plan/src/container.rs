//! One container's unit and Launch: every group's answer, put together once. The one unit envelope of both flavours.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::blocked::{Blocked, Reasons, Unplannable};
use crate::fields::command::{COMMAND_ANNOTATION, Command, CommandInput, command};
use crate::fields::downward;
use crate::fields::env::{EnvInput, environment};
use crate::fields::identity::{self, VendorUser, Who};
use crate::fields::mounts::{MountInput, Mountable, Mounts, mounts};
use crate::fields::resources::{ContainerResources, PodResources, QosClass, container_resources};
use crate::fields::root::{Root, root};
use crate::fields::sandbox::{Sandbox, sandbox};
use crate::inputs::{Gathered, ImageFacts, NodeFacts};
use crate::launch::{Capability, EnvVar, InheritEnv, LAUNCH_VERSION, Launch};
use crate::note::{Note, NoteKind, Refusal};
use crate::pod_plan::AttemptPlan;
use crate::unit::escape::check_path;
use crate::unit::name::{AttemptDirs, INSIDE, PodDirs, service, slice};
use crate::unit::{UnitFile, UnitIdentity};
use crate::vendor::{self, ServiceType, VendorContext, VendorService};

mod envelope;

/// What the failure file holds until `init` is reached.
pub const FAILURE_UNREACHED: &str = "{\"unreached\":true}\n";

/// The annotation that names a package's unit.
pub const UNIT_ANNOTATION: &str = "systemk.io/unit";

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What one container is planned from.
#[derive(Clone, Copy)]
pub struct ContainerInput<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its spec.
    pub spec: &'a PodSpec,
    /// The container.
    pub container: &'a Container,
    /// Its path in the pod.
    pub path: &'a str,
    /// The number of the attempt.
    pub attempt: u32,
    /// Its image.
    pub image: &'a ImageFacts,
    /// The pod's volumes.
    pub volumes: &'a BTreeMap<String, Mountable>,
    /// The pod's resources.
    pub pod_resources: &'a PodResources,
    /// The agent's answers.
    pub gathered: &'a Gathered,
    /// The node.
    pub facts: &'a NodeFacts,
}

/// One container's plan and remarks.
#[derive(Debug)]
pub struct Planned {
    /// The attempt.
    pub attempt: AttemptPlan,
    /// What the user should know.
    pub notes: Vec<Note>,
}

/// The pod's identity in the names that units are made of.
#[derive(Clone, Debug)]
pub(crate) struct PodNames<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) grace_seconds: i64,
}

impl<'a> PodNames<'a> {
    pub(crate) fn of(pod: &'a Pod) -> Self {
        let meta = &pod.metadata;
        Self {
            namespace: downward::namespace(pod),
            name: meta.name.as_deref().unwrap_or_default(),
            uid: meta.uid.as_deref().unwrap_or_default(),
            grace_seconds: pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30),
        }
    }

    fn identity(&self, facts: &NodeFacts, container: &str, attempt: u32) -> UnitIdentity {
        UnitIdentity {
            node: facts.node_name.clone(),
            namespace: self.namespace.to_owned(),
            pod: self.name.to_owned(),
            uid: self.uid.to_owned(),
            container: container.to_owned(),
            attempt,
            grace_seconds: self.grace_seconds,
        }
    }
}

/// The name of the pod's slice.
pub fn slice_name(facts: &NodeFacts, qos: QosClass, uid: &str) -> String {
    let infix = match qos {
        QosClass::Guaranteed => None,
        QosClass::Burstable => Some("burstable"),
        QosClass::BestEffort => Some("besteffort"),
    };
    slice(&facts.slice_root, infix, uid)
}

/// Plans one attempt of one container.
///
/// # Errors
/// Every reason why it can never run as written, or what it waits for.
pub fn plan_container(input: &ContainerInput<'_>) -> Result<Planned, Unplannable> {
    let names = PodNames::of(input.pod);
    let dirs = PodDirs::new(&input.facts.run_root, &input.facts.state_root, names.uid)
        .attempt(&input.container.name, input.attempt);
    let plain = vendor_service(input, &dirs, false)?;
    let (user, dynamic) = plain.as_ref().map_or((None, false), |v| (v.user.clone(), v.dynamic_user));
    // The vendor's own user by name is the vendor's unit as it is, with its directories and groups.
    let own = user.as_deref().is_some_and(|user| identity::is_only_user(input.spec, input.container, user));
    let replaced = identity::asks(input.spec, input.container) && !own;
    // A pod that only sets a group keeps the user of the plain unit.
    let vendor = if replaced { vendor_service(input, &dirs, true)? } else { plain };
    let vendor_user = VendorUser { user: user.as_deref(), dynamic };
    // Every group is asked, so that a pod is refused with all of its reasons.
    let mut reasons = Reasons::default();
    let who = reasons.take(identity::who(input.spec, input.container, input.path, vendor_user, input.gathered));
    let host_dirs = host_dirs(vendor.as_ref(), who.as_ref().unwrap_or(&Who::Unit));
    let context = input.container.security_context.as_ref();
    let sandbox = reasons.take(sandbox(context, input.path, vendor.is_some()).map_err(Unplannable::Refused));
    let mut declared = declared_paths(vendor.as_ref());
    declared.extend(host_dirs.iter().map(|(_, path)| path.clone()));
    let root = root(input.facts, &dirs, input.image, &declared);
    let mounts = reasons.take(container_mounts(input, &root, &dirs));
    let env = reasons.take(environment(EnvInput {
        pod: input.pod,
        container: input.container,
        path: input.path.to_owned(),
        gathered: input.gathered,
        facts: input.facts,
        defaults: env_defaults(vendor.as_ref(), who.as_ref().unwrap_or(&Who::Unit), &host_dirs),
    }));
    let vars = env.as_ref().map(|env| env.vars.as_slice()).unwrap_or_default();
    let command = reasons.take(container_command(input, vendor.as_ref(), vars));
    let cwd = reasons.take(working_dir(input));
    let resources = container_resources(input.pod, input.container, input.path, input.facts);
    reasons.refusals.extend(resources.refusals.clone());
    reasons.finish(())?;
    let (Some(who), Some(sandbox), Some(mut mounts), Some(env), Some(command), Some(cwd)) =
        (who, sandbox, mounts, env, command, cwd)
    else {
        return Err(Unplannable::Blocked(waits("")));
    };
    let mut notes: Vec<Note> = vendor.iter().flat_map(|v| v.notes.clone()).collect();
    notes.extend(env.notes);
    notes.extend(command.notes.clone());
    notes.extend(resources.notes.clone());
    notes.extend(unreachable_dirs(&host_dirs, &who, input.path));
    let missing = |path: &str| input.gathered.host_paths.get(path).is_some_and(|known| known.kind.is_none());
    mounts.host_paths.extend(host_dirs.iter().filter(|(_, path)| missing(path)).map(|(_, path)| path.clone()));
    let launch = launch(vendor.as_ref(), &command, env.vars, cwd, &who, &sandbox);
    let parts = Parts {
        names: &names,
        dirs: &dirs,
        vendor,
        command: &command,
        who: &who,
        sandbox: &sandbox,
        resources: &resources,
        root: &root,
        mounts: &mounts,
    };
    let attempt = assemble(input, parts, launch)?;
    Ok(Planned { attempt, notes })
}

/// Everything that the groups decided, on its way into the unit.
struct Parts<'a> {
    names: &'a PodNames<'a>,
    dirs: &'a AttemptDirs,
    vendor: Option<VendorService>,
    command: &'a Command,
    who: &'a Who,
    sandbox: &'a Sandbox,
    resources: &'a ContainerResources,
    root: &'a Root,
    mounts: &'a Mounts,
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn program_given(input: &ContainerInput<'_>) -> bool {
    input.container.command.as_ref().is_some_and(|c| !c.is_empty())
        && annotation(input.pod, COMMAND_ANNOTATION).is_none()
}

/// The package's service as our unit needs it; None where the image has none.
fn vendor_service(
    input: &ContainerInput<'_>,
    dirs: &AttemptDirs,
    pod_identity: bool,
) -> Result<Option<VendorService>, Unplannable> {
    let ImageFacts::Package(package) = input.image else { return Ok(None) };
    let wanted = annotation(input.pod, UNIT_ANNOTATION);
    let refused = |refusals| Unplannable::Refused(refusals);
    let chosen = match vendor::choose(&package.name, &package.units, wanted) {
        Ok(chosen) => chosen,
        // Several units and none of the package's name: with a program of its own the pod needs none of them.
        Err(_) if program_given(input) && wanted.is_none() => return Ok(None),
        Err(refusal) => return Err(refused(vec![refusal])),
    };
    let Some(unit) = chosen else { return Ok(None) };
    let context = VendorContext {
        runtime_root: dirs.container_run.strip_prefix("/run/").unwrap_or(&dirs.container_run),
        run_dir: &dirs.container_run,
        program_given: program_given(input),
        pod_identity,
        specifiers: &input.facts.specifiers,
    };
    vendor::adopt(&unit, &context).map(Some).map_err(refused)
}

/// Paths that the vendor's unit says it writes.
fn declared_paths(vendor: Option<&VendorService>) -> Vec<String> {
    let values = vendor.into_iter().flat_map(|v| v.directives.iter()).filter(|d| d.name == "ReadWritePaths");
    values
        .flat_map(|d| d.value.split_whitespace())
        .map(|p| p.trim_matches('"').trim_start_matches(['-', '+']).to_owned())
        .filter(|p| check_path(p).is_ok())
        .collect()
}

fn container_mounts(input: &ContainerInput<'_>, root: &Root, dirs: &AttemptDirs) -> Result<Mounts, Unplannable> {
    let mount_input = MountInput {
        container: input.container,
        path: input.path,
        root,
        dirs,
        gathered: input.gathered,
        facts: input.facts,
    };
    // A volume that is refused itself stands here for one that is not: the pod does not run, for that volume's reasons.
    let is_named = |name: &str| input.spec.volumes.iter().flatten().any(|v| v.name == name);
    let any = || Mountable { source: "/".to_owned(), ..Mountable::default() };
    let lookup = |name: &str| input.volumes.get(name).cloned().or_else(|| is_named(name).then(any));
    mounts(&mount_input, lookup).map_err(Unplannable::Refused)
}

/// The vendor's State=, Cache= and LogsDirectory= where the pod has its own identity, with the variables that name them.
/// systemd would give the host's directories to root then, with all that is in them, and a service of the host that uses
/// them would lose them. They are bound as they are instead.
fn host_dirs(vendor: Option<&VendorService>, who: &Who) -> Vec<(&'static str, String)> {
    let (Some(vendor), Who::Is { .. }) = (vendor, who) else { return Vec::new() };
    let kinds = [
        ("STATE_DIRECTORY", "/var/lib", &vendor.directories.state),
        ("CACHE_DIRECTORY", "/var/cache", &vendor.directories.cache),
        ("LOGS_DIRECTORY", "/var/log", &vendor.directories.logs),
    ];
    let paths = |(variable, base, names): (&'static str, &'static str, &Vec<String>)| -> Vec<(&'static str, String)> {
        names.iter().map(|name| (variable, format!("{base}/{name}"))).collect()
    };
    kinds.into_iter().flat_map(paths).collect()
}

/// PATH and HOME come from systemd for a vendor's unit; HOME follows an identity that the pod sets.
fn env_defaults(vendor: Option<&VendorService>, who: &Who, host_dirs: &[(&'static str, String)]) -> Vec<EnvVar> {
    let mut defaults = Vec::new();
    if vendor.is_none() {
        defaults.push(EnvVar::new("PATH", DEFAULT_PATH));
    }
    match who {
        Who::Is { home, .. } => defaults.push(EnvVar::new("HOME", home)),
        Who::Unit if vendor.is_none() => defaults.push(EnvVar::new("HOME", "/root")),
        Who::Unit => {}
    }
    defaults.extend(vendor.and_then(VendorService::runtime_directory_variable));
    for variable in ["STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY"] {
        let paths: Vec<&str> =
            host_dirs.iter().filter(|(v, _)| *v == variable).map(|(_, path)| path.as_str()).collect();
        if !paths.is_empty() {
            defaults.push(EnvVar::new(variable, paths.join(":")));
        }
    }
    defaults
}

fn container_command(
    input: &ContainerInput<'_>,
    vendor: Option<&VendorService>,
    env: &[EnvVar],
) -> Result<Command, Unplannable> {
    command(&CommandInput {
        container: input.container,
        path: input.path,
        annotation: annotation(input.pod, COMMAND_ANNOTATION),
        image: input.image,
        vendor,
        env,
    })
}

/// A pod identity cannot be given the host's own state directories: the user is told which.
fn unreachable_dirs(host_dirs: &[(&'static str, String)], who: &Who, path: &str) -> Vec<Note> {
    let Who::Is { identity, .. } = who else { return Vec::new() };
    if identity.uid == 0 || host_dirs.is_empty() {
        return Vec::new();
    }
    let paths: Vec<&str> = host_dirs.iter().map(|(_, path)| path.as_str()).collect();
    let text = format!("uid {} may be unable to write {}, which stay their owner's", identity.uid, paths.join(", "));
    vec![Note::new(NoteKind::Warned, format!("{path}.securityContext.runAsUser"), text)]
}

fn working_dir(input: &ContainerInput<'_>) -> Result<Option<String>, Unplannable> {
    match input.container.working_dir.as_deref() {
        None | Some("") => Ok(None),
        Some(dir) if !dir.starts_with('/') || dir.contains('\0') || dir.len() > 4095 => Err(Unplannable::refused(
            format!("{}.workingDir", input.path),
            format!("{:?} is not an absolute path of at most 4095 bytes", shown(dir)),
        )),
        Some(dir) => Ok(Some(dir.to_owned())),
    }
}

/// The beginning of a text from a pod, for a message.
pub(crate) fn shown(text: &str) -> String {
    let begin: String = text.chars().take(200).collect();
    if begin.len() < text.len() { begin + "…" } else { begin }
}

fn launch(
    vendor: Option<&VendorService>,
    command: &Command,
    env: Vec<EnvVar>,
    cwd: Option<String>,
    who: &Who,
    sandbox: &Sandbox,
) -> Launch {
    let identity = match who {
        Who::Unit => None,
        Who::Is { identity, .. } => Some(identity.clone()),
    };
    let chown = match (&identity, vendor) {
        (Some(_), Some(vendor)) => vendor.directories.runtime.iter().map(|n| format!("/run/{n}")).collect(),
        _ => Vec::new(),
    };
    Launch {
        version: LAUNCH_VERSION,
        lines: command.lines.iter().map(|l| (l.key.clone(), l.line.clone())).collect(),
        env,
        inherit: if vendor.is_some() { InheritEnv::All } else { InheritEnv::Only(Vec::new()) },
        cwd,
        identity,
        chown,
        capabilities: capabilities(vendor, sandbox),
        no_new_privileges: sandbox.no_new_privileges,
        failure_file: format!("{INSIDE}/failure"),
    }
}

/// The pod's own set, else the vendor's `CapabilityBoundingSet=` where init has to become the pod's identity first.
fn capabilities(vendor: Option<&VendorService>, sandbox: &Sandbox) -> Option<Vec<Capability>> {
    let vendors = || vendor.and_then(|v| v.bounding_set.clone()).filter(|_| !sandbox.privileged);
    sandbox.capabilities.clone().or_else(vendors)
}

fn assemble(input: &ContainerInput<'_>, parts: Parts<'_>, launch: Launch) -> Result<AttemptPlan, Unplannable> {
    let names = parts.names;
    let container = &input.container.name;
    let slice = slice_name(input.facts, input.pod_resources.qos, names.uid);
    let unit = service(names.namespace, names.name, container, names.uid, input.attempt);
    let launch_path = format!("{}/launch.json", parts.dirs.run);
    let identity = names.identity(input.facts, container, input.attempt);
    let slice_text = envelope::slice_file(names.identity(input.facts, "", 0), input.pod_resources).render();
    let dirs = parts.dirs.clone();
    let make = [parts.root.make.clone(), parts.mounts.make.clone()].concat();
    let host_paths = parts.mounts.host_paths.clone();
    let mut file = UnitFile::new(identity);
    envelope::service_file(&mut file, parts, &slice, &launch_path).map_err(|(path, bad)| {
        Unplannable::Refused(vec![Refusal::new(format!("{}.volumeMounts", input.path), format!("{path:?} {bad}"))])
    })?;
    Ok(AttemptPlan {
        container: container.clone(),
        attempt: input.attempt,
        unit,
        unit_text: file.render(),
        slice,
        slice_text,
        launch,
        own_dirs: vec![dirs.run, dirs.state],
        make,
        host_paths,
        launch_path,
    })
}

/// The reason for a container that has no plan because another part of the pod has none.
pub(crate) fn waits(message: &str) -> Blocked {
    Blocked::new("ContainerCreating", message)
}

/// The service type of our unit: a program that the pod brought knows nothing of the vendor's protocol.
pub(crate) fn service_type(vendor: Option<&VendorService>, replaced: bool) -> ServiceType {
    match vendor {
        Some(vendor) if !replaced => match vendor.service_type {
            ServiceType::Simple | ServiceType::Idle => ServiceType::Exec,
            other @ (ServiceType::Exec
            | ServiceType::Forking
            | ServiceType::Oneshot
            | ServiceType::Notify
            | ServiceType::NotifyReload
            | ServiceType::Dbus) => other,
        },
        Some(_) | None => ServiceType::Exec,
    }
}

#[cfg(test)]
mod tests;
