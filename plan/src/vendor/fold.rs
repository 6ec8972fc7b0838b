//! Several assignments of a directive, in several files, as what is left of them: systemd's list and reset rules.

use super::Section;
use super::directives::{Arity, Rule, Treatment, rule};
use super::syntax::Assignment;

/// One directive that the unit names.
#[derive(Clone, Debug)]
pub(super) struct Folded {
    pub(super) section: Section,
    /// The name to render.
    pub(super) name: String,
    /// The name that the vendor wrote last.
    pub(super) written: String,
    /// None: systemk does not know it.
    pub(super) rule: Option<Rule>,
    /// What its alias says about it, once for each alias written.
    pub(super) alias_notes: Vec<(String, &'static str)>,
    /// The values that are left: none where an empty assignment reset them.
    pub(super) values: Vec<String>,
}

/// Folds the assignments of all fragments, in order of first appearance.
pub(super) fn fold(assignments: &[(Section, Assignment)]) -> Vec<Folded> {
    let mut folded: Vec<Folded> = Vec::new();
    for (section, assignment) in assignments {
        let written = rule(*section, &assignment.name);
        let (name, rule, alias_note) = resolve(*section, &assignment.name, written);
        let arity = rule.as_ref().map_or(Arity::List, |rule| arity(rule.treatment));
        if assignment.value.is_empty() {
            reset_conditions(&mut folded, *section, arity);
        }
        let at = folded.iter().position(|known| known.section == *section && known.name == name).unwrap_or_else(|| {
            folded.push(Folded {
                section: *section,
                name: name.to_owned(),
                written: String::new(),
                rule,
                alias_notes: Vec::new(),
                values: Vec::new(),
            });
            folded.len() - 1
        });
        let entry = &mut folded[at];
        entry.written.clone_from(&assignment.name);
        if let Some(note) = alias_note {
            entry.alias_notes.retain(|(known, _)| *known != assignment.name);
            entry.alias_notes.push((assignment.name.clone(), note));
        }
        push(&mut entry.values, arity, &assignment.value);
    }
    folded
}

/// The last value of a boolean; false where it is not set.
pub(super) fn flag(folded: &[Folded], name: &str) -> bool {
    folded
        .iter()
        .filter(|known| known.name == name)
        .any(|known| known.values.last().is_some_and(|value| is_true(value)))
}

/// systemd's `parse_boolean()`.
pub(super) fn is_true(value: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

fn resolve(section: Section, name: &str, written: Option<Rule>) -> (&str, Option<Rule>, Option<&'static str>) {
    match written.map(|rule| rule.treatment) {
        Some(Treatment::Alias(canonical, note)) => (canonical, rule(section, canonical), note),
        Some(
            Treatment::Kept(_)
            | Treatment::Identity(_)
            | Treatment::Rewritten(_, _)
            | Treatment::Ours(_)
            | Treatment::Dropped(_)
            | Treatment::Refused(_),
        )
        | None => (name, written, None),
    }
}

fn arity(treatment: Treatment) -> Arity {
    match treatment {
        Treatment::Kept(value) | Treatment::Identity(value) => value.arity,
        Treatment::Rewritten(rewrite, _) => rewrite.arity(),
        Treatment::Alias(_, _) | Treatment::Ours(_) | Treatment::Dropped(_) | Treatment::Refused(_) => Arity::List,
    }
}

fn reset_conditions(folded: &mut [Folded], section: Section, arity: Arity) {
    if !matches!(arity, Arity::Conditions | Arity::Assertions) {
        return;
    }
    for known in folded.iter_mut().filter(|known| known.section == section) {
        if known.rule.as_ref().is_some_and(|rule| self::arity(rule.treatment) == arity) {
            known.values.clear();
        }
    }
}

fn push(values: &mut Vec<String>, arity: Arity, value: &str) {
    match arity {
        Arity::Last => {
            values.clear();
            if !value.is_empty() {
                values.push(value.to_owned());
            }
        }
        Arity::List | Arity::Conditions | Arity::Assertions => {
            if value.is_empty() {
                values.clear();
            } else {
                values.push(value.to_owned());
            }
        }
        Arity::ListWithEmpty => {
            if value.is_empty() {
                values.clear();
            }
            values.push(value.to_owned());
        }
    }
}
