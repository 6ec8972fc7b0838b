use super::*;

/// An entry as journalctl writes it; values that are not plain text in the binary form.
fn export(cursor: &str, fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = format!("__CURSOR={cursor}\n__REALTIME_TIMESTAMP=1795397051766718\n_BOOT_ID=00\n").into_bytes();
    for (name, value) in fields {
        out.extend_from_slice(name.as_bytes());
        if value.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            out.push(b'=');
        } else {
            out.push(b'\n');
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        }
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out.push(b'\n');
    out
}

fn stdout<'a>(message: &'a [u8], line_break: &'a str) -> Vec<(&'static str, &'a [u8])> {
    let mut fields: Vec<(&str, &[u8])> =
        vec![("_TRANSPORT", b"stdout"), ("PRIORITY", b"6"), ("_STREAM_ID", b"s1"), ("MESSAGE", message)];
    if !line_break.is_empty() {
        fields.push(("_LINE_BREAK", line_break.as_bytes()));
    }
    fields
}

fn lines(journal: &[u8], chunk: usize) -> Vec<LogLine> {
    let (mut entries, mut lines, mut out) = (Entries::default(), Lines::default(), VecDeque::new());
    for part in journal.chunks(chunk) {
        entries.feed(part, |entry| lines.push(entry, &mut out));
    }
    lines.finish(&mut out);
    out.into()
}

#[test]
fn text_and_binary_entries_in_chunks_of_any_size() {
    let journal = [
        export("a", &stdout(b"plain = text", "")),
        export("b", &stdout(b"\xff\x00bin\n\nin it", "")),
        export("c", &stdout(b"", "")),
        export("d", &[("_TRANSPORT", b"stdout"), ("PRIORITY", b"3"), ("MESSAGE", b"oops")]),
    ]
    .concat();
    let whole = lines(&journal, journal.len());
    let texts: Vec<_> = whole.iter().map(|line| line.bytes.as_slice()).collect();
    assert_eq!(texts, [b"plain = text".as_slice(), b"\xff\x00bin\n\nin it", b"", b"oops"]);
    assert_eq!(whole.iter().map(|line| line.stream).collect::<Vec<_>>()[2..], [LogStream::Stdout, LogStream::Stderr]);
    assert_eq!((whole[1].timestamp, whole[1].cursor.as_str()), (1_795_397_051_766_718, "b"));
    for chunk in 1..20 {
        assert_eq!(lines(&journal, chunk), whole, "chunks of {chunk}");
    }
}

#[test]
fn what_is_a_line_and_what_is_not() {
    type Expected<'a> = &'a [(&'a [u8], bool)];
    let table: [(&str, Vec<Vec<u8>>, Expected<'_>); 7] = [
        ("no MESSAGE", vec![export("a", &[("_TRANSPORT", b"journal")])], &[]),
        (
            "systemd's own line in the unit's name",
            vec![export(
                "a",
                &[("_TRANSPORT", b"journal"), ("UNIT", b"x"), ("INVOCATION_ID", b"1"), ("MESSAGE", b"no")],
            )],
            &[],
        ),
        (
            "a syslog entry of two lines",
            vec![export("a", &[("_TRANSPORT", b"syslog"), ("PRIORITY", b"6"), ("MESSAGE", b"one\ntwo\n")])],
            &[(b"one", false), (b"two", false)],
        ),
        (
            "a line that journald cut twice",
            vec![
                export("a", &stdout(b"one", "line-max")),
                export("b", &stdout(b"two", "line-max")),
                export("c", &stdout(b"three", "")),
                export("d", &stdout(b"next", "")),
            ],
            &[(b"onetwothree", false), (b"next", false)],
        ),
        ("a cut line without an end", vec![export("a", &stdout(b"one", "line-max"))], &[(b"one", true)]),
        ("no final newline", vec![export("a", &stdout(b"end", "eof"))], &[(b"end", true)]),
        (
            "another process goes on writing",
            vec![export("a", &stdout(b"one", "pid-change")), export("b", &stdout(b"two", ""))],
            &[(b"one", false), (b"two", false)],
        ),
    ];
    for (case, journal, expected) in table {
        let got = lines(&journal.concat(), 7);
        let got: Vec<_> = got.iter().map(|line| (line.bytes.as_slice(), line.partial)).collect();
        assert_eq!(got, expected, "{case}");
    }
}

#[test]
fn an_endless_line_is_passed_on_in_parts() {
    let piece = vec![b'x'; 48 * 1024];
    let journal: Vec<u8> = (0..100).flat_map(|n| export(&n.to_string(), &stdout(&piece, "line-max"))).collect();
    let got = lines(&journal, 4096);
    assert!(got.len() > 5 && got.iter().all(|line| line.partial && line.bytes.len() <= PENDING_MAX + piece.len()));
    assert_eq!(got.iter().map(|line| line.bytes.len()).sum::<usize>(), 100 * piece.len());
}

#[test]
fn a_huge_field_is_cut_and_the_next_entry_is_whole() {
    let journal = [export("a", &stdout(&vec![b'\n'; 3 * FIELD_MAX], "")), export("b", &stdout(b"after", ""))].concat();
    let got = lines(&journal, 1000);
    assert_eq!((got[0].bytes.len(), got[1].bytes.as_slice()), (FIELD_MAX, b"after".as_slice()));
}

fn line(bytes: &[u8], stream: LogStream, partial: bool) -> LogLine {
    LogLine { timestamp: 1_795_397_051_766_718, stream, bytes: bytes.to_vec(), partial, cursor: String::new() }
}

#[test]
fn written_as_kubectl_prints() {
    use LogStream::{Stderr, Stdout};
    let log = [line(b"a", Stdout, false), line(b"b", Stdout, true), line(b"c", Stdout, true), line(b"d", Stderr, true)];
    let stamp = "2026-11-23T01:24:11.766718000Z ";
    let table = [
        (false, None, "a\nbc\nd".to_owned(), true),
        (true, None, format!("{stamp}a\n{stamp}bc\n{stamp}d"), true),
        (false, Some(3), "a\nb".to_owned(), false),
        (false, Some(0), String::new(), false),
    ];
    for (timestamps, limit, expected, room) in table {
        let (mut writer, mut out) = (LogWriter::new(timestamps, limit), Vec::new());
        let got = log.iter().all(|line| writer.write(line, &mut out));
        assert_eq!((String::from_utf8(out).unwrap(), got), (expected, room), "{timestamps} {limit:?}");
    }
}

#[test]
fn terminals_get_nothing_to_obey() {
    let table: [(&[u8], &str); 9] = [
        (b"plain\ttext\n", "plain\ttext\n"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07after \x1b]8;;http://x\x1b\\link", "after link"),
        (b"\x1b(Bcharset", "charset"),
        ("\u{9b}2Jcleared".as_bytes(), "cleared"),
        (b"over\rwrite\x08\x07", "overwrite"),
        (b"\xff\x9b2J", "\u{fffd}\u{fffd}2J"),
        (b"\x1b]0;cut\nnext line", "\nnext line"),
        (b"end\x1b", "end"),
    ];
    for (raw, clean) in table {
        assert_eq!(sanitize_for_terminal(raw), clean, "{raw:?}");
    }
}
