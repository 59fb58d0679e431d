//! What clients and other cores ask of a core: each request finds its shard, here or on another core.

use metastore_statemachine::{Command, CommandKind, GetQuery, RangeQuery, ShardList};
use metastore_wal::{CoreId, ShardId};

use super::Core;
use super::admission::{Lane, lane_of};
use super::ranges::{Asker, Merges, PartRequest};
use crate::effect::Effects;
use crate::ids::{ConnectionId, RequestId, Time};
use crate::mesh::{MeshBatch, MeshMessage, RangePartKey, RangePlan, ReadOp, ReplyTo, Token};
use crate::replica::{KeyList, failed_chunk};
use crate::request::{OVERLOADED_RETRY_MS, ReadShape, Reply, Request, RequestError};
use crate::span::Span;

impl Core {
    pub(super) fn deadline(&self, now: Time, deadline_ms: u32) -> Time {
        let settings = &self.config.settings;
        let asked_ms = match u64::from(deadline_ms) {
            0 => settings.deadline_default_ms,
            asked => asked.min(settings.deadline_max_ms),
        };
        now.plus_ms(asked_ms)
    }

    pub(super) fn on_request(
        &mut self,
        now: Time,
        from: (ConnectionId, RequestId),
        deadline: Time,
        body: Request<'_>,
        out: &mut Effects,
    ) {
        let asker = Asker {
            connection: from.0,
            request: from.1,
            kind: body.kind(),
        };
        let token = Token::Request {
            connection: from.0,
            request: from.1,
            kind: body.kind(),
        };
        let reply_to = ReplyTo {
            core: self.id(),
            token,
        };
        if let Request::Status = body {
            let reply = Reply::Status(Box::new(self.status()));
            self.answers.reply(out, reply_to, reply, &[]);
            return;
        }
        if self.is_draining {
            self.refuse(out, reply_to, RequestError::ShuttingDown);
            return;
        }
        let is_read = match body {
            Request::Get(_)
            | Request::GetMany { .. }
            | Request::Range { .. }
            | Request::Count { .. } => true,
            Request::Command { .. }
            | Request::Batch { .. }
            | Request::Cancel(_)
            | Request::Status => false,
        };
        if is_read && let Err(error) = self.admission.admit_read() {
            self.refuse(out, reply_to, error);
            return;
        }
        match body {
            Request::Command { command, bytes } => {
                self.route_command(now, &command, bytes, reply_to, deadline, out);
            }
            Request::Batch { count, commands } => {
                self.on_batch(now, (from.0, reply_to), deadline, (count, commands), out);
            }
            Request::Get(GetQuery { namespace, key, at }) => {
                let mut keys = Vec::with_capacity(4 + key.len());
                let length = u32::try_from(key.len()).expect("a checked key is short");
                keys.extend_from_slice(&length.to_le_bytes());
                keys.extend_from_slice(key);
                let op = ReadOp {
                    shape: ReadShape::One,
                    namespace,
                    at,
                    count: 1,
                };
                self.route_read(now, op, &keys, reply_to, deadline, out);
            }
            Request::GetMany {
                namespace,
                at,
                count,
                keys,
            } => {
                let op = ReadOp {
                    shape: ReadShape::Many,
                    namespace,
                    at,
                    count,
                };
                self.route_read(now, op, keys, reply_to, deadline, out);
            }
            Request::Range {
                query,
                shards,
                chunk_bytes,
            } => {
                let plan = |_| RangePlan::new(&query, chunk_bytes);
                self.on_range(now, (asker, deadline), (&query, shards), plan, out);
            }
            Request::Count { query, shards } => {
                let plan = |shards| RangePlan::of_count(&query, shards);
                self.on_range(now, (asker, deadline), (&query, shards), plan, out);
            }
            Request::Cancel(range) => {
                self.merges.cancel(out, self.id(), from.0, range);
                self.answers.reply(out, reply_to, Reply::Cancelled, &[]);
            }
            Request::Status => unreachable!("it was answered above"),
        }
    }

    pub(super) fn refuse(&mut self, out: &mut Effects, reply_to: ReplyTo, error: RequestError) {
        self.counters.refused += 1;
        self.answers.error(out, reply_to, error);
    }

    fn on_batch(
        &mut self,
        now: Time,
        (connection, reply_to): (ConnectionId, ReplyTo),
        deadline: Time,
        (count, mut commands): (u32, &[u8]),
        out: &mut Effects,
    ) {
        if self.answers.gathers() >= self.config.settings.gathers_max {
            self.refuse(
                out,
                reply_to,
                RequestError::Overloaded {
                    retry_after_ms: OVERLOADED_RETRY_MS,
                },
            );
            return;
        }
        if count == 0 {
            self.answers
                .reply(out, reply_to, Reply::Batch(Vec::new()), &[]);
            return;
        }
        let gather = self.answers.open_gather(reply_to, count);
        for item in 0..count {
            let (command, length) = Command::decode(commands).expect("the edge checked the batch");
            let (bytes, rest) = commands.split_at(length);
            commands = rest;
            let reply_to = ReplyTo {
                core: self.id(),
                token: Token::BatchItem {
                    gather,
                    item,
                    connection,
                },
            };
            self.route_command(now, &command, bytes, reply_to, deadline, out);
        }
        assert!(commands.is_empty(), "the edge checked the batch");
    }

