//! One processor core's share of the store: its replicas, the log they share, and everybody who waits for them.

mod answers;
mod builder;
mod ranges;
mod status;

use std::collections::VecDeque;

use metastore_statemachine::{Command, GetQuery, NamespaceId, RangeQuery, Scope};
use metastore_wal::{CoreId, Log, LogBuffer, LogEffect, LogSpace, Position, ShardId, Ticket};

pub(crate) use self::answers::{Answers, ReplyTo, Token};
pub use self::builder::{CoreBuilder, CoreConfig, LogHistory, StartError};
use self::ranges::{Merges, PartRequest, refuse};
pub(crate) use self::ranges::{RangePartKey, RangePlan};
pub use self::status::{CoreCounters, CoreStatus, ReplicaStatus};

use crate::effect::{Effect, Effects, Span};
use crate::ids::{ConnectionId, RequestId, Time};
use crate::input::{Input, MeshBatch, MeshMessage, ReadOp};
use crate::replica::{Applied, Replica, Turn, WriteTimes};
use crate::request::{ReadShape, Reply, Request, RequestError};
use crate::router::{SLOT_COUNT, Slot, slot_of};
use crate::stages::{Stage, Stages};

/// A mark is written when the log was idle this long. With its own flush it is durable well within 10 ms.
const IDLE_BEFORE_MARK_MS: u64 = 5;
/// Missed ticks that are made up for at once; a longer pause counts as this long.
const TICKS_MISSED_MAX: u64 = 1_000;
/// What clients are told to wait while a segment is being prepared.
const SEGMENT_RETRY_MS: u32 = 100;
/// How often a turn goes back to replicas that got new work from its own results; what is left waits for the next.
const ROUNDS_PER_TURN_MAX: usize = 8;

/// What the builder hands over.
struct CoreParts {
    config: CoreConfig,
    log: Log,
    replicas: Vec<Replica>,
}

/// Where the keys of a slot are.
#[derive(Debug, Clone, Copy)]
struct Route {
    core: CoreId,
    shard: ShardId,
    /// Position among this core's replicas, meaningful where `core` is ours.
    replica: u32,
}

/// Replicas that have something to do, each at most once.
#[derive(Debug, Default)]
struct Dirty {
    queue: Vec<usize>,
    is_queued: Vec<bool>,
}

impl Dirty {
    fn mark(&mut self, replica: usize) {
        if !self.is_queued[replica] {
            self.is_queued[replica] = true;
            self.queue.push(replica);
        }
    }

    fn take(&mut self) -> Vec<usize> {
        let taken = std::mem::take(&mut self.queue);
        for &replica in &taken {
            self.is_queued[replica] = false;
        }
        taken
    }
}

/// All replicas of one processor core over the one log they share.
///
/// Its methods, by kind:
/// * [`step`](Core::step), [`finish_turn`](Core::finish_turn), [`on_turn_executed`](Core::on_turn_executed): the turn;
/// * [`next_deadline`](Core::next_deadline): when it wants to be woken;
/// * [`status`](Core::status), [`is_serving`](Core::is_serving), [`is_drained`](Core::is_drained): what it reports.
pub struct Core {
    config: CoreConfig,
    log: Log,
    replicas: Vec<Replica>,
    routes: Vec<Route>,
    answers: Answers,
    merges: Merges,
    dirty: Dirty,
    /// Replicas whose staged parts are not durable, in the order of their positions.
    awaiting_log: VecDeque<(Position, usize)>,
    write_started: Time,
    last_write_ended: Time,
    next_tick: Time,
    is_draining: bool,
    stages: Stages,
    counters: CoreCounters,
    /// What this turn applied, until the driver says that its answers have left.
    applied: Applied,
    turn_ended: Time,
}

/// The parts of a core that a replica works with, and the replica.
macro_rules! turn {
    ($core:ident, $now:expr, $out:expr) => {
        Turn {
            now: $now,
            settings: &$core.config.settings,
            log: &mut $core.log,
            answers: &mut $core.answers,
            stages: &mut $core.stages,
            out: $out,
        }
    };
}

