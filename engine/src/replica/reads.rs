//! Linearizable reads: all that arrive while a ReadIndex round is under way share the next one.

use std::collections::VecDeque;

use metastore_bugs::{Mutant, is_planted};

use crate::answers::Answers;
use crate::effect::Effects;
use crate::ids::Time;
use crate::mesh::{PartChunk, PartEnd, ReadOp};
use crate::mesh::{RangePartKey, RangePlan, ReplyTo};
use crate::request::{Happened, RequestError};
use crate::span::Span;

/// A read that waits for its round.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingRead {
    pub(super) reply_to: ReplyTo,
    pub(super) deadline: Time,
    pub(super) op: ReadOp,
    pub(super) keys: Span,
}

/// The opening of a range that waits for its round.
#[derive(Debug)]
pub(super) struct PendingRange {
    pub(super) part: RangePartKey,
    pub(super) deadline: Time,
    pub(super) plan: Box<RangePlan>,
}

/// Reads that are confirmed together.
#[derive(Debug, Default)]
pub(super) struct ReadRound {
    pub(super) reads: Vec<PendingRead>,
    /// How many of `reads` are answered already.
    pub(super) answered: usize,
    pub(super) ranges: Vec<PendingRange>,
    pub(super) arena: Vec<u8>,
}

impl ReadRound {
    pub(super) fn is_empty(&self) -> bool {
        self.reads.is_empty() && self.ranges.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.reads.len() - self.answered + self.ranges.len()
    }

    fn clear(&mut self) {
        self.reads.clear();
        self.answered = 0;
        self.ranges.clear();
        self.arena.clear();
    }

    /// Answers everybody with the same error.
    pub(super) fn fail(&mut self, error: &RequestError, answers: &mut Answers, out: &mut Effects) {
        for read in self
            .reads
            .drain(..)
            .skip(std::mem::take(&mut self.answered))
        {
            answers.error(out, read.reply_to, error.clone());
        }
        for range in self.ranges.drain(..) {
            answers.part_chunk(range.part, failed_chunk(error.clone()));
        }
        self.arena.clear();
    }

    /// Answers those whose deadline has passed and forgets them.
    fn expire(&mut self, now: Time, answers: &mut Answers, out: &mut Effects) {
        let error = RequestError::Deadline {
            happened: Happened::NotDone,
        };
        self.reads.drain(..std::mem::take(&mut self.answered));
        self.reads.retain(|read| {
            let expired = read.deadline <= now;
            if expired {
                answers.error(out, read.reply_to, error.clone());
            }
            !expired
        });
        self.ranges.retain(|range| {
            let expired = range.deadline <= now;
            if expired {
                answers.part_chunk(range.part, failed_chunk(error.clone()));
            }
            !expired
        });
    }
}

/// The chunk that tells a range's home that a part failed.
pub(crate) fn failed_chunk(error: RequestError) -> PartChunk {
    PartChunk {
        rows: Vec::new(),
        counted: 0,
        revision: metastore_statemachine::Revision(0),
        end: PartEnd::Failed(error),
    }
}

/// A round that raft is confirming.
#[derive(Debug)]
struct InFlight {
    context: Vec<u8>,
    started_at: Time,
    round: ReadRound,
}

/// The reads of a replica.
///
/// ```text
///   open ----------> in flight ------------> confirmed ----------> answered
///        one round at     raft says up to        applied that far
///        a time           which index
/// ```
#[derive(Debug, Default)]
pub(super) struct Reads {
    open: ReadRound,
    in_flight: Option<InFlight>,
    /// Rounds that may be answered once everything up to the index is applied.
    confirmed: VecDeque<(u64, ReadRound)>,
    /// An empty round whose memory is used again.
    spare: ReadRound,
}

