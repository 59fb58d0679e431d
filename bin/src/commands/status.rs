//! `metastore status`: what every core of a node is doing.

use std::io::{self, Write};

use metastore_net::blocking::{Client, ClientError};
use metastore_net::{HelloReply, ReplicaRole, ShardMapReply, StatusReply};

use super::table::{Table, duration_ns, size, uptime};
use super::{CommandError, Exit, client, json, status_json};
use crate::arguments::{ClientArguments, Format, StatusArguments};

/// Everything that a node tells of itself.
pub(super) struct NodeStatus {
    pub(super) hello: HelloReply,
    pub(super) map: ShardMapReply,
    /// By core.
    pub(super) cores: Vec<CoreAnswer>,
}

/// The answer of one core.
pub(super) struct CoreAnswer {
    pub(super) address: String,
    pub(super) status: StatusReply,
}

/// Asks every core. One that does not answer makes the node unavailable: half a picture is none.
pub(super) fn run(arguments: &StatusArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let node = ask(&arguments.client)?;
    match arguments.client.format() {
        Format::Json => json::print(out, &status_json::document(&node))?,
        Format::People => print(&node, out).map_err(CommandError::Output)?,
    }
    Ok(Exit::Done)
}

fn ask(arguments: &ClientArguments) -> Result<NodeStatus, ClientError> {
    let mut first: Client = client::connect(arguments)?;
    let hello = first.server().clone();
    let map = first.shard_map()?;
    let mut cores = Vec::with_capacity(usize::from(hello.info.core_count));
    for core in 0..hello.info.core_count {
        let (address, status) = if core == hello.info.core_index {
            (arguments.connect.clone(), first.status()?)
        } else {
            let address = address_of(core, &arguments.connect, &hello, &map);
            let status = client::connect_to(&address, arguments.timeout)?.status()?;
            (address, status)
        };
        cores.push(CoreAnswer { address, status });
    }
    Ok(NodeStatus { hello, map, cores })
}

/// Where a core listens: as the shard map says, or, for a core without shards, beside the core we know.
fn address_of(core: u16, connected: &str, hello: &HelloReply, map: &ShardMapReply) -> String {
    let is_place = |place: &&metastore_net::ShardPlace| {
        place.node_id == hello.info.node_id && place.core_index == core
    };
    if let Some(place) = map.shards.iter().find(is_place) {
        return place.address.clone();
    }
    let host = connected
        .rsplit_once(':')
        .map_or(connected, |(host, _)| host);
    format!(
        "{host}:{}",
        u32::from(hello.info.first_port) + u32::from(core)
    )
}

fn print(node: &NodeStatus, out: &mut dyn Write) -> io::Result<()> {
    let info = &node.hello.info;
    let up_ms = node.cores.iter().map(|core| core.status.uptime_ms).max();
    writeln!(out, "version   {}", info.server_version)?;
    writeln!(out, "cluster   {:032x}", info.cluster_id)?;
    writeln!(out, "node      {}", info.node_id)?;
    writeln!(out, "uptime    {}", uptime(up_ms.unwrap_or(0)))?;
    writeln!(
        out,
        "shards    {}, map epoch {}",
        node.map.shards.len(),
        node.map.epoch
    )?;
    for table in [
        cores(node),
        logs(node),
        stages(node),
        replicas(node),
        counters(node),
    ] {
        if !table.is_empty() {
            writeln!(out)?;
            table.print(out)?;
        }
    }
    Ok(())
}

fn cores(node: &NodeStatus) -> Table {
    let mut table = Table::new(["core", "address", "shards", "connections", "flush", "space"]);
    for CoreAnswer { address, status } in &node.cores {
        table.row([
            status.core_index.to_string(),
            address.clone(),
            status.shards.to_string(),
            status.connections.to_string(),
            status.log.flush_method.clone(),
            status.log.space_state.clone(),
        ]);
    }
    table
}

fn logs(node: &NodeStatus) -> Table {
    let mut table = Table::new([
        "core",
        "durable writes",
        "marks",
        "written",
        "entries",
        "segments",
        "spares",
        "used",
        "budget",
        "watermark",
        "epoch",
    ]);
    for CoreAnswer { status, .. } in &node.cores {
        let log = &status.log;
        table.row([
            status.core_index.to_string(),
            log.durable_writes.to_string(),
            log.marks.to_string(),
            size(log.record_bytes),
            size(log.entry_bytes),
            log.segments.to_string(),
            log.spares.to_string(),
            size(log.used_bytes),
            size(log.budget_bytes),
            log.watermark.to_string(),
            log.epoch.to_string(),
        ]);
    }
    table
}

