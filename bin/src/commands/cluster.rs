//! `metastore cluster`: the file of a cluster that is to begin.

use std::io::Write;

use metastore_engine::{ClusterId, NodeId};

use super::{CommandError, Exit, tell};
use crate::arguments::{ClusterCommand, ClusterNewArguments};
use crate::node::cluster::{ClusterError, ClusterNode, HostPort, NewCluster};
use crate::node::node_file::HistoryBounds;
use crate::node::{cluster_file, random_u128};

/// Why there can be no such cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewClusterError {
    /// A port for other nodes does not exist.
    #[error(
        "--peer-port-offset {offset}: the port for other nodes of --node {clients} would be above 65535"
    )]
    PeerPort {
        /// What was given.
        offset: u16,
        /// The node.
        clients: HostPort,
    },
    /// What was given does not go together.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

pub(super) fn run(command: &ClusterCommand, out: &mut dyn Write) -> Result<Exit, CommandError> {
    match command {
        ClusterCommand::New(arguments) => new(arguments, out),
    }
}

fn new(arguments: &ClusterNewArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let cluster = new_cluster(arguments, ClusterId(random_u128()?))?;
    // What cannot be formatted is not printed.
    cluster.clone().place().map_err(NewClusterError::Cluster)?;
    let replicas = cluster.replicas();
    if replicas.is_multiple_of(2) {
        tell(&format_args!(
            "warning: of {replicas} replicas no more may be lost than of {}: an odd number is better",
            replicas - 1
        ));
    }
    out.write_all(cluster_file::to_text(&cluster).as_bytes())
        .map_err(CommandError::Output)?;
    Ok(Exit::Done)
}

fn new_cluster(
    arguments: &ClusterNewArguments,
    id: ClusterId,
) -> Result<NewCluster, NewClusterError> {
    let nodes = arguments.nodes.iter().zip(1..).map(|(clients, id)| {
        let offset = arguments.peer_port_offset;
        let port = clients.port.checked_add(offset);
        let port = port.ok_or_else(|| NewClusterError::PeerPort {
            offset,
            clients: clients.clone(),
        })?;
        Ok(ClusterNode {
            node: NodeId(id),
            clients: clients.clone(),
            peers: HostPort {
                host: clients.host.clone(),
                port,
            },
            cores: arguments.cores,
        })
    });
    Ok(NewCluster {
        id,
        history: HistoryBounds::default(),
        nodes: nodes.collect::<Result<_, NewClusterError>>()?,
        shards: arguments.shards,
        replicas: arguments.replicas,
        recoveries: Vec::new(),
    })
}
