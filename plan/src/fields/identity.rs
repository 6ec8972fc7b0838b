//! Who a container is: runAsUser, runAsGroup, runAsUserName, fsGroup, supplementalGroups, runAsNonRoot.
//!
//! A pod's ids never reach `User=`: systemd refuses ids that the host does not know (217/USER on 252 and 257) and adds the
//! host's memberships of those that it does. The vendor's `User=` is dropped instead, and init becomes the identity last.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::blocked::{Blocked, Unplannable};
use crate::inputs::{Gathered, PasswdRow};
use crate::launch::Identity;
use crate::note::Refusal;

/// The highest id that Kubernetes' validation lets through.
const MAX_ID: i64 = 2_147_483_647;

/// What the vendor's unit says of its user.
#[derive(Clone, Copy, Debug, Default)]
pub struct VendorUser<'a> {
    /// `User=`.
    pub user: Option<&'a str>,
    /// `DynamicUser=`.
    pub dynamic: bool,
}

/// Who the container is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever the unit says: root where it says nothing.
    Unit,
    /// This, with the home directory of that user.
    Is {
        /// Ids.
        identity: Identity,
        /// `$HOME`.
        home: String,
    },
}

/// What a pod asks for, container over pod.
#[derive(Debug, Default)]
struct Wanted {
    user: Option<i64>,
    group: Option<i64>,
    user_name: Option<String>,
    non_root: bool,
    fs_group: Option<i64>,
    supplemental: Vec<i64>,
}

/// Whether the pod says anything that replaces the vendor's own identity.
pub fn asks(spec: &PodSpec, container: &Container) -> bool {
    let wanted = wanted(spec, container);
    wanted.user.is_some()
        || wanted.group.is_some()
        || wanted.user_name.is_some()
        || wanted.fs_group.is_some()
        || !wanted.supplemental.is_empty()
}

/// Whether all that the pod says is that user, by name.
pub fn is_only_user(spec: &PodSpec, container: &Container, user: &str) -> bool {
    let Wanted { user: uid, group, user_name, non_root: _, fs_group, supplemental } = wanted(spec, container);
    let nothing_else = uid.is_none() && group.is_none() && fs_group.is_none() && supplemental.is_empty();
    nothing_else && user_name.as_deref() == Some(user)
}

/// The name in `windowsOptions.runAsUserName`, container over pod (the founding README's way to say a user by name).
pub fn user_name(spec: &PodSpec, container: &Container) -> Option<String> {
    wanted(spec, container).user_name
}

/// The numeric user, container over pod.
pub fn user_id(spec: &PodSpec, container: &Container) -> Option<u32> {
    wanted(spec, container).user.and_then(|id| u32::try_from(id).ok())
}

fn wanted(spec: &PodSpec, container: &Container) -> Wanted {
    let pod = spec.security_context.as_ref();
    let own = container.security_context.as_ref();
    let own_name = own.and_then(|c| c.windows_options.as_ref()).and_then(|w| w.run_as_user_name.clone());
    let pod_name = pod.and_then(|c| c.windows_options.as_ref()).and_then(|w| w.run_as_user_name.clone());
    Wanted {
        user: own.and_then(|c| c.run_as_user).or_else(|| pod.and_then(|c| c.run_as_user)),
        group: own.and_then(|c| c.run_as_group).or_else(|| pod.and_then(|c| c.run_as_group)),
        user_name: own_name.or(pod_name),
        non_root: own.and_then(|c| c.run_as_non_root).or_else(|| pod.and_then(|c| c.run_as_non_root)).unwrap_or(false),
        fs_group: pod.and_then(|c| c.fs_group),
        supplemental: pod.and_then(|c| c.supplemental_groups.clone()).unwrap_or_default(),
    }
}

fn id(value: i64, path: String) -> Result<u32, Refusal> {
    match u32::try_from(value) {
        Ok(id) if value <= MAX_ID => Ok(id),
        Ok(_) | Err(_) => Err(Refusal::new(path, format!("{value} is not an id between 0 and {MAX_ID}"))),
    }
}

