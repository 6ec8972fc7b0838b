use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::fields::fixtures::pod;

fn port(name: &str, protocol: &str, port: i32) -> ServicePort {
    ServicePort { name: name.to_owned(), protocol: protocol.to_owned(), port }
}

fn service(cluster_ip: &str, ports: &[ServicePort]) -> ServiceAddress {
    ServiceAddress { cluster_ip: cluster_ip.to_owned(), ports: ports.to_vec() }
}

fn cluster(services: &[(&str, ServiceAddress)]) -> ClusterFacts {
    let services = services.iter().map(|(name, service)| ((*name).to_owned(), service.clone()));
    ClusterFacts {
        server: ApiServer { host: "192.0.2.1".to_owned(), port: 6443 },
        services: services.collect::<BTreeMap<_, _>>().into(),
        ..ClusterFacts::default()
    }
}

fn all(spec: &str, cluster: &ClusterFacts) -> BTreeMap<String, String> {
    let pod = pod(&format!("{{metadata: {{name: p, namespace: ns}}, spec: {spec}}}"));
    variables(&pod, cluster).into_iter().map(|var| (var.name, var.value)).collect()
}

/// `NAME=value` of one service alone, in order.
fn of(name: &str, service: &ServiceAddress) -> Vec<String> {
    let mut vars = Vec::new();
    of_service(name, service, None, &mut vars);
    vars.iter().map(|var| format!("{}={}", var.name, var.value)).collect()
}

#[test]
fn a_service_is_told_as_the_kubelet_tells_it() {
    let ports = [port("", "TCP", 80), port("admin-ui", "UDP", 8080), port("s", "SCTP", 5)];
    assert_eq!(
        of("foo-bar", &service("1.2.3.4", &ports)),
        [
            "FOO_BAR_SERVICE_HOST=1.2.3.4",
            "FOO_BAR_SERVICE_PORT=80",
            "FOO_BAR_SERVICE_PORT_ADMIN_UI=8080",
            "FOO_BAR_SERVICE_PORT_S=5",
            "FOO_BAR_PORT=tcp://1.2.3.4:80",
            "FOO_BAR_PORT_80_TCP=tcp://1.2.3.4:80",
            "FOO_BAR_PORT_80_TCP_PROTO=tcp",
            "FOO_BAR_PORT_80_TCP_PORT=80",
            "FOO_BAR_PORT_80_TCP_ADDR=1.2.3.4",
            "FOO_BAR_PORT_8080_UDP=udp://1.2.3.4:8080",
            "FOO_BAR_PORT_8080_UDP_PROTO=udp",
            "FOO_BAR_PORT_8080_UDP_PORT=8080",
            "FOO_BAR_PORT_8080_UDP_ADDR=1.2.3.4",
            "FOO_BAR_PORT_5_SCTP=sctp://1.2.3.4:5",
            "FOO_BAR_PORT_5_SCTP_PROTO=sctp",
            "FOO_BAR_PORT_5_SCTP_PORT=5",
            "FOO_BAR_PORT_5_SCTP_ADDR=1.2.3.4",
        ]
    );
    let six = of("3scale", &service("2001:db8::1", &[port("http", "TCP", 80)]));
    assert!(six.contains(&"3SCALE_SERVICE_HOST=2001:db8::1".to_owned()), "{six:?}");
    assert!(six.contains(&"3SCALE_PORT=tcp://[2001:db8::1]:80".to_owned()), "{six:?}");
    assert_eq!(of("none", &service("1.2.3.4", &[])), ["NONE_SERVICE_HOST=1.2.3.4"]);
}

#[test]
fn the_api_server_is_where_the_node_reaches_it_under_its_usual_names() {
    let alone = all("{enableServiceLinks: false, containers: []}", &cluster(&[("x", service("1.2.3.4", &[]))]));
    let expected = [
        ("KUBERNETES_PORT", "tcp://192.0.2.1:6443"),
        ("KUBERNETES_PORT_443_TCP", "tcp://192.0.2.1:6443"),
        ("KUBERNETES_PORT_443_TCP_ADDR", "192.0.2.1"),
        ("KUBERNETES_PORT_443_TCP_PORT", "6443"),
        ("KUBERNETES_PORT_443_TCP_PROTO", "tcp"),
        ("KUBERNETES_SERVICE_HOST", "192.0.2.1"),
        ("KUBERNETES_SERVICE_PORT", "6443"),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "6443"),
    ];
    assert_eq!(alone, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    let mut six = cluster(&[]);
    six.server.host = "2001:db8::1".to_owned();
    let six = all("{containers: []}", &six);
    assert_eq!(six["KUBERNETES_SERVICE_HOST"], "2001:db8::1");
    assert_eq!(six["KUBERNETES_PORT"], "tcp://[2001:db8::1]:6443");
}

#[test]
fn no_service_takes_the_api_servers_names_but_one_of_its_name() {
    // Its link variables would be KUBERNETES_SERVICE_PORT and its kin.
    let odd = service("10.9.9.9", &[port("", "TCP", 443)]);
    let taken = all("{containers: []}", &cluster(&[("kubernetes-service", odd.clone())]));
    assert_eq!(taken["KUBERNETES_SERVICE_PORT"], "6443");
    assert_eq!(taken["KUBERNETES_SERVICE_SERVICE_HOST"], "10.9.9.9");
    // In the pod's own namespace it is what the kubelet tells of, too.
    let own = all("{containers: []}", &cluster(&[("kubernetes", odd.clone())]));
    assert_eq!(own["KUBERNETES_SERVICE_HOST"], "10.9.9.9");
    let unlinked = all("{enableServiceLinks: false, containers: []}", &cluster(&[("kubernetes", odd.clone())]));
    assert_eq!(unlinked["KUBERNETES_SERVICE_HOST"], "192.0.2.1");
    // In `default` it is the API server's.
    let default = pod("{metadata: {name: p}, spec: {containers: []}}");
    let vars = variables(&default, &cluster(&[("kubernetes", odd)]));
    assert!(vars.iter().all(|var| !var.value.contains("10.9.9.9")), "{vars:?}");
}

#[test]
fn headless_services_and_external_names_have_no_address() {
    let of = |spec: &str| ServiceAddress::of(&serde_saphyr::from_str(&format!("{{spec: {spec}}}")).unwrap());
    assert_eq!(of("{clusterIP: None, ports: [{port: 1}]}"), None);
    assert_eq!(of("{type: ExternalName, externalName: x.example}"), None);
    assert_eq!(of("{clusterIP: ''}"), None);
    let known = of("{clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 'fd00::1'], ports: [{name: a, port: 1}]}");
    assert_eq!(known, Some(service("10.0.0.1", &[port("a", "TCP", 1)])));
}

proptest! {
    /// Each service of a namespace is told by its own variables, whatever the others are called.
    #[test]
    fn hosts_are_told_apart(names in prop::collection::btree_set("[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", 0..6)) {
        let services: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(at, name)| (name.as_str(), service(&format!("10.0.0.{at}"), &[port("", "TCP", 80)])))
            .collect();
        let vars = all("{containers: []}", &cluster(&services));
        for (at, name) in names.iter().enumerate() {
            let host = vars.get(&format!("{}_SERVICE_HOST", upper(name)));
            prop_assert_eq!(host, Some(&format!("10.0.0.{at}")));
        }
        prop_assert!(vars.contains_key("KUBERNETES_SERVICE_PORT"));
    }
}
