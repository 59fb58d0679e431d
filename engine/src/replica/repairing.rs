//! How a replica in quarantine gets back what it lost: another's snapshot takes the place of everything.
//!
//! ```text
//!   in quarantine                          leader, in a term that is not below ours
//!     how far must a snapshot go? ─────>
//!     <───── to the end of my log                as of now; it holds whatever we have helped to commit
//!     I need one up to there ─────>              takes one, once that much is applied
//!     <───── offer                               fetched, checked and written like any other
//!     record durable: whole again
//! ```
//!
//! A leader of an earlier term lets another lead in a later one.
//!
//! Why that is enough: what this replica has acknowledged, it has acknowledged to leaders of terms up to its own, which it
//! knows. A leader of a later term holds everything that was committed before its term. A leader of the same term holds
//! everything that this replica has acknowledged to it, and counts on it: so the snapshot must go to the end of its log.
//! It does not matter whether the leader has been deposed meanwhile. A replica that does not know its own term can
//! rely on none of this, and never comes back.

use metastore_statemachine::ShardTime;
use metastore_wal::{HardState, LogIndex, Part, PartBody, ReplicaId, Term};
use raft::eraftpb::{Message, MessageType};

use super::recovering::new_node;
use super::snapshots::LastSnapshot;
use super::tail::EntryTail;
use super::{Committed, Outbox, Replica, ShardClock, Turn};
use crate::ids::Time;
use crate::membership::Member;
use crate::peer::{PeerCore, RepairMessage, SnapshotOffer, life_of};
use crate::status::Role;

/// How often a replica asks.
const ASK_INTERVAL_MS: u64 = 100;

/// How far a snapshot must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    leader: ReplicaId,
    term: Term,
    index: LogIndex,
}

/// A replica in quarantine that knows what it has promised.
#[derive(Debug)]
pub(super) struct Repair {
    promised: HardState,
    target: Option<Target>,
    asked_at: Option<Time>,
}

impl Repair {
    pub(super) fn new(promised: HardState) -> Repair {
        Repair {
            promised,
            target: None,
            asked_at: None,
        }
    }
}

impl Replica {
    // ---- In quarantine ----

    /// Brings the repair forward.
    pub(super) fn drive_repair(&mut self, turn: &mut Turn<'_>) {
        if self.repair.is_none() {
            return;
        }
        let durable = turn.log.durable_position();
        match self.installing_position() {
            None => self.ask_for_repair(turn),
            Some(None) => self.stage_repair(turn),
            Some(Some(position)) if position <= durable => self.complete_repair(turn),
            Some(Some(_)) => {}
        }
    }

    fn ask_for_repair(&mut self, turn: &mut Turn<'_>) {
        let Some(repair) = &mut self.repair else {
            return;
        };
        let is_early = repair
            .asked_at
            .is_some_and(|asked_at| turn.now.millis_since(asked_at) < ASK_INTERVAL_MS);
        // Without a term it has promised nothing and lost nothing that can be asked for.
        if is_early || !turn.log.is_ready() || repair.promised.term == Term(0) {
            return;
        }
        repair.asked_at = Some(turn.now);
        let (index, known_term) = match repair.target {
            Some(target) => (target.index, target.term),
            None => (LogIndex(0), Term(0)),
        };
        let term = repair.promised.term;
        // Nobody has told us who leads, so all are asked; who does not lead does not answer.
        for member in self.others_known() {
            let message = RepairMessage {
                shard: self.shard,
                from: self.id,
                to: member.replica,
                term,
                index,
                known_term,
                life: life_of(self.boot),
            };
            turn.peers
                .push_repair_request(member.home, &message, turn.out);
        }
    }

    /// A leader says how far a snapshot must go.
    pub(crate) fn on_repair_target(&mut self, answer: &RepairMessage) {
        let Some(repair) = &mut self.repair else {
            return;
        };
        // Since an answer to an earlier life it may have been repaired, have acknowledged more, and lost that.
        if answer.life != life_of(self.boot) {
            return;
        }
        let newest = repair
            .target
            .map_or(repair.promised.term, |target| Term(target.term.0 + 1));
        if answer.term < newest || answer.index < repair.promised.commit {
            return;
        }
        repair.target = Some(Target {
            leader: answer.from,
            term: answer.term,
            index: answer.index,
        });
        // It is asked for at once.
        repair.asked_at = None;
    }

    /// Whether a replica in quarantine may become what is offered.
    pub(crate) fn is_repaired_by(&self, source: &Member, offer: &SnapshotOffer) -> bool {
        let target = self.repair.as_ref().and_then(|repair| repair.target);
        target.is_some_and(|target| {
            (target.leader, target.term) == (source.replica, offer.term)
                && offer.snapshot.index >= target.index
        })
    }

    /// The file is here: its record takes the place of everything.
    fn stage_repair(&mut self, turn: &mut Turn<'_>) {
        let offer = self.offer_installed().expect("its file is here");
        let repair = self.repair.as_mut().expect("it is being repaired");
        let promised = repair.promised;
        let term = promised.term.max(offer.term);
        // In a later term we have not voted.
        let vote = match term == promised.term {
            true => promised.vote,
            false => ReplicaId(0),
        };
        assert!(
            offer.snapshot.index >= promised.commit,
            "what is known to be committed is in the log of every later leader"
        );
        repair.promised = HardState {
            term,
            vote,
            commit: offer.snapshot.index,
        };
        let position = turn.log.stage(Part {
            replica: self.id,
            shard: self.shard,
            hard_state: repair.promised,
            body: PartBody::Snapshot {
                index: offer.snapshot.index,
                term: offer.snapshot.term,
                members: offer.members.encode(),
            },
        });
        let replaces = self.last_snapshot_id();
        let replaces = replaces.filter(|replaced| *replaced != offer.snapshot);
        self.set_install_staged(position, replaces);
    }

