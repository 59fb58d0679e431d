//! The command lines of measurements that start a store of their own.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{EffortArguments, parse_count, parse_nodes, parse_rate};
use crate::keys::Directories;
use crate::pinning::Pinning;

/// Shares of the capacity and a number of shards, unless the command line says otherwise.
pub(super) const LOAD_UNDER_LOAD: f64 = 0.8;
pub(super) const LOAD_UNDER_SNAPSHOT: f64 = 0.5;
pub(super) const SHARDS_MANY: u32 = 16;

/// A measurement that starts a store of its own.
#[derive(Debug, Subcommand)]
pub(crate) enum OwnMeasurement {
    /// Heap allocations a put in steady state, of a store built with `--features count-allocations`.
    Allocations(OwnStoreArguments),
    /// Memory for each key beyond key and value, of a store built with `--features count-allocations`.
    LiveBytes(LiveBytesArguments),
    /// Bytes written a put over those of key and value, snapshots included.
    LogBytes(LogBytesArguments),
    /// Server CPU a put with many shards on a core, over that with one.
    Shards(ShardsArguments),
    /// The tail of latencies under load: p99 at a share of the capacity over p50 of one client alone.
    UnderLoad(UnderLoadArguments),
    /// The tail of latencies while a snapshot is taken, over that without.
    Snapshot(SnapshotArguments),
    /// What good clients notice of idle connections by the thousands, abusers and a client at full rate.
    Abuse(AbuseArguments),
    /// System calls of the store a put, by `perf stat` where the kernel lets it count, and by strace.
    Syscalls(OwnStoreArguments),
    /// From the start of the process to serving, for each GiB of log.
    Restart(RestartArguments),
    /// How long writes wait when the leader is killed, and when it hands over.
    Failover(FailoverArguments),
    /// What clients notice of a node that gets the whole state again, over connections that break.
    CatchUp(CatchUpArguments),
    /// The tail of latencies with a follower slow and a follower dead, over that without, and the outage when the leader
    /// is killed.
    Degraded(DegradedArguments),
}

impl OwnMeasurement {
    /// Its name on the command line.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            OwnMeasurement::Allocations(_) => "allocations",
            OwnMeasurement::LiveBytes(_) => "live-bytes",
            OwnMeasurement::LogBytes(_) => "log-bytes",
            OwnMeasurement::Shards(_) => "shards",
            OwnMeasurement::UnderLoad(_) => "under-load",
            OwnMeasurement::Snapshot(_) => "snapshot",
            OwnMeasurement::Abuse(_) => "abuse",
            OwnMeasurement::Syscalls(_) => "syscalls",
            OwnMeasurement::Restart(_) => "restart",
            OwnMeasurement::Failover(_) => "failover",
            OwnMeasurement::CatchUp(_) => "catch-up",
            OwnMeasurement::Degraded(_) => "degraded",
        }
    }

    /// Whether it says something of a cluster; the others are about what one node does by itself.
    pub(crate) fn is_replicated(&self) -> bool {
        match self {
            OwnMeasurement::LogBytes(_)
            | OwnMeasurement::UnderLoad(_)
            | OwnMeasurement::Snapshot(_)
            | OwnMeasurement::Syscalls(_)
            | OwnMeasurement::Failover(_)
            | OwnMeasurement::CatchUp(_)
            | OwnMeasurement::Degraded(_) => true,
            OwnMeasurement::Allocations(_)
            | OwnMeasurement::LiveBytes(_)
            | OwnMeasurement::Shards(_)
            | OwnMeasurement::Abuse(_)
            | OwnMeasurement::Restart(_) => false,
        }
    }

    /// Whether there is nothing to measure with one node.
    pub(crate) fn needs_cluster(&self) -> bool {
        matches!(
            self,
            OwnMeasurement::Failover(_) | OwnMeasurement::CatchUp(_) | OwnMeasurement::Degraded(_)
        )
    }

    /// How its stores are started.
    pub(crate) fn store(&self) -> &OwnStoreArguments {
        match self {
            OwnMeasurement::Allocations(arguments) | OwnMeasurement::Syscalls(arguments) => {
                arguments
            }
            OwnMeasurement::LiveBytes(arguments) => &arguments.store,
            OwnMeasurement::LogBytes(arguments) => &arguments.store,
            OwnMeasurement::Shards(arguments) => &arguments.store,
            OwnMeasurement::UnderLoad(arguments) => &arguments.store,
            OwnMeasurement::Snapshot(arguments) => &arguments.store,
            OwnMeasurement::Abuse(arguments) => &arguments.store,
            OwnMeasurement::Restart(arguments) => &arguments.store,
            OwnMeasurement::Failover(arguments) => &arguments.store,
            OwnMeasurement::CatchUp(arguments) => &arguments.store,
            OwnMeasurement::Degraded(arguments) => &arguments.store,
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
pub(crate) struct LogBytesArguments {
    #[command(flatten)]
    pub(crate) store: OwnStoreArguments,
    /// Run that long, instead of until enough was seen; the sizes of log and snapshots are printed over the time.
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u64).range(1..=24 * 60))]
    pub(super) minutes: Option<u64>,
}

