//! One processor core's share of the store: its replicas, the log they share, and everybody who waits for them.

mod admission;
mod beats;
mod builder;
mod disk_health;
mod estimate;
mod intake;
mod load;
mod members;
mod moves;
mod neighbours;
mod pace;
mod peers;
mod placement;
mod ranges;
mod report;
mod scrubbing;
mod slices;
mod snapshots;
mod space;
mod sweeps;
mod timing;
mod transfers;

use std::collections::VecDeque;

use metastore_wal::{CoreId, Log, LogBuffer, LogEffect, Position, ShardId, Ticket};

pub(crate) use self::admission::Admission;
use self::admission::{Backlog, Lane};
use self::beats::Lead;
pub use self::builder::{CoreBuilder, CoreConfig, LogHistory, StartError};
use self::disk_health::DiskHealth;
pub use self::load::{SnapshotLoad, SnapshotLoadError};
use self::members::Residents;
use self::moves::Move;
pub(crate) use self::neighbours::Neighbours;
pub(crate) use self::pace::{Other, Pace};
pub(crate) use self::ranges::RANGE_IDLE_MS_MAX;
use self::ranges::{Merges, PartRequest};
use self::scrubbing::Scrubbing;
pub use self::slices::SliceKind;
use self::slices::Slices;
use self::snapshots::Snapshots;
pub use self::space::DiskSpace;
use self::sweeps::Sweeps;
use self::timing::Timing;
use self::transfers::Transfers;

use crate::answers::Answers;
use crate::effect::{Effect, Effects};
use crate::ids::Time;
use crate::input::Input;
use crate::mesh::MeshMessage;
use crate::peer::Batches;

use crate::replica::{Applied, Replica, STRUCTURED_PER_TURN_MAX, Turn, WriteTimes};
use crate::router::{SLOT_COUNT, Slot};
use crate::settings::PEER_BATCH_BYTES_FULL;
use crate::stages::{Stage, Stages};
use crate::status::CoreCounters;

/// A mark is written when the log was idle this long. With its own flush it is durable well within 10 ms.
const IDLE_BEFORE_MARK_MS: u64 = 5;
/// How often a turn goes back to replicas that got new work from its own results; what is left waits for the next.
const ROUNDS_PER_TURN_MAX: usize = 8;

/// What the builder hands over.
struct CoreParts {
    config: CoreConfig,
    log: Log,
    replicas: Vec<Replica>,
    logger: slog::Logger,
}

/// Where the keys of a slot are.
#[derive(Debug, Clone, Copy)]
struct Route {
    core: CoreId,
    shard: ShardId,
    /// Position among this core's replicas; `None` where none of the shard lives here.
    replica: Option<usize>,
}

/// Replicas that have something to do, each at most once.
#[derive(Debug, Default)]
struct Dirty {
    queue: Vec<usize>,
    is_queued: Vec<bool>,
}

impl Dirty {
    fn new(replicas: usize) -> Dirty {
        Dirty {
            queue: Vec::new(),
            is_queued: vec![false; replicas],
        }
    }

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

    fn follow(&mut self, moved: Move) {
        moved.apply(&mut self.is_queued);
        self.queue = std::mem::take(&mut self.queue)
            .into_iter()
            .filter_map(|replica| moved.of(replica))
            .collect();
    }
}

