//! The result of a comparison, as it is stored: conditions, plan, rounds with every sample, and the ratios over them.
//!
//! It holds what was measured and what was concluded, and **no** words for people: those are made where it is shown.
//! A sample stands in it once. Whatever can be computed from samples, such as the median of a point, is not stored
//! but asked for ([`Document::samples`]), so that a page cannot contradict its own rounds. Ratios are stored, because
//! which samples of a round are paired is known only where the round was made.
//!
//! A document is one JSON object; its first two parts are also written by themselves, one a line, while the rounds go
//! on: the [`Header`], then each [`Round`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::conditions::Conditions;
use crate::figure::Figure;
use crate::floor::Floor;
use crate::latency::{Latency, Spread};
use crate::measurement::{Invalid, Measurement, Moves};
use crate::operation::OperationKind;
use crate::pinning::Pinning;
use crate::store::FlushCheck;

/// The version of the document. It changes when a reader of the former version would misread it.
pub(crate) const FORMAT: u32 = 1;

/// A whole comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Document {
    pub(crate) header: Header,
    /// In the order in which they were measured, those that do not count included.
    pub(crate) rounds: Vec<Round>,
    /// What the rounds that count come to, in the order in which it is to be read.
    pub(crate) ratios: Vec<Ratio>,
    /// Figures that were measured apart from the rounds, such as system calls under a tracer.
    pub(crate) apart: Vec<Figure>,
    /// Why the run as a whole is to be doubted, such as a peer that is far slower than it should be.
    pub(crate) suspicions: Vec<String>,
}

/// Everything that is known before the first round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// When it began, such as `2026-01-31T23:59:59Z`.
    pub(crate) started: String,
    /// The command line, one word after the other.
    pub(crate) command: Vec<String>,
    /// Machine, disk, this store and commit.
    pub(crate) conditions: Conditions,
    pub(crate) pinning: Pinning,
    /// This store first, then its peers.
    pub(crate) systems: Vec<SystemConditions>,
    /// Peers that were asked for and could not be measured at all.
    pub(crate) missing: Vec<MissingSystem>,
    pub(crate) plan: Plan,
    pub(crate) workloads: Vec<WorkloadPlan>,
    /// Of the workload with the metadata of a real tree.
    pub(crate) tree: Option<Tree>,
}

/// The name of a system, such as `metastore` or `redis`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct SystemName(pub(crate) String);

/// What is known of one of the systems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SystemConditions {
    pub(crate) name: SystemName,
    pub(crate) role: Role,
    pub(crate) version: String,
    /// The command line of its server.
    pub(crate) arguments: Vec<String>,
    /// What has happened before it answers a write, in words, such as `appendfsync always`.
    pub(crate) durability: String,
    /// How many processors it may use.
    pub(crate) cpus: usize,
    pub(crate) replicas: u32,
}

/// Whose side a system is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// It is the one that is judged.
    Ours,
    /// It is what ours is compared with.
    Peer,
}

/// A peer that could not be measured at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MissingSystem {
    pub(crate) name: SystemName,
    /// The reason in words, such as the program that is not installed.
    pub(crate) why: String,
}

/// How much is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Rounds that are to count, of each workload.
    pub(crate) rounds: u32,
    pub(crate) warm_up_seconds: f64,
    pub(crate) measured_seconds: f64,
    /// Keys that are loaded before.
    pub(crate) keys: u64,
}

/// One workload with its points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkloadPlan {
    /// Such as `w4`.
    pub(crate) id: String,
    /// What it asks, in words.
    pub(crate) title: String,
    pub(crate) points: Vec<Point>,
    /// Systems that do not take part, with the reason.
    pub(crate) skipped: Vec<MissingSystem>,
}

/// The name of a point, unlike that of any other point of the document, such as `w4 put 8/16 50x64`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct PointId(pub(crate) String);

