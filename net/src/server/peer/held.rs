//! Who may be read while memory for batches that have come in part is short.

use std::collections::{BTreeMap, VecDeque};

use crate::peer::Room;

/// The number of a connection, never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkSerial(pub(super) u64);

/// Whether a read has completed a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// What is held now is what was held before, and more.
    Same,
    /// What was held before was handed over. What is held now is another batch.
    Completed,
}

/// What all connections of a core hold of batches that have come in part.
///
/// While it is more than its bound, who has begun a batch waits, and only the one that has the pass may go on: without
/// it, many that have begun could wait for each other for ever. The pass is good for one batch and goes round in the
/// order in which connections began to wait, so that a sender who always has a next batch keeps nobody waiting for ever.
/// Who has not begun is read, and keeps what came and no more.
///
/// So the memory is at most the bound and two batches, and the bytes of one read for each connection.
#[derive(Debug)]
pub(super) struct HeldMemory {
    bytes: usize,
    bytes_max: usize,
    holders: BTreeMap<LinkSerial, Holder>,
    pass: Option<LinkSerial>,
    /// Those who wait for the pass.
    waiting: VecDeque<LinkSerial>,
}

#[derive(Debug, Clone, Copy)]
struct Holder {
    bytes: usize,
    is_waiting: bool,
}

