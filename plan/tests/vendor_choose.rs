//! Which unit of a package is its service.

use plan::vendor::{Fragment, VendorUnit, choose};

fn units(names: &[&str]) -> Vec<VendorUnit> {
    names
        .iter()
        .map(|name| VendorUnit {
            name: (*name).to_owned(),
            fragments: vec![Fragment { path: format!("/lib/systemd/system/{name}"), text: "[Service]\n".to_owned() }],
        })
        .collect()
}

fn check(package: &str, names: &[&str], wanted: Option<&str>, expected: Result<Option<&str>, &str>) {
    let units = units(names);
    let chosen = choose(package, &units, wanted);
    let chosen = chosen.as_ref().map(|unit| unit.as_ref().map(|unit| unit.name.as_str()));
    assert_eq!(chosen.map_err(|refusal| refusal.text.as_str()), expected, "{package} {names:?} {wanted:?}");
}

#[test]
fn by_the_name_of_the_package() {
    check("nginx", &["nginx.service"], None, Ok(Some("nginx.service")));
    check("bash", &[], None, Ok(None));
    check("foo", &["foo.socket", "foo.timer"], None, Ok(None));
    check("openssh-server", &["ssh.service", "sshd@.service"], None, Ok(Some("ssh.service")));
    check("redis-server", &["redis-server@.service", "redis-server.service"], None, Ok(Some("redis-server.service")));
    check("chrony", &["chrony-wait.service", "chrony.service"], None, Ok(Some("chrony.service")));
    check("atftp-server", &["other.service", "atftpd.service"], None, Ok(Some("atftpd.service")));
    check(
        "postgresql-common",
        &["postgresql@.service", "pg_dump@.service", "postgresql.service"],
        None,
        Ok(Some("postgresql.service")),
    );
    check("getty", &["getty@.service"], None, Ok(Some("getty@.service")));
}

#[test]
fn several_that_are_not_named_like_the_package() {
    check(
        "openssh-server",
        &["ssh.service", "sshd-keygen.service"],
        None,
        Err(
            "package openssh-server has several services and none of its name: set the annotation to one of ssh.service, sshd-keygen.service",
        ),
    );
}

#[test]
fn by_annotation() {
    let postgresql = ["postgresql@.service", "postgresql.service"];
    check("postgresql-common", &postgresql, Some("postgresql@15-main.service"), Ok(Some("postgresql@15-main.service")));
    check("postgresql-common", &postgresql, Some("postgresql@15-main"), Ok(Some("postgresql@15-main.service")));
    check("postgresql-common", &postgresql, Some("postgresql"), Ok(Some("postgresql.service")));
    check(
        "postgresql-common",
        &postgresql,
        Some("postgresql@.service"),
        Err("postgresql@.service is a template: name an instance of it, as in postgresql@NAME.service"),
    );
    check(
        "postgresql-common",
        &postgresql,
        Some("mysql"),
        Err("package postgresql-common has no mysql.service, but postgresql.service, postgresql@.service"),
    );
    check("x", &["x.service"], Some("../x"), Err("\"../x\" is no name of a service"));
    check(
        "x",
        &[],
        Some("x"),
        Err(
            "package x has no service, so not x.service either: make the package that ships it the image (`apt-file search x.service` or `dpkg -S` finds it)",
        ),
    );
}

#[test]
fn the_one_that_is_enabled_at_boot() {
    let mut units = units(&["ssh.service", "sshd@.service", "sshd-keygen.service", "ssh-once.service"]);
    units[0].fragments[0].text.push_str("[Install]\nWantedBy=multi-user.target\n");
    units[3].fragments[0].text.push_str("Type=oneshot\n");
    assert_eq!(choose("openssh-server", &units, None).unwrap().unwrap().name, "ssh.service");
    units[3].fragments[0].text.push_str("[Install]\nWantedBy=multi-user.target\n");
    assert_eq!(choose("openssh-server", &units, None).unwrap().unwrap().name, "ssh.service");
}

#[test]
fn by_an_alias() {
    let mut units = units(&["ssh.service", "sshd-keygen.service"]);
    units[0].fragments[0].text.push_str("[Install]\nAlias=sshd.service\n");
    assert_eq!(choose("openssh-server", &units, Some("sshd")).unwrap().unwrap().name, "ssh.service");
}
