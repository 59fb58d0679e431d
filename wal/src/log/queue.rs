//! The parts that wait for a record.

use std::collections::VecDeque;

use crate::format::{RECORD_HEADER_BYTES, SUB_HEADER_BYTES};
use crate::part::{Part, PartBody, Position};

/// A part, or the next piece of one, on its way into a record.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) part: Part,
    /// The position that is durable with this piece; `None` when more pieces follow.
    pub(super) completes: Option<Position>,
}

/// The parts that wait for a record, in the order in which they were staged.
#[derive(Debug)]
pub(super) struct Queue {
    parts: VecDeque<(Position, Part, usize)>,
    staged_bytes: usize,
    newest: Position,
    record_bytes_max: usize,
}

impl Queue {
    pub(super) fn new(record_bytes_max: usize) -> Self {
        Self {
            parts: VecDeque::new(),
            staged_bytes: 0,
            newest: Position(0),
            record_bytes_max,
        }
    }

    pub(super) fn newest(&self) -> Position {
        self.newest
    }

    pub(super) fn push(&mut self, part: Part) -> Position {
        let stored_bytes = part.stored_bytes();
        self.newest = Position(self.newest.0 + 1);
        self.staged_bytes += stored_bytes;
        self.parts.push_back((self.newest, part, stored_bytes));
        self.newest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn staged_bytes(&self) -> usize {
        self.staged_bytes
    }

    /// Takes as much as fits a record of `record_bytes`, in order. A part is divided only when it is longer than
    /// the longest record; otherwise it waits for a record that holds it whole.
    pub(super) fn take_record(&mut self, record_bytes: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut free_bytes = record_bytes.saturating_sub(RECORD_HEADER_BYTES);
        while let Some(&(position, _, stored_bytes)) = self.parts.front() {
            if stored_bytes <= free_bytes {
                free_bytes -= stored_bytes;
                self.staged_bytes -= stored_bytes;
                let (_, part, _) = self.parts.pop_front().expect("the front was just seen");
                pieces.push(Piece {
                    part,
                    completes: Some(position),
                });
                continue;
            }
            if stored_bytes > self.record_bytes_max - RECORD_HEADER_BYTES {
                pieces.extend(self.divide_front(free_bytes));
            }
            break;
        }
        pieces
    }

    /// Cuts a piece of at most `free_bytes` off the front part, when that is room for at least one entry.
    fn divide_front(&mut self, free_bytes: usize) -> Option<Piece> {
        let (_, part, stored_bytes) = self.parts.front_mut().expect("the front was just seen");
        let (first_index, entries) = match &mut part.body {
            PartBody::Append {
                first_index,
                entries,
            }
            | PartBody::Rewrite {
                first_index,
                entries,
            } => (first_index, entries),
            PartBody::Snapshot { .. } | PartBody::Tombstone => {
                unreachable!(
                    "only entries make a part longer than a record: the rest was checked when it was staged"
                )
            }
        };
        let mut piece_bytes = SUB_HEADER_BYTES;
        let mut count = 0;
        while let Some(entry) = entries.get(count) {
            if piece_bytes + entry.stored_bytes() > free_bytes {
                break;
            }
            piece_bytes += entry.stored_bytes();
            count += 1;
        }
        if count == 0 {
            return None;
        }
        let rest = entries.split_off(count);
        let piece_entries = std::mem::replace(entries, rest);
        let piece_first = *first_index;
        first_index.0 += count as u64;
        // What remains needs a sub-header of its own.
        *stored_bytes -= piece_bytes - SUB_HEADER_BYTES;
        self.staged_bytes -= piece_bytes - SUB_HEADER_BYTES;
        let body = match part.body {
            PartBody::Rewrite { .. } => PartBody::Rewrite {
                first_index: piece_first,
                entries: piece_entries,
            },
            PartBody::Append { .. } | PartBody::Snapshot { .. } | PartBody::Tombstone => {
                PartBody::Append {
                    first_index: piece_first,
                    entries: piece_entries,
                }
            }
        };
        let piece = Part {
            replica: part.replica,
            shard: part.shard,
            hard_state: part.hard_state,
            body,
        };
        Some(Piece {
            part: piece,
            completes: None,
        })
    }
}
