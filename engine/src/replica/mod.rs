//! One raft group's replica on this core: consensus, the state machine, and everybody who waits for either.

mod commands;
mod members;
mod parts;
mod reads;
mod recovering;
mod tail;

use std::collections::VecDeque;

use metastore_statemachine::{
    Batch, Codec, GetQuery, NamespaceId, Outcome, ReadError, ShardTime, StateMachine,
};
use metastore_wal::{
    Entry as LogEntry, EntryKind, HardState, Log, LogIndex, Part, PartBody, Position, ReplicaId,
    ShardId, Term,
};
use raft::eraftpb::{Entry, EntryType};
use raft::{RawNode, StateRole};

use self::commands::{Compressor, OpenBatch, PendingCommand, Proposals, ProposedBatch};
use self::parts::RangeParts;
use self::reads::{PendingRange, PendingRead, ReadRound, Reads};
use self::tail::EntryTail;
use crate::core::{Answers, RangePartKey, RangePlan, ReplicaStatus, ReplyTo, Token};
use crate::effect::{Effect, Effects, HaltReason, Span};
use crate::ids::{BootNonce, Time};
use crate::input::ReadOp;
use crate::request::{Happened, Reply, RequestError};
use crate::settings::Settings;
use crate::stages::{Stage, Stages};

pub(crate) use self::recovering::{RecoveringReplica, ReplayError};

/// What part a replica plays in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It proposes.
    Leader,
}

/// What a replica needs of its core while it works.
pub(crate) struct Turn<'a> {
    pub(crate) now: Time,
    pub(crate) settings: &'a Settings,
    pub(crate) log: &'a mut Log,
    pub(crate) answers: &'a mut Answers,
    pub(crate) stages: &'a mut Stages,
    pub(crate) out: &'a mut Effects,
}

/// When the log write that just completed began, and when it ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteTimes {
    pub(crate) started: Time,
    pub(crate) ended: Time,
}

/// A Ready whose record is not durable yet.
#[derive(Debug)]
struct Unpersisted {
    position: Position,
    ready_number: u64,
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
    election_seed: u64,
    boot: BootNonce,
    role: Role,
    /// The term in which this replica leads and has applied an entry of its own: only then it takes commands and
    /// raft answers reads.
    serving_term: Option<u64>,
    clock: ShardClock,
    open: OpenBatch,
    proposals: Proposals,
    compressor: Compressor,
    unpersisted: VecDeque<Unpersisted>,
    committed: Committed,
    reads: Reads,
    read_contexts: u64,
    parts: RangeParts,
    /// Empty vectors whose memory is used again.
    spare_pending: Vec<Vec<PendingCommand>>,
    decompressed: Vec<u8>,
    applied_commands: u64,
}

