use super::*;

fn error(config: &RuntimeConfig) -> String {
    config.capability_args().unwrap_err().to_string()
}

#[test]
fn all_that_a_pod_can_want_has_the_conventions_form() {
    let port = PortMapping { host_port: 8080, container_port: 80, protocol: Protocol::Tcp, host_ip: None };
    let address = "127.0.0.1".parse().ok();
    let other = PortMapping { host_port: 53, container_port: 5353, protocol: Protocol::Udp, host_ip: address };
    let start = "10.1.2.3".parse().ok();
    let range = IpRange { subnet: "10.1.2.0/24".parse().unwrap(), start, end: None, gateway: None };
    let config = RuntimeConfig {
        ports: vec![port, other, PortMapping { host_port: 0, ..port }],
        ingress: Some(1_000_000),
        egress: Some(MAX_RATE),
        dns: Dns { servers: vec!["10.0.0.10".into()], searches: vec!["a.b".into()], options: vec![] },
        ip_ranges: vec![vec![range]],
        mac: Some("c2:11:22:33:44:55".into()),
        ips: vec!["192.168.0.1".into(), "3ffe:ffff:0:1ff::1/64".into()],
        aliases: vec!["primary-db".into()],
        cgroup_path: Some("/kubelet.slice/pod".into()),
        annotations: BTreeMap::from([("a/b".into(), "two\nlines".into())]),
    };
    let wanted = json!({
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "127.0.0.1"}],
        "bandwidth": {"ingressRate": 1_000_000, "ingressBurst": 4_294_967_295_u64,
            "egressRate": 1_000_000_000_000_000_u64, "egressBurst": 4_294_967_295_u64},
        "dns": {"servers": ["10.0.0.10"], "searches": ["a.b"]},
        "ipRanges": [[{"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.3"}]],
        "mac": "c2:11:22:33:44:55",
        "ips": ["192.168.0.1", "3ffe:ffff:0:1ff::1/64"],
        "aliases": ["primary-db"],
        "cgroupPath": "/kubelet.slice/pod",
        "io.kubernetes.cri.pod-annotations": {"a/b": "two\nlines"},
    });
    assert_eq!(Value::Object(config.capability_args().unwrap()), wanted);
}

#[test]
fn what_is_not_wanted_is_not_passed_on() {
    assert_eq!(RuntimeConfig::default().capability_args().unwrap(), Map::new());
    let one_side = RuntimeConfig { egress: Some(MIN_RATE), ..Default::default() }.capability_args().unwrap();
    assert_eq!(one_side["bandwidth"], json!({"egressRate": 1000, "egressBurst": BURST}));
    let unmapped = PortMapping { host_port: 0, container_port: 80, protocol: Protocol::Sctp, host_ip: None };
    assert!(RuntimeConfig { ports: vec![unmapped], ..Default::default() }.capability_args().unwrap().is_empty());
}

#[test]
fn nonsense_is_refused() {
    let port = PortMapping { host_port: 80, container_port: 0, protocol: Protocol::Tcp, host_ip: None };
    let none = RuntimeConfig::default;
    let cases = [
        (RuntimeConfig { ports: vec![port], ..none() }, "the host port 80 leads to the container port 0"),
        (
            RuntimeConfig { ingress: Some(999), ..none() },
            "kubernetes.io/ingress-bandwidth: 999 bit/s is not within 1000 and 1000000000000000",
        ),
        (
            RuntimeConfig { egress: Some(MAX_RATE + 1), ..none() },
            "kubernetes.io/egress-bandwidth: 1000000000000001 bit/s is not within 1000 and 1000000000000000",
        ),
        (
            RuntimeConfig { mac: Some("c2:11:22:33:44".into()), ..none() },
            r#"mac: "c2:11:22:33:44" is not six octets such as c2:11:22:33:44:55"#,
        ),
        (RuntimeConfig { ips: vec!["10.0.0.1/33".into()], ..none() }, r#"ips: "10.0.0.1/33" is not an address"#),
        (RuntimeConfig { aliases: vec!["a\nb".into()], ..none() }, r#"aliases: "a\nb" is not a text of one line"#),
        (RuntimeConfig { cgroup_path: Some("x".into()), ..none() }, r#"cgroupPath: "x" is not an absolute path"#),
        (
            RuntimeConfig { dns: Dns { options: vec![String::new()], ..Dns::default() }, ..none() },
            r#"dns: "" is not a text of one line"#,
        ),
        (
            RuntimeConfig { aliases: vec!["a".into(); MAX_LIST + 1], ..none() },
            "aliases is larger than what is supported",
        ),
        (
            RuntimeConfig { annotations: BTreeMap::from([("a".into(), "b".repeat(MAX_ANNOTATIONS))]), ..none() },
            "the pod's annotations is larger than what is supported",
        ),
    ];
    for (config, wanted) in cases {
        assert_eq!(error(&config), wanted);
    }
    assert_eq!(
        [Protocol::parse("TCP"), Protocol::parse("sctp"), Protocol::parse("ICMP")],
        [Some(Protocol::Tcp), Some(Protocol::Sctp), None]
    );
}
