//! What a start of the node would make of the log of one core.

use std::collections::BTreeMap;
use std::path::PathBuf;

use metastore_engine::{
    BootNonce, CoreBuilder, CoreConfig, CoreId, Identity, LogHistory, Namespaces, Settings,
    ShardLocation, ShardMap, ShardMapError, StartError, Time,
};
use metastore_wal::device::{DeviceError, DirectorySource, mark_path};
use metastore_wal::recovery::{
    self, Damage, Decision, RecoveredReplica, Survey, SurveyItem, TornTail, survey,
};
use metastore_wal::{LogOptions, LogOptionsError, RecoveryError};

use super::Data;
use crate::node::node_file::{NodeFile, NodeState};
use crate::node::snapshot_files::{Replay, SnapshotFileError};

/// Everything that is known of a core's log.
pub(super) struct Judgement {
    /// Missing only if the files cannot be judged at all.
    pub(super) survey: Option<Survey>,
    /// The replicas as recovery would leave them.
    pub(super) replicas: Vec<RecoveredReplica>,
    pub(super) verdict: Verdict,
}

/// Whether a core would start.
pub(super) enum Verdict {
    /// It would, with everything that was ever written.
    Starts,
    /// It would, after cutting off what was never acknowledged.
    StartsWithout(TornTail),
    /// It would not: something that was durable is damaged or lost.
    Damaged(Vec<Damage>),
    /// It would not, for another reason.
    Refused(Refusal),
}

