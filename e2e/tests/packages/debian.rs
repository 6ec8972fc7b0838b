//! Packages of the distribution itself, Debian's of both releases and Ubuntu's: their units as they are. Needs the
//! archive, once.

use e2e::agent::{Node, SOON};
use e2e::apt_repo::{AptRepo, Archive, INSTALL};
use e2e::debian_repo;
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use e2e::scenarios::{Scenario, run_all};

use super::support::*;

const FETCHED: [&str; 4] = ["openssh-server", "uptimed", "nginx", "redis-server"];

const ALL: &[Scenario] =
    scenarios![the_hosts_sshd_is_untouched, uptimed, nginx_forks_and_serves, redis_in_its_own_sandbox];

#[test]
fn packages_of_debian_on_252() {
    packages_of(Systemd::V252);
}

#[test]
fn packages_of_debian_on_257() {
    packages_of(Systemd::V257);
}

/// Its units differ from Debian's, as do its apt, its merged /usr and its systemd (255).
#[test]
fn packages_of_ubuntu() {
    packages_of(Systemd::V255);
}

fn packages_of(systemd: Systemd) {
    let node = Node::without_agent(systemd, "debian").unwrap();
    AptRepo::build().unwrap().install_into(&node.sandbox, Archive::OursOnly).unwrap();
    debian_repo::install_into(&node.sandbox, &FETCHED).unwrap();
    node.sandbox.run(&[&INSTALL[..], &["openssh-server"]].concat()).unwrap();
    node.start_agent().unwrap();
    run_all(&node, ALL);
}

/// What a server says first, after it was asked, on a port of the node.
fn answer(node: &Node, port: u16, ask: &str, what: &str) {
    let script =
        format!("exec 3<>/dev/tcp/127.0.0.1/{port}; printf '{ask}' >&3; read -t 5 -r line <&3; echo \"$line\"");
    let answered = wait_until(what, SOON, || node.sandbox.sh(&script).ok().filter(|line| line.contains(what)));
    let why = || {
        format!(
            "port {port}: {:?}\n{}",
            node.sandbox.exec(&["bash", "-c", &script]),
            sh(node, "journalctl --no-pager -o short -n 60 | grep -v systemk-agent")
        )
    };
    assert!(answered.is_ok(), "{}", why());
}

/// Its own service runs before, beside and after a pod of the same package, and keeps its runtime directory.
fn the_hosts_sshd_is_untouched(node: &Node) {
    sh(node, "systemctl start ssh.service");
    let pid = node.property("ssh.service", "MainPID").unwrap();
    answer(node, 22, "", "SSH-2.0");
    ready(node, "sshd", "image: openssh-server, args: [-D, -p, '2222']");
    answer(node, 2222, "", "SSH-2.0");
    answer(node, 22, "", "SSH-2.0");
    gone(node, "sshd");
    answer(node, 22, "", "SSH-2.0");
    sh(node, "test -d /run/sshd");
    assert_eq!(node.property("ssh.service", "MainPID").unwrap(), pid);
    assert_eq!(node.property("ssh.service", "ActiveState").unwrap(), "active");
}

fn uptimed(node: &Node) {
    ready(node, "uptimed", "image: uptimed");
    assert_eq!(node.property("uptimed.service", "ActiveState").unwrap(), "inactive");
    let pid = property(node, "uptimed", "MainPID");
    assert_eq!(sh(node, &format!("cat /proc/{pid}/comm")), "uptimed");
    wait_until("its record on the host", SOON, || node.sandbox.sh("test -s /var/spool/uptimed/records").ok()).unwrap();
}

fn nginx_forks_and_serves(node: &Node) {
    ready(node, "nginx", "image: nginx");
    answer(node, 80, "GET / HTTP/1.0\\r\\n\\r\\n", "HTTP/1.1 ");
    sh(node, "test ! -e /run/nginx.pid");
    gone(node, "nginx");
    assert!(node.sandbox.sh("exec 3<>/dev/tcp/127.0.0.1/80").is_err());
}

/// Its unit has nearly every directive for hardening: NoExecPaths=/, ReadOnlyPaths=/, a filter of system calls.
fn redis_in_its_own_sandbox(node: &Node) {
    ready(node, "redis", "image: redis-server");
    answer(node, 6379, "PING\\r\\n", "+PONG");
    let pid = property(node, "redis", "MainPID");
    assert_eq!(sh(node, &format!("stat -c %U /proc/{pid}")), "redis");
    let writes = format!("nsenter -t {pid} -m -- sh -c 'touch /run/x /tmp/x && ! touch /etc/x /usr/x /var/lib/x'");
    assert!(node.sandbox.exec(&["sh", "-c", &writes]).is_ok());
    // ReadWritePaths=/etc/redis: its CONFIG REWRITE writes there.
    let writes = format!("nsenter -t {pid} -m -- touch /etc/redis/written && rm /etc/redis/written");
    assert!(node.sandbox.exec(&["sh", "-c", &writes]).is_ok());
    // The pod's identity is assumed under the vendor's filter of system calls, by init, which NoExecPaths= names.
    let container = "image: redis-server, command: [/usr/bin/redis-server, --port, '6390', --dir, /tmp], \
                     securityContext: {runAsUser: 64900, runAsGroup: 64901}";
    ready(node, "redis-other", container);
    answer(node, 6390, "PING\\r\\n", "+PONG");
    let pid = property(node, "redis-other", "MainPID");
    assert_eq!(sh(node, &format!("stat -c '%u %g' /proc/{pid}")), "64900 64901");
    // What the vendor's CapabilityBoundingSet= leaves is none; so it is for the pod's identity.
    assert_eq!(sh(node, &format!("grep CapEff /proc/{pid}/status | cut -f2")), "0000000000000000");
    let bounding =
        |name: &str| sh(node, &format!("grep CapBnd /proc/{}/status | cut -f2", property(node, name, "MainPID")));
    assert_eq!(bounding("redis-other"), bounding("redis"));
}
