//! The names of things in a log: each number has its own type, so that two of them are never mixed up.

use std::fmt;

macro_rules! id {
    ($(#[$attribute:meta])* $name:ident($inner:ty), $display:literal) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, $display, self.0)
            }
        }
    };
}

id!(
    /// A cluster, fixed when it is formatted.
    ClusterId(u128), "{:032x}"
);
id!(
    /// One server process of a cluster.
    NodeId(u32), "{}"
);
id!(
    /// One executor thread of a node, the owner of one log.
    CoreId(u16), "{}"
);
id!(
    /// One member of a shard. Allocated once and never reused; 0 names no replica.
    ReplicaId(u64), "{}"
);
id!(
    /// One raft group.
    ShardId(u32), "{}"
);
id!(
    /// A raft term.
    Term(u64), "{}"
);
id!(
    /// The index of an entry in the raft log of a replica. The first entry has index 1.
    LogIndex(u64), "{}"
);
id!(
    /// The place of a segment in the order of all segments a core ever began. The first is 1.
    SegmentSequence(u64), "{}"
);
id!(
    /// The place of a record in the order of all records of a core. The first is 1.
    RecordSequence(u64), "{}"
);
id!(
    /// The n of the file `log-<n>.seg`. It says nothing about the order of the segments in the files.
    FileNumber(u64), "{}"
);
id!(
    /// Names one write from its start to its completion.
    Ticket(u64), "{}"
);
id!(
    /// Counts the recoveries of a log: each begins a new epoch, and what it cut away stays void for ever.
    RecoveryEpoch(u64), "{}"
);

impl LogIndex {
    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl RecordSequence {
    /// The sequence of the record after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The secret of a log, from which the headers of its records are sealed. Clients never see it, so that no value of
/// theirs, wherever it comes to lie in a file, passes for a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SealKey(pub u64);

impl fmt::Debug for SealKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SealKey(secret)")
    }
}

/// Whose log it is. Every record and every mark carries it, so that a file that strayed from another node is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node within the cluster.
    pub node: NodeId,
    /// The core within the node.
    pub core: CoreId,
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "cluster {} node {} core {}",
            self.cluster, self.node, self.core
        )
    }
}
