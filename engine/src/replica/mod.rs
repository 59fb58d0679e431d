//! One raft group's replica on this core: consensus, the state machine, and everybody who waits for either.

mod ahead;
mod appends;
mod apply;
mod catch_up;
mod claims;
mod commands;
mod hand_over;
mod installing;
mod intake;
mod members;
mod outbox;
mod parts;
mod peers;
mod quarantine;
mod reads;
mod ready;
mod recovering;
mod removal;
mod repairing;
mod serving;
mod sleep;
mod slices;
mod snapshots;
mod state_checks;
mod tail;
mod watching;

use std::collections::VecDeque;

use metastore_bugs::{Mutant, is_planted};
use metastore_statemachine::{NamespaceId, ShardTime, StateMachine};
use metastore_wal::{
    Entry as LogEntry, HardState, Log, LogIndex, Position, ReplicaId, ShardId, Term,
};
use raft::eraftpb::Entry;
use raft::{RawNode, StateRole};

use self::catch_up::Reading;
use self::claims::{Ambition, Claim};
use self::commands::{Compressor, OpenBatch, PendingCommand, Proposals, ProposedBatch};
use self::installing::Installing;
use self::members::Changes;
use self::outbox::Outbox;
use self::parts::RangeParts;
use self::reads::{PendingRead, Reads};
use self::removal::Belonging;
use self::repairing::Repair;
use self::serving::Served;
use self::sleep::Sleep;
use self::snapshots::{Exporting, LastSnapshot};
use self::state_checks::StateChecks;
use self::tail::EntryTail;
use self::watching::Watching;
use crate::answers::Answers;
use crate::core::Neighbours;
use crate::effect::Effects;
use crate::ids::{BootNonce, SnapshotId, Time};
use crate::memory::{Account, MemoryAccounts};
use crate::mesh::Token;
use crate::peer::{Batches, PeerCore, kind_and_data};
use crate::request::{OVERLOADED_RETRY_MS, RequestError};
use crate::settings::Settings;
use crate::stages::{Stage, Stages};
use crate::status::{ReplicaStatus, Role};

pub(crate) use self::apply::{Applied, KeyList, STRUCTURED_PER_TURN_MAX};
pub(crate) use self::peers::Ignored;
pub use self::quarantine::Quarantine;
pub(crate) use self::reads::failed_chunk;
pub(crate) use self::recovering::{RecoveringReplica, ReplayError};
pub(crate) use self::snapshots::{BegunSnapshot, ExportOutput};

/// What a replica needs of its core while it works.
pub(crate) struct Turn<'a> {
    pub(crate) now: Time,
    pub(crate) settings: &'a Settings,
    pub(crate) log: &'a mut Log,
    pub(crate) answers: &'a mut Answers,
    pub(crate) stages: &'a mut Stages,
    pub(crate) peers: &'a mut Batches,
    pub(crate) neighbours: &'a Neighbours,
    /// How long a tick is at present.
    pub(crate) tick_ns: u64,
    pub(crate) out: &'a mut Effects,
}

/// When the log write that just completed began, and when it ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteTimes {
    pub(crate) started: Time,
    pub(crate) ended: Time,
    /// How long the write before it took.
    pub(crate) previous_ns: u64,
}

/// A Ready whose record is not durable yet.
#[derive(Debug)]
struct Unpersisted {
    position: Position,
    ready_number: u64,
    /// The first index that it may have changed; behind the last one when it changed none.
    first_index: u64,
    /// The last index of the log after it.
    last_index: u64,
}

/// Committed entries that were handed over and are not applied yet.
#[derive(Debug, Default)]
struct Committed {
    entries: Vec<Entry>,
    at: Time,
}

/// The leader's shard clock: the last stamp, and when it was given. It is the only clock that apply sees.
#[derive(Debug, Clone, Copy)]
struct ShardClock {
    stamp: ShardTime,
    stamped_at: Time,
}

