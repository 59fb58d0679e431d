//! The command line.

mod compare;
mod core_alone;
mod goals;
mod idle;
mod log_alone;
mod own_measurement;
mod page;
mod range_stream;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(crate) use compare::{CompareArguments, ComparedWorkload, PeerName, Thoroughness};
pub(crate) use core_alone::{BaselineUse, CoreArguments};
pub(crate) use goals::{GoalPart, GoalsArguments};
pub(crate) use idle::IdleArguments;
pub(crate) use log_alone::{BaselineChoice, LogArguments};
pub(crate) use own_measurement::{
    AbuseArguments, CatchUpArguments, DegradedArguments, FailoverArguments, LiveBytesArguments,
    LogBytesArguments, OwnMeasurement, OwnStoreArguments, RestartArguments, ShardsArguments,
    SnapshotArguments, Strictness, UnderLoadArguments,
};
pub(crate) use page::PageArguments;
pub(crate) use range_stream::{MapArguments, RangeStreamArguments, Reader};

use crate::floor::JOBS_MAX;
use crate::keys::Directories;
use crate::process::ProcessId;
use crate::workload::{CaseOverrides, Workload};

/// Loads and measures a store.
#[derive(Debug, Parser)]
#[command(name = "metastore-perf", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a workload against a store that is running, or a measurement with a store of its own.
    Run(Box<RunArguments>),
    /// Measure durable writes of 4 KiB, one at a time: what no store can go below.
    Floor(FloorArguments),
    /// Start a store on the loopback interface and measure the figures by which a single node is judged.
    Goals(GoalsArguments),
    /// Start this store and others in turns on the loopback interface, give them the same load, and set their figures
    /// side by side.
    Compare(Box<CompareArguments>),
    /// Write the page of a comparison that was stored; nothing is measured.
    Page(PageArguments),
    /// Read one directory at one revision while writers change all of its keys, and check every row.
    RangeStream(RangeStreamArguments),
    /// Measure what a put costs in the core alone, without a store: CPU time, or instructions compared with a baseline.
    Core(CoreArguments),
    /// Measure what shards cost that have nothing to do, in the core alone and in virtual time, and how soon they are led
    /// again when they lose their leader.
    Idle(IdleArguments),
    /// Measure the log alone, without a store, beside fio at the same block size.
    Log(LogArguments),
    /// Measure the map of the state beside the standard library's, without a store.
    Map(MapArguments),
}

/// How much time a measurement takes.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct EffortArguments {
    /// Rounds of 2 s, 3 rounds, 100,000 keys: a first impression, not a result.
    #[arg(long)]
    quick: bool,
    /// Measured seconds of a round.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: Option<u64>,
    /// Number of rounds.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: Option<u32>,
}

/// How much time a measurement takes, all said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effort {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    pub(crate) rounds: u32,
    pub(crate) keys: u64,
}

impl EffortArguments {
    /// Whether a first impression is enough.
    fn is_quick(&self) -> bool {
        self.quick
    }