impl Core {
    fn assemble(now: Time, parts: CoreParts) -> Core {
        let CoreParts {
            config,
            log,
            replicas,
        } = parts;
        let routes = (0..SLOT_COUNT)
            .map(|slot| {
                let slot = Slot(u16::try_from(slot).expect("a slot fits into 16 bits"));
                let shard = config.shard_map.shard_of(slot);
                let core = config
                    .shard_map
                    .core_of(shard)
                    .expect("the map knows its shards");
                let replica = replicas.iter().position(|replica| replica.shard() == shard);
                Route {
                    core,
                    shard,
                    replica: replica
                        .map_or(u32::MAX, |at| u32::try_from(at).expect("few replicas")),
                }
            })
            .collect();
        let mut core = Core {
            answers: Answers::new(config.identity.core, config.cores),
            routes,
            merges: Merges::default(),
            dirty: Dirty {
                queue: Vec::new(),
                is_queued: vec![false; replicas.len()],
            },
            awaiting_log: VecDeque::new(),
            write_started: now,
            last_write_ended: now,
            next_tick: now.plus_ms(config.settings.raft.tick_interval_ms),
            is_draining: false,
            stages: Stages::default(),
            counters: CoreCounters::default(),
            applied: Applied::default(),
            turn_ended: now,
            config,
            log,
            replicas,
        };
        for replica in 0..core.replicas.len() {
            core.dirty.mark(replica);
        }
        core
    }

    fn id(&self) -> CoreId {
        self.config.identity.core
    }

    // ---- What it reports ----

