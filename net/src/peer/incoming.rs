//! The receiver's end of a connection.

use crate::peer::answer::{PeerAnswer, PeerVerdict, RefusalCode};
use crate::peer::fault::{HelloFault, IncomingFault};
use crate::peer::hello::{PEER_HELLO_BYTES, PeerHello};
use crate::peer::reader::{BatchReader, Room};
use crate::peer::{LocalPeer, PeerCore, PeerLane};

/// Where the receiver's end is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncomingState {
    /// The hello is not complete.
    Greeting,
    /// Batches come from the core that said this hello.
    Open(PeerHello),
    /// Nothing is taken any more. An answer may have to be sent.
    Over,
}

/// The receiver's end of a connection: takes a hello, answers it, and hands out batches.
///
/// ```text
///            hello accepted            bytes that are no batch
///  Greeting ---------------> Open -------------------------------> Over
///      |                                                            ^
///      +------------------------------------------------------------+
///        hello refused
/// ```
#[derive(Debug)]
pub struct IncomingLink {
    state: IncomingState,
    hello: [u8; PEER_HELLO_BYTES],
    hello_bytes: usize,
    answer: Vec<u8>,
    reader: BatchReader,
}

impl IncomingLink {
    /// An end that refuses batches longer than this.
    #[must_use]
    pub fn new(batch_bytes_max: usize) -> IncomingLink {
        IncomingLink {
            state: IncomingState::Greeting,
            hello: [0; PEER_HELLO_BYTES],
            hello_bytes: 0,
            answer: Vec::new(),
            reader: BatchReader::new(batch_bytes_max),
        }
    }

    /// Takes bytes in. `local` is asked when a hello is complete, `admit` when it is a right one; batches are handed out
    /// with the core and the lane that the hello named.
    ///
    /// # Errors
    /// Why the connection is over, once. Then [`IncomingLink::take_answer`] has the last word, if there is one.
    pub fn on_bytes(
        &mut self,
        bytes: &[u8],
        room: Room,
        local: impl FnOnce() -> LocalPeer,
        admit: impl FnOnce(&PeerHello) -> Result<(), RefusalCode>,
        mut on_batch: impl FnMut(PeerCore, PeerLane, &[u8]),
    ) -> Result<(), IncomingFault> {
        let mut rest = bytes;
        if self.state == IncomingState::Greeting {
            let missing = PEER_HELLO_BYTES - self.hello_bytes;
            let (part, behind) = rest.split_at(missing.min(rest.len()));
            let end = self.hello_bytes + part.len();
            self.hello[self.hello_bytes..end].copy_from_slice(part);
            self.hello_bytes = end;
            rest = behind;
            self.refuse_strangers()?;
            if end == PEER_HELLO_BYTES {
                self.on_hello(&local(), admit)?;
            }
        }
        let IncomingState::Open(hello) = self.state else {
            return Ok(());
        };
        let (from, lane) = (hello.sender.core, hello.lane);
        let hand_out = |batch: &[u8]| on_batch(from, lane, batch);
        let result = self.reader.on_bytes(rest, room, hand_out);
        if result.is_err() {
            self.end();
        }
        Ok(result?)
    }

    /// Bytes that do not begin like a hello are none, however many follow.
    fn refuse_strangers(&mut self) -> Result<(), HelloFault> {
        let Some(first) = self.hello[..self.hello_bytes].first_chunk() else {
            return Ok(());
        };
        let found = u32::from_le_bytes(*first);
        if found == crate::peer::PEER_MAGIC {
            return Ok(());
        }
        self.end();
        Err(HelloFault::Magic { found })
    }

    fn on_hello(
        &mut self,
        local: &LocalPeer,
        admit: impl FnOnce(&PeerHello) -> Result<(), RefusalCode>,
    ) -> Result<(), HelloFault> {
        let checked = PeerHello::decode(&self.hello)
            .and_then(|hello| hello.check(local).map(|version| (hello, version)));
        let (hello, version) = match checked {
            Ok(checked) => checked,
            Err(fault) => {
                if let Some(code) = fault.refusal() {
                    self.answer(local, PeerVerdict::Refused(code));
                }
                self.end();
                return Err(fault);
            }
        };
        match admit(&hello) {
            Ok(()) => {
                self.answer(local, PeerVerdict::Accepted { version });
                self.state = IncomingState::Open(hello);
            }
            Err(code) => {
                self.answer(local, PeerVerdict::Refused(code));
                self.end();
            }
        }
        Ok(())
    }

    fn answer(&mut self, local: &LocalPeer, verdict: PeerVerdict) {
        let answer = PeerAnswer::new(*local, verdict);
        self.answer.extend_from_slice(&answer.encode());
    }

