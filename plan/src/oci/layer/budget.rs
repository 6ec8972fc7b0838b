//! How much a layer may be: a registry can send a megabyte that is a terabyte.

/// The limits of one layer. What an honest image has is far below them; they keep a hostile one from filling the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of any kind: each is an inode.
    pub entries: u64,
    /// Bytes of the unpacked tar.
    pub bytes: u64,
    /// Bytes that one file may have, holes counted.
    pub file_bytes: u64,
    /// How many times larger than the blob the tar may be, once it has [`RATIO_FLOOR`] bytes. gzip ends at 1030, and a
    /// real layer is seldom above 20; files of zeros are.
    pub ratio: u64,
}

/// Below so many bytes no ratio is looked at: 64 MiB of zeros are no danger.
pub const RATIO_FLOOR: u64 = 64 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 2_000_000, bytes: 64 << 30, file_bytes: 32 << 30, ratio: 200 }
    }
}

/// A limit that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// [`Limits::entries`].
    #[error("it has more than {0} entries")]
    Entries(u64),
    /// [`Limits::bytes`].
    #[error("it is larger than {0} bytes once unpacked")]
    Bytes(u64),
    /// [`Limits::file_bytes`].
    #[error("it has a file of more than {0} bytes")]
    FileBytes(u64),
    /// [`Limits::ratio`].
    #[error("it becomes more than {0} times as large when it is unpacked")]
    Ratio(u64),
}

/// What of a layer was seen so far.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    limits: Limits,
    entries: u64,
    files: u64,
}

impl Budget {
    /// Nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, entries: 0, files: 0 }
    }

    /// One more entry, of that size in bytes (a sparse file's is what it will seem to have).
    ///
    /// # Errors
    /// [`Exceeded`]: it is one too many, or too large.
    pub fn entry(&mut self, size: u64) -> Result<(), Exceeded> {
        self.entries = self.entries.saturating_add(1);
        self.files = self.files.saturating_add(size);
        if self.entries > self.limits.entries {
            return Err(Exceeded::Entries(self.limits.entries));
        }
        if size > self.limits.file_bytes {
            return Err(Exceeded::FileBytes(self.limits.file_bytes));
        }
        if self.files > self.limits.bytes {
            return Err(Exceeded::Bytes(self.limits.bytes));
        }
        Ok(())
    }

    /// So many bytes were read of the blob in all, and so many came out.
    ///
    /// # Errors
    /// [`Exceeded`]: the tar is too large, or far larger than the blob.
    pub fn stream(&self, packed: u64, unpacked: u64) -> Result<(), Exceeded> {
        if unpacked > self.limits.bytes {
            return Err(Exceeded::Bytes(self.limits.bytes));
        }
        if unpacked > RATIO_FLOOR && unpacked / self.limits.ratio.max(1) > packed {
            return Err(Exceeded::Ratio(self.limits.ratio));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits { entries: 3, bytes: 100 << 20, file_bytes: 50 << 20, ratio: 10 };

    #[test]
    fn entries_are_counted_and_weighed() {
        let mut budget = Budget::new(SMALL);
        assert_eq!(budget.entry(50 << 20), Ok(()));
        assert_eq!(budget.entry((50 << 20) + 1), Err(Exceeded::FileBytes(50 << 20)));
        assert_eq!(budget.entry(0), Err(Exceeded::Bytes(100 << 20)));
        assert_eq!(budget.entry(0), Err(Exceeded::Entries(3)));
        assert_eq!(Budget::new(SMALL).entry(u64::MAX), Err(Exceeded::FileBytes(50 << 20)));
    }

    #[test]
    fn bombs_are_told_from_files_of_zeros() {
        let budget = Budget::new(SMALL);
        assert_eq!(budget.stream(1, RATIO_FLOOR), Ok(()));
        assert_eq!(budget.stream(7 << 20, 65 << 20), Ok(()));
        assert_eq!(budget.stream(6 << 20, 65 << 20), Err(Exceeded::Ratio(10)));
        assert_eq!(budget.stream(u64::MAX, (100 << 20) + 1), Err(Exceeded::Bytes(100 << 20)));
    }
}
