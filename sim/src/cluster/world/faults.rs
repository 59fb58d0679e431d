//! What goes wrong, when it begins and when it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use metastore_bugs::{Mutant, is_planted};
use metastore_engine::{NodeId, Role, ShardId, Time};

use super::{ClusterWorld, WorldEvent};
use crate::clock::ClockRate;
use crate::disk::{CrashKind, Decay, DiskFaults, Latency};
use crate::network::{NetworkFaults, Partition, PartitionShape, Site};
use crate::violation::Violation;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A machine loses its power, or its process is killed.
    Crash,
    /// All of them at once.
    CrashAll,
    /// A node stands still while time passes.
    Pause,
    /// Links are cut.
    Partition,
    /// Partitions come and go quickly.
    Flapping,
    /// A shard is to be led by another replica.
    HandOver,
    /// Clocks run too fast or too slow.
    Drift,
    /// Clocks jump forward.
    Jump,
    /// Disks take very long.
    Stall,
    /// Disks do not come back for seconds.
    Hang,
    /// Writes and flushes fail.
    DiskError,
    /// Others fill a disk.
    FullDisk,
    /// Writes are cut short.
    ShortWrite,
    /// Messages are lost.
    Loss,
    /// Messages arrive twice.
    Duplicate,
    /// Messages overtake each other.
    Reorder,
    /// Messages take long.
    Slow,
    /// Connections of clients break.
    Cut,
    /// Durable data are damaged: bits flip, records were never written or lie at a wrong place, blocks cannot be read.
    Decay,
    /// No fault by itself: nobody asks for anything, so that groups fall asleep before the next one.
    Lull,
    /// A node is lost for good with its disks, and a new one takes its place.
    Replace,
    /// Replicas of a shard come, move and go.
    Members,
}

/// What is wrong with the disks of a node for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskTrouble {
    /// They take very long.
    Stall,
    /// They do not come back for seconds.
    Hang,
    /// Writes and flushes fail.
    Errors,
    /// Others have filled them.
    Full,
}

/// What is wrong at present.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Names the newest partition.
    partition: u64,
    /// Nodes that have been damaged and are not known to be whole again.
    damaged: BTreeSet<NodeId>,
    /// Those of them that have not been started since.
    unnoticed: BTreeSet<NodeId>,
    /// Until when nobody asks for anything.
    pub(super) lull_until: Time,
    /// How often each kind happened.
    pub(super) counts: BTreeMap<FaultKind, u64>,
}

const MILLISECOND_NS: u64 = 1_000_000;
/// How long a disk hangs at the longest.
pub(super) const HANG_MS_MAX: u64 = 6_000;

impl FaultKind {
    /// All of them.
    pub const ALL: [FaultKind; 22] = [
        FaultKind::Crash,
        FaultKind::CrashAll,
        FaultKind::Pause,
        FaultKind::Partition,
        FaultKind::Flapping,
        FaultKind::HandOver,
        FaultKind::Drift,
        FaultKind::Jump,
        FaultKind::Stall,
        FaultKind::DiskError,
        FaultKind::FullDisk,
        FaultKind::ShortWrite,
        FaultKind::Loss,
        FaultKind::Duplicate,
        FaultKind::Reorder,
        FaultKind::Slow,
        FaultKind::Cut,
        FaultKind::Decay,
        FaultKind::Hang,
        FaultKind::Lull,
        FaultKind::Replace,
        FaultKind::Members,
    ];

