//! The node's addresses when no flag gives them: the founding README's rule, applied to what /proc/net says. Text in,
//! addresses out, so that no crate and no netlink socket is needed and every machine's files can be a test.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The content of the three files of /proc/net; an absent one is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct InterfaceText {
    /// `/proc/net/fib_trie`.
    pub(crate) fib_trie: String,
    /// `/proc/net/route`.
    pub(crate) route: String,
    /// `/proc/net/if_inet6`.
    pub if_inet6: String,
}

/// One internal and one external address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeAddresses {
    /// The first private one.
    pub(crate) internal: IpAddr,
    /// The first other one.
    pub(crate) external: IpAddr,
}

/// The first private address (RFC 1918, else IPv6 ULA) and the first public one (IPv4, else IPv6), each standing in for the
/// other if there is none. Those in the network of the default route come first, so that a bridge of containers (docker0)
/// does not become the node's address. Loopback and link-local are left out. None: no address at all.
pub(crate) fn discover(text: &InterfaceText) -> Option<NodeAddresses> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    let networks = default_networks(&text.route);
    let mut v4 = local_v4(&text.fib_trie);
    v4.sort_by_key(|address| {
        let bits = u32::from(*address);
        !networks.iter().any(|(network, mask)| bits & mask == *network)
    });
    addresses.extend(v4.into_iter().filter(|a| !a.is_loopback() && !a.is_link_local()).map(IpAddr::V4));
    addresses.extend(local_v6(&text.if_inet6).into_iter().map(IpAddr::V6));
    let find = |private: bool| addresses.iter().copied().find(|address| is_private(*address) == private);
    let (internal, external) = (find(true), find(false));
    Some(NodeAddresses { internal: internal.or(external)?, external: external.or(internal)? })
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

/// The addresses of this machine are the leaves with a line `/32 host LOCAL` below; each is there once per table.
fn local_v4(fib_trie: &str) -> Vec<Ipv4Addr> {
    let mut addresses = Vec::new();
    let mut seen = BTreeSet::new();
    let mut leaf = None;
    for line in fib_trie.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            addresses.extend(leaf.filter(|address| seen.insert(*address)));
        }
    }
    addresses
}

/// Network and mask of the interfaces that a default route goes out of.
fn default_networks(route: &str) -> Vec<(u32, u32)> {
    let rows: Vec<(&str, u32, u32)> = route
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Hexadecimal in the byte order of the machine, as the kernel has it in memory.
            let number = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok().map(u32::to_be);
            Some((*fields.first()?, number(1)?, number(7)?))
        })
        .collect();
    let outward: BTreeSet<&str> = rows.iter().filter(|row| row.1 == 0 && row.2 == 0).map(|row| row.0).collect();
    rows.into_iter().filter(|row| row.2 != 0 && outward.contains(row.0)).map(|row| (row.1, row.2)).collect()
}

/// Lines are `address index prefix scope flags name`, all hexadecimal. Scope 0 is global; tentative (0x40), failed (0x08),
/// deprecated (0x20) and temporary (0x01) addresses do not last.
fn local_v6(if_inet6: &str) -> Vec<Ipv6Addr> {
    let address = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = Ipv6Addr::from(u128::from_str_radix(fields.first()?, 16).ok()?);
        let scope = u8::from_str_radix(fields.get(3)?, 16).ok()?;
        let flags = u32::from_str_radix(fields.get(4)?, 16).ok()?;
        (scope == 0 && flags & 0x69 == 0 && !address.is_loopback()).then_some(address)
    };
    if_inet6.lines().filter_map(address).collect()
}
