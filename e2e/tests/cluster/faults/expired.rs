//! A version that is too old (410), on every watch at once.

use std::time::Instant;

use e2e::control_plane::Fault;
use e2e::sandbox::Systemd;

use super::{assert_converged, assert_untouched, behind, run, wait_seen};

on_both! { each_watch_begins_anew_once }

const WATCHES: [&str; 3] = ["watch pods", "watch services", "watch configmaps"];

fn each_watch_begins_anew_once(systemd: Systemd) {
    let (proxy, member) = behind(systemd, "expired");
    member.kubectl().run(&["create", "configmap", "settings", "--from-literal=A=b", "-n", &member.name]).unwrap();
    let serves = run(&member, "serves");
    for (round, fault) in [Fault::Expired, Fault::Refuse(410, None)].into_iter().enumerate() {
        let since = Instant::now();
        WATCHES.iter().for_each(|watch| proxy.inject_times(1, watch, fault.clone()));
        // So that each of them is begun anew.
        proxy.reset();
        for watch in WATCHES {
            // The one that is too old, and the one that begins with what there is.
            wait_seen(&proxy, since, watch, 2);
        }
        assert_converged(&member, &format!("later-{round}"));
        for watch in WATCHES {
            let seen = proxy.seen_since(since, watch);
            let whole = seen.iter().filter(|seen| seen.asked.uri.contains("sendInitialEvents=true")).count();
            assert_eq!((whole, seen.len()), (1, 2), "{seen:#?}");
        }
        let lists: Vec<String> = proxy.counts(since).into_keys().filter(|what| what.starts_with("list")).collect();
        assert_eq!(lists, [""; 0]);
        assert_untouched(&member, "serves", &serves);
    }
}
