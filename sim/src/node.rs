//! One node: a core and what carries out its effects. It does what a server's driver does, on a simulated disk.

mod background_reads;
mod config;
mod disk_space;
mod log_io;
mod snapshots;
mod writes;

use std::collections::{BTreeMap, VecDeque};

use metastore_bugs::{Mutant, is_planted};
use metastore_engine::{
    ConnectionId, Core, CoreBuilder, CoreId, CoreStatus, Effect, Effects, HaltReason, Input,
    LogHistory, MeshBatch, PeerCore, PeerLane, Quarantine, ReplicaId, ReplicaStatus, Reply,
    RequestId, RequestKind, Time,
};
use metastore_wal::recovery::{
    Decision, Recovered, RecoveredReplica, RecoveryError, ReplayEvent, recover, recover_among_peers,
};
use metastore_wal::{FileNumber, HardState};

pub use self::background_reads::{LogRead, SnapshotRead};
pub use self::config::{FlushMethod, IDENTITY, NodeConfig, Placement, SEAL};
use self::log_io::{IoId, LogIo, Target};

use self::snapshots::{Loader, SnapshotJob};
use crate::checkers::log_view::{LogView, apply_event};
use crate::clock::Clock;
use crate::disk::{Disk, DiskError, DiskReader, FileName, IoTicket, SnapshotDeed};
use crate::oracle::Survivors;
use crate::random::Random;
use crate::trace::Trace;
use crate::violation::Violation;

/// Something that happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// The disk has done a part of a log write.
    Io(IoId, IoTicket),
    /// The disk has read a part of the log.
    LogRead(LogRead),
    /// The disk has read a part of a snapshot.
    SnapshotRead(SnapshotRead),
    /// A segment is to be prepared, or tried again.
    Prepare(FileNumber, u64),
    /// A segment is prepared.
    Prepared(FileNumber),
    /// A segment is removed.
    Removed(FileNumber),
    /// The oldest thing that was asked for the file of a snapshot is done.
    SnapshotDone,
    /// Enough has come in: the turn ends.
    Turn,
    /// A slice of background work is done.
    Slice,
    /// The core wanted to be woken.
    Wake,
}

/// What a node works with.
pub struct Machine<'a> {
    /// Its disk.
    pub disk: &'a mut Disk,
    /// What happens to the node next, each with nanoseconds from now.
    pub events: &'a mut Vec<(u64, NodeEvent)>,
    /// Chance in the driver: how long a turn gathers input.
    pub random: &'a mut Random,
    /// Where inputs and effects are recorded.
    pub trace: Option<&'a mut Trace>,
}

impl Machine<'_> {
    fn schedule(&mut self, delay_ns: u64, event: NodeEvent) {
        self.events.push((delay_ns, event));
    }
}

/// What a node lets its observers see.
pub enum Observed<'a> {
    /// A write or flush has completed.
    DiskChanged {
        /// The disk after it.
        disk: &'a Disk,
    },
    /// A record leaves for the disk.
    RecordSubmitted {
        /// The file.
        file: FileName,
        /// Where in it.
        offset: u64,
        /// The record.
        bytes: &'a [u8],
    },
    /// A mark leaves for the disk.
    MarkSubmitted {
        /// The mark.
        bytes: &'a [u8],
    },
    /// Messages leave for another core of the node.
    Forward {
        /// The core.
        core: CoreId,
        /// The messages.
        batch: MeshBatch,
    },
    /// Messages leave for a core of another node.
    Send {
        /// The core.
        to: PeerCore,
        /// Over which of the connections.
        lane: PeerLane,
        /// The messages.
        batch: Vec<u8>,
    },
    /// A request is answered.
    Answer {
        /// Whose.
        connection: ConnectionId,
        /// Which.
        request: RequestId,
        /// What kind of request it was.
        kind: RequestKind,
        /// The answer.
        reply: &'a Reply,
        /// Where its bytes are.
        arena: &'a [u8],
    },
}

