//! Numbers of batching, raft and waiting work, and how the limits relate.

mod snapshots;
mod timing;

use thiserror::Error;

pub use self::snapshots::{SNAPSHOT_WRITE_ALIGN_BYTES, SnapshotSettings};
pub use self::timing::{IdleSettings, TickTiming};

/// How client commands become raft entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSettings {
    /// Commands in one entry at most.
    pub commands_max: usize,
    /// Bytes of commands in one entry at most; a single larger command is its own batch.
    pub bytes_max: usize,
    /// Smallest body, in bytes, that is tried for compression; `None` turns compression off.
    pub compress_bytes_min: Option<usize>,
}

impl Default for BatchSettings {
    fn default() -> Self {
        BatchSettings {
            commands_max: 1024,
            bytes_max: 256 << 10,
            compress_bytes_min: Some(4 << 10),
        }
    }
}

/// How raft is driven. `pre_vote` and `check_quorum` are always on and have no setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftSettings {
    /// Length of a tick in milliseconds; the first ones, where it is measured.
    pub tick_interval_ms: u64,
    /// How the length of later ticks is found.
    pub timing: TickTiming,
    /// What groups do that have nothing to do.
    pub idle: IdleSettings,
    /// Ticks without a leader before a follower campaigns.
    pub election_ticks: usize,
    /// Ticks between two heartbeats.
    pub heartbeat_ticks: usize,
    /// Append messages in flight to one follower.
    pub inflight_messages_max: usize,
    /// Bytes of entries in one append message.
    pub message_bytes_max: u64,
    /// Bytes of a shard that are proposed and not committed; beyond it clients are told to slow down.
    pub uncommitted_bytes_max: u64,
    /// Bytes of committed entries that are handed over in one step.
    pub committed_bytes_per_ready_max: u64,
    /// Entries that a leader applies at most before they are durable in its own log, once a quorum of the others has
    /// them; `None` to wait for its own log.
    pub apply_ahead_entries_max: Option<u64>,
    /// Bytes of applied entries that stay in memory for followers that are a little behind.
    pub tail_bytes_max: usize,
}

impl Default for RaftSettings {
    fn default() -> Self {
        RaftSettings {
            tick_interval_ms: 50,
            timing: TickTiming::default(),
            idle: IdleSettings::default(),
            election_ticks: 10,
            heartbeat_ticks: 1,
            inflight_messages_max: 256,
            message_bytes_max: 1 << 20,
            uncommitted_bytes_max: 64 << 20,
            committed_bytes_per_ready_max: 8 << 20,
            apply_ahead_entries_max: None,
            tail_bytes_max: 1 << 20,
        }
    }
}

/// When a core takes less than it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionSettings {
    /// A shortest wait above this, in milliseconds, is overload.
    pub target_ms: u64,
    /// Over how many milliseconds the shortest wait is taken.
    pub interval_ms: u64,
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        AdmissionSettings {
            target_ms: 100,
            interval_ms: 100,
        }
    }
}

