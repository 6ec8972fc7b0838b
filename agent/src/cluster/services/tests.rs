use super::*;

fn service(namespace: &str, name: &str, ip: &str) -> Service {
    let text = format!(
        "{{metadata: {{namespace: {namespace}, name: {name}}}, spec: {{clusterIP: {ip}, ports: [{{port: 80}}]}}}}"
    );
    serde_saphyr::from_str(&text).unwrap()
}

fn list(given: &[Service]) -> All {
    let mut all = All::new();
    given.iter().for_each(|service| put(&mut all, service));
    all
}

fn names(services: &Services, namespace: &str) -> Vec<String> {
    services.of_pod("u", namespace).unwrap().keys().cloned().collect()
}

#[test]
fn a_pod_waits_for_the_first_list_and_for_no_other() {
    let (wake, mut woken) = mpsc::unbounded_channel();
    let services = Services::new(wake);
    assert_eq!(services.of_pod("u", "ns").unwrap_err(), "services");
    services.failed("it forbids it");
    assert!(matches!(woken.try_recv(), Ok(Wake::Pod(uid)) if uid == "u"));
    services.failed("it forbids it");
    assert!(woken.try_recv().is_err(), "told once");
    assert_eq!(services.of_pod("u", "ns").unwrap_err(), "services (it forbids it)");
    assert!(services.of_pod("gone", "ns").is_err());
    services.release("gone");
    services.listed(list(&[service("ns", "a", "10.0.0.1"), service("other", "b", "10.0.0.2")]));
    assert!(matches!(woken.try_recv(), Ok(Wake::Pod(uid)) if uid == "u"));
    assert!(woken.try_recv().is_err());
    assert_eq!(names(&services, "ns"), ["a"]);
    assert!(names(&services, "none").is_empty());
    // The watch breaks: what is known stays known, and no pod is woken.
    services.failed("nothing listens there");
    services.listed(list(&[service("ns", "c", "10.0.0.3")]));
    assert_eq!(names(&services, "ns"), ["c"]);
    assert!(woken.try_recv().is_err());
}

#[test]
fn changes_are_followed_and_nothing_is_left_of_an_empty_namespace() {
    let services = Services::new(mpsc::unbounded_channel().0);
    services.listed(list(&[service("ns", "a", "10.0.0.1"), service("ns", "headless", "None")]));
    let held = services.of_pod("u", "ns").unwrap();
    services.changed(|all| put(all, &service("ns", "b", "10.0.0.2")));
    services.changed(|all| put(all, &service("ns", "a", "10.0.0.9")));
    assert_eq!(held["a"].cluster_ip, "10.0.0.1", "a look keeps what it has");
    assert_eq!(services.of_pod("u", "ns").unwrap()["a"].cluster_ip, "10.0.0.9");
    assert_eq!(names(&services, "ns"), ["a", "b"]);
    // One that becomes headless has no address any more.
    services.changed(|all| put(all, &service("ns", "b", "None")));
    services.changed(|all| remove(all, &service("ns", "a", "10.0.0.9")));
    services.changed(|all| remove(all, &service("ns", "a", "10.0.0.9")));
    services.with(|known| assert_eq!(known.services, Some(All::new())));
}