/// All replicas of one processor core over the one log they share.
///
/// Its methods, by kind:
/// * [`step`](Core::step), [`finish_turn`](Core::finish_turn), [`on_turn_executed`](Core::on_turn_executed): the turn;
/// * [`has_slice`](Core::has_slice), [`run_slice`](Core::run_slice), [`on_slice_executed`](Core::on_slice_executed):
///   background work between turns;
/// * [`next_deadline`](Core::next_deadline): when it wants to be woken;
/// * [`status`](Core::status), [`is_serving`](Core::is_serving), [`is_drained`](Core::is_drained): what it reports.
pub struct Core {
    config: CoreConfig,
    log: Log,
    replicas: Vec<Replica>,
    routes: Vec<Route>,
    answers: Answers,
    merges: Merges,
    admission: Admission,
    sweeps: Sweeps,
    dirty: Dirty,
    /// Replicas that keep commands back until the log's present write has ended.
    waiting_for_log: Dirty,
    /// Whether a write has ended since replicas were last driven: what is staged now is written at once, together with
    /// what others have staged meanwhile.
    has_write_ended: bool,
    /// Replicas whose staged parts are not durable, in the order of their positions.
    awaiting_log: VecDeque<(Position, usize)>,
    disk_health: DiskHealth,
    scrubbing: Scrubbing,
    write_started: Time,
    last_write_ended: Time,
    /// How long the last write took.
    last_write_ns: u64,
    next_tick: Time,
    is_draining: bool,
    /// When the log is durable up to here, it holds every replica of the start.
    begins_at: Position,
    disk: DiskSpace,
    /// Bytes of commands that were admitted and are not applied: at the end of the last turn, and what came since.
    waiting_bytes: usize,
    stages: Stages,
    slices: Slices,
    snapshots: Snapshots,
    transfers: Transfers,
    /// Replicas that come or go.
    residents: Residents,
    logger: slog::Logger,
    /// What is to be said to other nodes.
    peers: Batches,
    neighbours: Neighbours,
    timing: Timing,
    lead: Lead,
    counters: CoreCounters,
    /// What this turn applied, until the driver says that its answers have left.
    applied: Applied,
    turn_ended: Time,
}

impl Core {
    fn assemble(now: Time, parts: CoreParts) -> Core {
        let CoreParts {
            config,
            log,
            replicas,
            logger,
        } = parts;
        let mut core = Core {
            answers: Answers::new(config.identity.core, config.cores),
            routes: Vec::new(),
            merges: Merges::default(),
            admission: Admission::new(config.settings.admission, now),
            sweeps: Sweeps::default(),
            dirty: Dirty::new(replicas.len()),
            waiting_for_log: Dirty::new(replicas.len()),
            has_write_ended: false,
            awaiting_log: VecDeque::new(),
            disk_health: DiskHealth::default(),
            scrubbing: Scrubbing::default(),
            write_started: now,
            last_write_ended: now,
            last_write_ns: 0,
            next_tick: now.plus_ms(config.settings.raft.tick_interval_ms),
            neighbours: Neighbours::new(config.boot, config.settings.raft.election_ticks),
            timing: Timing::new(&config.settings.raft),
            lead: Lead::default(),
            is_draining: false,
            begins_at: log.staged_position(),
            disk: DiskSpace::Enough,
            waiting_bytes: 0,
            stages: Stages::default(),
            slices: Slices::default(),
            snapshots: Snapshots::new(replicas.len()),
            transfers: Transfers::default(),
            residents: Residents::default(),
            logger,
            peers: Batches::new(config.identity, PEER_BATCH_BYTES_FULL),
            counters: CoreCounters::default(),
            applied: Applied::default(),
            turn_ended: now,
            config,
            log,
            replicas,
        };
        let slots = (0..SLOT_COUNT).map(|slot| {
            let slot = Slot(u16::try_from(slot).expect("a slot fits into 16 bits"));
            core.find_route(core.config.shard_map.shard_of(slot))
        });
        core.routes = slots.collect();
        for replica in 0..core.replicas.len() {
            core.dirty.mark(replica);
        }
        core.find_neighbours();
        core
    }

    /// Where the keys of a shard are: here, if a replica lives here, and else where the map has it.
    fn find_route(&self, shard: ShardId) -> Route {
        let replica = self.find_replica(shard);
        let in_map = || {
            let core = self.config.shard_map.core_of(shard);
            core.expect("the map knows its shards")
        };
        Route {
            core: replica.map_or_else(in_map, |_here| self.id()),
            shard,
            replica,
        }
    }

