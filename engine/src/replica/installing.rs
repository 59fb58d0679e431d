//! A snapshot of another replica on its way to the place of our own state.
//!
//! ```text
//!   file complete, with its name ──> raft takes it ──> record staged ──> record durable ──> state replaced
//!     (a crash up to here starts from the old state and removes the file)       (a crash starts from the new one)
//! ```
//!
//! The old state answers until the record is durable.

use metastore_statemachine::StateMachine;
use metastore_wal::{LogIndex, Part, PartBody, Position, ReplicaId, Term};
use raft::eraftpb::{Message, MessageType, Snapshot};

use super::snapshots::LastSnapshot;
use super::{Committed, Replica, Turn, Unpersisted, fail_commands, to_log_hard_state};
use crate::ids::{SnapshotId, Time};
use crate::peer::SnapshotOffer;
use crate::request::{Happened, RequestError};

/// How many election timeouts long a snapshot waits for a leader that hears of it. Meanwhile its core fetches no other.
const PATIENCE_ELECTIONS: u64 = 4;

/// A snapshot that is being installed.
#[derive(Debug)]
pub(super) struct Installing {
    offer: SnapshotOffer,
    state: Box<StateMachine>,
    /// Where its record is staged; `None` until raft has taken it.
    position: Option<Position>,
    /// Our own snapshot, which it replaces.
    replaces: Option<SnapshotId>,
    began_at: Time,
}

/// A snapshot whose record is durable.
pub(super) struct Installed {
    pub(super) offer: SnapshotOffer,
    pub(super) index: LogIndex,
    pub(super) state: StateMachine,
    pub(super) replaces: Option<SnapshotId>,
    pub(super) began_at: Time,
}

impl Replica {
    // ---- For a replica in quarantine, which has no raft ----

    /// Where the record of the snapshot that is installed is staged, `Some(None)` while it is not, `None` without one.
    pub(super) fn installing_position(&self) -> Option<Option<Position>> {
        let installing = self.installing.as_ref();
        installing.map(|installing| installing.position)
    }

    /// What is being installed.
    pub(super) fn offer_installed(&self) -> Option<SnapshotOffer> {
        let installing = self.installing.as_ref();
        installing.map(|installing| installing.offer.clone())
    }

    /// Its record is staged.
    pub(super) fn set_install_staged(&mut self, position: Position, replaces: Option<SnapshotId>) {
        let installing = self.installing.as_mut().expect("it is being installed");
        (installing.position, installing.replaces) = (Some(position), replaces);
    }

    /// Takes what was installed.
    pub(super) fn take_installed(&mut self) -> Option<Installed> {
        self.installing.take().map(|installing| Installed {
            index: installing.offer.snapshot.index,
            offer: installing.offer,
            state: *installing.state,
            replaces: installing.replaces,
            began_at: installing.began_at,
        })
    }

    // ---- For all others ----

    /// Whether our own snapshot covers as much as another, or more.
    pub(crate) fn is_beyond(&self, snapshot: SnapshotId) -> bool {
        let (index, _) = self.node.store().snapshot();
        index >= snapshot.index.0
    }

    /// Whether a snapshot of another replica is being installed.
    pub(crate) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// Whether raft has taken a snapshot whose record is not durable.
    pub(super) fn is_install_staged(&self) -> bool {
        let installing = self.installing.as_ref();
        installing.is_some_and(|installing| installing.position.is_some())
    }

    /// The snapshot that the last one that was installed has replaced.
    pub(crate) fn take_replaced(&mut self) -> Option<SnapshotId> {
        self.replaced_snapshot.take()
    }

    /// Whether what an offered snapshot covers is here already, so that nothing needs to be fetched.
    pub(crate) fn needs_no_file(&self, offer: &SnapshotOffer) -> bool {
        let raft_log = &self.node.raft.raft_log;
        let SnapshotId { index, term, .. } = offer.snapshot;
        index.0 <= raft_log.committed || raft_log.match_term(index.0, term.0)
    }

    /// Whether an offered snapshot knows this replica. The first one of a replica that joins must know it as one that
    /// learns: a voter that knows nothing has lost what it promised, and must not come back. One that is repaired knows
    /// what it promised, even if it does not know the members any more.
    pub(crate) fn may_install(&self, offer: &SnapshotOffer) -> bool {
        match self.membership().is_unknown() && !self.is_quarantined() {
            true => offer.members.is_learner(self.id),
            false => offer.members.home_of(self.id).is_some(),
        }
    }

    /// Whether an offer comes from a leader that is no more.
    pub(crate) fn is_outdated(&self, offer: &SnapshotOffer) -> bool {
        offer.term.0 < self.node.raft.term
    }

    /// Passes an offer on to raft, for whom nothing needs to be fetched: the leader is told how far our log goes.
    pub(crate) fn answer_offer(&mut self, offer: &SnapshotOffer, from: ReplicaId) {
        assert!(self.needs_no_file(offer), "raft must not restore it");
        let message = self.to_message(offer, from, offer.term);
        if let Err(error) = self.node.step(message) {
            slog::debug!(self.logger, "raft refuses an offer"; "why" => %error);
        }
        self.seed_election_timeout();
    }

