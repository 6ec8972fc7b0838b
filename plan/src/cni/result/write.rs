//! A result as JSON, in the version that its reader wants.

use serde_json::{Map, Value, json};

use super::{AddResult, Dns, Interface, Ip, Route};
use crate::cni::Version;

impl AddResult {
    /// As the version `version` has it, for `prevResult` and the cache (libcni: `GetAsVersion`). For 0.4.0 an address
    /// gets its `version`, and an interface loses what came with 1.1.0.
    pub fn to_object(&self, version: Version) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("cniVersion".to_owned(), version.as_str().into());
        let interfaces: Vec<Value> = self.interfaces.iter().map(|one| interface_value(one, version)).collect();
        let ips: Vec<Value> = self.ips.iter().map(|ip| ip_value(ip, version)).collect();
        let routes: Vec<Value> = self.routes.iter().map(route_value).collect();
        for (field, values) in [("interfaces", interfaces), ("ips", ips), ("routes", routes)] {
            if !values.is_empty() {
                object.insert(field.to_owned(), values.into());
            }
        }
        let dns = dns_value(&self.dns);
        if !dns.is_empty() {
            object.insert("dns".to_owned(), dns.into());
        }
        object
    }
}

/// The object of those fields that have a value.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn interface_value(one: &Interface, version: Version) -> Value {
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    let newer = version > Version::V0_4;
    let fields = [
        ("name", Some(one.name.as_str().into())),
        ("mac", text(&one.mac)),
        ("sandbox", text(&one.sandbox)),
        ("mtu", one.mtu.filter(|_| newer).map(Value::from)),
        ("socketPath", text(&one.socket_path).filter(|_| newer)),
        ("pciID", text(&one.pci_id).filter(|_| newer)),
    ];
    object(fields).into()
}

fn ip_value(ip: &Ip, version: Version) -> Value {
    let family = if ip.address.address.is_ipv4() { "4" } else { "6" };
    let fields = [
        ("version", (version == Version::V0_4).then(|| family.into())),
        ("address", Some(ip.address.to_string().into())),
        ("gateway", ip.gateway.map(|gateway| gateway.to_string().into())),
        ("interface", ip.interface.map(Value::from)),
    ];
    object(fields).into()
}

/// libcni has one type of route for all versions, so nothing is lost here.
fn route_value(route: &Route) -> Value {
    let fields = [
        ("dst", Some(json!(route.dst.to_string()))),
        ("gw", route.gw.map(|gw| gw.to_string().into())),
        ("mtu", route.mtu.map(Value::from)),
        ("advmss", route.advmss.map(Value::from)),
        ("priority", route.priority.map(Value::from)),
        ("table", route.table.map(Value::from)),
        ("scope", route.scope.map(Value::from)),
    ];
    object(fields).into()
}

fn dns_value(dns: &Dns) -> Map<String, Value> {
    let list = |list: &[String]| (!list.is_empty()).then(|| json!(list));
    object([
        ("nameservers", list(&dns.nameservers)),
        ("domain", dns.domain.as_deref().map(Value::from)),
        ("search", list(&dns.search)),
        ("options", list(&dns.options)),
    ])
}
