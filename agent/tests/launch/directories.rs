//! Where the program begins, and what it is given.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use plan::launch::MAIN_LINE;

use super::support::*;

#[test]
fn the_working_directory_is_made_and_owned() {
    let Some(mut bench) = Bench::new(&["pwd"]) else { return };
    let (made, top) = (bench.path("made/below"), bench.path("made"));
    bench.launch.identity = identity(1234, 5678, &[]);
    bench.launch.cwd = Some(format!("{}//made/./below/", bench.text("")));
    let script = format!("umask 0777; exec {BINARY} init start.0 <{}", bench.text("launch.json"));
    bench.stdin();
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), made.to_str().unwrap());
    for dir in [&made, &top] {
        let metadata = fs::metadata(dir).unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 5678, 0o755));
    }
    assert_eq!(fs::metadata(bench.dir.path()).unwrap().uid(), 0, "what was there keeps its owner");
}

#[test]
fn a_working_directory_that_only_root_may_search_still_works() {
    let Some(mut bench) = Bench::new(&["sh", "-c", "readlink /proc/$$/cwd"]) else { return };
    fs::create_dir(bench.path("closed")).unwrap();
    fs::set_permissions(bench.path("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    bench.launch.identity = identity(1234, 5678, &[]);
    bench.launch.cwd = Some(bench.text("closed"));
    let output = bench.run();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_working_directory_that_root_may_not_search_is_entered_as_the_identity() {
    let Some(mut bench) = Bench::new(&["sh", "-c", "echo started"]) else { return };
    fs::create_dir_all(bench.path("theirs/inner")).unwrap();
    std::os::unix::fs::chown(bench.path("theirs"), Some(1234), Some(5678)).unwrap();
    fs::set_permissions(bench.path("theirs"), fs::Permissions::from_mode(0o700)).unwrap();
    bench.launch.cwd = Some(bench.text("theirs/inner"));
    // As on NFS with root_squash: root is nobody special.
    let run = |bench: &Bench| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set=-dac_override,-dac_read_search", BINARY, "init", MAIN_LINE]);
        setpriv.stdin(bench.stdin()).output().unwrap()
    };
    assert_eq!(run(&bench).status.code(), Some(128));
    let failure = fs::read_to_string(bench.path("failure")).unwrap();
    assert!(failure.contains("permission denied"), "{failure}");
    bench.launch.identity = identity(1234, 5678, &[]);
    assert_eq!(run(&bench).stdout, b"started\n");
    bench.launch.identity = identity(999, 999, &[]);
    assert_eq!(run(&bench).status.code(), Some(128));
}

#[test]
fn directories_are_given_away_but_never_what_a_symlink_names() {
    let Some(mut bench) = Bench::new(&["true"]) else { return };
    fs::create_dir_all(bench.path("own/inner")).unwrap();
    fs::create_dir(bench.path("other")).unwrap();
    symlink(bench.path("other"), bench.path("link")).unwrap();
    symlink(bench.dir.path(), bench.path("up")).unwrap();
    bench.launch.identity = identity(1234, 5678, &[]);
    bench.launch.chown = vec![bench.text("own")];
    bench.stdout();
    let own = fs::metadata(bench.path("own")).unwrap();
    assert_eq!((own.uid(), own.gid()), (1234, 5678));
    assert_eq!(fs::metadata(bench.path("own/inner")).unwrap().uid(), 0, "only the directory itself");
    for planted in ["link", "up/other", "failure"] {
        bench.launch.chown = vec![bench.text(planted)];
        assert_eq!(bench.failure().step, "chown", "{planted}");
    }
    assert_eq!(fs::metadata(bench.path("other")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(bench.path("failure")).unwrap().uid(), 0);
}