    /// What was asked for, the rest by default.
    pub(crate) fn effort(&self) -> Effort {
        let usual = if self.quick {
            Effort {
                warm_up: Duration::from_millis(500),
                measured: Duration::from_secs(2),
                rounds: 3,
                keys: 100_000,
            }
        } else {
            Effort {
                warm_up: Duration::from_secs(2),
                measured: Duration::from_secs(10),
                rounds: 5,
                keys: 1_000_000,
            }
        };
        Effort {
            measured: self.seconds.map_or(usual.measured, Duration::from_secs),
            rounds: self.rounds.unwrap_or(usual.rounds),
            ..usual
        }
    }
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct RunArguments {
    #[command(subcommand)]
    pub(crate) measurement: Option<OwnMeasurement>,
    /// The workload.
    #[arg(long, value_enum, required = true)]
    workload: Option<Workload>,
    /// Any core of the store.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7400")]
    pub(crate) connect: String,
    #[command(flatten)]
    pub(crate) effort: EffortArguments,
    /// Requests in flight on each connection, instead of the workload's.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pipeline: Option<usize>,
    /// Connections, instead of the workload's.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    connections: Option<usize>,
    /// Open loop: requests a second at random times (Poisson); latency counts from the intended start.
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Open loop at this share of the capacity, which a closed loop measures just before, in the same round.
    #[arg(long, value_name = "SHARE", value_parser = parse_rate, conflicts_with = "rate")]
    load: Option<f64>,
    /// Where the keys lie.
    #[arg(long, value_enum, default_value_t)]
    directories: Directories,
    /// The store's process; otherwise the one that listens at the address, if it is on this machine.
    #[arg(long, value_name = "PID", value_parser = parse_process)]
    pub(crate) server_pid: Option<ProcessId>,
    /// The store's data directory, to count the flushes of its disk.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Write everything as JSON to this file; `-` is the standard output, and the tables then go to standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// How fast requests come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum LoadChoice {
    /// As fast as they are answered.
    Closed,
    /// This many a second.
    Rate(f64),
    /// This share of what a closed loop reaches.
    ShareOfCapacity(f64),
}

impl RunArguments {
    /// The workload, which is there unless a measurement is.
    pub(crate) fn workload(&self) -> Workload {
        self.workload
            .expect("the command line is not taken without a workload or a measurement")
    }

    /// How fast requests come.
    pub(crate) fn load(&self) -> LoadChoice {
        match (self.rate, self.load) {
            (Some(rate), _) => LoadChoice::Rate(rate),
            (None, Some(share)) => LoadChoice::ShareOfCapacity(share),
            (None, None) => LoadChoice::Closed,
        }
    }

    /// What is wanted otherwise than the workload has it.
    pub(crate) fn overrides(&self) -> CaseOverrides {
        CaseOverrides {
            connections: self.connections,
            in_flight_per_connection: self.pipeline,
            directories: self.directories,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct FloorArguments {
    /// A directory on the disk in question, such as the store's data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Measured seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) seconds: u64,
    /// How many files are written side by side, one write at a time into each.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(JOBS_MAX)))]
    pub(crate) jobs: u16,
    /// Write everything as JSON to this file; `-` is the standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Why a value of the command line is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgumentError {
    #[error("a whole number from 1 to {COUNT_MAX} is needed")]
    Count,
    #[error("a number above zero is needed: operations per second, or a share of the capacity")]
    Rate,
    #[error("a whole number from 1 to {max} is needed")]
    Batch { max: usize },
    #[error("a process id is a positive whole number")]
    Process,
    #[error("1 node, or {NODES_REPLICATED}: one replica of everything on each")]
    Nodes,
}

/// More connections or requests in flight than any store takes from one client.
const COUNT_MAX: usize = 100_000;

fn parse_count(text: &str) -> Result<usize, ArgumentError> {
    let count = text.parse().map_err(|_| ArgumentError::Count)?;
    if (1..=COUNT_MAX).contains(&count) {
        Ok(count)
    } else {
        Err(ArgumentError::Count)
    }
}

fn parse_rate(text: &str) -> Result<f64, ArgumentError> {
    let rate: f64 = text.parse().map_err(|_| ArgumentError::Rate)?;
    if rate > 0.0 && rate.is_finite() {
        Ok(rate)
    } else {
        Err(ArgumentError::Rate)
    }
}

/// Nodes of a cluster, each with a replica of every shard: what the goals of replication are about.
pub(crate) const NODES_REPLICATED: u16 = 3;

fn parse_nodes(text: &str) -> Result<u16, ArgumentError> {
    match text.parse() {
        Ok(nodes) if nodes == 1 || nodes == NODES_REPLICATED => Ok(nodes),
        _ => Err(ArgumentError::Nodes),
    }
}

fn parse_process(text: &str) -> Result<ProcessId, ArgumentError> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(ProcessId(number)),
        _ => Err(ArgumentError::Process),
    }
}

#[cfg(test)]
mod tests;
