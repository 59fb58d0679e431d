//! The server's end of a connection, without a socket and without a clock.
//!
//! It is two objects, because a request is handed out while it borrows the bytes received, and the answer may come
//! before the call returns: [`ServerConnection`] takes bytes in, [`Outbox`] gathers what goes out and knows how much
//! is under way. The driver owns the first and shares the second.
//!
//! ```text
//!             hello accepted             bad frame, refused hello
//!  Greeting ------------------> Open --------------------------+
//!     |                          |                             v
//!     |                          +-- begin_drain --> Draining  |
//!     |                                                 |      |
//!     +-- bad frame, no hello, refused hello ------> Closing <-+
//!                                                       ^
//!                        nothing under way -------------+ (from Draining)
//! ```

use crate::frame::{Frame, FrameError, FrameFlags, PROTOCOL_VERSION, RequestId, cut_frame};
use crate::hello::{HelloInfo, HelloReply, HelloRequest, ServerLimits};
use crate::request::{Request, RequestLimits};
use crate::response::{append_error_of, append_hello, append_pong, append_refusal};
use crate::wire_error::{ErrorCode, WireError};
use std::cell::RefCell;

/// A buffer that grew beyond this is given back once it is empty, so that one large frame does not hold its memory
/// for the life of the connection.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;

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
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            announced: ServerLimits::default(),
            outbound_bytes_max: 4 * 1024 * 1024,
            outbound_bytes_close: 64 * 1024 * 1024,
        }
    }
}

/// Where a connection is in its life; see the figure above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeting,
    Open,
    Draining,
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
#[derive(Debug)]
pub struct Outbox {
    limits: ConnectionLimits,
    phase: Phase,
    bytes: Vec<u8>,
    /// How many of `bytes` the socket has taken.
    sent_bytes: usize,
    /// Requests handed out without a last answer.
    in_flight: u32,
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
            was_greeted: false,
        }
    }

    /// Appends the frames that `encode` writes.
    ///
    /// # Panics
    /// When a last answer has no request under way.
    pub fn reply(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> Answered) {
        match encode(&mut self.bytes) {
            Answered::More => {}
            Answered::Last => {
                assert!(self.in_flight > 0, "an answer without a request");
                self.in_flight -= 1;
            }
        }
    }

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

    /// Requests handed out without a last answer.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether a hello was accepted at any time.
    pub fn was_greeted(&self) -> bool {
        self.was_greeted
    }

    /// Whether more requests may come in at present.
    pub fn is_paused(&self) -> bool {
        self.in_flight >= self.limits.announced.commands_in_flight
            || self.unsent().len() >= self.limits.outbound_bytes_max
    }

    /// Whether so much is waiting that the connection must be cut.
    pub fn is_overfull(&self) -> bool {
        self.unsent().len() > self.limits.outbound_bytes_close
    }

    /// From now on requests are answered with `ShuttingDown`, and the connection closes when nothing is under way.
    pub fn begin_drain(&mut self) {
        match self.phase {
            Phase::Greeting => self.phase = Phase::Closing,
            Phase::Open => self.phase = Phase::Draining,
            Phase::Draining | Phase::Closing => {}
        }
    }

    /// Whether the connection ends once [`Outbox::unsent`] is sent: nothing more will come.
    pub fn is_closing(&self) -> bool {
        match self.phase {
            Phase::Greeting | Phase::Open => false,
            Phase::Draining => self.in_flight == 0,
            Phase::Closing => true,
        }
    }

    /// Gives the connection up with a last word.
    fn refuse(&mut self, error: &WireError) {
        append_refusal(&mut self.bytes, error);
        self.phase = Phase::Closing;
    }
}

/// What the driver does after bytes were taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// Read on.
    Reading,
    /// A limit is reached: read nothing until [`Outbox::is_paused`] is over, then call
    /// [`ServerConnection::on_bytes`] without bytes as long as [`ServerConnection::is_holding`].
    Paused,
    /// Read no more; send what is in the outbox and close.
    Closing,
}

/// The side of a connection that takes bytes in.
#[derive(Debug)]
pub struct ServerConnection {
    limits: ConnectionLimits,
    request_limits: RequestLimits,
    /// What came in behind the last whole frame that was handed out. It grows with the bytes that arrive, not with
    /// the length that a header claims.
    inbound: Vec<u8>,
    /// Whether a limit kept back what may be a whole request.
    is_holding: bool,
}

impl ServerConnection {
    /// A connection on which nothing has arrived.
    pub fn new(limits: &ConnectionLimits) -> ServerConnection {
        ServerConnection {
            limits: *limits,
            request_limits: RequestLimits::from(&limits.announced),
            inbound: Vec::new(),
            is_holding: false,
        }
    }

    /// Whether requests that have arrived may be waiting for a limit.
    pub fn is_holding(&self) -> bool {
        self.is_holding
    }

