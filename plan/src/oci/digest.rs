//! Content addresses: `sha256:<64 hex digits>`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The hash functions that the image specification registers and that registries use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Nearly all there is.
    Sha256,
    /// Allowed, rare.
    Sha512,
}

impl Algorithm {
    /// As a digest begins.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// The address of a blob: it can be a file's name as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

/// Not a digest of a known algorithm in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no digest (sha256: and 64, or sha512: and 128 hexadecimal digits in lower case)")]
pub struct InvalidDigest;

impl Digest {
    /// The SHA-256 of `bytes`, which are in memory; what is streamed is hashed on its way, see [`Self::sha256`].
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::sha256(sha2::Sha256::digest(bytes).into())
    }

    /// Of a finished hash.
    pub fn sha256(hash: [u8; 32]) -> Self {
        let hex = hash.iter().fold(String::with_capacity(64), |mut hex, byte| {
            hex.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0')));
            hex
        });
        Self { algorithm: Algorithm::Sha256, hex }
    }

    /// Which hash it is.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hash itself in lower case.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let (name, hex) = text.split_once(':').ok_or(InvalidDigest)?;
        let algorithm = [Algorithm::Sha256, Algorithm::Sha512].into_iter().find(|algorithm| algorithm.name() == name);
        let algorithm = algorithm.ok_or(InvalidDigest)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hex.len() != algorithm.hex_length() || !hex.bytes().all(is_digit) {
            return Err(InvalidDigest);
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

/// As people write it.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_nothing_and_of_abc() {
        let nothing = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), nothing);
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc"), abc.parse().unwrap());
    }

    #[test]
    fn only_known_hashes_in_lower_case() {
        let hex = "a".repeat(64);
        assert_eq!(format!("sha256:{hex}").parse::<Digest>().unwrap().hex(), hex);
        assert!(format!("sha512:{hex}{hex}").parse::<Digest>().is_ok());
        let bad = ["", ":", "sha256", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../etc/passwd"];
        bad.iter().for_each(|text| assert!(text.parse::<Digest>().is_err(), "{text}"));
        for text in [format!("sha512:{hex}"), format!("SHA256:{hex}"), format!("sha256:{}", "A".repeat(64))] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Digest>("\"sha256:zz\"").is_err());
    }
}