/// The numbers of a core. The program runs with the defaults; simulations and tests choose others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How commands become entries.
    pub batch: BatchSettings,
    /// How raft is driven.
    pub raft: RaftSettings,
    /// When new commands are refused.
    pub admission: AdmissionSettings,
    /// When snapshots are taken.
    pub snapshots: SnapshotSettings,
    /// Milliseconds between two comparisons of the states of a shard's replicas; `None` for never.
    pub state_check_ms: Option<u64>,
    /// Bytes of the log that are read again in a second, to find what has decayed; `None` for none.
    pub scrub_bytes_per_second: Option<u64>,
    /// Deadline of a request that names none, in milliseconds.
    pub deadline_default_ms: u64,
    /// Latest deadline that a client may ask for, in milliseconds.
    pub deadline_max_ms: u64,
    /// Reads of a shard that wait for their round at most.
    pub reads_waiting_max: usize,
    /// Bytes of keys of the reads of a shard that wait at most.
    pub reads_waiting_bytes_max: usize,
    /// Ranges open on a core at most.
    pub ranges_max: usize,
    /// Ranges open on a connection at most.
    pub ranges_per_connection_max: usize,
    /// Batches whose answers are being gathered on a core at most.
    pub gathers_max: usize,
    /// Ranges that a core deletes at a time at most.
    pub sweeps_max: usize,
    /// Largest command in bytes, head included.
    pub command_bytes_max: usize,
    /// Rows that one slice of a range reads at most.
    pub slice_rows_max: u64,
    /// Bytes of rows that one slice of a range copies at most; a single larger row is its own slice.
    pub slice_bytes_max: u64,
    /// Keys and versions that one slice looks at at most, found or not.
    pub slice_visits_max: u64,
    /// Forgotten changes that one slice frees at most.
    pub slice_reclaims_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            batch: BatchSettings::default(),
            raft: RaftSettings::default(),
            admission: AdmissionSettings::default(),
            snapshots: SnapshotSettings::default(),
            state_check_ms: Some(60_000),
            // A log of 8 GiB in two and a half hours.
            scrub_bytes_per_second: Some(1 << 20),
            deadline_default_ms: 5_000,
            deadline_max_ms: 60_000,
            reads_waiting_max: 65_536,
            reads_waiting_bytes_max: 64 << 20,
            ranges_max: 1_024,
            ranges_per_connection_max: 32,
            gathers_max: 16_384,
            sweeps_max: 64,
            command_bytes_max: COMMAND_BYTES_MAX,
            // A row that is not in the cache takes about half a microsecond to find and copy, and so does a key to
            // look at, so that a slice is done in a quarter of a millisecond.
            slice_rows_max: 512,
            slice_bytes_max: 64 << 10,
            slice_visits_max: 512,
            slice_reclaims_max: 512,
        }
    }
}

/// Largest command: a key of 4 KiB and a value of 3 MiB, which is the most that a namespace may allow, with room for
/// its head.
const COMMAND_BYTES_MAX: usize = (3 << 20) + (4 << 10) + 256;

/// The most that an append may be set to hold, as raft counts entries.
const APPEND_BYTES_MAX: usize = 8 << 20;

/// raft counts four bytes for an entry of nothing, its term and its index; in a batch it takes a head of 16.
const ENTRY_GROWTH_MAX: usize = 4;

/// Length of the longest batch of messages to a core of another node: one that was not quite full, and the longest
/// message. That is an append with as many entries as may be, unless a single one is longer.
pub const PEER_BATCH_BYTES_MAX: usize =
    PEER_BATCH_BYTES_FULL + PEER_BATCH_HEADS_BYTES + ENTRY_GROWTH_MAX * APPEND_BYTES_MAX;

/// A batch that has grown to this leaves at once.
pub(crate) const PEER_BATCH_BYTES_FULL: usize = 1 << 20;

/// Heads of a batch and of its longest message.
const PEER_BATCH_HEADS_BYTES: usize = 256;

const _: () = assert!(COMMAND_BYTES_MAX + RECORD_HEADS_BYTES < ENTRY_GROWTH_MAX * APPEND_BYTES_MAX);

/// A record must hold the largest command with its heads, and a segment many records.
const RECORD_HEADS_BYTES: usize = 64 << 10;
const _: () = assert!(COMMAND_BYTES_MAX + RECORD_HEADS_BYTES < 4 << 20);

/// Why settings contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// A number is outside what makes sense.
    #[error("{name} is {actual}, it must lie between {min} and {max}")]
    OutOfRange {
        /// The setting's name.
        name: &'static str,
        /// Its value.
        actual: u64,
        /// Smallest allowed value.
        min: u64,
        /// Largest allowed value.
        max: u64,
    },
    /// The largest command does not fit into a record of the log.
    #[error(
        "a record of {record_bytes} bytes cannot hold the largest command, {command_bytes} bytes and its heads"
    )]
    RecordTooSmall {
        /// Bytes of the largest record.
        record_bytes: usize,
        /// Bytes of the largest command.
        command_bytes: usize,
    },
}

