//! The agent dies while dpkg unpacks or configures: alone, when the installation is carried through, or together with dpkg,
//! when it is put right and done again. Either way the package is whole, and pods that need none do not wait.

use e2e::agent::{Node, SOON};
use e2e::apt_repo::{AptRepo, Archive};
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;

use super::support::{agent_log, agent_pid, sleeper, wait_nothing_left, wait_sh};

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: blocks, uid: blocks}, spec: {terminationGracePeriodSeconds: 1, \
     containers: [{name: main, image: 'package://sk-blocks=1.0-1', command: [sk-blocks]}]}}\n";

/// A node whose agent installs a package that waits in its script `stage`.
fn installing(systemd: Systemd, what: &str, stage: &str) -> Node {
    let node = Node::without_agent(systemd, what).unwrap();
    AptRepo::build().unwrap().install_into(&node.sandbox, Archive::OursOnly).unwrap();
    node.start_agent().unwrap();
    node.sandbox.sh(&format!("touch /var/lib/sk-blocks.hold-{stage}")).unwrap();
    node.apply("blocks.yaml", POD).unwrap();
    wait_sh(&node, "the script to run", &format!("[ -s /var/lib/sk-blocks.{stage} ]"));
    node
}

/// Kills the agent, alone or with all that it started, and waits for another process of it.
fn kill(node: &Node, whom: &str) {
    let old = agent_pid(node);
    node.sandbox.sh(&format!("systemctl kill --signal=KILL --kill-whom={whom} systemk")).unwrap();
    wait_until("the successor", SOON, || (agent_pid(node) != old).then_some(())).unwrap();
}

fn is_whole(node: &Node) {
    node.wait_ready("blocks").unwrap();
    node.wait_log("blocks", "main", "sk-blocks: 1.0-1").unwrap();
    assert_eq!(node.sandbox.sh("dpkg --audit").unwrap(), "");
    assert_eq!(node.sandbox.sh("dpkg-query -W -f '${db:Status-Abbrev}' sk-blocks").unwrap(), "ii ");
    assert_eq!(node.sandbox.sh("cat /var/lib/sk-blocks.done").unwrap(), "configured\n");
    // The pod does not wait for who tidies up after the installation.
    let tidy = "test ! -e /usr/sbin/policy-rc.d; test ! -e /var/lib/systemk/packages/installing.json";
    wait_sh(node, "the installation to be tidied up after", tidy);
    node.remove("blocks.yaml").unwrap();
    wait_nothing_left(node, "bystander");
}

fn carried_through(systemd: Systemd, stage: &str) {
    let node = installing(systemd, "carried", stage);
    kill(&node, "main");
    // The installation that is still under way holds up neither the agent's start nor another pod.
    wait_sh(&node, "the agent to be up", "systemctl is-active systemk");
    node.apply("beside.yaml", &sleeper("beside")).unwrap();
    node.wait_ready("beside").unwrap();
    let waits = |status: &serde_json::Value| {
        let message = status["containerStatuses"][0]["state"]["waiting"]["message"].as_str();
        message.is_some_and(|m| m.contains("waiting for another package's installation"))
    };
    node.wait_status("blocks", "to wait for the installation", waits).unwrap();
    kill(&node, "main");
    node.sandbox.sh(&format!("rm /var/lib/sk-blocks.hold-{stage}")).unwrap();
    node.wait_ready("blocks").unwrap();
    for script in ["preinst", "postinst"] {
        let runs = node.sandbox.sh(&format!("wc -l < /var/lib/sk-blocks.{script}")).unwrap();
        assert_eq!(runs.trim(), "1", "{script} ran again\n{}", agent_log(&node));
    }
    node.remove("beside.yaml").unwrap();
    is_whole(&node);
}

fn a_kill_while_dpkg_unpacks_is_carried_through(systemd: Systemd) {
    carried_through(systemd, "preinst");
}

fn a_kill_while_dpkg_configures_is_carried_through(systemd: Systemd) {
    carried_through(systemd, "postinst");
}

