//! What one core is doing, for operators and for tools.

use crate::body_error::BodyError;
use crate::generated::messages;
use crate::hello::{cluster_id_from_wire, cluster_id_to_wire};
use crate::table::{TableBudget, append_root, read_root};
use flatbuffers::{FlatBufferBuilder, WIPOffset};

/// The answer to `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatusReply {
    /// The cluster's identity.
    pub cluster_id: u128,
    /// The node that answers.
    pub node_id: u32,
    /// The server's version.
    pub version: String,
    /// Time since the process began to serve.
    pub uptime_ms: u64,
    /// The core that answers, counted from 0.
    pub core_index: u16,
    /// How many shards have a replica on this core.
    pub shards: u32,
    /// Client connections of this core.
    pub connections: u32,
    /// The core's log.
    pub log: LogStatus,
    /// Named numbers that only grow.
    pub counters: Vec<Counter>,
    /// How long requests stay in each stage.
    pub stages: Vec<StageStatus>,
    /// The replicas of this core.
    pub replicas: Vec<ReplicaStatus>,
}

/// The log of a core.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogStatus {
    /// Durable writes of records since the start.
    pub durable_writes: u64,
    /// Writes of the watermark alone since the start.
    pub marks: u64,
    /// Bytes of records written since the start, padding included.
    pub record_bytes: u64,
    /// Bytes of entries written since the start.
    pub entry_bytes: u64,
    /// Segments that hold records.
    pub segments: u32,
    /// Segments that are ready for use.
    pub spares: u32,
    /// The newest record known to be durable.
    pub watermark: u64,
    /// The recovery epoch: how often the log has been cut.
    pub epoch: u64,
    /// How large the log may become.
    pub budget_bytes: u64,
    /// How large it is.
    pub used_bytes: u64,
    /// How the disk stands, in a word.
    pub space_state: String,
    /// How writes are made durable, in a word.
    pub flush_method: String,
}

/// A named number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: u64,
}

/// The distribution of the time that requests stay in one stage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StageStatus {
    /// The stage's name.
    pub name: String,
    /// How many were measured.
    pub count: u64,
    /// Half stayed no longer.
    pub p50_ns: u64,
    /// 99 of 100 stayed no longer.
    pub p99_ns: u64,
    /// 999 of 1,000 stayed no longer; 0 from a server that does not tell.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The mean.
    pub mean_ns: u64,
}

/// What a replica is in its raft group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplicaRole {
    /// It follows a leader.
    #[default]
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
    /// It follows without a vote.
    Learner,
    /// It takes no part until its log is repaired.
    Quarantined,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplicaStatus {
    /// Its shard.
    pub shard: u32,
    /// Its own id.
    pub replica: u64,
    /// What it is at present.
    pub role: ReplicaRole,
    /// Its raft term.
    pub term: u64,
    /// The last committed index.
    pub commit: u64,
    /// The last applied index.
    pub applied: u64,
    /// The last index of its log.
    pub last: u64,
    /// Keys in its state.
    pub keys: u64,
    /// Memory of the live state.
    pub state_bytes: u64,
    /// Memory of the history.
    pub history_bytes: u64,
    /// The current revision of the default namespace.
    pub revision: u64,
    /// The replica that leads, as far as this one knows; 0 where it does not.
    pub leader: u64,
    /// Hash of everything applied, the same on every replica of the shard that has applied as much.
    pub state_hash: u64,
    /// How many replicas of the shard vote, as far as this one knows.
    pub voters: u32,
    /// How many only learn.
    pub learners: u32,
}

impl StatusReply {
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        append_root(out, |builder| self.build(builder));
    }

    fn build<'b>(
        &self,
        builder: &mut FlatBufferBuilder<'b>,
    ) -> WIPOffset<messages::StatusReply<'b>> {
        let version = Some(builder.create_string(&self.version));
        let log = Some(build_log(builder, &self.log));
        let counters: Vec<_> = self
            .counters
            .iter()
            .map(|counter| build_counter(builder, counter))
            .collect();
        let stages: Vec<_> = self
            .stages
            .iter()
            .map(|stage| build_stage(builder, stage))
            .collect();
        let replicas: Vec<_> = self
            .replicas
            .iter()
            .map(|replica| build_replica(builder, replica))
            .collect();
        let counters = Some(builder.create_vector(&counters));
        let stages = Some(builder.create_vector(&stages));
        let replicas = Some(builder.create_vector(&replicas));
        let cluster_id = cluster_id_to_wire(self.cluster_id);
        messages::StatusReply::create(
            builder,
            &messages::StatusReplyArgs {
                cluster_id: Some(&cluster_id),
                node_id: self.node_id,
                version,
                uptime_ms: self.uptime_ms,
                core_index: self.core_index,
                shards: self.shards,
                connections: self.connections,
                log,
                counters,
                stages,
                replicas,
            },
        )
    }

    pub(crate) fn decode(body: &[u8]) -> Result<StatusReply, BodyError> {
        let table = read_root::<messages::StatusReply<'_>>(body, TableBudget::Lists)?;
        Ok(StatusReply {
            cluster_id: cluster_id_from_wire(table.cluster_id()),
            node_id: table.node_id(),
            version: table.version().to_owned(),
            uptime_ms: table.uptime_ms(),
            core_index: table.core_index(),
            shards: table.shards(),
            connections: table.connections(),
            log: log_from_wire(&table.log()),
            counters: table.counters().map_or(Vec::new(), |list| {
                list.iter()
                    .map(|counter| counter_from_wire(&counter))
                    .collect()
            }),
            stages: table.stages().map_or(Vec::new(), |list| {
                list.iter().map(|stage| stage_from_wire(&stage)).collect()
            }),
            replicas: table.replicas().map_or(Ok(Vec::new()), |list| {
                list.iter()
                    .map(|replica| replica_from_wire(&replica))
                    .collect()
            })?,
        })
    }
}