    fn to_message(&self, offer: &SnapshotOffer, from: ReplicaId, term: Term) -> Message {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgSnapshot);
        message.from = from.0;
        message.to = self.id.0;
        message.term = term.0;
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = offer.snapshot.index.0;
        metadata.term = offer.snapshot.term.0;
        metadata.set_conf_state(offer.members.conf_state().clone());
        message.set_snapshot(snapshot);
        message
    }

    /// Whether it would become what it fetched. One that was removed becomes nothing, and in quarantine for a state that
    /// differs it waits for a person.
    pub(crate) fn takes_snapshots(&self) -> bool {
        !self.is_fenced() && (!self.is_quarantined() || self.repair.is_some())
    }

    /// Gives up a snapshot that raft has not taken.
    pub(crate) fn abandon_install(&mut self) {
        self.installing
            .take_if(|installing| installing.position.is_none());
    }

    /// The file of an offered snapshot is here, and this is what it held.
    pub(crate) fn begin_install(&mut self, now: Time, offer: SnapshotOffer, state: StateMachine) {
        assert!(self.installing.is_none(), "one at a time");
        self.installing = Some(Installing {
            offer,
            state: Box::new(state),
            position: None,
            replaces: None,
            began_at: now,
        });
    }

    /// Brings the installation forward: gives the snapshot to raft, or takes its state once its record is durable.
    pub(super) fn drive_install(&mut self, turn: &mut Turn<'_>) {
        let Some(installing) = &self.installing else {
            return;
        };
        match installing.position {
            Some(position) if position <= turn.log.durable_position() => {
                self.complete_install(turn)
            }
            Some(_) => {}
            None => {
                // What raft has to say from before must not be mixed with the snapshot.
                while self.node.has_ready() {
                    self.handle_ready(turn);
                }
                self.give_to_raft();
                self.abandon_without_leader(turn);
            }
        }
    }

    fn abandon_without_leader(&mut self, turn: &Turn<'_>) {
        let raft = &turn.settings.raft;
        let patience_ns = PATIENCE_ELECTIONS * raft.election_ticks as u64 * turn.tick_ns;
        let is_late =
            |installing: &Installing| turn.now.nanos_since(installing.began_at) > patience_ns;
        if self.node.raft.leader_id == 0 && self.installing.as_ref().is_some_and(is_late) {
            self.abandon_install();
        }
    }

    fn give_to_raft(&mut self) {
        let Some(installing) = &self.installing else {
            return;
        };
        // Whoever leads now is told of it: what the snapshot covers is committed, whoever took it. Without a leader it
        // waits.
        let (leader, term) = (self.node.raft.leader_id, self.node.raft.term);
        if leader == 0 {
            return;
        }
        let is_of_use = !self.needs_no_file(&installing.offer);
        let message = self.to_message(&installing.offer, ReplicaId(leader), Term(term));
        let stepped = self.node.step(message);
        self.seed_election_timeout();
        let is_taken = stepped.is_ok() && self.node.snap().is_some();
        assert!(is_of_use || !is_taken, "raft restores only what is missing");
        if !is_taken {
            slog::info!(self.logger, "a snapshot is of no use any more");
            self.installing = None;
        }
    }

    /// raft has taken the snapshot: it has the place of our log, and its record is staged.
    pub(super) fn stage_install(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        ready_number: u64,
    ) -> Position {
        let replaces = self.last_snapshot_id();
        let installing = self.installing.as_mut();
        let installing = installing.expect("raft is given snapshots whose file is here");
        installing.replaces = replaces;
        let SnapshotId { index, term, .. } = installing.offer.snapshot;
        assert_eq!(snapshot.get_metadata().index, index.0, "it is that one");
        let (members, file_bytes) = (&installing.offer.members, installing.offer.file_bytes);
        let store = self.node.mut_store();
        store.restore(index.0, term.0, members.clone(), file_bytes);
        self.forget_strangers();
        let store = self.node.store();
        let installing = self.installing.as_mut();
        let installing = installing.expect("it is there still");
        let members = &installing.offer.members;
        let position = turn.log.stage(Part {
            replica: self.id,
            shard: self.shard,
            hard_state: to_log_hard_state(store.hard_state()),
            body: PartBody::Snapshot {
                index,
                term,
                members: members.encode(),
            },
        });
        installing.position = Some(position);
        self.unpersisted.push_back(Unpersisted {
            position,
            ready_number,
            first_index: 0,
            last_index: index.0,
        });
        // What was handed out and not applied is part of the snapshot.
        self.committed = Committed::default();
        let error = RequestError::Unavailable {
            shard: self.shard,
            happened: Happened::Unknown,
        };
        for lost in self.proposals.take_from(0) {
            fail_commands(lost.pending, &error, turn);
        }
        position
    }

    /// The record is durable: the state changes.
    fn complete_install(&mut self, turn: &mut Turn<'_>) {
        let installing = self.installing.take().expect("it is being installed");
        let index = installing.offer.snapshot.index;
        self.parts.fail_all(turn.answers);
        // An export of the old state has nothing to go on with.
        self.exporting = None;
        (self.state, self.state_index) = (*installing.state, index);
        self.state_checks.forget();
        self.replaced_snapshot = installing.replaces;
        self.node.advance_apply_to(index.0);
        self.take_members_as_of(index.0);
        turn.log.set_first_index(self.id, index.next());
        self.last_snapshot = LastSnapshot {
            bytes: installing.offer.file_bytes,
            taken_at: installing.began_at,
            log_bytes: 0,
        };
        slog::info!(self.logger, "took over the snapshot of another replica"; "index" => index.0);
    }
}