    /// Whether every replica of the core leads its shard and answers.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.replicas.iter().all(Replica::is_serving)
    }

    /// Whether, after [`Input::Drain`], everything accepted is finished and the log has its mark.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.is_draining
            && self.answers.gathers() == 0
            && self.merges.len() == 0
            && self.replicas.iter().all(Replica::is_quiet)
            && self.log.is_idle()
            && !self.log.needs_mark()
    }

    /// Whether more than a good part of a record waits for the log: background writes should make room.
    #[must_use]
    pub fn is_log_behind(&self) -> bool {
        self.log.staged_bytes() >= self.config.log.record_bytes_max / 4
    }

    /// What the core reports about itself.
    #[must_use]
    pub fn status(&self) -> CoreStatus {
        CoreStatus {
            core: self.id(),
            is_serving: self.is_serving(),
            accepts_writes: self.log.space() == LogSpace::Ok,
            log: self.log.status(),
            counters: self.counters,
            stages: self.stages.summaries(),
            replicas: self.replicas.iter().map(Replica::status).collect(),
        }
    }

    /// When [`Input::Tick`] is due, at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        if self.has_work() {
            return Some(self.turn_ended);
        }
        // While a write or a mark is under way its completion brings the next turn.
        let mark_is_possible = self.log.needs_mark() && self.log.is_idle();
        let mark = mark_is_possible.then(|| self.last_write_ended.plus_ms(IDLE_BEFORE_MARK_MS));
        Some(mark.map_or(self.next_tick, |mark| mark.min(self.next_tick)))
    }

    /// Whether a turn ended with work left, so that the next should come at once.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.dirty.queue.is_empty()
            || !self.merges.requests.is_empty()
            || !self.answers.chunks.is_empty()
    }

    // ---- Inputs ----

    /// Takes one input. Effects may be added to `out`; most come with [`Core::finish_turn`].
    pub fn step(&mut self, now: Time, input: Input<'_>, out: &mut Effects) {
        match input {
            Input::Tick => {}
            Input::Request {
                connection,
                request,
                deadline_ms,
                body,
            } => {
                self.counters.requests += 1;
                let deadline = self.deadline(now, deadline_ms);
                self.on_request(now, (connection, request), deadline, body, out);
            }
            Input::ConnectionClosed { connection } => self.merges.on_closed(self.id(), connection),
            Input::ConnectionDrained { connection } => {
                self.merges.on_drained(out, self.id(), connection);
            }
            Input::Mesh { from, batch } => self.on_mesh(now, from, batch, out),
            Input::LogWritten { ticket, buffer } => self.on_log_written(now, ticket, buffer),
            Input::MarkWritten { ticket, buffer } => self.log.on_mark_written(ticket, buffer),
            Input::SegmentPrepared { file } => self.log.on_segment_prepared(file),
            Input::SegmentRemoved { file } => self.log.on_segment_removed(file),
            Input::Drain => self.is_draining = true,
        }
    }

    fn deadline(&self, now: Time, deadline_ms: u32) -> Time {
        let settings = &self.config.settings;
        let asked_ms = match u64::from(deadline_ms) {
            0 => settings.deadline_default_ms,
            asked => asked.min(settings.deadline_max_ms),
        };
        now.plus_ms(asked_ms)
    }

    fn on_request(
        &mut self,
        now: Time,
        from: (ConnectionId, RequestId),
        deadline: Time,
        body: Request<'_>,
        out: &mut Effects,
    ) {
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
        match body {
            Request::Command { command, bytes } => {
                self.route_command(now, &command, bytes, reply_to, deadline, out);
            }
            Request::Batch { count, commands } => {
                self.on_batch(now, reply_to, deadline, (count, commands), out);
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
            Request::Range { query, chunk_bytes } => {
                self.on_range(now, from, deadline, &query, chunk_bytes, out);
            }
            Request::Cancel(range) => {
                self.merges.cancel(out, self.id(), from.0, range);
                self.answers.reply(out, reply_to, Reply::Cancelled, &[]);
            }
            Request::Status => unreachable!("it was answered above"),
        }
    }

    fn refuse(&mut self, out: &mut Effects, reply_to: ReplyTo, error: RequestError) {
        self.counters.refused += 1;
        self.answers.error(out, reply_to, error);
    }

    fn on_batch(
        &mut self,
        now: Time,
        reply_to: ReplyTo,
        deadline: Time,
        (count, mut commands): (u32, &[u8]),
        out: &mut Effects,
    ) {
        if self.answers.gathers() >= self.config.settings.gathers_max {
            self.refuse(
                out,
                reply_to,
                RequestError::Overloaded { retry_after_ms: 20 },
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
                token: Token::BatchItem { gather, item },
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
        let Some(route) = self.route(command.namespace, command.key) else {
            self.refuse(
                out,
                reply_to,
                RequestError::UnknownNamespace(command.namespace),
            );
            return;
        };
        if route.core == self.id() {
            self.submit_command(now, route.replica as usize, bytes, reply_to, deadline, out);
            return;
        }
        self.counters.forwarded += 1;
        let batch = self.answers.mesh(route.core);
        let start = batch.arena.len();
        batch.arena.extend_from_slice(bytes);
        let command = Span::since(&batch.arena, start);
        let shard = route.shard;
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
        replica: usize,
        bytes: &[u8],
        reply_to: ReplyTo,
        deadline: Time,
        out: &mut Effects,
    ) {
        match self.log.space() {
            LogSpace::Ok => {}
            LogSpace::Exhausted {
                budget_bytes,
                used_bytes,
            } => {
                self.refuse(
                    out,
                    reply_to,
                    RequestError::LogBudget {
                        budget_bytes,
                        used_bytes,
                    },
                );
                return;
            }
            // A segment is being prepared, or the disk is full and the driver tries again.
            LogSpace::SpareMissing { .. } => {
                let retry_after_ms = SEGMENT_RETRY_MS;
                self.refuse(out, reply_to, RequestError::Overloaded { retry_after_ms });
                return;
            }
        }
        let mut turn = turn!(self, now, out);
        self.replicas[replica].submit_command(&mut turn, bytes, reply_to, deadline);
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
        let mut list = crate::replica::KeyList(keys);
        let Some(first) = list.next() else {
            self.refuse(out, reply_to, RequestError::CrossShard);
            return;
        };
        let Some(route) = self.route(op.namespace, first) else {
            self.refuse(out, reply_to, RequestError::UnknownNamespace(op.namespace));
            return;
        };
        let same_shard = |key| {
            self.route(op.namespace, key)
                .is_some_and(|other| other.shard == route.shard)
        };
        if !list.all(same_shard) {
            self.refuse(out, reply_to, RequestError::CrossShard);
            return;
        }
        if route.core == self.id() {
            let replica = route.replica as usize;
            let mut turn = turn!(self, now, out);
            self.replicas[replica].submit_read(&mut turn, op, keys, reply_to, deadline);
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
        (connection, request): (ConnectionId, RequestId),
        deadline: Time,
        query: &RangeQuery<'_>,
        chunk_bytes: usize,
        out: &mut Effects,
    ) {
        let Some(shards) = self.shards_of_range(query.namespace, query.prefix, query.scope) else {
            refuse(
                out,
                connection,
                request,
                RequestError::UnknownNamespace(query.namespace),
            );
            return;
        };
        if query.at.is_some() && shards.len() > 1 {
            // A revision belongs to one shard.
            refuse(out, connection, request, RequestError::CrossShard);
            return;
        }
        if self.merges.len() >= self.config.settings.ranges_max {
            refuse(
                out,
                connection,
                request,
                RequestError::Overloaded { retry_after_ms: 20 },
            );
            return;
        }
        let plan = RangePlan::new(query, chunk_bytes);
        let home = self.id();
        let parts = self
            .merges
            .open(home, (connection, request), &plan, &shards);
        for ((_, core), part) in shards.into_iter().zip(parts) {
            let plan = Box::new(plan.clone());
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

    fn open_part(
        &mut self,
        now: Time,
        part: RangePartKey,
        deadline: Time,
        plan: Box<RangePlan>,
        out: &mut Effects,
    ) {
        let replica = self.replica_of(part.shard);
        let mut turn = turn!(self, now, out);
        self.replicas[replica].open_part(&mut turn, part, deadline, plan);
        self.dirty.mark(replica);
    }

    fn on_part_request(
        &mut self,
        now: Time,
        part: RangePartKey,
        request: PartRequest,
        out: &mut Effects,
    ) {
        let replica = self.replica_of(part.shard);
        match request {
            PartRequest::Next => {
                let mut turn = turn!(self, now, out);
                self.replicas[replica].next_part_chunk(&mut turn, part);
            }
            PartRequest::Close => self.replicas[replica].close_part(part),
        }
    }

    fn on_mesh(&mut self, now: Time, from: CoreId, batch: &mut MeshBatch, out: &mut Effects) {
        let MeshBatch { messages, arena } = batch;
        for message in messages.drain(..) {
            match message {
                MeshMessage::Command {
                    reply_to,
                    deadline,
                    shard,
                    command,
                } => {
                    let replica = self.replica_of(shard);
                    self.submit_command(now, replica, command.of(arena), reply_to, deadline, out);
                }
                MeshMessage::Read {
                    reply_to,
                    deadline,
                    shard,
                    read,
                    keys,
                } => {
                    let replica = self.replica_of(shard);
                    let mut turn = turn!(self, now, out);
                    let keys = keys.of(arena);
                    self.replicas[replica].submit_read(&mut turn, read, keys, reply_to, deadline);
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
                MeshMessage::PartChunk { part, chunk } => self.merges.on_chunk(out, part, chunk),
            }
        }
        arena.clear();
    }

    fn on_log_written(&mut self, now: Time, ticket: Ticket, buffer: LogBuffer) {
        self.last_write_ended = now;
        let Some(durable) = self.log.on_written(ticket, buffer) else {
            return;
        };
        let times = WriteTimes {
            started: self.write_started,
            ended: now,
        };
        while let Some(&(position, replica)) = self.awaiting_log.front() {
            if position > durable {
                break;
            }
            self.awaiting_log.pop_front();
            if self.replicas[replica].on_durable(&mut self.stages, durable, times) {
                self.dirty.mark(replica);
            }
        }
    }

    // ---- The turn ----

    /// Ends a turn: proposes what was gathered, starts the next log write, applies what is committed, answers.
    pub fn finish_turn(&mut self, now: Time, out: &mut Effects) {
        self.counters.turns += 1;
        self.tick(now, out);
        for _ in 0..ROUNDS_PER_TURN_MAX {
            if !self.has_work() {
                break;
            }
            self.drive_replicas(now, out);
            self.drive_ranges(now, out);
        }
        if self.log.needs_mark() && self.is_time_for_mark(now) {
            self.log.on_idle();
        }
        self.drive_log(now, out);
        self.answers.flush_mesh(out);
        self.turn_ended = now;
    }

    /// Tells that the effects of the turn are carried out: the answers are with the sockets.
    pub fn on_turn_executed(&mut self, now: Time) {
        let applied = std::mem::take(&mut self.applied);
        if let Some(committed_at) = applied.committed_at {
            let apply = self.turn_ended.nanos_since(committed_at);
            self.stages.record(Stage::Apply, apply, applied.commands);
            self.stages.record(
                Stage::Reply,
                now.nanos_since(self.turn_ended),
                applied.commands,
            );
        }
    }

    fn tick(&mut self, now: Time, out: &mut Effects) {
        let interval_ms = self.config.settings.raft.tick_interval_ms;
        if now < self.next_tick {
            return;
        }
        let missed = 1 + now.millis_since(self.next_tick) / interval_ms;
        self.next_tick = self.next_tick.plus_ms(missed * interval_ms);
        for replica in 0..self.replicas.len() {
            let mut turn = turn!(self, now, out);
            self.replicas[replica].on_ticks(&mut turn, missed.min(TICKS_MISSED_MAX));
            self.dirty.mark(replica);
        }
    }

    fn drive_replicas(&mut self, now: Time, out: &mut Effects) {
        let dirty = self.dirty.take();
        let log_is_free = self.log.is_free();
        for &replica in &dirty {
            let staged_before = self.log.staged_position();
            let mut turn = turn!(self, now, out);
            self.replicas[replica].drive_raft(&mut turn, log_is_free);
            let staged = self.log.staged_position();
            if staged > staged_before {
                self.awaiting_log.push_back((staged, replica));
            }
        }
        // The device works while the committed entries are applied.
        self.drive_log(now, out);
        for replica in dirty {
            let mut turn = turn!(self, now, out);
            let applied = self.replicas[replica].apply_committed(&mut turn);
            self.applied.commands += applied.commands;
            self.applied.committed_at = self.applied.committed_at.or(applied.committed_at);
        }
    }

    fn drive_log(&mut self, now: Time, out: &mut Effects) {
        while let Some(effect) = self.log.next_effect() {
            out.queue.push(match effect {
                LogEffect::Write {
                    ticket,
                    file,
                    offset,
                    buffer,
                } => {
                    self.write_started = now;
                    Effect::WriteLog {
                        ticket,
                        file,
                        offset,
                        buffer,
                    }
                }
                LogEffect::WriteMark {
                    ticket,
                    slot,
                    buffer,
                } => Effect::WriteMark {
                    ticket,
                    slot,
                    buffer,
                },
                LogEffect::PrepareSegment { file, bytes } => Effect::PrepareSegment { file, bytes },
                LogEffect::RemoveSegment { file } => Effect::RemoveSegment { file },
            });
        }
    }

    fn is_time_for_mark(&self, now: Time) -> bool {
        self.log.is_idle()
            && (self.is_draining || now >= self.last_write_ended.plus_ms(IDLE_BEFORE_MARK_MS))
    }

    fn drive_ranges(&mut self, now: Time, out: &mut Effects) {
        for (part, chunk) in std::mem::take(&mut self.answers.chunks) {
            self.merges.on_chunk(out, part, chunk);
        }
        for (core, part, request) in std::mem::take(&mut self.merges.requests) {
            if core == self.id() {
                self.on_part_request(now, part, request, out);
                continue;
            }
            self.answers.mesh(core).messages.push(match request {
                PartRequest::Next => MeshMessage::RangeNext { part },
                PartRequest::Close => MeshMessage::RangeClose { part },
            });
        }
    }

    // ---- Routing ----

    fn route(&self, namespace: NamespaceId, key: &[u8]) -> Option<Route> {
        let rule = self.config.namespaces.rule(namespace)?;
        let slot = slot_of(namespace, rule.routing_part(key));
        Some(self.routes[usize::from(slot.0)])
    }

    fn shards_of_range(
        &self,
        namespace: NamespaceId,
        prefix: &[u8],
        scope: Scope,
    ) -> Option<Vec<(ShardId, CoreId)>> {
        let rule = self.config.namespaces.rule(namespace)?;
        Some(match rule.shared_routing_part(prefix, scope) {
            Some(routing_part) => {
                let route = self.routes[usize::from(slot_of(namespace, routing_part).0)];
                vec![(route.shard, route.core)]
            }
            None => {
                let shards = self.config.shard_map.shards();
                shards
                    .iter()
                    .map(|location| (location.shard, location.core))
                    .collect()
            }
        })
    }

    fn replica_of(&self, shard: ShardId) -> usize {
        self.replicas
            .binary_search_by_key(&shard, Replica::shard)
            .expect("only requests for shards of this core come here")
    }
}