/// Why a node stops by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The disk failed; a server halts at once.
    DiskFailed(DiskError),
    /// The core says so.
    Halt(HaltReason),
}

/// Why a node did not start.
#[derive(Debug)]
pub enum StartFailure {
    /// The disk failed; the next start may do better.
    DiskFailed(DiskError),
    /// The log is refused.
    Refused(RecoveryError<DiskError>),
    /// Something is wrong with the program.
    Violation(Violation),
}

/// What a start found.
#[derive(Debug)]
pub struct Started {
    /// The entries in the log.
    pub survivors: Survivors,
    /// What the log says of its replicas.
    pub log: LogView,
    /// What recovery decided.
    pub decision: Decision,
    /// The replicas that take no part, and what they are known to have promised.
    pub quarantined: Vec<(ReplicaId, Quarantine, HardState)>,
}

/// Reads a log as a server does whose replicas have peers, or have none.
fn recover_as(
    config: &NodeConfig,
    reader: &mut DiskReader<'_>,
    on_event: &mut dyn FnMut(ReplayEvent<'_>),
) -> Result<Recovered, RecoveryError<DiskError>> {
    let identity = &config.placement.identity;
    let has_peers = config
        .placement
        .members
        .values()
        .any(|members| members.len() > 1);
    match has_peers {
        true => recover_among_peers(reader, identity, SEAL, on_event),
        false => recover(reader, identity, SEAL, on_event),
    }
}

fn quarantined(
    node: &Node,
    recovered: &[RecoveredReplica],
) -> Vec<(ReplicaId, Quarantine, HardState)> {
    let quarantined = node.core.replicas().filter_map(|status| {
        let known = recovered
            .iter()
            .find(|known| known.replica == status.replica)?;
        Some((status.replica, status.quarantine?, known.hard_state))
    });
    quarantined.collect()
}

/// A node that runs.
pub struct Node {
    core: Core,
    effects: Effects,
    config: NodeConfig,
    clock: Clock,
    ios: BTreeMap<IoId, LogIo>,
    next_io: u64,
    /// What was asked for the files of snapshots; the first of it is being done.
    snapshot_jobs: VecDeque<SnapshotJob>,
    is_disk_low: bool,
    is_turn_scheduled: bool,
    is_slice_scheduled: bool,
    wake_at: Option<Time>,
    counters: NodeCounters,
}

/// What a node has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounters {
    /// Inputs of its core.
    pub inputs: u64,
    /// Writes that were cut short and completed.
    pub short_writes: u64,
    /// Segments prepared.
    pub segments: u64,
    /// Segments for which there was no room.
    pub full_disks: u64,
    /// Times that the disk became low.
    pub low_disks: u64,
    /// Records and marks written.
    pub writes: u64,
    /// Parts of the log that were read back.
    pub log_reads: u64,
    /// Parts of snapshots that were read for others.
    pub snapshot_reads: u64,
    /// Snapshots that got their name.
    pub snapshots: u64,
    /// Snapshots that a start loaded.
    pub loads: u64,
}

impl NodeCounters {
    /// Adds what another life did.
    pub fn add(&mut self, other: &NodeCounters) {
        self.inputs += other.inputs;
        self.short_writes += other.short_writes;
        self.segments += other.segments;
        self.full_disks += other.full_disks;
        self.low_disks += other.low_disks;
        self.writes += other.writes;
        self.log_reads += other.log_reads;
        self.snapshot_reads += other.snapshot_reads;
        self.snapshots += other.snapshots;
        self.loads += other.loads;
    }
}

/// How long before a segment that found no room is tried again.
const PREPARE_RETRY_NS: u64 = 100_000_000;
/// How long at most a turn gathers input.
const TURN_DELAY_MAX_NS: u64 = 30_000;
/// How long at most the core is busy with others before it does a slice of background work.
const SLICE_DELAY_MAX_NS: u64 = 100_000;