/// Who one container is.
///
/// # Errors
/// Ids out of range; a pod identity beside `DynamicUser=`; a user that does not exist (yet); root where `runAsNonRoot`.
pub fn who(
    spec: &PodSpec,
    container: &Container,
    path: &str,
    vendor: VendorUser<'_>,
    gathered: &Gathered,
) -> Result<Who, Unplannable> {
    let wanted = wanted(spec, container);
    let at = |field: &str| format!("{path}.securityContext.{field}");
    let refused = |refusal| Unplannable::Refused(vec![refusal]);
    if !asks(spec, container) || vendor.user.is_some_and(|user| is_only_user(spec, container, user)) {
        return unit_identity(&wanted, container, vendor, gathered);
    }
    if vendor.dynamic {
        return Err(refused(Refusal::new(
            at("runAsUser"),
            "the package's unit has DynamicUser=yes: its user exists only while it runs, so leave the ids out",
        )));
    }
    let row = named_row(&wanted, vendor, gathered)?;
    let uid = match (&row, wanted.user) {
        (Some(row), _) if wanted.user_name.is_some() => row.uid,
        (_, Some(user)) => id(user, at("runAsUser")).map_err(refused)?,
        (Some(row), None) => row.uid,
        (None, None) => 0,
    };
    let own_gid = row.as_ref().filter(|r| r.uid == uid).map(|r| r.gid);
    let gid = match wanted.group {
        Some(group) => id(group, at("runAsGroup")).map_err(refused)?,
        None => own_gid.or_else(|| gathered.primary_groups.get(&uid).copied()).unwrap_or(0),
    };
    let strict = spec.security_context.as_ref().and_then(|c| c.supplemental_groups_policy.as_deref()) == Some("Strict");
    let member = row.as_ref().filter(|r| r.uid == uid && !strict);
    let mut groups = member.map(|r| r.groups.clone()).unwrap_or_default();
    for group in wanted.supplemental.iter().chain(&wanted.fs_group) {
        groups.push(id(*group, "spec.securityContext.supplementalGroups".to_owned()).map_err(refused)?);
    }
    groups.sort_unstable();
    groups.dedup();
    check_non_root(&wanted, container, uid)?;
    let home = match (&row, uid) {
        (Some(row), _) if row.uid == uid && !row.home.is_empty() => row.home.clone(),
        (_, 0) => "/root".to_owned(),
        _ => "/".to_owned(),
    };
    Ok(Who::Is { identity: Identity { uid, gid, groups }, home })
}

fn unit_identity(
    wanted: &Wanted,
    container: &Container,
    vendor: VendorUser<'_>,
    gathered: &Gathered,
) -> Result<Who, Unplannable> {
    if vendor.dynamic {
        return Ok(Who::Unit);
    }
    let uid = match vendor.user {
        None => 0,
        Some(user) => match user.parse::<u32>() {
            Ok(uid) => uid,
            // Unknown here means unknown to systemd as well, which says so itself (217/USER).
            Err(_) => gathered.users.get(user).map_or(u32::MAX, |r| r.uid),
        },
    };
    check_non_root(wanted, container, uid)?;
    Ok(Who::Unit)
}

fn check_non_root(wanted: &Wanted, container: &Container, uid: u32) -> Result<(), Unplannable> {
    if wanted.non_root && uid == 0 {
        return Err(config_error(format!(
            "container has runAsNonRoot and image will run as root (container: {:?})",
            container.name
        )));
    }
    Ok(())
}

/// The passwd row of the user by name: the pod's, else the vendor's where the pod names no user at all.
fn named_row(wanted: &Wanted, vendor: VendorUser<'_>, gathered: &Gathered) -> Result<Option<PasswdRow>, Unplannable> {
    let name = match (&wanted.user_name, wanted.user, vendor.user) {
        (Some(name), ..) => name.as_str(),
        (None, Some(_), _) | (None, None, None) => return Ok(None),
        (None, None, Some(user)) => user,
    };
    match gathered.users.get(name) {
        Some(row) => Ok(Some(row.clone())),
        None => Err(config_error(format!("user {name:?} does not exist on this node"))),
    }
}

fn config_error(message: String) -> Unplannable {
    Unplannable::Blocked(Blocked { reason: "CreateContainerConfigError".to_owned(), message })
}
