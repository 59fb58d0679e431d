//! What goes out on one connection of a server, and how much is under way.

use crate::frame::{FRAME_HEADER_BYTES, FrameFlags, FrameHeader, FrameKind, RequestId, cut_frame};
use crate::hello::ServerLimits;
use crate::response::{append_error_of, append_refusal};
use crate::wire_error::{ErrorCode, WireError};

/// A buffer that grew beyond this is given back once it is empty. What a busy connection keeps up to here is given back
/// when it falls idle ([`Outbox::release`]).
const BUFFER_BYTES_KEPT: usize = 16 * 1024;

/// A request whose frame is at most this long is counted, not weighed: with the limit on requests under way these
/// hold little.
const LIGHT_BYTES_MAX: usize = 4 * 1024;

/// What one connection may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// What the client is told in the answer to its hello.
    pub announced: ServerLimits,
    /// With this much waiting to be sent the connection is not read.
    pub outbound_bytes_max: usize,
    /// With this much waiting to be sent the connection is closed: requests already under way may answer beyond
    /// `outbound_bytes_max`, and a client that does not read must not hold all of it.
    pub outbound_bytes_close: usize,
    /// Commands under way, those of batches counted one by one. One more than allowed comes through when it is in a
    /// batch: a frame is taken whole.
    pub commands_under_way: u32,
    /// Bytes of long requests under way. One request is always let through.
    pub request_bytes_under_way: usize,
    /// Commands that are handed out before other connections have their turn.
    pub commands_per_turn: u32,
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            announced: ServerLimits::default(),
            outbound_bytes_max: 4 * 1024 * 1024,
            outbound_bytes_close: 64 * 1024 * 1024,
            commands_under_way: 8192,
            request_bytes_under_way: 4 * 1024 * 1024,
            commands_per_turn: 128,
        }
    }
}

/// What a request weighs beside being one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Weight {
    /// Commands in it, at least 1.
    pub(crate) commands: u32,
    /// Length of its frame.
    pub(crate) frame_bytes: usize,
}

impl Weight {
    fn is_light(self) -> bool {
        self.commands == 1 && self.frame_bytes <= LIGHT_BYTES_MAX
    }
}

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting for a hello.
    Greeting,
    /// Taking requests.
    Open,
    /// Refusing requests, answering those under way.
    Draining,
    /// Nothing comes any more but what is waiting to be sent.
    Closing,
}

/// Whether a reply was the last one to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// The request is done.
    Last,
    /// More frames to the same request follow.
    More,
}

/// What goes out on one connection, and how much is under way.
///
/// ```text
///              hello accepted              begin_drain
///  Greeting ------------------> Open ---------------------> Draining
///     |                           |                             |
///     | bad frame, no hello,      | bad frame                   | bad frame
///     | refused, begin_drain      v                             |
///     +----------------------> Closing <------------------------+
///
/// is_closing: in Closing, and in Draining once nothing is under way
/// ```
#[derive(Debug)]
pub struct Outbox {
    limits: ConnectionLimits,
    phase: Phase,
    bytes: Vec<u8>,
    /// How many of `bytes` the socket has taken.
    sent_bytes: usize,
    /// Requests handed out without a last answer.
    in_flight: u32,
    /// Those of them that are long or have many commands. Two requests of one id are both in it.
    heavy: Vec<(RequestId, Weight)>,
    heavy_commands: u32,
    heavy_bytes: usize,
    /// Whether a hello was ever accepted.
    was_greeted: bool,
}

impl Outbox {
    /// An outbox of a connection that has not said hello.
    pub fn new(limits: &ConnectionLimits) -> Outbox {
        Outbox {
            limits: *limits,
            phase: Phase::Greeting,
            bytes: Vec::new(),
            sent_bytes: 0,
            in_flight: 0,
            heavy: Vec::new(),
            heavy_commands: 0,
            heavy_bytes: 0,
            was_greeted: false,
        }
    }

    // Answers.

    /// Appends the frames that `encode` writes. An answer longer than a frame may be is replaced by `TooLarge`.
    ///
    /// # Panics
    /// When a last answer has no request under way, or a frame that announces more is longer than a frame may be:
    /// whoever streams cuts below the limit.
    pub fn reply(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> Answered) {
        let start = self.bytes.len();
        let answered = encode(&mut self.bytes);
        if answered == Answered::Last && !self.heavy.is_empty() {
            self.forget_heavy(start);
        }
        if self.bytes.len() - start > self.frame_bytes_max() {
            self.replace_oversized(start);
        }
        if answered == Answered::Last {
            assert!(self.in_flight > 0, "an answer without a request");
            self.in_flight -= 1;
        }
    }

    /// Takes the request that the frame at `start` answers off the scales. Where nothing was written the request was
    /// forgotten, and so is the longest known one.
    fn forget_heavy(&mut self, start: usize) {
        let frame = cut_frame(&self.bytes[start..], usize::MAX).ok().flatten();
        let place = match frame {
            Some(frame) => {
                let id = frame.header.request_id;
                self.heavy.iter().position(|(heavy, _)| *heavy == id)
            }
            None => Some(0),
        };
        if let Some(place) = place {
            let (_, weight) = self.heavy.remove(place);
            self.heavy_commands -= weight.commands;
            self.heavy_bytes -= weight.frame_bytes;
        }
    }

