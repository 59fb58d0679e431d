//! Comparisons with invented figures, for tests.

use std::borrow::Cow;

use super::document::{
    Discard, Document, FORMAT, Header, MissingSystem, OperationSample, Plan, Point, PointId,
    PointPace, Ratio, Role, Round, Sample, SampleCosts, Stage, SystemConditions, SystemName, Tree,
    Unit, Void, Waits, WorkloadPlan,
};
use crate::conditions::{Conditions, Machine, StoreConditions};
use crate::figure::{Figure, Target};
use crate::floor::{Floor, FloorTool};
use crate::latency::{Latency, Spread};
use crate::measurement::Invalid;
use crate::operation::OperationKind;
use crate::pinning::Pinning;
use crate::store::DiskCache;

/// The systems by their names: the one that is judged, and its peers.
const SYSTEMS: [&str; 3] = ["store", "anvil", "brick"];

/// How much faster each is than the first, in each of its figures.
const SPEEDS: [f64; 3] = [1.0, 0.1, 0.75];

/// A comparison of everything that a page can show, with three rounds that count and one that does not.
pub(crate) fn small() -> Document {
    let mut document = empty();
    document.header.workloads = workloads();
    document.header.missing = vec![MissingSystem {
        name: name("crate"),
        why: "the program crate-server is not installed".to_owned(),
    }];
    document.header.tree = Some(Tree {
        path: "/invented".to_owned(),
        entries: 10_240,
        directories: 512,
    });
    document.rounds = (1..=4)
        .map(|number| round(&document.header, number))
        .collect();
    document.rounds[1].discard = Some(Discard::FloorMoved { drift: 0.31 });
    let void = &mut document.rounds[2].samples;
    let bound = void
        .iter_mut()
        .find(|sample| sample.point.0 == "w4 64x16" && sample.system.0 == "brick");
    bound.expect("the round has it").void = Some(Void::Load {
        invalid: Invalid::Client,
        first_failure: None,
    });
    document.ratios = ratios();
    document.apart = vec![Figure::new(
        "system calls a put",
        Target::AtMost(0.5),
        Spread::of([0.125]),
    )];
    document.suspicions = vec!["brick reached less than 77,000/s at 1,024 in flight".to_owned()];
    document
}

/// A comparison that was not begun.
pub(crate) fn empty() -> Document {
    Document {
        header: Header {
            format: FORMAT,
            started: "2001-02-03T04:05:06Z".to_owned(),
            command: vec!["metastore-perf".to_owned(), "compare".to_owned()],
            conditions: conditions(),
            pinning: Pinning::Apart {
                store_cpu: 0,
                client_cpu: 1,
                allowed: "0-1".to_owned(),
            },
            systems: SYSTEMS
                .iter()
                .map(|system| system_conditions(system))
                .collect(),
            missing: Vec::new(),
            plan: Plan {
                rounds: 3,
                warm_up_seconds: 0.5,
                measured_seconds: 2.0,
                keys: 100_000,
            },
            workloads: Vec::new(),
            tree: None,
        },
        rounds: Vec::new(),
        ratios: Vec::new(),
        apart: Vec::new(),
        suspicions: Vec::new(),
    }
}

/// The small comparison with a single round.
pub(crate) fn one_round() -> Document {
    let mut document = small();
    document.rounds.truncate(1);
    for ratio in &mut document.ratios {
        ratio.values.truncate(1);
    }
    document
}

/// The small comparison without one of the peers, whose rounds ended before it could be measured.
pub(crate) fn without_brick() -> Document {
    let mut document = small();
    for round in &mut document.rounds {
        round.samples.retain(|sample| sample.system.0 != "brick");
    }
    document
}

/// The small comparison with nothing in it that may be used.
pub(crate) fn all_void() -> Document {
    let mut document = small();
    for sample in document
        .rounds
        .iter_mut()
        .flat_map(|round| &mut round.samples)
    {
        sample.void = Some(Void::Load {
            invalid: Invalid::Failures,
            first_failure: Some("the connection was closed".to_owned()),
        });
    }
    for ratio in &mut document.ratios {
        ratio.values.clear();
        ratio.figure = Figure::new(ratio.figure.name().to_owned(), ratio.figure.target(), None);
    }
    document
}

