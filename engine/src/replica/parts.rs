//! A shard's parts of ranges: each reads on at the position where it was pinned, a bounded slice at a time.

use std::collections::BTreeMap;

use metastore_statemachine::{Pin, Revision, SliceEnd, SliceLimit, StateMachine};

use super::apply::read_error;
use super::reads::{PendingRange, failed_chunk};
use crate::answers::Answers;
use crate::core::RANGE_IDLE_MS_MAX;
use crate::ids::Time;
use crate::mesh::{PartChunk, PartEnd};
use crate::mesh::{RangePartKey, RangePlan};
use crate::request::RequestError;

/// Rows in a slice at most: it must end within half a millisecond.
const SLICE_ROWS_MAX: u64 = 512;
/// Keys that a slice looks at, found or not.
const SLICE_VISITS_MAX: u64 = 2_048;

#[derive(Debug)]
struct Part {
    plan: Box<RangePlan>,
    pin: Pin,
    revision: Revision,
    resume_after: Option<Vec<u8>>,
    rows_left: Option<u64>,
    asked_at: Time,
}

/// The open parts of one shard.
#[derive(Debug, Default)]
pub(super) struct RangeParts {
    parts: BTreeMap<RangePartKey, Part>,
}

impl RangeParts {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Pins the state, now that the read is confirmed, and sends the first chunk.
    pub(super) fn open(
        &mut self,
        state: &mut StateMachine,
        now: Time,
        range: PendingRange,
        answers: &mut Answers,
    ) {
        let plan = range.plan;
        let newest = state.revision(plan.namespace);
        let pin = match plan.at {
            Some(revision) => state.pin_at(plan.namespace, revision),
            None => Ok(state.pin()),
        };
        let pin = match pin {
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
            asked_at: now,
            plan,
        };
        let replaced = self.parts.insert(range.part, part);
        assert!(replaced.is_none(), "a part is opened once");
        self.produce(state, now, range.part, answers);
    }

    /// Reads the next slice of a part and sends it; a part that is gone failed already, or was closed.
    pub(super) fn produce(
        &mut self,
        state: &mut StateMachine,
        now: Time,
        key: RangePartKey,
        answers: &mut Answers,
    ) {
        let Some(part) = self.parts.get_mut(&key) else {
            answers.part_chunk(key, failed_chunk(RequestError::RangeExpired));
            return;
        };
        part.asked_at = now;
        let chunk = part.next_chunk(state);
        let is_over = chunk.end != PartEnd::More;
        answers.part_chunk(key, chunk);
        if is_over {
            self.close(state, key);
        }
    }

    pub(super) fn close(&mut self, state: &mut StateMachine, key: RangePartKey) {
        if let Some(part) = self.parts.remove(&key) {
            state.unpin(part.pin);
        }
    }

    pub(super) fn expire(&mut self, state: &mut StateMachine, now: Time) {
        let idle = |part: &Part| now.millis_since(part.asked_at) > RANGE_IDLE_MS_MAX;
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
    fn next_chunk(&mut self, state: &StateMachine) -> PartChunk {
        let limit = SliceLimit {
            rows: self
                .rows_left
                .map_or(SLICE_ROWS_MAX, |left| left.min(SLICE_ROWS_MAX)),
            bytes: self.plan.chunk_bytes as u64,
            visits: SLICE_VISITS_MAX,
        };
        let mut rows = Vec::new();
        let mut count = 0;
        let resume_after = self.resume_after.as_deref();
        let end = state.range(
            &self.plan.query(),
            Some(&self.pin),
            resume_after,
            limit,
            &mut |row| {
                row.encode_into(&mut rows);
                count += 1;
            },
        );
        if let Some(left) = &mut self.rows_left {
            *left -= count;
        }
        let end = match end {
            Err(error) => return failed_chunk(read_error(error)),
            Ok(SliceEnd::Finished) => PartEnd::Last,
            Ok(SliceEnd::More { .. }) if self.rows_left == Some(0) => PartEnd::Last,
            Ok(SliceEnd::More { resume_after }) => {
                self.resume_after = Some(resume_after);
                PartEnd::More
            }
        };
        PartChunk {
            rows,
            revision: self.revision,
            end,
        }
    }
}
