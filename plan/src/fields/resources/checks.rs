//! Which requests and limits are obeyed: the reasons to refuse the others, and what this host cannot enforce.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::CgroupLimits;
use super::totals::Amounts;
use crate::inputs::NodeFacts;
use crate::note::{Note, NoteKind, Refusal};
use crate::quantity::Quantity;

/// More cores than any machine has; beyond it a quota would not fit systemd's numbers.
const MOST_CORES: i64 = 1_000_000;

/// Whose `resources` it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Container,
    Pod,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) notes: Vec<Note>,
    pub(super) refusals: Vec<Refusal>,
}

impl Checked {
    pub(super) fn ignored(&mut self, path: String, text: &str) {
        self.notes.push(Note::new(NoteKind::Ignored, path, text));
    }

    /// Every amount of one `resources`.
    pub(super) fn requirements(&mut self, resources: &ResourceRequirements, path: &str, level: Level) {
        let ResourceRequirements { claims, limits, requests } = resources;
        if claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
            let text = "resource claims are not supported: systemk has no device drivers";
            self.refusals.push(Refusal::new(format!("{path}.claims"), text));
        }
        let limits = self.amounts(limits.as_ref(), &format!("{path}.limits"), level);
        let requests = self.amounts(requests.as_ref(), &format!("{path}.requests"), level);
        for (name, request) in &requests {
            if let Some(limit) = limits.get(name).filter(|limit| request > *limit) {
                let text = format!("{request} is more than the limit of {limit}");
                self.refusals.push(Refusal::new(format!("{path}.requests[{name}]"), text));
            }
        }
    }

    /// `spec.overhead`, which a RuntimeClass sets.
    pub(super) fn overhead(&mut self, overhead: Option<&BTreeMap<String, ApiQuantity>>) {
        self.amounts(overhead, "spec.overhead", Level::Pod);
    }

    /// The amounts that can be used; a reason for each of the others.
    fn amounts(&mut self, list: Option<&BTreeMap<String, ApiQuantity>>, path: &str, level: Level) -> Amounts {
        let mut usable = Amounts::new();
        for (name, quantity) in list.into_iter().flatten() {
            let path = format!("{path}[{}]", name.escape_debug());
            match Quantity::from_api(quantity).map_err(|error| error.to_string()).and_then(|amount| {
                supported(name, level)?;
                in_range(name, amount)?;
                Ok(amount)
            }) {
                Ok(amount) => {
                    self.remark(name, amount, &path);
                    usable.insert(name.clone(), amount);
                }
                Err(text) => self.refusals.push(Refusal::new(path, text)),
            }
        }
        usable
    }

    fn remark(&mut self, name: &str, amount: Quantity, path: &str) {
        if name == "ephemeral-storage" {
            let text = "is not enforced yet: nothing counts what the container writes to disk";
            self.notes.push(Note::new(NoteKind::Warned, path, text));
        } else if name == "memory" && !amount.is_whole() {
            let text = format!("{amount} is a fraction of a byte and counts as {} bytes", amount.value());
            self.notes.push(Note::new(NoteKind::Warned, path, text));
        }
    }

    /// Takes out what systemd cannot apply on this host, with one note for each controller that is missed.
    pub(super) fn drop_unenforceable(
        &mut self,
        settings: &mut CgroupLimits,
        requests: &Amounts,
        path: &str,
        facts: &NodeFacts,
    ) {
        let has = |controller: &str| facts.controllers.iter().any(|present| present == controller);
        if !has("cpu") {
            // A weight that nobody asked for is not missed.
            let missed = match (settings.cpu_quota_us_per_s, requests.get("cpu")) {
                (Some(_), _) => Some(("limits", "limit")),
                (None, Some(_)) => Some(("requests", "request")),
                (None, None) => None,
            };
            if let Some((list, what)) = missed {
                let text = format!("the cpu {what} is not enforced: this host's cgroup has no cpu controller");
                self.notes.push(Note::new(NoteKind::Warned, format!("{path}.{list}[cpu]"), text));
            }
            settings.cpu_weight = None;
            settings.cpu_quota_us_per_s = None;
        }
        if settings.memory_max.is_some() {
            if has("memory") {
                settings.memory_swap_max = Some(0);
            } else {
                let text = "the memory limit is not enforced: this host's cgroup has no memory controller";
                self.notes.push(Note::new(NoteKind::Warned, format!("{path}.limits[memory]"), text));
                settings.memory_max = None;
            }
        }
    }
}

fn supported(name: &str, level: Level) -> Result<(), String> {
    match (name, level) {
        ("cpu" | "memory", _) | ("ephemeral-storage", Level::Container) => Ok(()),
        (name, Level::Container | Level::Pod) if name.starts_with("hugepages-") => {
            Err("huge pages are not supported".to_owned())
        }
        (_, Level::Pod) => Err("only cpu and memory can be set for the whole pod".to_owned()),
        (_, Level::Container) => Err("is not supported: systemk offers cpu, memory and ephemeral-storage".to_owned()),
    }
}

fn in_range(name: &str, amount: Quantity) -> Result<(), String> {
    if amount.is_negative() {
        return Err(format!("{amount} is negative"));
    }
    let most = if name == "cpu" { MOST_CORES } else { i64::MAX - 1 };
    if amount.value() > most { Err(format!("{amount} is more than any machine has")) } else { Ok(()) }
}
