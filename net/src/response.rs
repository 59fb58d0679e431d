//! Responses: one decoder for clients, one function a kind that appends whole frames for servers.

use crate::admin::AdminReply;
use crate::batch::{BatchReply, BatchReplyWriter, read_outcome};
use crate::body::Body;
use crate::body_error::BodyError;
use crate::count::CountReply;
use crate::frame::{FrameFlags, FrameHeader, FrameKind, RequestId, append_frame, append_frame_of};
use crate::hello::HelloReply;
use crate::range::{ChunkEnd, ChunkKind, ChunkWriter, RangeChunk};
use crate::read::{GetManyReply, GetManyWriter, GetReply, ReadPosition};
use crate::shard_map::ShardMapReply;
use crate::status::StatusReply;
use crate::wire_error::WireError;
use metastore_statemachine::{Outcome, Row};

/// An answer, borrowed from the frame's body.
#[derive(Debug, Clone)]
pub enum Response<'a> {
    /// Who answers, and what it allows.
    Hello(HelloReply),
    /// It is there.
    Pong,
    /// One key.
    Get(GetReply<'a>),
    /// Several keys.
    GetMany(GetManyReply<'a>),
    /// How a command ended.
    Command(Outcome<'a>),
    /// How each command of a batch ended.
    Batch(BatchReply<'a>),
    /// A part of a range; more with the same id follow unless it is the last.
    Range(RangeChunk<'a>),
    /// The cancellation has arrived. The range itself is answered under its own id.
    Cancelled,
    /// What the core is doing.
    Status(StatusReply),
    /// Which core serves which slots.
    ShardMap(ShardMapReply),
    /// How many rows a range has.
    Count(CountReply),
    /// What became of an operator's request.
    Admin(AdminReply),
    /// It failed.
    Error(WireError),
}

impl<'a> Response<'a> {
    /// Reads the body of a response frame.
    ///
    /// # Errors
    /// What is wrong with it; the server and this client do not understand each other.
    pub fn decode(header: &FrameHeader, body: &'a [u8]) -> Result<Response<'a>, BodyError> {
        if header.flags.has(FrameFlags::ERROR) {
            return Ok(Response::Error(WireError::decode(body)?));
        }
        let Some(kind) = FrameKind::from_u16(header.kind) else {
            return Err(BodyError::Kind { found: header.kind });
        };
        Ok(match kind {
            FrameKind::Hello => Response::Hello(HelloReply::decode(body)?),
            FrameKind::Ping => empty(body, Response::Pong)?,
            FrameKind::Get => Response::Get(GetReply::decode(body)?),
            FrameKind::GetMany => Response::GetMany(GetManyReply::decode(body)?),
            FrameKind::Command => Response::Command(read_outcome(body)?),
            FrameKind::Batch => Response::Batch(BatchReply::decode(body)?),
            FrameKind::Range => {
                let chunk = if header.flags.has(FrameFlags::MORE) {
                    ChunkKind::More
                } else {
                    ChunkKind::Last
                };
                Response::Range(RangeChunk::decode(body, chunk)?)
            }
            FrameKind::Cancel => empty(body, Response::Cancelled)?,
            FrameKind::Status => Response::Status(StatusReply::decode(body)?),
            FrameKind::ShardMap => Response::ShardMap(ShardMapReply::decode(body)?),
            FrameKind::Count => Response::Count(CountReply::decode(body)?),
            FrameKind::Admin => Response::Admin(AdminReply::decode(body)?),
        })
    }
}

fn empty<'a>(body: &[u8], response: Response<'a>) -> Result<Response<'a>, BodyError> {
    Body::new(body).finish()?;
    Ok(response)
}

/// One response frame that is the only one of its request.
fn append_last(out: &mut Vec<u8>, kind: FrameKind, id: RequestId, body: impl FnOnce(&mut Vec<u8>)) {
    append_frame(out, kind, FrameFlags::RESPONSE, id, 0, body);
}

/// Says that a request of this kind failed.
pub fn append_error(out: &mut Vec<u8>, kind: FrameKind, id: RequestId, error: &WireError) {
    append_error_of(out, kind.as_u16(), id, error);
}

/// [`append_error`] for a request whose kind may be unknown here.
pub(crate) fn append_error_of(out: &mut Vec<u8>, kind: u16, id: RequestId, error: &WireError) {
    let flags = FrameFlags::RESPONSE.with(FrameFlags::ERROR);
    append_frame_of(out, kind, flags, id, 0, |body| error.encode_into(body));
}

/// Says why the server gives up the connection: an error of no request, with kind 0.
pub(crate) fn append_refusal(out: &mut Vec<u8>, error: &WireError) {
    append_error_of(out, 0, RequestId::CONNECTION, error);
}

/// Answers `hello`.
pub fn append_hello(out: &mut Vec<u8>, id: RequestId, reply: &HelloReply) {
    append_last(out, FrameKind::Hello, id, |body| reply.encode_into(body));
}

/// Answers `ping`.
pub fn append_pong(out: &mut Vec<u8>, id: RequestId) {
    append_last(out, FrameKind::Ping, id, |_| ());
}

/// Answers `get`.
pub fn append_get(out: &mut Vec<u8>, id: RequestId, position: ReadPosition, row: Option<Row<'_>>) {
    let reply = GetReply { position, row };
    append_last(out, FrameKind::Get, id, |body| reply.encode_into(body));
}

/// Answers `get_many`; `write` gives one row or its absence per key, in the order of the request.
pub fn append_get_many(
    out: &mut Vec<u8>,
    id: RequestId,
    position: ReadPosition,
    write: impl FnOnce(&mut GetManyWriter<'_>),
) {
    append_last(out, FrameKind::GetMany, id, |body| {
        GetManyWriter::encode_into(body, position, write);
    });
}

/// Answers `command`.
pub fn append_outcome(out: &mut Vec<u8>, id: RequestId, outcome: &Outcome<'_>) {
    append_last(out, FrameKind::Command, id, |body| {
        outcome.encode_into(body);
    });
}

/// Answers `command` with an outcome that was encoded elsewhere.
pub fn append_outcome_bytes(out: &mut Vec<u8>, id: RequestId, outcome: &[u8]) {
    append_last(out, FrameKind::Command, id, |body| {
        body.extend_from_slice(outcome);
    });
}

/// Answers `batch`; `write` answers every command, in the order of the request.
pub fn append_batch(
    out: &mut Vec<u8>,
    id: RequestId,
    write: impl FnOnce(&mut BatchReplyWriter<'_>),
) {
    append_last(out, FrameKind::Batch, id, |body| {
        BatchReplyWriter::encode_into(body, write);
    });
}

/// Answers `range` with one chunk.
pub fn append_chunk(
    out: &mut Vec<u8>,
    id: RequestId,
    end: ChunkEnd<'_>,
    write: impl FnOnce(&mut ChunkWriter<'_>),
) {
    let flags = match end {
        ChunkEnd::More => FrameFlags::RESPONSE.with(FrameFlags::MORE),
        ChunkEnd::Last(_) => FrameFlags::RESPONSE,
    };
    append_frame(out, FrameKind::Range, flags, id, 0, |body| {
        ChunkWriter::encode_into(body, end, write);
    });
}

/// Answers `cancel`.
pub fn append_cancelled(out: &mut Vec<u8>, id: RequestId) {
    append_last(out, FrameKind::Cancel, id, |_| ());
}

/// Answers `status`.
pub fn append_status(out: &mut Vec<u8>, id: RequestId, reply: &StatusReply) {
    append_last(out, FrameKind::Status, id, |body| reply.encode_into(body));
}

/// Answers `shard_map`.
pub fn append_shard_map(out: &mut Vec<u8>, id: RequestId, reply: &ShardMapReply) {
    append_last(out, FrameKind::ShardMap, id, |body| {
        reply.encode_into(body);
    });
}

/// Answers `admin`.
pub fn append_admin(out: &mut Vec<u8>, id: RequestId, reply: &AdminReply) {
    append_last(out, FrameKind::Admin, id, |body| reply.encode_into(body));
}

/// Answers `count`.
pub fn append_count(out: &mut Vec<u8>, id: RequestId, reply: &CountReply) {
    append_last(out, FrameKind::Count, id, |body| reply.encode_into(body));
}

#[cfg(test)]
mod tests;
