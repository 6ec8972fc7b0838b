//! Each trait of a vendor's unit as its user meets it.

use e2e::agent::{Node, SOON};
use e2e::eventually::wait_until;
use e2e::scenarios::Scenario;

use super::support::*;

pub(super) const ALL: &[Scenario] = scenarios![
    autostart,
    badpostinst,
    condition,
    nounit,
    var,
    alias,
    simple,
    notify,
    notify_main_with_an_identity,
    forking,
    oneshot,
    othername,
    continued,
    dropin,
    conflicts,
    dbus,
    template,
    onlytemplate,
    exit,
    exit_slowly,
];

fn nounit(node: &Node) {
    apply(node, "nounit-none", &pod("nounit-none", "image: sk-nounit"));
    waits(node, "nounit-none", "CreateContainerError", &["no command specified", "sk-nounit"]);
    ready(node, "nounit", "image: sk-nounit, command: [sk-nounit, a, b c]");
    says(node, "nounit", "sk-nounit: arguments: a b c");
}

fn simple(node: &Node) {
    let report = ready(node, "simple", "image: sk-simple");
    assert_eq!(report["pod"]["status"]["containerStatuses"][0]["imageID"], "package://sk-simple=1.0-1");
    says(node, "simple", "sk-simple: hello 1");
    assert_eq!(property(node, "simple", "Restart"), "no");
    assert!(property(node, "simple", "Slice").starts_with("kubepods-besteffort-pod"));
}

/// Running from the start, ready only once it says so.
fn notify(node: &Node) {
    apply(node, "notify", &pod("notify", "image: sk-notify, env: [{name: READY_AFTER, value: '4'}]"));
    node.wait_status("notify", "to run and not to be ready", |status| {
        let container = &status["containerStatuses"][0];
        container["state"]["running"].is_object() && container["ready"] == false
    })
    .unwrap();
    node.wait_ready("notify").unwrap();
    says(node, "notify", "sk-notify: ready");
    assert_eq!(property(node, "notify", "StatusText"), "notified by a child");
}

fn notify_main_with_an_identity(node: &Node) {
    let manifest = pod_with(
        "notify-main",
        "systemk.io/unit: sk-notify-main.service",
        "",
        "image: sk-notify, securityContext: {runAsUser: 64001, runAsGroup: 64002}",
    );
    apply(node, "notify-main", &manifest);
    node.wait_ready("notify-main").unwrap();
    let pid = property(node, "notify-main", "MainPID");
    let ids = sh(node, &format!("stat -c '%u %g' /proc/{pid}; cat /proc/{pid}/comm"));
    assert_eq!(ids, "64001 64002\nsk-notify-main");
}

fn forking(node: &Node) {
    ready(node, "forking", "image: sk-forking");
    says(node, "forking", "sk-forking: daemonized");
    let pid = property(node, "forking", "MainPID");
    assert_eq!(sh(node, &format!("tr '\\0' ' ' </proc/{pid}/cmdline")), "/bin/bash /usr/sbin/sk-forking --child");
    assert_eq!(sh(node, &format!("cat /proc/{pid}/root/run/sk-forking.pid")), pid);
    sh(node, "test ! -e /run/sk-forking.pid");
    // The main process that it found is the one whose end is seen.
    sh(node, &format!("kill -9 {pid}"));
    node.wait_status("forking", "the restart", |status| status["containerStatuses"][0]["restartCount"] == 1).unwrap();
    node.wait_ready("forking").unwrap();
    gone(node, "forking");
}

fn oneshot(node: &Node) {
    apply(node, "oneshot", &pod_with("oneshot", "", "restartPolicy: Never,", "image: sk-oneshot"));
    ends(node, "oneshot", "Succeeded", 0);
    let log = says(node, "oneshot", "sk-oneshot: step three");
    assert!(log.contains("sk-oneshot: step one"), "{log}");
}

fn othername(node: &Node) {
    ready(node, "othername", "image: sk-othername");
    says(node, "othername", "skother: started");
}

