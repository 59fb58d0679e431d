//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

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

/// A measurement that starts a store of its own.
#[derive(Debug, Subcommand)]
pub(crate) enum OwnMeasurement {
    /// Heap allocations a put in steady state, of a store built with `--features count-allocations`.
    Allocations(OwnStoreArguments),
    /// Memory for each key beyond key and value, of a store built with `--features count-allocations`.
    LiveBytes(LiveBytesArguments),
    /// Server CPU a put with many shards on a core, over that with one.
    Shards(ShardsArguments),
    /// The tail of latencies under load: p99 at a share of the capacity over p50 of one client alone.
    UnderLoad(UnderLoadArguments),
    /// From the start of the process to serving, for each GiB of log.
    Restart(RestartArguments),
}

impl OwnMeasurement {
    /// How its stores are started.
    pub(crate) fn store(&self) -> &OwnStoreArguments {
        match self {
            OwnMeasurement::Allocations(arguments) => arguments,
            OwnMeasurement::LiveBytes(arguments) => &arguments.store,
            OwnMeasurement::Shards(arguments) => &arguments.store,
            OwnMeasurement::UnderLoad(arguments) => &arguments.store,
            OwnMeasurement::Restart(arguments) => &arguments.store,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct LiveBytesArguments {
    #[command(flatten)]
    pub(crate) store: OwnStoreArguments,
    /// Where the keys lie.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) directories: Directories,
}

#[derive(Debug, Args)]
pub(crate) struct ShardsArguments {
    #[command(flatten)]
    pub(crate) store: OwnStoreArguments,
    /// How many are many.
    #[arg(long, value_name = "S", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    pub(crate) shards: u32,
}

#[derive(Debug, Args)]
pub(crate) struct UnderLoadArguments {
    #[command(flatten)]
    pub(crate) store: OwnStoreArguments,
    /// The load, as a share of the capacity.
    #[arg(long, value_name = "SHARE", default_value_t = 0.8, value_parser = parse_rate)]
    pub(crate) load: f64,
    /// Where the keys lie.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) directories: Directories,
}

#[derive(Debug, Args)]
pub(crate) struct RestartArguments {
    #[command(flatten)]
    pub(crate) store: OwnStoreArguments,
    /// How long the log becomes, in MiB [default: 1024; 128 with --quick].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    log_mib: Option<u64>,
}

impl RestartArguments {
    /// How long the log becomes.
    pub(crate) fn log_bytes(&self) -> u64 {
        let usual_mib = if self.store.effort.quick { 128 } else { 1_024 };
        self.log_mib.unwrap_or(usual_mib) << 20
    }
}

/// How a measurement starts its stores.
#[derive(Debug, Args)]
pub(crate) struct OwnStoreArguments {
    /// A directory on the disk in question. The stores' data lies in it for the time of the measurement.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The store's program.
    #[arg(long, value_name = "PATH")]
    pub(crate) metastore: PathBuf,
    #[command(flatten)]
    pub(crate) effort: EffortArguments,
    #[command(flatten)]
    pub(crate) strict: StrictArguments,
    /// Write everything as JSON to this file; `-` is the standard output, and the tables then go to standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// More arguments for `metastore dev`, such as `-- --flush dsync`.
    #[arg(last = true, value_name = "STORE_ARGUMENTS")]
    pub(crate) store_arguments: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct StrictArguments {
    /// Exit with 4 when a target is missed, or its figure could not be measured.
    #[arg(long)]
    strict: bool,
}

/// Whether a missed target is a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// It is told, and that is all.
    Lenient,
    Strict,
}

impl StrictArguments {
    /// What was asked for.
    pub(crate) fn strictness(self) -> Strictness {
        if self.strict {
            Strictness::Strict
        } else {
            Strictness::Lenient
        }
    }
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
    /// Write everything as JSON to this file; `-` is the standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GoalsArguments {
    #[command(flatten)]
    pub(crate) store: OwnStoreArguments,
}

/// Why a value of the command line is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgumentError {
    #[error("a whole number from 1 to {COUNT_MAX} is needed")]
    Count,
    #[error("a number above zero is needed: operations per second, or a share of the capacity")]
    Rate,
    #[error("a process id is a positive whole number")]
    Process,
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

fn parse_process(text: &str) -> Result<ProcessId, ArgumentError> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(ProcessId(number)),
        _ => Err(ArgumentError::Process),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        let words = line.split_ascii_whitespace();
        Arguments::try_parse_from(std::iter::once("metastore-perf").chain(words))
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn quick_is_a_default_that_single_values_override() {
        let effort = |line: &str| {
            let Command::Run(run) = parse(line).unwrap().command else {
                panic!("{line} is a run");
            };
            run.effort.effort()
        };
        let usual = effort("run --workload w1");
        assert_eq!((usual.rounds, usual.measured.as_secs()), (5, 10));
        assert_eq!(usual.keys, 1_000_000);
        let quick = effort("run --workload w1 --quick --rounds 7");
        assert_eq!((quick.rounds, quick.measured.as_secs()), (7, 2));
        assert_eq!(quick.keys, 100_000);
    }

    #[test]
    fn senseless_values_are_refused() {
        for line in [
            "run",
            "run --workload w3",
            "run --workload w1 --rate 0",
            "run --workload w8 --load 0.5 --rate 10",
            "run --workload w1 --rate inf",
            "run --workload w1 --pipeline 0",
            "run --workload w1 --connections 100001",
            "run --workload w1 --server-pid 0",
            "run --workload w1 --seconds 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("run --workload w4 --rate 12.5 --pipeline 3").is_ok());
    }
}
