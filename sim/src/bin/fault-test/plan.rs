//! What a seed decides: how large a cluster is, how it is configured, what goes wrong and about when.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use metastore_sim::random::Random;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    /// `kill -9` of a node, which starts again.
    Kill,
    /// The same, of a node that leads something.
    KillLeader,
    /// The same, of all nodes at once.
    KillAll,
    /// A node stands still, and goes on.
    Pause,
    /// A node is asked to stop, and starts again.
    Restart,
    /// Links are cut.
    Partition,
    /// Links are cut again and again, each time for a moment.
    Flapping,
    /// Bytes are accepted and go nowhere.
    Swallow,
    /// Connections end in the middle of a frame.
    Break,
    /// Connections end in one direction.
    HalfClose,
    /// Bytes take long.
    Delay,
    /// Few bytes pass.
    Throttle,
    /// Bits flip on their way.
    Corrupt,
    /// Others take the last free byte of a disk.
    FullDisk,
    /// A disk takes nothing.
    HungDisk,
    /// A disk takes something only now and then.
    SlowDisk,
}

/// Something that is to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlannedFault {
    /// When, since faults began.
    pub(crate) at: Duration,
    /// For how long.
    pub(crate) length: Duration,
    pub(crate) kind: FaultKind,
    /// Decides, together with how things stand then, whom it meets.
    pub(crate) draw: u64,
}

/// How nodes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// They are asked to.
    Asked,
    /// With `kill -9`.
    Killed,
}

/// What a round will be.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: u32,
    pub(crate) cores: u16,
    pub(crate) shards: u32,
    pub(crate) clients: usize,
    /// How long a client lets a server take.
    pub(crate) timeout: Duration,
    /// How long a client thinks at most before it asks again.
    pub(crate) think_ms_max: u64,
    /// Keys of the configuration with which nodes start.
    pub(crate) keys: Vec<(&'static str, String)>,
    /// Whether snapshots are taken so early that logs do not hold everything.
    pub(crate) has_snapshots: bool,
    /// How long things go wrong.
    pub(crate) faults_time: Duration,
    pub(crate) kinds: BTreeSet<FaultKind>,
    /// In order of time.
    pub(crate) faults: Vec<PlannedFault>,
    pub(crate) ending: Ending,
    /// Nodes that have a disk of their own.
    pub(crate) disks: Vec<u32>,
    /// Feeds everything else that is drawn.
    pub(crate) random: Random,
}

impl FaultKind {
    /// All of them.
    pub(crate) const ALL: [FaultKind; 16] = [
        FaultKind::Kill,
        FaultKind::KillLeader,
        FaultKind::KillAll,
        FaultKind::Pause,
        FaultKind::Restart,
        FaultKind::Partition,
        FaultKind::Flapping,
        FaultKind::Swallow,
        FaultKind::Break,
        FaultKind::HalfClose,
        FaultKind::Delay,
        FaultKind::Throttle,
        FaultKind::Corrupt,
        FaultKind::FullDisk,
        FaultKind::HungDisk,
        FaultKind::SlowDisk,
    ];

    /// Whether it needs a disk of the node's own.
    pub(crate) fn needs_disk(self) -> bool {
        FaultKind::OF_DISKS.contains(&self)
    }

    /// Whether it needs a guard who thaws.
    pub(crate) fn needs_guard(self) -> bool {
        self == FaultKind::HungDisk || self == FaultKind::SlowDisk
    }

    const OF_DISKS: [FaultKind; 3] = [
        FaultKind::FullDisk,
        FaultKind::HungDisk,
        FaultKind::SlowDisk,
    ];

