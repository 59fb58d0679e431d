//! A shard's parts of ranges: each reads on at the position where it was pinned, a bounded slice at a time.

use std::collections::{BTreeMap, VecDeque};

use metastore_statemachine::{Pin, Revision, SliceEnd, SliceLimit, StateMachine};

use super::apply::read_error;
use super::reads::{PendingRange, failed_chunk};
use crate::answers::Answers;
use crate::core::RANGE_IDLE_MS_MAX;
use crate::ids::Time;
use crate::mesh::{PartChunk, PartEnd, PartOutput, RangePartKey, RangePlan};
use crate::request::RequestError;

/// Slices after which a chunk leaves as it is: where few keys belong to the answer it would be long in filling, and
/// who merges gives up a range that does not move.
const SLICES_PER_CHUNK_MAX: u32 = 256;

#[derive(Debug)]
struct Part {
    plan: Box<RangePlan>,
    pin: Pin,
    revision: Revision,
    resume_after: Option<Vec<u8>>,
    rows_left: Option<u64>,
    /// The chunk that was asked for, as far as slices have filled it; `None` while nobody asks.
    chunk: Option<OpenChunk>,
    /// When the part was opened or last sent a chunk.
    active_at: Time,
}

/// A chunk that slices fill.
#[derive(Debug, Default)]
struct OpenChunk {
    rows: Vec<u8>,
    counted: u64,
    slices: u32,
}

/// The open parts of one shard.
///
/// ```text
///            open            slices            chunk sent
///   (pinned) ----> collecting -----> ... ---+-----------> waiting ---> asked for the next: collecting
///                      ^                    |
///                      +--- not full yet ---+             nobody asks for long: given up
/// ```
#[derive(Debug, Default)]
pub(super) struct RangeParts {
    parts: BTreeMap<RangePartKey, Part>,
    /// Parts that collect a chunk, each once, in the order of their turns.
    queue: VecDeque<RangePartKey>,
}

impl RangeParts {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Bytes of the chunks that slices fill.
    pub(super) fn bytes(&self) -> usize {
        let chunks = self.parts.values().filter_map(|part| part.chunk.as_ref());
        chunks.map(|chunk| chunk.rows.capacity()).sum()
    }

