//! What waits to be sent on one connection.

use std::collections::VecDeque;

use crate::peer::reader::{BATCH_BYTES_MAX, BATCH_HEAD_BYTES, append_batch_head};

/// A buffer that grew beyond this is given back once it is empty.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;

/// What became of a batch that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// It waits to be sent.
    Taken,
    /// Too much waits already: it is dropped whole. Raft sends it again when the receiver says what it lacks.
    Full,
    /// It is longer than a batch may be, or empty: it is dropped.
    Unsendable,
}

/// The batches that wait to be sent on one connection, in one piece, so that one write takes all of a turn.
///
/// Beyond a bound the newest are dropped, each as a whole: what was taken is sent in its order and without a gap inside
/// a batch, and the oldest go first because a receiver can use nothing that follows a gap. Where nothing waits, a batch
/// of any allowed length is taken.
#[derive(Debug)]
pub struct BatchQueue {
    bytes_max: usize,
    bytes: Vec<u8>,
    /// How many of `bytes` the socket has taken.
    sent_bytes: usize,
    /// Lengths of the batches that were not sent to their end, heads included.
    lengths: VecDeque<usize>,
    /// How much of the first of them was sent.
    first_sent_bytes: usize,
}

impl BatchQueue {
    /// A queue that holds `bytes_max`, or a single longer batch.
    #[must_use]
    pub fn new(bytes_max: usize) -> BatchQueue {
        BatchQueue {
            bytes_max,
            bytes: Vec::new(),
            sent_bytes: 0,
            lengths: VecDeque::new(),
            first_sent_bytes: 0,
        }
    }

    /// Appends a batch, or drops it.
    pub fn push(&mut self, batch: &[u8]) -> Queued {
        if batch.is_empty() || batch.len() > BATCH_BYTES_MAX {
            return Queued::Unsendable;
        }
        let length = BATCH_HEAD_BYTES + batch.len();
        if !self.is_empty() && self.unsent().len() + length > self.bytes_max {
            return Queued::Full;
        }
        self.bytes.reserve(length);
        append_batch_head(batch.len(), &mut self.bytes);
        self.bytes.extend_from_slice(batch);
        self.lengths.push_back(length);
        Queued::Taken
    }

    /// What the socket shall take.
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent_bytes..]
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// How many batches wait, one that was sent in part included.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.lengths.len()
    }

    /// What its buffer takes in memory.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// The socket took `count` bytes. Returns how many batches that completed.
    ///
    /// # Panics
    /// When that is more than there was.
    pub fn on_sent(&mut self, count: usize) -> usize {
        self.sent_bytes += count;
        assert!(
            self.sent_bytes <= self.bytes.len(),
            "sent more than there is"
        );
        let before = self.lengths.len();
        self.first_sent_bytes += count;
        while let Some(&length) = self.lengths.front()
            && self.first_sent_bytes >= length
        {
            self.first_sent_bytes -= length;
            self.lengths.pop_front();
        }
        if self.sent_bytes == self.bytes.len() {
            self.sent_bytes = 0;
            self.bytes.clear();
            if self.bytes.capacity() > BUFFER_BYTES_KEPT {
                self.bytes = Vec::new();
            }
        } else if self.sent_bytes >= BUFFER_BYTES_KEPT && self.sent_bytes * 2 >= self.bytes.len() {
            // A queue that is never quite empty must not keep all that it ever held.
            self.bytes.drain(..self.sent_bytes);
            self.sent_bytes = 0;
        }
        before - self.lengths.len()
    }

    /// Forgets everything, because the connection has ended: what was sent in part cannot go on in another one. Returns
    /// how many batches are lost that way.
    pub fn clear(&mut self) -> usize {
        let lost = self.lengths.len();
        *self = BatchQueue::new(self.bytes_max);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::reader::{BatchReader, Room};

    /// Everything that a reader makes of what a queue sends, `step` bytes at a time.
    fn sent(queue: &mut BatchQueue, step: usize) -> Vec<Vec<u8>> {
        let mut reader = BatchReader::new(BATCH_BYTES_MAX);
        let mut batches = Vec::new();
        while !queue.is_empty() {
            let count = step.min(queue.unsent().len());
            let part = queue.unsent()[..count].to_vec();
            let completed = queue.on_sent(count);
            let before = batches.len();
            reader
                .on_bytes(&part, Room::Ample, |batch| batches.push(batch.to_vec()))
                .unwrap();
            assert_eq!(batches.len() - before, completed);
        }
        assert!(queue.unsent().is_empty());
        batches
    }

    #[test]
    fn what_is_taken_is_sent_whole_and_in_order() {
        for step in [1, 7, 100, 1000, usize::MAX] {
            let mut queue = BatchQueue::new(10_000);
            let batches: Vec<_> = (1..=9).map(|number| vec![number; 100]).collect();
            for batch in &batches {
                assert_eq!(queue.push(batch), Queued::Taken);
            }
            assert_eq!(queue.batches(), 9);
            assert_eq!(sent(&mut queue, step), batches);
        }
    }

    #[test]
    fn beyond_the_bound_the_newest_are_dropped_and_never_a_part_of_one() {
        let mut queue = BatchQueue::new(300);
        assert_eq!(queue.push(&[1; 150]), Queued::Taken);
        assert_eq!(queue.push(&[2; 200]), Queued::Full);
        assert_eq!(queue.push(&[3; 100]), Queued::Taken);
        assert_eq!(queue.push(&[4; 100]), Queued::Full);
        assert!(queue.unsent().len() <= 300);
        // What the socket takes makes room again.
        queue.on_sent(158);
        assert_eq!(queue.push(&[5; 100]), Queued::Taken);
        let rest = sent(&mut queue, 50);
        assert_eq!(rest, [vec![3; 100], vec![5; 100]]);
    }

    #[test]
    fn a_batch_longer_than_the_bound_goes_alone() {
        let mut queue = BatchQueue::new(300);
        assert_eq!(queue.push(&[1; 1000]), Queued::Taken);
        assert_eq!(queue.push(&[2; 1]), Queued::Full);
        assert_eq!(sent(&mut queue, 500), [vec![1; 1000]]);
    }

    #[test]
    fn what_no_reader_would_take_is_not_sent() {
        let mut queue = BatchQueue::new(300);
        assert_eq!(queue.push(&[]), Queued::Unsendable);
        let too_long = vec![0; BATCH_BYTES_MAX + 1];
        assert_eq!(queue.push(&too_long), Queued::Unsendable);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_queue_that_is_never_empty_does_not_grow() {
        let mut queue = BatchQueue::new(1 << 20);
        queue.push(&[0; 1000]);
        for _ in 0..10_000 {
            queue.push(&[1; 1000]);
            queue.on_sent(1008);
            assert_eq!(queue.batches(), 1);
        }
        assert!(queue.buffer_bytes() <= 4 * BUFFER_BYTES_KEPT);
    }

    #[test]
    fn what_is_left_at_an_end_is_counted() {
        let mut queue = BatchQueue::new(1000);
        for _ in 0..3 {
            queue.push(&[1; 100]);
        }
        queue.on_sent(110);
        assert_eq!(queue.clear(), 2);
        assert!(queue.is_empty() && queue.unsent().is_empty());
        assert_eq!(queue.buffer_bytes(), 0);
    }
}
