//! Between the protocol's messages and the core's: no type of either passes to the other side.

mod members;

use metastore_engine::{
    BatchItem, ChunkEnd, CoreId, CoreStatus, Happened, LogIndex, NodeId, PeerCore, PeerLane,
    ReadShape, ReplicaStatus, Reply, Request as EngineRequest, RequestError,
    RequestId as EngineRequestId, RequestKind, Role, ShardId, StageSummary,
};
use metastore_net::Answered;
use metastore_net::server::ConnectionCounts;
use metastore_net::{
    self as net, Counter, ErrorCode, FrameKind, HelloInfo, LogStatus, ReadPosition, ReplicaRole,
    Request, RequestId, ShardRevision, StageStatus, StatusReply, WireError,
};
use metastore_statemachine::{Revision, Row};

pub(crate) use self::members::{
    change_refused, check_core, create_refused, members_change, members_reply, nodes_reply,
    to_cluster_node,
};
use super::clock::Clock;
use super::driver::PeerCounts;
use super::memory::MemoryCounts;
use super::places::Places;
use crate::allocator;

/// What a core tells about itself beside what [`metastore_engine::Core`] knows.
#[derive(Debug, Clone)]
pub(crate) struct CoreFacts {
    pub(crate) hello: HelloInfo,
    pub(crate) places: Places,
    pub(crate) flush_method: &'static str,
    pub(crate) budget_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) clock: Clock,
}

/// What the driver counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DriverCounts {
    pub(crate) connections: usize,
    /// Durable writes that the ring was given, marks included.
    pub(crate) ring_writes: u64,
    pub(crate) connection_counts: ConnectionCounts,
    pub(crate) memory: MemoryCounts,
    pub(crate) peers: PeerCounts,
    /// What is free on the disk of the data.
    pub(crate) disk_free_bytes: u64,
}

impl CoreFacts {
    pub(crate) fn hello(&self) -> HelloInfo {
        self.hello.clone()
    }
}

/// The core of another node as the connection to it knows it.
pub(crate) fn to_net_core(core: PeerCore) -> net::peer::PeerCore {
    net::peer::PeerCore {
        node: core.node.0,
        core: core.core.0,
    }
}

/// The core of another node as the core knows it.
pub(crate) fn to_engine_core(core: net::peer::PeerCore) -> PeerCore {
    PeerCore {
        node: NodeId(core.node),
        core: CoreId(core.core),
    }
}

/// A lane as the connection to it knows it.
pub(crate) fn to_net_lane(lane: PeerLane) -> net::peer::PeerLane {
    match lane {
        PeerLane::Urgent => net::peer::PeerLane::Urgent,
        PeerLane::Entries => net::peer::PeerLane::Entries,
        PeerLane::Snapshots => net::peer::PeerLane::Snapshots,
    }
}

/// The core's form of a request; `None` for those that the driver answers itself.
pub(crate) fn to_engine<'a>(request: &Request<'a>) -> Option<EngineRequest<'a>> {
    Some(match *request {
        Request::Command(checked) => EngineRequest::Command {
            command: checked.command,
            bytes: checked.bytes,
        },
        Request::Batch(batch) => EngineRequest::Batch {
            count: batch.count,
            commands: batch.bytes(),
        },
        Request::Get(get) => EngineRequest::Get(get.query),
        Request::GetMany(many) => EngineRequest::GetMany {
            namespace: many.namespace,
            at: many.at,
            count: many.count,
            keys: many.key_bytes(),
        },
        Request::Range(range) => EngineRequest::Range {
            query: range.query,
            shards: range.shards,
            chunk_bytes: match range.chunk_bytes {
                0 => CHUNK_BYTES_DEFAULT,
                asked => asked as usize,
            },
        },
        Request::Count(count) => EngineRequest::Count {
            query: count.query,
            shards: count.shards,
        },
        Request::Cancel { range } => EngineRequest::Cancel(EngineRequestId(range.0)),
        Request::Status => EngineRequest::Status,
        Request::ShardMap | Request::Admin(_) => return None,
        Request::Hello(_) | Request::Ping => unreachable!("the connection answers these itself"),
    })
}

