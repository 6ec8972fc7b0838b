//! The whole of a vendor's unit: read, folded, and each directive done as the table says.

use super::directives::{Arity, Rewrite, Syntax, Treatment, Value};
use super::exec::{self, Command};
use super::fold::{Folded, flag, fold, is_true};
use super::name::UnitName;
use super::specifier::Specifiers;
use super::syntax::{self, Assignment};
use super::{
    Directive, Directories, ExecLine, Section, ServiceType, VendorContext, VendorService, VendorUnit, directive_path,
    rewrite, unit_refusal,
};
use crate::note::{Note, NoteKind, Refusal};

mod whole;

/// Takes a vendor's unit over, or says every reason why a container cannot be made of it.
pub fn adopt(unit: &VendorUnit, ctx: &VendorContext<'_>) -> Result<VendorService, Vec<Refusal>> {
    let Some(name) = UnitName::parse(&unit.name) else {
        return Err(vec![unit_refusal(&unit.name, "it is no name of a service")]);
    };
    if unit.fragments.first().is_none_or(|main| main.text.trim().is_empty()) {
        return Err(vec![unit_refusal(&unit.name, "it is masked: unmask it, or give the container a command")]);
    }
    let mut adoption = Adoption::new(unit, name, ctx);
    let assignments = adoption.read();
    if adoption.refusals.is_empty() {
        let folded = fold(&assignments);
        adoption.permissions_start_only = flag(&folded, "PermissionsStartOnly");
        for directive in &folded {
            adoption.directive(directive);
        }
        adoption.sandbox(&folded);
        adoption.whole(&folded);
    }
    adoption.service.directives.sort_by_key(|directive| directive.section);
    if adoption.refusals.is_empty() { Ok(adoption.service) } else { Err(adoption.refusals) }
}

/// What the renderer writes anyway: a vendor who says the same is not told.
const OURS: [(&str, &str); 3] = [("KillMode", "mixed"), ("DevicePolicy", "closed"), ("RemainAfterExit", "no")];

/// A unit on its way to be a [`VendorService`].
struct Adoption<'a> {
    unit: &'a VendorUnit,
    name: UnitName<'a>,
    ctx: &'a VendorContext<'a>,
    specifiers: Specifiers<'a>,
    permissions_start_only: bool,
    service: VendorService,
    refusals: Vec<Refusal>,
}

impl<'a> Adoption<'a> {
    fn new(unit: &'a VendorUnit, name: UnitName<'a>, ctx: &'a VendorContext<'a>) -> Self {
        let service = VendorService {
            service_type: ServiceType::Simple,
            lines: Vec::new(),
            directives: Vec::new(),
            user: None,
            group: None,
            supplementary_groups: Vec::new(),
            dynamic_user: false,
            directories: Directories::default(),
            working_directory: None,
            pid_file: None,
            private_devices: false,
            environment_files: Vec::new(),
            stop_signal: None,
            notify_access: None,
            bounding_set: None,
            notes: Vec::new(),
        };
        let specifiers = Specifiers::new(unit, name, ctx.specifiers);
        Self { unit, name, ctx, specifiers, permissions_start_only: false, service, refusals: Vec::new() }
    }

    /// All fragments' assignments in order; sections that systemd does not read in a service are noted.
    fn read(&mut self) -> Vec<(Section, Assignment)> {
        let mut assignments = Vec::new();
        let mut sections: Vec<String> = Vec::new();
        for fragment in &self.unit.fragments {
            match syntax::parse(&fragment.text) {
                Ok(text) => {
                    sections.extend(text.sections);
                    assignments.extend(text.assignments);
                }
                Err(error) => self.refusals.push(unit_refusal(&self.unit.name, format!("{}: {error}", fragment.path))),
            }
        }
        if self.refusals.is_empty() && !sections.iter().any(|section| section == "Service") {
            self.refusals.push(unit_refusal(&self.unit.name, "it has no [Service] section"));
        }
        sections.sort_unstable();
        sections.dedup();
        for section in sections.iter().filter(|section| Section::parse(section).is_none()) {
            let path = format!("{} [{section}]", self.unit.name);
            self.service.notes.push(Note::new(NoteKind::Dropped, path, "systemd reads no such section in a service"));
        }
        assignments
            .into_iter()
            .filter_map(|assignment| Some((Section::parse(&assignment.section)?, assignment)))
            .collect()
    }

    fn path(&self, folded: &Folded) -> String {
        directive_path(&self.unit.name, folded.section, &folded.written)
    }

    fn note(&mut self, kind: NoteKind, folded: &Folded, text: impl Into<String>) {
        let path = self.path(folded);
        self.service.notes.push(Note::new(kind, path, text));
    }

