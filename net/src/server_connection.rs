//! The server's end of a connection, without a socket and without a clock.
//!
//! It is two objects, because a request is handed out while it borrows the bytes received, and the answer may come
//! before the call returns: [`ServerConnection`] takes bytes in, [`Outbox`] gathers what goes out and knows how much
//! is under way. The driver owns the first and shares the second.

use crate::frame::{
    Frame, FrameError, FrameFlags, FrameKind, PROTOCOL_VERSION, RequestId, cut_frame,
};
use crate::hello::{HelloInfo, HelloReply, HelloRequest};
use crate::outbox::{ConnectionLimits, Outbox, Phase, Weight};
use crate::request::{Request, RequestLimits};
use crate::response::{append_error_of, append_hello, append_pong};
use crate::wire_error::{ErrorCode, WireError};
use std::cell::RefCell;

/// Longest frame before the hello was accepted.
const GREETING_BYTES_MAX: usize = 4096;

/// What the driver does after bytes were taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// Read on.
    Reading,
    /// A limit is reached: read nothing until [`Outbox::is_paused`] is over, then call
    /// [`ServerConnection::on_bytes`] without bytes as long as [`ServerConnection::is_holding`].
    Paused,
    /// The connection has had its turn: let the others have theirs, then call [`ServerConnection::on_bytes`] without
    /// bytes as long as [`ServerConnection::is_holding`].
    Yield,
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
    /// How many of `inbound` were handed out already.
    inbound_done: usize,
    /// Commands that may still be handed out in this turn.
    turn_left: u32,
    /// Whole frames that were taken, ever.
    frames_taken: u64,
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
            inbound_done: 0,
            turn_left: limits.commands_per_turn,
            frames_taken: 0,
            is_holding: false,
        }
    }

    /// Whether requests that have arrived may be waiting for a limit.
    pub fn is_holding(&self) -> bool {
        self.is_holding
    }

    /// Takes bytes as they were received and hands out every request that is complete with them, until a limit is
    /// reached or the connection has had its turn. Hello, ping and what is malformed are answered here.
    ///
    /// `on_request` gets id, deadline in milliseconds and request; the outbox is not borrowed meanwhile.
    pub fn on_bytes(
        &mut self,
        bytes: &[u8],
        outbox: &RefCell<Outbox>,
        hello: impl Fn() -> HelloInfo,
        mut on_request: impl FnMut(RequestId, u32, Request<'_>),
    ) -> Intake {
        self.turn_left = self.limits.commands_per_turn;
        if self.inbound.is_empty() {
            let consumed_bytes = self.deliver(bytes, outbox, &hello, &mut on_request);
            self.inbound.extend_from_slice(&bytes[consumed_bytes..]);
        } else {
            self.append_inbound(bytes);
            let inbound = std::mem::take(&mut self.inbound);
            let rest = &inbound[self.inbound_done..];
            self.inbound_done += self.deliver(rest, outbox, &hello, &mut on_request);
            // What is left of a connection that has nothing to say would be kept for its whole life.
            if self.inbound_done == inbound.len() {
                self.inbound_done = 0;
            } else {
                self.inbound = inbound;
            }
        }
        let outbox = outbox.borrow();
        self.is_holding = false;
        if outbox.is_closing() {
            self.discard();
            Intake::Closing
        } else if outbox.is_paused() {
            self.is_holding = !self.inbound.is_empty();
            Intake::Paused
        } else if self.turn_left == 0 {
            self.is_holding = !self.inbound.is_empty();
            Intake::Yield
        } else {
            Intake::Reading
        }
    }

    /// Forgets what has arrived: the connection takes nothing more.
    pub fn discard(&mut self) {
        self.inbound = Vec::new();
        self.inbound_done = 0;
        self.is_holding = false;
    }

    /// What its buffer takes in memory.
    pub fn buffer_bytes(&self) -> usize {
        self.inbound.capacity()
    }

    /// Whether a part of a frame is here and the rest has to come from the client.
    pub fn awaits_rest(&self) -> bool {
        !self.inbound.is_empty() && !self.is_holding
    }

    /// Whole frames that were taken since the beginning: it tells one unfinished frame from the next.
    pub fn frames_taken(&self) -> u64 {
        self.frames_taken
    }

    /// Puts bytes behind those that wait. What was handed out makes room first, once it is the larger part.
    fn append_inbound(&mut self, bytes: &[u8]) {
        if self.inbound_done * 2 >= self.inbound.len() {
            self.inbound.drain(..self.inbound_done);
            self.inbound_done = 0;
        }
        self.inbound.extend_from_slice(bytes);
    }

    fn deliver(
        &mut self,
        bytes: &[u8],
        outbox: &RefCell<Outbox>,
        hello: &impl Fn() -> HelloInfo,
        on_request: &mut impl FnMut(RequestId, u32, Request<'_>),
    ) -> usize {
        let mut consumed_bytes = 0;
        loop {
            let mut open = outbox.borrow_mut();
            // Who has not said hello holds no more memory than a hello needs.
            let frame_bytes_max = match open.was_greeted() {
                true => self.limits.announced.frame_bytes as usize,
                false => GREETING_BYTES_MAX.min(self.limits.announced.frame_bytes as usize),
            };
            if open.is_closing() || open.is_paused() || self.turn_left == 0 {
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
            self.frames_taken += 1;
            let Some(request) = self.admit(&frame, &mut open, hello) else {
                self.turn_left = self.turn_left.saturating_sub(1);
                continue;
            };
            let weight = Weight {
                commands: commands_of(&request),
                frame_bytes: frame.consumed_bytes,
            };
            self.turn_left = self.turn_left.saturating_sub(weight.commands);
            open.on_request(frame.header.request_id, weight);
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
        if outbox.phase() == Phase::Greeting {
            let reply = if header.kind == FrameKind::Hello.as_u16() {
                decoded.and_then(|request| self.greet(&request, hello))
            } else {
                Err(WireError::new(ErrorCode::HelloRequired))
            };
            match reply {
                Ok(reply) => {
                    outbox.push(|out| append_hello(out, id, &reply));
                    outbox.open();
                }
                Err(error) => {
                    outbox.push(|out| append_error_of(out, header.kind, id, &error));
                    outbox.close();
                }
            }
            return None;
        }
        let refused = match decoded {
            Err(error) => error,
            Ok(Request::Ping) => {
                outbox.push(|out| append_pong(out, id));
                return None;
            }
            Ok(Request::Hello(_)) => {
                WireError::new(ErrorCode::BadRequest).with_message("hello was said before")
            }
            Ok(_) if outbox.phase() == Phase::Draining => WireError::new(ErrorCode::ShuttingDown),
            Ok(request) => return Some(request),
        };
        outbox.push(|out| append_error_of(out, header.kind, id, &refused));
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

/// How many commands a request counts for.
fn commands_of(request: &Request<'_>) -> u32 {
    if let Request::Batch(batch) = request {
        batch.count.max(1)
    } else if let Request::GetMany(many) = request {
        many.count.max(1)
    } else {
        1
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

#[cfg(test)]
mod tests;
