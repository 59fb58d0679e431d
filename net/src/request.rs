//! Requests: one decoder for servers, one encoder for clients.

use crate::admin::AdminRequest;
use crate::batch::{BatchRequest, CheckedCommand};
use crate::body::Body;
use crate::body_error::BodyError;
use crate::count::CountRequest;
use crate::frame::{FrameHeader, FrameKind, RequestId};
use crate::generated::layout::CancelBase;
use crate::hello::{HelloRequest, ServerLimits};
use crate::range::RangeRequest;
use crate::read::{GetManyRequest, GetRequest};
use crate::wire_error::WireError;
use metastore_statemachine::CommandLimits;

const _: () = assert!(size_of::<CancelBase>() == 8);

/// What the edge lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Sizes within a command; keys of reads are held to the same.
    pub command: CommandLimits,
    /// Commands in one `batch`.
    pub batch_commands_max: usize,
    /// Keys in one `get_many`.
    pub get_many_keys_max: usize,
}

impl Default for RequestLimits {
    fn default() -> RequestLimits {
        RequestLimits::from(&ServerLimits::default())
    }
}

impl From<&ServerLimits> for RequestLimits {
    fn from(limits: &ServerLimits) -> RequestLimits {
        RequestLimits {
            command: CommandLimits {
                key_bytes_max: limits.key_bytes as usize,
                value_bytes_max: limits.value_bytes as usize,
            },
            batch_commands_max: limits.batch_commands as usize,
            get_many_keys_max: limits.get_many_keys as usize,
        }
    }
}

/// A request with everything checked that can be checked without state. It borrows the frame's body.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// The first exchange.
    Hello(HelloRequest<'a>),
    /// Are you there?
    Ping,
    /// One key.
    Get(GetRequest<'a>),
    /// Several keys of one shard.
    GetMany(GetManyRequest<'a>),
    /// One command.
    Command(CheckedCommand<'a>),
    /// Independent commands.
    Batch(BatchRequest<'a>),
    /// A stream of rows.
    Range(RangeRequest<'a>),
    /// End the range with this id; it is answered with `Cancelled` unless it is already complete.
    Cancel {
        /// The id of the range's request.
        range: RequestId,
    },
    /// What this core is doing.
    Status,
    /// Which core serves which slots.
    ShardMap,
    /// How many rows a range has.
    Count(CountRequest<'a>),
    /// What an operator asks of the replicas of a shard.
    Admin(AdminRequest<'a>),
}

impl<'a> Request<'a> {
    /// Reads the body of a request frame.
    ///
    /// # Errors
    /// An answer that says what is wrong; nothing was done.
    pub fn decode(
        header: &FrameHeader,
        body: &'a [u8],
        limits: &RequestLimits,
    ) -> Result<Request<'a>, WireError> {
        Ok(decode_body(header.kind, body, limits)?)
    }

    /// The kind of frame that carries it.
    pub fn kind(&self) -> FrameKind {
        match self {
            Request::Hello(_) => FrameKind::Hello,
            Request::Ping => FrameKind::Ping,
            Request::Get(_) => FrameKind::Get,
            Request::GetMany(_) => FrameKind::GetMany,
            Request::Command(_) => FrameKind::Command,
            Request::Batch(_) => FrameKind::Batch,
            Request::Range(_) => FrameKind::Range,
            Request::Cancel { .. } => FrameKind::Cancel,
            Request::Status => FrameKind::Status,
            Request::ShardMap => FrameKind::ShardMap,
            Request::Count(_) => FrameKind::Count,
            Request::Admin(_) => FrameKind::Admin,
        }
    }
}

fn decode_body<'a>(
    kind: u16,
    body: &'a [u8],
    limits: &RequestLimits,
) -> Result<Request<'a>, BodyError> {
    let Some(kind) = FrameKind::from_u16(kind) else {
        return Err(BodyError::Kind { found: kind });
    };
    Ok(match kind {
        FrameKind::Hello => Request::Hello(HelloRequest::decode(body)?),
        FrameKind::Ping => empty(body, Request::Ping)?,
        FrameKind::Get => Request::Get(GetRequest::decode(body, limits)?),
        FrameKind::GetMany => Request::GetMany(GetManyRequest::decode(body, limits)?),
        FrameKind::Command => Request::Command(CheckedCommand::decode(body, limits)?),
        FrameKind::Batch => Request::Batch(BatchRequest::decode(body, limits)?),
        FrameKind::Range => Request::Range(RangeRequest::decode(body, limits)?),
        FrameKind::Cancel => {
            let mut body = Body::new(body);
            let base = CancelBase(body.take_array()?);
            body.finish()?;
            Request::Cancel {
                range: RequestId(base.request_id()),
            }
        }
        FrameKind::Status => empty(body, Request::Status)?,
        FrameKind::ShardMap => empty(body, Request::ShardMap)?,
        FrameKind::Count => Request::Count(CountRequest::decode(body, limits)?),
        FrameKind::Admin => Request::Admin(AdminRequest::decode(body)?),
    })
}

fn empty<'a>(body: &[u8], request: Request<'a>) -> Result<Request<'a>, BodyError> {
    Body::new(body).finish()?;
    Ok(request)
}

/// Appends the body of a cancellation.
pub(crate) fn encode_cancel(range: RequestId, out: &mut Vec<u8>) {
    out.extend_from_slice(&CancelBase::new(range.0).0);
}

#[cfg(test)]
mod tests;
