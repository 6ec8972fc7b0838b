//! What only the unit as a whole shows: what its sandbox must still allow, and whether there is anything to run.

use std::collections::BTreeSet;

use super::Adoption;
use crate::launch::Capability;
use crate::note::{NoteKind, Refusal};
use crate::unit::name::INSIDE;
use crate::vendor::fold::Folded;
use crate::vendor::{Directive, Section, ServiceType, directive_path, unit_refusal};

impl Adoption<'_> {
    /// What the vendor's sandbox needs in addition, so that init can start in it.
    pub(super) fn sandbox(&mut self, folded: &[Folded]) {
        let present = |name: &str| folded.iter().find(|known| known.name == name && !known.values.is_empty());
        if let Some(paths) = present("NoExecPaths") {
            let init = Directive { section: paths.section, name: "ExecPaths".to_owned(), value: format!("-+{INSIDE}") };
            self.service.directives.push(init);
        }
        let bounding = folded.iter().find(|known| known.name == "CapabilityBoundingSet" && !known.values.is_empty());
        if let Some(bounding) = bounding.filter(|_| self.ctx.pod_identity) {
            self.service.take("CapabilityBoundingSet");
            self.service.bounding_set = Some(bounding_set(&bounding.values));
            self.note(NoteKind::Rewritten, bounding, "systemk init applies it, once it has become the pod's identity");
        }
        if let Some(filter) = present("SystemCallFilter").filter(|_| self.ctx.pod_identity) {
            let calls = Directive {
                section: filter.section,
                name: "SystemCallFilter".to_owned(),
                value: "@setuid @chown capset".to_owned(),
            };
            self.service.directives.push(calls);
            let how = "systemk init may also change its identity, which is the pod's, after which the program cannot";
            self.note(NoteKind::Rewritten, filter, how);
        }
    }

    /// What only the unit as a whole shows.
    pub(super) fn whole(&mut self, folded: &[Folded]) {
        let unit = self.unit.name.as_str();
        let set = |name: &str| folded.iter().any(|known| known.name == name && !known.values.is_empty());
        let starts = self.service.lines.iter().filter(|line| line.directive == "ExecStart").count();
        // What systemd takes a unit without Type= for.
        if !set("Type") {
            self.service.service_type = match (set("BusName"), starts) {
                (true, _) => ServiceType::Dbus,
                (false, 0) => ServiceType::Oneshot,
                (false, _) => ServiceType::Simple,
            };
        }
        if self.service.dynamic_user && self.ctx.pod_identity {
            let path = directive_path(unit, Section::Service, "DynamicUser");
            let text = "its user exists only while systemd runs it, so the pod cannot set runAsUser or runAsGroup";
            self.refusals.push(Refusal::new(path, text));
        }
        if self.ctx.program_given {
            if self.service.service_type == ServiceType::Dbus {
                self.service.service_type = ServiceType::Exec;
            }
            return;
        }
        let path = directive_path(unit, Section::Service, "ExecStart");
        if self.name.is_template() {
            let text = format!(
                "it is a template: name an instance with the annotation systemk.io/unit: {}@NAME.service, or give the container a command",
                self.name.prefix
            );
            self.refusals.push(unit_refusal(unit, text));
        }
        if self.service.service_type == ServiceType::Dbus {
            let path = directive_path(unit, Section::Service, "Type");
            let text = "a D-Bus service needs the host's bus, which is not visible in the container: give the container a command";
            self.refusals.push(Refusal::new(path, text));
        }
        if starts == 0 && self.refusals.is_empty() {
            self.refusals.push(Refusal::new(
                path,
                "the unit has no ExecStart=, so nothing would run: give the container a command",
            ));
        } else if starts > 1 && self.service.service_type != ServiceType::Oneshot {
            self.refusals.push(Refusal::new(
                path,
                "several lines are allowed only for Type=oneshot, and systemd refuses the unit",
            ));
        } else if starts > 0 && self.is_wrapper() {
            let text = "the unit runs nothing itself: name the unit that does with the annotation systemk.io/unit (NAME@INSTANCE.service), or give the container a command";
            self.refusals.push(Refusal::new(path, text));
        }
    }

    /// A unit that only stands for others, as Debian's postgresql.service does: its program is `true`.
    fn is_wrapper(&self) -> bool {
        let mut starts = self.service.lines.iter().filter(|line| line.directive == "ExecStart");
        starts.all(|line| line.line.argv.first().is_some_and(|program| program.rsplit('/').next() == Some("true")))
    }
}

/// What several `CapabilityBoundingSet=` are together: the first says what there is, further ones add or, with `~`, remove.
fn bounding_set(values: &[String]) -> Vec<Capability> {
    let mut set: Option<BTreeSet<Capability>> = None;
    for value in values {
        let (inverted, names) = value.strip_prefix('~').map_or((false, value.as_str()), |names| (true, names));
        let named: BTreeSet<Capability> = names.split_whitespace().filter_map(Capability::parse).collect();
        // systemd takes an empty set for one that nothing has been said about.
        let known = set.take().filter(|known| !known.is_empty());
        set = Some(match (known, inverted) {
            (None, false) => named,
            (None, true) => Capability::all().filter(|capability| !named.contains(capability)).collect(),
            (Some(known), false) => known.union(&named).copied().collect(),
            (Some(known), true) => known.difference(&named).copied().collect(),
        });
    }
    set.unwrap_or_default().into_iter().collect()
}
