//! What a world of a cluster went through.

use std::collections::BTreeMap;
use std::fmt;

use super::{FaultKind, MembersTally};
use crate::cluster::ClusterTally;
use crate::disk::Decay;
use crate::network::{NetworkCounters, PartitionShape};
use crate::node::NodeCounters;

/// What a world, or several, went through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterReport {
    /// Time that passed in it.
    pub simulated_ns: u64,
    /// How requests ended.
    pub tally: ClusterTally,
    /// What nodes did.
    pub counters: NodeCounters,
    /// What became of messages.
    pub network: NetworkCounters,
    /// How often each kind of fault happened.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Worlds, 1 for a single one.
    pub worlds: u64,
    /// In how many worlds each kind of fault happened.
    pub worlds_with: BTreeMap<FaultKind, u64>,
    /// Partitions by their shape.
    pub partitions: BTreeMap<PartitionShape, u64>,
    /// Damages to durable data by their kind.
    pub decays: BTreeMap<Decay, u64>,
    /// How often a start found a replica that takes no part.
    pub quarantines: u64,
    /// Losses of power and killed processes.
    pub crashes: u64,
    /// Those that were losses of power.
    pub power_losses: u64,
    /// Starts of nodes.
    pub starts: u64,
    /// Those that a disk did not let happen.
    pub failed_starts: u64,
    /// What the operator did.
    pub members: MembersTally,
    /// Terms of any shard in which somebody led.
    pub reigns: u64,
    /// States of replicas that were compared.
    pub states_compared: u64,
    /// How often a replica was looked at.
    pub looks: u64,
    /// And was asleep.
    pub looks_asleep: u64,
    /// Histories of a shard for which the search for an order was given up.
    pub undecided: u64,
    /// How long after the last fault every client was answered, at the longest.
    pub answered_after_ns: u64,
    /// How long after the last fault all replicas had applied the same, at the longest.
    pub converged_after_ns: u64,
}

impl ClusterReport {
    /// Counts what the network did among the faults.
    pub(super) fn add_network_faults(&mut self) {
        let network = &self.network;
        let counted = [
            (FaultKind::Loss, network.lost),
            (FaultKind::Duplicate, network.duplicated),
            (FaultKind::Reorder, network.reordered),
            (FaultKind::Slow, network.slow),
            (FaultKind::Cut, network.cut),
            (FaultKind::ShortWrite, self.counters.short_writes),
        ];
        let happened = counted.into_iter().filter(|&(_, count)| count > 0);
        self.faults.extend(happened);
        self.worlds = 1;
        self.worlds_with = self.faults.keys().map(|&kind| (kind, 1)).collect();
    }

    /// How many operations came to an end.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.tally.succeeded + self.tally.failed + self.tally.unknown
    }

    /// Adds what another world went through.
    pub fn add(&mut self, other: &ClusterReport) {
        self.simulated_ns += other.simulated_ns;
        self.tally.add(&other.tally);
        self.counters.add(&other.counters);
        let (network, more) = (&mut self.network, &other.network);
        network.sent += more.sent;
        network.lost += more.lost;
        network.blocked += more.blocked;
        network.duplicated += more.duplicated;
        network.reordered += more.reordered;
        network.slow += more.slow;
        network.cut += more.cut;
        for (&kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.worlds += other.worlds;
        for (&kind, count) in &other.worlds_with {
            *self.worlds_with.entry(kind).or_default() += count;
        }
        for (&shape, count) in &other.partitions {
            *self.partitions.entry(shape).or_default() += count;
        }
        for (&decay, count) in &other.decays {
            *self.decays.entry(decay).or_default() += count;
        }
        self.quarantines += other.quarantines;
        self.crashes += other.crashes;
        self.power_losses += other.power_losses;
        self.starts += other.starts;
        self.failed_starts += other.failed_starts;
        self.members.add(&other.members);
        self.reigns += other.reigns;
        self.states_compared += other.states_compared;
        self.looks += other.looks;
        self.looks_asleep += other.looks_asleep;
        self.undecided += other.undecided;
        self.answered_after_ns = self.answered_after_ns.max(other.answered_after_ns);
        self.converged_after_ns = self.converged_after_ns.max(other.converged_after_ns);
    }
}

impl fmt::Display for ClusterReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        let share = |count: u64, of: u64| 100.0 * count as f64 / of.max(1) as f64;
        let ended = self.ended();
        writeln!(
            formatter,
            "{:.1} simulated seconds; of {ended} operations {} succeeded ({:.1} %), {} failed ({:.1} %), {} unknown ({:.1} %); {} tries again",
            self.simulated_ns as f64 / 1e9,
            tally.succeeded,
            share(tally.succeeded, ended),
            tally.failed,
            share(tally.failed, ended),
            tally.unknown,
            share(tally.unknown, ended),
            tally.retries
        )?;
        writeln!(
            formatter,
            "of those that succeeded {} were transactions, commits and the like that were done, {} such that were refused; {} batches, {} ranges and counts; {} reads in the past, {} by a follower",
            tally.compounds,
            tally.compounds_refused,
            tally.batches,
            tally.ranges,
            tally.past_reads,
            tally.follower_reads
        )?;
        let list = |items: &mut dyn Iterator<Item = (String, u64)>| {
            let items: Vec<String> = items
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            items.join(", ")
        };
        let faults = &mut self
            .faults
            .iter()
            .map(|(kind, &count)| (kind.to_string(), count));
        writeln!(formatter, "faults: {}", list(faults))?;
        let worlds = self.worlds_with.iter();
        let worlds =
            worlds.map(|(kind, &count)| format!("{kind} {:.0} %", share(count, self.worlds)));
        let worlds: Vec<String> = worlds.collect();
        writeln!(formatter, "seeds with faults: {}", worlds.join(", "))?;
        let shapes = &mut self
            .partitions
            .iter()
            .map(|(shape, &count)| (shape.to_string(), count));
        writeln!(
            formatter,
            "partitions: {}; {} of {} messages were lost to them",
            list(shapes),
            self.network.blocked,
            self.network.sent
        )?;
        writeln!(
            formatter,
            "{} crashes, {} of them losses of power; {} starts, {} prevented by a disk; {} reads of logs, {} of snapshots; {} snapshots named, {} loaded",
            self.crashes,
            self.power_losses,
            self.starts,
            self.failed_starts,
            self.counters.log_reads,
            self.counters.snapshot_reads,
            self.counters.snapshots,
            self.counters.loads
        )?;
        writeln!(formatter, "{}", self.members)?;
        if !self.decays.is_empty() {
            let decays = self.decays.iter();
            let decays = &mut decays.map(|(decay, &count)| (format!("{decay:?}"), count));
            writeln!(
                formatter,
                "decay: {}; {} times a replica took no part after a start",
                list(decays),
                self.quarantines
            )?;
        }
        write!(
            formatter,
            "{} terms with a leader; {} states compared; {} histories undecided; {} of {} looks at replicas found them asleep; all answered {} ms after the last fault, all equal after {} ms, at the latest",
            self.reigns,
            self.states_compared,
            self.undecided,
            self.looks_asleep,
            self.looks,
            self.answered_after_ns / 1_000_000,
            self.converged_after_ns / 1_000_000
        )
    }
}