    /// The record is durable: the replica is whole, and takes part again.
    fn complete_repair(&mut self, turn: &mut Turn<'_>) {
        let repair = self.repair.take().expect("it is being repaired");
        let installed = self.take_installed().expect("its file is here");
        let (offer, index) = (installed.offer, installed.index);
        let mut tail = EntryTail::after_snapshot(
            index.0,
            offer.snapshot.term.0,
            offer.members,
            turn.settings.raft.tail_bytes_max,
        );
        let mut hard_state = raft::eraftpb::HardState::default();
        hard_state.set_term(repair.promised.term.0);
        hard_state.set_vote(repair.promised.vote.0);
        hard_state.set_commit(repair.promised.commit.0);
        tail.set_hard_state(hard_state);
        tail.set_snapshot_file(offer.file_bytes);
        self.node = new_node(self.id, index.0, tail, &turn.settings.raft, &self.logger);
        assert!(self.unpersisted.is_empty(), "it wrote nothing meanwhile");
        (self.ready_last, self.ready_persisted) = (0, 0);
        self.outbox = Outbox::default();
        self.committed = Committed::default();
        (self.state, self.state_index) = (installed.state, index);
        self.state_checks.forget();
        self.forget_strangers();
        self.take_members_as_of(index.0);
        self.clock = ShardClock {
            stamp: ShardTime(0),
            stamped_at: turn.now,
        };
        (self.role, self.reign) = (Role::Follower, (0, 0));
        self.replaced_snapshot = installed.replaces;
        self.last_snapshot = LastSnapshot {
            bytes: offer.file_bytes,
            taken_at: installed.began_at,
            log_bytes: 0,
        };
        turn.log.set_first_index(self.id, index.next());
        self.quarantine = None;
        self.repairs += 1;
        self.seed_election_timeout();
        slog::warn!(self.logger, "the replica is whole again"; "index" => index.0);
    }

    // ---- The leader ----

    /// A replica in quarantine asks how far a snapshot must go, or for one that goes so far.
    pub(crate) fn on_repair_request(
        &mut self,
        turn: &mut Turn<'_>,
        home: PeerCore,
        request: &RepairMessage,
    ) {
        let term = self.term();
        // What a leader has applied of its own term is behind everything that was committed before it.
        if !self.is_serving() || self.is_quarantined() {
            return;
        }
        if request.term > term {
            self.make_way_for_later_term(turn.now, request.from);
            return;
        }
        let last = self.node.raft.raft_log.last_index();
        let is_agreed =
            request.known_term == term && request.index.0 > 0 && request.index.0 <= last;
        if !is_agreed {
            let answer = RepairMessage {
                shard: self.shard,
                from: self.id,
                to: request.from,
                term,
                index: LogIndex(last),
                known_term: term,
                life: request.life,
            };
            turn.peers.push_repair_target(home, &answer, turn.out);
            return;
        }
        let store = self.node.store();
        match store.offer() {
            Some(snapshot) if store.snapshot().0 >= request.index.0 => {
                let mut offer = Message::default();
                offer.set_msg_type(MessageType::MsgSnapshot);
                offer.from = self.id.0;
                offer.to = request.from.0;
                offer.term = term.0;
                offer.set_snapshot(snapshot);
                self.on_repair_offered(turn.now, request.from);
                turn.peers.push(home, self.shard, &offer, turn.out);
            }
            Some(_) | None => self.want_snapshot_to(request.index),
        }
    }

    /// A damaged member has promised something in a later term, of which nobody else knows: a leader of this one cannot
    /// repair it, and would reign on. It lets another lead, in a later term, until there is one that can.
    ///
    /// Only members can ask, and only a leader that has led for a while gives way, whatever term it is told: a message of
    /// raft with a later term would end its reign at once, and leave nobody in its place.
    fn make_way_for_later_term(&mut self, now: Time, damaged: ReplicaId) {
        let is_member = self.membership().home_of(damaged).is_some();
        if is_member && self.hand_over_but_to(now, damaged) {
            slog::warn!(self.logger, "a later term is needed to repair a replica"; "replica" => damaged.0);
        }
    }

    /// A snapshot is wanted that covers everything up to `index`: the log cannot give it back.
    pub(crate) fn want_snapshot_to(&mut self, index: LogIndex) {
        let wanted = self.repair_wants.unwrap_or_default();
        self.repair_wants = Some(wanted.max(index));
    }

    /// Whether others belong to its group.
    pub(crate) fn has_peers(&self) -> bool {
        self.node.store().members().others(self.id).next().is_some()
    }

    /// Whether a snapshot is waited for that goes further than the newest, and what is applied does.
    pub(super) fn is_repair_snapshot_due(&self) -> bool {
        let (snapshot_index, _) = self.node.store().snapshot();
        self.repair_wants
            .is_some_and(|wanted| snapshot_index < wanted.0 && wanted <= self.state_index)
    }
}
