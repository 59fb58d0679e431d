//! The driver of a core: it joins sockets, ring and clock to [`metastore_engine::Core`] and decides nothing.
//!
//! A turn: connection tasks hand every complete frame of what they read to the core; then the turn task lets the core
//! finish, carries out its effects and wakes the connections that have answers. A completed log write runs a turn of
//! its own at once, so that the device gets its next record without delay.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use glommio::timer::Timer;
use metastore_engine::{
    Account, ConnectionId, Core, CoreId, Effect, Effects, Input, LoadRoom, MemoryShare, MeshBatch,
    RequestId as EngineRequestId, RequestKind, SliceKind, SnapshotFailed, SnapshotId,
    SnapshotTicket, Time,
};
use metastore_net::server::{self, Bell, Connections, Service};
use metastore_net::{HelloInfo, Request, RequestId};
use metastore_wal::device::{Completion, DeviceError, FileRef, Ring, Switch};

mod admin;
mod numbers;
mod peers;
mod reads;
mod segments;

use self::admin::Waiting;
use self::peers::Peers;
pub(crate) use self::peers::{PeerCounts, PeersSetup};
use super::blocking::BlockingRoom;
use super::clock::Clock;
use super::disk_space::DiskWatch;
use super::event::Event;
use super::halt::{halt, halt_for};
use super::keeper::NodeKeeper;
use super::memory::{CONNECTION_BYTES, CoreMemory};
use super::outgoing::{MeshSender, Outgoing};
use super::snapshot_writer::{JobEnd, SnapshotJob, SnapshotWork, SnapshotWriter};
use super::wire::{self, CoreFacts};
use crate::log;

/// A turn's last slice of background work begins within this time; a slice is sized for 500 us.
const SLICES_BEGIN_WITHIN: Duration = Duration::from_micros(250);

/// After so many turns without a message of another core of the node, none is expected.
const QUIET_TURNS: u32 = 4;

/// An alarm in the past must still let the other tasks run before it.
const ALARM_MIN: Duration = Duration::from_micros(200);

/// What a driver is made of.
pub(crate) struct DriverParts {
    pub(crate) core: Core,
    pub(crate) ring: Ring,
    pub(crate) log_directory: PathBuf,
    /// Where the shards have their directories.
    pub(crate) data: PathBuf,
    pub(crate) keeper: NodeKeeper,
    /// Snapshots are written no faster than this.
    pub(crate) snapshot_bytes_per_second_max: u64,
    pub(crate) clock: Clock,
    pub(crate) facts: CoreFacts,
    pub(crate) disk: DiskWatch,
    pub(crate) mesh: Option<Box<dyn MeshSender>>,
    pub(crate) memory: MemoryShare,
    /// How long the core waits in place when it has nothing to do, zero for never.
    pub(crate) idle_wait_max: Duration,
}

/// One core's driver. Everything runs on the core's own thread; the cells are never borrowed across an await.
pub(crate) struct Driver {
    core: RefCell<Core>,
    effects: RefCell<Effects>,
    ring: RefCell<Ring>,
    completions: RefCell<Vec<Completion>>,
    log_directory: PathBuf,
    data: PathBuf,
    /// Whoever writes in the background waits while this says so.
    background_pause: Switch,
    /// Who prepares a segment does not care about that while this says so.
    segment_hurry: Switch,
    snapshots: SnapshotWriter,
    clock: Clock,
    facts: CoreFacts,
    disk: DiskWatch,
    connections: Connections,
    outgoing: RefCell<Outgoing>,
    peers: Peers,
    waiting: Waiting,
    keeper: NodeKeeper,
    /// Who may have one of the threads that block, beside segments.
    blocking: Rc<BlockingRoom>,
    memory: RefCell<CoreMemory>,
    /// How long the core waits in place when it has nothing to do.
    idle_wait_max: Duration,
    /// Turns since another core of the node has sent something.
    turns_since_mesh: Cell<u32>,
    is_stopping: Cell<bool>,
    turn_wanted: Event,
    submit_wanted: Event,
    /// The alarm is set to this; an earlier deadline sets it anew.
    alarm: Cell<Time>,
    alarm_moved: Event,
}

