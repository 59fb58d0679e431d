//! `metastore format`: makes a data directory ready for use.

use std::io::Write;

use metastore_engine::NodeId;

use super::{CommandError, Exit, config};
use crate::arguments::FormatArguments;
use crate::node::cluster::ClusterNode;
use crate::node::{self, FormatPolicy, Founding, NodeOptions, Oversubscription, StartError};

pub(super) fn run(arguments: &FormatArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let configuration = config::load(&arguments.config)?;
    let options = NodeOptions {
        format: FormatPolicy::Anew,
        ..configuration.node_options(Oversubscription::Refuse)
    };
    let options = NodeOptions {
        founding: founding(arguments, options.cores)?,
        ..options
    };
    let node = node::format(&options)?;
    let (data, cluster) = (options.data.display(), node.cluster);
    let written = match (&node.cluster_plan, node.entry()) {
        (Some(plan), Some(entry)) => writeln!(
            out,
            "formatted {data} as node {} of cluster {cluster}, for {} cores and replicas of {} of {} shards; clients at {}, other nodes at {}; the nodes of the cluster have the same map, {:016x}",
            node.node,
            node.cores,
            node.replicas.len(),
            node.shards(),
            entry.clients,
            entry.peers,
            plan.initial_map_hash(),
        ),
        (None, _) | (_, None) => writeln!(
            out,
            "formatted {data} for {} cores and {} shards, cluster {cluster}",
            node.cores,
            node.replicas.len(),
        ),
    };
    written.map_err(CommandError::Output)?;
    Ok(Exit::Done)
}

/// The node that is asked for, from the file of its cluster; a node that joins is one more than that says.
fn founding(
    arguments: &FormatArguments,
    cores: Option<usize>,
) -> Result<Option<Founding>, StartError> {
    let (Some(path), Some(node)) = (&arguments.cluster, arguments.node) else {
        return Ok(None);
    };
    let node = NodeId(node);
    let cluster = node::cluster_file::read(path)?;
    let joins = arguments
        .join_clients
        .clone()
        .zip(arguments.join_peers.clone());
    let Some((clients, peers)) = joins else {
        return Ok(Some(Founding { cluster, node }));
    };
    if cluster.node(node).is_some() {
        return Err(StartError::FoundsAndJoins {
            node,
            path: path.clone(),
        });
    }
    let entry = ClusterNode {
        node,
        clients,
        peers,
        cores: cores.unwrap_or(1),
    };
    let cluster = cluster.with_node(entry)?;
    Ok(Some(Founding { cluster, node }))
}
