//! When a mark is due, and what it says.

use crate::buffer::LogBuffer;
use crate::format::{BLOCK_BYTES, Mark, MarkSlot};
use crate::ids::{RecordSequence, SegmentSequence, Ticket};
use crate::part::Position;

/// Where a log left its marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MarksStart {
    pub(crate) generation: u64,
    /// The block to write next: the one that does not hold the newest mark.
    pub(crate) slot: MarkSlot,
    /// What the newest mark says.
    pub(crate) watermark: RecordSequence,
}

impl Default for MarksStart {
    fn default() -> Self {
        Self {
            generation: 0,
            slot: MarkSlot::First,
            watermark: RecordSequence(0),
        }
    }
}

#[derive(Debug)]
pub(super) struct MarkInFlight {
    ticket: Ticket,
    watermark: RecordSequence,
    /// What its watermark says is durable.
    pub(super) covers: Position,
    pub(super) oldest_live_segment: SegmentSequence,
}

/// The two mark blocks, written in turn, one at a time.
#[derive(Debug)]
pub(super) struct Marks {
    generation: u64,
    slot: MarkSlot,
    /// What the newest durable mark says.
    watermark: RecordSequence,
    buffer: Option<LogBuffer>,
    in_flight: Option<MarkInFlight>,
    is_due: bool,
    written: u64,
}

impl Marks {
    pub(super) fn new(start: MarksStart, buffer: LogBuffer) -> Self {
        Self {
            generation: start.generation,
            slot: start.slot,
            watermark: start.watermark,
            buffer: Some(buffer),
            in_flight: None,
            is_due: false,
            written: 0,
        }
    }

    /// The next mark is written as soon as the previous one is durable.
    pub(super) fn set_due(&mut self) {
        self.is_due = true;
    }

    /// Whether a mark would say more than the newest durable one.
    pub(super) fn is_behind(&self, watermark: RecordSequence) -> bool {
        self.watermark < watermark
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Builds the mark that is due, unless one is on its way. `mark` comes without its generation.
    pub(super) fn start(
        &mut self,
        ticket: Ticket,
        covers: Position,
        mark: impl FnOnce(u64) -> Mark,
    ) -> Option<(MarkSlot, LogBuffer)> {
        if !self.is_due {
            return None;
        }
        let mut buffer = self.buffer.take()?;
        self.is_due = false;
        self.generation += 1;
        let mark = mark(self.generation);
        buffer.clear();
        buffer.extend_with_zeros(BLOCK_BYTES);
        mark.encode(buffer.as_mut_slice());
        self.in_flight = Some(MarkInFlight {
            ticket,
            watermark: mark.watermark,
            covers,
            oldest_live_segment: mark.oldest_live_segment,
        });
        let slot = self.slot;
        self.slot = slot.other();
        Some((slot, buffer))
    }

    pub(super) fn on_written(&mut self, ticket: Ticket, buffer: LogBuffer) -> MarkInFlight {
        let mark = self.in_flight.take().expect("a mark is in flight");
        assert_eq!(
            mark.ticket, ticket,
            "a ticket comes back where it was given out"
        );
        self.watermark = mark.watermark;
        self.buffer = Some(buffer);
        self.written += 1;
        mark
    }
}