    /// A replica, and the parts of the core that it works with.
    fn turn_of<'a>(
        &'a mut self,
        replica: usize,
        now: Time,
        out: &'a mut Effects,
    ) -> (&'a mut Replica, Turn<'a>) {
        let turn = Turn {
            now,
            settings: &self.config.settings,
            log: &mut self.log,
            answers: &mut self.answers,
            stages: &mut self.stages,
            peers: &mut self.peers,
            neighbours: &self.neighbours,
            tick_ns: self.timing.tick_ns(),
            out,
        };
        (&mut self.replicas[replica], turn)
    }

    /// Which core it is.
    #[must_use]
    pub fn id(&self) -> CoreId {
        self.config.identity.core
    }

    // ---- What it wants ----

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
            || !self.answers.slices.is_empty()
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
            Input::ConnectionClosed { connection } => {
                self.merges.on_closed(self.id(), connection);
                self.sweeps.on_closed(connection);
            }
            Input::ConnectionDrained { connection } => {
                self.merges.on_drained(now, out, self.id(), connection);
            }
            Input::Mesh { from, batch } => self.on_mesh(now, from, batch, out),
            Input::PeerMessages { from, batch } => self.on_peer_messages(now, from, batch, out),
            Input::PeerUnreachable { peer } => self.on_peer_unreachable(peer),
            Input::LogWritten { ticket, buffer } => self.on_log_written(now, ticket, buffer),
            Input::LogRead { ticket, result } => self.on_log_read(now, ticket, result, out),
            Input::MarkWritten { ticket, buffer } => self.log.on_mark_written(ticket, buffer),
            Input::SegmentPrepared { file } => self.log.on_segment_prepared(file),
            Input::SegmentRemoved { file } => self.log.on_segment_removed(file),
            Input::Memory(room) => self.admission.on_memory(room),
            Input::DiskSpace(disk) => self.on_disk_space(disk),
            Input::SnapshotDone {
                ticket,
                result,
                buffer,
            } => self.on_snapshot_done(now, ticket, result, buffer),
            Input::SnapshotRead { ticket, result } => self.on_snapshot_read(ticket, result, out),
            Input::HandOver { shard, to } => self.on_hand_over(shard, to),
            Input::Members(input) => self.on_members(now, input, out),
            Input::Drain => self.is_draining = true,
        }
    }

    fn on_log_written(&mut self, now: Time, ticket: Ticket, buffer: LogBuffer) {
        self.last_write_ended = now;
        self.has_write_ended = true;
        self.disk_health.on_completed(now);
        for replica in self.waiting_for_log.take() {
            self.dirty.mark(replica);
        }
        let Some(durable) = self.log.on_written(ticket, buffer) else {
            return;
        };
        let took_ns = now.nanos_since(self.write_started);
        self.timing.on_write(took_ns);
        let times = WriteTimes {
            started: self.write_started,
            ended: now,
            previous_ns: std::mem::replace(&mut self.last_write_ns, took_ns),
        };
        while let Some(&(position, replica)) = self.awaiting_log.front() {
            if position > durable {
                break;
            }
            self.awaiting_log.pop_front();
            let (stages, admission) = (&mut self.stages, &mut self.admission);
            if self.replicas[replica].on_durable(stages, admission, durable, times) {
                self.dirty.mark(replica);
            }
        }
    }

    // ---- The turn ----

    /// Ends a turn: proposes what was gathered, starts the next log write, applies what is committed, answers.
    pub fn finish_turn(&mut self, now: Time, out: &mut Effects) {
        self.counters.turns += 1;
        self.tick(now, out);
        if self.is_draining {
            self.hand_over_quiet();
        }
        let mut structured = 0;
        for _ in 0..ROUNDS_PER_TURN_MAX {
            if !self.has_work() || out.is_full() || structured >= STRUCTURED_PER_TURN_MAX {
                break;
            }
            structured += self.drive_replicas(now, out);
            self.drive_ranges(now, out);
            self.drive_sweeps(now, out);
        }
        self.drive_snapshots(now, out);
        self.drive_transfers(now, out);
        self.drive_residents(out);
        self.flush_peers(now, out);
        if self.log.needs_mark() && self.is_time_for_mark(now) {
            self.log.on_idle();
        }
        self.drive_log(now, out);
        self.answers.flush_mesh(out);
        self.waiting_bytes = self.replicas.iter().map(Replica::waiting_bytes).sum();
        self.turn_ended = now;
    }

    /// Tells when the turn was finished and when its effects were carried out: the answers are with the sockets.
    pub fn on_turn_executed(&mut self, finished: Time, executed: Time) {
        let applied = std::mem::take(&mut self.applied);
        if let Some(committed_at) = applied.committed_at {
            let apply = finished.nanos_since(committed_at);
            self.stages.record(Stage::Apply, apply, applied.commands);
            let reply = executed.nanos_since(finished);
            self.stages.record(Stage::Reply, reply, applied.commands);
        }
    }

    fn tick(&mut self, now: Time, out: &mut Effects) {
        if now < self.next_tick {
            return;
        }
        self.merges.expire(now, out, self.config.identity.core);
        let waits = self
            .replicas
            .iter()
            .map(|replica| replica.oldest_wait_ns(now));
        let backlog = Backlog {
            oldest_ns: waits.max().unwrap_or(0),
            is_crowded: self.waiting_bytes > self.waiting_bytes_max(Lane::Growing) / 2,
        };
        self.admission.on_time(now, backlog);
        self.snapshots.on_tick();
        self.watch_disk_health(now, out);
        self.drive_scrubbing(now, out);
        self.retry_sweeps(now, out);
        let tick_ns = self.timing.tick_ns();
        let missed = 1 + now.nanos_since(self.next_tick) / tick_ns;
        self.next_tick = Time(self.next_tick.0.saturating_add(missed * tick_ns));
        self.tick_neighbours(now, missed, out);
        for replica in 0..self.replicas.len() {
            if self.replicas[replica].is_asleep() {
                continue;
            }
            let (target, mut turn) = self.turn_of(replica, now, out);
            target.on_ticks(&mut turn, missed);
            self.counters.replica_ticks += 1;
            self.dirty.mark(replica);
        }
        self.drive_lead();
    }

    /// Lets replicas that have something to do work; returns how many commands with structure they applied.
    fn drive_replicas(&mut self, now: Time, out: &mut Effects) -> u64 {
        let mut structured = 0;
        let dirty = self.dirty.take();
        let log_is_free = std::mem::take(&mut self.has_write_ended) || self.log.is_free();
        for &replica in &dirty {
            let staged_before = self.log.staged_position();
            let (target, mut turn) = self.turn_of(replica, now, out);
            target.drive_raft(&mut turn, log_is_free);
            let waits_for_log = target.has_open_batch();
            if target.is_fenced() {
                let fenced = target.id();
                self.residents.on_fenced(fenced);
            }
            let staged = self.log.staged_position();
            if staged > staged_before {
                self.awaiting_log.push_back((staged, replica));
            }
            if waits_for_log {
                self.waiting_for_log.mark(replica);
            }
        }
        // Followers and the device work while the committed entries are applied.
        self.flush_peers(now, out);
        self.drive_log(now, out);
        let log_is_free = self.log.is_free();
        for replica in dirty {
            let (target, mut turn) = self.turn_of(replica, now, out);
            let applied = target.apply_committed(&mut turn);
            let wants_turn = target.wants_turn(turn.settings, log_is_free);
            structured += applied.structured;
            self.applied.commands += applied.commands;
            self.applied.committed_at = self.applied.committed_at.or(applied.committed_at);
            if wants_turn {
                self.dirty.mark(replica);
            }
        }
        structured
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
                    self.disk_health.on_submitted(now);
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
            self.merges.on_chunk(now, out, part, chunk);
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
}