fn continued(node: &Node) {
    ready(node, "continued", "image: sk-continued");
    says(
        node,
        "continued",
        "sk-continued: [--foreground] [--one] [--two] [words] [--name] [a name with spaces] [--quoted=two words] \
         [--percent=100%]\n",
    );
}

fn dropin(node: &Node) {
    ready(node, "dropin", "image: sk-dropin");
    says(node, "dropin", "sk-dropin: FROM_UNIT=yes FROM_DROPIN=yes arguments: dropin\n");
}

fn alias(node: &Node) {
    ready(node, "alias", "image: sk-alias");
    sh(node, "test ! -e /etc/systemd/system/sk-alias-alias.service");
    sh(node, "! ls /etc/systemd/system/*.wants | grep sk-alias");
    assert_eq!(node.sandbox.exec(&["systemctl", "is-enabled", "sk-alias.service"]).unwrap().stdout, "disabled\n");
}

fn conflicts(node: &Node) {
    sh(node, "systemctl start sk-simple.service");
    let pid = node.property("sk-simple.service", "MainPID").unwrap();
    ready(node, "conflicts", "image: sk-conflicts");
    assert_eq!(node.property("sk-simple.service", "MainPID").unwrap(), pid);
    for other in ["sk-conflicts-required.service", "sk-conflicts-bound.service", "sk-conflicts.service"] {
        assert_eq!(node.property(other, "ActiveState").unwrap(), "inactive", "{other}");
    }
    gone(node, "conflicts");
    assert_eq!(node.property("sk-simple.service", "MainPID").unwrap(), pid);
}

fn condition(node: &Node) {
    apply(node, "condition", &pod("condition", "image: sk-condition"));
    waits(node, "condition", "CreateContainerError", &["ConditionPathExists=/nonexistent/sk", "does not hold"]);
}

fn dbus(node: &Node) {
    apply(node, "dbus", &pod("dbus", "image: sk-dbus"));
    refused(node, "dbus", &["sk-dbus.service [Service] Type=", "D-Bus"]);
    ready(node, "dbus-command", "image: sk-dbus, command: [sleep, infinity]");
}

fn template(node: &Node) {
    apply(node, "template", &pod("template", "image: sk-template"));
    refused(node, "template", &["sk-template.service", "systemk.io/unit"]);
    let annotation = "systemk.io/unit: sk-template@one.service";
    apply(node, "template-one", &pod_with("template-one", annotation, "", "image: sk-template"));
    node.wait_ready("template-one").unwrap();
    says(node, "template-one", "sk-template: instance one");
    ready(node, "template-command", "image: sk-template, command: [sk-template, by hand]");
    says(node, "template-command", "sk-template: instance by hand");
}

fn onlytemplate(node: &Node) {
    apply(node, "only", &pod("only", "image: sk-onlytemplate"));
    refused(node, "only", &["sk-onlytemplate@.service", "it is a template"]);
    let annotation = "systemk.io/unit: sk-onlytemplate@x.service";
    apply(node, "only-x", &pod_with("only-x", annotation, "", "image: sk-onlytemplate"));
    node.wait_ready("only-x").unwrap();
    ready(node, "only-command", "image: sk-onlytemplate, command: [sleep, infinity]");
}

fn exit(node: &Node) {
    apply(node, "exit", &pod_with("exit", "", "restartPolicy: Never,", "image: sk-exit, args: ['42']"));
    let report = ends(node, "exit", "Failed", 42);
    assert_eq!(report["pod"]["status"]["containerStatuses"][0]["state"]["terminated"]["reason"], "Error");
    says(node, "exit", "sk-exit: will exit with 42");
}

fn exit_slowly(node: &Node) {
    ready(node, "exit-slowly", "image: sk-exit, args: [--term-after, '1']");
    says(node, "exit-slowly", "sk-exit: will exit with 0");
    let unit = node.unit("exit-slowly", "c").unwrap();
    gone(node, "exit-slowly");
    let log = node.sandbox.run(&["journalctl", "--no-pager", "-o", "cat", &format!("_SYSTEMD_UNIT={unit}")]).unwrap();
    assert!(log.contains("sk-exit: TERM, leaving in 1 s"), "{log}");
}

