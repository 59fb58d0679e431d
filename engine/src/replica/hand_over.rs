//! Handing the lead over to another voter, so that a shard does not wait for an election when its leader stops.

use metastore_wal::ReplicaId;
use raft::{Progress, ProgressState};

use super::Replica;
use crate::status::Role;

impl Replica {
    /// Hands the lead over to a voter, or to whoever is best for it; `false` when there is none, or it does not lead.
    ///
    /// raft takes no proposals until the other leads, or an election timeout has passed.
    pub(crate) fn hand_over(&mut self, to: Option<ReplicaId>) -> bool {
        let raft = &self.node.raft;
        // Who has a committed change of members still to apply does not campaign.
        if self.role != Role::Leader || raft.lead_transferee.is_some() || raft.has_pending_conf() {
            return false;
        }
        let able = |replica: &ReplicaId| self.can_lead(*replica);
        let Some(successor) = to.filter(able).or_else(|| self.choose_successor()) else {
            return false;
        };
        self.wake();
        self.node.transfer_leader(successor.0);
        true
    }

    /// A write of the log does not come back, or does again. Who leads in a group gives up its lead; says whether it did.
    pub(crate) fn set_disk_hung(&mut self, is_hung: bool) -> bool {
        self.is_disk_hung = is_hung && !self.is_sole_voter();
        if !self.is_disk_hung || self.is_quarantined() || self.role != Role::Leader {
            return false;
        }
        slog::warn!(self.logger, "the disk hangs: others shall lead");
        // Followers that sleep would go on sleeping, since this core is there: a last heartbeat wakes them, and then
        // they miss the next.
        self.wake();
        self.node.ping();
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, raft::INVALID_ID);
        self.seed_election_timeout();
        true
    }

    /// Whether it leads, others could, and nobody waits for it.
    pub(crate) fn may_hand_over(&self) -> bool {
        self.role == Role::Leader && self.is_quiet() && !self.is_sole_voter()
    }

    /// The voter that has most of the log; of several, the one with the lowest id.
    fn choose_successor(&self) -> Option<ReplicaId> {
        let members = self.node.store().members();
        let voters = members.conf_state().get_voters().iter();
        voters
            .map(|&id| ReplicaId(id))
            .filter(|replica| self.can_lead(*replica))
            .max_by_key(|replica| {
                (
                    self.progress(*replica).matched,
                    std::cmp::Reverse(replica.0),
                )
            })
    }

    /// Whether a voter was heard of lately and follows closely.
    fn can_lead(&self, replica: ReplicaId) -> bool {
        // In a joint state one that stays.
        let is_voter = self.membership().is_voter(replica);
        let is_close = |progress: &Progress| {
            progress.recent_active && progress.state == ProgressState::Replicate
        };
        replica != self.id && is_voter && is_close(self.progress(replica))
    }

    fn progress(&self, replica: ReplicaId) -> &Progress {
        let progress = self.node.raft.prs().get(replica.0);
        progress.expect("a voter has progress")
    }
}