impl LogBytesArguments {
    /// Store arguments of the short form, which fills and releases its log in seconds. What the command line says is
    /// left as it is.
    pub(crate) fn small_log(&self) -> Vec<String> {
        match self.store.effort.is_quick() {
            true => self.store.small_log("256MiB"),
            false => Vec::new(),
        }
    }

    /// Whether it runs to the end of its time whatever was seen.
    pub(crate) fn runs_on(&self) -> bool {
        self.minutes.is_some()
    }

    /// How long it may take.
    pub(crate) fn time_limit(&self) -> Duration {
        let usual = if self.store.effort.is_quick() { 1 } else { 10 };
        Duration::from_secs(60 * self.minutes.unwrap_or(usual))
    }
}

#[derive(Debug, Args)]
pub(crate) struct ShardsArguments {
    #[command(flatten)]
    pub(crate) store: OwnStoreArguments,
    /// How many are many.
    #[arg(long, value_name = "S", default_value_t = SHARDS_MANY, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    pub(crate) shards: u32,
}

#[derive(Debug, Args)]
pub(crate) struct UnderLoadArguments {
    #[command(flatten)]
    pub(crate) store: OwnStoreArguments,
    /// The load, as a share of the capacity.
    #[arg(long, value_name = "SHARE", default_value_t = LOAD_UNDER_LOAD, value_parser = parse_rate)]
    pub(crate) load: f64,
    /// Where the keys lie.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) directories: Directories,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotArguments {
    #[command(flatten)]
    pub(crate) store: OwnStoreArguments,
    /// The load, as a share of the capacity.
    #[arg(long, value_name = "SHARE", default_value_t = LOAD_UNDER_SNAPSHOT, value_parser = parse_rate)]
    pub(crate) load: f64,
    /// Where the keys lie.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) directories: Directories,
}

#[derive(Debug, Args)]
pub(crate) struct AbuseArguments {
    #[command(flatten)]
    pub(crate) store: OwnStoreArguments,
    /// The load of the good clients, as a share of the capacity.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = parse_rate)]
    pub(crate) load: f64,
    /// Idle connections.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = parse_count)]
    pub(crate) connections: usize,
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
    pub(super) log_mib: Option<u64>,
}

impl RestartArguments {
    /// How long the log becomes.
    pub(crate) fn log_bytes(&self) -> u64 {
        let usual_mib = if self.store.effort.is_quick() {
            128
        } else {
            1_024
        };
        self.log_mib.unwrap_or(usual_mib) << 20
    }
}

#[derive(Debug, Args)]
pub(crate) struct FailoverArguments {
    #[command(flatten)]
    pub(crate) store: OwnStoreArguments,
    /// How many leaders are killed [default: 50; 6 with --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(super) kills: Option<u32>,
    /// How many leaders hand over [default: 20; 6 with --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(super) transfers: Option<u32>,
}

impl FailoverArguments {
    /// How many leaders are killed.
    pub(crate) fn kills(&self) -> u32 {
        let usual = if self.store.effort.is_quick() { 6 } else { 50 };
        self.kills.unwrap_or(usual)
    }