/// The small comparison with `text` wherever a document holds text, and with figures that no machine has.
pub(crate) fn hostile(text: &str) -> Document {
    let mut document = small();
    let header = &mut document.header;
    header.started = text.to_owned();
    header.command = vec![text.to_owned(); 2];
    header.conditions.commit = Some(text.to_owned());
    header.conditions.file_system = Some(text.to_owned());
    header.conditions.store.version = text.to_owned();
    header.conditions.machine.cpu_model = Some(text.to_owned());
    for system in &mut header.systems {
        system.version = text.to_owned();
        system.durability = text.to_owned();
        system.arguments = vec![text.to_owned()];
    }
    header.systems[1].name = name(text);
    header.missing[0].why = text.to_owned();
    for workload in &mut header.workloads {
        workload.id = text.to_owned();
        workload.title = text.to_owned();
        for point in &mut workload.points {
            point.label = text.to_owned();
            point.operation = text.to_owned();
        }
    }
    header.workloads[0].points[0].id = PointId(text.to_owned());
    let extremes = [0.0, -1.0, f64::MAX, f64::MIN_POSITIVE, 1e300];
    for (round, extreme) in document.rounds.iter_mut().zip(extremes.into_iter().cycle()) {
        round.floor_before.p50_us = extreme;
        round.discard = round.discard.as_ref().map(|_| Discard::Other {
            why: text.to_owned(),
        });
        for (sample, extreme) in round.samples.iter_mut().zip(extremes.into_iter().cycle()) {
            sample.achieved_per_second = extreme;
            sample.latency.p50_us = extreme;
            sample.void = sample.void.as_ref().map(|_| Void::Load {
                invalid: Invalid::Failures,
                first_failure: Some(text.to_owned()),
            });
            for stage in &mut sample.stages {
                stage.name = text.to_owned();
            }
        }
        round.samples[0].point = PointId(text.to_owned());
        round.samples[1].system = name(text);
    }
    for ratio in &mut document.ratios {
        ratio.goal = Some(text.to_owned());
        ratio.against = Some(name(text));
        ratio.point = PointId(text.to_owned());
        ratio.values.extend(extremes);
        let measured = Spread::of(ratio.values.iter().copied());
        ratio.figure = Figure::new(text.to_owned(), ratio.figure.target(), measured);
    }
    document.suspicions = vec![text.to_owned()];
    document
}

fn name(name: &str) -> SystemName {
    SystemName(name.to_owned())
}

fn conditions() -> Conditions {
    Conditions {
        machine: Machine {
            kernel: Some("9.8.7".to_owned()),
            cpu_model: Some("Invented CPU".to_owned()),
            cpus: 4,
            cpus_allowed: 2,
        },
        file_system: Some("ext4 on /dev/invented (rw)".to_owned()),
        disk_cache: Some(DiskCache::Volatile),
        store: StoreConditions {
            version: "0.0.1".to_owned(),
            cores: 1,
            shards: 1,
            replicas_per_shard: 1,
            nodes: None,
            flush_method: "dsync".to_owned(),
        },
        commit: Some("0123456789ab".to_owned()),
    }
}

fn system_conditions(system: &str) -> SystemConditions {
    let is_ours = system == SYSTEMS[0];
    SystemConditions {
        name: name(system),
        role: if is_ours { Role::Ours } else { Role::Peer },
        version: "0.0.1".to_owned(),
        arguments: vec![
            format!("{system}-server"),
            "--sync".to_owned(),
            "always".to_owned(),
        ],
        durability: "flushed before each answer".to_owned(),
        cpus: if is_ours { 1 } else { 4 },
        replicas: 1,
    }
}

fn workloads() -> Vec<WorkloadPlan> {
    let skipped = vec![MissingSystem {
        name: name("brick"),
        why: "it has no lists".to_owned(),
    }];
    vec![
        WorkloadPlan {
            id: "w1".to_owned(),
            title: "One client, one put at a time".to_owned(),
            points: vec![point("w1", [1, 1], PointPace::Closed, Waits::ForDisk)],
            skipped: Vec::new(),
        },
        WorkloadPlan {
            id: "w4".to_owned(),
            title: "Gets, few and many in flight".to_owned(),
            points: vec![
                point("w4", [64, 1], PointPace::Closed, Waits::ForNothing),
                point("w4", [64, 16], PointPace::Closed, Waits::ForNothing),
            ],
            skipped: Vec::new(),
        },
        WorkloadPlan {
            id: "w8".to_owned(),
            title: "A mix at shares of the capacity".to_owned(),
            points: [0.2, 0.5, 0.8]
                .map(|share| {
                    point(
                        "w8",
                        [100, 10],
                        PointPace::ShareOfCapacity(share),
                        Waits::ForDisk,
                    )
                })
                .into(),
            skipped,
        },
    ]
}

fn point(workload: &str, [connections, depth]: [usize; 2], pace: PointPace, waits: Waits) -> Point {
    let load = match pace {
        PointPace::Closed => format!("{connections}x{depth}"),
        PointPace::ShareOfCapacity(share) => format!("at {share}"),
    };
    Point {
        id: PointId(format!("{workload} {load}")),
        label: load,
        operation: "put 8/256".to_owned(),
        connections,
        in_flight_per_connection: depth,
        commands_per_operation: 1,
        pace,
        waits,
    }
}