fn put_right(systemd: Systemd, stage: &str) {
    let node = installing(systemd, "right", stage);
    kill(&node, "all");
    node.sandbox.sh(&format!("rm /var/lib/sk-blocks.hold-{stage}")).unwrap();
    is_whole(&node);
}

fn a_kill_with_dpkg_while_it_unpacks_is_put_right(systemd: Systemd) {
    put_right(systemd, "preinst");
}

fn a_kill_with_dpkg_while_it_configures_is_put_right(systemd: Systemd) {
    put_right(systemd, "postinst");
}

/// A node with the package's first version, whose agent replaces it and waits in the second's preinst. The first one has
/// left the archive.
fn replacing(systemd: Systemd, what: &str, uri: &str) -> Node {
    let node = Node::without_agent(systemd, what).unwrap();
    AptRepo::build().unwrap().install_into(&node.sandbox, Archive::OursOnly).unwrap();
    node.sandbox.sh("apt-get install -qq sk-blocks=1.0-1 && rm /var/lib/sk-blocks.*").unwrap();
    node.sandbox.sh(&format!("sed -i s/file:/{uri}:/ /etc/apt/sources.list.d/systemk-repo.list")).unwrap();
    leaves_the_archive(&node, "1.0-1");
    node.start_agent().unwrap();
    node.sandbox.sh("touch /var/lib/sk-blocks.hold-preinst").unwrap();
    node.apply("blocks.yaml", &POD.replace("1.0-1", "2.0-1")).unwrap();
    wait_sh(&node, "the script to run", "[ -s /var/lib/sk-blocks.preinst ]");
    assert!(audit(&node).contains("sk-blocks"), "it is between two versions");
    node
}

fn leaves_the_archive(node: &Node, version: &str) {
    let without = format!("print unless /^Package: sk-blocks$/m && /^Version: {version}$/m");
    let edit = format!("cd /srv/systemk-repo; perl -00 -ni -e '{without}' Packages; rm sk-blocks_{version}_all.deb");
    node.sandbox.sh(&format!("{edit}; apt-get update -qq")).unwrap();
}

fn audit(node: &Node) -> String {
    node.sandbox.sh("dpkg --audit").unwrap()
}

const IS_REPLACED: &str = "[ -z \"$(dpkg --audit)\" ] && [ ! -e /var/lib/systemk/packages/installing.json ] && \
     [ \"$(dpkg-query -W -f '${db:Status-Abbrev}${Version}' sk-blocks)\" = 'ii 2.0-1' ]";

fn a_kill_with_dpkg_while_it_replaces_is_put_right_from_what_apt_keeps(systemd: Systemd) {
    let node = replacing(systemd, "replaced", "copy");
    leaves_the_archive(&node, "2.0-1");
    kill(&node, "all");
    node.sandbox.sh("rm /var/lib/sk-blocks.hold-preinst").unwrap();
    wait_sh(&node, "the package to be whole", IS_REPLACED);
    node.wait_log("blocks", "main", "sk-blocks: 2.0-1").unwrap();
}

fn a_kill_with_dpkg_while_it_replaces_is_put_right_from_the_archive(systemd: Systemd) {
    // apt keeps no copy of what it can read in its place.
    let node = replacing(systemd, "again", "file");
    // Nobody asks for the package any more, and it must not be left in the way of others.
    node.sandbox.sh("systemctl kill --signal=STOP --kill-whom=main systemk").unwrap();
    node.remove("blocks.yaml").unwrap();
    kill(&node, "all");
    node.sandbox.sh("rm /var/lib/sk-blocks.hold-preinst").unwrap();
    wait_sh(&node, "the package to be whole", IS_REPLACED);
}

on_both!(
    a_kill_with_dpkg_while_it_replaces_is_put_right_from_what_apt_keeps,
    a_kill_with_dpkg_while_it_replaces_is_put_right_from_the_archive,
    a_kill_while_dpkg_unpacks_is_carried_through,
    a_kill_while_dpkg_configures_is_carried_through,
    a_kill_with_dpkg_while_it_unpacks_is_put_right,
    a_kill_with_dpkg_while_it_configures_is_put_right,
);
