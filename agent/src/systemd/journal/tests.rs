use super::*;

/// A journalctl that writes down its arguments and then does what `script` says, with `entry CURSOR MESSAGE` at hand.
fn fake(dir: &Path, script: &str) -> Journalctl {
    let script_file = dir.join("journalctl");
    let entry = "entry() { printf '__CURSOR=%s\\n__REALTIME_TIMESTAMP=%s\\n_TRANSPORT=stdout\\nPRIORITY=6\\nMESSAGE=%s\\n\\n' $1 ${3-5000000} \"$2\"; }";
    let text = format!("echo \"$@\" >> {}/arguments\n{entry}\n{script}\n", dir.display());
    std::fs::write(&script_file, text).unwrap();
    Journalctl { command: vec!["/bin/sh".into(), script_file.into()], streams: dir.join("streams") }
}

fn query() -> LogQuery {
    LogQuery { units: vec!["a.service".to_owned()], ..LogQuery::default() }
}

async fn rest(reader: &mut LogReader) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(line) = reader.next().await.unwrap() {
        all.push(String::from_utf8(line.bytes).unwrap());
    }
    all
}

fn not_ended() -> (watch::Sender<bool>, watch::Receiver<bool>) {
    watch::channel(false)
}

#[test]
fn arguments_for_each_query() {
    let since = Some(jiff::Timestamp::from_microsecond(1_700_000_000_000_042).unwrap());
    let all = "_SYSTEMD_UNIT=a.service _TRANSPORT=stdout _TRANSPORT=syslog _TRANSPORT=journal";
    let err = "_SYSTEMD_UNIT=a.service _TRANSPORT=stdout PRIORITY=0 PRIORITY=1 PRIORITY=2 PRIORITY=3 \
               + _SYSTEMD_UNIT=a.service _TRANSPORT=syslog _TRANSPORT=journal";
    let both = "_SYSTEMD_UNIT=a.service _TRANSPORT=stdout PRIORITY=4 PRIORITY=5 PRIORITY=6 PRIORITY=7 \
                + _SYSTEMD_INVOCATION_ID=1f _TRANSPORT=stdout PRIORITY=4 PRIORITY=5 PRIORITY=6 PRIORITY=7";
    let table = [
        (query(), From::Query, all.to_owned()),
        (LogQuery { since, ..query() }, From::Query, format!("--since=@1700000000.000042 {all}")),
        (LogQuery { since, tail: Some(5), ..query() }, From::Query, format!("--lines=5 {all}")),
        (LogQuery { tail: Some(u64::MAX), ..query() }, From::Query, all.to_owned()),
        (LogQuery { follow: true, ..query() }, From::Query, format!("--follow --no-tail {all}")),
        (LogQuery { follow: true, tail: Some(0), ..query() }, From::Query, format!("--lines=0 --follow {all}")),
        (LogQuery { tail: Some(5), ..query() }, From::Cursor("s=1;i=2"), format!("--after-cursor=s=1;i=2 {all}")),
        (LogQuery { stream: Some(LogStream::Stderr), ..query() }, From::Query, err.to_owned()),
        (
            LogQuery { stream: Some(LogStream::Stdout), invocations: vec!["1f".to_owned()], ..query() },
            From::Query,
            both.to_owned(),
        ),
    ];
    for (query, from, expected) in table {
        let got = arguments(&query, &from, query.follow).join(" ");
        let (fixed, rest) = got.split_at(got.find("INVOCATION_ID ").unwrap() + "INVOCATION_ID ".len());
        assert!(fixed.contains("--all --output=export --output-fields=MESSAGE,"), "{fixed}");
        assert_eq!(rest, expected);
    }
}

#[tokio::test]
async fn a_log_is_read_to_its_end_and_failures_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (_sender, ended) = not_ended();
    let journalctl = fake(dir.path(), "entry a one 1000000; entry b two; printf '__CURSOR=c\\nMESSAGE=cut of'");
    let since = Some(jiff::Timestamp::from_second(2).unwrap());
    let tail = LogQuery { since, tail: Some(2), ..query() };
    assert_eq!(rest(&mut LogReader::open(journalctl.clone(), tail, ended.clone()).unwrap()).await, ["two"]);
    assert_eq!(rest(&mut LogReader::open(journalctl.clone(), query(), ended.clone()).unwrap()).await, ["one", "two"]);

    for nothing in [LogQuery { tail: Some(0), ..query() }, LogQuery { follow: true, ..LogQuery::default() }] {
        let mut reader = LogReader::open(journalctl.clone(), nothing, ended.clone()).unwrap();
        assert_eq!(rest(&mut reader).await, [""; 0]);
    }

    let broken = fake(dir.path(), "echo 'no such journal' >&2; exit 3");
    let error = LogReader::open(broken, query(), ended).unwrap().next().await.unwrap_err();
    assert_eq!(error.to_string(), "journalctl: exit status: 3: no such journal");
}

#[tokio::test]
async fn following_ends_after_the_last_line_without_losing_or_doubling_one() {
    let dir = tempfile::tempdir().unwrap();
    let journalctl = fake(
        dir.path(),
        "case \"$*\" in
         *--after-cursor=b*) entry c three; entry d four;;
         *--after-cursor=*) exit 9;;
         *--follow*) entry a one; entry b two; printf '__CURSOR=c\\nMESSAGE=thr'; exec sleep 1000;;
         esac",
    );
    let (sender, ended) = not_ended();
    let follow = LogQuery { follow: true, ..query() };
    let mut reader = LogReader::open(journalctl, follow, ended).unwrap();
    for expected in ["one", "two"] {
        assert_eq!(reader.next().await.unwrap().unwrap().bytes, expected.as_bytes());
    }
    sender.send(true).unwrap();
    assert_eq!(rest(&mut reader).await, ["three", "four"]);
}

#[tokio::test]
async fn nothing_seen_yet_is_read_from_when_following_began() {
    let dir = tempfile::tempdir().unwrap();
    let journalctl = fake(dir.path(), "case \"$*\" in *--follow*) exec sleep 1000;; *--since=@*) entry a late;; esac");
    let (sender, ended) = not_ended();
    let follow = LogQuery { follow: true, tail: Some(0), ..query() };
    let mut reader = LogReader::open(journalctl, follow, ended).unwrap();
    reader.opened = jiff::Timestamp::from_second(1).unwrap();
    drop(sender);
    assert_eq!(rest(&mut reader).await, ["late"]);
}

#[tokio::test]
async fn the_end_waits_for_journald_to_close_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("8:1"), "PRIORITY=6\nUNIT=a.service\n").unwrap();
    let units = ["a.service".to_owned()];
    assert!(any_open(dir.path(), &units) && !any_open(dir.path(), &["b.service".to_owned()]));
    let wait = written(dir.path(), &units);
    tokio::pin!(wait);
    assert!(futures_util::poll!(&mut wait).is_pending());
    std::fs::remove_file(dir.path().join("8:1")).unwrap();
    wait.await;
    written(&dir.path().join("missing"), &units).await;
}
