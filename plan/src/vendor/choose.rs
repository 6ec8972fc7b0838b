//! Which of a package's units is its service.
//!
//! Takes the package's name and its units, and the pod's annotation; gives one, none (the package ships no service) or why
//! a person has to say.

use std::borrow::Cow;

use super::VendorUnit;
use super::name::UnitName;
use super::syntax::{self, Assignment};
use crate::note::Refusal;

/// The annotation that names the unit.
const ANNOTATION: &str = "metadata.annotations[systemk.io/unit]";

/// What a package's name has and its unit's name often has not.
const PACKAGE_SUFFIXES: [&str; 6] = ["-server", "-daemon", "-service", "-common", "-core", "-bin"];

/// The unit of `package` to run: the one that `wanted` (the annotation `systemk.io/unit`) names, else the one of the
/// package's name, else the one of its name without `-server` and the like, else the only one, else the only one that
/// is enabled at boot (Debian 13's openssh-server: ssh.service, not sshd-keygen.service). None: the package has no service. A template is chosen only where there is nothing else; `adopt` says what it lacks.
pub fn choose<'a>(
    package: &str,
    units: &'a [VendorUnit],
    wanted: Option<&str>,
) -> Result<Option<Cow<'a, VendorUnit>>, Refusal> {
    let services: Vec<(UnitName<'a>, &'a VendorUnit)> =
        units.iter().filter_map(|unit| Some((UnitName::parse(&unit.name)?, unit))).collect();
    if let Some(wanted) = wanted {
        return named(package, &services, wanted).map(Some);
    }
    if services.is_empty() {
        return Ok(None);
    }
    let (plain, templates): (Vec<_>, Vec<_>) = services.iter().partition(|(name, _)| name.instance.is_none());
    let candidates = if plain.is_empty() { &templates } else { &plain };
    for stem in stems(package) {
        if let Some((_, unit)) = candidates.iter().find(|(name, _)| name.prefix == stem) {
            return Ok(Some(Cow::Borrowed(unit)));
        }
    }
    let unit = only(candidates.iter().map(|(_, unit)| *unit))
        .or_else(|| only(candidates.iter().map(|(_, unit)| *unit).filter(|unit| is_installed(unit))))
        .or_else(|| {
            only(candidates.iter().map(|(_, unit)| *unit).filter(|unit| is_installed(unit) && !is_oneshot(unit)))
        });
    match unit {
        Some(unit) => Ok(Some(Cow::Borrowed(unit))),
        None => Err(Refusal::new(
            ANNOTATION,
            format!(
                "package {package} has several services and none of its name: set the annotation to one of {}",
                names(&services)
            ),
        )),
    }
}

/// The unit that the annotation names, made of its template where it is an instance.
fn named<'a>(
    package: &str,
    services: &[(UnitName<'a>, &'a VendorUnit)],
    wanted: &str,
) -> Result<Cow<'a, VendorUnit>, Refusal> {
    let full = if wanted.ends_with(".service") { wanted.to_owned() } else { format!("{wanted}.service") };
    let Some(name) = UnitName::parse(&full) else {
        return Err(Refusal::new(ANNOTATION, format!("{wanted:?} is no name of a service")));
    };
    if name.is_template() {
        let text = format!("{full} is a template: name an instance of it, as in {}@NAME.service", name.prefix);
        return Err(Refusal::new(ANNOTATION, text));
    }
    let exact = services.iter().find(|(_, unit)| unit.name == full);
    if let Some((_, unit)) = exact.or_else(|| services.iter().find(|(_, unit)| has_alias(unit, &full))) {
        return Ok(Cow::Borrowed(unit));
    }
    let template = services
        .iter()
        .find(|(known, _)| name.instance.is_some() && known.is_template() && known.prefix == name.prefix);
    match template {
        Some((_, unit)) => Ok(Cow::Owned(VendorUnit { name: full, fragments: unit.fragments.clone() })),
        None if services.is_empty() => Err(Refusal::new(
            ANNOTATION,
            format!(
                "package {package} has no service, so not {full} either: make the package that ships it the image \
                     (`apt-file search {full}` or `dpkg -S` finds it)"
            ),
        )),
        None => Err(Refusal::new(ANNOTATION, format!("package {package} has no {full}, but {}", names(services)))),
    }
}

/// The names that the service of a package usually has, the likeliest first.
fn stems(package: &str) -> Vec<String> {
    let mut stems = vec![package.to_owned()];
    for suffix in PACKAGE_SUFFIXES {
        if let Some(stem) = package.strip_suffix(suffix) {
            stems.push(stem.to_owned());
        }
    }
    let daemons: Vec<String> = stems.iter().map(|stem| format!("{stem}d")).collect();
    stems.extend(daemons);
    stems
}

fn names(services: &[(UnitName<'_>, &VendorUnit)]) -> String {
    let mut names: Vec<&str> = services.iter().map(|(name, _)| name.full).collect();
    names.sort_unstable();
    names.join(", ")
}

/// The one that there is, if it is the only one.
fn only<'a>(mut units: impl Iterator<Item = &'a VendorUnit>) -> Option<&'a VendorUnit> {
    units.next().filter(|_| units.next().is_none())
}

/// Whether enabling it would make it start with others.
fn is_installed(unit: &VendorUnit) -> bool {
    assignments(unit).iter().any(|assignment| {
        assignment.section == "Install" && matches!(assignment.name.as_str(), "WantedBy" | "RequiredBy" | "UpheldBy")
    })
}

/// Whether enabling it would give it that name too: Debian's ssh.service is sshd.service.
fn has_alias(unit: &VendorUnit, name: &str) -> bool {
    assignments(unit).iter().any(|assignment| {
        assignment.section == "Install"
            && assignment.name == "Alias"
            && assignment.value.split_whitespace().any(|alias| alias == name)
    })
}

fn is_oneshot(unit: &VendorUnit) -> bool {
    let assignments = assignments(unit);
    let mut types =
        assignments.iter().filter(|assignment| assignment.section == "Service" && assignment.name == "Type");
    types.next_back().is_some_and(|assignment| assignment.value == "oneshot")
}

/// What its files say; one that does not parse says nothing, and `adopt` says why.
fn assignments(unit: &VendorUnit) -> Vec<Assignment> {
    unit.fragments
        .iter()
        .filter_map(|fragment| syntax::parse(&fragment.text).ok())
        .flat_map(|text| text.assignments)
        .collect()
}
