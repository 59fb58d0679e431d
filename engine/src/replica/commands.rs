//! Commands on their way through a replica: gathered in the open batch, then proposed as one entry, then answered.

use std::collections::VecDeque;

use metastore_bugs::{Mutant, is_planted};
use metastore_statemachine::{BATCH_HEADER_BYTES, Batch, BatchBuilder, Codec, Command, ShardTime};

use crate::answers::Answers;
use crate::effect::Effects;
use crate::ids::Time;
use crate::mesh::{ReplyTo, Token};
use crate::request::{Happened, RequestError};
use crate::settings::BatchSettings;

/// A command that waits for its outcome.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingCommand {
    pub(super) reply_to: ReplyTo,
    pub(super) deadline: Time,
}

/// The commands that the next entry will hold.
#[derive(Debug, Default)]
pub(super) struct OpenBatch {
    builder: BatchBuilder,
    pending: Vec<PendingCommand>,
    /// What its commands count for together.
    weight: usize,
    /// Where each command begins, so that one whose deadline passed can be left out.
    ends: Vec<u32>,
    opened_at: Time,
    deadline_first: Option<Time>,
}

/// A sealed batch: what is proposed, and who waits for it.
#[derive(Debug)]
pub(super) struct SealedBatch {
    pub(super) data: Vec<u8>,
    pub(super) pending: Vec<PendingCommand>,
    pub(super) opened_at: Time,
    pub(super) deadline_first: Option<Time>,
}

/// A command with structure counts for so many others: an entry is applied in one go, and each of them may take as
/// long as a transaction may.
const STRUCTURED_WEIGHT: usize = 32;

fn weight_of(command: &[u8]) -> usize {
    match Command::decode(command) {
        Ok((command, _)) if command.kind.has_structure() => STRUCTURED_WEIGHT,
        Ok(_) | Err(_) => 1,
    }
}

impl OpenBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Bytes of its commands.
    pub(super) fn bytes(&self) -> usize {
        self.builder.body().len()
    }

    /// What it holds in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes() + self.pending.len() * size_of::<PendingCommand>()
    }

    /// Whether `bytes` more would make the batch larger than it may be.
    pub(super) fn is_full_for(&self, bytes: usize, settings: &BatchSettings) -> bool {
        !self.is_empty()
            && (self.weight >= settings.commands_max || self.bytes() + bytes > settings.bytes_max)
    }

    pub(super) fn push(&mut self, now: Time, command: &[u8], pending: PendingCommand) {
        if self.is_empty() {
            self.opened_at = now;
        }
        self.builder.push(command);
        self.weight += weight_of(command);
        self.ends
            .push(u32::try_from(self.builder.bytes_len()).expect("a batch is far below 4 GiB"));
        self.deadline_first = Some(
            self.deadline_first
                .map_or(pending.deadline, |first| first.min(pending.deadline)),
        );
        self.pending.push(pending);
    }

    /// Takes the batch, stamped with the leader's time and term. `spare` is an empty vector whose memory is used again.
    pub(super) fn seal(
        &mut self,
        time: ShardTime,
        term: u64,
        spare: Vec<PendingCommand>,
    ) -> SealedBatch {
        assert!(!self.is_empty(), "an empty batch is not proposed");
        self.ends.clear();
        self.weight = 0;
        SealedBatch {
            data: self.builder.seal(time, term),
            pending: std::mem::replace(&mut self.pending, spare),
            opened_at: self.opened_at,
            deadline_first: self.deadline_first.take(),
        }
    }

    /// Leaves out the commands whose deadline has passed: they are not proposed, and their clients are told so.
    pub(super) fn expire(&mut self, now: Time, answers: &mut Answers, out: &mut Effects) {
        if self.deadline_first.is_none_or(|first| now < first) {
            return;
        }
        let body = self.builder.body().to_vec();
        let pending = std::mem::take(&mut self.pending);
        let ends = std::mem::take(&mut self.ends);
        let opened_at = self.opened_at;
        self.builder.clear();
        self.weight = 0;
        self.deadline_first = None;
        let header = self.builder.bytes_len();
        let mut start = 0;
        for (command, end) in pending.into_iter().zip(ends) {
            let end = end as usize - header;
            if command.deadline <= now {
                let happened = Happened::NotDone;
                answers.error(out, command.reply_to, RequestError::Deadline { happened });
            } else {
                self.push(opened_at, &body[start..end], command);
            }
            start = end;
        }
    }

    /// Takes everybody who waits and drops the commands: they are not proposed.
    pub(super) fn abandon(&mut self) -> Vec<PendingCommand> {
        self.builder.clear();
        self.weight = 0;
        self.ends.clear();
        self.deadline_first = None;
        std::mem::take(&mut self.pending)
    }
}