fn build_log<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    log: &LogStatus,
) -> WIPOffset<messages::LogStatus<'b>> {
    let space_state = Some(builder.create_string(&log.space_state));
    let flush_method = Some(builder.create_string(&log.flush_method));
    messages::LogStatus::create(
        builder,
        &messages::LogStatusArgs {
            durable_writes: log.durable_writes,
            marks: log.marks,
            record_bytes: log.record_bytes,
            entry_bytes: log.entry_bytes,
            segments: log.segments,
            spares: log.spares,
            watermark: log.watermark,
            epoch: log.epoch,
            budget_bytes: log.budget_bytes,
            used_bytes: log.used_bytes,
            space_state,
            flush_method,
        },
    )
}

fn log_from_wire(log: &messages::LogStatus<'_>) -> LogStatus {
    LogStatus {
        durable_writes: log.durable_writes(),
        marks: log.marks(),
        record_bytes: log.record_bytes(),
        entry_bytes: log.entry_bytes(),
        segments: log.segments(),
        spares: log.spares(),
        watermark: log.watermark(),
        epoch: log.epoch(),
        budget_bytes: log.budget_bytes(),
        used_bytes: log.used_bytes(),
        space_state: log.space_state().unwrap_or_default().to_owned(),
        flush_method: log.flush_method().unwrap_or_default().to_owned(),
    }
}

fn build_counter<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    counter: &Counter,
) -> WIPOffset<messages::Counter<'b>> {
    let name = Some(builder.create_string(&counter.name));
    messages::Counter::create(
        builder,
        &messages::CounterArgs {
            name,
            value: counter.value,
        },
    )
}

fn counter_from_wire(counter: &messages::Counter<'_>) -> Counter {
    Counter {
        name: counter.name().to_owned(),
        value: counter.value(),
    }
}

fn build_stage<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    stage: &StageStatus,
) -> WIPOffset<messages::Stage<'b>> {
    let name = Some(builder.create_string(&stage.name));
    messages::Stage::create(
        builder,
        &messages::StageArgs {
            name,
            count: stage.count,
            p50_ns: stage.p50_ns,
            p99_ns: stage.p99_ns,
            p999_ns: stage.p999_ns,
            max_ns: stage.max_ns,
            mean_ns: stage.mean_ns,
        },
    )
}

fn stage_from_wire(stage: &messages::Stage<'_>) -> StageStatus {
    StageStatus {
        name: stage.name().to_owned(),
        count: stage.count(),
        p50_ns: stage.p50_ns(),
        p99_ns: stage.p99_ns(),
        p999_ns: stage.p999_ns(),
        max_ns: stage.max_ns(),
        mean_ns: stage.mean_ns(),
    }
}

fn build_replica<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    replica: &ReplicaStatus,
) -> WIPOffset<messages::ReplicaStatus<'b>> {
    let role = match replica.role {
        ReplicaRole::Follower => messages::Role::Follower,
        ReplicaRole::Candidate => messages::Role::Candidate,
        ReplicaRole::Leader => messages::Role::Leader,
        ReplicaRole::Learner => messages::Role::Learner,
        ReplicaRole::Quarantined => messages::Role::Quarantined,
    };
    messages::ReplicaStatus::create(
        builder,
        &messages::ReplicaStatusArgs {
            shard: replica.shard,
            replica: replica.replica,
            role,
            term: replica.term,
            commit: replica.commit,
            applied: replica.applied,
            last: replica.last,
            keys: replica.keys,
            state_bytes: replica.state_bytes,
            history_bytes: replica.history_bytes,
            revision: replica.revision,
            leader: replica.leader,
            state_hash: replica.state_hash,
            voters: replica.voters,
            learners: replica.learners,
        },
    )
}

fn replica_from_wire(replica: &messages::ReplicaStatus<'_>) -> Result<ReplicaStatus, BodyError> {
    let role = match replica.role() {
        messages::Role::Follower => ReplicaRole::Follower,
        messages::Role::Candidate => ReplicaRole::Candidate,
        messages::Role::Leader => ReplicaRole::Leader,
        messages::Role::Learner => ReplicaRole::Learner,
        messages::Role::Quarantined => ReplicaRole::Quarantined,
        messages::Role(found) => {
            return Err(BodyError::FieldValue {
                field: "role",
                found: u64::from(found),
            });
        }
    };
    Ok(ReplicaStatus {
        shard: replica.shard(),
        replica: replica.replica(),
        role,
        term: replica.term(),
        commit: replica.commit(),
        applied: replica.applied(),
        last: replica.last(),
        keys: replica.keys(),
        state_bytes: replica.state_bytes(),
        history_bytes: replica.history_bytes(),
        revision: replica.revision(),
        leader: replica.leader(),
        state_hash: replica.state_hash(),
        voters: replica.voters(),
        learners: replica.learners(),
    })
}
