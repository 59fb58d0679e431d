//! The answer of `metastore status` as JSON: everything that the protocol tells, under the protocol's names.

use metastore_net::{LogStatus, ReplicaStatus, ShardMapReply, StageStatus};
use serde_json::{Map, Value, json};

use super::status::{CoreAnswer, NodeStatus, role};

pub(super) fn document(node: &NodeStatus) -> Value {
    let info = &node.hello.info;
    let limits = &node.hello.limits;
    json!({
        "version": info.server_version,
        "protocol": node.hello.version,
        "cluster": format!("{:032x}", info.cluster_id),
        "node": info.node_id,
        "core_count": info.core_count,
        "first_port": info.first_port,
        "limits": {
            "frame_bytes": limits.frame_bytes,
            "key_bytes": limits.key_bytes,
            "value_bytes": limits.value_bytes,
            "commands_in_flight": limits.commands_in_flight,
            "batch_commands": limits.batch_commands,
            "get_many_keys": limits.get_many_keys,
        },
        "shard_map": shard_map(&node.map),
        "cores": node.cores.iter().map(core).collect::<Vec<_>>(),
    })
}

fn shard_map(map: &ShardMapReply) -> Value {
    let shards: Vec<_> = map
        .shards
        .iter()
        .map(|place| {
            let slots = place
                .slots
                .iter()
                .map(|range| json!([range.first, range.last]));
            json!({
                "shard": place.shard,
                "node": place.node_id,
                "core": place.core_index,
                "address": place.address,
                "followers": place.followers,
                "slots": slots.collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "epoch": map.epoch, "slot_count": map.slot_count, "shards": shards })
}

fn core(answer: &CoreAnswer) -> Value {
    let status = &answer.status;
    let counters: Map<String, Value> = status
        .counters
        .iter()
        .map(|counter| (counter.name.clone(), counter.value.into()))
        .collect();
    json!({
        "core": status.core_index,
        "address": answer.address,
        "uptime_ms": status.uptime_ms,
        "shards": status.shards,
        "connections": status.connections,
        "log": log(&status.log),
        "counters": counters,
        "stages": status.stages.iter().map(stage).collect::<Vec<_>>(),
        "replicas": status.replicas.iter().map(replica).collect::<Vec<_>>(),
    })
}

fn log(log: &LogStatus) -> Value {
    json!({
        "durable_writes": log.durable_writes,
        "marks": log.marks,
        "record_bytes": log.record_bytes,
        "entry_bytes": log.entry_bytes,
        "segments": log.segments,
        "spares": log.spares,
        "watermark": log.watermark,
        "epoch": log.epoch,
        "budget_bytes": log.budget_bytes,
        "used_bytes": log.used_bytes,
        "space_state": log.space_state,
        "flush_method": log.flush_method,
    })
}

fn stage(stage: &StageStatus) -> Value {
    json!({
        "stage": stage.name,
        "count": stage.count,
        "p50_ns": stage.p50_ns,
        "p99_ns": stage.p99_ns,
        "p999_ns": stage.p999_ns,
        "max_ns": stage.max_ns,
        "mean_ns": stage.mean_ns,
    })
}

fn replica(replica: &ReplicaStatus) -> Value {
    json!({
        "shard": replica.shard,
        "replica": replica.replica,
        "role": role(replica.role),
        "term": replica.term,
        "commit": replica.commit,
        "applied": replica.applied,
        "last": replica.last,
        "keys": replica.keys,
        "state_bytes": replica.state_bytes,
        "history_bytes": replica.history_bytes,
        "leader": replica.leader,
        "state_hash": format!("{:016x}", replica.state_hash),
        "voters": replica.voters,
        "learners": replica.learners,
        "revision": replica.revision,
    })
}
