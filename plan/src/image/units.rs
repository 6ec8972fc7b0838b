//! Which of a package's files are systemd units, and which of a list of links enable them.

/// Where packages put system units; the first is older Debian's spelling of the second.
pub const UNIT_DIRECTORIES: [&str; 2] = ["/lib/systemd/system", "/usr/lib/systemd/system"];

/// The unit's name when `path` lies directly in a unit directory: `nginx.service`, `getty@.service`.
pub fn unit_name(path: &str) -> Option<&str> {
    let name = UNIT_DIRECTORIES.iter().find_map(|directory| path.strip_prefix(directory)?.strip_prefix('/'))?;
    let known = ["service", "socket", "timer", "path", "target", "mount", "automount", "swap", "slice"];
    let (stem, kind) = name.rsplit_once('.')?;
    (!name.contains('/') && !stem.is_empty() && known.contains(&kind)).then_some(name)
}

/// The names whose drop-in directories systemd reads for `unit`, the most specific first: `a-b@x.service` has its own,
/// the template's, each dash prefix's, and its type's.
pub fn drop_in_names(unit: &str) -> Vec<String> {
    let Some((stem, kind)) = unit.rsplit_once('.') else { return Vec::new() };
    let mut names = vec![unit.to_owned()];
    let (prefix, template) = match stem.split_once('@') {
        Some((prefix, instance)) => (prefix, (!instance.is_empty()).then(|| format!("{prefix}@.{kind}"))),
        None => (stem, None),
    };
    names.extend(template);
    let at = if stem.contains('@') { "@" } else { "" };
    for (position, _) in prefix.match_indices('-').rev() {
        if position > 0 && position + 1 < prefix.len() {
            names.push(format!("{}{at}.{kind}", &prefix[..=position]));
        }
    }
    names.push(kind.to_owned());
    names
}

/// The template of an instance (`getty@tty1.service` is `getty@.service`), or the unit itself.
pub fn template_of(unit: &str) -> String {
    match (unit.split_once('@'), unit.rsplit_once('.')) {
        (Some((prefix, _)), Some((_, kind))) => format!("{prefix}@.{kind}"),
        _ => unit.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unit_files_directly_in_a_unit_directory() {
        assert_eq!(unit_name("/lib/systemd/system/ssh.service"), Some("ssh.service"));
        assert_eq!(unit_name("/usr/lib/systemd/system/ssh@.service"), Some("ssh@.service"));
        assert_eq!(unit_name("/usr/lib/systemd/system/ssh.service.d/x.conf"), None);
        assert_eq!(unit_name("/usr/lib/systemd/system/multi-user.target.wants/x.service"), None);
        assert_eq!(unit_name("/usr/lib/systemd/system/ssh.service.d"), None);
        assert_eq!(unit_name("/usr/lib/systemd/user/x.service"), None);
        assert_eq!(unit_name("/usr/lib/systemd/system/.service"), None);
    }

    #[test]
    fn drop_in_names_go_from_specific_to_general() {
        assert_eq!(drop_in_names("nginx.service"), ["nginx.service", "service"]);
        assert_eq!(drop_in_names("a-b-c.service"), ["a-b-c.service", "a-b-.service", "a-.service", "service"]);
        assert_eq!(drop_in_names("a-b@x.service"), ["a-b@x.service", "a-b@.service", "a-@.service", "service"]);
    }

    #[test]
    fn an_instance_belongs_to_its_template() {
        assert_eq!(template_of("getty@tty1.service"), "getty@.service");
        assert_eq!(template_of("nginx.service"), "nginx.service");
    }
}