fn stages(node: &NodeStatus) -> Table {
    let mut table = Table::new([
        "core", "stage", "count", "p50", "p99", "p99.9", "max", "mean",
    ]);
    for CoreAnswer { status, .. } in &node.cores {
        for stage in &status.stages {
            table.row([
                status.core_index.to_string(),
                stage.name.clone(),
                stage.count.to_string(),
                duration_ns(stage.p50_ns),
                duration_ns(stage.p99_ns),
                duration_ns(stage.p999_ns),
                duration_ns(stage.max_ns),
                duration_ns(stage.mean_ns),
            ]);
        }
    }
    table
}

fn replicas(node: &NodeStatus) -> Table {
    let mut table = Table::new([
        "shard", "core", "replica", "role", "term", "commit", "applied", "last", "revision",
        "keys", "state", "history",
    ]);
    let placed = node.cores.iter().flat_map(|core| {
        let index = core.status.core_index;
        core.status
            .replicas
            .iter()
            .map(move |replica| (index, replica))
    });
    let mut placed: Vec<_> = placed.collect();
    placed.sort_by_key(|(_, replica)| replica.shard);
    for (core, replica) in placed {
        table.row([
            replica.shard.to_string(),
            core.to_string(),
            replica.replica.to_string(),
            role(replica.role).to_owned(),
            replica.term.to_string(),
            replica.commit.to_string(),
            replica.applied.to_string(),
            replica.last.to_string(),
            replica.revision.to_string(),
            replica.keys.to_string(),
            size(replica.state_bytes),
            size(replica.history_bytes),
        ]);
    }
    table
}

fn counters(node: &NodeStatus) -> Table {
    let mut table = Table::new(["core", "counter", "value"]);
    for CoreAnswer { status, .. } in &node.cores {
        for counter in &status.counters {
            table.row([
                status.core_index.to_string(),
                counter.name.clone(),
                counter.value.to_string(),
            ]);
        }
    }
    table
}

pub(super) fn role(role: ReplicaRole) -> &'static str {
    match role {
        ReplicaRole::Follower => "follower",
        ReplicaRole::Candidate => "candidate",
        ReplicaRole::Leader => "leader",
        ReplicaRole::Learner => "learner",
        ReplicaRole::Quarantined => "quarantined",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_net::{HelloInfo, ServerLimits, ShardPlace};

    fn node() -> NodeStatus {
        let info = HelloInfo {
            cluster_id: 0xABC,
            node_id: 1,
            core_index: 0,
            core_count: 2,
            first_port: 7400,
            map_epoch: 1,
            server_version: "0.1.0".to_owned(),
        };
        let place = ShardPlace {
            shard: 0,
            slots: Vec::new(),
            node_id: 1,
            core_index: 0,
            address: "127.0.0.1:7400".to_owned(),
            followers: Vec::new(),
            follower_nodes: Vec::new(),
        };
        NodeStatus {
            hello: HelloReply {
                version: 1,
                info,
                limits: ServerLimits::default(),
            },
            map: ShardMapReply {
                epoch: 1,
                slot_count: 16_384,
                shards: vec![place],
            },
            cores: vec![CoreAnswer {
                address: "127.0.0.1:7400".to_owned(),
                status: StatusReply {
                    replicas: vec![metastore_net::ReplicaStatus {
                        role: ReplicaRole::Leader,
                        keys: 17,
                        ..Default::default()
                    }],
                    ..StatusReply::default()
                },
            }],
        }
    }

    #[test]
    fn a_core_without_shards_is_found_beside_the_known_one() {
        let node = node();
        let address = |core| address_of(core, "[::1]:9", &node.hello, &node.map);
        assert_eq!(address(0), "127.0.0.1:7400");
        assert_eq!(address(1), "[::1]:7401");
    }

    #[test]
    fn people_and_programs_are_told_of_every_replica() {
        let node = node();
        let mut out = Vec::new();
        print(&node, &mut out).expect("memory takes it");
        let text = String::from_utf8(out).expect("text");
        assert!(
            text.contains("cluster   00000000000000000000000000000abc"),
            "{text}"
        );
        let line = text
            .lines()
            .find(|line| line.contains("leader"))
            .expect("a replica");
        assert!(line.contains("17"), "{line}");
        let document = status_json::document(&node);
        assert_eq!(document["cluster"], "00000000000000000000000000000abc");
        assert_eq!(document["cores"][0]["replicas"][0]["keys"], 17);
        assert_eq!(document["cores"][0]["replicas"][0]["role"], "leader");
        assert_eq!(
            document["shard_map"]["shards"][0]["address"],
            "127.0.0.1:7400"
        );
    }
}
