//! Who belongs to the group and who does no more: whom a replica listens to, whom it tells that it is gone, and what
//! becomes of itself when it is.
//!
//! A replica that was removed hears so from a member. It is fenced: nothing leaves it any more and nobody is answered. Its
//! core does the rest.

use std::collections::BTreeMap;

use metastore_wal::{Log, Part, PartBody, Position, ReplicaId, Term};

use super::{Committed, Replica, Turn, fail_commands, to_log_hard_state};
use crate::membership::{Member, Membership};
use crate::peer::{Notice, NoticeKind, PeerCore};
use crate::request::{Happened, RequestError};
use crate::status::Role;

/// Election timeouts without a leader after which a replica asks whether it is a member still.
const LEADERLESS_ELECTIONS: usize = 3;
/// Homes of replicas that joined later than the members are known here, at most.
const STRANGERS_MAX: usize = 64;

/// Whether a replica takes part in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Life {
    /// It does, or waits to join.
    #[default]
    Lives,
    /// It has learned that it is no member any more.
    Removed,
    /// It does nothing any more.
    Fenced,
}

/// What a replica knows about belonging to its group, beside the members.
#[derive(Debug, Default)]
pub(super) struct Belonging {
    pub(super) life: Life,
    /// Ticks that passed in quarantine, of which raft does not hear.
    quarantined_ticks: usize,
    /// Where replicas live that joined later than the members are known here.
    strangers: BTreeMap<ReplicaId, PeerCore>,
}

impl Replica {
    /// Whether it does nothing any more, and is to be removed.
    pub(crate) fn is_fenced(&self) -> bool {
        self.belonging.life == Life::Fenced
    }

    /// Whether its shard depends on it: it is neither about to join nor to go.
    pub(crate) fn is_member(&self) -> bool {
        // Its own log may say that it is gone, before anybody tells it. One that knows nobody waits to join.
        self.belonging.life == Life::Lives && self.membership().home_of(self.id).is_some()
    }

    /// Asks the others whether it is a member still, when it has not heard of a leader for long: whoever was removed
    /// while it was away is told by nobody. One that votes need not ask: it is told when it asks for votes. One in
    /// quarantine asks for none, and hears nobody.
    pub(super) fn ask_whether_member(&mut self, turn: &mut Turn<'_>) {
        // raft counts the ticks since a leader was heard of.
        let silent_ticks = match self.is_quarantined() {
            true => {
                self.belonging.quarantined_ticks += 1;
                self.belonging.quarantined_ticks
            }
            false if self.node.raft.promotable() => return,
            false => self.node.raft.election_elapsed,
        };
        let patience_ticks = LEADERLESS_ELECTIONS * turn.settings.raft.election_ticks;
        if silent_ticks > 0 && silent_ticks.is_multiple_of(patience_ticks) {
            self.ask_others(turn);
        }
    }

    /// Asks all others that it knows whether it is a member still.
    pub(crate) fn ask_others(&self, turn: &mut Turn<'_>) {
        for other in self.others_known() {
            self.send_notice(turn, other, NoticeKind::Question);
        }
    }

    /// The other members, and those who joined later than the members are known here.
    pub(super) fn others_known(&self) -> Vec<Member> {
        let strangers = self.belonging.strangers.iter();
        let strangers = strangers.map(|(&replica, &home)| Member { replica, home });
        let members = self.membership().others(self.id).copied();
        members.chain(strangers).collect()
    }

    pub(super) fn send_notice(&self, turn: &mut Turn<'_>, to: Member, kind: NoticeKind) {
        // One that does not leave is said again when somebody asks.
        if let Some(notice) = self.notice_to(to.replica, kind, turn.log.durable_position()) {
            turn.peers.push_notice(to.home, &notice, turn.out);
        }
    }

    /// What it has to tell another replica of its shard about its membership, once its term is durable.
    pub(crate) fn notice_to(
        &self,
        to: ReplicaId,
        kind: NoticeKind,
        durable: Position,
    ) -> Option<Notice> {
        // raft may have a newer term that is not staged yet.
        let term = Term(self.node.store().hard_state().term);
        // Whoever never had a term may ask.
        let may_speak =
            self.outbox.may_speak(durable) && (term > Term(0) || kind == NoticeKind::Question);
        may_speak.then_some(Notice {
            kind,
            shard: self.shard,
            from: self.id,
            to,
            term,
        })
    }