impl ShardClock {
    /// The next stamp: it grows with the leader's own elapsed time and never decreases.
    fn stamp(&mut self, now: Time) -> ShardTime {
        let elapsed_ms = now.millis_since(self.stamped_at);
        self.stamp = ShardTime(self.stamp.0 + elapsed_ms);
        // Only whole milliseconds are taken off, so that many short steps do not lose time.
        self.stamped_at = self.stamped_at.plus_ms(elapsed_ms);
        self.stamp
    }
}

/// A replica of one shard.
///
/// A command passes through it like this; each arrow is a method:
///
/// ```text
///  submit_command      propose            drive_raft           on_durable        apply_committed
///  ------------> open -------> raft entry -----------> log part ---------> commit -------------> answer
///                batch                                 (staged)
/// ```
pub(crate) struct Replica {
    id: ReplicaId,
    shard: ShardId,
    node: RawNode<EntryTail>,
    state: StateMachine,
    /// The last entry that the state holds; raft knows of no later one that is applied, and perhaps not of this one.
    state_index: LogIndex,
    logger: slog::Logger,
    election_seed: u64,
    boot: BootNonce,
    role: Role,
    /// Who led when it last looked, and in which term.
    reign: (u64, u64),
    /// The term in which this replica leads and has applied an entry of its own: only then it takes commands and
    /// raft answers reads.
    serving_term: Option<u64>,
    clock: ShardClock,
    open: OpenBatch,
    proposals: Proposals,
    compressor: Compressor,
    unpersisted: VecDeque<Unpersisted>,
    outbox: Outbox,
    /// What is being read back for followers that lag.
    reading: Option<Reading>,
    log_reads: u64,
    ready_last: u64,
    ready_persisted: u64,
    committed: Committed,
    reads: Reads,
    read_contexts: u64,
    parts: RangeParts,
    /// Empty vectors whose memory is used again.
    spare_pending: Vec<Vec<PendingCommand>>,
    decompressed: Vec<u8>,
    applied_commands: u64,
    last_snapshot: LastSnapshot,
    /// The snapshot that is being exported.
    exporting: Option<Exporting>,
    /// Snapshots that followers were offered.
    served: Vec<Served>,
    /// The snapshot of another replica that is being installed.
    installing: Option<Installing>,
    /// What the last one that was installed has replaced.
    replaced_snapshot: Option<SnapshotId>,
    /// Changes of the members.
    changes: Changes,
    belonging: Belonging,
    watching: Watching,
    /// How long an election timeout was at the last tick.
    election_ms: u64,
    sleep: Sleep,
    /// Who would like to lead instead.
    claim: Option<Claim>,
    ambition: Ambition,
    state_checks: StateChecks,
    /// Why it takes no part, if it does not.
    quarantine: Option<Quarantine>,
    /// How it gets back what it lost, if it can.
    repair: Option<Repair>,
    /// Repairs since the start.
    repairs: u64,
    /// Whether a write of the log does not come back: it leads nothing meanwhile.
    is_disk_hung: bool,
    /// How far a snapshot must go: a replica in quarantine waits for it, or the log has decayed.
    repair_wants: Option<LogIndex>,
    /// The newest entry that has set its members by force; 0 where there is none in its log.
    forced_at: LogIndex,
}

impl Replica {
    pub(crate) fn id(&self) -> ReplicaId {
        self.id
    }

    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    /// Whether its shard can answer, as far as it knows: it leads and can, or it follows who leads.
    pub(crate) fn is_useful(&self) -> bool {
        if is_planted(Mutant::ReadsBeforeFirstCommit) && self.role == Role::Leader {
            return true;
        }
        self.is_serving() || self.follows()
    }

    /// Whether it follows a leader that it knows, whom it can ask up to where a read must see.
    fn follows(&self) -> bool {
        let has_leader = self.role == Role::Follower && self.node.raft.leader_id != 0;
        has_leader && !self.is_quarantined()
    }

    /// Which replica leads, as far as it is known.
    pub(crate) fn leader(&self) -> Option<ReplicaId> {
        let leader = self.node.raft.leader_id;
        (leader != 0 && !self.is_quarantined()).then_some(ReplicaId(leader))
    }

