//! How a node starts over what is on its disk.

use std::collections::{BTreeMap, VecDeque};

use metastore_bugs::{Mutant, is_planted};
use metastore_engine::{CoreBuilder, Effects, LogHistory, Quarantine, ReplicaId, Time};
use metastore_wal::HardState;
use metastore_wal::recovery::{
    Decision, Recovered, RecoveredReplica, RecoveryError, ReplayEvent, recover, recover_among_peers,
};

use super::snapshots::Loader;
use super::{Node, NodeConfig, NodeCounters, SEAL};
use crate::checkers::log_view::{LogView, apply_event};
use crate::clock::Clock;
use crate::disk::{Disk, DiskError, DiskReader};
use crate::oracle::Survivors;
use crate::violation::Violation;
/// Why a node did not start.
#[derive(Debug)]
pub enum StartFailure {
    /// The disk failed; the next start may do better.
    DiskFailed(DiskError),
    /// The log is refused.
    Refused(RecoveryError<DiskError>),
    /// Something is wrong with the program.
    Violation(Violation),
}

/// What a start found.
#[derive(Debug)]
pub struct Started {
    /// The entries in the log.
    pub survivors: Survivors,
    /// What the log says of its replicas.
    pub log: LogView,
    /// What recovery decided.
    pub decision: Decision,
    /// The replicas that take no part, and what they are known to have promised.
    pub quarantined: Vec<(ReplicaId, Quarantine, HardState)>,
}

/// Reads a log as a server does whose replicas have peers, or have none.
fn recover_as(
    config: &NodeConfig,
    reader: &mut DiskReader<'_>,
    on_event: &mut dyn FnMut(ReplayEvent<'_>),
) -> Result<Recovered, RecoveryError<DiskError>> {
    let identity = &config.placement.identity;
    let has_peers = config
        .placement
        .members
        .values()
        .any(|members| members.len() > 1);
    match has_peers {
        true => recover_among_peers(reader, identity, SEAL, on_event),
        false => recover(reader, identity, SEAL, on_event),
    }
}

fn quarantined(
    node: &Node,
    recovered: &[RecoveredReplica],
) -> Vec<(ReplicaId, Quarantine, HardState)> {
    let quarantined = node.core.replicas().filter_map(|status| {
        let known = recovered
            .iter()
            .find(|known| known.replica == status.replica)?;
        Some((status.replica, status.quarantine?, known.hard_state))
    });
    quarantined.collect()
}

impl Node {
    /// Starts a node over what is on the disk. `boot` differs at every start.
    ///
    /// # Errors
    /// Says why it does not run.
    pub fn start(
        config: &NodeConfig,
        clock: Clock,
        boot: u64,
        history: LogHistory,
        disk: &mut Disk,
    ) -> Result<(Node, Started), StartFailure> {
        if !is_planted(Mutant::RecoveryFromCache) {
            disk.flush_all().map_err(StartFailure::DiskFailed)?;
        }
        let builder = CoreBuilder::new(config.core(boot))
            .map_err(|error| StartFailure::Violation(Violation::StartRefused(error)))?;
        let mut survivors = Survivors::default();
        let mut log = LogView::new();
        let mut loader = Loader {
            disk,
            builder,
            named: Vec::new(),
            failed: None,
        };
        let recovered = recover_as(config, &mut disk.reader(), &mut |event| {
            survivors.on_event(&event);
            apply_event(&mut log, &event);
            loader.on_event(event);
        })
        .map_err(StartFailure::Refused)?;
        let Loader {
            builder,
            named,
            failed,
            ..
        } = loader;
        if let Some(violation) = failed {
            return Err(StartFailure::Violation(violation));
        }
        let decision = recovered.decision;
        let replicas = recovered.replicas.clone();
        let buffers = config.log.new_buffers();
        let core = builder
            .build(Time(0), recovered, buffers, history)
            .map_err(|error| StartFailure::Violation(Violation::StartRefused(error)))?;
        disk.keep_snapshots(&named);
        let node = Node {
            core,
            effects: Effects::default(),
            config: config.clone(),
            clock,
            ios: BTreeMap::new(),
            next_io: 0,
            snapshot_jobs: VecDeque::new(),
            is_disk_low: false,
            is_turn_scheduled: false,
            is_slice_scheduled: false,
            wake_at: None,
            counters: NodeCounters {
                loads: named.len() as u64,
                ..NodeCounters::default()
            },
        };
        let started = Started {
            survivors,
            log,
            decision,
            quarantined: quarantined(&node, &replicas),
        };
        Ok((node, started))
    }
}
