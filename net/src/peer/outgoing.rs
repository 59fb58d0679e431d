//! The sender's end of a connection.

use crate::peer::answer::{PEER_ANSWER_BYTES, PeerAnswer, PeerVerdict};
use crate::peer::fault::OutgoingFault;
use crate::peer::hello::PeerHello;

/// Where the sender's end is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutgoingState {
    /// The answer to the hello is not complete.
    Greeting,
    /// Batches may be sent.
    Open {
        /// The version that both ends speak.
        version: u16,
        /// Which life of its process the receiver is in.
        incarnation: u64,
    },
    /// Nothing is sent any more.
    Over,
}

/// The sender's end of a connection: waits for the answer to its hello, and for nothing else.
///
/// ```text
///            accepted by who was meant          any byte
///  Greeting ---------------------------> Open ----------> Over
///      |                                                    ^
///      +----------------------------------------------------+
///        refused, or no answer that can be believed
/// ```
#[derive(Debug)]
pub struct OutgoingLink {
    hello: PeerHello,
    state: OutgoingState,
    answer: [u8; PEER_ANSWER_BYTES],
    answer_bytes: usize,
}

impl OutgoingLink {
    /// An end that says this hello; the driver sends it first.
    #[must_use]
    pub fn new(hello: PeerHello) -> OutgoingLink {
        OutgoingLink {
            hello,
            state: OutgoingState::Greeting,
            answer: [0; PEER_ANSWER_BYTES],
            answer_bytes: 0,
        }
    }

    /// Takes in what the receiver says.
    ///
    /// # Errors
    /// Why the connection is over, once.
    pub fn on_bytes(&mut self, bytes: &[u8]) -> Result<OutgoingState, OutgoingFault> {
        let mut rest = bytes;
        if self.state == OutgoingState::Greeting {
            let missing = PEER_ANSWER_BYTES - self.answer_bytes;
            let (part, behind) = rest.split_at(missing.min(rest.len()));
            let end = self.answer_bytes + part.len();
            self.answer[self.answer_bytes..end].copy_from_slice(part);
            self.answer_bytes = end;
            rest = behind;
            if end == PEER_ANSWER_BYTES {
                // Before it is known to be good the connection is of no use.
                self.state = OutgoingState::Over;
                self.state = self.on_answer()?;
            }
        }
        let is_chatter = !rest.is_empty() && self.state != OutgoingState::Over;
        if is_chatter {
            self.state = OutgoingState::Over;
            return Err(OutgoingFault::Chatter);
        }
        Ok(self.state)
    }

    fn on_answer(&self) -> Result<OutgoingState, OutgoingFault> {
        let answer = PeerAnswer::decode(&self.answer)?;
        answer.check(&self.hello)?;
        match answer.verdict {
            PeerVerdict::Accepted { version } => Ok(OutgoingState::Open {
                version,
                incarnation: answer.receiver.incarnation,
            }),
            PeerVerdict::Refused(code) => Err(OutgoingFault::Refused {
                by: answer.receiver.core,
                code,
            }),
        }
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> OutgoingState {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::answer::RefusalCode;
    use crate::peer::fault::AnswerFault;
    use crate::peer::samples::{receiver, sample_answer, sample_hello, sample_refusal};

    #[test]
    fn an_answer_opens_it_also_in_parts() {
        let bytes = sample_answer().encode();
        let mut link = OutgoingLink::new(sample_hello());
        for byte in &bytes[..bytes.len() - 1] {
            assert_eq!(link.on_bytes(&[*byte]), Ok(OutgoingState::Greeting));
        }
        let open = OutgoingState::Open {
            version: 1,
            incarnation: receiver().incarnation,
        };
        assert_eq!(link.on_bytes(&bytes[bytes.len() - 1..]), Ok(open));
        assert_eq!(link.on_bytes(&[1]), Err(OutgoingFault::Chatter));
        assert_eq!(link.on_bytes(&[1]), Ok(OutgoingState::Over));
    }

    #[test]
    fn a_refusal_says_who_answers_and_why() {
        let mut link = OutgoingLink::new(sample_hello());
        let refused = link.on_bytes(&sample_refusal().encode()).unwrap_err();
        let expected = OutgoingFault::Refused {
            by: sample_refusal().receiver.core,
            code: RefusalCode::Receiver,
        };
        assert_eq!(refused, expected);
        assert_eq!(link.state(), OutgoingState::Over);
    }

    #[test]
    fn consent_of_somebody_else_opens_nothing() {
        let mut answer = sample_answer();
        answer.receiver.core.node += 1;
        let mut link = OutgoingLink::new(sample_hello());
        let fault = link.on_bytes(&answer.encode()).unwrap_err();
        assert!(matches!(
            fault,
            OutgoingFault::Answer(AnswerFault::Receiver { .. })
        ));
        assert_eq!(link.state(), OutgoingState::Over);
    }
}
