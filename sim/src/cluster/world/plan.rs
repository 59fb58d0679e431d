//! What a world of a cluster is like: drawn once, from its seed.

use metastore_engine::{
    BatchSettings, IdleSettings, RaftSettings, Settings, SnapshotSettings, TickTiming,
};
use metastore_wal::LogOptions;

use super::faults::FaultKind;
use super::operator::VOTERS_MIN;
use crate::cluster::ClusterConfig;
use crate::cluster::shape::Shape;
use crate::disk::Latency;
use crate::network::NetworkFaults;
use crate::node::{FlushMethod, IDENTITY, SEAL};
use crate::oracle::Checkers;
use crate::random::Random;

const MICROSECOND_NS: u64 = 1_000;
const MILLISECOND_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;

const RECORD_BYTES_MAX: usize = 128 << 10;
const SEGMENT_BYTES: u64 = 256 << 10;
/// How long a world without faults goes on before it is to come to rest.
const CALM_NS: u64 = 4 * SECOND_NS;
/// How many kinds of faults a world has at least.
const FAULTS_MIN: u64 = 3;
/// And at most.
const FAULTS_MAX: u64 = 6;

/// Everything about a world that does not change.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// The cluster.
    pub cluster: ClusterConfig,
    /// Nodes on which nothing lives in the beginning, where members are changed.
    pub spare_nodes: u32,
    /// How long there are faults.
    pub faults_ns: u64,
    /// The shortest time between two requests of a client.
    pub think_min_ns: u64,
    /// The longest.
    pub think_max_ns: u64,
    /// What goes wrong: each kind with the mean time between two faults of it, 0 for what goes on all the time.
    pub faults: Vec<(FaultKind, u64)>,
}

impl ClusterPlan {
    pub(super) fn draw(random: &mut Random, checkers: Checkers) -> ClusterPlan {
        let shape = Shape {
            nodes: random.weighted(&[(3, 3), (1, 5)]),
            cores: random.weighted(&[(2, 1), (1, 2)]),
            shards: random.weighted(&[(2, 2), (1, 3), (1, 4)]),
        };
        let faults = draw_faults(random);
        let has = |kind| faults.iter().any(|&(other, _)| other == kind);
        let slow_max_ns = random.weighted(&[(2, 2 * MILLISECOND_NS), (1, 20 * MILLISECOND_NS)]);
        let cluster = ClusterConfig {
            shape,
            clients: random.index(5) + 4,
            timeout_ns: random.weighted(&[(1, 300), (2, 1_000)]) * MILLISECOND_NS,
            settings: settings(random),
            log: LogOptions {
                segment_bytes: SEGMENT_BYTES,
                record_bytes_max: RECORD_BYTES_MAX,
                budget_bytes: random.weighted(&[(1, 12), (2, 1024)]) * SEGMENT_BYTES,
                spare_segments: random.weighted(&[(1, 1), (2, 2)]),
                writes_in_flight_max: random.weighted(&[(2, 1), (1, 2)]),
                ..LogOptions::new(IDENTITY, SEAL)
            },
            flush: random.weighted(&[
                (1, FlushMethod::DurableWrite),
                (1, FlushMethod::WriteThenFlush),
            ]),
            latency: Latency {
                min_ns: 15 * MICROSECOND_NS,
                usual_max_ns: random.weighted(&[(4, 60), (2, 400), (1, 3_000)]) * MICROSECOND_NS,
                slow_per_mille: 10,
                slow_max_ns,
            },
            network: draw_network(random, &has),
            checkers,
        };
        let spare_nodes = match has(FaultKind::Members) {
            true => random.weighted(&[(2, 1), (1, 2)]),
            false => 0,
        };
        ClusterPlan {
            cluster,
            spare_nodes,
            faults_ns: random.between(10, 14) * SECOND_NS,
            think_min_ns: MILLISECOND_NS,
            think_max_ns: random.weighted(&[(1, 20), (5, 120)]) * MILLISECOND_NS,
            faults,
        }
    }

    /// Nothing goes wrong, and not for so long.
    pub(super) fn drop_faults(&mut self) {
        self.faults.clear();
        self.faults_ns = CALM_NS;
        let network = &mut self.cluster.network;
        *network = NetworkFaults {
            delay_min_ns: network.delay_min_ns,
            delay_max_ns: network.delay_max_ns,
            ..NetworkFaults::NONE
        };
    }

    /// The faults that come now and then.
    pub(super) fn scheduled_faults(&self) -> Vec<FaultKind> {
        let scheduled = self.faults.iter().filter(|&&(_, every_ns)| every_ns > 0);
        scheduled.map(|&(kind, _)| kind).collect()
    }

    /// Whether a kind of fault is in the plan.
    #[must_use]
    pub fn has(&self, kind: FaultKind) -> bool {
        self.faults.iter().any(|&(other, _)| other == kind)
    }

