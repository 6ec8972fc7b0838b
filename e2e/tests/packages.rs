//! Packages as images and their vendor units, on systemd 252 and 257, with packages of our own: no mirror is asked.

use e2e::agent::{INSTALLED, Node};
use e2e::apt_repo::{AptRepo, Archive, INSTALL};
use e2e::sandbox::Systemd;
use e2e::scenarios::{Scenario, run_all};

mod commands;
mod debian;
mod images;
pub(crate) mod support;
mod traits;
mod versions;
mod who;

/// There before the agent is: what it installs itself, it installs one at a time.
const THERE: [&str; 13] = [
    "sk-simple",
    "sk-notify",
    "sk-forking",
    "sk-oneshot",
    "sk-othername",
    "sk-continued",
    "sk-dropin",
    "sk-conflicts",
    "sk-dbus",
    "sk-template",
    "sk-onlytemplate",
    "sk-dynamic",
    "sk-exit",
];

/// These do not meet.
const TOGETHER: [&[Scenario]; 4] = [traits::ALL, commands::ALL, who::ALL, images::ALL];

/// These change what the others would see.
const ALONE: [&[Scenario]; 2] = [versions::ALL, images::ALONE];

#[test]
fn packages_on_252() {
    packages(Systemd::V252);
}

#[test]
fn packages_on_257() {
    packages(Systemd::V257);
}

fn packages(systemd: Systemd) {
    let mut node = Node::without_agent(systemd, "packages").unwrap();
    // The scenarios begin together, and what they install comes one after the other.
    node.patience = INSTALLED;
    AptRepo::build().unwrap().install_into(&node.sandbox, Archive::OursOnly).unwrap();
    node.sandbox.run(&[&INSTALL[..], &THERE].concat()).unwrap();
    node.start_agent().unwrap();
    run_all(&node, &TOGETHER.concat());
    for scenario in ALONE.concat() {
        run_all(&node, &[scenario]);
    }
    run_all(&node, &[("mount_points_before_a_reboot", traits::mount_points)]);
    node.sandbox.reboot().unwrap();
    run_all(&node, &[("autostart_after_a_reboot", traits::not_started)]);
    run_all(&node, &[("mount_points_after_a_reboot", traits::mount_points_go)]);
}

/// Each of these has a name by which a table can find it.
#[test]
fn packages_scenarios_have_names_of_their_own() {
    let mut names: Vec<&str> = [TOGETHER.concat(), ALONE.concat()].concat().iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}
