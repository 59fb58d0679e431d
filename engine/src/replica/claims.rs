//! Which replica should lead a shard, and how it comes to.
//!
//! Who should lead follows from where the voters live, so that leaders are spread over nodes and cores. Whoever it is
//! asks the leader for it when it feels well; the leader hands over when that one has all of the log, nothing stands in
//! the way, and it should not lead itself. Only the one who asks knows how its disk does, and that it did not just start.

use metastore_wal::ReplicaId;
use raft::ProgressState;

use super::Replica;
use crate::ids::Time;
use crate::peer::PeerCore;
use crate::status::Role;

/// How long a leader leads at least: whoever was just elected, or was just given the lead, is left alone.
const REIGN_MS: u64 = 5_000;
/// Claims without success double the time to the next, up to so many doublings.
const DOUBLINGS_MAX: u32 = 7;

/// A voter's wish to lead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    by: ReplicaId,
    /// Ticks until it is forgotten.
    left_ticks: u64,
}

/// What a replica has done to lead itself.
#[derive(Debug, Default)]
pub(super) struct Ambition {
    /// The next beat carries its claim.
    must_claim: bool,
    /// Claims in a row that led to nothing.
    failed: u32,
    /// Calls of [`Replica::claims_lead`] until it may claim again.
    wait: u32,
    /// When it began to lead.
    leads_since: Time,
    /// When it last tried to hand over because its disk is slow, or a later term was needed.
    left_at: Option<Time>,
    /// Where the shard stands among those of its core.
    rank: usize,
}

impl Replica {
    /// Which voter should lead: with each further shard of a core the next one, in the order of where they live, and
    /// with each further core too. Cores that hold the same shards agree about it; where they do not, a leader that takes
    /// itself for the right one stays.
    fn preferred_leader(&self) -> Option<ReplicaId> {
        let members = self.node.store().members();
        let mut voters: Vec<_> = members
            .conf_state()
            .get_voters()
            .iter()
            .filter_map(|&id| Some((members.home_of(ReplicaId(id))?, ReplicaId(id))))
            .collect();
        voters.sort_unstable();
        let core = voters.first().map_or(0, |(home, _)| home.core.0);
        let turn = self.ambition.rank + usize::from(core);
        voters.get(turn % voters.len().max(1)).map(|&(_, id)| id)
    }

    /// Asks the leader for the lead, if this replica should have it and does not ask too often; says whether it asks.
    /// `rank` is where its shard stands among those of its core; `is_no_loss` says whether this core should lead rather
    /// than another.
    pub(crate) fn claims_lead(
        &mut self,
        rank: usize,
        is_no_loss: impl Fn(PeerCore) -> bool,
    ) -> bool {
        self.ambition.rank = rank;
        if self.role == Role::Leader {
            (self.ambition.failed, self.ambition.wait) = (0, 0);
        }
        if !self.follows() || self.preferred_leader() != Some(self.id) || !self.is_well() {
            return false;
        }
        if !self.leader_home().is_some_and(is_no_loss) {
            return false;
        }
        if self.ambition.wait > 0 {
            self.ambition.wait -= 1;
            return false;
        }
        self.ambition.wait = 1 << self.ambition.failed;
        self.ambition.failed = (self.ambition.failed + 1).min(DOUBLINGS_MAX);
        self.ambition.must_claim = true;
        true
    }

    /// Whether it could lead at once: its log holds what it knows of, and is durable and applied.
    fn is_well(&self) -> bool {
        let log = &self.node.raft.raft_log;
        !self.membership().is_joint()
            && !self.is_disk_hung
            && self.installing.is_none()
            && log.applied() == log.committed
    }

    pub(super) fn takes_claim(&mut self) -> bool {
        std::mem::take(&mut self.ambition.must_claim)
    }

    /// A voter would like to lead.
    pub(super) fn on_claim(&mut self, by: ReplicaId) {
        if self.role == Role::Leader {
            let left_ticks = self.node.raft.election_timeout() as u64;
            self.claim = Some(Claim { by, left_ticks });
        }
    }

    /// It has just begun to lead.
    pub(super) fn begin_reign(&mut self, now: Time) {
        (self.ambition.leads_since, self.ambition.left_at) = (now, None);
    }

    /// Whether a leader has led so long that it may hand over without need.
    pub(super) fn has_reigned(&self, now: Time) -> bool {
        now.millis_since(self.ambition.leads_since) >= REIGN_MS
    }

    /// Whether it may try to hand over although nobody asked for the lead; it has tried then. One try costs the proposals
    /// of an election timeout when nothing comes of it, so they are apart like reigns.
    pub(super) fn may_leave_again(&mut self, now: Time) -> bool {
        let is_early = |left_at: Time| now.millis_since(left_at) < REIGN_MS;
        let may = !self.ambition.left_at.is_some_and(is_early);
        if may {
            self.ambition.left_at = Some(now);
        }
        may
    }

    /// Forgets a claim that could not be served for an election timeout.
    pub(super) fn expire_claim(&mut self, ticks: u64) {
        if let Some(claim) = &mut self.claim {
            claim.left_ticks = claim.left_ticks.saturating_sub(ticks);
        }
        self.claim.take_if(|claim| claim.left_ticks == 0);
    }

    /// Hands over to whoever asked for it, in the moment in which that one has everything.
    pub(super) fn serve_claim(&mut self, now: Time) {
        let Some(claim) = self.claim else {
            return;
        };
        if self.role != Role::Leader || self.preferred_leader() == Some(self.id) {
            self.claim = None;
            return;
        }
        let raft = &self.node.raft;
        let is_voter = raft.prs().conf().voters().contains(claim.by.0);
        let is_settled = self.has_reigned(now)
            && !raft.has_pending_conf()
            && raft.lead_transferee.is_none()
            && !self.is_changing()
            && !self.membership().is_joint();
        let has_everything = raft.prs().get(claim.by.0).is_some_and(|progress| {
            progress.recent_active
                && progress.state != ProgressState::Snapshot
                && progress.matched == raft.raft_log.last_index()
        });
        if self.is_serving() && is_voter && is_settled && has_everything {
            self.claim = None;
            self.node.transfer_leader(claim.by.0);
        }
    }
}