    /// Where a replica lives, a member or one that joined later than the members are known here.
    pub(super) fn home_of(&self, replica: ReplicaId) -> Option<PeerCore> {
        let stranger = || self.belonging.strangers.get(&replica).copied();
        self.membership().home_of(replica).or_else(stranger)
    }

    /// Remembers where a replica lives that is newer than the members known here.
    pub(super) fn meet(&mut self, stranger: Member) {
        let strangers = &mut self.belonging.strangers;
        strangers.insert(stranger.replica, stranger.home);
        if strangers.len() > STRANGERS_MAX {
            strangers.pop_first();
        }
    }

    /// The members have changed: strangers may be among them, and others gone.
    pub(super) fn forget_strangers(&mut self) {
        let newest = self.membership().newest();
        self.belonging
            .strangers
            .retain(|&replica, _| replica > newest);
        let members = self.node.store().members();
        self.watching
            .keep(|replica| members.home_of(replica).is_some());
    }

    /// Those who were members before and are none any more, this replica left out.
    pub(super) fn gone_since(&self, before: &Membership) -> Vec<Member> {
        let members = before.members().iter().copied();
        let is_gone = |member: &Member| {
            let is_member = self.membership().home_of(member.replica).is_some();
            !is_member && member.replica != self.id
        };
        members.filter(is_gone).collect()
    }

    /// A member says that this replica is none.
    pub(crate) fn on_removed(&mut self) {
        if self.belonging.life == Life::Lives {
            slog::info!(self.logger, "told that it is no member any more"; "replica" => self.id.0);
            self.belonging.life = Life::Removed;
        }
    }

    /// A replica that never became a member goes; `false` when it is one, or may be.
    pub(crate) fn discard(&mut self) -> bool {
        let is_waiting = self.membership().is_unknown() && self.installing.is_none();
        if is_waiting {
            self.on_removed();
        }
        is_waiting || self.belonging.life != Life::Lives
    }

    /// Its own log says that it is no member any more. raft must not lead for a moment longer: it looks for itself among
    /// the members, and stops the process where it is not. It goes on to vote until it is told: those who do not know yet
    /// that it is gone may need its vote.
    pub(super) fn on_own_removal(&mut self) {
        slog::info!(self.logger, "removed from its group"; "replica" => self.id.0);
        if self.role == Role::Leader {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, 0);
        }
    }

    /// Does nothing any more, once nothing is being installed; `false` when it goes on.
    pub(super) fn fence_if_removed(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.belonging.life == Life::Removed {
            self.abandon_install();
        }
        match self.belonging.life {
            Life::Lives => return false,
            Life::Fenced => return true,
            Life::Removed if self.installing.is_some() => return false,
            Life::Removed => {}
        }
        self.on_lead_lost(turn);
        let not_leader = self.not_leader();
        let pending = self.open.abandon();
        fail_commands(pending, &not_leader, turn);
        let unknown = RequestError::Unavailable {
            shard: self.shard,
            happened: Happened::Unknown,
        };
        for lost in self.proposals.take_from(0) {
            fail_commands(lost.pending, &unknown, turn);
        }
        self.reads.fail_all(&not_leader, turn.answers, turn.out);
        self.parts.fail_all(turn.answers);
        self.committed = Committed::default();
        self.outbox.clear();
        self.served.clear();
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, 0);
        self.role = Role::Follower;
        self.serving_term = None;
        self.belonging.life = Life::Fenced;
        true
    }

    /// Whether nothing of it is under way, as far as it knows itself.
    pub(crate) fn is_settled(&self) -> bool {
        self.unpersisted.is_empty() && self.reading.is_none() && self.exporting.is_none()
    }

    /// Says nothing before what is staged at `position` is durable.
    pub(crate) fn wait_for(&mut self, position: Position) {
        self.outbox.on_promise(position);
    }

    /// Says in the log that it is gone for good.
    pub(crate) fn stage_tombstone(&self, log: &mut Log) -> Position {
        log.stage(Part {
            replica: self.id,
            shard: self.shard,
            hard_state: to_log_hard_state(self.node.store().hard_state()),
            body: PartBody::Tombstone,
        })
    }
}
