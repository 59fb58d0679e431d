//! From a stream of bytes to whole batches.

use crate::peer::fault::BatchFault;
use crate::peer::fields::{put, u32_at};

/// Length of what stands in front of every batch.
pub const BATCH_HEAD_BYTES: usize = 8;

/// Length of the longest batch. A batch is at most one message longer than 1 MiB, and the longest message is an append of
/// 8 MiB of entries as raft counts them, or a single longer one; a test compares this with what the core says of itself.
pub const BATCH_BYTES_MAX: usize = 40 << 20;

/// Whether a reader may take the memory for a whole batch at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Ample,
    /// It may for the batch that has begun, and not for the next.
    ForOne,
    /// It takes what it needs for the bytes that are here, and no more.
    Scarce,
}

/// Appends the head of a batch.
///
/// ```text
///       0       1       2       3       4       5       6       7
///   0 | length of the batch (u32)     | the same, each bit turned     |
///   8 | batch ...
/// ```
///
/// A batch has a checksum of its own. The second form of the length is there because of what a wrong length would do: the
/// reader would take the middle of a batch for a head, and everything that follows for damaged batches.
///
/// # Panics
/// When a batch is empty or longer than [`BATCH_BYTES_MAX`].
pub fn append_batch_head(batch_bytes: usize, out: &mut Vec<u8>) {
    assert!(batch_bytes > 0, "a batch says something");
    assert!(batch_bytes <= BATCH_BYTES_MAX, "a batch has its limit");
    let length = batch_bytes as u32;
    let mut head = [0; BATCH_HEAD_BYTES];
    put(&mut head, 0, length.to_le_bytes());
    put(&mut head, 4, (!length).to_le_bytes());
    out.extend_from_slice(&head);
}

/// Cuts batches out of a stream.
///
/// Batches that came whole are handed out where they lie. One that came in parts is put together here: each of its bytes
/// is copied once, and what it needs is taken at once, after its length was checked.
#[derive(Debug)]
pub struct BatchReader {
    batch_bytes_max: usize,
    /// The beginning of a batch, its head included.
    held: Vec<u8>,
    batches: u64,
}

impl BatchReader {
    /// A reader that refuses batches longer than this, or than [`BATCH_BYTES_MAX`].
    #[must_use]
    pub fn new(batch_bytes_max: usize) -> BatchReader {
        BatchReader {
            batch_bytes_max: batch_bytes_max.min(BATCH_BYTES_MAX),
            held: Vec::new(),
            batches: 0,
        }
    }

    /// Takes bytes in and hands out the batches that they complete, in their order.
    ///
    /// # Errors
    /// What is wrong with the next head. The batches before it were handed out; there is none after it.
    pub fn on_bytes(
        &mut self,
        bytes: &[u8],
        room: Room,
        mut on_batch: impl FnMut(&[u8]),
    ) -> Result<(), BatchFault> {
        let mut rest = bytes;
        if !self.held.is_empty() {
            rest = self.complete_held(rest, room, &mut on_batch)?;
        }
        while let Some(whole_bytes) = self.whole_bytes(rest)? {
            let Some((whole, behind)) = rest.split_at_checked(whole_bytes) else {
                break;
            };
            self.batches += 1;
            on_batch(&whole[BATCH_HEAD_BYTES..]);
            rest = behind;
        }
        if !rest.is_empty() {
            let room_for_next = match room {
                Room::Ample => Room::Ample,
                Room::ForOne | Room::Scarce => Room::Scarce,
            };
            self.hold(rest, room_for_next)?;
        }
        Ok(())
    }

