//! What a world is like: drawn once, from its seed.

use metastore_bugs::{Mutant, is_planted};
use metastore_engine::{BatchSettings, RaftSettings, Settings, SnapshotSettings};
use metastore_wal::LogOptions;

use crate::disk::{DiskFaults, Latency};
use crate::node::{FlushMethod, IDENTITY, NodeConfig, Placement, SEAL};
use crate::random::Random;
use crate::workload::ValueSizes;

/// Everything about a world that does not change.
#[derive(Debug)]
pub(super) struct WorldPlan {
    pub(super) node: NodeConfig,
    pub(super) lives: u64,
    pub(super) clients: usize,
    pub(super) requests_per_client_max: usize,
    pub(super) think_min_ns: u64,
    pub(super) think_max_ns: u64,
    pub(super) values: ValueSizes,
    pub(super) short_deadline_per_mille: u64,
    pub(super) damages_per_mille: u64,
    pub(super) reconnects_per_mille: u64,
    pub(super) audits_per_mille: u64,
    pub(super) latency: Latency,
    pub(super) faults: DiskFaults,
    /// What the disk holds, and how many lives in a thousand see it filled by others.
    pub(super) capacity_bytes: u64,
    pub(super) full_disks_per_mille: u64,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LifeKind {
    /// While it starts.
    Starting,
    /// Under load.
    Busy,
    /// After a while without requests, when the mark says everything.
    Idle,
}

const MICROSECOND_NS: u64 = 1_000;
const MILLISECOND_NS: u64 = 1_000_000;

/// A quarter of a segment: small, so that the log goes through many of them.
const RECORD_BYTES_MAX: usize = 128 << 10;
const SEGMENT_BYTES: u64 = 256 << 10;

impl WorldPlan {
    pub(super) fn draw(random: &mut Random) -> WorldPlan {
        let flush = random.weighted(&[
            (1, FlushMethod::DurableWrite),
            (1, FlushMethod::WriteThenFlush),
        ]);
        let log = LogOptions {
            segment_bytes: SEGMENT_BYTES,
            record_bytes_max: RECORD_BYTES_MAX,
            budget_bytes: random.weighted(&[(1, 6), (2, 1024)]) * SEGMENT_BYTES,
            spare_segments: random.weighted(&[(1, 1), (2, 2)]),
            writes_in_flight_max: random.weighted(&[(2, 1), (1, 2), (1, 4)]),
            ..LogOptions::new(IDENTITY, SEAL)
        };
        let slow_max_ns = random.weighted(&[(3, MILLISECOND_NS), (1, 20 * MILLISECOND_NS)]);
        let usual_max_ns = random.weighted(&[(2, 60 * MICROSECOND_NS), (1, 400 * MICROSECOND_NS)]);
        let latency = Latency {
            min_ns: 15 * MICROSECOND_NS,
            usual_max_ns,
            slow_per_mille: 20,
            slow_max_ns,
        };
        let faults = DiskFaults {
            io_error_per_mille: random.weighted(&[(3, 0), (1, 5)]),
            short_write_per_mille: random.weighted(&[(2, 0), (1, 50)]),
            full_write_per_mille: random.weighted(&[(3, 0), (1, 5)]),
            lies_about_flushes: is_planted(Mutant::SkippedFlush),
            snapshot_error_per_mille: random.weighted(&[(3, 0), (1, 100)]),
            names_unflushed_snapshots: is_planted(Mutant::SnapshotNamedBeforeFlush),
        };
        let is_small = random.chance(333);
        let capacity_bytes = match is_small {
            true => random.between(24, 48) * SEGMENT_BYTES,
            false => u64::MAX,
        };
        let node = NodeConfig {
            disk_low_bytes: if is_small { 6 * SEGMENT_BYTES } else { 0 },
            placement: Placement::alone(random.weighted(&[(1, 1), (3, 4)])),
            log,
            settings: settings(random),
            flush,
            seed: random.next_u64(),
        };
        WorldPlan {
            node,
            lives: random.between(6, 16),
            clients: random.index(5) + 1,
            requests_per_client_max: random.index(8) + 1,
            think_min_ns: 5 * MICROSECOND_NS,
            think_max_ns: random.weighted(&[(1, 100), (2, 600)]) * MICROSECOND_NS,
            values: ValueSizes {
                long_per_mille: random.weighted(&[(1, 20), (1, 300)]),
                long_bytes_max: random.weighted(&[(2, 3_000), (1, 30_000)]),
            },
            short_deadline_per_mille: random.weighted(&[(2, 0), (1, 200)]),
            damages_per_mille: 100,
            reconnects_per_mille: 5,
            audits_per_mille: 300,
            latency,
            faults,
            capacity_bytes,
            full_disks_per_mille: if is_small { 500 } else { 0 },
        }
    }

    /// Nothing goes wrong. A device that lies goes on lying, because it is none that fails.
    pub(super) fn drop_faults(&mut self) {
        self.faults = DiskFaults {
            lies_about_flushes: self.faults.lies_about_flushes,
            names_unflushed_snapshots: self.faults.names_unflushed_snapshots,
            ..DiskFaults::default()
        };
        self.capacity_bytes = u64::MAX;
        self.full_disks_per_mille = 0;
        self.damages_per_mille = 0;
        self.reconnects_per_mille = 0;
    }

    pub(super) fn draw_deadline_ms(&self, random: &mut Random) -> u32 {
        if random.chance(self.short_deadline_per_mille) {
            1
        } else {
            0
        }
    }
}

fn settings(random: &mut Random) -> Settings {
    Settings {
        batch: BatchSettings {
            commands_max: random.weighted(&[(1, 4), (2, 1024)]),
            bytes_max: random.weighted(&[(1, 4 << 10), (2, 48 << 10)]),
            compress_bytes_min: random.weighted(&[(1, None), (2, Some(256))]),
        },
        raft: RaftSettings {
            tick_interval_ms: random.weighted(&[(1, 1), (2, 5), (1, 50)]),
            ..RaftSettings::default()
        },
        snapshots: SnapshotSettings {
            log_bytes_min: random.weighted(&[(1, 8 << 10), (1, 64 << 10), (1, 1 << 30)]),
            log_bytes_per_snapshot_byte: random.weighted(&[(1, 0), (1, 1)]),
            entries: random.weighted(&[(1, None), (1, Some(20)), (1, Some(200))]),
            write_bytes: random.weighted(&[(1, 4 << 10), (1, 64 << 10)]),
            retry_ms: 1,
            retry_ms_max: 20,
            ..SnapshotSettings::default()
        },
        command_bytes_max: 40 << 10,
        ..Settings::default()
    }
}

impl LifeKind {
    pub(super) fn draw(random: &mut Random) -> LifeKind {
        random.weighted(&[
            (5, LifeKind::Starting),
            (12, LifeKind::Busy),
            (3, LifeKind::Idle),
        ])
    }

    /// How long clients are busy.
    pub(super) fn draw_busy_ns(self, random: &mut Random) -> u64 {
        match self {
            LifeKind::Starting => random.below(3 * MILLISECOND_NS),
            LifeKind::Busy | LifeKind::Idle => {
                random.between(2 * MILLISECOND_NS, 20 * MILLISECOND_NS)
            }
        }
    }

    /// How long after that the crash comes.
    pub(super) fn draw_idle_ns(self, random: &mut Random) -> u64 {
        match self {
            LifeKind::Starting | LifeKind::Busy => 0,
            LifeKind::Idle => random.between(1, 30 * MILLISECOND_NS),
        }
    }
}