impl Reads {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.in_flight.is_none() && self.confirmed.is_empty()
    }

    /// Reads that wait, and the bytes of their keys.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let in_flight = self.in_flight.iter().map(|in_flight| &in_flight.round);
        let confirmed = self.confirmed.iter().map(|(_, round)| round);
        in_flight
            .chain(confirmed)
            .chain([&self.open])
            .fold((0, 0), |(reads, bytes), round| {
                (reads + round.len(), bytes + round.arena.len())
            })
    }

    /// The round that the next confirmation will cover.
    pub(super) fn open(&mut self) -> &mut ReadRound {
        &mut self.open
    }

    /// Whether a round should be started: somebody waits and none is under way.
    pub(super) fn wants_round(&self) -> bool {
        self.in_flight.is_none() && !self.open.is_empty()
    }

    /// Starts a round over everything that is open, under a context that was never used before.
    pub(super) fn start_round(&mut self, now: Time, context: Vec<u8>) {
        assert!(self.wants_round(), "one round at a time");
        let round = std::mem::replace(&mut self.open, std::mem::take(&mut self.spare));
        self.in_flight = Some(InFlight {
            context,
            started_at: now,
            round,
        });
    }

    /// Takes raft's word that reads under `context` may be answered once `index` is applied. An answer to a round that
    /// was given up is ignored: its reads are in a later one.
    pub(super) fn on_confirmed(&mut self, context: &[u8], index: u64) {
        if self
            .in_flight
            .as_ref()
            .is_some_and(|in_flight| in_flight.context == context)
        {
            let in_flight = self.in_flight.take().expect("it is there");
            self.confirmed.push_back((index, in_flight.round));
        }
    }

    /// Takes the next round that may be answered now that `applied` is applied.
    pub(super) fn take_answerable(&mut self, applied: u64) -> Option<(u64, ReadRound)> {
        match self.confirmed.front() {
            Some((index, _)) if *index <= applied => self.confirmed.pop_front(),
            _ => None,
        }
    }

    /// Puts a round back that was answered in part, because the turn had no more room.
    pub(super) fn put_back(&mut self, index: u64, round: ReadRound) {
        self.confirmed.push_front((index, round));
    }

    /// Whether a round waits that may be answered now that `applied` is applied.
    pub(super) fn has_answerable(&self, applied: u64) -> bool {
        self.confirmed
            .front()
            .is_some_and(|(index, _)| *index <= applied)
    }

    /// Forgets the opening of a part of a range, wherever it waits.
    pub(super) fn forget_range(&mut self, part: RangePartKey) {
        let in_flight = self
            .in_flight
            .iter_mut()
            .map(|in_flight| &mut in_flight.round);
        let confirmed = self.confirmed.iter_mut().map(|(_, round)| round);
        for round in in_flight.chain(confirmed).chain([&mut self.open]) {
            round.ranges.retain(|range| range.part != part);
        }
    }

    /// Gives an answered round back, for its memory.
    pub(super) fn recycle(&mut self, mut round: ReadRound) {
        round.clear();
        self.spare = round;
    }

    /// Gives up a round that raft has not confirmed for `patience_ms`: raft drops such requests without a word, so its
    /// reads go into the next round, under a new context.
    pub(super) fn retry_lost_round(&mut self, now: Time, patience_ms: u64) {
        let lost = |in_flight: &mut InFlight| now.millis_since(in_flight.started_at) >= patience_ms;
        if is_planted(Mutant::LostReadBlocks) {
            return;
        }
        if let Some(in_flight) = self.in_flight.take_if(lost) {
            let mut round = in_flight.round;
            let open = &mut self.open;
            for mut read in round.reads.drain(..) {
                read.keys = read.keys.copied(&round.arena, &mut open.arena);
                open.reads.push(read);
            }
            open.ranges.append(&mut round.ranges);
        }
    }

    /// Answers those whose deadline has passed.
    pub(super) fn expire(&mut self, now: Time, answers: &mut Answers, out: &mut Effects) {
        self.open.expire(now, answers, out);
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.round.expire(now, answers, out);
        }
        for (_, round) in &mut self.confirmed {
            round.expire(now, answers, out);
        }
    }

    /// Answers everybody with an error: a confirmation from an earlier role or term is worth nothing.
    pub(super) fn fail_all(
        &mut self,
        error: &RequestError,
        answers: &mut Answers,
        out: &mut Effects,
    ) {
        self.open.fail(error, answers, out);
        if let Some(mut in_flight) = self.in_flight.take() {
            in_flight.round.fail(error, answers, out);
        }
        for (_, mut round) in self.confirmed.drain(..) {
            round.fail(error, answers, out);
        }
    }
}