    /// Goes through the frames written from `start` on, and puts an error in place of each that is too long.
    fn replace_oversized(&mut self, start: usize) {
        let written = self.bytes.split_off(start);
        let mut rest = &written[..];
        while !rest.is_empty() {
            let frame = cut_frame(rest, usize::MAX)
                .ok()
                .flatten()
                .expect("replies are whole frames");
            let (bytes, next) = rest.split_at(frame.consumed_bytes);
            if bytes.len() > self.frame_bytes_max() {
                self.push_too_large(&frame.header);
            } else {
                self.bytes.extend_from_slice(bytes);
            }
            rest = next;
        }
    }

    fn push_too_large(&mut self, header: &FrameHeader) {
        assert!(
            !header.flags.has(FrameFlags::MORE),
            "a part of a stream is above the frame limit"
        );
        let actual = FRAME_HEADER_BYTES + header.body_bytes as usize;
        let error = WireError::too_large(self.frame_bytes_max(), actual)
            .with_message("the answer is longer than a frame may be");
        let kind = FrameKind::from_u16(header.kind);
        // What the answer would have told is lost, and with it what became of the mutation.
        let is_mutation = matches!(kind, Some(FrameKind::Command | FrameKind::Batch));
        let error = if is_mutation {
            error.outcome_unknown()
        } else {
            error
        };
        append_error_of(&mut self.bytes, header.kind, header.request_id, &error);
    }

    /// Appends an answer that the connection itself gives.
    pub(crate) fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.bytes);
    }

    /// Takes note of a request that is handed out.
    pub(crate) fn on_request(&mut self, id: RequestId, weight: Weight) {
        self.in_flight += 1;
        if !weight.is_light() {
            self.heavy.push((id, weight));
            self.heavy_commands += weight.commands;
            self.heavy_bytes += weight.frame_bytes;
        }
    }

    // Bytes.

    /// What the socket shall take.
    pub fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent_bytes..]
    }

    /// The socket took `count` bytes.
    pub fn on_sent(&mut self, count: usize) {
        self.sent_bytes += count;
        assert!(
            self.sent_bytes <= self.bytes.len(),
            "sent more than there is"
        );
        if self.sent_bytes == self.bytes.len() {
            self.sent_bytes = 0;
            clear_buffer(&mut self.bytes);
        } else if self.sent_bytes >= BUFFER_BYTES_KEPT && self.sent_bytes * 2 >= self.bytes.len() {
            // A connection that never quite empties its outbox must not keep all that it ever sent.
            self.bytes.drain(..self.sent_bytes);
            self.sent_bytes = 0;
        }
    }

    // State.

    /// Requests handed out without a last answer.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether a hello was accepted at any time.
    pub fn was_greeted(&self) -> bool {
        self.was_greeted
    }

    /// Whether requests have to wait at present.
    pub fn is_paused(&self) -> bool {
        self.in_flight >= self.limits.announced.commands_in_flight
            || self.in_flight.saturating_add(self.heavy_commands) >= self.limits.commands_under_way
            || self.heavy_bytes >= self.limits.request_bytes_under_way
            || self.unsent().len() >= self.limits.outbound_bytes_max
    }

    /// What its buffer takes in memory.
    pub fn buffer_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives the memory back that is kept for the next answer.
    pub fn release(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        if self.heavy.is_empty() {
            self.heavy = Vec::new();
        }
    }

    /// Whether so much is waiting that the connection must be cut.
    pub fn is_overfull(&self) -> bool {
        self.unsent().len() > self.limits.outbound_bytes_close
    }

    /// Whether the connection ends once [`Outbox::unsent`] is sent: nothing more will come.
    pub fn is_closing(&self) -> bool {
        match self.phase {
            Phase::Greeting | Phase::Open => false,
            Phase::Draining => self.in_flight == 0,
            Phase::Closing => true,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    fn frame_bytes_max(&self) -> usize {
        self.limits.announced.frame_bytes as usize
    }

    // Turns of its life.

    /// The hello was accepted.
    pub(crate) fn open(&mut self) {
        assert_eq!(self.phase, Phase::Greeting, "a connection is greeted once");
        self.phase = Phase::Open;
        self.was_greeted = true;
    }

    /// From now on requests are answered with `ShuttingDown`, and the connection closes when nothing is under way.
    pub fn begin_drain(&mut self) {
        match self.phase {
            Phase::Greeting => self.phase = Phase::Closing,
            Phase::Open => self.phase = Phase::Draining,
            Phase::Draining | Phase::Closing => {}
        }
    }

    /// What was under way is answered: nothing of what has not been answered was done, nor will it be. That is worth a
    /// last word, because a client may have sent something meanwhile.
    pub fn finish_drain(&mut self) {
        if self.phase == Phase::Draining {
            assert_eq!(self.in_flight, 0, "everything is answered before");
            self.refuse(&WireError::new(ErrorCode::ShuttingDown));
        }
    }

    /// Nothing more is taken nor answered.
    pub(crate) fn close(&mut self) {
        self.phase = Phase::Closing;
    }

    /// Gives the connection up with a last word.
    pub(crate) fn refuse(&mut self, error: &WireError) {
        append_refusal(&mut self.bytes, error);
        self.close();
    }
}

/// Empties a buffer and gives its memory back if it had grown.
fn clear_buffer(buffer: &mut Vec<u8>) {
    if buffer.capacity() > BUFFER_BYTES_KEPT {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}

#[cfg(test)]
mod tests;