    /// Those that end the reign of a leader, one of which every round has.
    const OF_LEADERS: [FaultKind; 5] = [
        FaultKind::Kill,
        FaultKind::KillLeader,
        FaultKind::KillAll,
        FaultKind::Pause,
        FaultKind::Partition,
    ];

    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            FaultKind::Kill => "kill",
            FaultKind::KillLeader => "kill-leader",
            FaultKind::KillAll => "kill-all",
            FaultKind::Pause => "pause",
            FaultKind::Restart => "restart",
            FaultKind::Partition => "partition",
            FaultKind::Flapping => "flapping",
            FaultKind::Swallow => "swallow",
            FaultKind::Break => "break",
            FaultKind::HalfClose => "half-close",
            FaultKind::Delay => "delay",
            FaultKind::Throttle => "throttle",
            FaultKind::Corrupt => "corrupt",
            FaultKind::FullDisk => "full-disk",
            FaultKind::HungDisk => "hung-disk",
            FaultKind::SlowDisk => "slow-disk",
        }
    }

    /// The usual time between two of them.
    fn usual_ms(self) -> u64 {
        match self {
            FaultKind::Kill | FaultKind::KillLeader => 1_200,
            FaultKind::KillAll => 2_000,
            FaultKind::Pause => 1_000,
            FaultKind::Restart => 1_500,
            FaultKind::Partition => 1_200,
            FaultKind::Flapping => 200,
            FaultKind::Swallow => 1_000,
            FaultKind::Break | FaultKind::HalfClose => 700,
            FaultKind::Delay | FaultKind::Throttle => 1_500,
            FaultKind::Corrupt => 800,
            FaultKind::FullDisk | FaultKind::HungDisk | FaultKind::SlowDisk => 1_500,
        }
    }

    fn draw_length_ms(self, random: &mut Random) -> u64 {
        let longest_ms = match self {
            FaultKind::Kill | FaultKind::KillLeader | FaultKind::KillAll => {
                random.weighted(&[(2, 20), (2, 500), (1, 2_000)])
            }
            FaultKind::Pause => random.weighted(&[(1, 20), (2, 800), (1, 3_000)]),
            FaultKind::Restart => 500,
            FaultKind::Partition => random.weighted(&[(1, 300), (2, 1_500), (1, 3_000)]),
            FaultKind::Flapping => 100,
            FaultKind::Swallow | FaultKind::HalfClose | FaultKind::Break => 800,
            FaultKind::Delay | FaultKind::Throttle => 1_500,
            FaultKind::Corrupt => 1_000,
            FaultKind::FullDisk | FaultKind::SlowDisk => 1_500,
            FaultKind::HungDisk => random.weighted(&[(1, 100), (2, 1_000), (1, 3_000)]),
        };
        random.between(1, longest_ms)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Plan {
    /// The plan of a seed, of the kinds of faults that are possible here.
    pub(crate) fn draw(seed: u64, possible: &[FaultKind]) -> Plan {
        let mut random = Random::new(seed);
        let cores = random.weighted(&[(4, 1), (1, 2)]);
        let kinds = draw_kinds(&mut random, possible);
        let faults_time = Duration::from_millis(random.between(3_000, 4_000));
        let faults = draw_faults(&mut random, &kinds, faults_time);
        let has_snapshots = random.chance(400);
        let disks = match kinds.iter().any(|kind| kind.needs_disk()) {
            true => draw_disks(&mut random),
            false => Vec::new(),
        };
        Plan {
            nodes: 3,
            cores,
            shards: u32::try_from(random.between(2, 4)).expect("small"),
            clients: random.index(5) + 5,
            timeout: Duration::from_millis(random.weighted(&[(1, 300), (2, 1_000)])),
            think_ms_max: random.weighted(&[(1, 2), (2, 10), (1, 40)]),
            keys: draw_keys(&mut random, has_snapshots),
            has_snapshots,
            faults_time,
            kinds,
            faults,
            ending: random.weighted(&[(1, Ending::Asked), (1, Ending::Killed)]),
            disks,
            random,
        }
    }

    /// Whether a kind of fault is in it.
    pub(crate) fn has(&self, kind: FaultKind) -> bool {
        self.kinds.contains(&kind)
    }
}

fn draw_kinds(random: &mut Random, possible: &[FaultKind]) -> BTreeSet<FaultKind> {
    let mut kinds = BTreeSet::new();
    // Somebody may have named one twice.
    let possible: Vec<FaultKind> = possible
        .iter()
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let of_leaders: Vec<_> = FaultKind::OF_LEADERS
        .into_iter()
        .filter(|kind| possible.contains(kind))
        .collect();
    let count = random.between(2, 4).min(possible.len() as u64);
    if !of_leaders.is_empty() {
        kinds.insert(of_leaders[random.index(of_leaders.len())]);
    }
    while (kinds.len() as u64) < count {
        kinds.insert(possible[random.index(possible.len())]);
    }
    kinds
}

/// One node, two or all of them.
fn draw_disks(random: &mut Random) -> Vec<u32> {
    let count = random.weighted(&[(2, 1), (1, 2), (1, 3)]);
    let first = random.below(3);
    let of = |number| u32::try_from((first + number) % 3 + 1).expect("small");
    (0..count).map(of).collect()
}

fn draw_faults(
    random: &mut Random,
    kinds: &BTreeSet<FaultKind>,
    time: Duration,
) -> Vec<PlannedFault> {
    let mut faults = Vec::new();
    for &kind in kinds {
        let usual_ms = kind.usual_ms();
        let mut at = Duration::from_millis(random.between(100, usual_ms));
        while at < time {
            let length_ms = kind.draw_length_ms(random);
            faults.push(PlannedFault {
                at,
                length: Duration::from_millis(length_ms),
                kind,
                draw: random.next_u64(),
            });
            at += Duration::from_millis(random.between(usual_ms / 2, usual_ms * 3 / 2));
        }
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

fn draw_keys(random: &mut Random, has_snapshots: bool) -> Vec<(&'static str, String)> {
    let adaptive = random.weighted(&[(4, "on"), (1, "off")]);
    let writes = random.weighted(&[(2, "1"), (1, "4")]);
    let mut keys = vec![
        ("raft.adaptive_timing", adaptive.to_owned()),
        ("wal.max_writes_in_flight", writes.to_owned()),
        ("wal.spare_segments", random.between(1, 2).to_string()),
        ("memory.budget", "1GiB".to_owned()),
    ];
    if has_snapshots {
        let bytes = random.weighted(&[(1, "16KiB"), (1, "128KiB")]);
        keys.push(("snapshot.log_bytes", bytes.to_owned()));
        keys.push(("snapshot.count", random.between(100, 2_000).to_string()));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan() {
        let drawn = |seed| format!("{:?}", Plan::draw(seed, &FaultKind::ALL));
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn every_plan_ends_a_reign_and_every_kind_comes_in_time() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let plan = Plan::draw(seed, &FaultKind::ALL);
            assert!(FaultKind::OF_LEADERS.into_iter().any(|kind| plan.has(kind)));
            assert!(plan.faults.iter().all(|fault| fault.at < plan.faults_time));
            seen.extend(plan.faults.iter().map(|fault| fault.kind));
        }
        assert_eq!(seen.len(), FaultKind::ALL.len());
    }
}