impl HeldMemory {
    pub(super) fn new(bytes_max: usize) -> HeldMemory {
        HeldMemory {
            bytes: 0,
            bytes_max,
            holders: BTreeMap::new(),
            pass: None,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_short(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// How much a connection may take for what it is about to read.
    pub(super) fn room(&self, link: LinkSerial) -> Room {
        match self.is_short() {
            false => Room::Ample,
            true if self.pass == Some(link) => Room::ForOne,
            true => Room::Scarce,
        }
    }

    /// Whether a connection may be read. If not, it is named by [`HeldMemory::on_held`] or [`HeldMemory::on_end`] when
    /// it may.
    pub(super) fn may_read(&mut self, link: LinkSerial) -> bool {
        let is_short = self.is_short();
        let Some(holder) = self.holders.get_mut(&link) else {
            return true;
        };
        if !is_short || self.pass == Some(link) {
            return true;
        }
        if self.pass.is_none() {
            self.pass = Some(link);
            return true;
        }
        if !holder.is_waiting {
            holder.is_waiting = true;
            self.waiting.push_back(link);
        }
        false
    }

    /// A connection was read and holds so much now. Names those who may be read again.
    #[must_use]
    pub(super) fn on_held(
        &mut self,
        link: LinkSerial,
        held_bytes: usize,
        progress: Progress,
    ) -> Vec<LinkSerial> {
        let holder = Holder {
            bytes: held_bytes,
            is_waiting: false,
        };
        let before = match held_bytes {
            0 => self.holders.remove(&link),
            _ => self.holders.insert(link, holder),
        };
        let before = before.map_or(0, |before| {
            assert!(!before.is_waiting, "who waits is not read");
            before.bytes
        });
        self.bytes = self.bytes - before + held_bytes;
        if self.pass == Some(link) && progress == Progress::Completed {
            self.pass = None;
        }
        self.pass_on()
    }

    /// A connection has ended. Names those who may be read again.
    #[must_use]
    pub(super) fn on_end(&mut self, link: LinkSerial) -> Vec<LinkSerial> {
        let Some(ended) = self.holders.remove(&link) else {
            return Vec::new();
        };
        self.bytes -= ended.bytes;
        if ended.is_waiting {
            self.waiting.retain(|waiting| *waiting != link);
        }
        if self.pass == Some(link) {
            self.pass = None;
        }
        self.pass_on()
    }

    fn pass_on(&mut self) -> Vec<LinkSerial> {
        let mut released = Vec::new();
        if !self.is_short() {
            self.pass = None;
            released.extend(self.waiting.drain(..));
        } else if self.pass.is_none() {
            self.pass = self.waiting.pop_front();
            released.extend(self.pass);
        }
        for link in &released {
            let holder = self.holders.get_mut(link);
            holder.expect("who waits holds something").is_waiting = false;
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LinkSerial = LinkSerial(1);
    const B: LinkSerial = LinkSerial(2);
    const C: LinkSerial = LinkSerial(3);

    /// All three have begun, and hold more than they may.
    fn short() -> HeldMemory {
        let mut memory = HeldMemory::new(100);
        for link in [A, B, C] {
            assert!(memory.may_read(link));
            assert_eq!(memory.on_held(link, 50, Progress::Same), []);
        }
        memory
    }

    #[test]
    fn within_the_bound_everybody_is_read() {
        let mut memory = HeldMemory::new(100);
        assert_eq!(memory.on_held(A, 60, Progress::Same), []);
        assert_eq!(memory.on_held(B, 40, Progress::Same), []);
        assert!(memory.may_read(A) && memory.may_read(B));
        assert_eq!(memory.room(A), Room::Ample);
        assert_eq!(memory.bytes(), 100);
    }

    #[test]
    fn beyond_it_one_after_the_other_may_finish() {
        let mut memory = short();
        assert!(memory.may_read(B));
        assert!(!memory.may_read(C) && !memory.may_read(A) && !memory.may_read(C));
        assert_eq!(memory.room(B), Room::ForOne);
        assert_eq!(memory.room(A), Room::Scarce);
        // It takes what it needs for its batch, and keeps the pass until that is complete.
        assert_eq!(memory.on_held(B, 90, Progress::Same), []);
        assert!(memory.may_read(B) && !memory.may_read(A));
        assert_eq!(memory.on_held(B, 20, Progress::Completed), [C]);
        assert!(memory.may_read(C) && !memory.may_read(B));
        // Now there is room for everybody.
        assert_eq!(memory.on_held(C, 0, Progress::Completed), [A, B]);
        assert!(memory.may_read(A) && memory.may_read(B));
        assert_eq!(memory.bytes(), 70);
    }

    #[test]
    fn who_always_has_a_next_batch_does_not_keep_the_pass() {
        let mut memory = short();
        assert!(memory.may_read(A));
        assert!(!memory.may_read(B));
        assert_eq!(memory.on_held(A, 50, Progress::Completed), [B]);
        assert!(!memory.may_read(A));
        assert_eq!(memory.on_held(B, 50, Progress::Completed), [A]);
        // Where nobody else waits, it goes on.
        assert_eq!(memory.on_held(A, 50, Progress::Completed), []);
        assert!(memory.may_read(A));
    }

    #[test]
    fn who_has_not_begun_is_read_and_keeps_what_came() {
        let mut memory = short();
        let late = LinkSerial(9);
        assert!(memory.may_read(late));
        assert_eq!(memory.room(late), Room::Scarce);
        assert_eq!(memory.on_held(late, 10, Progress::Completed), []);
        assert!(memory.may_read(A));
        assert!(!memory.may_read(late));
    }

    #[test]
    fn an_end_gives_back_what_was_held_and_the_pass() {
        let mut memory = short();
        assert!(memory.may_read(A));
        assert!(!memory.may_read(B) && !memory.may_read(C));
        assert_eq!(memory.on_held(A, 200, Progress::Same), []);
        assert_eq!(memory.on_end(B), [], "it waited, and does no more");
        assert_eq!(memory.bytes(), 250);
        assert_eq!(memory.on_end(A), [C]);
        assert_eq!(memory.on_end(C), []);
        assert_eq!((memory.bytes(), memory.pass), (0, None));
        assert_eq!(memory.on_end(C), []);
    }

    #[test]
    fn an_end_gives_the_pass_to_the_next_while_memory_is_short() {
        let mut memory = HeldMemory::new(0);
        for link in [A, B, C] {
            assert_eq!(memory.on_held(link, 50, Progress::Same), []);
        }
        assert!(memory.may_read(A));
        assert!(!memory.may_read(B) && !memory.may_read(C));
        assert_eq!(memory.on_end(A), [B]);
        assert!(memory.may_read(B) && !memory.may_read(C));
    }
}
