//! Handing the lead over to another voter, so that a shard does not wait for an election when its leader stops.

use metastore_wal::ReplicaId;
use raft::{Progress, ProgressState};

use super::Replica;
use crate::core::{Other, Pace};
use crate::ids::Time;
use crate::status::Role;

impl Replica {
    /// Hands the lead over to a voter, or to whoever is best for it; `false` when it does not lead, or when that one
    /// cannot: nobody else takes the place of one that was asked for by name.
    ///
    /// raft takes no proposals until the other leads, or an election timeout has passed.
    pub(crate) fn hand_over(&mut self, to: Option<ReplicaId>) -> bool {
        let is_asked = |replica: ReplicaId| to.is_none_or(|to| to == replica);
        match self.choose_successor(is_asked) {
            Some(successor) => self.let_lead(successor),
            None => false,
        }
    }

    /// Hands the lead over to whoever is best for it, but not to this one; not as long as it has only begun to lead, or
    /// has only just tried.
    pub(super) fn hand_over_but_to(&mut self, now: Time, other: ReplicaId) -> bool {
        match self.choose_successor(|replica| replica != other) {
            Some(successor) if self.has_reigned(now) && self.may_leave_again(now) => {
                self.let_lead(successor)
            }
            Some(_) | None => false,
        }
    }

    /// The disk here is slow: hands over to whoever has a clearly faster one, or, where nobody knows, to whoever is best
    /// after a while. Where all disks are slow, the lead would go round and nothing be proposed meanwhile.
    pub(crate) fn leave_slow_disk(&mut self, now: Time, pace: &Pace<'_>) -> bool {
        let has_reigned = self.has_reigned(now);
        let is_better = |replica: ReplicaId| {
            let home = self.membership().home_of(replica);
            match home.map_or(Other::Unknown, |home| pace.of(home)) {
                Other::Faster => true,
                Other::NotFaster => false,
                Other::Unknown => has_reigned,
            }
        };
        match self.choose_successor(is_better) {
            Some(successor) => self.may_leave_again(now) && self.let_lead(successor),
            None => false,
        }
    }

    fn let_lead(&mut self, successor: ReplicaId) -> bool {
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

    /// Of the voters that may lead, the one that has most of the log; of several, the one with the lowest id. Nobody
    /// while it does not lead, or something else must come first.
    fn choose_successor(&self, may_lead: impl Fn(ReplicaId) -> bool) -> Option<ReplicaId> {
        let raft = &self.node.raft;
        // Who has a committed change of members still to apply does not campaign.
        if self.role != Role::Leader || raft.lead_transferee.is_some() || raft.has_pending_conf() {
            return None;
        }
        let voters = self.membership().conf_state().get_voters().iter();
        voters
            .map(|&id| ReplicaId(id))
            .filter(|&replica| may_lead(replica) && self.can_lead(replica))
            .max_by_key(|replica| {
                (
                    self.progress(*replica).matched,
                    std::cmp::Reverse(replica.0),
                )
            })
    }

    /// Whether a voter was heard of lately and follows closely. In a joint state one that stays.
    fn can_lead(&self, replica: ReplicaId) -> bool {
        let last = self.node.raft.raft_log.last_index();
        // After a lost connection one that has everything is probed until there is more.
        let is_close = |progress: &Progress| match progress.state {
            ProgressState::Replicate => true,
            ProgressState::Probe => progress.matched == last,
            ProgressState::Snapshot => false,
        };
        let progress = self.progress(replica);
        replica != self.id && progress.recent_active && is_close(progress)
    }

    fn progress(&self, replica: ReplicaId) -> &Progress {
        let progress = self.node.raft.prs().get(replica.0);
        progress.expect("a voter has progress")
    }
}
