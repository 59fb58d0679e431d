//! One node: a core and what carries out its effects. It does what a server's driver does, on a simulated disk.

mod background_reads;
mod config;
mod counters;
mod disk_space;
mod effects;
mod event;
mod log_io;
mod snapshots;
mod starting;
mod turn;
mod writes;

use std::collections::{BTreeMap, VecDeque};

use metastore_engine::{
    Core, CoreStatus, Effects, Input, MemberStatus, MembersInput, ReplicaStatus, ShardId, Time,
};

pub use self::background_reads::{LogRead, SnapshotRead};
pub use self::config::{FlushMethod, IDENTITY, NodeConfig, Placement, SEAL};
pub use self::counters::NodeCounters;
pub use self::event::{Machine, NodeEvent, Observed, Stop};
use self::log_io::{IoId, LogIo};
use self::snapshots::SnapshotJob;
pub use self::starting::{StartFailure, Started};
use crate::clock::Clock;
use crate::disk::FileName;

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

/// How long at most a turn gathers input.
const TURN_DELAY_MAX_NS: u64 = 30_000;

impl Node {
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

    /// How the members of a shard stand, as its replica here knows them; empty where there is none, or in the middle of a
    /// turn.
    #[must_use]
    pub fn members(&self, now: Time, shard: ShardId) -> Vec<MemberStatus> {
        match self.is_turn_scheduled {
            true => Vec::new(),
            false => self.core.members(self.local(now), shard),
        }
    }

    /// How each of its replicas stands and sees the others, even in the middle of a turn.
    #[must_use]
    pub fn standing(&self, now: Time) -> Vec<(ReplicaStatus, Vec<MemberStatus>)> {
        let of_shard = |shard| self.core.members(self.local(now), shard);
        let replicas = self.core.replicas();
        replicas
            .map(|status| (status, of_shard(status.shard)))
            .collect()
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
            NodeEvent::Unlisted(replica) => {
                let input = Input::Members(MembersInput::Unlisted { replica });
                self.step(now, input, machine);
            }
            NodeEvent::Slice => {
                self.is_slice_scheduled = false;
                self.run_slices(now, machine);
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
}