/// An entry that was proposed and is not applied yet.
#[derive(Debug)]
pub(super) struct ProposedBatch {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) bytes: usize,
    pub(super) pending: Vec<PendingCommand>,
    pub(super) deadline_first: Option<Time>,
    /// When its first command came.
    pub(super) opened_at: Time,
    pub(super) proposed_at: Time,
    pub(super) durable_at: Option<Time>,
}

/// A batch on its way to the own log, answered or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct WrittenBatch {
    index: u64,
    bytes: usize,
    pub(super) commands: u64,
    pub(super) opened_at: Time,
    pub(super) proposed_at: Time,
}

impl ProposedBatch {
    fn to_written(&self) -> WrittenBatch {
        WrittenBatch {
            index: self.index,
            bytes: self.bytes,
            commands: self.pending.len() as u64,
            opened_at: self.opened_at,
            proposed_at: self.proposed_at,
        }
    }
}

/// The entries that were proposed and are not applied yet, in the order of their indexes, and before them those that were
/// applied ahead and are not durable here: nobody waits for their answers, and they fill the log's queue all the same.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    ahead: VecDeque<WrittenBatch>,
    queue: VecDeque<ProposedBatch>,
    bytes: usize,
    commands: usize,
}

impl Proposals {
    /// Whether nobody waits for an answer.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes of all of them, those that were applied ahead too: what the shard's limit on uncommitted bytes counts.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What they hold in memory beside their entries, which are the tail's.
    pub(super) fn memory_bytes(&self) -> usize {
        self.commands * size_of::<PendingCommand>() + self.ahead.len() * size_of::<WrittenBatch>()
    }

    /// How long the oldest of them waits that is not durable here.
    pub(super) fn oldest_wait_ns(&self, now: Time) -> u64 {
        let ahead = self.ahead.front().map(|batch| batch.opened_at);
        let waiting = || self.queue.iter().find(|batch| batch.durable_at.is_none());
        let opened_at = ahead.or_else(|| waiting().map(|batch| batch.opened_at));
        opened_at.map_or(0, |opened_at| now.nanos_since(opened_at))
    }

    pub(super) fn push(&mut self, batch: ProposedBatch) {
        self.bytes += batch.bytes;
        self.commands += batch.pending.len();
        self.queue.push_back(batch);
    }

    /// Notes that everything up to `index` is durable here. Says what became so.
    pub(super) fn on_durable(
        &mut self,
        index: u64,
        now: Time,
    ) -> impl Iterator<Item = WrittenBatch> {
        let Proposals {
            ahead,
            queue,
            bytes,
            ..
        } = self;
        let applied = ahead.partition_point(|batch| batch.index <= index);
        let applied_bytes = ahead.range(..applied).map(|batch| batch.bytes);
        *bytes -= applied_bytes.sum::<usize>();
        let waiting = queue
            .iter_mut()
            .take_while(move |batch| batch.index <= index)
            .filter(|batch| batch.durable_at.is_none())
            .map(move |batch| {
                batch.durable_at = Some(now);
                batch.to_written()
            });
        ahead.drain(..applied).chain(waiting)
    }

