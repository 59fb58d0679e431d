//! The client's end of a connection, without a socket and without a clock.

mod pending;

use crate::admin::AdminRequest;
use crate::batch::BatchRequest;
use crate::body_error::BodyError;
use crate::count::CountRequest;
use crate::frame::{
    FRAME_BYTES_MAX_DEFAULT, Frame, FrameError, FrameFlags, FrameKind, RequestId, append_frame,
    cut_frame,
};
use crate::hello::HelloRequest;
use crate::range::RangeRequest;
use crate::read::{Consistency, GetManyRequest, GetRequest};
use crate::request::encode_cancel;
use crate::response::Response;
use crate::wire_error::{ErrorCode, Happened, WireError};
use metastore_statemachine::{Command, NamespaceId, Revision, Structured};
use pending::Pending;

/// How a client treats a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// The longest frame it takes from the server, header included.
    pub frame_bytes_max: usize,
    /// The deadline that requests carry until [`ClientConnection::set_deadline_ms`]; 0 for the server's default.
    pub deadline_ms: u32,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            frame_bytes_max: FRAME_BYTES_MAX_DEFAULT,
            deadline_ms: 0,
        }
    }
}

/// The client's end of one connection.
///
/// To drive it, in this order:
///
/// 1. [`hello`](Self::hello) first, then requests as they come: each appends a frame to the outbound bytes and gives
///    the id under which it will be answered.
/// 2. Send [`outbound`](Self::outbound) and remove what was sent.
/// 3. Hand every byte received to [`on_bytes`](Self::on_bytes): it matches answers to requests. They may come in any
///    order; a range is answered several times, up to its last chunk or an error.
/// 4. When the connection breaks, or `on_bytes` fails, [`on_closed`](Self::on_closed) tells what is left unanswered.
///    A new connection is a new object.
#[derive(Debug)]
pub struct ClientConnection {
    frame_bytes_max: usize,
    deadline_ms: u32,
    outbound: Vec<u8>,
    /// The beginning of a frame whose end has not arrived. Empty most of the time: whole frames are read from where
    /// they arrived.
    inbound: Vec<u8>,
    pending: Pending,
    /// The server has said that it did nothing of what it has not answered.
    was_finished: bool,
}

/// A request that was not answered when the connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Its id.
    pub id: RequestId,
    /// What it was.
    pub kind: FrameKind,
    /// Mutations may have happened; everything else may simply be asked again.
    pub happened: Happened,
}

/// The server and this client do not understand each other. The connection is of no further use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The bytes are not frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A body cannot be read.
    #[error("the answer to request {id} cannot be read: {error}")]
    Body {
        /// The request.
        id: RequestId,
        /// What is wrong with it.
        error: BodyError,
    },
    /// A frame is a request.
    #[error("the server sent a request")]
    NotAResponse,
    /// An answer to a request that is not in flight.
    #[error("answer to request {id}, which is not in flight")]
    UnknownId {
        /// The id.
        id: RequestId,
    },
    /// An answer of another kind than its request.
    #[error("request {id} was answered with kind {found} instead of {expected:?}")]
    Kind {
        /// The request.
        id: RequestId,
        /// Its kind.
        expected: FrameKind,
        /// The kind of the answer.
        found: u16,
    },
    /// A second answer is announced where there can be only one.
    #[error("request {id} is answered with more than one frame")]
    More {
        /// The request.
        id: RequestId,
    },
    /// The server gives up the connection.
    #[error("the server gave up the connection: {0}")]
    Refused(WireError),
}

impl ClientConnection {
    /// The end of a connection on which nothing has been sent.
    pub fn new(options: &ClientOptions) -> ClientConnection {
        ClientConnection {
            frame_bytes_max: options.frame_bytes_max,
            deadline_ms: options.deadline_ms,
            outbound: Vec::new(),
            inbound: Vec::new(),
            pending: Pending::default(),
            was_finished: false,
        }
    }

    // Requests.

    /// Says who is there. The first request of every connection.
    pub fn hello(&mut self, hello: &HelloRequest<'_>) -> RequestId {
        self.request(FrameKind::Hello, |body| hello.encode_into(body))
    }

