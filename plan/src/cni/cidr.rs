//! An address with the length of its network's prefix, as plugins write it: `10.1.0.5/16`; and how they write nothing.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::shortened;

/// An address and its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// With its host bits.
    pub address: IpAddr,
    /// At most 32, or 128 for IPv6.
    pub prefix: u8,
}

/// Not `<address>/<length>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an address with a prefix length such as 10.1.0.5/16")]
pub struct InvalidCidr(String);

impl FromStr for Cidr {
    type Err = InvalidCidr;

    /// As Go's `net.ParseCIDR`: both parts, no zone, no leading zeros.
    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let invalid = || InvalidCidr(shortened(text, 60));
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let digits = prefix.len() <= 3 && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let plain = digits && (prefix == "0" || !prefix.starts_with('0'));
        match prefix.parse() {
            Ok(prefix) if plain && prefix <= most => Ok(Self { address, prefix }),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// An address that may be missing: Go writes none as `""`, other languages as `null`. For serde's `deserialize_with`.
pub(super) fn optional_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => {
            let invalid = |_| de::Error::custom(format!("{} is not an address", shortened(text, 60)));
            text.parse().map(Some).map_err(invalid)
        }
    }
}

/// A text that may be missing, in the same two ways.
pub(super) fn optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

/// A list that may be `null`, Go's word for an empty one.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_are_strict() {
        for text in ["10.1.0.5/16", "0.0.0.0/0", "10.0.0.1/32", "::/0", "fd00::5/64", "2001:db8::1/128"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        let bad = [
            "",
            "/",
            "10.1.0.5",
            "10.1.0.5/",
            "10.1.0.5/33",
            "10.1.0.5/+8",
            "10.1.0.5/08",
            "10.1.0.05/8",
            "::/129",
            "fe80::1%eth0/64",
            " 10.1.0.5/16",
            "10.1.0.5/16/16",
            "10.1/16",
            "10.1.0.5/-1",
            "10.1.0.5/0008",
            "x/8",
        ];
        for text in bad {
            text.parse::<Cidr>().unwrap_err();
        }
    }
}
