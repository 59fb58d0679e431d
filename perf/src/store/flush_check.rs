//! Whether the disk bears out what a store counts.

use metastore_wal::device::{BlockDeviceFlushes, WriteCache};
use serde::{Deserialize, Serialize};

use super::Costs;

/// What a disk does with a durable write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DiskCache {
    /// It flushes its volatile cache, which is counted.
    Volatile,
    /// It can write past its volatile cache, which is not counted.
    Bypassed,
    /// It has no volatile cache: there is nothing to flush and nothing to count.
    Absent,
}

/// Whether the disk bears out the store's own count of durable writes, the best news first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FlushCheck {
    /// The disk has flushed at least as often as the busiest log of the store says.
    Confirmed,
    /// The disk has no volatile cache.
    NoVolatileCache,
    /// The disk may write past its cache without counting.
    NotCounted,
    /// The disk is not observed.
    NotObserved,
    /// The disk has flushed less often than that.
    Contradicted,
}

impl DiskCache {
    /// What the kernel knows of a disk, if it does.
    pub(crate) fn of(disk: &BlockDeviceFlushes) -> Option<DiskCache> {
        Some(
            match (disk.write_cache().ok()?, disk.has_forced_writes().ok()?) {
                (WriteCache::WriteThrough, _) => DiskCache::Absent,
                (WriteCache::WriteBack, true) => DiskCache::Bypassed,
                (WriteCache::WriteBack, false) => DiskCache::Volatile,
            },
        )
    }

    /// The kind in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            DiskCache::Volatile => "write back, flushed",
            DiskCache::Bypassed => "write back, forced writes possible",
            DiskCache::Absent => "write through (no volatile cache)",
        }
    }
}

impl FlushCheck {
    /// Judges the count of durable writes. Those of one log come one after the other, and each needs a flush that began
    /// behind it. The kernel may flush once for writes of several logs that wait at the same time, so that only the busiest
    /// log says how many there must be at least.
    pub(crate) fn of(costs: &Costs, cache: Option<DiskCache>) -> FlushCheck {
        match (cache, costs.device_flushes) {
            (None, _) | (_, None) => FlushCheck::NotObserved,
            (Some(DiskCache::Absent), _) => FlushCheck::NoVolatileCache,
            (Some(_), Some(flushes)) if flushes >= costs.durable_writes_of_busiest_log => {
                FlushCheck::Confirmed
            }
            (Some(DiskCache::Bypassed), _) => FlushCheck::NotCounted,
            (Some(DiskCache::Volatile), _) => FlushCheck::Contradicted,
        }
    }

    /// The judgement in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            FlushCheck::Confirmed => "confirmed by the disk's own count",
            FlushCheck::Contradicted => "CONTRADICTED: the disk has flushed less often",
            FlushCheck::NoVolatileCache => "the disk has no volatile cache",
            FlushCheck::NotCounted => "the disk writes past its cache, which it does not count",
            FlushCheck::NotObserved => "the disk was not observed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_asked_only_where_it_counts() {
        let of = |durable_writes_of_busiest_log: u64, device_flushes, cache| {
            let costs = Costs {
                durable_writes: 3 * durable_writes_of_busiest_log,
                durable_writes_of_busiest_log,
                device_flushes,
                ..Costs::default()
            };
            FlushCheck::of(&costs, cache)
        };
        let back = Some(DiskCache::Volatile);
        assert_eq!(of(100, Some(100), back), FlushCheck::Confirmed);
        assert_eq!(of(100, Some(99), back), FlushCheck::Contradicted);
        let forced = Some(DiskCache::Bypassed);
        assert_eq!(of(100, Some(99), forced), FlushCheck::NotCounted);
        let through = Some(DiskCache::Absent);
        assert_eq!(of(100, Some(0), through), FlushCheck::NoVolatileCache);
        assert_eq!(of(100, None, back), FlushCheck::NotObserved);
        assert_eq!(of(100, Some(100), None), FlushCheck::NotObserved);
    }
}