    /// How many leaders hand over.
    pub(crate) fn transfers(&self) -> u32 {
        let usual = if self.store.effort.is_quick() { 6 } else { 20 };
        self.transfers.unwrap_or(usual)
    }
}

#[derive(Debug, Args)]
pub(crate) struct CatchUpArguments {
    #[command(flatten)]
    pub(crate) store: OwnStoreArguments,
    /// How much state the node lacks, in MiB of keys and values [default: 2048; 128 with --quick].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..=1 << 16))]
    pub(super) state_mib: Option<u64>,
    /// How often its connections are cut while snapshots arrive.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub(crate) cuts: u32,
    /// The load, as a share of the capacity.
    #[arg(long, value_name = "SHARE", default_value_t = LOAD_UNDER_SNAPSHOT, value_parser = parse_rate)]
    pub(crate) load: f64,
    /// Where the keys lie that clients ask for.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) directories: Directories,
}

impl CatchUpArguments {
    /// How much state the node lacks.
    pub(crate) fn state_bytes(&self) -> u64 {
        let usual_mib = if self.store.effort.is_quick() {
            128
        } else {
            2_048
        };
        self.state_mib.unwrap_or(usual_mib) << 20
    }

    /// Store arguments by which each of the three shards has a snapshot of three quarters of its state when all of it is
    /// loaded, and a log that has room for the loading however fast it is. What the command line says is left as it is.
    pub(crate) fn small_log(&self) -> Vec<String> {
        let budget_bytes = (2 * self.state_bytes()).max(256 << 20);
        let mut arguments = self.store.small_log(&format!("{budget_bytes}B"));
        let snapshot_bytes = self.state_bytes() / 4;
        let key = "snapshot.log_bytes=";
        let mut said = self.store.store_arguments.iter();
        if !said.any(|said| said.to_string_lossy().contains(key)) {
            arguments.extend(["--set".to_owned(), format!("{key}{snapshot_bytes}B")]);
        }
        arguments
    }
}

#[derive(Debug, Args)]
pub(crate) struct DegradedArguments {
    #[command(flatten)]
    pub(crate) store: OwnStoreArguments,
    /// The load, as a share of the capacity.
    #[arg(long, value_name = "SHARE", default_value_t = LOAD_UNDER_SNAPSHOT, value_parser = parse_rate)]
    pub(crate) load: f64,
    /// Where the keys lie.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) directories: Directories,
}

impl DegradedArguments {
    /// Whether the arguments for the store say how many shards it has, which the measurement does.
    pub(crate) fn names_shards(&self) -> bool {
        let mut said = self.store.store_arguments.iter();
        said.any(|said| said == "--shards" || said.to_string_lossy().starts_with("--shards="))
    }
}

/// How a measurement starts its stores.
#[derive(Debug, Clone, Args)]
pub(crate) struct OwnStoreArguments {
    /// A directory on the disk in question. The stores' data lies in it for the time of the measurement.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The store's program.
    #[arg(long, value_name = "PATH")]
    pub(crate) metastore: PathBuf,
    /// How many nodes each store has: 1, or 3 with a replica of everything on each, all on this machine.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_nodes)]
    pub(crate) nodes: u16,
    /// Keep the nodes of a cluster off the client's CPU, where there are several. They have one CPU less.
    #[arg(long)]
    pub(crate) client_alone: bool,
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

impl OwnStoreArguments {
    /// Who runs where.
    pub(crate) fn pinning(&self) -> Pinning {
        let usual = Pinning::choose();
        match self.client_alone {
            true => usual.with_client_alone(),
            false => usual,
        }
    }

    /// Arguments for a log of small segments and this budget, but what the command line says is left as it is.
    fn small_log(&self, budget: &str) -> Vec<String> {
        let is_said = |name: &str| self.store_arguments.iter().any(|said| said == name);
        [("--segment-bytes", "16MiB"), ("--wal-budget", budget)]
            .into_iter()
            .filter(|(name, _)| !is_said(name))
            .flat_map(|(name, value)| [name.to_owned(), value.to_owned()])
            .collect()
    }
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