    fn refuse(&mut self, folded: &Folded, text: impl Into<String>) {
        let path = self.path(folded);
        self.refusals.push(Refusal::new(path, text));
    }

    fn render(&mut self, folded: &Folded, value: String) {
        // The vendor's had a blank after it, which systemd strips; so would our line's be, and the next line swallowed.
        if syntax::ends_escaped(&value) {
            self.refuse(folded, "its value ends in a backslash, which would join it with the next line");
            return;
        }
        self.service.directives.push(Directive { section: folded.section, name: folded.name.clone(), value });
    }

    /// Does with one directive what the table says.
    fn directive(&mut self, folded: &Folded) {
        for (written, text) in &folded.alias_notes {
            let path = directive_path(&self.unit.name, folded.section, written);
            self.service.notes.push(Note::new(NoteKind::Rewritten, path, *text));
        }
        match folded.rule.as_ref().map(|rule| rule.treatment) {
            None => self.unknown(folded),
            Some(Treatment::Kept(value)) => self.keep(folded, value),
            Some(Treatment::Identity(_)) if self.ctx.pod_identity => {
                self.note(NoteKind::Dropped, folded, "the pod says who the container runs as");
            }
            Some(Treatment::Identity(value)) => self.keep(folded, value),
            Some(Treatment::Rewritten(rewrite, how)) => self.rewrite(folded, rewrite, how),
            Some(Treatment::Ours(how)) => {
                if folded.name == "NotifyAccess" {
                    self.service.notify_access = folded.values.last().cloned();
                }
                let same = |(name, value): &(&str, &str)| folded.name == *name && folded.values == [*value];
                if !OURS.iter().any(same) {
                    self.note(NoteKind::Rewritten, folded, how);
                }
            }
            Some(Treatment::Dropped(why)) => self.note(NoteKind::Dropped, folded, why),
            Some(Treatment::Refused(why)) => {
                if !folded.values.is_empty() {
                    self.refuse(folded, why);
                }
            }
            // The fold has put the directive's own name in its place.
            Some(Treatment::Alias(_, _)) => {}
        }
    }

    fn unknown(&mut self, folded: &Folded) {
        if folded.name.starts_with("X-") {
            self.note(NoteKind::Dropped, folded, "it is an extension that systemd does not read");
            return;
        }
        if folded.section == Section::Install {
            self.note(NoteKind::Dropped, folded, "a container's unit has no [Install]");
            return;
        }
        self.note(NoteKind::KeptUnknown, folded, "systemk does not know it: what it does to a container is not sure");
        for value in folded.values.clone() {
            self.render(folded, value);
        }
    }

    fn keep(&mut self, folded: &Folded, value: Value) {
        for text in &folded.values {
            let expanded = match value.syntax {
                Syntax::Raw => Ok(text.clone()),
                Syntax::Whole => self.specifiers.whole(text),
                Syntax::Spliced => self.specifiers.spliced(text),
            };
            match expanded {
                Ok(expanded) => {
                    let expanded = expanded.trim().to_owned();
                    self.fact(folded, text, &expanded);
                    // A value that a specifier left empty would reset the list.
                    if !expanded.is_empty() || value.arity == Arity::ListWithEmpty {
                        self.render(folded, expanded);
                    }
                }
                Err(error) => self.refuse(folded, error.to_string()),
            }
        }
    }

    /// What the plan has to know of a kept directive; `text` is as the vendor wrote it, `value` as it is rendered.
    fn fact(&mut self, folded: &Folded, text: &str, value: &str) {
        let plain = || Some(value.replace("%%", "%"));
        match folded.name.as_str() {
            "User" => self.service.user = plain(),
            "Group" => self.service.group = plain(),
            "DynamicUser" => self.service.dynamic_user = is_true(value),
            "PrivateDevices" => self.service.private_devices = is_true(value),
            "KillSignal" => self.service.stop_signal = Some(value.to_owned()),
            "WorkingDirectory" => self.service.working_directory = plain(),
            "EnvironmentFile" => self.service.environment_files.extend(plain()),
            "SupplementaryGroups" => self.names(folded, text, |service| &mut service.supplementary_groups),
            "StateDirectory" => self.names(folded, text, |service| &mut service.directories.state),
            "CacheDirectory" => self.names(folded, text, |service| &mut service.directories.cache),
            "LogsDirectory" => self.names(folded, text, |service| &mut service.directories.logs),
            "ConfigurationDirectory" => self.names(folded, text, |service| &mut service.directories.configuration),
            _ => {}
        }
    }