fn var(node: &Node) {
    ready(node, "var", "image: sk-var");
    says(node, "var", "shipped by sk-var\n<p>shipped by sk-var</p>\n");
    let script = "echo from the pod >/var/lib/sk-var/own && test ! -e /var/lib/dpkg && ! touch /usr/x /etc/x /srv/x && \
                  touch /run/x /tmp/x /var/tmp/x && echo done; sleep infinity";
    ready(node, "var-writes", &format!("image: sk-var, command: [sh, -c, '{script}']"));
    says(node, "var-writes", "done\n");
    gone(node, "var-writes");
    assert_eq!(node.sandbox.read_file("/var/lib/sk-var/own").unwrap(), "from the pod\n");
}

fn autostart(node: &Node) {
    ready(node, "autostart", "image: sk-autostart");
    not_started(node);
    gone(node, "autostart");
    not_started(node);
}

/// Neither its unit nor its init script is started or would be at the next boot.
pub(super) fn not_started(node: &Node) {
    sh(node, "test ! -e /var/lib/sk-autostart.started");
    let state = |unit: &str| node.property(unit, "ActiveState").unwrap();
    assert_eq!([state("sk-autostart.service"), state("sk-autostart-sysv.service")], ["inactive", "inactive"]);
    assert_eq!(node.sandbox.exec(&["systemctl", "is-enabled", "sk-autostart.service"]).unwrap().stdout, "disabled\n");
    sh(node, "! ls /etc/rc?.d | grep 'S.*sk-autostart'");
}

/// Made in the package's own directory, for one pod that goes while no agent looks and one that goes on.
pub(super) fn mount_points(node: &Node) {
    for name in ["leaves", "stays"] {
        let mounts = format!("volumeMounts: [{{name: v, mountPath: /var/lib/sk-var/{name}/deep}}]");
        let container = format!("image: sk-var, command: [sleep, infinity], {mounts}");
        let spec = "volumes: [{name: v, emptyDir: {}}],";
        apply(node, name, &pod_with(name, "", spec, &container));
        node.wait_ready(name).unwrap();
    }
    sh(node, "test -d /var/lib/sk-var/leaves/deep -a -d /var/lib/sk-var/stays/deep");
    sh(node, "systemctl stop systemk; rm /etc/systemk/manifests/leaves.yaml");
}

pub(super) fn mount_points_go(node: &Node) {
    node.start_agent().unwrap();
    node.wait_ready("stays").unwrap();
    let gone = |path: &str| {
        let test = format!("test ! -e /var/lib/sk-var/{path}");
        wait_until(path, SOON, || node.sandbox.sh(&test).is_ok().then_some(())).unwrap();
    };
    gone("leaves");
    sh(node, "test -d /var/lib/sk-var/stays/deep");
    node.remove("stays.yaml").unwrap();
    gone("stays");
    sh(node, "test -e /var/lib/sk-var/data");
}

fn badpostinst(node: &Node) {
    apply(node, "badpostinst", &pod("badpostinst", "image: sk-badpostinst, command: [sk-badpostinst]"));
    let lines = ["sk-badpostinst: setting up", "sk-badpostinst: looking for what is not", "sk-badpostinst: giving up"];
    waits(node, "badpostinst", "ErrImagePull", &lines);
    waits(node, "badpostinst", "ImagePullBackOff", &["Back-off pulling image \"sk-badpostinst\"", lines[2]]);
    event(node, "badpostinst", "Warning", "Failed", lines[2]);
    gone(node, "badpostinst");
    let clean = || node.sandbox.run(&["dpkg", "--audit"]).ok().filter(String::is_empty);
    wait_until("a clean dpkg", node.patience, clean).unwrap();
}
