//! Replicas that take no part in their group, because what they hold is damaged or not to be trusted.
//!
//! It does **not** repair them: see `repairing`.
//!
//! A replica in quarantine neither votes nor acknowledges nor campaigns nor answers; the others on its core go on. Others
//! lead meanwhile, where a quorum is left.

use metastore_wal::LogIndex;

use super::{Committed, Replica, Turn, fail_commands};
use crate::request::{Happened, RequestError};
use crate::status::Role;

/// Why a replica takes no part in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Quarantine {
    /// After the same entries its state is not that of its leader. Nobody knows which of the two is right: a person must
    /// compare them.
    #[error(
        "its state after entry {index} has the hash {here:016x}, that of its leader {leader:016x}"
    )]
    StateDiffers {
        /// The last entry that both had applied.
        index: LogIndex,
        /// The hash of the state here.
        here: u64,
        /// What the leader says.
        leader: u64,
    },
    /// Entries that were durable cannot be read any more. A snapshot of another replica takes the place of everything.
    #[error("entries of its log are damaged or lost")]
    LogDamaged,
    /// The file of its snapshot cannot be loaded. A snapshot of another replica takes the place of everything.
    #[error("its snapshot is damaged or lost")]
    SnapshotDamaged,
    /// Its newest term and vote cannot be read any more, and nobody else knows them. It never takes part again: another
    /// replica, with another id, must take its place.
    #[error("its newest term and vote are lost, it must be replaced")]
    PromisesLost,
}

impl Replica {
    /// Whether it takes no part.
    pub(crate) fn is_quarantined(&self) -> bool {
        self.quarantine.is_some()
    }

    /// From now on it takes no part. Whoever waits for it is told that nobody knows what became of what they asked for.
    pub(super) fn enter_quarantine(&mut self, turn: &mut Turn<'_>, why: Quarantine) {
        slog::error!(self.logger, "the replica is in quarantine"; "why" => %why);
        self.quarantine = Some(why);
        // It has to ask whether it is a member still.
        self.wake();
        self.role = Role::Follower;
        self.serving_term = None;
        self.on_lead_lost(turn);
        let error = RequestError::Unavailable {
            shard: self.shard,
            happened: Happened::Unknown,
        };
        for lost in self.proposals.take_from(0) {
            fail_commands(lost.pending, &error, turn);
        }
        let error = RequestError::Unavailable {
            shard: self.shard,
            happened: Happened::NotDone,
        };
        let pending = self.open.abandon();
        fail_commands(pending, &error, turn);
        self.reads.fail_all(&error, turn.answers, turn.out);
        self.parts.fail_all(turn.answers);
        // What it would still say promises what it may not keep.
        self.outbox.clear();
        self.committed = Committed::default();
        self.abandon_install();
        self.end_export();
        self.served.clear();
    }
}