    /// Asks for a sign of life.
    pub fn ping(&mut self) -> RequestId {
        self.request(FrameKind::Ping, |_| ())
    }

    /// Reads one key.
    pub fn get(&mut self, get: &GetRequest<'_>) -> RequestId {
        self.request(FrameKind::Get, |body| get.encode_into(body))
    }

    /// Reads several keys of one shard at one revision.
    pub fn get_many(
        &mut self,
        namespace: NamespaceId,
        at: Option<Revision>,
        consistency: Consistency,
        keys: &[&[u8]],
    ) -> RequestId {
        self.request(FrameKind::GetMany, |body| {
            GetManyRequest::encode_into(body, namespace, at, consistency, keys);
        })
    }

    /// Sets a key to a value.
    pub fn put(&mut self, namespace: NamespaceId, key: &[u8], value: &[u8]) -> RequestId {
        self.command(&Command::put(namespace, key, value))
    }

    /// Removes a key.
    pub fn delete(&mut self, namespace: NamespaceId, key: &[u8]) -> RequestId {
        self.command(&Command::delete(namespace, key))
    }

    /// Any command.
    pub fn command(&mut self, command: &Command<'_>) -> RequestId {
        self.request(FrameKind::Command, |body| command.encode_into(body))
    }

    /// A command with structure. `key` is its routing key; [`Structured::first_named`] may give one.
    pub fn structured(
        &mut self,
        namespace: NamespaceId,
        key: &[u8],
        structured: &Structured<'_>,
    ) -> RequestId {
        let value = structured.encode();
        self.command(&Command::structured(
            structured.kind(),
            namespace,
            key,
            &value,
        ))
    }