    /// Where the replica lives that leads, as far as it is known.
    pub(crate) fn leader_home(&self) -> Option<PeerCore> {
        self.home_of(self.leader()?)
    }

    /// Where all members live, this replica included.
    pub(crate) fn all_homes(&self) -> Vec<PeerCore> {
        // No member has this id.
        let members = self.membership().others(ReplicaId(0));
        members.map(|member| member.home).collect()
    }

    /// Tells a client where to ask instead.
    fn not_leader(&self) -> RequestError {
        RequestError::NotLeader {
            shard: self.shard,
            leader: self.leader_home(),
        }
    }

    /// Whether it leads and can answer.
    pub(crate) fn is_serving(&self) -> bool {
        self.role == Role::Leader && self.serving_term == Some(self.node.raft.term)
    }

    /// Whether it could go on at once: what it applied has made room for the open batch, or a turn ended before every
    /// read was answered.
    pub(crate) fn wants_turn(&mut self, settings: &Settings, log_is_free: bool) -> bool {
        let batch_may_go = self.may_propose(log_is_free);
        self.take_wants_turn()
            || self.is_serving() && batch_may_go
            || self.is_useful() && self.reads.wants_round()
            || !self.committed.entries.is_empty()
            || self.next_ahead(&settings.raft).is_some()
            || self.reads.has_answerable(self.state_index.0)
    }

    fn persisted(&mut self, ready_number: u64) {
        self.node.on_persist_ready(ready_number);
        self.ready_persisted = ready_number;
    }

    /// Readies that raft waits to be told of as persisted; it keeps a record of each.
    pub(crate) fn unpersisted_readies(&self) -> u64 {
        self.ready_last - self.ready_persisted
    }