/// When an operator's request that found no room may come again.
const OVERLOADED_RETRY_MS: u32 = 100;

/// Bytes of rows in a chunk when the client leaves it to us.
const CHUNK_BYTES_DEFAULT: usize = 64 << 10;

/// Appends the answer to a request for the shard map.
pub(crate) fn append_shard_map(facts: &CoreFacts, id: RequestId, out: &mut Vec<u8>) -> Answered {
    net::append_shard_map(out, id, &facts.places.shard_map());
    Answered::Last
}

/// Appends the frame of a reply, whose spans lie in `arena`.
pub(crate) fn append_reply(
    facts: &CoreFacts,
    counts: Option<DriverCounts>,
    (id, kind): (RequestId, RequestKind),
    reply: &Reply,
    arena: &[u8],
    out: &mut Vec<u8>,
) -> Answered {
    match reply {
        Reply::Outcome(outcome) => net::append_outcome_bytes(out, id, outcome.of(arena)),
        Reply::Batch(items) => net::append_batch(out, id, |writer| {
            for item in items {
                match item {
                    BatchItem::Outcome(outcome) => writer.outcome_bytes(outcome.of(arena)),
                    BatchItem::Error(error) => writer.error(&to_wire_error(facts, error)),
                }
            }
        }),
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
            append_rows(id, *shape, position, found.of(arena), rows.of(arena), out);
        }
        Reply::Chunk { count, rows, end } => {
            return append_chunk(id, *count, rows.of(arena), end, out);
        }
        Reply::Count { count, revisions } => {
            let reply = net::CountReply {
                count: *count,
                revisions: shard_revisions(revisions),
            };
            net::append_count(out, id, &reply);
        }
        Reply::Cancelled => net::append_cancelled(out, id),
        Reply::Status(status) => {
            let counts = counts.expect("the driver counts for who asks for its status");
            let reply = status_reply(facts, counts, status);
            net::append_status(out, id, &reply);
        }
        Reply::Error(error) => {
            net::append_error(out, to_frame_kind(kind), id, &to_wire_error(facts, error));
        }
    }
    Answered::Last
}

fn to_frame_kind(kind: RequestKind) -> FrameKind {
    match kind {
        RequestKind::Command => FrameKind::Command,
        RequestKind::Batch => FrameKind::Batch,
        RequestKind::Get => FrameKind::Get,
        RequestKind::GetMany => FrameKind::GetMany,
        RequestKind::Range => FrameKind::Range,
        RequestKind::Count => FrameKind::Count,
        RequestKind::Cancel => FrameKind::Cancel,
        RequestKind::Status => FrameKind::Status,
    }
}

