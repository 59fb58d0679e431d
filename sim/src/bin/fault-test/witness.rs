//! The logs of nodes that do not run, read with the recovery of the server: they must agree with each other, and they
//! propose the order of events by which what clients saw is judged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use metastore_engine::{LogIndex, NodeId, ReplicaId, ShardId};
use metastore_sim::checkers::ClusterViolation;
use metastore_sim::checkers::linearizability::ShardLog;
use metastore_sim::checkers::log_view::{PartBodySeen, PartSeen, parts_of_event};
use metastore_sim::checkers::replication::{Replication, Voters};
use metastore_wal::device::{DeviceError, DirectorySource};
use metastore_wal::{CoreId, Identity, RecoveryError, ReplayEvent, recover};
use thiserror::Error;

use crate::formatted::{Formatted, FormattedError};

/// Why a log cannot be read.
#[derive(Debug, Error)]
pub(crate) enum WitnessError {
    /// What the node was formatted with is not known.
    #[error(transparent)]
    Formatted(#[from] FormattedError),
    /// Its files cannot be opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A start would refuse it.
    #[error("the log in {} cannot be recovered: {source:?}", directory.display())]
    Refused {
        /// Where it lies.
        directory: PathBuf,
        /// Why.
        source: RecoveryError<DeviceError>,
    },
    /// Logs do not agree.
    #[error(transparent)]
    Broken(#[from] ClusterViolation),
}

/// All logs that were looked at.
pub(crate) struct Witness {
    replication: Replication,
    /// How many logs were looked at before the end, each as that of a replica of its own.
    images: u64,
}

/// Replicas of a log that was looked at before the end have ids from here on.
const IMAGES: u64 = 1 << 40;

impl Witness {
    /// Logs of a cluster that was just formatted.
    pub(crate) fn new(nodes: &BTreeMap<u32, Formatted>) -> Witness {
        let mut voters: BTreeMap<ShardId, Voters> = BTreeMap::new();
        for (&node, formatted) in nodes {
            for resident in &formatted.replicas {
                let of_shard = voters.entry(resident.shard).or_default();
                of_shard.push((resident.replica, NodeId(node)));
            }
        }
        Witness {
            replication: Replication::new(voters),
            images: 0,
        }
    }

    /// Looks at the log of a node that will run again: what its segments hold may be gone later.
    pub(crate) fn look(&mut self, node: u32, data: &Path) -> Result<(), WitnessError> {
        self.images += 1;
        let image = self.images;
        self.read(node, data, &mut |replication, mut part| {
            part.replica = ReplicaId(part.replica.0 + image * IMAGES);
            replication.on_written(&part)
        })
    }

    /// Looks at the log of a node for the last time. `applied` is how far its replicas had come.
    pub(crate) fn conclude(
        &mut self,
        node: u32,
        data: &Path,
        applied: &BTreeMap<ReplicaId, LogIndex>,
    ) -> Result<(), WitnessError> {
        self.read(node, data, &mut |replication, part| {
            replication.on_written(&part)?;
            replication.on_durable(&part)
        })?;
        for (&replica, &applied) in applied {
            self.replication.on_applied(replica, applied);
        }
        Ok(())
    }

    /// The commands of a shard in their order; `None` where no log holds all of them any more.
    pub(crate) fn log_of(&self, shard: ShardId) -> Option<ShardLog> {
        self.replication.log_of(shard).ok()
    }

    fn read(
        &mut self,
        node: u32,
        data: &Path,
        on_part: &mut dyn FnMut(&mut Replication, PartSeen) -> Result<(), ClusterViolation>,
    ) -> Result<(), WitnessError> {
        let formatted = Formatted::read(data)?;
        let mut cores: Vec<u16> = formatted.replicas.iter().map(|one| one.core.0).collect();
        cores.sort_unstable();
        cores.dedup();
        for core in cores {
            let directory = data.join(format!("core-{core}"));
            let mut source = DirectorySource::open(&directory)?;
            let identity = Identity {
                cluster: formatted.cluster,
                node: metastore_wal::NodeId(node),
                core: CoreId(core),
            };
            let (mut broken, mut is_first) = (None, true);
            let recovered = recover(&mut source, &identity, formatted.seal, &mut |event| {
                for part in parts_of(&event, &mut is_first) {
                    if broken.is_none() {
                        broken = on_part(&mut self.replication, part).err();
                    }
                }
            });
            recovered.map_err(|source| WitnessError::Refused { directory, source })?;
            if let Some(broken) = broken {
                return Err(broken.into());
            }
        }
        Ok(())
    }
}

/// What an event of a recovery says. The checkpoint with which what is left of a log begins stands for all that came
/// before it.
fn parts_of(event: &ReplayEvent<'_>, is_first: &mut bool) -> Vec<PartSeen> {
    let ReplayEvent::Checkpoint { replicas, .. } = event else {
        return parts_of_event(event);
    };
    if !std::mem::take(is_first) {
        return parts_of_event(event);
    }
    let parts = replicas.iter().map(|known| PartSeen {
        replica: known.replica,
        shard: known.shard,
        hard_state: known.hard_state,
        body: PartBodySeen::Snapshot {
            covered: known.snapshot.index,
            term: known.snapshot.term,
            first: known.first_index,
            last: known.last_index,
        },
    });
    parts.collect()
}