/// Why a core would not start, other than damage at a place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// A file or directory cannot be opened or read.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The file with the watermark is gone.
    #[error("{} is missing", path.display())]
    MarksMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The files are of another log, or of a newer version, or their contents do not fit together.
    #[error(transparent)]
    Recovery(RecoveryError<DeviceError>),
    /// A snapshot that the log names cannot be loaded.
    #[error(transparent)]
    Snapshot(#[from] SnapshotFileError),
    /// The log can be read, and a replica cannot be made of it.
    #[error(transparent)]
    Start(#[from] StartError),
    /// `node.toml` demands a log that this program cannot write.
    #[error(transparent)]
    Options(#[from] LogOptionsError),
    /// `node.toml` has shards that cannot share the slots.
    #[error(transparent)]
    ShardMap(#[from] ShardMapError),
}

impl Verdict {
    pub(super) fn is_start(&self) -> bool {
        match self {
            Verdict::Starts | Verdict::StartsWithout(_) => true,
            Verdict::Damaged(_) | Verdict::Refused(_) => false,
        }
    }
}

impl From<Refusal> for Verdict {
    fn from(refusal: Refusal) -> Verdict {
        let Refusal::Recovery(error) = refusal else {
            return Verdict::Refused(refusal);
        };
        match error {
            RecoveryError::Corrupt { findings } => Verdict::Damaged(findings),
            RecoveryError::Source(error) => Verdict::Refused(error.into()),
            RecoveryError::OtherCluster { .. }
            | RecoveryError::OtherNode { .. }
            | RecoveryError::OtherCore { .. }
            | RecoveryError::NewerFormat { .. }
            | RecoveryError::CommitAboveLast { .. } => Verdict::Refused(Refusal::Recovery(error)),
        }
    }
}

impl Judgement {
    /// Goes the way of a start up to the point where it would write: every file is read, the decision is made by the
    /// same code, and what survives is replayed into replicas.
    pub(super) fn new(
        data: &Data,
        core: CoreId,
        on_item: &mut dyn FnMut(SurveyItem<'_>),
    ) -> Judgement {
        let mut judgement = Judgement {
            survey: None,
            replicas: Vec::new(),
            verdict: Verdict::Starts,
        };
        if let Err(refusal) = judgement.fill(data, core, on_item) {
            judgement.verdict = Verdict::from(refusal);
        }
        judgement
    }

    fn fill(
        &mut self,
        data: &Data,
        core: CoreId,
        on_item: &mut dyn FnMut(SurveyItem<'_>),
    ) -> Result<(), Refusal> {
        let config = core_config(&data.node, core)?;
        let directory = crate::node::log_directory(&data.path, core);
        if data.node.state == NodeState::Formatted && !directory.exists() {
            // Formatting was interrupted here, and a start goes on with it.
            return Ok(());
        }
        let mut source = DirectorySource::open(&directory)?;
        if !source.has_marks() && data.node.state != NodeState::Formatted {
            let path = mark_path(&directory);
            return Err(Refusal::MarksMissing { path });
        }
        let surveyed = survey(&mut source, &config.identity, config.log.seal, on_item)
            .map_err(Refusal::Recovery)?;
        let is_damaged = surveyed.decision == Decision::Corrupt;
        let (findings, torn) = (surveyed.findings.clone(), surveyed.torn.clone());
        self.survey = Some(surveyed);
        if is_damaged {
            self.verdict = Verdict::Damaged(findings);
            return Ok(());
        }
        self.replay(data, config, &mut source)?;
        if let Some(torn) = torn {
            self.verdict = Verdict::StartsWithout(torn);
        }
        Ok(())
    }

    fn replay(
        &mut self,
        data: &Data,
        config: CoreConfig,
        source: &mut DirectorySource,
    ) -> Result<(), Refusal> {
        let (identity, seal) = (config.identity, config.log.seal);
        let buffers = config.log.new_buffers();
        let mut replay = Replay::new(&data.path, CoreBuilder::new(config)?);
        let recovered = recovery::recover(source, &identity, seal, &mut |event| {
            replay.on_event(event);
        })
        .map_err(Refusal::Recovery)?;
        let (builder, _named) = replay.finish()?;
        self.replicas.clone_from(&recovered.replicas);
        let history = match data.node.state {
            NodeState::Formatted => LogHistory::New,
            NodeState::Serving | NodeState::Recovering => LogHistory::HasServed,
        };
        // The core is dropped before it could ask for anything to be written.
        builder.build(Time(0), recovered, buffers, history)?;
        Ok(())
    }
}

/// The core as `node.toml` describes it. What a start takes from elsewhere, such as its address, decides nothing here.
pub(in crate::commands) fn core_config(
    node: &NodeFile,
    core: CoreId,
) -> Result<CoreConfig, Refusal> {
    let identity = Identity {
        cluster: node.cluster,
        node: node.node,
        core,
    };
    let log = LogOptions {
        segment_bytes: node.segment_bytes,
        record_bytes_max: node.record_bytes_max,
        // However large the log may become, what is there is read.
        budget_bytes: node.segment_bytes.saturating_mul(1024),
        ..LogOptions::new(identity, node.seal)
    };
    log.validate()?;
    let plan = node.cluster_plan.as_ref();
    let members = plan.map_or_else(BTreeMap::new, |plan| plan.members.clone());
    let homes: BTreeMap<_, _> = node
        .replicas
        .iter()
        .map(|place| (place.shard, place.core))
        .collect();
    // A node of a cluster has not every shard.
    let shards: Vec<_> = match plan {
        Some(plan) => plan.members.keys().copied().collect(),
        None => homes.keys().copied().collect(),
    };
    let locations = shards.iter().map(|&shard| ShardLocation {
        shard,
        core: homes.get(&shard).copied().unwrap_or(CoreId(0)),
    });
    let here = node.replicas.iter().filter(|place| place.core == core);
    Ok(CoreConfig {
        identity,
        cores: node.cores,
        replicas: here.map(|place| (place.replica, place.shard)).collect(),
        members,
        shard_map: ShardMap::split_evenly(locations.collect())?,
        namespaces: Namespaces::default(),
        settings: Settings::default(),
        log,
        parameters: node.history.parameters(),
        seed: 0,
        boot: BootNonce(0),
    })
}
