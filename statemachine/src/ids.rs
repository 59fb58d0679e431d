//! The numbers by which a shard's state is addressed.

use std::fmt;

/// Logical time of one namespace in one shard. Every command that changes something takes the next one; it grows
/// and may skip. Zero is the time before the first change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A keyspace with its own revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId(pub u32);

/// Milliseconds of a shard's own clock, stamped by its leader in every batch. It is not the time of day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardTime(pub u64);

impl Revision {
    /// The revision that the next change takes.
    #[must_use]
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

impl NamespaceId {
    /// The cluster's own records. Clients do not write it.
    pub const CLUSTER: NamespaceId = NamespaceId(0);
    /// The namespace of clients that name none.
    pub const DEFAULT: NamespaceId = NamespaceId(1);
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for ShardTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ms", self.0)
    }
}