    /// Whether somebody changes members.
    pub(super) fn changes_members(&self) -> bool {
        self.has(FaultKind::Replace) || self.has(FaultKind::Members)
    }

    /// How few voters a shard may come to have.
    pub(super) fn voters_min(&self) -> usize {
        VOTERS_MIN.min(self.cluster.shape.nodes().count())
    }

    /// The mean time between two faults of a kind.
    pub(super) fn every_ns(&self, kind: FaultKind) -> Option<u64> {
        let fault = self.faults.iter().find(|&&(other, _)| other == kind);
        fault.map(|&(_, every_ns)| every_ns)
    }
}

/// A few of all kinds, each as often as it is drawn to be. With all of them at once nothing would ever be done.
fn draw_faults(random: &mut Random) -> Vec<(FaultKind, u64)> {
    let mut left = FaultKind::ALL.to_vec();
    let count = random.between(FAULTS_MIN, FAULTS_MAX);
    // Without one of these leaders hardly ever change.
    let first = FaultKind::OF_LEADERS[random.index(FaultKind::OF_LEADERS.len())];
    let drawn = (0..count).map(|number| {
        let position = match number {
            0 => left.iter().position(|&kind| kind == first),
            _ => None,
        };
        let position = position.unwrap_or_else(|| random.index(left.len()));
        let kind = left.swap_remove(position);
        let every_ms = kind.usual_ms() * random.between(700, 3_000) / 1_000;
        (kind, every_ms * MILLISECOND_NS)
    });
    drawn.collect()
}

fn draw_network(random: &mut Random, has: &dyn Fn(FaultKind) -> bool) -> NetworkFaults {
    let mut rate = |kind, choices: &[(u64, u64)]| match has(kind) {
        true => random.weighted(choices),
        false => 0,
    };
    NetworkFaults {
        loss_per_mille: rate(FaultKind::Loss, &[(2, 5), (2, 50), (1, 200)]),
        duplicate_per_mille: rate(FaultKind::Duplicate, &[(2, 20), (1, 200), (1, 500)]),
        reorder_per_mille: rate(FaultKind::Reorder, &[(1, 50), (1, 500)]),
        cut_per_mille: rate(FaultKind::Cut, &[(2, 2), (1, 20)]),
        slow_per_mille: rate(FaultKind::Slow, &[(1, 10), (1, 100)]),
        slow_max_ns: rate(FaultKind::Slow, &[(2, 50), (1, 400)]) * MILLISECOND_NS,
        delay_min_ns: 50 * MICROSECOND_NS,
        delay_max_ns: random.weighted(&[(2, 200), (1, 2_000)]) * MICROSECOND_NS,
    }
}

/// Drawn from a generator of its own, so that the worlds of old seeds in which nobody does it stay what they were.
fn draw_apply_ahead(random: &Random) -> Option<u64> {
    let mut own = random.clone().fork();
    own.weighted(&[(2, None), (1, Some(3)), (2, Some(16_384))])
}

fn settings(random: &mut Random) -> Settings {
    Settings {
        batch: BatchSettings {
            commands_max: random.weighted(&[(1, 4), (2, 1024)]),
            bytes_max: random.weighted(&[(1, 4 << 10), (2, 48 << 10)]),
            compress_bytes_min: random.weighted(&[(1, None), (2, Some(256))]),
        },
        raft: RaftSettings {
            tick_interval_ms: random.weighted(&[(1, 10), (2, 50)]),
            message_bytes_max: 64 << 10,
            tail_bytes_max: random.weighted(&[(1, 4 << 10), (1, 64 << 10), (1, 1 << 20)]),
            inflight_messages_max: random.weighted(&[(1, 4), (2, 256)]),
            apply_ahead_entries_max: draw_apply_ahead(random),
            timing: random.weighted(&[(2, TickTiming::Fixed), (1, TickTiming::default())]),
            idle: IdleSettings {
                sleep_ticks: random.weighted(&[(1, None), (2, Some(3)), (1, Some(20))]),
                lead_ticks: random.weighted(&[(1, None), (1, Some(1)), (1, Some(4))]),
            },
            ..RaftSettings::default()
        },
        snapshots: SnapshotSettings {
            log_bytes_min: random.weighted(&[(1, 64 << 10), (1, 1 << 30)]),
            log_bytes_per_snapshot_byte: random.weighted(&[(1, 0), (1, 1)]),
            entries: random.weighted(&[(1, None), (1, Some(50)), (1, Some(300))]),
            write_bytes: random.weighted(&[(1, 4 << 10), (1, 64 << 10)]),
            retry_ms: 1,
            retry_ms_max: 20,
            ..SnapshotSettings::default()
        },
        state_check_ms: random.weighted(&[(1, None), (2, Some(100)), (1, Some(1_000))]),
        scrub_bytes_per_second: random.weighted(&[
            (1, None),
            (2, Some(1 << 20)),
            (1, Some(8 << 20)),
        ]),
        command_bytes_max: 40 << 10,
        ..Settings::default()
    }
}