    /// Bytes of commands that are not applied yet.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.open.bytes() + self.proposals.bytes()
    }

    /// Bytes of its state and of the history that goes into a snapshot with it.
    pub(crate) fn state_bytes(&self) -> u64 {
        let memory = self.state.memory();
        memory.state_bytes + memory.history_bytes
    }

    /// Parts of ranges that it holds open.
    pub(crate) fn open_parts(&self) -> usize {
        self.parts.len()
    }

    /// Its term.
    pub(crate) fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    /// Whether nobody waits for it.
    pub(crate) fn is_quiet(&self) -> bool {
        self.open.is_empty()
            && self.proposals.is_empty()
            && self.reads.is_empty()
            && self.parts.is_empty()
            && self.unpersisted.is_empty()
            && self.installing.is_none()
    }

    // ---- Time ----

    /// Passes `missed` ticks to raft: a leader gets all of them, up to two election timeouts, so that a stall is not
    /// mistaken for a healthy quorum; a follower gets one, so that a stall of its own is not taken for the leader's
    /// death.
    pub(crate) fn on_ticks(&mut self, turn: &mut Turn<'_>, missed: u64) {
        if self.is_fenced() {
            return;
        }
        let is_told_all = self.role == Role::Leader && !is_planted(Mutant::LeaseWithoutClock);
        let ticks = if is_told_all { missed } else { 1 };
        self.watch_members(turn);
        self.count_since_change(ticks);
        self.ask_whether_member(turn);
        self.expire_claim(ticks);
        self.on_tick_awake(turn);
        if self.must_not_campaign() {
            self.expire(turn);
            return;
        }
        let limit = 2 * turn.settings.raft.election_ticks as u64;
        for _ in 0..ticks.min(limit) {
            self.node.tick();
            self.seed_election_timeout();
        }
        self.expire(turn);
    }

    /// A sole voter would campaign over entries that are not durable, and a replica that installs a snapshot over a log
    /// that it does not hold any more. raft stops the process on either. Who leads does not campaign, and its learners
    /// wait for its heartbeats.
    fn must_not_campaign(&self) -> bool {
        let campaigns_alone = self.is_sole_voter() && self.node.raft.state != StateRole::Leader;
        self.is_quarantined()
            || self.is_disk_hung
            || self.is_install_staged()
            || campaigns_alone && !self.unpersisted.is_empty()
    }

    fn expire(&mut self, turn: &mut Turn<'_>) {
        self.expire_change(turn);
        self.open.expire(turn.now, turn.answers, turn.out);
        self.proposals.expire(turn.now, turn.answers, turn.out);
        self.reads.expire(turn.now, turn.answers, turn.out);
        let raft = &turn.settings.raft;
        let patience_ms = raft.tick_interval_ms * raft.election_ticks as u64;
        self.reads.retry_lost_round(turn.now, patience_ms);
        self.expire_served(turn.now, patience_ms);
        self.parts.expire(&mut self.state, turn.now);
    }

    fn is_sole_voter(&self) -> bool {
        self.node.store().members().is_sole_voter(self.id)
    }

    /// A sole voter needs nobody's vote and waits for nobody's death.
    pub(crate) fn campaign_if_alone(&mut self) {
        if self.is_sole_voter() {
            self.node
                .campaign()
                .expect("a voter of its group may campaign");
            self.seed_election_timeout();
        }
    }

    /// raft draws election timeouts from a thread's random generator at every change of role or term. They must be
    /// the same in every run of the same inputs, so each is replaced by a function of seed, replica and term.
    fn seed_election_timeout(&mut self) {
        let raft = &mut self.node.raft;
        let ticks = raft.election_timeout() as u64;
        let mut input = [0; 24];
        input[..8].copy_from_slice(&self.election_seed.to_le_bytes());
        input[8..16].copy_from_slice(&self.id.0.to_le_bytes());
        input[16..].copy_from_slice(&raft.term.to_le_bytes());
        let extra = xxhash_rust::xxh3::xxh3_64(&input) % ticks;
        let timeout = usize::try_from(ticks + extra).expect("a few ticks");
        raft.set_randomized_election_timeout(timeout);
    }

    // ---- The turn ----

    /// Proposes and lets raft work until it has nothing more to hand over: entries go to the log, committed entries
    /// wait for [`Replica::apply_committed`].
    ///
    /// `log_is_free` says that no write is in flight: what is proposed now is written at once.
    pub(crate) fn drive_raft(&mut self, turn: &mut Turn<'_>, log_is_free: bool) {
        if self.fence_if_removed(turn) {
            return;
        }
        if self.is_quarantined() {
            self.drive_repair(turn);
            return;
        }
        let durable = turn.log.durable_position();
        self.send_released(turn, durable);
        self.drive_install(turn);
        self.end_changes(turn);
        self.drive_changes(turn);
        self.serve_claim(turn.now);
        if self.is_serving() && self.may_propose(log_is_free) {
            self.propose(turn);
        }
        self.propose_state_check(turn);
        if self.reads.wants_round() && self.is_useful() {
            self.start_read_round(turn.now);
        }
        while self.node.has_ready() {
            self.handle_ready(turn);
        }
        self.speak_unasked(turn);
        self.read_missing(turn);
        self.wake_if_busy();
    }

    /// Whether the open batch becomes an entry now.
    ///
    /// While the log is busy an entry would only wait, so the batch stays open for more commands. With other voters a
    /// shard that has nothing under way does not wait: their logs may be free. Alone it does: what it proposed early
    /// would part the commands of one connection over two writes, and their answers over two sends.
    fn may_propose(&self, log_is_free: bool) -> bool {
        let may_be_early = || self.proposals.is_empty() && !self.is_sole_voter();
        !self.open.is_empty() && (log_is_free || may_be_early())
    }

    /// Whether commands wait to be proposed.
    pub(crate) fn has_open_batch(&self) -> bool {
        !self.open.is_empty()
    }

    fn propose(&mut self, turn: &mut Turn<'_>) {
        let term = self.node.raft.term;
        let stamp = self.clock.stamp(turn.now);
        let spare = self.spare_pending.pop().unwrap_or_default();
        let sealed = self.open.seal(stamp, term, spare);
        let commands = sealed.pending.len() as u64;
        turn.stages.record(
            Stage::Queue,
            turn.now.nanos_since(sealed.opened_at),
            commands,
        );
        let data = self
            .compressor
            .compress(sealed.data, turn.settings.batch.compress_bytes_min);
        let bytes = data.len();
        match self.node.propose(Vec::new(), data) {
            Ok(()) => self.proposals.push(ProposedBatch {
                index: self.node.raft.raft_log.last_index(),
                term,
                bytes,
                pending: sealed.pending,
                deadline_first: sealed.deadline_first,
                opened_at: sealed.opened_at,
                proposed_at: turn.now,
                durable_at: None,
            }),
            Err(_dropped) => {
                let error = RequestError::Overloaded {
                    retry_after_ms: OVERLOADED_RETRY_MS,
                };
                fail_commands(sealed.pending, &error, turn);
            }
        }
    }

    fn start_read_round(&mut self, now: Time) {
        self.read_contexts += 1;
        let mut context = Vec::with_capacity(32);
        for part in [
            self.id.0,
            self.boot.0,
            self.node.raft.term,
            self.read_contexts,
        ] {
            context.extend_from_slice(&part.to_le_bytes());
        }
        self.reads.start_round(now, context.clone());
        let is_new_leader = self.role == Role::Leader && !self.is_serving();
        let is_early = is_new_leader && is_planted(Mutant::ReadsBeforeFirstCommit);
        if is_early {
            let known = self.node.raft.raft_log.committed;
            self.reads.on_confirmed(&context, known);
            return;
        }
        self.node.read_index(context);
    }

    // ---- What it reports ----

    /// How long the oldest command waits that is not durable.
    pub(crate) fn oldest_wait_ns(&self, now: Time) -> u64 {
        self.proposals.oldest_wait_ns(now)
    }

    /// Adds what this replica holds to the accounts of its core.
    pub(crate) fn add_memory(&self, accounts: &mut MemoryAccounts) {
        let state = self.state.memory();
        accounts.add(Account::State, state.state_bytes);
        accounts.add(Account::History, state.history_bytes);
        accounts.add(Account::Tail, self.node.store().bytes() as u64);
        let pending = self.open.memory_bytes() + self.proposals.memory_bytes();
        accounts.add(Account::OpenBatches, pending as u64);
        let (reads, key_bytes) = self.reads.waiting();
        let reads_bytes = reads * size_of::<PendingRead>() + key_bytes;
        accounts.add(Account::Reads, reads_bytes as u64);
        accounts.add(Account::Replies, self.parts.bytes() as u64);
        accounts.add(Account::Snapshot, self.export_bytes());
    }

    pub(crate) fn status(&self) -> ReplicaStatus {
        let raft = &self.node.raft;
        let memory = self.state.memory();
        ReplicaStatus {
            shard: self.shard,
            replica: self.id,
            role: self.role,
            leader: self.leader(),
            term: Term(raft.term),
            committed: LogIndex(raft.raft_log.committed),
            applied: self.state_index,
            last: LogIndex(raft.raft_log.last_index()),
            keys: self.state.key_count(),
            revision: self.state.revision(NamespaceId::DEFAULT),
            state_bytes: memory.state_bytes,
            history_bytes: memory.history_bytes,
            state_hash: self.state.state_hash(),
            states_compared: self.state_checks.compared(),
            quarantine: self.quarantine,
            repairs: self.repairs,
            applied_commands: self.applied_commands,
            messages_dropped: self.outbox.dropped(),
            members: self.members_status(),
            is_asleep: self.is_asleep(),
        }
    }
}

fn fail_commands(pending: Vec<PendingCommand>, error: &RequestError, turn: &mut Turn<'_>) {
    for command in pending {
        if command.reply_to.token != Token::Nobody {
            turn.answers
                .error(turn.out, command.reply_to, error.clone());
        }
    }
}

fn to_log_entry(entry: &Entry) -> LogEntry {
    let (kind, data) = kind_and_data(entry);
    LogEntry {
        term: Term(entry.term),
        kind,
        data: data.clone(),
    }
}

fn to_log_hard_state(hard_state: &raft::eraftpb::HardState) -> HardState {
    HardState {
        term: Term(hard_state.term),
        vote: ReplicaId(hard_state.vote),
        commit: LogIndex(hard_state.commit),
    }
}