impl Replica {
    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    /// Whether it leads and can answer.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving_term.is_some()
    }

    /// Whether nobody waits for it.
    pub(crate) fn is_quiet(&self) -> bool {
        self.open.is_empty()
            && self.proposals.is_empty()
            && self.reads.is_empty()
            && self.parts.is_empty()
            && self.unpersisted.is_empty()
    }

    // ---- What clients ask ----

    /// Takes a checked command into the open batch.
    pub(crate) fn submit_command(
        &mut self,
        turn: &mut Turn<'_>,
        command: &[u8],
        reply_to: ReplyTo,
        deadline: Time,
    ) {
        if let Err(error) = self.admit(turn.settings, command.len()) {
            turn.answers.error(turn.out, reply_to, error);
            return;
        }
        if self.open.is_full_for(command.len(), &turn.settings.batch) && self.is_serving() {
            self.propose(turn);
        }
        self.open
            .push(turn.now, command, PendingCommand { reply_to, deadline });
    }

    fn admit(&self, settings: &Settings, command_bytes: usize) -> Result<(), RequestError> {
        if self.role == Role::Follower {
            return Err(RequestError::NotLeader { shard: self.shard });
        }
        if command_bytes > settings.command_bytes_max {
            return Err(RequestError::TooLarge {
                limit: settings.command_bytes_max as u64,
                actual: command_bytes as u64,
            });
        }
        let waiting = self.proposals.bytes() + self.open.bytes() + command_bytes;
        // A batch that cannot be proposed yet must not outgrow what one entry may hold.
        let batch_is_stuck =
            !self.is_serving() && self.open.is_full_for(command_bytes, &settings.batch);
        if waiting as u64 > settings.raft.uncommitted_bytes_max || batch_is_stuck {
            return Err(RequestError::Overloaded {
                retry_after_ms: OVERLOADED_RETRY_MS,
            });
        }
        Ok(())
    }

    /// Takes a read into the next round.
    pub(crate) fn submit_read(
        &mut self,
        turn: &mut Turn<'_>,
        op: ReadOp,
        keys: &[u8],
        reply_to: ReplyTo,
        deadline: Time,
    ) {
        if let Err(error) = self.admit_read(turn.settings, keys.len()) {
            turn.answers.error(turn.out, reply_to, error);
            return;
        }
        let open = self.reads.open();
        let start = open.arena.len();
        open.arena.extend_from_slice(keys);
        let keys = Span::since(&open.arena, start);
        open.reads.push(PendingRead {
            reply_to,
            deadline,
            op,
            keys,
        });
    }

    /// Takes the opening of a part of a range into the next round.
    pub(crate) fn open_part(
        &mut self,
        turn: &mut Turn<'_>,
        part: RangePartKey,
        deadline: Time,
        plan: Box<RangePlan>,
    ) {
        match self.admit_read(turn.settings, plan.bytes()) {
            Ok(()) => self.reads.open().ranges.push(PendingRange {
                part,
                deadline,
                plan,
            }),
            Err(error) => turn.answers.part_chunk(part, reads::failed_chunk(error)),
        }
    }

    fn admit_read(&self, settings: &Settings, bytes: usize) -> Result<(), RequestError> {
        if self.role == Role::Follower {
            return Err(RequestError::NotLeader { shard: self.shard });
        }
        let (waiting, waiting_bytes) = self.reads.waiting();
        if waiting >= settings.reads_waiting_max
            || waiting_bytes + bytes > settings.reads_waiting_bytes_max
        {
            return Err(RequestError::Overloaded {
                retry_after_ms: OVERLOADED_RETRY_MS,
            });
        }
        Ok(())
    }

    /// Produces the next chunk of a part of a range.
    pub(crate) fn next_part_chunk(&mut self, turn: &mut Turn<'_>, part: RangePartKey) {
        self.parts
            .produce(&mut self.state, turn.now, part, turn.answers);
    }

    /// Ends a part of a range.
    pub(crate) fn close_part(&mut self, part: RangePartKey) {
        self.parts.close(&mut self.state, part);
        self.reads.open().ranges.retain(|range| range.part != part);
    }

    // ---- Time ----

    /// Passes `missed` ticks to raft: a leader gets all of them, so that a stall is not mistaken for a healthy
    /// quorum; a follower gets one, so that a stall of its own is not taken for the leader's death.
    pub(crate) fn on_ticks(&mut self, turn: &mut Turn<'_>, missed: u64) {
        let ticks = if self.role == Role::Leader { missed } else { 1 };
        // A sole voter would campaign over entries that are not durable, which raft refuses with a panic.
        if self.is_sole_voter() && !self.unpersisted.is_empty() {
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

    fn expire(&mut self, turn: &mut Turn<'_>) {
        self.open.expire(turn.now, turn.answers, turn.out);
        self.proposals.expire(turn.now, turn.answers, turn.out);
        self.reads.expire(turn.now, turn.answers, turn.out);
        let raft = &turn.settings.raft;
        let patience_ms = raft.tick_interval_ms * raft.election_ticks as u64;
        self.reads.retry_lost_round(turn.now, patience_ms);
        self.parts.expire(&mut self.state, turn.now);
    }

    fn is_sole_voter(&self) -> bool {
        self.node.store().members().get_voters() == [self.id.0]
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
    /// `log_is_free` says that no write is in flight and nothing is staged: what is proposed now is written at once.
    pub(crate) fn drive_raft(&mut self, turn: &mut Turn<'_>, log_is_free: bool) {
        if self.is_serving() {
            // While the log is busy an entry would only wait, so the batch stays open for more commands; but another
            // replica's slow write must not hold up a shard that has nothing under way.
            if !self.open.is_empty() && (log_is_free || self.proposals.is_empty()) {
                self.propose(turn);
            }
            if self.reads.wants_round() {
                self.start_read_round(turn.now);
            }
        }
        while self.node.has_ready() {
            self.handle_ready(turn);
        }
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
        self.node.read_index(context);
    }

    fn handle_ready(&mut self, turn: &mut Turn<'_>) {
        let mut ready = self.node.ready();
        // A group of one writes to nobody; with peers, each message waits here for what it depends on.
        assert!(
            ready.messages().is_empty() && ready.persisted_messages().is_empty(),
            "a sole voter sends no messages"
        );
        assert!(
            ready.snapshot().is_empty(),
            "a sole voter receives no snapshot"
        );
        let before = self.node.store().hard_state();
        let promises_changed = ready
            .hs()
            .is_some_and(|after| after.term != before.term || after.vote != before.vote);
        if let Some(hard_state) = ready.hs() {
            let hard_state = hard_state.clone();
            self.node.mut_store().set_hard_state(hard_state);
        }
        let entries = ready.take_entries();
        // A commit index alone starts no write: it rides in the next record.
        if promises_changed || !entries.is_empty() {
            self.stage(turn, entries, ready.number());
        }
        for state in ready.take_read_states() {
            self.reads.on_confirmed(&state.request_ctx, state.index);
        }
        self.take_committed(turn.now, ready.take_committed_entries());
        if let Some(soft_state) = ready.ss() {
            let role = soft_state.raft_state;
            self.on_role(turn, role);
        }
        self.node.advance_append_async(ready);
        self.seed_election_timeout();
    }

    /// Makes new entries readable for raft and stages them, with term and vote, for the next record.
    fn stage(&mut self, turn: &mut Turn<'_>, entries: Vec<Entry>, ready_number: u64) {
        let store = self.node.store();
        let first_index = LogIndex(
            entries
                .first()
                .map_or(store.last() + 1, |entry| entry.index),
        );
        let log_entries = entries.iter().map(to_log_entry).collect();
        for entry in entries {
            self.node.mut_store().append(entry);
        }
        let store = self.node.store();
        let position = turn.log.stage(Part {
            replica: self.id,
            shard: self.shard,
            hard_state: to_log_hard_state(store.hard_state()),
            body: PartBody::Append {
                first_index,
                entries: log_entries,
            },
        });
        let last_index = store.last();
        self.unpersisted.push_back(Unpersisted {
            position,
            ready_number,
            last_index,
        });
    }

    fn take_committed(&mut self, now: Time, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        if self.committed.entries.is_empty() {
            self.committed = Committed { entries, at: now };
        } else {
            self.committed.entries.extend(entries);
        }
    }

    fn on_role(&mut self, turn: &mut Turn<'_>, role: StateRole) {
        let role = match role {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower => Role::Follower,
        };
        if role == self.role {
            return;
        }
        self.role = role;
        if role != Role::Leader {
            self.serving_term = None;
        }
        if role == Role::Follower {
            let error = RequestError::NotLeader { shard: self.shard };
            self.reads.fail_all(&error, turn.answers, turn.out);
            let pending = self.open.abandon();
            fail_commands(pending, &error, turn);
        }
    }

    /// Tells raft that everything staged up to `position` is durable. Returns whether that was news.
    pub(crate) fn on_durable(
        &mut self,
        stages: &mut Stages,
        position: Position,
        times: WriteTimes,
    ) -> bool {
        let mut newest: Option<Unpersisted> = None;
        while self
            .unpersisted
            .front()
            .is_some_and(|front| front.position <= position)
        {
            newest = self.unpersisted.pop_front();
        }
        let Some(newest) = newest else {
            return false;
        };
        for batch in self.proposals.on_durable(newest.last_index, times.ended) {
            let commands = batch.pending.len() as u64;
            let waited = times.started.nanos_since(batch.proposed_at);
            stages.record(Stage::Propose, waited, commands);
            stages.record(
                Stage::Flush,
                times.ended.nanos_since(times.started),
                commands,
            );
        }
        self.node.on_persist_ready(newest.ready_number);
        self.seed_election_timeout();
        true
    }

    /// Applies what is committed, in order, and answers everybody who waited for it.
    pub(crate) fn apply_committed(&mut self, turn: &mut Turn<'_>) -> Applied {
        let committed = std::mem::take(&mut self.committed);
        let mut applied = Applied::default();
        let last_index = committed.entries.last().map(|entry| entry.index);
        for entry in committed.entries {
            if let Err(reason) = self.apply_entry(turn, &entry, committed.at, &mut applied) {
                turn.out.queue.push(Effect::Halt(reason));
                return applied;
            }
        }
        if let Some(index) = last_index {
            self.node.advance_apply_to(index);
            self.node.mut_store().release_applied(index);
        }
        self.answer_reads(turn);
        applied
    }

    fn apply_entry(
        &mut self,
        turn: &mut Turn<'_>,
        entry: &Entry,
        committed_at: Time,
        applied: &mut Applied,
    ) -> Result<(), HaltReason> {
        let shard = self.shard;
        let mine = self.proposals.take(entry.index, entry.term, |lost| {
            // Another leader's entry took its index, so this one can never be committed.
            let error = RequestError::Unavailable {
                shard,
                happened: Happened::NotDone,
            };
            fail_commands(lost.pending, &error, turn);
        });
        if entry.get_entry_type() != EntryType::EntryNormal {
            return Err(HaltReason::EntryKind {
                replica: self.id.0,
                index: entry.index,
            });
        }
        if entry.data.is_empty() {
            // The empty entry with which a leader begins its term.
            if self.role == Role::Leader && entry.term == self.node.raft.term {
                self.begin_serving(turn.now);
            }
            return Ok(());
        }
        let pending = mine.as_ref().map_or(&[][..], |batch| &batch.pending);
        let mut waiting = pending.iter();
        let (answers, out) = (&mut *turn.answers, &mut *turn.out);
        let commands = apply_batch(
            &mut self.state,
            &entry.data,
            &mut self.decompressed,
            |outcome| {
                if let Some(command) = waiting.next() {
                    answers.outcome(out, command.reply_to, &outcome);
                }
            },
        )
        .map_err(|cause| HaltReason::Apply {
            replica: self.id.0,
            index: entry.index,
            cause,
        })?;
        self.applied_commands += commands;
        if let Some(mut batch) = mine {
            let durable_at = batch.durable_at.unwrap_or(committed_at);
            turn.stages.record(
                Stage::Commit,
                committed_at.nanos_since(durable_at),
                commands,
            );
            applied.note(committed_at, commands);
            batch.pending.clear();
            self.spare_pending.push(batch.pending);
        }
        Ok(())
    }

    fn begin_serving(&mut self, now: Time) {
        self.serving_term = Some(self.node.raft.term);
        // Everything of earlier terms is applied by now, so no stamp in the log is later than the state's.
        self.clock = ShardClock {
            stamp: self.state.shard_time(),
            stamped_at: now,
        };
    }

    fn answer_reads(&mut self, turn: &mut Turn<'_>) {
        let applied = self.node.raft.raft_log.applied();
        while let Some(mut round) = self.reads.take_answerable(applied) {
            self.answer_round(turn, &mut round);
            self.reads.recycle(round);
        }
    }

    fn answer_round(&mut self, turn: &mut Turn<'_>, round: &mut ReadRound) {
        for read in &round.reads {
            self.answer_read(turn, read, read.keys.of(&round.arena));
        }
        for range in round.ranges.drain(..) {
            self.parts
                .open(&mut self.state, turn.now, range, turn.answers);
        }
    }

    fn answer_read(&self, turn: &mut Turn<'_>, read: &PendingRead, keys: &[u8]) {
        let revision = read
            .op
            .at
            .unwrap_or_else(|| self.state.revision(read.op.namespace));
        let arena = &mut turn.out.arena;
        let found_start = arena.len();
        arena.resize(found_start + read.op.count as usize, 0);
        let rows_start = arena.len();
        for (position, key) in KeyList(keys).enumerate() {
            let query = GetQuery {
                namespace: read.op.namespace,
                key,
                at: read.op.at,
            };
            match self.state.get(&query) {
                Ok(Some(row)) => {
                    arena[found_start + position] = 1;
                    row.encode_into(arena);
                }
                Ok(None) => {}
                Err(error) => {
                    arena.truncate(found_start);
                    turn.answers
                        .error(turn.out, read.reply_to, read_error(error));
                    return;
                }
            }
        }
        let found = Span::since(&arena[..rows_start], found_start);
        let rows = Span::since(arena, rows_start);
        let reply = Reply::Rows {
            shape: read.op.shape,
            shard: self.shard,
            revision,
            found,
            rows,
        };
        turn.answers.reply_in_place(turn.out, read.reply_to, reply);
    }

    // ---- What it reports ----

    pub(crate) fn status(&self) -> ReplicaStatus {
        let raft = &self.node.raft;
        let memory = self.state.memory();
        ReplicaStatus {
            shard: self.shard,
            replica: self.id,
            role: self.role,
            term: Term(raft.term),
            committed: LogIndex(raft.raft_log.committed),
            applied: LogIndex(raft.raft_log.applied()),
            last: LogIndex(raft.raft_log.last_index()),
            keys: self.state.key_count(),
            revision: self.state.revision(NamespaceId::DEFAULT),
            state_bytes: memory.state_bytes,
            history_bytes: memory.history_bytes,
            state_hash: self.state.state_hash(),
            applied_commands: self.applied_commands,
        }
    }
}

/// What clients are told to wait when a limit on waiting work is reached.
const OVERLOADED_RETRY_MS: u32 = 20;

/// How much was applied in a turn, for the histograms.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Applied {
    pub(crate) commands: u64,
    /// When the first of it was committed.
    pub(crate) committed_at: Option<Time>,
}

impl Applied {
    fn note(&mut self, committed_at: Time, commands: u64) {
        self.commands += commands;
        self.committed_at.get_or_insert(committed_at);
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

/// Applies the batch in an entry's data and returns how many commands it held.
fn apply_batch(
    state: &mut StateMachine,
    data: &[u8],
    decompressed: &mut Vec<u8>,
    mut on_outcome: impl FnMut(Outcome<'_>),
) -> Result<u64, String> {
    let mut batch = Batch::decode(data).map_err(|error| error.to_string())?;
    if batch.codec == Codec::Snappy {
        let expected = batch.body_bytes;
        let stated = snap::raw::decompress_len(batch.body).map_err(|error| error.to_string())?;
        if stated != expected {
            return Err(format!(
                "the body says {stated} bytes, the header {expected}"
            ));
        }
        decompressed.resize(expected, 0);
        snap::raw::Decoder::new()
            .decompress(batch.body, decompressed)
            .map_err(|error| error.to_string())?;
        batch = batch
            .with_body(decompressed)
            .map_err(|error| error.to_string())?;
    }
    let commands = u64::from(batch.count);
    state
        .apply(&batch, &mut on_outcome)
        .map_err(|error| error.to_string())?;
    Ok(commands)
}

fn read_error(error: ReadError) -> RequestError {
    match error {
        ReadError::Compacted { oldest } => RequestError::Compacted { oldest },
        ReadError::Future { current } => RequestError::FutureRevision { current },
        ReadError::PinLost => RequestError::RangeExpired,
    }
}

/// Keys as they stand in a read: each a length (u32, little-endian) and its bytes.
pub(crate) struct KeyList<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for KeyList<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (key, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        self.0 = rest;
        Some(key)
    }
}

fn to_log_entry(entry: &Entry) -> LogEntry {
    let kind = match entry.get_entry_type() {
        EntryType::EntryNormal => EntryKind::Normal,
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => EntryKind::ConfChange,
    };
    LogEntry {
        term: Term(entry.term),
        kind,
        data: entry.data.clone(),
    }
}

fn to_log_hard_state(hard_state: &raft::eraftpb::HardState) -> HardState {
    HardState {
        term: Term(hard_state.term),
        vote: ReplicaId(hard_state.vote),
        commit: LogIndex(hard_state.commit),
    }
}
