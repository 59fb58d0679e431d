//! What replicas tell each other about being a member.

use metastore_wal::{ReplicaId, ShardId, Term};

/// What a notice says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeKind {
    /// The receiver is no member any more: a change that removed it is committed.
    Removed,
    /// Is the sender still one? Who knows that it is not answers; a leader is heard of anyway.
    Question,
}

/// A message that says all by its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) kind: NoticeKind,
    pub(crate) shard: ShardId,
    pub(crate) from: ReplicaId,
    pub(crate) to: ReplicaId,
    pub(crate) term: Term,
}
