//! The command line of the goals.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::own_measurement::{LOAD_UNDER_LOAD, LOAD_UNDER_SNAPSHOT, SHARDS_MANY};
use super::{
    LiveBytesArguments, LogBytesArguments, OwnMeasurement, OwnStoreArguments, RestartArguments,
    ShardsArguments, SnapshotArguments, UnderLoadArguments,
};
use crate::keys::Directories;

#[derive(Debug, Args)]
pub(crate) struct GoalsArguments {
    #[command(flatten)]
    pub(crate) store: OwnStoreArguments,
    /// The store's program built with `--features count-allocations`; without it what is counted there is left out.
    #[arg(long, value_name = "PATH")]
    pub(crate) counting: Option<PathBuf>,
    /// Only these parts, such as `rounds,shards` [default: all].
    #[arg(long, value_name = "PARTS", value_enum, value_delimiter = ',')]
    only: Vec<GoalPart>,
}

/// What the goals are measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GoalPart {
    /// Floor, ping and puts in turns.
    Rounds,
    UnderLoad,
    Shards,
    Snapshot,
    Restart,
    LogBytes,
    Syscalls,
    Allocations,
    LiveBytes,
}

impl GoalsArguments {
    /// Whether a part was asked for.
    pub(crate) fn includes(&self, part: GoalPart) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// The measurements with stores of their own that were asked for, as if each were a command.
    pub(crate) fn measurements(&self) -> Vec<OwnMeasurement> {
        let store = || self.store.clone();
        let counting = || {
            Some(OwnStoreArguments {
                metastore: self.counting.clone()?,
                ..self.store.clone()
            })
        };
        let directories = Directories::Spread;
        let under_load = UnderLoadArguments {
            store: store(),
            load: LOAD_UNDER_LOAD,
            directories,
        };
        let shards = ShardsArguments {
            store: store(),
            shards: SHARDS_MANY,
        };
        let snapshot = SnapshotArguments {
            store: store(),
            load: LOAD_UNDER_SNAPSHOT,
            directories,
        };
        let restart = RestartArguments {
            store: store(),
            log_mib: None,
        };
        let log_bytes = LogBytesArguments {
            store: store(),
            minutes: None,
        };
        let live_bytes = counting().map(|store| LiveBytesArguments { store, directories });
        [
            Some((GoalPart::UnderLoad, OwnMeasurement::UnderLoad(under_load))),
            Some((GoalPart::Shards, OwnMeasurement::Shards(shards))),
            Some((GoalPart::Snapshot, OwnMeasurement::Snapshot(snapshot))),
            Some((GoalPart::Restart, OwnMeasurement::Restart(restart))),
            Some((GoalPart::LogBytes, OwnMeasurement::LogBytes(log_bytes))),
            Some((GoalPart::Syscalls, OwnMeasurement::Syscalls(store()))),
            counting().map(|store| (GoalPart::Allocations, OwnMeasurement::Allocations(store))),
            live_bytes.map(|live| (GoalPart::LiveBytes, OwnMeasurement::LiveBytes(live))),
        ]
        .into_iter()
        .flatten()
        .filter(|&(part, _)| self.includes(part))
        .map(|(_, measurement)| measurement)
        .filter(|measurement| self.store.nodes == 1 || measurement.is_replicated())
        .collect()
    }
}