/// One point of a workload: what is asked, how often at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) id: PointId,
    /// What it measures beside the other points of its workload, in few words, such as `64 in flight`.
    pub(crate) label: String,
    /// What is asked, such as `put 8/16`.
    pub(crate) operation: String,
    pub(crate) connections: usize,
    pub(crate) in_flight_per_connection: usize,
    /// Commands in one operation: above 1 for batches. Rates and costs are those of commands.
    pub(crate) commands_per_operation: u64,
    pub(crate) pace: PointPace,
    /// Whether an answer may have to wait for the disk, so that the floor is of interest beside it.
    pub(crate) waits: Waits,
}

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Waits {
    /// For a durable write, at least in part of the operations.
    ForDisk,
    /// For no write.
    ForNothing,
}

/// How fast requests come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PointPace {
    /// As fast as they are answered.
    Closed,
    /// At random times, this share of what a closed loop reaches on the same system.
    ShareOfCapacity(f64),
}

/// The tree whose metadata is stored and read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tree {
    pub(crate) path: String,
    pub(crate) entries: u64,
    pub(crate) directories: u64,
}

/// What was measured between two floors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Round {
    /// From 1 on, in the order of time.
    pub(crate) number: u32,
    pub(crate) floor_before: Floor,
    pub(crate) floor_after: Floor,
    /// In the order of time. A system may have several samples of one point.
    pub(crate) samples: Vec<Sample>,
    /// Why nothing of it counts, if there is a reason.
    pub(crate) discard: Option<Discard>,
}

/// Why a round does not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Discard {
    /// The floor at its end differs too much from the floor at its start; as a share of the lower one.
    FloorMoved { drift: f64 },
    /// Something else, in words.
    Other { why: String },
}

/// One system at one point in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) point: PointId,
    pub(crate) system: SystemName,
    /// Open loop: operations that were meant to start, a second.
    pub(crate) offered_per_second: Option<f64>,
    /// Commands that were answered, a second.
    pub(crate) achieved_per_second: f64,
    pub(crate) latency: Latency,
    /// Of a mix: each operation by itself.
    pub(crate) operations: Vec<OperationSample>,
    /// For each command. What could not be observed is absent.
    pub(crate) costs: SampleCosts,
    /// Of one CPU.
    pub(crate) client_cpu_share: f64,
    /// CPUs that went to processes other than the system and the client.
    pub(crate) others_cpu_share: Option<f64>,
    /// Of this store: how long requests stay in each stage.
    pub(crate) stages: Vec<Stage>,
    /// Of a cluster whose leaders did not stay where they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) moves: Option<Moves>,
    /// Why the numbers must not be used, if there is a reason.
    pub(crate) void: Option<Void>,
}

/// The latency of one operation of a mix.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct OperationSample {
    pub(crate) operation: OperationKind,
    pub(crate) latency: Latency,
}

/// What a command has cost.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct SampleCosts {
    pub(crate) server_cpu_us: Option<f64>,
    pub(crate) written_bytes: Option<f64>,
    /// By the system's own count.
    pub(crate) flushes: Option<f64>,
    pub(crate) syscalls: Option<f64>,
    pub(crate) allocations: Option<f64>,
}

/// One stage of a request's way through the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stage {
    pub(crate) name: String,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Why the numbers of a sample must not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Void {
    /// For a reason of the load, with the first failure if operations failed.
    Load {
        invalid: Invalid,
        first_failure: Option<String>,
    },
    /// The disk has flushed less often than the store says.
    FlushesContradicted,
}

/// What several rounds come to, beside its goal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ratio {
    /// The goal's name, such as `G1`.
    pub(crate) goal: Option<String>,
    pub(crate) unit: Unit,
    /// The system that ours is compared with, if it is one.
    pub(crate) against: Option<SystemName>,
    /// The point of ours that it is about.
    pub(crate) point: PointId,
    /// One value a round that counts.
    pub(crate) values: Vec<f64>,
    /// Their median and extremes, and how these stand to the goal.
    pub(crate) figure: Figure,
}

/// What the values of a ratio are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    /// How many times the other's; more is better where the goal is a least value.
    Times,
    /// Commands a second.
    PerSecond,
    /// Of something for each command.
    PerCommand,
}

