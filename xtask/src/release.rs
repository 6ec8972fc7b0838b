//! `cargo xtask release`: the binary that is handed out, its path and its size.

use std::process::ExitCode;

use anyhow::{Context, Result};
use e2e::release;

pub(crate) fn main() -> Result<ExitCode> {
    let binary = release::binary()?;
    let size = binary.metadata().with_context(|| format!("look at {}", binary.display()))?.len();
    println!("{}\n{}", binary.display(), weight(size, release::LARGEST));
    Ok(if size <= release::LARGEST { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A size beside what it may be at most, both in bytes.
fn weight(size: u64, largest: u64) -> String {
    // One decimal is exact enough, and no float is needed for it.
    let megabytes = |bytes: u64| format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10);
    format!("{size} bytes ({} MB, at most {} MB)", megabytes(size), megabytes(largest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weighs_in_megabytes() {
        assert_eq!(weight(6_619_736, 14_050_000), "6619736 bytes (6.6 MB, at most 14.0 MB)");
    }
}