/// All systems at all points. Later rounds are a little slower.
fn round(header: &Header, number: u32) -> Round {
    let slowness = 1.0 + f64::from(number) / 64.0;
    let floor = Floor {
        tool: FloorTool::Fio("fio-0.1".to_owned()),
        writes: 20_000,
        writes_per_second: 10_000.0,
        p50_us: 96.0 * slowness,
        p99_us: 192.0 * slowness,
        max_us: 960.0 * slowness,
    };
    let mut samples = Vec::new();
    for workload in &header.workloads {
        for point in &workload.points {
            for (system, speed) in SYSTEMS.iter().zip(SPEEDS) {
                if workload.skipped.iter().all(|skip| skip.name.0 != *system) {
                    samples.push(sample(point, system, speed / slowness));
                }
            }
        }
    }
    Round {
        number,
        floor_before: floor.clone(),
        floor_after: floor,
        samples,
        discard: None,
    }
}

fn sample(point: &Point, system: &str, speed: f64) -> Sample {
    let in_flight = (point.connections * point.in_flight_per_connection) as f64;
    let share = match point.pace {
        PointPace::Closed => None,
        PointPace::ShareOfCapacity(share) => Some(share),
    };
    let rate = 5_000.0 * in_flight.powf(0.6) * speed * share.unwrap_or(1.0);
    let waiting = 1.0 / (1.0 - share.unwrap_or(0.0));
    let p50_us = match share {
        None => in_flight / rate * 1e6,
        Some(_) => 300.0 * waiting / speed,
    };
    let is_ours = system == SYSTEMS[0];
    Sample {
        point: point.id.clone(),
        system: name(system),
        offered_per_second: share.map(|_| rate + 1.0),
        achieved_per_second: rate,
        latency: latency(p50_us),
        operations: match share {
            None => Vec::new(),
            Some(_) => [OperationKind::Get, OperationKind::Put]
                .map(|operation| OperationSample {
                    operation,
                    latency: latency(p50_us),
                })
                .into(),
        },
        costs: SampleCosts {
            server_cpu_us: Some(2.5 / speed),
            written_bytes: Some(384.0),
            flushes: is_ours.then_some(0.25),
            syscalls: None,
            allocations: None,
        },
        client_cpu_share: 0.625,
        others_cpu_share: Some(0.02),
        stages: match is_ours && point.waits == Waits::ForDisk {
            true => vec![Stage {
                name: "flush".to_owned(),
                p50_us: 144.0,
                p99_us: 288.0,
            }],
            false => Vec::new(),
        },
        moves: None,
        void: None,
    }
}

fn latency(p50_us: f64) -> Latency {
    Latency {
        count: 10_000,
        mean_us: p50_us * 1.125,
        p50_us,
        p90_us: p50_us * 1.5,
        p99_us: p50_us * 2.0,
        p999_us: p50_us * 4.0,
        max_us: p50_us * 8.0,
    }
}

fn ratios() -> Vec<Ratio> {
    let ratio = |goal: Option<&str>, against: Option<&str>, unit, target, values: [f64; 3]| Ratio {
        goal: goal.map(str::to_owned),
        unit,
        against: against.map(name),
        point: PointId("w1 1x1".to_owned()),
        values: values.into(),
        figure: Figure::new(
            Cow::Borrowed(match unit {
                Unit::Times => "store / the other",
                Unit::PerSecond => "commands a second",
                Unit::PerCommand => "flushes a put",
            }),
            target,
            Spread::of(values),
        ),
    };
    vec![
        ratio(
            Some("a1"),
            Some("anvil"),
            Unit::Times,
            Target::AtLeast(10.0),
            [10.5, 12.25, 11.0],
        ),
        ratio(
            Some("a2"),
            Some("brick"),
            Unit::Times,
            Target::AtLeast(0.8),
            [0.625, 0.75, 0.7],
        ),
        ratio(
            Some("a3"),
            None,
            Unit::Times,
            Target::AtMost(1.25),
            [1.125, 1.5, 1.375],
        ),
        ratio(
            Some("a4"),
            None,
            Unit::PerSecond,
            Target::AtLeast(500_000.0),
            [512_000.0, 612_000.0, 580_000.0],
        ),
        ratio(
            Some("a5"),
            None,
            Unit::PerCommand,
            Target::AtMost(0.02),
            [0.002, 0.004, 0.003],
        ),
        ratio(
            None,
            Some("anvil"),
            Unit::Times,
            Target::None,
            [7.5, 8.5, 8.0],
        ),
    ]
}
