//! The lock file: how many packages there are, and which must not be there, or only once.

use super::Findings;

/// Packages of the whole workspace, tests and fixtures included. Raising it is a decision: say in the commit what for.
/// Cargo locks also what is only for other systems and what no feature of ours asks for: of 306 some 80 are never compiled on Linux.
const MOST_PACKAGES: usize = 310;

/// One of each kind at most: two would mean two sets of keys, sockets or tables in one binary.
const ONE_OF: &[(&str, &[&str])] = &[
    ("a D-Bus client", &["zbus", "dbus", "dbus-tokio", "rustbus", "sd-bus"]),
    ("a crypto provider", &["ring", "aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "boring-sys", "native-tls"]),
    ("a system call wrapper beside rustix", &["nix", "syscalls"]),
];

/// Not at all, with the reason.
const NONE_OF: &[(&str, &str)] = &[
    ("openssl-sys", "rustls with ring is the one TLS"),
    ("serde_yaml", "no longer maintained; serde-saphyr reads YAML"),
    ("chrono", "jiff is the one calendar"),
];

pub(super) fn check(lock: &str, findings: &mut Findings) {
    let names: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    let count = names.len();
    if count > MOST_PACKAGES {
        findings.wrong.push(format!("Cargo.lock has {count} packages, agreed are at most {MOST_PACKAGES}"));
    }
    println!("Cargo.lock has {count} packages of at most {MOST_PACKAGES}");
    for (kind, members) in ONE_OF {
        let found: Vec<&str> = names.iter().copied().filter(|name| members.contains(name)).collect();
        if found.len() > 1 {
            findings.wrong.push(format!("Cargo.lock has more than one of {kind}: {}", found.join(", ")));
        }
    }
    for (name, reason) in NONE_OF {
        if names.contains(name) {
            findings.wrong.push(format!("Cargo.lock has {name}: {reason}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(names: &[&str]) -> Vec<String> {
        let lock: String = names.iter().map(|name| format!("[[package]]\nname = \"{name}\"\n")).collect();
        let mut findings = Findings::default();
        check(&lock, &mut findings);
        findings.wrong
    }

    #[test]
    fn one_of_a_kind_is_enough() {
        assert_eq!(wrong(&["serde", "zbus"]), Vec::<String>::new());
        assert!(wrong(&["zbus", "zbus"])[0].contains("D-Bus"));
        assert!(wrong(&["ring", "aws-lc-rs"])[0].contains("crypto"));
        assert!(wrong(&["serde_yaml"])[0].contains("saphyr"));
        assert!(wrong(&["a"; MOST_PACKAGES + 1])[0].contains("packages"));
    }
}