fn append_rows(
    id: RequestId,
    shape: ReadShape,
    position: ReadPosition,
    found: &[u8],
    mut rows: &[u8],
    out: &mut Vec<u8>,
) {
    let mut next_row = || {
        let (row, length) = Row::decode(rows).expect("the core encodes its rows");
        let (bytes, rest) = rows.split_at(length);
        rows = rest;
        (row, bytes)
    };
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

fn append_chunk(
    id: RequestId,
    count: u32,
    rows: &[u8],
    end: &ChunkEnd,
    out: &mut Vec<u8>,
) -> Answered {
    match end {
        ChunkEnd::More => {
            net::append_chunk(out, id, net::ChunkEnd::More, |chunk| {
                chunk.row_bytes(count, rows)
            });
            Answered::More
        }
        ChunkEnd::Last(revisions) => {
            let revisions = shard_revisions(revisions);
            let end = net::ChunkEnd::Last(&revisions);
            net::append_chunk(out, id, end, |chunk| chunk.row_bytes(count, rows));
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

fn to_wire_error(facts: &CoreFacts, error: &RequestError) -> WireError {
    let new = WireError::new;
    let mut wire = match error {
        RequestError::UnknownNamespace(_) => new(ErrorCode::NamespaceUnknown),
        RequestError::NotLeader { shard, leader } => WireError {
            hint: facts
                .places
                .hint(*shard, *leader, NodeId(facts.hello.node_id)),
            ..new(ErrorCode::NotLeader)
        },
        RequestError::Unavailable { .. } => new(ErrorCode::Unavailable),
        RequestError::Overloaded { retry_after_ms } => WireError {
            retry_after_ms: *retry_after_ms,
            ..new(ErrorCode::Overloaded)
        },
        RequestError::TooLarge { limit, actual } => WireError {
            limit: *limit,
            actual: *actual,
            ..new(ErrorCode::TooLarge)
        },
        RequestError::AnswerTooLarge { limit, actual, .. } => WireError {
            limit: *limit,
            actual: *actual,
            ..new(ErrorCode::TooLarge)
        },
        RequestError::CrossShard { keys } => WireError {
            keys: keys.clone(),
            ..new(ErrorCode::CrossShard)
        },
        RequestError::DeletedInPart { deleted, cause } => WireError {
            actual: *deleted,
            ..to_wire_error(facts, cause)
        },
        RequestError::Compacted { oldest } => with_revision(ErrorCode::Compacted, *oldest),
        RequestError::FutureRevision { current } => {
            with_revision(ErrorCode::FutureRevision, *current)
        }
        RequestError::RangeExpired => new(ErrorCode::PinLost),
        RequestError::Deadline { .. } => new(ErrorCode::Deadline),
        RequestError::LogBudget {
            budget_bytes,
            used_bytes,
        } => WireError {
            limit: *budget_bytes,
            actual: *used_bytes,
            ..new(ErrorCode::ReadOnly)
        },
        RequestError::QuotaExceeded {
            limit_bytes,
            used_bytes,
        } => WireError {
            limit: *limit_bytes,
            actual: *used_bytes,
            ..new(ErrorCode::QuotaExceeded)
        },
        RequestError::DiskLow {
            free_bytes,
            low_bytes,
        } => WireError {
            limit: *low_bytes,
            actual: *free_bytes,
            ..new(ErrorCode::ReadOnly)
        },
        RequestError::Cancelled => new(ErrorCode::Cancelled),
        RequestError::ShuttingDown => new(ErrorCode::ShuttingDown),
    };
    wire.happened = match error.happened() {
        Happened::NotDone => net::Happened::NotDone,
        Happened::Unknown => net::Happened::Unknown,
    };
    wire.with_message(error.to_string())
}

/// That another node leads a shard, and which.
pub(crate) fn not_leader(facts: &CoreFacts, shard: ShardId, leader: Option<PeerCore>) -> WireError {
    to_wire_error(facts, &RequestError::NotLeader { shard, leader })
}

/// A node that is alone has no others.
pub(crate) fn alone() -> WireError {
    WireError::new(ErrorCode::BadRequest)
        .with_message("this node is alone: its shards have no members elsewhere".to_owned())
}

/// Too much is under way.
pub(crate) fn overloaded() -> WireError {
    WireError {
        retry_after_ms: OVERLOADED_RETRY_MS,
        ..WireError::new(ErrorCode::Overloaded)
    }
}

fn with_revision(code: ErrorCode, revision: Revision) -> WireError {
    WireError {
        revision,
        ..WireError::new(code)
    }
}

pub(crate) fn status_reply(
    facts: &CoreFacts,
    counts: DriverCounts,
    status: &CoreStatus,
) -> StatusReply {
    let log = &status.log;
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let used_bytes = log.files as u64 * facts.segment_bytes;
    StatusReply {
        cluster_id: facts.hello.cluster_id,
        node_id: facts.hello.node_id,
        version: facts.hello.server_version.clone(),
        uptime_ms: facts.clock.now().0 / 1_000_000,
        core_index: status.core.0,
        shards: count(status.replicas.len()),
        connections: count(counts.connections),
        log: LogStatus {
            durable_writes: log.durable_writes,
            marks: log.marks,
            record_bytes: log.record_bytes,
            entry_bytes: log.entry_bytes,
            segments: count(log.segments_live),
            spares: count(log.spares),
            watermark: log.watermark.0,
            epoch: log.epoch.0,
            budget_bytes: facts.budget_bytes,
            used_bytes,
            space_state: if status.accepts_writes { "ok" } else { "full" }.to_owned(),
            flush_method: facts.flush_method.to_owned(),
        },
        counters: counters(status, counts),
        stages: status
            .stages
            .iter()
            .chain(&status.slices)
            .map(stage_status)
            .collect(),
        replicas: status.replicas.iter().map(replica_status).collect(),
    }
}

fn counters(status: &CoreStatus, counts: DriverCounts) -> Vec<Counter> {
    let (counters, waiting) = (&status.counters, &status.waiting);
    let commands = status
        .replicas
        .iter()
        .map(|replica| replica.applied_commands)
        .sum();
    let (connections, peers) = (&counts.connection_counts, &counts.peers);
    let named = [
        ("turns", counters.turns),
        ("requests", counters.requests),
        ("forwarded", counters.forwarded),
        ("refused", counters.refused),
        ("commands_applied", commands),
        ("padding_bytes", status.log.padding_bytes),
        ("ring_writes", counts.ring_writes),
        ("gathers_open", waiting.gathers as u64),
        ("ranges_open", waiting.ranges as u64),
        ("range_deletes_open", waiting.sweeps as u64),
        ("range_parts_open", waiting.range_parts as u64),
        ("command_bytes_waiting", waiting.command_bytes as u64),
        ("admission_refused", status.admission.refused),
        (
            "admission_refusing",
            u64::from(status.admission.is_refusing),
        ),
        ("connections_opened", connections.opened),
        ("connections_refused", connections.refused),
        ("connections_timed_out", connections.timed_out),
        ("connections_unread", connections.unread),
        ("accept_failures", connections.accept_failures),
        ("snapshots", counters.snapshots),
        ("snapshot_bytes", counters.snapshot_bytes),
        ("snapshots_failed", counters.snapshots_failed),
        ("snapshots_fetched", counters.snapshots_fetched),
        ("segments_scrubbed", counters.segments_scrubbed),
        ("scrub_findings", counters.scrub_findings),
        ("slow_disk_hand_overs", counters.slow_disk_hand_overs),
        ("peer_messages", counters.peer_messages),
        ("peer_messages_dropped", counters.peer_dropped),
        ("peer_appends_refused", counters.peer_appends_refused),
        ("peer_batches_sent", peers.links.sent),
        ("peer_batches_lost", peers.links.lost),
        ("peer_batches_unsent", peers.links.unsent()),
        ("peer_links_opened", peers.links.opened),
        ("peer_links_ended", peers.links.ended),
        ("peer_links_accepted", peers.incoming.opened),
        ("peer_links_refused", peers.incoming.refused()),
        ("rewrites", counters.rewrites),
        ("disk_free_bytes", counts.disk_free_bytes),
    ]
    .into_iter()
    .chain(allocator::counters())
    .map(|(name, value)| (name.to_owned(), value));
    let room = &status.admission.room;
    let state = [
        ("memory_node_state_bytes", room.state_bytes),
        ("memory_node_state_bytes_max", room.state_bytes_max),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    named
        .chain(counts.memory.named())
        .chain(state)
        .map(|(name, value)| Counter { name, value })
        .collect()
}

fn stage_status(summary: &StageSummary) -> StageStatus {
    StageStatus {
        name: summary.name.to_owned(),
        count: summary.count,
        p50_ns: summary.p50_ns,
        p99_ns: summary.p99_ns,
        p999_ns: summary.p999_ns,
        max_ns: summary.max_ns,
        mean_ns: summary.mean_ns,
    }
}

fn replica_status(replica: &ReplicaStatus) -> net::ReplicaStatus {
    let LogIndex(commit) = replica.committed;
    net::ReplicaStatus {
        shard: replica.shard.0,
        replica: replica.replica.0,
        role: match replica.role {
            _ if replica.quarantine.is_some() => ReplicaRole::Quarantined,
            Role::Leader => ReplicaRole::Leader,
            Role::Candidate => ReplicaRole::Candidate,
            Role::Follower => ReplicaRole::Follower,
        },
        term: replica.term.0,
        commit,
        applied: replica.applied.0,
        last: replica.last.0,
        keys: replica.keys,
        state_bytes: replica.state_bytes,
        history_bytes: replica.history_bytes,
        revision: replica.revision.0,
        leader: replica.leader.map_or(0, |leader| leader.0),
        state_hash: replica.state_hash,
        voters: replica.members.voters,
        learners: replica.members.learners,
    }
}