    /// Takes bytes as they were received and hands out every request that is complete with them, until a limit is
    /// reached. Hello, ping and what is malformed are answered here.
    ///
    /// `on_request` gets id, deadline in milliseconds and request; the outbox is not borrowed meanwhile.
    pub fn on_bytes(
        &mut self,
        bytes: &[u8],
        outbox: &RefCell<Outbox>,
        hello: impl Fn() -> HelloInfo,
        mut on_request: impl FnMut(RequestId, u32, Request<'_>),
    ) -> Intake {
        if self.inbound.is_empty() {
            let consumed_bytes = self.deliver(bytes, outbox, &hello, &mut on_request);
            self.inbound.extend_from_slice(&bytes[consumed_bytes..]);
        } else {
            self.inbound.extend_from_slice(bytes);
            let mut inbound = std::mem::take(&mut self.inbound);
            let consumed_bytes = self.deliver(&inbound, outbox, &hello, &mut on_request);
            if consumed_bytes == inbound.len() {
                clear_buffer(&mut inbound);
            } else {
                inbound.drain(..consumed_bytes);
            }
            self.inbound = inbound;
        }
        let outbox = outbox.borrow();
        self.is_holding = false;
        if outbox.is_closing() {
            self.inbound = Vec::new();
            Intake::Closing
        } else if outbox.is_paused() {
            self.is_holding = !self.inbound.is_empty();
            Intake::Paused
        } else {
            Intake::Reading
        }
    }

    fn deliver(
        &self,
        bytes: &[u8],
        outbox: &RefCell<Outbox>,
        hello: &impl Fn() -> HelloInfo,
        on_request: &mut impl FnMut(RequestId, u32, Request<'_>),
    ) -> usize {
        let frame_bytes_max = self.limits.announced.frame_bytes as usize;
        let mut consumed_bytes = 0;
        loop {
            let mut open = outbox.borrow_mut();
            if open.is_closing() || open.is_paused() {
                return consumed_bytes;
            }
            let frame = match cut_frame(&bytes[consumed_bytes..], frame_bytes_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => return consumed_bytes,
                Err(error) => {
                    open.refuse(&refusal_of(&error));
                    return consumed_bytes;
                }
            };
            consumed_bytes += frame.consumed_bytes;
            let Some(request) = self.admit(&frame, &mut open, hello) else {
                continue;
            };
            open.in_flight += 1;
            drop(open);
            on_request(frame.header.request_id, frame.header.deadline_ms, request);
        }
    }

    /// The request of a frame, if it is one for the service. Everything else is answered.
    fn admit<'a>(
        &self,
        frame: &Frame<'a>,
        outbox: &mut Outbox,
        hello: &impl Fn() -> HelloInfo,
    ) -> Option<Request<'a>> {
        let header = &frame.header;
        let id = header.request_id;
        if header.flags != FrameFlags::NONE || id == RequestId::CONNECTION {
            let error = WireError::new(ErrorCode::BadFrame)
                .with_message("a request has no flags, and an id other than 0");
            outbox.refuse(&error);
            return None;
        }
        let decoded = Request::decode(header, frame.body, &self.request_limits);
        if outbox.phase == Phase::Greeting {
            let reply = decoded.and_then(|request| self.greet(&request, hello));
            match reply {
                Ok(reply) => {
                    append_hello(&mut outbox.bytes, id, &reply);
                    outbox.phase = Phase::Open;
                    outbox.was_greeted = true;
                }
                Err(error) => {
                    append_error_of(&mut outbox.bytes, header.kind, id, &error);
                    outbox.phase = Phase::Closing;
                }
            }
            return None;
        }
        let refused = match decoded {
            Err(error) => error,
            Ok(Request::Ping) => {
                append_pong(&mut outbox.bytes, id);
                return None;
            }
            Ok(Request::Hello(_)) => {
                WireError::new(ErrorCode::BadRequest).with_message("hello was said before")
            }
            Ok(_) if outbox.phase == Phase::Draining => WireError::new(ErrorCode::ShuttingDown),
            Ok(request) => return Some(request),
        };
        append_error_of(&mut outbox.bytes, header.kind, id, &refused);
        None
    }

    /// The answer to the first request, which must be a hello that fits.
    fn greet(
        &self,
        request: &Request<'_>,
        hello: &impl Fn() -> HelloInfo,
    ) -> Result<HelloReply, WireError> {
        let Request::Hello(greeting) = request else {
            return Err(WireError::new(ErrorCode::HelloRequired));
        };
        let info = hello();
        check_greeting(greeting, info.cluster_id)?;
        Ok(HelloReply {
            version: PROTOCOL_VERSION,
            info,
            limits: self.limits.announced,
        })
    }
}

fn check_greeting(greeting: &HelloRequest<'_>, cluster_id: u128) -> Result<(), WireError> {
    let versions = greeting.version_min..=greeting.version_max;
    if !versions.contains(&PROTOCOL_VERSION) {
        let error = WireError::new(ErrorCode::Unsupported);
        return Err(error.with_message(format!("only version {PROTOCOL_VERSION} is spoken here")));
    }
    match greeting.cluster_id {
        Some(expected) if expected != cluster_id => {
            let error = WireError::new(ErrorCode::WrongCluster);
            Err(error.with_message(format!("this is cluster {cluster_id:032x}")))
        }
        Some(_) | None => Ok(()),
    }
}

/// What a client is told whose bytes are not frames.
fn refusal_of(error: &FrameError) -> WireError {
    let refusal = match *error {
        FrameError::TooLarge { limit, actual } => WireError::too_large(limit, actual),
        FrameError::Version { .. } => WireError::new(ErrorCode::Unsupported),
        FrameError::Magic { .. } | FrameError::Checksum { .. } | FrameError::Flags { .. } => {
            WireError::new(ErrorCode::BadFrame)
        }
    };
    refusal.with_message(error.to_string())
}

/// Empties a buffer and gives its memory back if it had grown.
fn clear_buffer(buffer: &mut Vec<u8>) {
    if buffer.capacity() > BUFFER_BYTES_KEPT {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}
