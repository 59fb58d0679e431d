//! Identifiers and the time that cross the border of the core.

use std::fmt;

use metastore_wal::{LogIndex, ReplicaId, ShardId, Term};

/// Monotonic time of a node, in nanoseconds since a point that the driver chose at its start.
///
/// Only differences mean anything. The core never reads a clock: every call carries the time at which it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// The time `milliseconds` later; it saturates instead of wrapping.
    #[must_use]
    pub const fn plus_ms(self, milliseconds: u64) -> Time {
        Time(
            self.0
                .saturating_add(milliseconds.saturating_mul(1_000_000)),
        )
    }

    /// Nanoseconds from `earlier` to this time, zero when `earlier` is later.
    #[must_use]
    pub const fn nanos_since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole milliseconds from `earlier` to this time, zero when `earlier` is later.
    #[must_use]
    pub const fn millis_since(self, earlier: Time) -> u64 {
        self.nanos_since(earlier) / 1_000_000
    }
}

/// A client connection of one core. The driver never gives the same number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A request within its connection, chosen by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A number that differs between two starts of a process, so that nothing of an earlier life is taken for our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootNonce(pub u64);

/// Names one read of the log, from its start to its completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogReadTicket {
    pub(crate) replica: ReplicaId,
    pub(crate) number: u64,
}

/// Names one thing that was asked for the file of a snapshot, from its start to its completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotTicket(pub u64);

/// A snapshot of a shard, and with it the file that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// Its shard.
    pub shard: ShardId,
    /// The term of the last entry that it covers.
    pub term: Term,
    /// The index of the last entry that it covers.
    pub index: LogIndex,
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SnapshotId { shard, term, index } = self;
        write!(
            formatter,
            "the snapshot of shard {shard} at term {term}, index {index}"
        )
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "connection {}", self.0)
    }
}
