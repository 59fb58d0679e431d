//! Between the protocol's messages and the core's, for what simulated clients ask.

use metastore_engine::{
    BatchItem, ChunkEnd, Happened, ReadShape, Reply, Request as CoreRequest, RequestError,
    RequestKind, ShardId,
};
use metastore_net::{
    self as net, Answered, ErrorCode, FrameKind, ReadPosition, Request, RequestId, ShardRevision,
    WireError,
};
use metastore_statemachine::{Revision, Row};

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
        Request::Batch(batch) => CoreRequest::Batch {
            count: batch.count,
            commands: batch.bytes(),
        },
        Request::Range(range) => CoreRequest::Range {
            query: range.query,
            shards: range.shards,
            chunk_bytes: range.chunk_bytes as usize,
        },
        Request::Count(count) => CoreRequest::Count {
            query: count.query,
            shards: count.shards,
        },
        Request::Cancel { .. }
        | Request::Status
        | Request::ShardMap
        | Request::Admin(_)
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
        Reply::Batch(items) => net::append_batch(out, id, |writer| {
            for item in items {
                match item {
                    BatchItem::Outcome(outcome) => writer.outcome_bytes(outcome.of(arena)),
                    BatchItem::Error(error) => writer.error(&wire_error(error)),
                }
            }
        }),
        Reply::Chunk { count, rows, end } => {
            return append_chunk((id, *count), rows.of(arena), end, out);
        }
        Reply::Count { count, revisions } => {
            let reply = net::CountReply {
                count: *count,
                revisions: shard_revisions(revisions),
            };
            net::append_count(out, id, &reply);
        }
        Reply::Cancelled | Reply::Status(_) => unreachable!("nobody asked for it"),
    }
    Answered::Last
}

fn append_chunk(
    (id, count): (RequestId, u32),
    rows: &[u8],
    end: &ChunkEnd,
    out: &mut Vec<u8>,
) -> Answered {
    let mut append = |end| net::append_chunk(out, id, end, |chunk| chunk.row_bytes(count, rows));
    match end {
        ChunkEnd::More => {
            append(net::ChunkEnd::More);
            Answered::More
        }
        ChunkEnd::Last(revisions) => {
            append(net::ChunkEnd::Last(&shard_revisions(revisions)));
            Answered::Last
        }
    }
}

fn shard_revisions(revisions: &[(ShardId, Revision)]) -> Vec<ShardRevision> {
    let to_wire = |&(shard, revision): &(ShardId, Revision)| ShardRevision {
        shard: shard.0,
        revision,
    };
    revisions.iter().map(to_wire).collect()
}

fn frame_kind(kind: RequestKind) -> FrameKind {
    match kind {
        RequestKind::Command => FrameKind::Command,
        RequestKind::Get => FrameKind::Get,
        RequestKind::GetMany => FrameKind::GetMany,
        RequestKind::Batch => FrameKind::Batch,
        RequestKind::Range => FrameKind::Range,
        RequestKind::Count => FrameKind::Count,
        RequestKind::Cancel | RequestKind::Status => unreachable!("nobody asked for it"),
    }
}

/// What a client needs of an error: whether to go elsewhere, whether it may have happened, what a read in the past missed.
fn wire_error(error: &RequestError) -> WireError {
    let code = match error {
        RequestError::NotLeader { .. } => ErrorCode::NotLeader,
        RequestError::Overloaded { .. } => ErrorCode::Overloaded,
        RequestError::Deadline { .. } => ErrorCode::Deadline,
        RequestError::LogBudget { .. } | RequestError::DiskLow { .. } => ErrorCode::ReadOnly,
        RequestError::ShuttingDown => ErrorCode::ShuttingDown,
        RequestError::UnknownNamespace(_) => ErrorCode::NamespaceUnknown,
        RequestError::CrossShard { .. } => ErrorCode::CrossShard,
        RequestError::Compacted { .. } => ErrorCode::Compacted,
        RequestError::FutureRevision { .. } => ErrorCode::FutureRevision,
        RequestError::Unavailable { .. }
        | RequestError::TooLarge { .. }
        | RequestError::AnswerTooLarge { .. }
        | RequestError::DeletedInPart { .. }
        | RequestError::RangeExpired
        | RequestError::QuotaExceeded { .. }
        | RequestError::Cancelled => ErrorCode::Unavailable,
    };
    let mut wire = WireError::new(code).with_message(error.to_string());
    if let RequestError::Compacted { oldest: revision }
    | RequestError::FutureRevision { current: revision } = error
    {
        wire.revision = *revision;
    }
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