    fn route_command(
        &mut self,
        now: Time,
        command: &Command<'_>,
        bytes: &[u8],
        reply_to: ReplyTo,
        deadline: Time,
        out: &mut Effects,
    ) {
        if command.kind == CommandKind::DeleteRange {
            self.open_sweep(now, command, reply_to, deadline, out);
            return;
        }
        let Some(route) = self.route(command.namespace, command.key) else {
            self.refuse(
                out,
                reply_to,
                RequestError::UnknownNamespace(command.namespace),
            );
            return;
        };
        if command.kind.has_structure() {
            let keys = self.strangers(command, route.shard);
            if !keys.is_empty() {
                self.refuse(out, reply_to, RequestError::CrossShard { keys });
                return;
            }
        }
        self.send_command(
            now,
            (route.core, route.shard),
            bytes,
            reply_to,
            deadline,
            out,
        );
    }

    /// Hands a command to the core that holds its shard: this one, or another over the mesh.
    pub(super) fn send_command(
        &mut self,
        now: Time,
        (core, shard): (CoreId, ShardId),
        bytes: &[u8],
        reply_to: ReplyTo,
        deadline: Time,
        out: &mut Effects,
    ) {
        if core == self.id() {
            self.submit_command(now, shard, bytes, reply_to, deadline, out);
            return;
        }
        self.counters.forwarded += 1;
        let batch = self.answers.mesh(core);
        let start = batch.arena.len();
        batch.arena.extend_from_slice(bytes);
        let command = Span::since(&batch.arena, start);
        batch.messages.push(MeshMessage::Command {
            reply_to,
            deadline,
            shard,
            command,
        });
    }

    fn submit_command(
        &mut self,
        now: Time,
        shard: ShardId,
        bytes: &[u8],
        reply_to: ReplyTo,
        deadline: Time,
        out: &mut Effects,
    ) {
        let Some(replica) = self.find_replica(shard) else {
            self.refuse(out, reply_to, not_here(shard));
            return;
        };
        if let Err(error) = self.check_space(bytes) {
            self.refuse(out, reply_to, error);
            return;
        }
        let (command, _) = Command::decode(bytes).expect("the edge checked the command");
        let lane = lane_of(command.kind);
        // The log keeps a segment in reserve for what was admitted before its budget was spent.
        let waiting_bytes = self.waiting_bytes + bytes.len();
        if waiting_bytes > self.waiting_bytes_max(lane) {
            let retry_after_ms = OVERLOADED_RETRY_MS;
            self.refuse(out, reply_to, RequestError::Overloaded { retry_after_ms });
            return;
        }
        let (origin, waiting) = (reply_to.origin(), waiting_bytes as u64);
        if let Err(error) = self.admission.admit_command(lane, origin, waiting) {
            self.refuse(out, reply_to, error);
            return;
        }
        self.waiting_bytes += bytes.len();
        let (target, mut turn) = self.turn_of(replica, now, out);
        target.submit_command(&mut turn, bytes, reply_to, deadline);
        self.dirty.mark(replica);
    }

    fn route_read(
        &mut self,
        now: Time,
        op: ReadOp,
        keys: &[u8],
        reply_to: ReplyTo,
        deadline: Time,
        out: &mut Effects,
    ) {
        let mut list = KeyList(keys);
        let Some(first) = list.next() else {
            let keys = Vec::new();
            self.refuse(out, reply_to, RequestError::CrossShard { keys });
            return;
        };
        let Some(route) = self.route(op.namespace, first) else {
            self.refuse(out, reply_to, RequestError::UnknownNamespace(op.namespace));
            return;
        };
        let elsewhere = self.keys_elsewhere(op.namespace, list, route.shard);
        if !elsewhere.is_empty() {
            let keys = elsewhere;
            self.refuse(out, reply_to, RequestError::CrossShard { keys });
            return;
        }
        if route.core == self.id() {
            let Some(replica) = route.replica else {
                self.refuse(out, reply_to, not_here(route.shard));
                return;
            };
            let (target, mut turn) = self.turn_of(replica, now, out);
            target.submit_read(&mut turn, op, keys, reply_to, deadline);
            self.dirty.mark(replica);
            return;
        }
        self.counters.forwarded += 1;
        let batch = self.answers.mesh(route.core);
        let start = batch.arena.len();
        batch.arena.extend_from_slice(keys);
        let keys = Span::since(&batch.arena, start);
        let shard = route.shard;
        batch.messages.push(MeshMessage::Read {
            reply_to,
            deadline,
            shard,
            read: op,
            keys,
        });
    }