    /// Takes the proposal that the committed entry (index, term) answers, when it is ours. Proposals that lost their
    /// index to an entry of another leader come first, through `on_lost`.
    pub(super) fn take(
        &mut self,
        index: u64,
        term: u64,
        mut on_lost: impl FnMut(ProposedBatch),
    ) -> Option<ProposedBatch> {
        while let Some(front) = self.queue.front() {
            if front.index > index {
                return None;
            }
            let batch = self.queue.pop_front().expect("it has a front");
            self.commands -= batch.pending.len();
            let is_answered = batch.index == index && batch.term == term;
            if is_answered && batch.durable_at.is_none() {
                self.ahead.push_back(batch.to_written());
            } else {
                self.bytes -= batch.bytes;
            }
            if is_answered {
                return Some(batch);
            }
            on_lost(batch);
        }
        None
    }

    /// Takes the proposals from `index` on.
    pub(super) fn take_from(&mut self, index: u64) -> Vec<ProposedBatch> {
        let kept = self.ahead.partition_point(|batch| batch.index < index);
        let ahead_bytes = self.ahead.drain(kept..).map(|batch| batch.bytes);
        self.bytes -= ahead_bytes.sum::<usize>();
        let kept = self.queue.partition_point(|batch| batch.index < index);
        let taken: Vec<ProposedBatch> = self.queue.drain(kept..).collect();
        for batch in &taken {
            self.bytes -= batch.bytes;
            self.commands -= batch.pending.len();
        }
        taken
    }

    /// Tells clients whose deadline has passed that the outcome is unknown: the entry may still be committed.
    pub(super) fn expire(&mut self, now: Time, answers: &mut Answers, out: &mut Effects) {
        for batch in &mut self.queue {
            if batch.deadline_first.is_none_or(|first| now < first) {
                continue;
            }
            batch.deadline_first = None;
            for command in &mut batch.pending {
                if command.reply_to.token == Token::Nobody {
                    continue;
                }
                if command.deadline <= now {
                    let happened = match is_planted(Mutant::UnknownToldAsNotDone) {
                        true => Happened::NotDone,
                        false => Happened::Unknown,
                    };
                    answers.error(out, command.reply_to, RequestError::Deadline { happened });
                    command.reply_to.token = Token::Nobody;
                } else {
                    let first = batch.deadline_first.unwrap_or(command.deadline);
                    batch.deadline_first = Some(first.min(command.deadline));
                }
            }
        }
    }
}

/// Decides which batches are worth compressing and does it.
///
/// Trying costs CPU on the hot path, so a batch that did not shrink is remembered: the next ones are not tried.
#[derive(Debug)]
pub(super) struct Compressor {
    encoder: snap::raw::Encoder,
    skip: u32,
    penalty: u32,
}

/// A batch that shrinks by less than an eighth is left as it is.
const WORTH_NUMERATOR: usize = 7;
const WORTH_DENOMINATOR: usize = 8;
/// At most this many batches are left untried after a failed attempt.
const PENALTY_MAX: u32 = 1024;

impl Default for Compressor {
    fn default() -> Self {
        Compressor {
            encoder: snap::raw::Encoder::new(),
            skip: 0,
            penalty: 1,
        }
    }
}

impl Compressor {
    /// The sealed batch `data`, compressed when that pays.
    pub(super) fn compress(&mut self, data: Vec<u8>, bytes_min: Option<usize>) -> Vec<u8> {
        let body = data.len() - BATCH_HEADER_BYTES;
        if bytes_min.is_none_or(|min| body < min) {
            return data;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return data;
        }
        let mut compressed = vec![0; BATCH_HEADER_BYTES + snap::raw::max_compress_len(body)];
        let written = self
            .encoder
            .compress(
                &data[BATCH_HEADER_BYTES..],
                &mut compressed[BATCH_HEADER_BYTES..],
            )
            .expect("the output has the length that the encoder asks for");
        if written * WORTH_DENOMINATOR > body * WORTH_NUMERATOR {
            self.skip = self.penalty;
            self.penalty = (self.penalty * 2).min(PENALTY_MAX);
            return data;
        }
        self.penalty = 1;
        compressed.truncate(BATCH_HEADER_BYTES + written);
        compressed[..BATCH_HEADER_BYTES].copy_from_slice(&data[..BATCH_HEADER_BYTES]);
        Batch::set_codec(&mut compressed, Codec::Snappy);
        compressed.shrink_to_fit();
        compressed
    }
}