    /// Whether a part waits for a slice.
    pub(super) fn has_slice(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Pins the state, now that the read is confirmed. Slices collect the first chunk.
    pub(super) fn open(
        &mut self,
        state: &mut StateMachine,
        now: Time,
        range: PendingRange,
        answers: &mut Answers,
    ) {
        let plan = range.plan;
        let newest = state.revision(plan.namespace);
        let pin = match state.pin_range(&plan.query()) {
            Ok(pin) => pin,
            Err(error) => {
                answers.part_chunk(range.part, failed_chunk(read_error(error)));
                return;
            }
        };
        let part = Part {
            pin,
            revision: plan.at.unwrap_or(newest),
            resume_after: None,
            rows_left: (plan.limit > 0).then_some(plan.limit),
            chunk: Some(OpenChunk::default()),
            active_at: now,
            plan,
        };
        let replaced = self.parts.insert(range.part, part);
        assert!(replaced.is_none(), "a part is opened once");
        self.queue.push_back(range.part);
    }

    /// Asks for the next chunk of a part; a part that is gone failed already, or was closed.
    pub(super) fn request_chunk(&mut self, key: RangePartKey, answers: &mut Answers) {
        let Some(part) = self.parts.get_mut(&key) else {
            answers.part_chunk(key, failed_chunk(RequestError::RangeExpired));
            return;
        };
        assert!(part.chunk.is_none(), "one chunk is asked for at a time");
        part.chunk = Some(OpenChunk::default());
        self.queue.push_back(key);
    }

    /// Reads a slice for the part whose turn it is, and sends its chunk if that is complete.
    ///
    /// # Panics
    /// When no part waits for a slice.
    pub(super) fn run_slice(
        &mut self,
        state: &mut StateMachine,
        now: Time,
        limit: SliceLimit,
        answers: &mut Answers,
    ) {
        let key = self.queue.pop_front().expect("a part waits for a slice");
        let part = self.parts.get_mut(&key).expect("a queued part is open");
        let Some(chunk) = part.collect(state, limit) else {
            self.queue.push_back(key);
            return;
        };
        part.active_at = now;
        let is_over = chunk.end != PartEnd::More;
        answers.part_chunk(key, chunk);
        if is_over {
            self.close(state, key);
        }
    }

    pub(super) fn close(&mut self, state: &mut StateMachine, key: RangePartKey) {
        if let Some(part) = self.parts.remove(&key) {
            if part.chunk.is_some() {
                self.queue.retain(|queued| *queued != key);
            }
            state.unpin(part.pin);
        }
    }

    /// Fails every part: the state that they are pinned to goes away.
    pub(super) fn fail_all(&mut self, answers: &mut Answers) {
        for (key, part) in std::mem::take(&mut self.parts) {
            // Who asks for its next chunk later hears the same.
            if part.chunk.is_some() {
                answers.part_chunk(key, failed_chunk(RequestError::RangeExpired));
            }
        }
        self.queue.clear();
    }

    /// Gives up parts that nobody asks for. One that collects a chunk is asked for, however long its turn takes.
    pub(super) fn expire(&mut self, state: &mut StateMachine, now: Time) {
        let idle = |part: &Part| {
            part.chunk.is_none() && now.millis_since(part.active_at) > RANGE_IDLE_MS_MAX
        };
        let expired: Vec<RangePartKey> = self
            .parts
            .iter()
            .filter(|(_, part)| idle(part))
            .map(|(&key, _)| key)
            .collect();
        for key in expired {
            self.close(state, key);
        }
    }
}

impl Part {
    /// Reads a slice into the open chunk, and takes the chunk when it is to be sent.
    fn collect(&mut self, state: &mut StateMachine, limit: SliceLimit) -> Option<PartChunk> {
        let chunk = self
            .chunk
            .as_mut()
            .expect("a part that collects has a chunk");
        chunk.slices += 1;
        let room = self.plan.chunk_bytes.saturating_sub(chunk.rows.len()) as u64;
        let output = self.plan.output;
        let limit = match output {
            // Nothing is copied: only what is looked at costs time.
            PartOutput::Count => SliceLimit {
                rows: u64::MAX,
                bytes: u64::MAX,
                visits: limit.visits,
            },
            PartOutput::Rows | PartOutput::CountAndPrefixes => SliceLimit {
                rows: self
                    .rows_left
                    .map_or(limit.rows, |left| left.min(limit.rows)),
                bytes: limit.bytes.min(room),
                visits: limit.visits,
            },
        };
        let mut count = 0;
        let result = state.range(
            &self.plan.query(),
            Some(&self.pin),
            self.resume_after.as_deref(),
            limit,
            &mut |row| {
                count += 1;
                match output {
                    PartOutput::Rows => row.encode_into(&mut chunk.rows),
                    PartOutput::CountAndPrefixes if row.is_common_prefix() => {
                        row.encode_into(&mut chunk.rows);
                    }
                    PartOutput::Count | PartOutput::CountAndPrefixes => chunk.counted += 1,
                }
            },
        );
        if let Some(left) = &mut self.rows_left {
            *left -= count;
        }
        let end = match result {
            Err(error) => return Some(failed_chunk(read_error(error))),
            Ok(SliceEnd::Finished) => PartEnd::Last,
            Ok(SliceEnd::More { .. }) if self.rows_left == Some(0) => PartEnd::Last,
            Ok(SliceEnd::More { resume_after }) => {
                state.pass(&self.pin, &resume_after);
                self.resume_after = Some(resume_after);
                if !chunk.is_full(self.plan.chunk_bytes) {
                    return None;
                }
                PartEnd::More
            }
        };
        let chunk = self.chunk.take().expect("it was there a moment ago");
        Some(PartChunk {
            rows: chunk.rows,
            counted: chunk.counted,
            revision: self.revision,
            end,
        })
    }
}

impl OpenChunk {
    /// Whether another slice would add little: less than an eighth of the chunk is free.
    fn is_full(&self, chunk_bytes: usize) -> bool {
        self.rows.len() >= chunk_bytes - chunk_bytes / 8 || self.slices >= SLICES_PER_CHUNK_MAX
    }
}
