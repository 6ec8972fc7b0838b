//! The table of every directive that systemd 257 reads in a service, and what becomes of each in a container's unit.
//!
//! A container lives in a root of its own (host's /usr, /etc, /opt, /srv read-only, its own /run and /tmp), with its own
//! back-off, limits and stop rules. A directive that describes the *service* is kept, one that reaches for the rest of the
//! machine is dropped or refused, one that systemk decides is rewritten. A test holds the table against the directives that
//! the systemd of the machine prints.

use super::Section;

mod execution;
mod service;
mod unit;

/// What happens to a directive, as documentation and tests see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Rendered as the vendor has it, specifiers expanded.
    Kept,
    /// Rendered differently, or read and rendered by systemk: how.
    Rewritten(&'static str),
    /// Left out with a note: why.
    Dropped(&'static str),
    /// The container cannot run: why.
    Refused(&'static str),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Where systemd reads it.
    pub section: Section,
    /// Its name.
    pub name: &'static str,
    pub(super) treatment: Treatment,
}

impl Rule {
    /// What happens to it.
    pub fn class(&self) -> Class {
        match self.treatment {
            Treatment::Kept(_) | Treatment::Identity(_) | Treatment::Alias(_, None) => Class::Kept,
            Treatment::Alias(_, Some(how)) | Treatment::Rewritten(_, how) | Treatment::Ours(how) => {
                Class::Rewritten(how)
            }
            Treatment::Dropped(why) => Class::Dropped(why),
            Treatment::Refused(why) => Class::Refused(why),
        }
    }
}

/// How a directive is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// Rendered as it is.
    Kept(Value),
    /// Kept unless the pod has its own identity.
    Identity(Value),
    /// Another spelling of a directive; with a text where that is not all of it.
    Alias(&'static str, Option<&'static str>),
    /// Made into something else: how.
    Rewritten(Rewrite, &'static str),
    /// Read perhaps, but written by the unit's renderer alone: how.
    Ours(&'static str),
    /// Left out: why.
    Dropped(&'static str),
    /// Not possible: why.
    Refused(&'static str),
}

/// How systemd reads a directive's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) syntax: Syntax,
    pub(super) arity: Arity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// No specifiers: `%` is a `%`, as in `CPUQuota=20%`.
    Raw,
    /// Specifiers in one string.
    Whole,
    /// Specifiers in words.
    Spliced,
}

/// What several assignments are together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arity {
    /// The last one counts.
    Last,
    /// All of them since the last empty one.
    List,
    /// As a list, but an empty one says something itself: `CapabilityBoundingSet=` is none at all, no directive is all.
    ListWithEmpty,
    /// A list that an empty assignment of any other condition resets too.
    Conditions,
    /// The same for assertions.
    Assertions,
}

/// The rewrites that need code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rewrite {
    /// A command line of that key.
    Exec(&'static str),
    /// Paths of the container's root: `+`, and `-` because not all of the host's paths are in it.
    RootPaths,
    /// Below the container's own /run.
    RuntimeDirectory,
    /// Without those of the container's own directories.
    TemporaryFileSystem,
    /// As the host sees it.
    PidFile,
    /// Targets only.
    After,
    /// Decides how the unit is rendered.
    Type,
    /// Left out where it is optional, else refused.
    Label,
    /// The journal, always.
    Output,
    /// As a prefix of the lines that it concerns.
    PermissionsStartOnly,
}

impl Rewrite {
    /// What several assignments are together.
    pub(super) fn arity(self) -> Arity {
        match self {
            Self::Exec(_) | Self::RootPaths | Self::RuntimeDirectory | Self::TemporaryFileSystem => Arity::List,
            // Dependencies cannot be reset; systemd ignores an empty one, and so does the fold of what is left.
            Self::After => Arity::List,
            // An unknown type is ignored, so the one before it counts.
            Self::Type => Arity::List,
            Self::PidFile | Self::Label | Self::Output | Self::PermissionsStartOnly => Arity::Last,
        }
    }
}

const fn value(syntax: Syntax, arity: Arity) -> Value {
    Value { syntax, arity }
}

const RAW: Value = value(Syntax::Raw, Arity::Last);
const RAW_LIST: Value = value(Syntax::Raw, Arity::List);
const RAW_LIST_WITH_EMPTY: Value = value(Syntax::Raw, Arity::ListWithEmpty);
const WHOLE: Value = value(Syntax::Whole, Arity::Last);
const WHOLE_LIST: Value = value(Syntax::Whole, Arity::List);
const SPLICED: Value = value(Syntax::Spliced, Arity::Last);
const SPLICED_LIST: Value = value(Syntax::Spliced, Arity::List);

/// Directives of one section that share a treatment.
pub(super) struct Group {
    section: Section,
    treatment: Treatment,
    names: &'static [&'static str],
}

const fn group(section: Section, treatment: Treatment, names: &'static [&'static str]) -> Group {
    Group { section, treatment, names }
}

const TABLES: [&[Group]; 3] = [unit::GROUPS, service::GROUPS, execution::GROUPS];

/// Every row of the table.
pub fn rules() -> impl Iterator<Item = Rule> {
    TABLES.into_iter().flatten().flat_map(|group| {
        group.names.iter().map(|name| Rule { section: group.section, name, treatment: group.treatment })
    })
}

/// The row of one directive; None: systemk does not know it.
pub fn rule(section: Section, name: &str) -> Option<Rule> {
    rules().find(|rule| rule.section == section && rule.name == name)
}
