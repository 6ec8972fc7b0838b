//! What a container sees of the machine, and what the machine sees of it.

use e2e::agent::Node;
use e2e::sandbox::Systemd;
use serde_json::json;

use super::{apply, first, once, output, shell};

on_both! { the_root mounts_of_the_host_under_it }

const LOOK: &str = r#"
for d in /usr /etc /opt /srv; do touch $d/x 2>/dev/null && echo "$d is writable"; done
for d in /home /root /tmp /var/tmp; do echo "$d: $(ls -A $d)"; done
for f in /run/systemd/private /run/dbus /run/systemk /var/lib/systemk /var/lib/dpkg /var/log/journal /boot; do
  [ -e $f ] && echo "$f is visible"; done
echo "run: $(readlink /var/run) $(stat -c %a /tmp /var/tmp /root | tr '\n' ' ')"
cat /etc/resolv.conf > /dev/null && echo resolv.conf
for d in / /tmp /var/tmp /run /var/lib /home /root; do echo mine > $d/written || echo "cannot write to $d"; done
cat /var/run/written
"#;

pub(super) fn the_root(systemd: Systemd) {
    let node = Node::start(systemd, "root").unwrap();
    node.sandbox.sh("touch /tmp/hosts /home/hosts /root/hosts").unwrap();
    node.sandbox.sh("mkdir -p /run/fake && echo nameserver 1.2.3.4 > /run/fake/resolv.conf").unwrap();
    let log = output(&node, "look", once(LOOK));
    let empty = "/home: \n/root: \n/tmp: \n/var/tmp: \n";
    // journald drops the blanks at the end of a line.
    let expected = format!("{}run: ../run 1777 1777 700\nresolv.conf\nmine\n", empty.replace(": \n", ":\n"));
    let plain: String = log.lines().map(|l| format!("{}\n", l.trim_end())).collect();
    assert_eq!(plain, expected);
    let leaked =
        node.sandbox.sh("ls /written /tmp/written /var/tmp/written /run/written /root/written 2>/dev/null || true");
    assert_eq!(leaked.unwrap(), "");

    let spec = once("(echo through the socket; sleep 1) | logger -t tagged; echo direct");
    output(&node, "logs", spec);
    node.wait_log("logs", "main", "through the socket").unwrap();

    let again = "ls /marker /tmp/marker /run/marker 2>/dev/null; touch /marker /tmp/marker /run/marker; exit 1";
    apply(&node, "fresh", json!({"containers": [shell("main", again)]}));
    let report = node.wait_status("fresh", "a restart", |s| first(s)["restartCount"] == 1).unwrap();
    drop(report);
    node.wait_waiting("fresh", "CrashLoopBackOff", &[]).unwrap();
    assert_eq!(node.log("fresh", "main").unwrap(), "");
    assert_eq!(node.sandbox.sh("ls -A /tmp /home /root | grep -v hosts | grep marker || true").unwrap(), "");
}

/// Containers' /usr, /etc, /opt and /srv are bound from views that the agent keeps: whatever the administrator does to the
/// host's mounts, or to the views themselves, the next container sees the host as it is and cannot write it.
pub(super) fn mounts_of_the_host_under_it(systemd: Systemd) {
    const TRY: &str = "cat /opt/late/host 2>/dev/null || echo nothing; \
                       for d in /opt/late /opt /etc /usr; do touch $d/x 2>/dev/null && echo wrote $d; done; echo end";
    let node = Node::start(systemd, "views").unwrap();
    assert_eq!(output(&node, "before", once(TRY)), "nothing\nend\n");

    node.sandbox.sh("mkdir /opt/late && mount -t tmpfs late /opt/late && echo seen > /opt/late/host").unwrap();
    assert_eq!(output(&node, "mounted", once(TRY)), "seen\nend\n");
    // The views do not keep the host from taking it away.
    node.sandbox.sh("umount /opt/late").unwrap();
    assert_eq!(output(&node, "unmounted", once(TRY)), "nothing\nend\n");

    node.sandbox.sh("mount -o remount,bind,rw /run/systemk/host/etc && umount -l /run/systemk/host/usr").unwrap();
    assert_eq!(output(&node, "tampered", once(TRY)), "nothing\nend\n");
    node.sandbox.sh("mkdir /opt.new && echo seen > /opt.new/file && mv /opt /opt.old && mv /opt.new /opt").unwrap();
    assert_eq!(output(&node, "exchanged", once("cat /opt/file; touch /opt/x 2>/dev/null || echo no")), "seen\nno\n");
}