    fn on_range(
        &mut self,
        now: Time,
        (asker, deadline): (Asker, Time),
        (query, among): (&RangeQuery<'_>, ShardList<'_>),
        plan: impl FnOnce(usize) -> RangePlan,
        out: &mut Effects,
    ) {
        let shards = self.shards_of_range(query.namespace, query.prefix, query.scope, among);
        let Some(shards) = shards else {
            asker.refuse(out, RequestError::UnknownNamespace(query.namespace));
            return;
        };
        if query.at.is_some() && shards.len() > 1 {
            // A revision belongs to one shard.
            let keys = vec![query.prefix.to_vec()];
            asker.refuse(out, RequestError::CrossShard { keys });
            return;
        }
        let settings = &self.config.settings;
        if self.merges.len() >= settings.ranges_max
            || self.merges.len_of(asker.connection) >= settings.ranges_per_connection_max
        {
            let retry_after_ms = OVERLOADED_RETRY_MS;
            asker.refuse(out, RequestError::Overloaded { retry_after_ms });
            return;
        }
        let plan = plan(shards.len());
        if shards.is_empty() {
            Merges::answer_empty(out, asker, &plan);
            return;
        }
        let home = self.id();
        let asked = (asker, deadline);
        let parts = self.merges.open(now, home, asked, &plan, &shards);
        let parts_count = shards.len();
        for ((_, core), part) in shards.into_iter().zip(parts) {
            let plan = Box::new(plan.for_part_of(parts_count));
            if core == home {
                self.open_part(now, part, deadline, plan, out);
            } else {
                self.answers
                    .mesh(core)
                    .messages
                    .push(MeshMessage::RangeOpen {
                        part,
                        deadline,
                        plan,
                    });
            }
        }
    }

    /// How much may wait; the last eighth of it is for what frees memory.
    pub(super) fn waiting_bytes_max(&self, lane: Lane) -> usize {
        let half = self.config.log.segment_bytes / 2;
        let limit = match lane {
            Lane::Freeing => half,
            Lane::Growing => half - half / 8,
        };
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    fn open_part(
        &mut self,
        now: Time,
        part: RangePartKey,
        deadline: Time,
        plan: Box<RangePlan>,
        out: &mut Effects,
    ) {
        let Some(replica) = self.find_replica(part.shard) else {
            let chunk = failed_chunk(not_here(part.shard));
            self.answers.part_chunk(part, chunk);
            return;
        };
        let (target, mut turn) = self.turn_of(replica, now, out);
        target.open_part(&mut turn, part, deadline, plan);
        self.dirty.mark(replica);
    }

    pub(super) fn on_part_request(
        &mut self,
        now: Time,
        part: RangePartKey,
        request: PartRequest,
        out: &mut Effects,
    ) {
        // A replica that has gone has failed its parts.
        let Some(replica) = self.find_replica(part.shard) else {
            return;
        };
        match request {
            PartRequest::Next => {
                let (target, mut turn) = self.turn_of(replica, now, out);
                target.next_part_chunk(&mut turn, part);
            }
            PartRequest::Close => self.replicas[replica].close_part(part),
        }
    }

    pub(super) fn on_mesh(
        &mut self,
        now: Time,
        from: CoreId,
        batch: &mut MeshBatch,
        out: &mut Effects,
    ) {
        let MeshBatch { messages, arena } = batch;
        for message in messages.drain(..) {
            match message {
                MeshMessage::Command {
                    reply_to,
                    deadline,
                    shard,
                    command,
                } => {
                    self.submit_command(now, shard, command.of(arena), reply_to, deadline, out);
                }
                MeshMessage::Read {
                    reply_to,
                    deadline,
                    shard,
                    read,
                    keys,
                } => {
                    let Some(replica) = self.find_replica(shard) else {
                        self.refuse(out, reply_to, not_here(shard));
                        continue;
                    };
                    let (target, mut turn) = self.turn_of(replica, now, out);
                    let keys = keys.of(arena);
                    target.submit_read(&mut turn, read, keys, reply_to, deadline);
                    self.dirty.mark(replica);
                }
                MeshMessage::RangeOpen {
                    part,
                    deadline,
                    plan,
                } => {
                    assert_eq!(
                        part.home, from,
                        "a part is opened by the core that merges it"
                    );
                    self.open_part(now, part, deadline, plan, out);
                }
                MeshMessage::RangeNext { part } => {
                    self.on_part_request(now, part, PartRequest::Next, out);
                }
                MeshMessage::RangeClose { part } => {
                    self.on_part_request(now, part, PartRequest::Close, out);
                }
                MeshMessage::Answer { token, reply } => {
                    let reply_to = ReplyTo {
                        core: self.id(),
                        token,
                    };
                    self.answers.reply(out, reply_to, reply, arena);
                }
                MeshMessage::PartChunk { part, chunk } => {
                    self.merges.on_chunk(now, out, part, chunk)
                }
            }
        }
        arena.clear();
    }
}

/// No replica of a shard lives here that the map has here: it has gone, or is still to come.
fn not_here(shard: ShardId) -> RequestError {
    RequestError::NotLeader {
        shard,
        leader: None,
    }
}
