//! From committed entries and confirmed reads to answers.

use metastore_statemachine::{Batch, Codec, GetQuery, Outcome, ReadError, StateMachine};
use metastore_wal::{EntryKind, LogIndex};
use raft::eraftpb::Entry;

use super::quarantine::Quarantine;
use super::reads::PendingRead;
use super::state_checks::Checked;
use super::{Committed, Replica, ShardClock, Turn, fail_commands};
use crate::effect::{Effect, HaltReason};
use crate::ids::Time;
use crate::peer::kind_and_data;
use crate::request::{ANSWER_BYTES_MAX, Happened, Reply, RequestError};
use crate::span::Span;
use crate::stages::Stage;
use crate::status::Role;

/// Commands with structure after which the rest of what is committed waits for the next turn.
pub(crate) const STRUCTURED_PER_TURN_MAX: u64 = 32;

/// How much was applied in a turn, for the histograms.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Applied {
    pub(crate) commands: u64,
    /// Commands with structure among them.
    pub(crate) structured: u64,
    /// When the first of it was committed.
    pub(crate) committed_at: Option<Time>,
}

impl Applied {
    fn note(&mut self, committed_at: Time, commands: u64) {
        self.commands += commands;
        self.committed_at.get_or_insert(committed_at);
    }

    /// Whether this turn goes on applying: its answers have room, and it has time.
    fn leaves_room(&self, turn: &Turn<'_>) -> bool {
        !turn.out.is_full() && self.structured < STRUCTURED_PER_TURN_MAX
    }
}

/// Nothing more is applied: the replica takes no part any more, or the process ends.
#[derive(Debug)]
struct Ended;

/// What an entry that cannot be applied stops.
#[derive(Debug)]
enum Stopped {
    /// Everything: what is committed cannot be passed over.
    Process(HaltReason),
    /// The replica alone.
    Replica(Quarantine),
}

impl Replica {
    /// Applies what is committed, in order, and answers everybody who waited for it.
    pub(crate) fn apply_committed(&mut self, turn: &mut Turn<'_>) -> Applied {
        let mut applied = Applied::default();
        let went_on = self
            .apply_handed_out(turn, &mut applied)
            .and_then(|()| self.apply_ahead(turn, &mut applied));
        if went_on.is_ok() {
            self.answer_reads(turn);
        }
        applied
    }

    /// Applies what raft has handed out. Entries for which this turn's answers have no room, or this turn no time, wait
    /// for the next turn.
    fn apply_handed_out(
        &mut self,
        turn: &mut Turn<'_>,
        applied: &mut Applied,
    ) -> Result<(), Ended> {
        let Committed { entries, at } = std::mem::take(&mut self.committed);
        let mut last_index = None;
        let mut entries = entries.into_iter();
        while applied.leaves_room(turn)
            && let Some(entry) = entries.next()
        {
            // What was applied ahead is passed over.
            if entry.index > self.state_index.0 {
                self.apply_next(turn, &entry, at, applied)?;
            }
            last_index = Some(entry.index);
        }
        self.committed = Committed {
            entries: entries.collect(),
            at,
        };
        if let Some(index) = last_index {
            self.node.advance_apply_to(index);
            self.node.mut_store().release_applied(index);
        }
        Ok(())
    }

    /// Applies what may be applied ahead, behind everything that raft has handed out.
    fn apply_ahead(&mut self, turn: &mut Turn<'_>, applied: &mut Applied) -> Result<(), Ended> {
        while self.committed.entries.is_empty()
            && applied.leaves_room(turn)
            && let Some(entry) = self.next_ahead(&turn.settings.raft).cloned()
        {
            self.apply_next(turn, &entry, turn.now, applied)?;
        }
        Ok(())
    }

    fn apply_next(
        &mut self,
        turn: &mut Turn<'_>,
        entry: &Entry,
        committed_at: Time,
        applied: &mut Applied,
    ) -> Result<(), Ended> {
        assert_eq!(
            entry.index,
            self.state_index.next().0,
            "entries are applied in order, each once"
        );
        let structured_before = self.state.structured_count();
        match self.apply_entry(turn, entry, committed_at, applied) {
            Ok(()) => {}
            Err(Stopped::Process(reason)) => {
                turn.out.queue.push(Effect::Halt(reason));
                return Err(Ended);
            }
            Err(Stopped::Replica(why)) => {
                self.enter_quarantine(turn, why);
                return Err(Ended);
            }
        }
        self.state_index = LogIndex(entry.index);
        applied.structured += self.state.structured_count() - structured_before;
        Ok(())
    }

    fn apply_entry(
        &mut self,
        turn: &mut Turn<'_>,
        entry: &Entry,
        committed_at: Time,
        applied: &mut Applied,
    ) -> Result<(), Stopped> {
        let shard = self.shard;
        let mine = self.proposals.take(entry.index, entry.term, |lost| {
            // Another leader's entry took its index, so this one can never be committed.
            let error = RequestError::Unavailable {
                shard,
                happened: Happened::NotDone,
            };
            fail_commands(lost.pending, &error, turn);
        });
        self.check_rejected(turn, entry);
        let unknown = Stopped::Process(HaltReason::EntryKind {
            replica: self.id.0,
            index: entry.index,
        });
        match kind_and_data(entry) {
            (EntryKind::Normal, _) => {}
            (EntryKind::ConfChange, _) => {
                return self.apply_change(entry).map_err(|cause| {
                    Stopped::Process(HaltReason::Apply {
                        replica: self.id.0,
                        index: entry.index,
                        cause,
                    })
                });
            }
            (EntryKind::StateCheck, word) => {
                let hash = self.state.state_hash();
                return match self.state_checks.on_word(entry.index, word, hash) {
                    Checked::Fine => Ok(()),
                    Checked::Differs(why) => Err(Stopped::Replica(why)),
                    Checked::Unknown => Err(unknown),
                };
            }
        }
        if entry.data.is_empty() {
            // The empty entry with which a leader begins its term, or what raft made of a change that it did not take.
            if self.role == Role::Leader && entry.term == self.node.raft.term && !self.is_serving()
            {
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
        .map_err(|cause| {
            Stopped::Process(HaltReason::Apply {
                replica: self.id.0,
                index: entry.index,
                cause,
            })
        })?;
        self.state_checks.on_applied();
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

    /// Answers confirmed reads until there are none, or the turn's answers have grown so large that the next turn
    /// must go on.
    fn answer_reads(&mut self, turn: &mut Turn<'_>) {
        let applied = self.state_index.0;
        while !turn.out.is_full()
            && let Some((index, mut round)) = self.reads.take_answerable(applied)
        {
            while let Some(read) = round.reads.get(round.answered) {
                if turn.out.is_full() {
                    break;
                }
                round.answered += 1;
                self.answer_read(turn, read, read.keys.of(&round.arena));
            }
            if round.answered < round.reads.len() {
                self.reads.put_back(index, round);
                return;
            }
            for range in round.ranges.drain(..) {
                self.parts
                    .open(&mut self.state, turn.now, range, turn.answers);
            }
            self.reads.recycle(round);
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
                    let actual = arena.len() - found_start;
                    if actual > ANSWER_BYTES_MAX {
                        arena.truncate(found_start);
                        let error = RequestError::answer_too_large(actual, Happened::NotDone);
                        turn.answers.error(turn.out, read.reply_to, error);
                        return;
                    }
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
}

/// Applies the batch in an entry's data and returns how many commands it held.
pub(super) fn apply_batch(
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

pub(super) fn read_error(error: ReadError) -> RequestError {
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