    fn names(&mut self, folded: &Folded, text: &str, list: impl Fn(&mut VendorService) -> &mut Vec<String>) {
        match rewrite::directory_names(text, &self.specifiers) {
            Ok(names) => list(&mut self.service).extend(names),
            Err(why) => self.refuse(folded, why),
        }
    }

    fn rewrite(&mut self, folded: &Folded, rewrite: Rewrite, how: &'static str) {
        match rewrite {
            Rewrite::Exec(key) => self.exec(folded, key),
            Rewrite::Type => self.service_type(folded),
            Rewrite::Output => {
                // What it would be without the directive.
                if folded.values.last().is_some_and(|output| output != "journal" && output != "inherit") {
                    self.note(NoteKind::Rewritten, folded, how);
                }
            }
            Rewrite::PermissionsStartOnly => {
                if self.permissions_start_only {
                    self.note(NoteKind::Rewritten, folded, how);
                }
            }
            Rewrite::Label => match folded.values.last() {
                Some(label) if label.starts_with('-') => self.note(NoteKind::Dropped, folded, how),
                Some(_) => self.refuse(folded, how),
                None => {}
            },
            Rewrite::RootPaths
            | Rewrite::RuntimeDirectory
            | Rewrite::TemporaryFileSystem
            | Rewrite::PidFile
            | Rewrite::After => self.rewrite_values(folded, rewrite, how),
        }
    }

    fn rewrite_values(&mut self, folded: &Folded, rewrite: Rewrite, how: &'static str) {
        let mut changed = false;
        for text in &folded.values {
            let specifiers = &self.specifiers;
            let value = match rewrite {
                Rewrite::RootPaths if folded.name == "ReadWritePaths" => rewrite::writable_paths(text, specifiers),
                Rewrite::RootPaths => rewrite::root_paths(text, specifiers).map(Some),
                Rewrite::RuntimeDirectory => {
                    rewrite::runtime_directories(text, self.ctx.runtime_root, specifiers).map(Some)
                }
                Rewrite::TemporaryFileSystem => rewrite::temporary_file_systems(text, specifiers),
                Rewrite::PidFile => rewrite::pid_file(text, self.ctx.run_dir, specifiers).map(Some),
                Rewrite::After => rewrite::after(text, specifiers),
                Rewrite::Exec(_) | Rewrite::Type | Rewrite::Label | Rewrite::Output | Rewrite::PermissionsStartOnly => {
                    Ok(None)
                }
            };
            match value {
                Ok(value) => {
                    changed |= value.as_ref() != Some(text);
                    if rewrite == Rewrite::RuntimeDirectory {
                        self.names(folded, text, |service| &mut service.directories.runtime);
                    }
                    if let Some(value) = value {
                        self.rewritten(folded, rewrite, value);
                    }
                }
                Err(why) => self.refuse(folded, why),
            }
        }
        if changed {
            self.note(NoteKind::Rewritten, folded, how);
        }
    }

    fn rewritten(&mut self, folded: &Folded, rewrite: Rewrite, value: String) {
        if rewrite == Rewrite::PidFile {
            self.render(folded, value.replace('%', "%%"));
            self.service.pid_file = Some(value);
        } else {
            self.render(folded, value);
        }
    }

    fn service_type(&mut self, folded: &Folded) {
        for value in &folded.values {
            match ServiceType::parse(value) {
                Some(known) => self.service.service_type = known,
                None => {
                    let text = format!("{value:?} is no type, and is ignored as systemd does");
                    self.note(NoteKind::Warned, folded, text);
                }
            }
        }
    }

    fn exec(&mut self, folded: &Folded, key: &str) {
        let Some(rule) = folded.rule else { return };
        let mut number = 0;
        for value in &folded.values {
            let (commands, bad) = exec::commands(value, &self.specifiers);
            for command in commands {
                let command = self.privileges(command, key);
                self.service.lines.push(ExecLine {
                    key: format!("{key}.{number}"),
                    directive: rule.name,
                    prefix: command.prefix.rendered(),
                    line: command.line,
                });
                number += 1;
            }
            match bad {
                Some(bad) if bad.ignored => {
                    self.note(NoteKind::Warned, folded, format!("a line is left out, as systemd does: {}", bad.why));
                }
                // The pod's command takes its place.
                Some(_) if self.ctx.program_given && key == "start" => {}
                Some(bad) => self.refuse(folded, bad.why),
                None => {}
            }
        }
    }

    fn privileges(&self, command: Command, key: &str) -> Command {
        if self.permissions_start_only && key != "start" { command.with_full_privileges() } else { command }
    }
}
