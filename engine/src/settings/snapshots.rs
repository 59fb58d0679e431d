//! When snapshots are taken, and how they are written.

/// Bytes of a snapshot's file are written in whole blocks of this length, the end of the file excepted.
pub const SNAPSHOT_WRITE_ALIGN_BYTES: usize = 4096;

/// When a shard's state is written to a file, so that the log before it can be released. Beside these numbers the log
/// itself asks for it, when it nears its budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// Bytes of log that a shard writes before its next snapshot is due, at least.
    pub log_bytes_min: u64,
    /// How many times the length of its last snapshot a shard writes before the next is due: so that snapshots cost
    /// less than a fixed share of what is written, however large the state is.
    pub log_bytes_per_snapshot_byte: u64,
    /// Entries that a shard commits before its next snapshot is due; `None` for no limit.
    pub entries: Option<u64>,
    /// Milliseconds after its last snapshot at which the next is due, if anything has changed; `None` for never.
    pub interval_ms: Option<u64>,
    /// Bytes of one write to a snapshot's file.
    pub write_bytes: usize,
    /// Writes of a snapshot under way at most.
    pub writes_max: usize,
    /// Milliseconds after a snapshot that failed before it is tried again; doubled with each failure in a row.
    pub retry_ms: u64,
    /// The longest such pause.
    pub retry_ms_max: u64,
    /// Entries that keep the oldest segment alive are written again, instead of a snapshot, where they and what follows
    /// them take no more than this.
    pub rewrite_bytes_max: usize,
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        SnapshotSettings {
            log_bytes_min: 1 << 30,
            log_bytes_per_snapshot_byte: 4,
            entries: None,
            interval_ms: None,
            write_bytes: 256 << 10,
            writes_max: 2,
            retry_ms: 1_000,
            retry_ms_max: 60_000,
            rewrite_bytes_max: 1 << 20,
        }
    }
}

impl SnapshotSettings {
    /// Each number with its bounds.
    pub(super) fn bounds(&self) -> [(&'static str, u64, u64, u64); 8] {
        let block = SNAPSHOT_WRITE_ALIGN_BYTES as u64;
        [
            ("snapshot.log_bytes", self.log_bytes_min, block, 1 << 50),
            (
                "snapshot.log_factor",
                self.log_bytes_per_snapshot_byte,
                0,
                1_000,
            ),
            ("snapshot.count", self.entries.unwrap_or(1), 1, u64::MAX),
            (
                "snapshot.interval",
                self.interval_ms.unwrap_or(1),
                1,
                u64::MAX,
            ),
            (
                "snapshot.write_bytes",
                self.write_bytes as u64,
                block,
                4 << 20,
            ),
            ("snapshot.writes", self.writes_max as u64, 1, 16),
            ("snapshot.retry", self.retry_ms, 1, self.retry_ms_max),
            (
                "snapshot.rewrite_bytes",
                self.rewrite_bytes_max as u64,
                0,
                64 << 20,
            ),
        ]
    }

    /// How long to wait after so many failures in a row.
    pub(crate) fn pause_ms(&self, failures: u32) -> u64 {
        let doublings = failures.saturating_sub(1).min(32);
        let pause_ms = self.retry_ms.saturating_mul(1 << doublings);
        pause_ms.min(self.retry_ms_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_limit() {
        let settings = SnapshotSettings::default();
        let pauses = [1, 2, 3, 6, 7, 1_000].map(|failures| settings.pause_ms(failures));
        assert_eq!(pauses, [1_000, 2_000, 4_000, 32_000, 60_000, 60_000]);
    }
}
