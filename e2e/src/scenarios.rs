//! Many scenarios on one node: side by side where they do not meet, and one that fails does not hide the others.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::agent::Node;

/// A name and what is to hold; it panics where it does not.
pub type Scenario = (&'static str, fn(&Node));

/// How many run side by side: the agent installs one package at a time, and two cores carry two nodes.
const WORKERS: usize = 6;

/// Runs them all; the panic at the end names each that failed. `E2E_ONLY` leaves out those without that text in their name.
///
/// # Panics
/// If one of them did.
pub fn run_all(node: &Node, scenarios: &[Scenario]) {
    let only = std::env::var("E2E_ONLY").unwrap_or_default();
    let left: Mutex<VecDeque<Scenario>> =
        Mutex::new(scenarios.iter().copied().filter(|(name, _)| name.contains(&only)).collect());
    let failed = Mutex::new(Vec::new());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((name, scenario)) = next() {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario(node))) {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                        let text = text.unwrap_or_default();
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name}: {text}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "on {}:\n\n{}\n", node.sandbox.name(), failed.join("\n\n"));
}