    fn end(&mut self) {
        self.state = IncomingState::Over;
        self.reader = BatchReader::new(0);
    }

    /// What must be sent: the answer, once.
    pub fn take_answer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.answer)
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> IncomingState {
        self.state
    }

    /// Whether a hello or a batch has begun and not ended.
    #[must_use]
    pub fn awaits_rest(&self) -> bool {
        match self.state {
            IncomingState::Greeting => true,
            IncomingState::Open(_) => self.reader.awaits_rest(),
            IncomingState::Over => false,
        }
    }

    /// Batches handed out so far.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.reader.batches()
    }

    /// What its buffer takes in memory.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.reader.buffer_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::fault::BatchFault;
    use crate::peer::reader::append_batch_head;
    use crate::peer::samples::{receiver, sample_hello};

    fn stream() -> Vec<u8> {
        let mut bytes = sample_hello().encode().to_vec();
        for batch in [&[1; 50][..], &[2; 60]] {
            append_batch_head(batch.len(), &mut bytes);
            bytes.extend_from_slice(batch);
        }
        bytes
    }

    fn feed(link: &mut IncomingLink, bytes: &[u8]) -> Result<usize, IncomingFault> {
        let mut count = 0;
        let hello = sample_hello();
        let on_batch = |from, lane, _: &[u8]| {
            assert_eq!((from, lane), (hello.sender.core, hello.lane));
            count += 1;
        };
        link.on_bytes(bytes, Room::Ample, receiver, |_| Ok(()), on_batch)?;
        Ok(count)
    }

    fn answer_of(link: &mut IncomingLink) -> Option<PeerVerdict> {
        let bytes = link.take_answer();
        let bytes = bytes.first_chunk()?;
        Some(PeerAnswer::decode(bytes).unwrap().verdict)
    }

    #[test]
    fn a_hello_is_answered_once_and_batches_follow() {
        let mut link = IncomingLink::new(100);
        assert_eq!(feed(&mut link, &stream()), Ok(2));
        assert_eq!(link.state(), IncomingState::Open(sample_hello()));
        let accepted = PeerVerdict::Accepted { version: 1 };
        assert_eq!(answer_of(&mut link), Some(accepted));
        assert_eq!(answer_of(&mut link), None);

        let mut link = IncomingLink::new(100);
        let stream = stream();
        let parts = stream.chunks(1);
        let one_by_one: usize = parts.map(|byte| feed(&mut link, byte).unwrap()).sum();
        assert_eq!(one_by_one, 2);
    }

    #[test]
    fn strangers_are_noticed_at_their_fourth_byte_and_get_no_answer() {
        let mut link = IncomingLink::new(100);
        assert_eq!(feed(&mut link, b"GET"), Ok(0));
        let fault = feed(&mut link, b" ").unwrap_err();
        assert!(matches!(
            fault,
            IncomingFault::Hello(HelloFault::Magic { .. })
        ));
        assert_eq!(link.state(), IncomingState::Over);
        assert_eq!(answer_of(&mut link), None);
        assert_eq!(feed(&mut link, &stream()), Ok(0));
    }

    #[test]
    fn who_is_not_welcome_is_told_why_and_not_heard() {
        let mut hello = sample_hello();
        hello.sender.cluster_id += 1;
        let mut link = IncomingLink::new(100);
        let mut bytes = stream();
        bytes[..PEER_HELLO_BYTES].copy_from_slice(&hello.encode());
        let fault = feed(&mut link, &bytes).unwrap_err();
        assert!(matches!(
            fault,
            IncomingFault::Hello(HelloFault::Cluster { .. })
        ));
        let refused = PeerVerdict::Refused(RefusalCode::Cluster);
        assert_eq!(answer_of(&mut link), Some(refused));
    }

    #[test]
    fn one_too_many_is_told_so() {
        let mut link = IncomingLink::new(100);
        let full = |_: &PeerHello| Err(RefusalCode::Full);
        let result = link.on_bytes(&stream(), Room::Ample, receiver, full, |_, _, _| panic!());
        assert_eq!(result, Ok(()));
        assert_eq!(link.state(), IncomingState::Over);
        let refused = PeerVerdict::Refused(RefusalCode::Full);
        assert_eq!(answer_of(&mut link), Some(refused));
    }

    #[test]
    fn after_bytes_that_are_no_batch_nothing_is_taken() {
        let mut link = IncomingLink::new(55);
        let fault = feed(&mut link, &stream()).unwrap_err();
        let too_long = BatchFault::TooLong {
            limit: 55,
            actual: 60,
        };
        assert_eq!(fault, IncomingFault::Batch(too_long));
        assert_eq!(link.state(), IncomingState::Over);
        assert_eq!(feed(&mut link, &stream()), Ok(0));
        assert!(!link.awaits_rest());
    }
}
