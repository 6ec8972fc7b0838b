use super::*;
use crate::fields::fixtures::pod;

fn spec(yaml: &str) -> PodSpec {
    pod(&format!("spec: {{{yaml}}}")).spec.unwrap()
}

fn texts(spec: &PodSpec) -> Vec<String> {
    let seen = |c: &PortClaim| if c.scheduled { "scheduled " } else { "" };
    claims(spec).iter().map(|c| format!("{}{c}", seen(c))).collect()
}

#[test]
fn what_a_pod_claims() {
    for (yaml, expected) in [
        ("containers: [{name: a}]", &[][..]),
        (
            "containers: [{name: a, ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP}]}]",
            &["80/TCP", "53/UDP"],
        ),
        ("containers: [{name: a, ports: [{containerPort: 80, hostPort: 80}]}]", &["scheduled 80/TCP"]),
        ("containers: [{name: a, ports: [{containerPort: 80, hostPort: 8080}]}]", &["scheduled 8080/TCP", "80/TCP"]),
        (
            "containers: [{name: a, ports: [{containerPort: 80, hostPort: 80, hostIP: 127.0.0.1}]}]",
            &["scheduled 127.0.0.1:80/TCP"],
        ),
        (
            "containers: [{name: a, ports: [{containerPort: 80, hostPort: 80, hostIP: '0:0::1'}]}]",
            &["scheduled [::1]:80/TCP"],
        ),
        ("hostNetwork: true, containers: [{name: a, ports: [{containerPort: 80}]}]", &["scheduled 80/TCP"]),
        // Two containers with one port claim it once.
        (
            "containers: [{name: a, ports: [{containerPort: 80}]}, {name: b, ports: [{containerPort: 80, name: http}]}]",
            &["80/TCP"],
        ),
        // An init container is over before anything else runs; a sidecar is not.
        (
            "initContainers: [{name: i, ports: [{containerPort: 1}]}, {name: s, restartPolicy: Always, ports: [{containerPort: 2}]}], containers: [{name: a, ports: [{containerPort: 3}]}]",
            &["2/TCP", "3/TCP"],
        ),
    ] {
        assert_eq!(texts(&spec(yaml)), expected, "{yaml}");
    }
}

#[test]
fn clashes_are_those_of_node_ports() {
    let claim = |text: &str| {
        let (address, rest) = text.rsplit_once(' ').unwrap();
        let (port, protocol) = rest.split_once('/').unwrap();
        PortClaim {
            protocol: protocol.to_owned(),
            port: port.parse().unwrap(),
            host_ip: address.to_owned(),
            scheduled: false,
        }
    };
    for (one, other, clashes) in [
        ("0.0.0.0 80/TCP", "0.0.0.0 80/TCP", true),
        ("0.0.0.0 80/TCP", "0.0.0.0 81/TCP", false),
        ("0.0.0.0 80/TCP", "0.0.0.0 80/UDP", false),
        ("127.0.0.1 80/TCP", "0.0.0.0 80/TCP", true),
        ("127.0.0.1 80/TCP", "127.0.0.1 80/TCP", true),
        ("127.0.0.1 80/TCP", "127.0.0.2 80/TCP", false),
        (":: 80/TCP", "0.0.0.0 80/TCP", true),
        (":: 80/TCP", "127.0.0.1 80/TCP", false),
    ] {
        assert_eq!(claim(one).clashes(&claim(other)), clashes, "{one} and {other}");
        assert_eq!(claim(other).clashes(&claim(one)), clashes, "{other} and {one}");
    }
}

#[test]
fn the_user_is_told_what_the_hosts_network_makes_of_ports() {
    let mut found = Findings::default();
    let yaml = "containers: [{name: a, ports: [{containerPort: 80, hostPort: 8080}, {containerPort: 80, name: again}]}, {name: b, ports: [{containerPort: 80}]}]";
    findings(&spec(yaml), &mut found);
    let notes: Vec<String> = found.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "spec.containers[0].ports[0].hostPort: nothing forwards 8080 to 80: the pod is on the host's network, let the program listen on 8080 itself (warning)",
            "spec.containers[1].ports[0]: 80/TCP is also a port of container a, on the same network (warning)",
        ]
    );
}