    /// Adds to the batch that has begun, and hands it out if that completes it. Returns what is left.
    fn complete_held<'a>(
        &mut self,
        bytes: &'a [u8],
        room: Room,
        on_batch: &mut impl FnMut(&[u8]),
    ) -> Result<&'a [u8], BatchFault> {
        let mut rest = bytes;
        if self.held.len() < BATCH_HEAD_BYTES {
            let missing = BATCH_HEAD_BYTES - self.held.len();
            let (head, behind) = rest.split_at(missing.min(rest.len()));
            self.held.extend_from_slice(head);
            rest = behind;
        }
        let Some(whole_bytes) = self.whole_bytes(&self.held)? else {
            return Ok(rest);
        };
        let missing = whole_bytes - self.held.len();
        let (part, behind) = rest.split_at(missing.min(rest.len()));
        self.hold(part, room)?;
        if self.held.len() == whole_bytes {
            self.batches += 1;
            on_batch(&self.held[BATCH_HEAD_BYTES..]);
            // Who holds nothing of a batch holds no memory.
            self.held = Vec::new();
        }
        Ok(behind)
    }

    /// Keeps the part of a batch, with memory for all of it.
    fn hold(&mut self, part: &[u8], room: Room) -> Result<(), BatchFault> {
        let of_batch = if self.held.is_empty() {
            part
        } else {
            &self.held
        };
        let wanted_bytes = match (self.whole_bytes(of_batch)?, room) {
            (Some(whole_bytes), Room::Ample | Room::ForOne) => whole_bytes - self.held.len(),
            (Some(_), Room::Scarce) | (None, _) => part.len(),
        };
        self.held.reserve_exact(wanted_bytes);
        self.held.extend_from_slice(part);
        Ok(())
    }

    /// Length of a batch with its head, if all of the head is there.
    fn whole_bytes(&self, bytes: &[u8]) -> Result<Option<usize>, BatchFault> {
        if bytes.len() < BATCH_HEAD_BYTES {
            return Ok(None);
        }
        let (length, inverse) = (u32_at(bytes, 0), u32_at(bytes, 4));
        if length != !inverse {
            return Err(BatchFault::Head { length, inverse });
        }
        let actual = length as usize;
        if actual == 0 {
            return Err(BatchFault::Empty);
        }
        if actual > self.batch_bytes_max {
            let limit = self.batch_bytes_max;
            return Err(BatchFault::TooLong { limit, actual });
        }
        Ok(Some(BATCH_HEAD_BYTES + actual))
    }

    /// Whether a batch has begun and not ended.
    #[must_use]
    pub fn awaits_rest(&self) -> bool {
        !self.held.is_empty()
    }

    /// Batches handed out so far.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// What its buffer takes in memory.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.held.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream_of(batches: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for batch in batches {
            append_batch_head(batch.len(), &mut stream);
            stream.extend_from_slice(batch);
        }
        stream
    }

    fn read(reader: &mut BatchReader, bytes: &[u8]) -> Result<Vec<Vec<u8>>, BatchFault> {
        let mut batches = Vec::new();
        reader.on_bytes(bytes, Room::Ample, |batch| batches.push(batch.to_vec()))?;
        Ok(batches)
    }

    #[test]
    fn the_head_is_laid_out_as_drawn() {
        let mut head = Vec::new();
        append_batch_head(0x0001_0203, &mut head);
        assert_eq!(head, [3, 2, 1, 0, 0xfc, 0xfd, 0xfe, 0xff]);
    }

    #[test]
    fn batches_that_came_whole_are_handed_out_where_they_lie() {
        let stream = stream_of(&[vec![1; 100], vec![2; 200]]);
        let mut reader = BatchReader::new(1000);
        let mut places = Vec::new();
        reader
            .on_bytes(&stream, Room::Ample, |batch| places.push(batch.as_ptr()))
            .unwrap();
        let first = &stream[BATCH_HEAD_BYTES..];
        let second = &stream[2 * BATCH_HEAD_BYTES + 100..];
        assert_eq!(places, [first.as_ptr(), second.as_ptr()]);
        assert_eq!(reader.buffer_bytes(), 0);
        assert_eq!(reader.batches(), 2);
    }

    #[test]
    fn what_a_batch_needs_is_taken_at_once_and_given_back() {
        let stream = stream_of(&[vec![1; 1 << 20]]);
        let mut reader = BatchReader::new(1 << 20);
        assert_eq!(read(&mut reader, &stream[..100]), Ok(vec![]));
        assert_eq!(reader.buffer_bytes(), stream.len());
        assert!(reader.awaits_rest());
        assert_eq!(
            read(&mut reader, &stream[100..stream.len() - 1]),
            Ok(vec![])
        );
        assert_eq!(reader.buffer_bytes(), stream.len());
        let whole = read(&mut reader, &stream[stream.len() - 1..]).unwrap();
        assert_eq!(whole, [vec![1; 1 << 20]]);
        assert_eq!(reader.buffer_bytes(), 0);
        assert!(!reader.awaits_rest());
    }

    #[test]
    fn without_room_only_what_came_is_kept() {
        let stream = stream_of(&[vec![1; 1 << 20]]);
        let mut reader = BatchReader::new(1 << 20);
        let mut count = 0;
        for part in stream[..64 << 10].chunks(16 << 10) {
            reader.on_bytes(part, Room::Scarce, |_| count += 1).unwrap();
        }
        assert_eq!(reader.buffer_bytes(), 64 << 10);
        reader
            .on_bytes(&stream[64 << 10..], Room::Ample, |_| count += 1)
            .unwrap();
        assert_eq!(count, 1);
    }

    #[test]
    fn with_room_for_one_the_next_gets_what_came() {
        let stream = stream_of(&[vec![1; 1 << 20], vec![2; 1 << 20]]);
        let mut reader = BatchReader::new(1 << 20);
        let mut count = 0;
        let mut read = |bytes: &[u8], room| {
            reader.on_bytes(bytes, room, |_| count += 1).unwrap();
            reader.buffer_bytes()
        };
        assert_eq!(read(&stream[..100], Room::Scarce), 100);
        let whole_bytes = BATCH_HEAD_BYTES + (1 << 20);
        assert_eq!(read(&stream[100..200], Room::ForOne), whole_bytes);
        assert_eq!(read(&stream[200..whole_bytes + 50], Room::ForOne), 50);
        assert_eq!(read(&stream[whole_bytes + 50..], Room::Ample), 0);
        assert_eq!(count, 2);
    }

    #[test]
    fn a_length_is_refused_before_anything_is_taken_for_it() {
        let mut reader = BatchReader::new(1000);
        let mut head = Vec::new();
        append_batch_head(1001, &mut head);
        let too_long = BatchFault::TooLong {
            limit: 1000,
            actual: 1001,
        };
        assert_eq!(read(&mut reader, &head), Err(too_long));
        assert_eq!(reader.buffer_bytes(), 0);

        let mut reader = BatchReader::new(usize::MAX);
        let actual = BATCH_BYTES_MAX + 1;
        let length = actual as u32;
        let head = [length.to_le_bytes(), (!length).to_le_bytes()].concat();
        let limit = BATCH_BYTES_MAX;
        let too_long = BatchFault::TooLong { limit, actual };
        assert_eq!(read(&mut reader, &head), Err(too_long));
    }

    #[test]
    fn bytes_that_are_no_head_are_refused_also_when_they_come_one_by_one() {
        let head = [5, 0, 0, 0, 0, 0, 0, 0];
        let fault = Err(BatchFault::Head {
            length: 5,
            inverse: 0,
        });
        assert_eq!(read(&mut BatchReader::new(1000), &head), fault);
        let mut reader = BatchReader::new(1000);
        for byte in &head[..7] {
            assert_eq!(read(&mut reader, &[*byte]), Ok(vec![]));
        }
        assert_eq!(read(&mut reader, &head[7..]), fault);
        let nothing = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        let empty = read(&mut BatchReader::new(1000), &nothing);
        assert_eq!(empty, Err(BatchFault::Empty));
    }

    #[test]
    fn what_came_before_a_fault_was_handed_out() {
        let mut stream = stream_of(&[vec![1; 10]]);
        stream.extend_from_slice(&[0; 8]);
        let mut batches = 0;
        let result = BatchReader::new(1000).on_bytes(&stream, Room::Ample, |_| batches += 1);
        assert!(matches!(result, Err(BatchFault::Head { .. })));
        assert_eq!(batches, 1);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_parts_a_stream_comes(
            batches in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
            cuts in prop::collection::vec(1..100usize, 1..20),
        ) {
            let stream = stream_of(&batches);
            let mut reader = BatchReader::new(300);
            let mut found = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, behind) = rest.split_at((*cut).min(rest.len()));
                found.extend(read(&mut reader, part).unwrap());
                rest = behind;
            }
            prop_assert_eq!(found, batches);
            prop_assert!(!reader.awaits_rest());
        }
    }
}