impl Document {
    /// The samples of a system at a point that may be used: of rounds that count, and not void.
    pub(crate) fn samples<'a>(
        &'a self,
        point: &'a PointId,
        system: &'a SystemName,
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples_counted(point, system)
            .filter(|sample| sample.void.is_none())
    }

    /// The samples of a system at a point of rounds that count, those that are void included.
    pub(crate) fn samples_counted<'a>(
        &'a self,
        point: &'a PointId,
        system: &'a SystemName,
    ) -> impl Iterator<Item = &'a Sample> {
        self.rounds_counted()
            .flat_map(|round| &round.samples)
            .filter(move |sample| sample.point == *point && sample.system == *system)
    }

    /// The middle of one value of these samples.
    pub(crate) fn spread(
        &self,
        point: &PointId,
        system: &SystemName,
        value: impl Fn(&Sample) -> Option<f64>,
    ) -> Option<Spread> {
        Spread::of(self.samples(point, system).filter_map(value))
    }

    /// The rounds that count.
    pub(crate) fn rounds_counted(&self) -> impl Iterator<Item = &Round> {
        self.rounds.iter().filter(|round| round.discard.is_none())
    }

    /// The rounds that do not count, with the reason.
    pub(crate) fn rounds_thrown_away(&self) -> impl Iterator<Item = (&Round, &Discard)> {
        self.rounds
            .iter()
            .filter_map(|round| Some((round, round.discard.as_ref()?)))
    }
}

impl Round {
    /// Whether a point was measured in it.
    pub(crate) fn has(&self, point: &PointId) -> bool {
        self.samples.iter().any(|sample| sample.point == *point)
    }
}

impl Sample {
    /// The sample of a measurement. What the store counts is given by this store only.
    pub(crate) fn of(
        point: &Point,
        system: &SystemName,
        measurement: &Measurement,
        role: Role,
    ) -> Sample {
        let costs = &measurement.costs;
        let own = |cost: f64| (role == Role::Ours).then_some(cost);
        Sample {
            point: point.id.clone(),
            system: system.clone(),
            offered_per_second: measurement.offered_per_second,
            achieved_per_second: measurement.achieved_per_second,
            latency: measurement.latency,
            operations: measurement
                .operations
                .iter()
                .map(|operation| OperationSample {
                    operation: operation.operation,
                    latency: operation.latency,
                })
                .collect(),
            costs: SampleCosts {
                server_cpu_us: costs.server_cpu_us_per_operation,
                written_bytes: costs.written_bytes_per_operation,
                flushes: own(costs.durable_writes_per_operation),
                syscalls: None,
                allocations: costs.allocations_per_operation,
            },
            client_cpu_share: measurement.client.cpu_share,
            others_cpu_share: measurement.others_cpu_share,
            stages: Vec::new(),
            moves: measurement.moves,
            void: Void::of(measurement),
        }
    }
}

impl Void {
    /// Why a measurement is void, if it is.
    pub(crate) fn of(measurement: &Measurement) -> Option<Void> {
        let of_load = measurement.invalid.map(|invalid| Void::Load {
            invalid,
            first_failure: measurement.first_failure.clone(),
        });
        let is_contradicted = measurement.flush_check == FlushCheck::Contradicted;
        of_load.or(is_contradicted.then_some(Void::FlushesContradicted))
    }

    /// The reason in words.
    pub(crate) fn words(&self) -> String {
        match self {
            Void::Load {
                invalid: Invalid::Client,
                ..
            } => format!("client-bound: {}", Invalid::Client.words()),
            Void::Load {
                invalid,
                first_failure: Some(failure),
            } => format!("{}: {failure}", invalid.words()),
            Void::Load { invalid, .. } => invalid.words().to_owned(),
            Void::FlushesContradicted => FlushCheck::Contradicted.words().to_owned(),
        }
    }
}

impl Discard {
    /// The reason in words.
    pub(crate) fn words(&self) -> String {
        match self {
            Discard::FloorMoved { drift } => format!("the floor moved by {:.0} %", drift * 100.0),
            Discard::Other { why } => why.clone(),
        }
    }
}

impl fmt::Display for SystemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