impl Node {
    /// Starts a node over what is on the disk. `boot` differs at every start.
    ///
    /// # Errors
    /// Says why it does not run.
    pub fn start(
        config: &NodeConfig,
        clock: Clock,
        boot: u64,
        history: LogHistory,
        disk: &mut Disk,
    ) -> Result<(Node, Started), StartFailure> {
        if !is_planted(Mutant::RecoveryFromCache) {
            disk.flush_all().map_err(StartFailure::DiskFailed)?;
        }
        let builder = CoreBuilder::new(config.core(boot))
            .map_err(|error| StartFailure::Violation(Violation::StartRefused(error)))?;
        let mut survivors = Survivors::default();
        let mut log = LogView::new();
        let mut loader = Loader {
            disk,
            builder,
            named: Vec::new(),
            failed: None,
        };
        let recovered = recover_as(config, &mut disk.reader(), &mut |event| {
            survivors.on_event(&event);
            apply_event(&mut log, &event);
            loader.on_event(event);
        })
        .map_err(StartFailure::Refused)?;
        let Loader {
            builder,
            named,
            failed,
            ..
        } = loader;
        if let Some(violation) = failed {
            return Err(StartFailure::Violation(violation));
        }
        let decision = recovered.decision;
        let replicas = recovered.replicas.clone();
        let buffers = config.log.new_buffers();
        let core = builder
            .build(Time(0), recovered, buffers, history)
            .map_err(|error| StartFailure::Violation(Violation::StartRefused(error)))?;
        disk.keep_snapshots(&named);
        let node = Node {
            core,
            effects: Effects::default(),
            config: config.clone(),
            clock,
            ios: BTreeMap::new(),
            next_io: 0,
            snapshot_jobs: VecDeque::new(),
            is_disk_low: false,
            is_turn_scheduled: false,
            is_slice_scheduled: false,
            wake_at: None,
            counters: NodeCounters {
                loads: named.len() as u64,
                ..NodeCounters::default()
            },
        };
        let started = Started {
            survivors,
            log,
            decision,
            quarantined: quarantined(&node, &replicas),
        };
        Ok((node, started))
    }

    /// What it has done.
    #[must_use]
    pub fn counters(&self) -> NodeCounters {
        self.counters
    }

