use std::collections::BTreeMap;
use std::path::Path;

use super::*;

const TRIE: &str = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.1
              /32 host LOCAL
     +-- 169.254.0.0/16 2 0 2
           |-- 169.254.3.4
              /32 host LOCAL
     +-- 172.17.0.0/16 2 0 2
           |-- 172.17.0.1
              /32 host LOCAL
           |-- 172.17.255.255
              /32 link BROADCAST
     |-- 192.168.1.7
        /32 host LOCAL
Local:
     |-- 192.168.1.7
        /32 host LOCAL
";
const ROUTE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
";
const IF_INET6: &str = "00000000000000000000000000000001 01 80 10 80       lo
fe800000000000000000000000000001 02 40 20 80     eth0
fd000000000000000000000000000002 02 40 00 80     eth0
20010db8000000000000000000000003 02 40 00 80     eth0
";

fn run(arguments: &[&str], variables: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Invocation, Refused> {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let (variables, mut files) = (map(variables), map(files));
    files.entry("/proc/net/fib_trie".into()).or_insert(TRIE.into());
    files.entry("/proc/net/route".into()).or_insert(ROUTE.into());
    let surroundings = Surroundings {
        variable: &|name| variables.get(name).cloned(),
        read: &|path: &Path| Ok(files.get(path.to_str().unwrap()).cloned()),
        host_name: "box".into(),
    };
    read(std::iter::once("systemk").chain(arguments.iter().copied()), &surroundings)
}

fn agent(arguments: &[&str], variables: &[(&str, &str)], files: &[(&str, &str)]) -> Config {
    match run(arguments, variables, files) {
        Ok(Invocation::Agent(config)) => *config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults() {
    let config = agent(&[], &[], &[]);
    assert_eq!(config, agent(&["agent"], &[], &[]));
    assert_eq!(config.directories.manifests, [Path::new("/etc/systemk/manifests")]);
    assert_eq!(config.node.name, "box");
    assert_eq!(config.node.internal_ips, ["192.168.1.7".parse::<IpAddr>().unwrap()]);
    assert_eq!(config.node.external_ips, config.node.internal_ips);
    assert_eq!(config.listen.port(), 10250);
    assert_eq!(config.cgroup_root, "kubepods");
}

#[test]
fn only_what_the_file_says_is_the_files_problem() {
    let problems = |text: Option<&str>| {
        let read = |_: &Path| Ok(text.map(str::to_owned));
        problems_of_file(&Surroundings { variable: &|_| None, read: &read, host_name: "Bad_Name".to_owned() })
    };
    assert_eq!(problems(None), None);
    assert_eq!(problems(Some("nodename: box\n")), None);
    let told = problems(Some("nodename: box\nnodeNam: x\n")).unwrap();
    assert!(told.contains("/etc/systemk/config.yaml"), "{told}");
}

#[test]
fn flag_then_environment_then_file() {
    let file = (
        "/etc/systemk/config.yaml",
        "nodename: file\ncgroupRoot: file\nnodeIp: [10.0.0.1, 'fd00::1']\ndir: /srv\nstateDir: /f\n",
    );
    let environment = [("SYSTEMK_NODENAME", "variable"), ("SYSTEMK_CGROUP_ROOT", "variable"), ("SYSTEMK_DIR", "/a,/b")];
    let config = agent(&["--nodename", "flag", "-d", "/x", "-d", "/y", "--standalone"], &environment, &[file]);
    assert_eq!(config.node.name, "flag");
    assert_eq!(config.cgroup_root, "variable");
    assert_eq!(config.directories.allowed, [Path::new("/x"), Path::new("/y")]);
    assert_eq!(config.directories.state, Path::new("/f"));
    assert_eq!(config.node.internal_ips.len(), 2);
    assert_eq!(config.node.external_ips, config.node.internal_ips);
    let config = agent(&["agent", "--config", "/c.yaml"], &environment, &[("/c.yaml", "disableTaint: true"), file]);
    assert_eq!(config.directories.allowed, [Path::new("/a"), Path::new("/b")]);
    assert_eq!(config.remarks.len(), 1);
}

#[test]
fn every_problem_at_once_with_its_origin() {
    let file = ("/etc/systemk/config.yaml", "nodeNam: x\nstandalone: perhaps\nnode-ip: 1\naddr: nonsense\n");
    let arguments = [
        "--kubeconfig",
        "k",
        "-u",
        "--pod-network",
        "bridge",
        "--manifests",
        "relative",
        "-i",
        "1.2.3",
        "--native-root",
        "/a/b",
        "--certfile",
        "/c",
        "--unqualified-images",
        "x",
        "--cgroup-root",
        "a-b",
        "--log-level",
        "=x=",
        "-d",
        "/a/../b",
    ];
    let refused = run(&arguments, &[("SYSTEMK_NODENAME", "Big_Name")], &[file]).unwrap_err();
    assert_eq!(refused.code, 2);
    insta::assert_snapshot!(refused.text);
}

#[test]
fn usage_errors_and_help_have_their_codes() {
    assert_eq!(run(&["--nonsense"], &[], &[]).unwrap_err().code, 2);
    assert_eq!(run(&["nonsense"], &[], &[]).unwrap_err().code, 2);
    assert_eq!(run(&["--help"], &[], &[]).unwrap_err().code, 0);
    assert_eq!(run(&["--config", "/none"], &[], &[]).unwrap_err().code, 2);
    let empty = [("/proc/net/fib_trie", ""), ("/proc/net/route", "")];
    assert!(run(&[], &[], &empty).unwrap_err().text.contains("--node-ip is needed"));
}

#[test]
fn commands_are_read() {
    let logs = run(
        &["logs", "-f", "--previous", "--tail", "20", "--since", "5m", "-c", "nginx", "-n", "web", "pod"],
        &[],
        &[],
    );
    let Ok(Invocation::Command(Command::Logs(logs))) = logs else { panic!("{logs:?}") };
    assert!(logs.follow && logs.previous && !logs.timestamps);
    assert_eq!((logs.pod.as_str(), logs.container.as_deref(), logs.tail), ("pod", Some("nginx"), Some(20)));
    let run_file = run(&["run", "-"], &[], &[]);
    assert!(matches!(run_file, Ok(Invocation::Command(Command::Run(arguments))) if arguments.file == "-"));
    let ps = run(&["ps", "-o", "json"], &[], &[]);
    assert!(matches!(ps, Ok(Invocation::Command(Command::Ps(ps))) if ps.output == Some(OutputFormat::Json)));
    assert!(matches!(run(&["version"], &[], &[]), Ok(Invocation::Command(Command::Version))));
    let detached = run(&["run", "--detach", "--state-dir", "/s", "pod.yaml"], &[], &[]);
    let Ok(Invocation::Command(Command::Run(detached))) = detached else { panic!("{detached:?}") };
    assert!(detached.detach);
    assert_eq!(detached.directories.state_dir, "/s");
    let rm = run(&["rm", "-n", "shop", "a", "b"], &[], &[]);
    assert!(matches!(rm, Ok(Invocation::Command(Command::Rm(rm))) if rm.pods == ["a", "b"] && rm.namespace == "shop"));
    let plan = run(&["plan", "-o", "yaml", "--show-secrets", "-"], &[], &[]);
    assert!(matches!(plan, Ok(Invocation::Command(Command::Plan(plan))) if plan.output == Some(DataFormat::Yaml)));
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let wrong: [&[&str]; 9] = [
        &["run"],
        &["run", "a", "b"],
        &["rm"],
        &["rm", "--grace-period", "5", "web"],
        &["ps", "-o", "xml"],
        &["plan", "-o", "wide", "f"],
        &["logs"],
        &["logs", "--tail", "-1", "web"],
        &["install", "now"],
    ];
    for arguments in wrong {
        let refused = run(arguments, &[], &[]).unwrap_err();
        assert_eq!(refused.code, 2, "{arguments:?}");
        assert!(refused.text.starts_with("error: "), "{}", refused.text);
    }
}

#[test]
fn addresses_are_discovered_by_the_rule() {
    let text = |fib_trie: &str, if_inet6: &str| InterfaceText {
        fib_trie: fib_trie.into(),
        route: ROUTE.into(),
        if_inet6: if_inet6.into(),
    };
    let pair = |text| discover(&text).map(|found| (found.internal.to_string(), found.external.to_string()));
    let expect = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
    assert_eq!(pair(text(TRIE, "")), expect("192.168.1.7", "192.168.1.7"));
    assert_eq!(pair(text(TRIE, IF_INET6)), expect("192.168.1.7", "2001:db8::3"));
    assert_eq!(pair(text("", IF_INET6)), expect("fd00::2", "2001:db8::3"));
    let public = TRIE.replace("172.17.0.1\n", "203.0.113.9\n");
    assert_eq!(pair(text(&public, "")), expect("192.168.1.7", "203.0.113.9"));
    assert_eq!(pair(text("", "")), None);
}

#[test]
fn help() {
    let help = |name: Option<&str>| {
        let mut command = command().term_width(100);
        command.build();
        let command = match name {
            Some(name) => command.find_subcommand_mut(name).unwrap(),
            None => &mut command,
        };
        command.clone().term_width(100).render_long_help().to_string()
    };
    insta::assert_snapshot!("systemk", help(None));
    insta::assert_snapshot!("systemk-agent", help(Some("agent")));
    insta::assert_snapshot!("systemk-logs", help(Some("logs")));
    insta::assert_snapshot!("systemk-run", help(Some("run")));
    insta::assert_snapshot!("systemk-plan", help(Some("plan")));
    insta::assert_snapshot!("systemk-uninstall", help(Some("uninstall")));
    insta::assert_snapshot!("systemk-install", help(Some("install")));
    insta::assert_snapshot!("systemk-ps", help(Some("ps")));
    insta::assert_snapshot!("systemk-rm", help(Some("rm")));
}

#[test]
fn the_agents_directories_have_one_spelling() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().canonicalize().unwrap();
    std::fs::create_dir(real.join("run")).unwrap();
    std::os::unix::fs::symlink("run", real.join("link")).unwrap();
    let directories = |run: &str, state: &str| {
        let at = |path: &str| format!("{}/{path}", real.display());
        let directories = agent(&["agent", "--run-dir", &at(run), "--state-dir", &at(state)], &[], &[]).directories;
        [directories.run, directories.state].map(|path| path.display().to_string().replace(&at(""), ""))
    };
    for spelling in ["run", "run/", "link", "link//", "./link/."] {
        assert_eq!(directories(spelling, "new//deep/"), ["run", "new/deep"], "{spelling}");
    }
    assert_eq!(directories("link/not/there/", "state"), ["run/not/there", "state"]);
    let same = [real.join("run").display().to_string(), real.join("link").display().to_string()];
    let refused = run(&["agent", "--run-dir", &same[0], "--state-dir", &same[1]], &[], &[]).unwrap_err();
    assert!(refused.text.contains("must be two directories"), "{}", refused.text);
}