    /// Independent commands, each answered on its own, in one frame.
    pub fn batch(&mut self, commands: &[Command<'_>]) -> RequestId {
        self.request(FrameKind::Batch, |body| {
            BatchRequest::encode_into(body, commands);
        })
    }

    /// Streams the rows of a range.
    pub fn range(&mut self, range: &RangeRequest<'_>) -> RequestId {
        self.request(FrameKind::Range, |body| range.encode_into(body))
    }

    /// Counts the rows of a range.
    pub fn count(&mut self, count: &CountRequest<'_>) -> RequestId {
        self.request(FrameKind::Count, |body| count.encode_into(body))
    }

    /// Ends a range early. Chunks that are on their way still arrive; then the range is answered with `Cancelled`,
    /// or with its last chunk if that was faster.
    pub fn cancel(&mut self, range: RequestId) -> RequestId {
        self.request(FrameKind::Cancel, |body| encode_cancel(range, body))
    }

    /// Asks what the core is doing.
    pub fn status(&mut self) -> RequestId {
        self.request(FrameKind::Status, |_| ())
    }

    /// Asks which core serves which slots.
    pub fn shard_map(&mut self) -> RequestId {
        self.request(FrameKind::ShardMap, |_| ())
    }

    /// Asks something of the replicas of a shard.
    pub fn admin(&mut self, request: &AdminRequest<'_>) -> RequestId {
        self.request(FrameKind::Admin, |body| request.encode_into(body))
    }

    /// A request whose body was encoded before, so that it can be sent again as it was.
    #[cfg(feature = "client")]
    pub(crate) fn encoded(&mut self, kind: FrameKind, body: &[u8]) -> RequestId {
        self.request(kind, |out| out.extend_from_slice(body))
    }

    /// Awaits an answer to a request that is never sent: for fuzzers, which write answers of every kind.
    pub(crate) fn expect_answer(&mut self, kind: FrameKind) -> RequestId {
        self.pending.insert(kind)
    }

    /// The deadline of the requests that follow; 0 for the server's default.
    pub fn set_deadline_ms(&mut self, deadline_ms: u32) {
        self.deadline_ms = deadline_ms;
    }

    fn request(&mut self, kind: FrameKind, body: impl FnOnce(&mut Vec<u8>)) -> RequestId {
        let id = self.pending.insert(kind);
        append_frame(
            &mut self.outbound,
            kind,
            FrameFlags::NONE,
            id,
            self.deadline_ms,
            body,
        );
        id
    }

    // Bytes.

    /// The bytes to send. The driver removes what it has sent, and only that.
    pub fn outbound(&mut self) -> &mut Vec<u8> {
        &mut self.outbound
    }

    /// Takes bytes as they were received, and hands out each answer that is complete with them.
    ///
    /// # Errors
    /// The connection is of no further use. Answers handed out before are right.
    pub fn on_bytes(
        &mut self,
        bytes: &[u8],
        mut on_response: impl FnMut(RequestId, Response<'_>),
    ) -> Result<(), ProtocolError> {
        if self.inbound.is_empty() {
            let consumed_bytes = self.deliver(bytes, &mut on_response)?;
            self.inbound.extend_from_slice(&bytes[consumed_bytes..]);
            return Ok(());
        }
        self.inbound.extend_from_slice(bytes);
        let mut inbound = std::mem::take(&mut self.inbound);
        let consumed_bytes = self.deliver(&inbound, &mut on_response)?;
        inbound.drain(..consumed_bytes);
        self.inbound = inbound;
        Ok(())
    }

    fn deliver(
        &mut self,
        bytes: &[u8],
        on_response: &mut impl FnMut(RequestId, Response<'_>),
    ) -> Result<usize, ProtocolError> {
        let mut consumed_bytes = 0;
        while let Some(frame) = cut_frame(&bytes[consumed_bytes..], self.frame_bytes_max)? {
            consumed_bytes += frame.consumed_bytes;
            let response = self.on_frame(&frame)?;
            on_response(frame.header.request_id, response);
        }
        Ok(consumed_bytes)
    }

    /// Matches one answer to its request.
    fn on_frame<'a>(&mut self, frame: &Frame<'a>) -> Result<Response<'a>, ProtocolError> {
        let header = &frame.header;
        let id = header.request_id;
        if !header.flags.has(FrameFlags::RESPONSE) {
            return Err(ProtocolError::NotAResponse);
        }
        let read = |error| ProtocolError::Body { id, error };
        if id == RequestId::CONNECTION {
            let response = Response::decode(header, frame.body).map_err(read)?;
            return Err(if let Response::Error(error) = response {
                self.was_finished = error.code == ErrorCode::ShuttingDown;
                ProtocolError::Refused(error)
            } else {
                ProtocolError::UnknownId { id }
            });
        }
        let Some(expected) = self.pending.kind(id) else {
            return Err(ProtocolError::UnknownId { id });
        };
        if header.kind != expected.as_u16() {
            return Err(ProtocolError::Kind {
                id,
                expected,
                found: header.kind,
            });
        }
        let has_more = header.flags.has(FrameFlags::MORE);
        let is_chunk = expected == FrameKind::Range && !header.flags.has(FrameFlags::ERROR);
        if has_more && !is_chunk {
            return Err(ProtocolError::More { id });
        }
        // Only an answer that can be read ends a request: otherwise its outcome is as unknown as without one.
        let response = Response::decode(header, frame.body).map_err(read)?;
        if !has_more {
            self.pending.remove(id);
        }
        Ok(response)
    }

    // State.

    /// How many requests await an answer.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// The connection has ended: the requests that will get no answer from it. Outbound bytes are dropped.
    pub fn on_closed(&mut self) -> impl Iterator<Item = Lost> + use<> {
        self.outbound.clear();
        self.inbound.clear();
        let was_finished = self.was_finished;
        self.pending.drain().map(move |(id, kind)| Lost {
            id,
            kind,
            happened: match was_finished {
                true => Happened::NotDone,
                false => happened_when_lost(kind),
            },
        })
    }
}

/// What is known of a request whose answer never came.
fn happened_when_lost(kind: FrameKind) -> Happened {
    match kind {
        FrameKind::Command | FrameKind::Batch | FrameKind::Admin => Happened::Unknown,
        FrameKind::Hello
        | FrameKind::Ping
        | FrameKind::Get
        | FrameKind::GetMany
        | FrameKind::Range
        | FrameKind::Count
        | FrameKind::Cancel
        | FrameKind::Status
        | FrameKind::ShardMap => Happened::NotDone,
    }
}

#[cfg(test)]
mod tests;