impl Driver {
    pub(crate) fn new(parts: DriverParts) -> Driver {
        let DriverParts {
            core,
            ring,
            log_directory,
            data,
            keeper,
            snapshot_bytes_per_second_max,
            clock,
            facts,
            disk,
            mesh,
            memory,
            idle_wait_max,
        } = parts;
        let cores = usize::from(facts.hello.core_count);
        let background_pause = Switch::default();
        Driver {
            core: RefCell::new(core),
            effects: RefCell::default(),
            ring: RefCell::new(ring),
            completions: RefCell::default(),
            log_directory,
            snapshots: SnapshotWriter::new(
                data.clone(),
                snapshot_bytes_per_second_max,
                background_pause.clone(),
                disk.clone(),
            ),
            data,
            background_pause,
            segment_hurry: Switch::default(),
            clock,
            facts,
            disk,
            connections: Connections::default(),
            outgoing: RefCell::new(Outgoing::new(mesh, cores)),
            peers: Peers::default(),
            waiting: Waiting::default(),
            keeper,
            blocking: Rc::default(),
            memory: RefCell::new(CoreMemory::new(memory)),
            idle_wait_max,
            turns_since_mesh: Cell::new(0),
            is_stopping: Cell::new(false),
            turn_wanted: Event::default(),
            submit_wanted: Event::default(),
            alarm: Cell::new(Time(u64::MAX)),
            alarm_moved: Event::default(),
        }
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Whether clients can be sent here. A node alone then leads all of its shards. One of several may still find no
    /// others, and its clients wait for them.
    pub(crate) fn is_ready(&self) -> bool {
        let core = self.core.borrow();
        core.has_begun() && (self.peers.has_joined() || core.is_serving())
    }

    /// Whether, after [`Driver::drain`], no client of this core waits for anything and its log has its mark.
    pub(crate) fn has_finished(&self) -> bool {
        self.connections.in_flight() == 0
            && !self.connections.has_unsent()
            && self.outgoing.borrow().is_empty()
            && self.peers.queued_bytes() == 0
            && self.core.borrow().is_drained()
    }

    /// Accepts nothing new from now on and finishes what was accepted.
    pub(crate) fn drain(self: &Rc<Self>) {
        self.is_stopping.set(true);
        self.step(Input::Drain);
        self.run_turn();
    }

    fn step(&self, input: Input<'_>) {
        let now = self.clock.now();
        self.core
            .borrow_mut()
            .step(now, input, &mut self.effects.borrow_mut());
    }

    // ---- The turn ----

    /// Runs a turn whenever somebody wants one.
    pub(crate) async fn drive_turns(self: Rc<Self>) {
        loop {
            self.turn_wanted.wait().await;
            // A busy executor looks for wake-ups once in a while, and the log would stand still for as long.
            if self.ring.borrow().status().in_flight > 0 {
                self.step_completions();
            }
            self.run_turn();
            self.turns_since_mesh
                .set(self.turns_since_mesh.get().saturating_add(1));
            self.run_slices();
            // A turn may want the next one at once, and waiting for what has come already lets nobody else run.
            glommio::executor().yield_task_queue_now().await;
        }
    }

    /// How long the core may wait in place for its sockets and its log: nobody else has anything for it, and nothing is
    /// left to do. Messages of other cores of the node wait as long, so that where some have come lately it does not.
    pub(crate) fn idle_wait(&self) -> Duration {
        let core = self.core.borrow();
        let has_work = self.turn_wanted.is_set()
            || self.submit_wanted.is_set()
            || core.has_work()
            || core.has_slice()
            || !self.effects.borrow().queue.is_empty();
        let is_with_others = self.facts.hello.core_count > 1;
        if has_work || is_with_others && self.turns_since_mesh.get() < QUIET_TURNS {
            return Duration::ZERO;
        }
        let deadline = core.next_deadline().unwrap_or(Time(u64::MAX));
        let rest = deadline.nanos_since(self.clock.now());
        self.idle_wait_max.min(Duration::from_nanos(rest))
    }

    /// Finishes the turn and carries out its effects.
    pub(crate) fn run_turn(self: &Rc<Self>) {
        let mut effects = self.effects.take();
        self.core
            .borrow_mut()
            .finish_turn(self.clock.now(), &mut effects);
        let finished = self.clock.now();
        for effect in effects.queue.drain(..) {
            self.carry_out(effect, &effects.arena);
        }
        if self.peers.flush() {
            // Other nodes have the longer way, and can be on it while this core submits its own write.
            self.submit_wanted.set();
        } else {
            self.submit_log();
        }
        self.flush_mesh();
        self.connections.flush();
        self.settle_memory(&effects);
        effects.clear();
        // Effects come from steps, and those since the take have none: what they had would be lost here.
        let meanwhile = self.effects.replace(effects);
        assert!(
            meanwhile.queue.is_empty(),
            "an effect came while others were carried out"
        );
        self.add_nodes();
        let mut core = self.core.borrow_mut();
        core.on_turn_executed(finished, self.clock.now());
        self.background_pause.set(core.is_log_behind());
        self.segment_hurry.set(core.is_segment_urgent());
        if core.has_work() || core.has_slice() {
            self.turn_wanted.set();
        }
        if core
            .next_deadline()
            .is_some_and(|deadline| deadline < self.alarm.get())
        {
            self.alarm_moved.set();
        }
    }

    /// Does background work that waits, and wants a turn for what it led to: one slice of any kind, then slices of
    /// ranges for a bounded time. Most of these are short, as the lists of small directories are, and one a turn would
    /// let them wait for as many turns as there are lists. The other kinds have slices of full length, and nobody waits
    /// for their end.
    fn run_slices(&self) {
        let mut core = self.core.borrow_mut();
        let first_began = self.clock.now();
        let mut next = core.run_slice(first_began, &mut self.effects.borrow_mut());
        let mut began = first_began;
        while let Some(kind) = next {
            let ended = self.clock.now();
            core.on_slice_executed(kind, began, ended);
            self.turn_wanted.set();
            if ended.nanos_since(first_began) >= SLICES_BEGIN_WITHIN.as_nanos() as u64 {
                return;
            }
            let effects = &mut self.effects.borrow_mut();
            let is_range = core.run_slice_of(SliceKind::Range, ended, effects);
            next = is_range.then_some(SliceKind::Range);
            began = ended;
        }
    }

    /// Tells the node what this core holds, and the core and its connections what is left.
    fn settle_memory(&self, effects: &Effects) {
        let now = self.clock.now();
        if !self.memory.borrow().is_due(now) {
            return;
        }
        let mut accounts = self.core.borrow().memory();
        accounts.add(Account::Replies, effects.arena.capacity() as u64);
        accounts.add(Account::Mesh, self.outgoing.borrow().bytes() as u64);
        let (to_peers, of_peers) = self.peers.buffer_bytes();
        let inbound = self.connections.inbound_bytes() + of_peers;
        let outbound = self.connections.outbound_bytes() + to_peers;
        accounts.add(Account::Inbound, inbound as u64);
        accounts.add(Account::Outbound, outbound as u64);
        let idle_bytes = self.connections.count() * CONNECTION_BYTES;
        accounts.add(Account::Connections, idle_bytes as u64);
        let room = self.memory.borrow_mut().settle(now, &accounts);
        self.step(Input::Memory(room));
        self.connections
            .set_node_short(room.load != LoadRoom::Ample);
    }

    fn carry_out(self: &Rc<Self>, effect: Effect, arena: &[u8]) {
        match effect {
            Effect::WriteLog {
                ticket,
                file,
                offset,
                buffer,
            } => {
                let file = FileRef::Segment(file);
                self.ring
                    .borrow_mut()
                    .submit_write(ticket, file, offset, buffer);
            }
            Effect::WriteMark {
                ticket,
                slot,
                buffer,
            } => {
                let offset = slot.offset();
                self.ring
                    .borrow_mut()
                    .submit_write(ticket, FileRef::Mark, offset, buffer);
            }
            Effect::PrepareSegment { file, bytes } => {
                glommio::spawn_local(Rc::clone(self).prepare_segment(file, bytes)).detach();
            }
            Effect::RemoveSegment { file } => {
                glommio::spawn_local(Rc::clone(self).remove_segment(file)).detach();
            }
            Effect::WriteSnapshot {
                ticket,
                snapshot,
                offset,
                bytes,
            } => self.add_snapshot_job(ticket, snapshot, SnapshotWork::Write { offset, bytes }),
            Effect::FinishSnapshot {
                ticket,
                snapshot,
                bytes,
            } => self.add_snapshot_job(ticket, snapshot, SnapshotWork::Finish { bytes }),
            Effect::RemoveSnapshot { ticket, snapshot } => {
                self.add_snapshot_job(ticket, snapshot, SnapshotWork::Remove);
            }
            Effect::Reply {
                connection,
                request,
                kind,
                reply,
            } => {
                let subject = (RequestId(request.0), kind);
                // Few ask for them, and answers are many.
                let counts = (kind == RequestKind::Status).then(|| self.counts());
                self.connections.reply(to_net(connection), |out| {
                    wire::append_reply(&self.facts, counts, subject, &reply, arena, out)
                });
            }
            Effect::Forward { core, batch } => {
                self.outgoing.borrow_mut().push(core, batch);
            }
            Effect::Send { to, lane, batch } => self.peers.send(to, lane, &batch),
            Effect::ReadLog {
                ticket,
                file,
                offset,
                bytes,
            } => {
                let read = Rc::clone(self).read_log(ticket, file, offset, bytes);
                glommio::spawn_local(read).detach();
            }
            Effect::ReadSnapshot {
                ticket,
                snapshot,
                offset,
                bytes,
            } => {
                let read = Rc::clone(self).read_snapshot(ticket, snapshot, offset, bytes);
                glommio::spawn_local(read).detach();
            }
            Effect::Members(effect) => self.on_members(effect),
            Effect::Halt(reason) => halt_for(&reason),
        }
    }

    // ---- The log ----

    fn submit_log(&self) {
        self.ring_result(self.ring.borrow_mut().submit());
    }

    /// Submits what goes to the log, behind the tasks that send to other nodes.
    pub(crate) async fn drive_submissions(self: Rc<Self>) {
        loop {
            self.submit_wanted.wait().await;
            self.submit_log();
        }
    }

    /// Takes completions of the ring. A byte on `wake` says that there is one.
    pub(crate) async fn drive_log(self: Rc<Self>, mut wake: Bell) {
        loop {
            match wake.ring().await {
                Ok(true) => {}
                // Without it nothing that becomes durable would ever be acknowledged.
                Ok(false) => halt(&"the log's wake-up channel was closed"),
                Err(error) => halt(&format!("the log's wake-up channel failed: {error}")),
            }
            self.step_completions();
            self.run_turn();
        }
    }

    /// Tells the core what the ring has completed.
    fn step_completions(&self) {
        let mut completions = self.completions.take();
        self.ring_result(self.ring.borrow_mut().reap(&mut completions));
        self.step_all(completions);
    }

    fn step_all(&self, mut completions: Vec<Completion>) {
        for Completion {
            ticket,
            file,
            buffer,
        } in completions.drain(..)
        {
            self.step(match file {
                FileRef::Segment(_) => Input::LogWritten { ticket, buffer },
                FileRef::Mark => Input::MarkWritten { ticket, buffer },
            });
        }
        self.completions.replace(completions);
    }

    /// A write or flush that failed is never tried again: after it nobody knows what the disk holds.
    fn ring_result(&self, result: Result<(), DeviceError>) {
        if let Err(error) = result {
            halt(&format!(
                "the log of {} cannot be written: {error}",
                self.log_directory.display()
            ));
        }
    }

    // ---- Snapshots ----

    fn add_snapshot_job(&self, ticket: SnapshotTicket, snapshot: SnapshotId, work: SnapshotWork) {
        self.snapshots.add(SnapshotJob {
            ticket,
            snapshot,
            work,
        });
    }

    /// Writes the files of snapshots. What fails there costs a snapshot and nothing else: everything that it would have
    /// covered is in the log.
    pub(crate) async fn drive_snapshots(self: Rc<Self>) {
        let on_end = |end: JobEnd| {
            if let Err(error) = &end.result {
                log::warning!(
                    "the file of a snapshot failed",
                    core = self.facts.hello.core_index,
                    error = log::text(error),
                );
            }
            self.step(Input::SnapshotDone {
                ticket: end.ticket,
                result: end.result.map_err(|_told| SnapshotFailed),
                buffer: end.buffer,
            });
            self.turn_wanted.set();
        };
        self.snapshots.run(on_end).await;
    }

    // ---- Time ----

    /// Wakes the core when its next deadline has come.
    pub(crate) async fn drive_time(self: Rc<Self>) {
        loop {
            let deadline = self.core.borrow().next_deadline().unwrap_or(Time(u64::MAX));
            self.alarm.set(deadline);
            let wait = Duration::from_nanos(deadline.nanos_since(self.clock.now())).max(ALARM_MIN);
            futures_lite::future::or(
                async {
                    Timer::new(wait).await;
                },
                self.alarm_moved.wait(),
            )
            .await;
            if self.clock.now() >= deadline {
                self.step(Input::DiskSpace(self.disk.space()));
                self.step(Input::Tick);
                let core = self.core.borrow();
                self.disk.want_reserve(core.id(), core.snapshot_bytes_max());
                for (shard, leader) in core.leaders() {
                    if let Some(leader) = leader {
                        self.facts.places.note_leader(shard, leader);
                    }
                }
                drop(core);
                self.peers.follow(&self.facts.places);
                self.run_turn();
            }
        }
    }

    // ---- The mesh ----

    /// Takes messages that another core sent.
    pub(crate) fn on_mesh(&self, from: CoreId, mut batch: MeshBatch) {
        self.turns_since_mesh.set(0);
        self.step(Input::Mesh {
            from,
            batch: &mut batch,
        });
        self.turn_wanted.set();
    }

    fn flush_mesh(&self) {
        let mut outgoing = self.outgoing.borrow_mut();
        outgoing.flush(|core| {
            // While stopping, the other core has given up waiting for what was accepted, and soon so does this one.
            if !self.is_stopping.get() {
                halt(&format!("core {core} ended while others answer"));
            }
        });
        if !outgoing.is_empty() {
            self.turn_wanted.set();
        }
    }
}

fn to_net(connection: ConnectionId) -> server::ConnectionId {
    server::ConnectionId(connection.0)
}

impl Service for Driver {
    fn hello(&self) -> HelloInfo {
        self.facts.hello()
    }

    fn on_request(
        &self,
        connection: server::ConnectionId,
        id: RequestId,
        deadline_ms: u32,
        request: Request<'_>,
    ) {
        if let Request::Admin(asked) = request {
            self.on_admin((connection, id), deadline_ms, asked);
            return;
        }
        let Some(body) = wire::to_engine(&request) else {
            self.connections.reply(connection, |out| {
                wire::append_shard_map(&self.facts, id, out)
            });
            return;
        };
        self.step(Input::Request {
            connection: ConnectionId(connection.0),
            request: EngineRequestId(id.0),
            deadline_ms,
            body,
        });
    }

    fn on_read_end(&self) {
        self.turn_wanted.set();
    }

    fn on_drained(&self, connection: server::ConnectionId) {
        self.step(Input::ConnectionDrained {
            connection: ConnectionId(connection.0),
        });
        // It happens after every answer, and only a range goes on from it.
        if self.core.borrow().has_work() || !self.effects.borrow().queue.is_empty() {
            self.turn_wanted.set();
        }
    }

    fn on_closed(&self, connection: server::ConnectionId) {
        self.step(Input::ConnectionClosed {
            connection: ConnectionId(connection.0),
        });
        self.turn_wanted.set();
    }
}