    /// Whether every replica answers.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.core.is_serving()
    }

    /// What its core reports.
    #[must_use]
    pub fn status(&self) -> CoreStatus {
        self.core.status()
    }

    /// How its replicas stand, `None` in the middle of a turn.
    #[must_use]
    pub fn replicas(&self) -> Option<Vec<ReplicaStatus>> {
        (!self.is_turn_scheduled).then(|| self.core.replicas().collect())
    }

    fn local(&self, now: Time) -> Time {
        self.clock.local(now)
    }

    /// Something happens to its clock.
    pub fn change_clock(
        &mut self,
        now: Time,
        machine: &mut Machine<'_>,
        change: impl FnOnce(&mut Clock),
    ) {
        change(&mut self.clock);
        self.wake_at = None;
        self.schedule_wake(now, machine);
    }

    // ---- Inputs ----

    /// Hands the core an input that came from a client.
    pub fn on_input(&mut self, now: Time, input: Input<'_>, machine: &mut Machine<'_>) {
        self.step(now, input, machine);
        if !self.is_turn_scheduled {
            self.is_turn_scheduled = true;
            let delay_ns = machine.random.below(TURN_DELAY_MAX_NS);
            machine.schedule(delay_ns, NodeEvent::Turn);
        }
    }

    /// Something happened.
    ///
    /// # Errors
    /// The node stops.
    pub fn on_event(
        &mut self,
        now: Time,
        event: NodeEvent,
        machine: &mut Machine<'_>,
        observe: &mut dyn FnMut(Observed<'_>),
    ) -> Result<(), Stop> {
        match event {
            NodeEvent::Io(io, ticket) => {
                if !self.on_io(now, (io, ticket), machine, observe)? {
                    return Ok(());
                }
            }
            NodeEvent::LogRead(read) => self.on_log_read(now, read, machine),
            NodeEvent::SnapshotRead(read) => self.on_snapshot_read(now, read, machine),
            NodeEvent::Prepare(file, bytes) => {
                self.prepare(file, bytes, machine);
                return Ok(());
            }
            NodeEvent::Prepared(file) => {
                machine.disk.complete_prepare(FileName::Segment(file));
                self.counters.segments += 1;
                self.step(now, Input::SegmentPrepared { file }, machine);
            }
            NodeEvent::Removed(file) => {
                machine.disk.complete_remove(FileName::Segment(file));
                self.step(now, Input::SegmentRemoved { file }, machine);
            }
            NodeEvent::SnapshotDone => self.on_snapshot_done(now, machine),
            NodeEvent::Turn => {
                self.is_turn_scheduled = false;
                self.watch_disk(now, machine);
            }
            NodeEvent::Slice => {
                self.is_slice_scheduled = false;
                self.run_slice(now, machine);
            }
            NodeEvent::Wake => {
                // An earlier one took its place; each that is kept would bring another.
                if self.wake_at.is_none_or(|wake| now < wake) {
                    return Ok(());
                }
                self.wake_at = None;
                self.watch_disk(now, machine);
                self.step(now, Input::Tick, machine);
            }
        }
        self.run_turn(now, machine, observe)
    }

    fn step(&mut self, now: Time, input: Input<'_>, machine: &mut Machine<'_>) {
        let local = self.local(now);
        self.counters.inputs += 1;
        if let Some(trace) = &mut machine.trace {
            trace.add_input(local.0, &input);
        }
        self.core.step(local, input, &mut self.effects);
    }

    // ---- The turn ----

    /// Ends the turn and carries out what the core asks for.
    ///
    /// # Errors
    /// The core asks to be stopped.
    pub fn run_turn(
        &mut self,
        now: Time,
        machine: &mut Machine<'_>,
        observe: &mut dyn FnMut(Observed<'_>),
    ) -> Result<(), Stop> {
        let mut effects = std::mem::take(&mut self.effects);
        self.core.finish_turn(self.local(now), &mut effects);
        if let Some(trace) = &mut machine.trace {
            trace.add_bytes(&effects.arena);
        }
        for effect in effects.queue.drain(..) {
            if let Some(trace) = &mut machine.trace {
                trace.add_debug(&effect);
            }
            self.carry_out(now, effect, &effects.arena, machine, observe)?;
        }
        // A mutant may have completed a write in the middle of the turn: what that led to belongs to the next.
        effects.queue.append(&mut self.effects.queue);
        effects.arena.clear();
        assert!(
            self.effects.arena.is_empty(),
            "a completion alone answers nothing"
        );
        self.effects = effects;
        let local = self.local(now);
        self.core.on_turn_executed(local, local);
        self.schedule_wake(now, machine);
        self.schedule_slice(machine);
        Ok(())
    }

    /// Does a slice of background work; the turn that follows takes what it led to.
    fn run_slice(&mut self, now: Time, machine: &mut Machine<'_>) {
        let now = self.local(now);
        let slice = self.core.run_slice(now, &mut self.effects);
        if let Some(kind) = slice {
            self.core.on_slice_executed(kind, now, now);
        }
        if let Some(trace) = &mut machine.trace {
            trace.add_input(now.0, &slice);
        }
    }

    /// Other inputs may come before the slice, as they do where a driver lets its other tasks run.
    fn schedule_slice(&mut self, machine: &mut Machine<'_>) {
        if self.core.has_slice() && !self.is_slice_scheduled {
            self.is_slice_scheduled = true;
            let delay_ns = machine.random.below(SLICE_DELAY_MAX_NS);
            machine.schedule(delay_ns, NodeEvent::Slice);
        }
    }

    fn schedule_wake(&mut self, now: Time, machine: &mut Machine<'_>) {
        let Some(deadline) = self.core.next_deadline() else {
            return;
        };
        let wake = self.clock.when(deadline).max(now);
        if self.wake_at.is_none_or(|earlier| wake < earlier) {
            self.wake_at = Some(wake);
            machine.schedule(wake.nanos_since(now), NodeEvent::Wake);
        }
    }

    fn carry_out(
        &mut self,
        now: Time,
        effect: Effect,
        arena: &[u8],
        machine: &mut Machine<'_>,
        observe: &mut dyn FnMut(Observed<'_>),
    ) -> Result<(), Stop> {
        match effect {
            Effect::WriteLog {
                ticket,
                file,
                offset,
                buffer,
            } => {
                let file = FileName::Segment(file);
                if let Some(trace) = &mut machine.trace {
                    trace.add_bytes(buffer.as_slice());
                }
                observe(Observed::RecordSubmitted {
                    file,
                    offset,
                    bytes: buffer.as_slice(),
                });
                let io = LogIo::new(Target::Record, ticket, (file, offset), buffer);
                self.submit(now, io, machine);
            }
            Effect::WriteMark {
                ticket,
                slot,
                buffer,
            } => {
                observe(Observed::MarkSubmitted {
                    bytes: buffer.as_slice(),
                });
                let place = (FileName::Mark, slot.offset());
                let io = LogIo::new(Target::Mark, ticket, place, buffer);
                self.submit(now, io, machine);
            }
            Effect::PrepareSegment { file, bytes } => self.prepare(file, bytes, machine),
            Effect::RemoveSegment { file } => {
                machine.disk.begin_remove(FileName::Segment(file));
                let delay_ns = machine.disk.draw_latency_ns();
                machine.schedule(delay_ns, NodeEvent::Removed(file));
            }
            Effect::WriteSnapshot {
                ticket,
                snapshot,
                offset,
                bytes,
            } => {
                let offset = usize::try_from(offset).expect("a small file");
                let deed = SnapshotDeed::Write {
                    snapshot,
                    offset,
                    bytes,
                };
                self.add_snapshot_job((ticket, deed), machine);
            }
            Effect::FinishSnapshot {
                ticket, snapshot, ..
            } => self.add_snapshot_job((ticket, SnapshotDeed::Finish { snapshot }), machine),
            Effect::RemoveSnapshot { ticket, snapshot } => {
                self.add_snapshot_job((ticket, SnapshotDeed::Remove { snapshot }), machine);
            }
            Effect::Reply {
                connection,
                request,
                kind,
                reply,
            } => observe(Observed::Answer {
                connection,
                request,
                kind,
                reply: &reply,
                arena,
            }),
            Effect::Forward { core, batch } => observe(Observed::Forward { core, batch }),
            Effect::Send { to, lane, batch } => observe(Observed::Send { to, lane, batch }),
            Effect::ReadLog {
                ticket,
                file,
                offset,
                bytes,
            } => {
                let delay_ns = machine.disk.draw_latency_ns();
                let read = LogRead {
                    ticket,
                    file,
                    offset,
                    bytes,
                };
                machine.schedule(delay_ns, NodeEvent::LogRead(read));
            }
            Effect::ReadSnapshot {
                ticket,
                snapshot,
                offset,
                bytes,
            } => {
                let delay_ns = machine.disk.draw_latency_ns();
                let read = SnapshotRead {
                    ticket,
                    snapshot,
                    offset,
                    bytes,
                };
                machine.schedule(delay_ns, NodeEvent::SnapshotRead(read));
            }
            Effect::Halt(reason) => return Err(Stop::Halt(reason)),
        }
        Ok(())
    }

    fn prepare(&mut self, file: FileNumber, bytes: u64, machine: &mut Machine<'_>) {
        match machine.disk.begin_prepare(FileName::Segment(file), bytes) {
            Ok(()) => {
                // Filling a file takes a few writes.
                let delay_ns = 4 * machine.disk.draw_latency_ns();
                machine.schedule(delay_ns, NodeEvent::Prepared(file));
            }
            Err(_full) => {
                self.counters.full_disks += 1;
                machine.schedule(PREPARE_RETRY_NS, NodeEvent::Prepare(file, bytes));
            }
        }
    }
}
