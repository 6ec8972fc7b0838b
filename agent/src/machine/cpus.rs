//! The kernel's ways to write which processors, and how much of them.

use std::collections::BTreeSet;

/// `0-3,8`: cpuset(7), "List format".
pub(super) fn list(text: &str) -> BTreeSet<u32> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.trim().parse::<u32>().ok()?..=last.trim().parse::<u32>().ok()?)
    });
    ranges.flatten().collect()
}

/// `QUOTA PERIOD` of cpu.max, in microseconds, as millicores, none for less than one; None: no limit (`max`).
pub(super) fn quota_milli(text: &str) -> Option<i64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (i64, i64) = (quota.parse().ok()?, period.trim().parse().ok()?);
    (period > 0).then(|| quota.saturating_mul(1000) / period).filter(|milli| *milli > 0)
}
