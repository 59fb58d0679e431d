//! Between the protocol's messages and the core's, for what simulated clients ask.

use metastore_engine::{
    Happened, ReadShape, Reply, Request as CoreRequest, RequestError, RequestKind,
};
use metastore_net::{
    self as net, Answered, ErrorCode, FrameKind, ReadPosition, Request, RequestId, WireError,
};
use metastore_statemachine::Row;

/// The core's form of a request.
pub(super) fn to_core<'a>(request: &Request<'a>) -> CoreRequest<'a> {
    match *request {
        Request::Command(checked) => CoreRequest::Command {
            command: checked.command,
            bytes: checked.bytes,
        },
        Request::Get(get) => CoreRequest::Get(get.query),
        Request::GetMany(many) => CoreRequest::GetMany {
            namespace: many.namespace,
            at: many.at,
            count: many.count,
            keys: many.key_bytes(),
        },
        Request::Batch(_)
        | Request::Range(_)
        | Request::Count(_)
        | Request::Cancel { .. }
        | Request::Status
        | Request::ShardMap
        | Request::Hello(_)
        | Request::Ping => unreachable!("simulated clients of a cluster do not ask for it"),
    }
}

/// Appends the frame of a reply, whose spans lie in `arena`.
pub(super) fn append_reply(
    id: RequestId,
    kind: RequestKind,
    reply: &Reply,
    arena: &[u8],
    out: &mut Vec<u8>,
) -> Answered {
    match reply {
        Reply::Outcome(outcome) => net::append_outcome_bytes(out, id, outcome.of(arena)),
        Reply::Rows {
            shape,
            shard,
            revision,
            found,
            rows,
        } => {
            let position = ReadPosition {
                shard: shard.0,
                revision: *revision,
            };
            let mut rest = rows.of(arena);
            let mut next_row = || {
                let (row, length) = Row::decode(rest).expect("the core encodes its rows");
                let (bytes, after) = rest.split_at(length);
                rest = after;
                (row, bytes)
            };
            let found = found.of(arena);
            match shape {
                ReadShape::One => {
                    let row = (found == [1]).then(|| next_row().0);
                    net::append_get(out, id, position, row);
                }
                ReadShape::Many => net::append_get_many(out, id, position, |writer| {
                    for exists in found {
                        writer.row_bytes(if *exists == 1 { next_row().1 } else { &[] });
                    }
                }),
            }
        }
        Reply::Error(error) => net::append_error(out, frame_kind(kind), id, &wire_error(error)),
        Reply::Batch(_)
        | Reply::Chunk { .. }
        | Reply::Count { .. }
        | Reply::Cancelled
        | Reply::Status(_) => unreachable!("nobody asked for it"),
    }
    Answered::Last
}

fn frame_kind(kind: RequestKind) -> FrameKind {
    match kind {
        RequestKind::Command => FrameKind::Command,
        RequestKind::Get => FrameKind::Get,
        RequestKind::GetMany => FrameKind::GetMany,
        RequestKind::Batch
        | RequestKind::Range
        | RequestKind::Count
        | RequestKind::Cancel
        | RequestKind::Status => unreachable!("nobody asked for it"),
    }
}

/// What a client needs of an error: whether to go elsewhere, and whether it may have happened.
fn wire_error(error: &RequestError) -> WireError {
    let code = match error {
        RequestError::NotLeader { .. } => ErrorCode::NotLeader,
        RequestError::Overloaded { .. } => ErrorCode::Overloaded,
        RequestError::Deadline { .. } => ErrorCode::Deadline,
        RequestError::LogBudget { .. } | RequestError::DiskLow { .. } => ErrorCode::ReadOnly,
        RequestError::ShuttingDown => ErrorCode::ShuttingDown,
        RequestError::UnknownNamespace(_)
        | RequestError::Unavailable { .. }
        | RequestError::TooLarge { .. }
        | RequestError::AnswerTooLarge { .. }
        | RequestError::CrossShard { .. }
        | RequestError::DeletedInPart { .. }
        | RequestError::Compacted { .. }
        | RequestError::FutureRevision { .. }
        | RequestError::RangeExpired
        | RequestError::QuotaExceeded { .. }
        | RequestError::Cancelled => ErrorCode::Unavailable,
    };
    let mut wire = WireError::new(code).with_message(error.to_string());
    if let RequestError::NotLeader {
        leader: Some(leader),
        ..
    } = error
    {
        wire.hint = leader.node.to_string();
    }
    wire.happened = match error.happened() {
        Happened::NotDone => net::Happened::NotDone,
        Happened::Unknown => net::Happened::Unknown,
    };
    wire
}
