use super::*;

fn launch(env: Vec<EnvVar>) -> Launch {
    Launch {
        version: LAUNCH_VERSION,
        lines: BTreeMap::new(),
        env,
        inherit: InheritEnv::Only(Vec::new()),
        cwd: None,
        identity: None,
        chown: Vec::new(),
        capabilities: None,
        no_new_privileges: false,
        failure_file: String::new(),
    }
}

fn line(argv: &[&str]) -> Line {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    Line { argv, arg0: None, expand: false, full_privileges: false }
}

fn words(exec: &Exec<'_>) -> Vec<String> {
    exec.argv.iter().map(|word| word.to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_later_variable_wins() {
    let inherited = [(b"A".to_vec(), b"unit".to_vec()), (b"B".to_vec(), b"unit".to_vec())];
    let overlay = [EnvVar::new("A", "first"), EnvVar::new("A", "last"), EnvVar::new("my.env-name", "")];
    let env = environment(&inherited, &overlay).unwrap();
    let expected: [(&[u8], &[u8]); 3] = [(b"A", b"last"), (b"B", b"unit"), (b"my.env-name", b"")];
    assert!(env.into_iter().eq(expected));
}

#[test]
fn what_execve_cannot_carry_is_refused_by_name() {
    for name in ["", "A=B"] {
        assert_eq!(environment(&[], &[EnvVar::new(name, "v")]).unwrap_err().step, "environment");
    }
    let secret = launch(vec![EnvVar::new("A", "hunter2\0")]);
    let error = program(&secret, &line(&["true"])).err().unwrap();
    assert!(error.message.contains("\"A\"") && !error.message.contains("hunter2"), "{error}");
    assert_eq!(program(&launch(vec![]), &line(&["true", "a\0b"])).err().unwrap().step, "exec");
    assert_eq!(program(&launch(vec![]), &line(&[])).err().unwrap().step, "exec");
    assert_eq!(program(&launch(vec![]), &line(&[""])).err().unwrap().step, "exec");
}

#[test]
fn only_vendor_lines_are_expanded_and_never_their_program() {
    let launch = launch(vec![EnvVar::new("OPTS", "-a -b")]);
    let mut line = line(&["/bin/${OPTS}", "$OPTS", "${OPTS}", "$$"]);
    assert_eq!(words(&program(&launch, &line).unwrap()), ["/bin/${OPTS}", "$OPTS", "${OPTS}", "$$"]);
    line.expand = true;
    line.arg0 = Some("name".to_owned());
    let exec = program(&launch, &line).unwrap();
    assert_eq!(exec.program, "/bin/${OPTS}");
    assert_eq!(words(&exec), ["name", "-a", "-b", "-a -b", "$"]);
}

#[test]
fn ids_that_wrap_are_refused() {
    let with = |uid, gid, group| check(&Identity { uid, gid, groups: vec![group] });
    assert!(with(LARGEST_ID, 0, 0).is_ok());
    for id in [1 << 31, u32::MAX - 1, u32::MAX] {
        for refused in [with(id, 0, 0), with(0, id, 0), with(0, 0, id)] {
            assert_eq!(refused.unwrap_err().step, "identity");
        }
    }
}

#[test]
fn serde_never_gets_to_quote_a_value() {
    let json = br#"{"version":1,"lines":{},"env":"hunter2"}"#;
    let error = serde_json::from_slice::<Launch>(json).unwrap_err();
    assert!(error.to_string().contains("hunter2"), "the reason for this test is gone: {error}");
    let shown = unreadable(json, &error, &mut FailureFile::none());
    assert!(!shown.message.contains("hunter2"), "{shown}");
}
