//! Which of an image's variants a machine runs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `os/architecture[/variant]`, in Go's words as the image specification has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm`, …
    pub architecture: String,
    /// `v7`; empty where there is only one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// Linux on the machine that `uname -m` names so; an unknown machine has its own name, which no image will match.
    pub fn of_machine(machine: &str) -> Self {
        let (architecture, variant) = match machine {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            "armv7l" => ("arm", "v7"),
            "armv6l" => ("arm", "v6"),
            "i386" | "i486" | "i586" | "i686" => ("386", ""),
            "loongarch64" => ("loong64", ""),
            // Go's names are the kernel's: ppc64le, s390x, riscv64, …
            other => (other, ""),
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// How well this machine runs what is made for `other`: less is better, None is not at all.
    ///
    /// As containerd's `platforms.Default`: an arm runs older variants too, the newest is the best; `arm64` means v8; an
    /// image for a level of amd64 above the first (`amd64/v3`) is not taken, as nobody has looked what the CPU can do.
    pub fn rank(&self, other: &Self) -> Option<u32> {
        if other.os != self.os || other.architecture != self.architecture {
            return None;
        }
        let (own, its) = (level(self), level(other));
        own.checked_sub(its)
    }
}

/// The number in the variant, or what an absent one means.
fn level(platform: &Platform) -> u32 {
    let number = platform.variant.strip_prefix('v').and_then(|number| number.parse().ok());
    match (platform.variant.as_str(), platform.architecture.as_str()) {
        ("", "arm64") => 8,
        ("", "arm") => 7,
        ("", _) => 1,
        // Something that this program does not know is above everything.
        (_, _) => number.unwrap_or(u32::MAX),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_str() {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform { os: next(), architecture: next(), variant: next() }
    }

    #[test]
    fn machines_run_what_is_made_for_them_and_older_arms() {
        let cases = [
            ("x86_64", "linux/amd64", Some(0)),
            ("x86_64", "linux/amd64/v1", Some(0)),
            ("x86_64", "linux/amd64/v3", None),
            ("x86_64", "linux/arm64", None),
            ("x86_64", "windows/amd64", None),
            ("x86_64", "linux/386", None),
            ("aarch64", "linux/arm64", Some(0)),
            ("aarch64", "linux/arm64/v8", Some(0)),
            ("aarch64", "linux/arm64/v9", None),
            ("armv7l", "linux/arm/v6", Some(1)),
            ("armv7l", "linux/arm/v7", Some(0)),
            ("armv6l", "linux/arm", None),
            ("armv7l", "linux/arm/odd", None),
            ("riscv64", "linux/riscv64", Some(0)),
            ("x86_64", "unknown/unknown", None),
        ];
        for (machine, image, rank) in cases {
            assert_eq!(Platform::of_machine(machine).rank(&platform(image)), rank, "{machine} {image}");
        }
        assert_eq!(Platform::of_machine("armv7l").to_string(), "linux/arm/v7");
    }
}