impl Settings {
    /// Checks bounds and how the limits relate to a record of `record_bytes`.
    ///
    /// # Errors
    /// Names the first setting that is out of bounds or contradicts another.
    pub fn validate(&self, record_bytes: usize) -> Result<(), SettingsError> {
        let raft = &self.raft;
        let bounds = [
            (
                "batch.max_commands",
                self.batch.commands_max as u64,
                1,
                65_536,
            ),
            (
                "batch.max_bytes",
                self.batch.bytes_max as u64,
                4 << 10,
                2 << 20,
            ),
            ("raft.tick_interval", raft.tick_interval_ms, 1, 10_000),
            ("raft.election_tick", raft.election_ticks as u64, 2, 1_000),
            (
                "raft.heartbeat_tick",
                raft.heartbeat_ticks as u64,
                1,
                (raft.election_ticks as u64).saturating_sub(1),
            ),
            (
                "raft.max_inflight_msgs",
                raft.inflight_messages_max as u64,
                1,
                65_536,
            ),
            (
                "raft.max_size_per_msg",
                raft.message_bytes_max,
                64 << 10,
                APPEND_BYTES_MAX as u64,
            ),
            (
                "raft.max_uncommitted_size",
                raft.uncommitted_bytes_max,
                8 << 20,
                1 << 30,
            ),
            (
                "raft.apply_ahead",
                raft.apply_ahead_entries_max.unwrap_or(1),
                1,
                1_000_000,
            ),
            ("admission.target", self.admission.target_ms, 5, 10_000),
            ("admission.interval", self.admission.interval_ms, 10, 10_000),
            (
                "state_check.interval",
                self.state_check_ms.unwrap_or(1),
                1,
                u64::MAX,
            ),
            (
                "scrub.rate",
                self.scrub_bytes_per_second.unwrap_or(4 << 10),
                4 << 10,
                1 << 30,
            ),
            (
                "deadline.default",
                self.deadline_default_ms,
                1,
                self.deadline_max_ms,
            ),
            ("slice.max_rows", self.slice_rows_max, 1, 65_536),
            ("slice.max_bytes", self.slice_bytes_max, 4 << 10, 1 << 20),
            ("slice.max_visits", self.slice_visits_max, 1, 65_536),
            (
                "slice.max_reclaims",
                self.slice_reclaims_max as u64,
                1,
                65_536,
            ),
        ];
        let bounds = bounds.into_iter().chain(self.snapshots.bounds());
        let bounds = bounds.chain(raft.timing.bounds());
        for (name, actual, min, max) in bounds.chain(raft.idle.bounds()) {
            if actual < min || actual > max {
                return Err(SettingsError::OutOfRange {
                    name,
                    actual,
                    min,
                    max,
                });
            }
        }
        let largest = self.command_bytes_max.max(self.batch.bytes_max);
        if largest + RECORD_HEADS_BYTES >= record_bytes {
            return Err(SettingsError::RecordTooSmall {
                record_bytes,
                command_bytes: largest,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Settings::default().validate(4 << 20), Ok(()));
    }

    #[test]
    fn a_record_that_cannot_hold_the_largest_command_is_refused() {
        let refused = Settings::default().validate(1 << 20);
        assert!(matches!(refused, Err(SettingsError::RecordTooSmall { .. })));
    }

    #[test]
    fn a_setting_out_of_bounds_is_named() {
        let mut settings = Settings::default();
        settings.batch.commands_max = 0;
        let refused = settings.validate(4 << 20);
        assert!(matches!(
            refused,
            Err(SettingsError::OutOfRange {
                name: "batch.max_commands",
                actual: 0,
                ..
            })
        ));
    }
}
