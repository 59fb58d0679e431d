//! Rounds and headers for tests.

use super::document::{
    FORMAT, Header, Plan, Role, Round, Sample, SampleCosts, SystemConditions, Tree, Void,
};
use super::plan::{Section, name_of};
use crate::arguments::Thoroughness;
use crate::conditions::{Conditions, Machine, StoreConditions};
use crate::floor::{Floor, FloorTool};
use crate::latency::Latency;
use crate::measurement::Invalid;
use crate::pinning::Pinning;
use crate::system::System;

/// A round of a section in which everything went well, on a floor of this p50.
pub(super) fn round_of(number: u32, section: &Section, floor_p50_us: f64) -> Round {
    let mut samples = Vec::new();
    for (point, step) in section.points() {
        for system in section.turns(step, Thoroughness::Full) {
            samples.push(Sample {
                point: point.id.clone(),
                system: name_of(system),
                offered_per_second: None,
                achieved_per_second: 1_000.0,
                latency: latency(500.0),
                operations: Vec::new(),
                costs: SampleCosts {
                    server_cpu_us: Some(3.0),
                    written_bytes: Some(300.0),
                    flushes: (system == System::MetaStore).then_some(0.01),
                    syscalls: None,
                    allocations: None,
                },
                client_cpu_share: 0.4,
                others_cpu_share: Some(0.02),
                stages: Vec::new(),
                moves: None,
                void: None,
            });
        }
    }
    Round {
        number,
        floor_before: floor(floor_p50_us),
        floor_after: floor(floor_p50_us),
        samples,
        discard: None,
    }
}

/// Durable writes of this p50.
pub(super) fn floor(p50_us: f64) -> Floor {
    Floor {
        tool: FloorTool::OwnRing,
        writes: 1_000,
        writes_per_second: 1e6 / p50_us,
        p50_us,
        p99_us: 2.0 * p50_us,
        max_us: 3.0 * p50_us,
    }
}

fn latency(p50_us: f64) -> Latency {
    Latency {
        count: 1_000,
        mean_us: p50_us,
        p50_us,
        p90_us: 1.5 * p50_us,
        p99_us: 2.0 * p50_us,
        p999_us: 3.0 * p50_us,
        max_us: 4.0 * p50_us,
    }
}

/// The client was the limit.
pub(super) fn void_for_client() -> Void {
    Void::Load {
        invalid: Invalid::Client,
        first_failure: None,
    }
}

/// The head of a comparison of these sections.
pub(super) fn header(sections: &[Section]) -> Header {
    Header {
        format: FORMAT,
        started: "2026-01-31T23:59:59Z".to_owned(),
        command: vec!["metastore-perf".to_owned(), "compare".to_owned()],
        conditions: Conditions {
            machine: Machine {
                kernel: Some("6.1".to_owned()),
                cpu_model: Some("a model".to_owned()),
                cpus: 2,
                cpus_allowed: 2,
            },
            file_system: Some("ext4 on /dev/vda (rw)".to_owned()),
            disk_cache: None,
            store: StoreConditions {
                version: "0.1.0".to_owned(),
                cores: 1,
                shards: 1,
                replicas_per_shard: 1,
                nodes: None,
                flush_method: "dsync".to_owned(),
            },
            commit: Some("0123456789ab".to_owned()),
        },
        pinning: Pinning::StoreOnly { store_cpu: 0 },
        systems: vec![SystemConditions {
            name: name_of(System::MetaStore),
            role: Role::Ours,
            version: "0.1.0".to_owned(),
            arguments: vec!["dev".to_owned()],
            durability: "flushed".to_owned(),
            cpus: 1,
            replicas: 1,
        }],
        missing: Vec::new(),
        plan: Plan {
            rounds: 2,
            warm_up_seconds: 1.0,
            measured_seconds: 10.0,
            keys: 100_000,
        },
        workloads: sections
            .iter()
            .map(|section| section.plan.clone())
            .collect(),
        tree: Some(Tree {
            path: "/usr".to_owned(),
            entries: 3,
            directories: 1,
        }),
    }
}
