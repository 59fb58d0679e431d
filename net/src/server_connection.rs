//! The server's end of a connection, without a socket and without a clock.
//!
//! It is two objects, because a request is handed out while it borrows the bytes received, and the answer may come
//! before the call returns: [`ServerConnection`] takes bytes in, [`Outbox`] gathers what goes out and knows how much
//! is under way. The driver owns the first and shares the second.

use crate::frame::{
    Frame, FrameError, FrameFlags, FrameKind, PROTOCOL_VERSION, RequestId, cut_frame,
};
use crate::hello::{HelloInfo, HelloReply, HelloRequest};
use crate::outbox::{ConnectionLimits, Outbox, Phase, clear_buffer};
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
        let mut consumed_bytes = 0;
        loop {
            let mut open = outbox.borrow_mut();
            // Who has not said hello holds no more memory than a hello needs.
            let frame_bytes_max = match open.was_greeted() {
                true => self.limits.announced.frame_bytes as usize,
                false => GREETING_BYTES_MAX.min(self.limits.announced.frame_bytes as usize),
            };
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
            open.on_request();
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
