//! From the events of a recovered log to a core that runs.

use std::collections::{BTreeMap, BTreeSet};

use metastore_statemachine::Parameters;
use metastore_wal::recovery::{
    Recovered, RecoveredReplica, RecoveredSnapshot, ReplayEvent, Standing,
};
use metastore_wal::{
    Identity, Log, LogBuffer, LogIndex, LogOptions, ReplicaId, ShardId, SnapshotPoint,
};
use thiserror::Error;

use super::{Core, CoreParts};
use crate::ids::{BootNonce, SnapshotId, Time};
use crate::membership::{Member, Membership};
use crate::peer::PeerCore;
use crate::replica::{Quarantine, RecoveringReplica, ReplayError, Replica};
use crate::router::{Namespaces, ShardMap};
use crate::settings::{Settings, SettingsError};

/// What a core is, and what an operator set.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Cluster, node and core.
    pub identity: Identity,
    /// How many cores the node has.
    pub cores: usize,
    /// The replicas that the log must hold, each with its shard, in ascending order of shards. It may hold others, which
    /// came later, and says itself which.
    pub replicas: Vec<(ReplicaId, ShardId)>,
    /// The voters with which shards begin that are new. A shard that is not in it begins with its replica here alone.
    pub members: BTreeMap<ShardId, Vec<Member>>,
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

impl CoreConfig {
    /// The voters with which a shard begins, of which `replica` is one.
    fn voters_of(&self, replica: ReplicaId, shard: ShardId) -> Result<Vec<Member>, StartError> {
        let Identity { node, core, .. } = self.identity;
        let here = Member {
            replica,
            home: PeerCore { node, core },
        };
        let Some(voters) = self.members.get(&shard) else {
            return Ok(vec![here]);
        };
        // What cannot be read back must not be written: ids that come twice, and more members than a shard may have.
        let is_readable = Membership::decode(&Membership::of_voters(voters).encode()).is_some();
        match is_readable && voters.contains(&here) {
            true => Ok(voters.clone()),
            false => Err(StartError::StrangeVoters { replica, shard }),
        }
    }
}

/// Why a core cannot start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StartError {
    /// Settings contradict each other.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The log of a formatted core lost a replica.
    #[error("the log does not hold replica {replica} of shard {shard}, which belongs to this core")]
    MissingReplica {
        /// The replica.
        replica: ReplicaId,
        /// Its shard.
        shard: ShardId,
    },
    /// A new shard's voters do not name the replica that is configured here, name others twice, or are too many.
    #[error(
        "the voters of shard {shard} do not fit replica {replica}, which is one of them and lives here"
    )]
    StrangeVoters {
        /// The replica.
        replica: ReplicaId,
        /// Its shard.
        shard: ShardId,
    },
    /// What the log or the disk holds of a replica is damaged, and nobody else has it.
    #[error(
        "replica {replica} of shard {shard} is damaged, and nobody is known who could repair it"
    )]
    DamagedAlone {
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

/// What an event of the replay says of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// That it is there, with a hard state and no entry.
    ThatItIsThere,
    /// That it has entries, or a snapshot.
    More,
}

