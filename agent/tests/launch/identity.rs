//! Whose the program is and what it may do.

use std::process::Command;

use plan::launch::MAIN_LINE;

use super::support::*;

#[test]
fn identity_is_exact_and_without_capabilities() {
    let Some(mut bench) = Bench::new(&[]) else { return };
    bench.launch.identity = identity(54_321, 65_432, &[7, 100_000]);
    for listed in [None, capabilities(&["CHOWN", "NET_BIND_SERVICE"])] {
        bench.launch.capabilities = listed;
        let status = bench.status();
        assert_eq!(status.field("Uid"), "54321 54321 54321 54321");
        assert_eq!(status.field("Gid"), "65432 65432 65432 65432");
        assert_eq!(status.field("Groups"), "7 100000");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status.mask(set), 0, "{set}");
        }
        assert_eq!(status.field("NoNewPrivs"), "0");
    }
    bench.launch.identity = identity(i32::MAX as u32, i32::MAX as u32, &[]);
    let status = bench.status();
    assert_eq!(status.field("Uid").split(' ').next(), Some("2147483647"));
    assert_eq!(status.field("Groups"), "", "root's own groups are gone");
}

#[test]
fn root_keeps_only_the_listed_capabilities() {
    let Some(mut bench) = Bench::new(&[]) else { return };
    let names = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let here = own_status().mask("CapBnd");
    for root in [None, identity(0, 0, &[])] {
        bench.launch.identity = root;
        for (listed, expected) in [(&names[..], bits(&names) & here), (&[], 0)] {
            bench.launch.capabilities = capabilities(listed);
            bench.launch.no_new_privileges = !bench.launch.no_new_privileges;
            let status = bench.status();
            for set in ["CapBnd", "CapPrm", "CapEff"] {
                assert_eq!(status.mask(set), expected, "{set}");
            }
            assert_eq!((status.mask("CapInh"), status.mask("CapAmb")), (0, 0));
            assert_eq!(status.field("NoNewPrivs"), u8::from(bench.launch.no_new_privileges).to_string());
        }
    }
    bench.launch.capabilities = None;
    assert_eq!(bench.status().mask("CapEff"), own_status().mask("CapEff"), "None leaves them alone");
}

#[test]
fn an_identity_that_systemd_made_keeps_its_ambient_capabilities_as_far_as_listed() {
    let Some(mut bench) = Bench::new(&["cat", "/proc/self/status"]) else { return };
    bench.launch.capabilities = capabilities(&["NET_BIND_SERVICE"]);
    let run = |ambient: &str| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid=1000", "--regid=1000", "--clear-groups"]);
        setpriv.args([format!("--inh-caps={ambient}"), format!("--ambient-caps={ambient}")]);
        let output = setpriv.args([BINARY, "init", MAIN_LINE]).stdin(bench.stdin()).output().unwrap();
        (output.status.code(), Status(String::from_utf8(output.stdout).unwrap()))
    };
    let (_, status) = run("+chown,+net_bind_service,+setpcap");
    for set in ["CapBnd", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status.mask(set), bits(&["NET_BIND_SERVICE"]), "{set}");
    }
    let (code, _) = run("+chown,+net_bind_service");
    assert_eq!(code, Some(128), "a bounding set that cannot be lowered is a failure");
}

#[test]
fn full_privileges_skip_what_would_take_any_away() {
    let Some(mut bench) = Bench::new(&[]) else { return };
    bench.launch.identity = identity(1000, 1000, &[]);
    bench.launch.capabilities = capabilities(&[]);
    bench.launch.no_new_privileges = true;
    let mut line = line(&["cat", "/proc/self/status"]);
    line.full_privileges = true;
    bench.launch.lines.insert(MAIN_LINE.to_owned(), line);
    let status = Status(bench.stdout());
    assert_eq!(status.field("Uid"), "0 0 0 0");
    assert_eq!(status.field("NoNewPrivs"), "0");
    assert_eq!(status.mask("CapEff"), own_status().mask("CapEff"));
}

#[test]
fn signals_are_as_the_unit_left_them() {
    const SIGPIPE: u64 = 1 << 12;
    let Some(mut bench) = Bench::new(&[]) else { return };
    let status = bench.status();
    // Not the two above 31 that glibc keeps for itself and its posix_spawn leaves ignored.
    let ignored = |status: &Status| status.mask("SigIgn") & 0x7fff_ffff;
    let others = ignored(&own_status()) & !SIGPIPE;
    assert_eq!((ignored(&status), status.mask("SigBlk")), (others, 0), "Rust's ignored SIGPIPE leaked");
    bench.stdin();
    let script = format!("trap '' PIPE; exec {BINARY} init start.0 <{}", bench.text("launch.json"));
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let status = Status(String::from_utf8(output.stdout).unwrap());
    assert_eq!(ignored(&status), others | SIGPIPE, "IgnoreSIGPIPE=yes");
}
