//! From the events of a recovered log to a core that runs.

use std::collections::BTreeMap;

use metastore_statemachine::Parameters;
use metastore_wal::recovery::{Recovered, ReplayEvent};
use metastore_wal::{Identity, Log, LogBuffer, LogOptions, ReplicaId, ShardId};
use thiserror::Error;

use super::{Core, CoreParts};
use crate::ids::{BootNonce, Time};
use crate::replica::{RecoveringReplica, ReplayError};
use crate::router::{Namespaces, ShardMap};
use crate::settings::{Settings, SettingsError};

/// What a core is, and what an operator set.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Cluster, node and core.
    pub identity: Identity,
    /// How many cores the node has.
    pub cores: usize,
    /// The replicas that live here, each with its shard, in ascending order of shards.
    pub replicas: Vec<(ReplicaId, ShardId)>,
    /// Where every shard is.
    pub shard_map: ShardMap,
    /// The namespaces.
    pub namespaces: Namespaces,
    /// Settings of batching and raft.
    pub settings: Settings,
    /// The log's settings; the identity in it must be the same.
    pub log: LogOptions,
    /// The state machine's parameters, the same for every replica of a shard.
    pub parameters: Parameters,
    /// Seed of everything that would otherwise be random.
    pub seed: u64,
    /// Differs at every start.
    pub boot: BootNonce,
}

/// Why a core cannot start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StartError {
    /// Settings contradict each other.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The log holds a replica that is not configured here.
    #[error("the log holds replica {replica} of shard {shard}, which does not belong to this core")]
    UnknownReplica {
        /// The replica.
        replica: ReplicaId,
        /// Its shard.
        shard: ShardId,
    },
    /// The log of a formatted core lost a replica.
    #[error("the log does not hold replica {replica} of shard {shard}, which belongs to this core")]
    MissingReplica {
        /// The replica.
        replica: ReplicaId,
        /// Its shard.
        shard: ShardId,
    },
    /// A replica's records make no sense.
    #[error("the log of replica {replica} cannot be replayed: {cause}")]
    Replay {
        /// The replica.
        replica: ReplicaId,
        /// What is wrong.
        cause: ReplayError,
    },
}

/// Whether the log may lack replicas that are configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogHistory {
    /// The data was formatted and never served: replicas that the log lacks are created.
    New,
    /// The data has served: a replica that the log lacks is lost.
    HasServed,
}

/// Collects what recovery replays, replica by replica, and applies what is committed on the way.
pub struct CoreBuilder {
    config: CoreConfig,
    recovering: BTreeMap<ReplicaId, RecoveringReplica>,
    failed: Option<StartError>,
    logger: slog::Logger,
}

impl CoreBuilder {
    /// Begins with no history.
    ///
    /// # Errors
    /// Settings that contradict each other.
    pub fn new(config: CoreConfig) -> Result<CoreBuilder, StartError> {
        config.settings.validate(config.log.record_bytes_max)?;
        assert!(
            config.replicas.windows(2).all(|pair| pair[0].1 < pair[1].1),
            "replicas come in the order of their shards"
        );
        Ok(CoreBuilder {
            config,
            recovering: BTreeMap::new(),
            failed: None,
            logger: slog::Logger::root(slog::Discard, slog::o!()),
        })
    }

    /// Hears what the raft groups say, for people; without it nobody does. Nothing depends on it.
    #[must_use]
    pub fn with_logger(mut self, logger: slog::Logger) -> CoreBuilder {
        self.logger = logger;
        self
    }

    /// Takes the next event of the replay. After an error the rest is ignored; [`CoreBuilder::build`] reports it.
    pub fn on_event(&mut self, event: ReplayEvent<'_>) {
        if self.failed.is_none()
            && let Err(error) = self.replay(event)
        {
            self.failed = Some(error);
        }
    }

    fn replay(&mut self, event: ReplayEvent<'_>) -> Result<(), StartError> {
        match event {
            // Says nothing that the records themselves do not say.
            ReplayEvent::Checkpoint { .. } => Ok(()),
            ReplayEvent::Append {
                replica,
                shard,
                hard_state,
                first_index,
                entries,
            } => {
                let recovering = self.recovering(replica, shard)?;
                recovering
                    .on_append(hard_state, first_index, entries)
                    .map_err(|cause| StartError::Replay { replica, cause })
            }
            ReplayEvent::Snapshot {
                replica,
                shard,
                hard_state,
                index,
                term,
                members,
                ..
            } => {
                let recovering = self.recovering(replica, shard)?;
                recovering
                    .on_snapshot(hard_state, index, term, members)
                    .map_err(|cause| StartError::Replay { replica, cause })
            }
            ReplayEvent::Rewrite { replica, .. } | ReplayEvent::Tombstone { replica, .. } => {
                let cause = ReplayError::UnknownKind;
                Err(StartError::Replay { replica, cause })
            }
        }
    }

    fn recovering(
        &mut self,
        replica: ReplicaId,
        shard: ShardId,
    ) -> Result<&mut RecoveringReplica, StartError> {
        if !self.config.replicas.contains(&(replica, shard)) {
            return Err(StartError::UnknownReplica { replica, shard });
        }
        let parameters = &self.config.parameters;
        let tail_bytes_max = self.config.settings.raft.tail_bytes_max;
        Ok(self
            .recovering
            .entry(replica)
            .or_insert_with(|| RecoveringReplica::new(replica, shard, *parameters, tail_bytes_max)))
    }

    /// The core as the log left it. Its first turn writes the cut of this recovery before anything is answered.
    ///
    /// # Errors
    /// What [`CoreBuilder::on_event`] found wrong, or a replica that is missing.
    pub fn build(
        mut self,
        now: Time,
        recovered: Recovered,
        buffers: Vec<LogBuffer>,
        history: LogHistory,
    ) -> Result<Core, StartError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut log = Log::new(self.config.log.clone(), recovered.start, buffers);
        let mut replicas = Vec::new();
        for &(replica, shard) in &self.config.replicas {
            let recovering = match self.recovering.remove(&replica) {
                Some(recovering) => recovering,
                None if history == LogHistory::New => RecoveringReplica::create(
                    replica,
                    shard,
                    self.config.parameters,
                    self.config.settings.raft.tail_bytes_max,
                    &mut log,
                ),
                None => return Err(StartError::MissingReplica { replica, shard }),
            };
            let started = recovering
                .start(now, &self.config, &self.logger)
                .map_err(|cause| StartError::Replay { replica, cause })?;
            replicas.push(started);
        }
        Ok(Core::assemble(
            now,
            CoreParts {
                config: self.config,
                log,
                replicas,
            },
        ))
    }
}