/// Collects what recovery replays, replica by replica, and applies what is committed on the way.
///
/// The first event tells the newest snapshots. Whoever drives it then loads each of
/// [`snapshots_to_load`](CoreBuilder::snapshots_to_load), before it passes on the next event.
pub struct CoreBuilder {
    pub(crate) config: CoreConfig,
    pub(super) recovering: BTreeMap<ReplicaId, RecoveringReplica>,
    /// Replicas that have records and no snapshot: what follows must say that they are gone.
    passing: BTreeSet<ReplicaId>,
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
            passing: BTreeSet::new(),
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
        let (replica, replayed) = match event {
            ReplayEvent::Snapshots { snapshots } => return self.begin_all(snapshots),
            ReplayEvent::Checkpoint { replicas, .. } => {
                for known in replicas {
                    let says = match known.snapshot.index {
                        LogIndex(0) => Says::ThatItIsThere,
                        _ => Says::More,
                    };
                    if let Some(recovering) = self.recovering(known.replica, known.shard, says) {
                        let replayed = recovering.on_hard_state(known.hard_state);
                        replayed.map_err(failed(known.replica))?;
                    }
                }
                return Ok(());
            }
            ReplayEvent::Append {
                replica,
                shard,
                hard_state,
                first_index,
                entries,
            } => {
                let says = match entries.len() {
                    0 => Says::ThatItIsThere,
                    _ => Says::More,
                };
                let recovering = self.recovering(replica, shard, says);
                let replayed = recovering.map_or(Ok(()), |recovering| {
                    recovering.on_append(hard_state, first_index, entries)
                });
                (replica, replayed)
            }
            ReplayEvent::Rewrite {
                replica,
                shard,
                hard_state,
                first_index,
                entries,
            } => {
                let recovering = self.recovering(replica, shard, Says::More);
                let replayed = recovering.map_or(Ok(()), |recovering| {
                    recovering.on_rewrite(hard_state, first_index, entries)
                });
                (replica, replayed)
            }
            ReplayEvent::Snapshot {
                replica,
                shard,
                hard_state,
                last_index,
                ..
            } => {
                let recovering = self.recovering(replica, shard, Says::More);
                let replayed = recovering.map_or(Ok(()), |recovering| {
                    recovering.on_snapshot(hard_state, last_index)
                });
                (replica, replayed)
            }
            ReplayEvent::Tombstone { replica, .. } => {
                self.recovering.remove(&replica);
                self.passing.remove(&replica);
                return Ok(());
            }
        };
        replayed.map_err(failed(replica))
    }

    /// Begins each replica behind its newest snapshot.
    fn begin_all(&mut self, snapshots: &[RecoveredSnapshot]) -> Result<(), StartError> {
        for RecoveredSnapshot {
            replica,
            shard,
            snapshot,
        } in snapshots
        {
            let (replica, shard) = (*replica, *shard);
            let tail_bytes_max = self.config.settings.raft.tail_bytes_max;
            let begun = RecoveringReplica::new(
                replica,
                shard,
                snapshot,
                self.config.parameters,
                tail_bytes_max,
            );
            self.recovering
                .insert(replica, begun.map_err(failed(replica))?);
        }
        Ok(())
    }

    /// The file of a snapshot that is to be loaded cannot be. Where the shard has other replicas, this one waits for a
    /// snapshot of theirs, and takes no part until then.
    ///
    /// # Errors
    /// There is nobody who could repair it.
    pub fn on_snapshot_damaged(&mut self, snapshot: SnapshotId) -> Result<(), StartError> {
        let wanted = self
            .recovering
            .iter_mut()
            .find(|(_, recovering)| recovering.snapshot_to_load() == Some(snapshot));
        let Some((&replica, recovering)) = wanted else {
            return Ok(());
        };
        let shard = snapshot.shard;
        if !recovering.has_peers() {
            return Err(StartError::DamagedAlone { replica, shard });
        }
        recovering.on_snapshot_damaged();
        Ok(())
    }

    /// Damaged replicas take no part, whether they were configured or came later.
    fn quarantine_damaged(
        &mut self,
        replicas: &[RecoveredReplica],
        log: &mut Log,
    ) -> Result<(), StartError> {
        for known in replicas {
            let replica = known.replica;
            if needs_quarantine(self.recovering.get(&replica), known) {
                log.set_damaged(replica);
                let recovering = self.recovering.remove(&replica);
                let begun = self.begin_quarantine(known, recovering)?;
                self.recovering.insert(replica, begun);
            }
        }
        Ok(())
    }

    fn begin_quarantine(
        &self,
        known: &RecoveredReplica,
        recovering: Option<RecoveringReplica>,
    ) -> Result<RecoveringReplica, StartError> {
        let (replica, shard) = (known.replica, known.shard);
        let why = match known.standing {
            Standing::Lost => Quarantine::PromisesLost,
            Standing::Damaged => Quarantine::LogDamaged,
            Standing::Whole => recovering
                .and_then(|recovering| recovering.quarantine())
                .unwrap_or(Quarantine::SnapshotDamaged),
        };
        let mut known = known.clone();
        if Membership::decode(&known.snapshot.members).is_none() {
            known.snapshot = match self.config.replicas.contains(&(replica, shard)) {
                // Where the members are lost too, those are asked with whom the shard began.
                true => SnapshotPoint {
                    members: Membership::of_voters(&self.config.voters_of(replica, shard)?)
                        .encode(),
                    ..known.snapshot
                },
                // It came later, and hears of the others from whoever leads.
                false => SnapshotPoint::default(),
            };
        }
        let begun = RecoveringReplica::in_quarantine(
            &known,
            why,
            self.config.parameters,
            self.config.settings.raft.tail_bytes_max,
        );
        match begun {
            Ok(begun) if begun.may_have_peers() => Ok(begun),
            Ok(_) | Err(_) => Err(StartError::DamagedAlone { replica, shard }),
        }
    }

    /// The replica that an event is about. One of which no snapshot is known waits to join, if the event says no more than
    /// that it is there; else it is gone by the end of the log, and what it says does not count.
    fn recovering(
        &mut self,
        replica: ReplicaId,
        shard: ShardId,
        says: Says,
    ) -> Option<&mut RecoveringReplica> {
        let is_new = !self.recovering.contains_key(&replica) && !self.passing.contains(&replica);
        if is_new && says == Says::ThatItIsThere {
            let parameters = self.config.parameters;
            let tail_bytes_max = self.config.settings.raft.tail_bytes_max;
            let joining = RecoveringReplica::joining(replica, shard, parameters, tail_bytes_max);
            self.recovering.insert(replica, joining);
        } else if is_new {
            self.passing.insert(replica);
        }
        self.recovering.get_mut(&replica)
    }

    /// The replicas that were replayed.
    pub(crate) fn into_recovering(
        self,
    ) -> Result<BTreeMap<ReplicaId, RecoveringReplica>, StartError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let Some(&replica) = self.passing.first() {
            return Err(failed(replica)(ReplayError::NoSnapshot));
        }
        Ok(self.recovering)
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
        if let Some(&replica) = self.passing.first() {
            return Err(failed(replica)(ReplayError::NoSnapshot));
        }
        let mut log = Log::new(self.config.log.clone(), recovered.start, buffers);
        self.quarantine_damaged(&recovered.replicas, &mut log)?;
        for &(replica, shard) in &self.config.replicas {
            if self.recovering.contains_key(&replica) {
                continue;
            }
            if history == LogHistory::HasServed {
                return Err(StartError::MissingReplica { replica, shard });
            }
            let created = RecoveringReplica::create(
                replica,
                shard,
                &self.config.voters_of(replica, shard)?,
                self.config.parameters,
                self.config.settings.raft.tail_bytes_max,
                &mut log,
            );
            self.recovering.insert(replica, created);
        }
        let mut replicas = Vec::new();
        for (replica, recovering) in self.recovering {
            let started = recovering.start(now, &self.config, &self.logger);
            replicas.push(started.map_err(failed(replica))?);
        }
        replicas.sort_by_key(Replica::shard);
        assert!(
            replicas
                .windows(2)
                .all(|pair| pair[0].shard() < pair[1].shard()),
            "a shard has one replica on a core"
        );
        Ok(Core::assemble(
            now,
            CoreParts {
                config: self.config,
                log,
                replicas,
                logger: self.logger,
            },
        ))
    }
}

/// Whether what a log holds of a replica, or its snapshot, is of no use.
fn needs_quarantine(recovering: Option<&RecoveringReplica>, known: &RecoveredReplica) -> bool {
    let why = recovering.and_then(RecoveringReplica::quarantine);
    known.standing != Standing::Whole || why == Some(Quarantine::SnapshotDamaged)
}

fn failed(replica: ReplicaId) -> impl FnOnce(ReplayError) -> StartError {
    move |cause| StartError::Replay { replica, cause }
}