    /// Those that end the reign of a leader.
    pub const OF_LEADERS: [FaultKind; 4] = [
        FaultKind::Crash,
        FaultKind::CrashAll,
        FaultKind::Pause,
        FaultKind::Partition,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Crash => "crash",
            FaultKind::CrashAll => "crash-all",
            FaultKind::Pause => "pause",
            FaultKind::Partition => "partition",
            FaultKind::Flapping => "flapping",
            FaultKind::HandOver => "hand-over",
            FaultKind::Drift => "drift",
            FaultKind::Jump => "jump",
            FaultKind::Stall => "stall",
            FaultKind::DiskError => "disk-error",
            FaultKind::FullDisk => "full-disk",
            FaultKind::ShortWrite => "short-write",
            FaultKind::Loss => "loss",
            FaultKind::Duplicate => "duplicate",
            FaultKind::Reorder => "reorder",
            FaultKind::Slow => "slow",
            FaultKind::Cut => "cut",
            FaultKind::Decay => "decay",
            FaultKind::Hang => "hang",
            FaultKind::Lull => "lull",
            FaultKind::Replace => "replace",
            FaultKind::Members => "members",
        }
    }

    /// The usual time between two faults of this kind, 0 for what goes on all the time.
    pub(super) fn usual_ms(self) -> u64 {
        match self {
            FaultKind::Crash => 1_200,
            FaultKind::CrashAll => 5_000,
            FaultKind::Pause => 1_500,
            FaultKind::Partition => 2_500,
            FaultKind::Flapping => 150,
            FaultKind::HandOver => 800,
            FaultKind::Drift => 4_000,
            FaultKind::Jump => 2_000,
            FaultKind::Stall => 3_000,
            FaultKind::DiskError => 5_000,
            FaultKind::Decay => 1_500,
            FaultKind::Hang => 4_000,
            FaultKind::FullDisk => 5_000,
            FaultKind::Lull => 1_500,
            FaultKind::Replace => 3_000,
            FaultKind::Members => 700,
            FaultKind::ShortWrite
            | FaultKind::Loss
            | FaultKind::Duplicate
            | FaultKind::Reorder
            | FaultKind::Slow
            | FaultKind::Cut => 0,
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl ClusterWorld {
    pub(super) fn schedule_fault(&mut self, kind: FaultKind) {
        let every_ns = self.plan.every_ns(kind).expect("it is planned");
        let delay_ns = self.random.between(every_ns / 2, every_ns * 3 / 2);
        let time = Time(self.cluster.now().0 + delay_ns);
        self.cluster.at(time, WorldEvent::Fault(kind));
    }

    /// What is wrong with a node from the beginning.
    pub(super) fn set_up(&mut self, node: NodeId) -> Result<(), Violation> {
        let faults = self.usual_faults();
        for disk in self.cluster.disks(node) {
            disk.faults = faults;
        }
        match self.plan.has(FaultKind::Drift) {
            true => self.draw_drift(node),
            false => Ok(()),
        }
    }

    pub(super) fn on_fault(&mut self, kind: FaultKind) -> Result<(), Violation> {
        if !self.is_faulty {
            return Ok(());
        }
        self.schedule_fault(kind);
        let node = self.draw_node();
        // Members change where that can be borne at present.
        let is_out_of_place = kind == FaultKind::Replace && !self.lose_node(node)?
            || kind == FaultKind::Members && !self.plan_change();
        if is_out_of_place {
            return Ok(());
        }
        *self.faults.counts.entry(kind).or_default() += 1;
        self.cluster
            .note("fault", format_args!("{kind} of node {node}"));
        match kind {
            FaultKind::Crash => self.crash(node),
            FaultKind::CrashAll => {
                for node in self.cluster.nodes() {
                    self.crash(node);
                }
            }
            FaultKind::Pause => {
                let length_ms = self.random.weighted(&[(2, 20), (2, 500), (1, 3_000)]);
                let until = self.after_ms(length_ms);
                self.cluster.pause(node, until);
            }
            FaultKind::Partition => {
                let length_ms = self.random.weighted(&[(1, 300), (2, 2_000), (1, 6_000)]);
                self.split(length_ms);
            }
            FaultKind::Flapping => self.split(100),
            FaultKind::HandOver => self.hand_over(node)?,
            FaultKind::Drift => self.draw_drift(node)?,
            FaultKind::Jump => {
                let forward_ns = self.random.weighted(&[(2, 100), (1, 2_000), (1, 20_000)]);
                let forward_ns = self.random.below(forward_ns * MILLISECOND_NS);
                self.cluster
                    .change_clock(node, |clock, now| clock.jump(now, forward_ns))?;
            }
            FaultKind::Lull => self.faults.lull_until = self.after_ms(2_000),
            FaultKind::Stall => self.begin_trouble(DiskTrouble::Stall, node),
            FaultKind::DiskError => self.begin_trouble(DiskTrouble::Errors, node),
            FaultKind::FullDisk => self.begin_trouble(DiskTrouble::Full, node),
            FaultKind::Decay => self.decay(node),
            FaultKind::Hang => self.begin_trouble(DiskTrouble::Hang, node),
            FaultKind::Replace | FaultKind::Members => {}
            FaultKind::ShortWrite
            | FaultKind::Loss
            | FaultKind::Duplicate
            | FaultKind::Reorder
            | FaultKind::Slow
            | FaultKind::Cut => unreachable!("these go on all the time"),
        }
        Ok(())
    }

    /// Half of the time one that leads something: what happens to others changes little.
    fn draw_node(&mut self) -> NodeId {
        let nodes = self.cluster.nodes();
        let leaders: Vec<NodeId> = match self.random.chance(500) {
            true => self.leaders(),
            false => Vec::new(),
        };
        match leaders.is_empty() {
            true => nodes[self.random.index(nodes.len())],
            false => leaders[self.random.index(leaders.len())],
        }
    }

    /// The nodes of replicas that take themselves for leaders.
    fn leaders(&self) -> Vec<NodeId> {
        let leading = self.cluster.residents().into_iter();
        let leading = leading.filter(|(_, status)| status.role == Role::Leader);
        leading.map(|(node, _)| node).collect()
    }

    /// Up to so many milliseconds from now.
    fn after_ms(&mut self, length_ms: u64) -> Time {
        let length_ns = self.random.between(1, length_ms * MILLISECOND_NS);
        Time(self.cluster.now().0 + length_ns)
    }

    // ---- Machines ----

    /// A node that runs stops, and starts again some time.
    pub(super) fn crash(&mut self, node: NodeId) {
        if !self.is_faulty || !self.cluster.is_running(node) {
            return;
        }
        let kind = self
            .random
            .weighted(&[(2, CrashKind::PowerLoss), (1, CrashKind::ProcessKilled)]);
        self.report.crashes += 1;
        self.report.power_losses += u64::from(kind == CrashKind::PowerLoss);
        self.cluster.crash(node, kind);
        if is_planted(Mutant::WipedDiskComesBack) && self.random.chance(500) {
            self.cluster.replace_disks(node);
        }
        self.restart_later(node);
    }

    pub(super) fn restart_later(&mut self, node: NodeId) {
        let longest_ms = match self.is_faulty {
            true => self.random.weighted(&[(2, 20), (3, 1_000), (1, 4_000)]),
            false => 100,
        };
        let time = self.after_ms(longest_ms);
        self.cluster.at(time, WorldEvent::Restart(node));
    }

    pub(super) fn restart(&mut self, node: NodeId) -> Result<(), Violation> {
        if self.cluster.is_running(node) || !self.cluster.nodes().contains(&node) {
            return Ok(());
        }
        if !self.cluster.start(node)? {
            self.report.failed_starts += 1;
            self.restart_later(node);
            return Ok(());
        }
        self.report.starts += 1;
        self.faults.unnoticed.remove(&node);
        if self.plan.has(FaultKind::Crash) && self.random.chance(150) {
            let time = self.after_ms(3);
            self.cluster.at(time, WorldEvent::CrashStarting(node));
        }
        Ok(())
    }

    /// Somebody moves the lead of a shard, to any replica or to whoever is best.
    fn hand_over(&mut self, from: NodeId) -> Result<(), Violation> {
        let shape = self.plan.cluster.shape;
        let shards: Vec<ShardId> = shape.shards().collect();
        let shard = shards[self.random.index(shards.len())];
        let successor = self.draw_node();
        let residents = self.cluster.residents();
        let mut there = residents.iter().filter(|(node, _)| *node == successor);
        let to = there.find(|(_, status)| status.shard == shard);
        let to = to.map(|(_, status)| status.replica);
        let to = to.filter(|_| self.random.chance(700));
        self.cluster.hand_over(from, shard, to)
    }

    fn draw_drift(&mut self, node: NodeId) -> Result<(), Violation> {
        let most = self.random.weighted(&[(2, 1_000), (1, 100_000)]);
        let rate = self.random.between(1_000_000 - most, 1_000_000 + most);
        self.cluster.set_clock_rate(node, ClockRate(rate))
    }

    // ---- The network ----

    fn split(&mut self, length_ms: u64) {
        let nodes = self.cluster.nodes().into_iter().map(Site::Node);
        // Sometimes clients are on a side, sometimes they reach everybody.
        let clients = match self.random.chance(500) {
            true => self.plan.cluster.clients,
            false => 0,
        };
        let sites: Vec<Site> = nodes.chain((0..clients).map(Site::Client)).collect();
        if sites.len() < 2 {
            return;
        }
        let kind = PartitionShape::ALL[self.random.index(PartitionShape::ALL.len())];
        let partition = Partition::draw(&mut self.random, kind, &sites);
        *self.report.partitions.entry(kind).or_default() += 1;
        self.cluster.split(partition);
        self.faults.partition += 1;
        let time = self.after_ms(length_ms);
        let heal = WorldEvent::Heal(self.faults.partition);
        self.cluster.at(time, heal);
    }

    pub(super) fn heal(&mut self, number: u64) {
        if number == self.faults.partition {
            self.cluster.heal();
        }
    }

    // ---- Disks ----

    fn begin_trouble(&mut self, trouble: DiskTrouble, node: NodeId) {
        let usual = self.plan.cluster.latency;
        let drawn = self.random.next_u64();
        for disk in self.cluster.disks(node) {
            match trouble {
                DiskTrouble::Stall => {
                    let times = 10 + drawn % 300;
                    disk.latency = Latency {
                        min_ns: usual.min_ns * times,
                        usual_max_ns: usual.usual_max_ns * times,
                        ..usual
                    };
                    disk.latency.slow_max_ns = usual.slow_max_ns.max(disk.latency.usual_max_ns);
                }
                DiskTrouble::Hang => {
                    let hang_ms = 1_000 + drawn % (HANG_MS_MAX - 1_000);
                    disk.hang_ns = hang_ms * MILLISECOND_NS;
                }
                DiskTrouble::Errors => disk.faults.io_error_per_mille = 1 + drawn % 20,
                DiskTrouble::Full => {
                    let used_bytes = disk.used_bytes();
                    disk.set_capacity(used_bytes + drawn % (512 << 10));
                }
            }
        }
        let time = self.after_ms(2_000);
        self.cluster.at(time, WorldEvent::EndTrouble(trouble, node));
    }

    pub(super) fn end_trouble(&mut self, trouble: DiskTrouble, node: NodeId) {
        let (usual, faults) = (self.plan.cluster.latency, self.usual_faults());
        for disk in self.cluster.disks(node) {
            match trouble {
                DiskTrouble::Stall => disk.latency = usual,
                DiskTrouble::Hang => disk.hang_ns = 0,
                DiskTrouble::Errors => disk.faults = faults,
                DiskTrouble::Full => disk.set_capacity(u64::MAX),
            }
        }
    }

    /// Something durable of a node is damaged, as long as every shard has a majority on nodes that are whole, and none of
    /// its members is about to change. Half of the time the node starts anew, and finds it; else it may never know, or
    /// when it reads for others.
    fn decay(&mut self, node: NodeId) {
        self.look_for_whole_nodes();
        let mut damaged = self.faults.damaged.clone();
        damaged.insert(node);
        let is_bearable = damaged.len() <= self.damages_max() && self.is_operator_done();
        if !is_bearable || self.faults.unnoticed.contains(&node) {
            return;
        }
        let decay = Decay::ALL[self.random.index(Decay::ALL.len())];
        if decay == Decay::Snapshots || self.random.chance(500) {
            self.crash(node);
        }
        if self.cluster.decay(node, decay) {
            *self.report.decays.entry(decay).or_default() += 1;
            self.faults.damaged.insert(node);
            self.faults.unnoticed.insert(node);
        }
    }

    /// How many nodes may be damaged at a time: less than half of the voters of any shard.
    fn damages_max(&self) -> usize {
        let voters = match self.plan.changes_members() {
            true => self.plan.voters_min(),
            false => self.plan.cluster.shape.nodes().count(),
        };
        (voters - 1) / 2
    }

    /// Whether every node is known to be whole.
    pub(super) fn are_all_whole(&mut self) -> bool {
        self.look_for_whole_nodes();
        self.faults.damaged.is_empty()
    }

    /// Nodes that have started since they were damaged, and all of whose replicas take part, are whole.
    fn look_for_whole_nodes(&mut self) {
        let is_whole = |node: NodeId| {
            let replicas = self.cluster.replicas_of(node);
            replicas.is_some_and(|replicas| {
                let mut replicas = replicas.iter();
                replicas.all(|status| status.quarantine.is_none())
            })
        };
        let unnoticed = &self.faults.unnoticed;
        self.faults
            .damaged
            .retain(|&node| unnoticed.contains(&node) || !is_whole(node));
    }

    /// What is wrong with disks all the time.
    fn usual_faults(&self) -> DiskFaults {
        let has_short_writes = self.is_faulty && self.plan.has(FaultKind::ShortWrite);
        DiskFaults {
            short_write_per_mille: if has_short_writes { 30 } else { 0 },
            lies_about_flushes: is_planted(Mutant::SkippedFlush),
            ..DiskFaults::default()
        }
    }

    // ---- The end ----

    /// Nothing goes wrong any more, and what is down comes up.
    pub(super) fn stop_faults(&mut self) -> Result<(), Violation> {
        self.is_faulty = false;
        self.cluster.heal();
        self.cluster.network.faults = NetworkFaults::NONE;
        let (usual, now) = (self.plan.cluster.latency, self.cluster.now());
        let faults = self.usual_faults();
        for node in self.cluster.nodes() {
            for disk in self.cluster.disks(node) {
                disk.faults = faults;
                (disk.latency, disk.hang_ns) = (usual, 0);
                disk.set_capacity(u64::MAX);
            }
            self.cluster.pause(node, now);
            self.cluster.set_clock_rate(node, ClockRate::TRUE)?;
            if !self.cluster.is_running(node) {
                self.restart_later(node);
            }
        }
        Ok(())
    }
}
