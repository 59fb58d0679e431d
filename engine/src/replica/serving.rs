//! Snapshots that a leader has offered to followers, until they have them or are not heard of any more.

use metastore_wal::ReplicaId;
use raft::{ProgressState, SnapshotStatus};

use super::Replica;
use crate::ids::{SnapshotId, Time};

/// How many election timeouts long a follower may ask for nothing before it is offered a snapshot anew: it may have lost
/// the offer.
const PATIENCE_ELECTIONS: u64 = 4;

/// A snapshot that a follower was offered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Served {
    to: ReplicaId,
    snapshot: SnapshotId,
    heard_at: Time,
    purpose: Purpose,
}

/// Why a replica was offered a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// raft found that it lags, and waits for word of it.
    CatchUp,
    /// It is in quarantine, and raft knows nothing of it.
    Repair,
}

impl Replica {
    /// Whether a follower may be fetching a snapshot.
    pub(super) fn serves_snapshots(&self) -> bool {
        !self.served.is_empty()
    }

    /// Whether a follower may be fetching this snapshot.
    pub(crate) fn serves(&self, snapshot: SnapshotId) -> bool {
        self.served.iter().any(|served| served.snapshot == snapshot)
    }

    /// A follower is being offered the newest snapshot.
    pub(super) fn on_offered(&mut self, now: Time, to: ReplicaId) {
        self.serve(now, to, Purpose::CatchUp);
    }

    /// A replica in quarantine is being offered the newest snapshot.
    pub(super) fn on_repair_offered(&mut self, now: Time, to: ReplicaId) {
        self.serve(now, to, Purpose::Repair);
    }

    fn serve(&mut self, now: Time, to: ReplicaId, purpose: Purpose) {
        let Some(snapshot) = self.last_snapshot_id() else {
            return;
        };
        self.served.retain(|served| served.to != to);
        self.served.push(Served {
            to,
            snapshot,
            heard_at: now,
            purpose,
        });
    }

    /// A replica asks for a chunk of a snapshot.
    pub(crate) fn on_chunk_request(&mut self, now: Time, from: ReplicaId, snapshot: SnapshotId) {
        let same = |served: &&mut Served| (served.to, served.snapshot) == (from, snapshot);
        if let Some(served) = self.served.iter_mut().find(same) {
            served.heard_at = now;
        }
    }

    /// Forgets followers that have what they were offered, and tells raft of those that ask for nothing: it waits for
    /// word of every snapshot.
    pub(super) fn expire_served(&mut self, now: Time, election_ms: u64) {
        for served in std::mem::take(&mut self.served) {
            let progress = self.node.raft.prs().get(served.to.0);
            let is_fetching = progress.is_some_and(|to| to.state == ProgressState::Snapshot);
            if !is_fetching && served.purpose == Purpose::CatchUp {
                continue;
            }
            if now.millis_since(served.heard_at) < PATIENCE_ELECTIONS * election_ms {
                self.served.push(served);
            } else if is_fetching {
                // One that was repaired meanwhile has another one, of which raft hears nothing.
                self.node
                    .report_snapshot(served.to.0, SnapshotStatus::Failure);
            }
        }
    }
}
