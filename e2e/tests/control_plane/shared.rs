//! A control plane that nodes share outlives the process which started it, and goes with the last of them.

use e2e::control_plane::{ControlPlaneSpec, Shared};
use rustix::process::{Pid, Signal, kill_process};

/// Removes it also when the test fails: nobody else would, as it is one that stays.
struct Removed(Shared);

impl Drop for Removed {
    fn drop(&mut self) {
        self.0.down().unwrap();
    }
}

#[test]
fn nodes_share_one_and_the_last_takes_it_along() {
    let shared = Removed(Shared::of(ControlPlaneSpec::for_test("shared")));
    let one = shared.0.join("first").unwrap();
    let (server, record) = (one.server(), one.record().clone());
    one.admin().run(&["create", "configmap", "kept"]).unwrap();
    drop(one);
    assert!(record.processes.values().all(|process| process.alive()), "it went with the one who started it");

    // A program of it that died is started again for the next node; the others are those that were there.
    let killed = record.processes[record.parts.last().unwrap()];
    kill_process(Pid::from_raw(killed.pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    let two = shared.0.join("second").unwrap();
    assert_eq!((two.server(), &two.record().parts), (server, &record.parts));
    let again = two.record().processes.clone();
    assert!(again.values().all(|process| process.alive()));
    assert_eq!(again.iter().filter(|(part, process)| record.processes[part] != **process).count(), 1);
    assert!(two.admin().find(&["configmap", "kept"]).unwrap().is_some());

    assert!(!shared.0.leave("first").unwrap());
    assert!(!shared.0.leave("never-joined").unwrap());
    assert_eq!(two.admin().run(&["get", "--raw", "/readyz"]).unwrap(), "ok");
    assert!(shared.0.leave("second").unwrap());
    assert!(again.values().all(|process| !process.alive()));
    assert!(!two.admin_kubeconfig().exists());
}
