//! The data of all nodes of a cluster on this machine: made once, checked ever after.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use metastore_engine::{ClusterId, NodeId};

use super::super::error::exit_of_start;
use super::Exit;
use crate::node::cluster::{
    Cluster, ClusterError, ClusterNode, HostPort, HostPortError, NewCluster,
};
use crate::node::node_file::{NodeFile, NodeState, write_whole};
use crate::node::{
    self, FormatPolicy, Founding, ListenOptions, NodeOptions, StartError, cluster_file, random_u128,
};

/// How far above the ports for clients those for other nodes begin.
const PEER_PORT_OFFSET: u16 = 1_000;
/// The file that all nodes share.
const FILE_NAME: &str = "cluster.toml";
/// What an interrupted start may leave behind.
const OURS: [&str; 2] = ["cluster.toml.new", "lost+found"];

/// Why a cluster cannot be run here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevClusterError {
    /// Each node would need a value of its own.
    #[error("{key} would be the same for every node: leave it out, or run the nodes by themselves")]
    NotForAll {
        /// The key.
        key: &'static str,
    },
    /// There are not enough ports.
    #[error(
        "{nodes} nodes of {cores} cores from port {port} on do not fit: they may take {PEER_PORT_OFFSET} ports, and as many again {PEER_PORT_OFFSET} above, the last one at most 65535"
    )]
    Ports {
        /// How many nodes.
        nodes: usize,
        /// Cores of each.
        cores: usize,
        /// The first port.
        port: u16,
    },
    /// There are not enough ports for the admin's.
    #[error("admin.listen {first}: {nodes} nodes from there on need ports above 65535")]
    AdminPort {
        /// That of the first node.
        first: SocketAddr,
        /// How many nodes.
        nodes: usize,
    },
    /// Clients cannot connect there.
    #[error("listen.address (--listen): {0}")]
    Address(#[from] HostPortError),
    /// There can be no such cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The data is that of another cluster than was asked for.
    #[error(
        "{path} describes a cluster with {name} = {found}, and {asked} was asked for: ask for what it has, or choose another --data", path = .path.display()
    )]
    Other {
        /// The file of the cluster.
        path: PathBuf,
        /// What is different.
        name: &'static str,
        /// What the file says.
        found: String,
        /// What was asked for.
        asked: String,
    },
    /// The data of a node is not what the file of the cluster says.
    #[error(
        "{path} is not the data of node {node} of the cluster that {FILE_NAME} beside it describes", path = .path.display()
    )]
    Stranger {
        /// The data.
        path: PathBuf,
        /// Whose it should be.
        node: NodeId,
    },
    /// Replicas that are gone cannot come back empty: they would vote again as if they had never voted.
    #[error(
        "{path} holds no data, and other nodes of the cluster have served: put it back, or choose another --data", path = .path.display()
    )]
    Lost {
        /// Where the data should be.
        path: PathBuf,
    },
    /// The data of a node cannot be made or read.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A process cannot be started.
    #[error("a node cannot be started: {source}")]
    Process {
        /// What the kernel says.
        source: io::Error,
    },
}

impl DevClusterError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            DevClusterError::NotForAll { .. }
            | DevClusterError::Ports { .. }
            | DevClusterError::AdminPort { .. }
            | DevClusterError::Address(_)
            | DevClusterError::Cluster(_)
            | DevClusterError::Other { .. } => Exit::Usage,
            DevClusterError::Start(error) => exit_of_start(error),
            DevClusterError::Stranger { .. }
            | DevClusterError::Lost { .. }
            | DevClusterError::Process { .. } => Exit::Unavailable,
        }
    }
}

/// A cluster that can be run.
#[derive(Debug)]
pub(super) struct ClusterData {
    pub(super) path: PathBuf,
    pub(super) cluster: Cluster,
    /// In the order of the nodes.
    pub(super) nodes: Vec<NodeData>,
}

/// A node of it.
#[derive(Debug)]
pub(super) struct NodeData {
    pub(super) path: PathBuf,
    pub(super) file: NodeFile,
}

/// Makes what is not there, and checks what is.
pub(super) fn open(options: &NodeOptions, nodes: usize) -> Result<ClusterData, DevClusterError> {
    let path = &options.data;
    let file = path.join(FILE_NAME);
    let may_make = || match options.format {
        FormatPolicy::Never => Err(StartError::Unformatted { path: path.clone() }),
        FormatPolicy::IfEmpty | FormatPolicy::Anew => Ok(()),
    };
    if !file.exists() {
        may_make()?;
        node::refuse_strange(path, FILE_NAME, &OURS)?;
        let new = new_cluster(options, nodes, ClusterId(random_u128()?))?;
        // What cannot be is not written.
        new.clone().place()?;
        node::make_durable_directory(path)?;
        write_whole(path, FILE_NAME, &cluster_file::to_text(&new))?;
    }
    let cluster = cluster_file::read(&file).map_err(StartError::from)?;
    check(&cluster, options, nodes, &file)?;
    let mut found = Vec::new();
    for entry in &cluster.nodes {
        let path = path.join(format!("node-{}", entry.node));
        let file = NodeFile::read(&path)?;
        let is_ours = |file: &NodeFile| {
            file.node == entry.node && file.cluster_plan.as_ref() == Some(&cluster)
        };
        if file.as_ref().is_some_and(|file| !is_ours(file)) {
            let node = entry.node;
            return Err(DevClusterError::Stranger { path, node });
        }
        found.push((entry.node, path, file));
    }
    let has_served = found
        .iter()
        .filter_map(|(_, _, file)| file.as_ref())
        .any(|file| file.state == NodeState::Serving);
    let mut nodes = Vec::new();
    let mut formatting = options_of_nodes(options);
    for (node, path, file) in found {
        let file = match file {
            Some(file) => file,
            None if has_served => return Err(DevClusterError::Lost { path }),
            None => {
                may_make()?;
                format(&formatting, (&cluster, node), &path)?
            }
        };
        // They are on one disk, which need not be measured again.
        formatting.wal.flush_method = Some(file.flush_method);
        nodes.push(NodeData { path, file });
    }
    Ok(ClusterData {
        path: path.clone(),
        cluster,
        nodes,
    })
}

/// What is asked for, so that every node can be formatted with it.
fn options_of_nodes(options: &NodeOptions) -> NodeOptions {
    NodeOptions {
        format: FormatPolicy::Anew,
        listen: ListenOptions {
            address: None,
            port: None,
            ..options.listen.clone()
        },
        cores: None,
        shards: None,
        ..options.clone()
    }
}

fn format(
    options: &NodeOptions,
    (cluster, node): (&Cluster, NodeId),
    path: &Path,
) -> Result<NodeFile, StartError> {
    node::format(&NodeOptions {
        data: path.to_owned(),
        founding: Some(Founding {
            cluster: cluster.clone(),
            node,
        }),
        ..options.clone()
    })
}

/// A cluster of nodes on this machine whose ports follow each other.
fn new_cluster(
    options: &NodeOptions,
    nodes: usize,
    id: ClusterId,
) -> Result<NewCluster, DevClusterError> {
    let cores = options.cores.unwrap_or(1);
    let first = options.listen.alone();
    let misfit = || DevClusterError::Ports {
        nodes,
        cores,
        port: first.port(),
    };
    // The cores of a cluster are counted where it is placed; here only those matter that fit.
    let all = nodes.saturating_mul(cores);
    let ports = u16::try_from(all)
        .ok()
        .filter(|&all| all <= PEER_PORT_OFFSET);
    let ports = ports.ok_or_else(misfit)?;
    let last = first
        .port()
        .checked_add(PEER_PORT_OFFSET)
        .and_then(|port| port.checked_add(ports.saturating_sub(1)));
    last.ok_or_else(misfit)?;
    let endpoint = |offset: usize| {
        let offset = u16::try_from(offset).expect("all ports fit");
        let address = SocketAddr::new(first.ip(), first.port() + offset);
        address.to_string().parse::<HostPort>()
    };
    let entries = (0..nodes).map(|place| {
        Ok(ClusterNode {
            node: NodeId(u32::try_from(place).expect("few nodes") + 1),
            clients: endpoint(place * cores)?,
            peers: endpoint(usize::from(PEER_PORT_OFFSET) + place * cores)?,
            cores,
        })
    });
    Ok(NewCluster {
        id,
        history: options.history.bounds(),
        nodes: entries.collect::<Result<_, HostPortError>>()?,
        shards: options.shards,
        replicas: None,
        recoveries: Vec::new(),
    })
}

/// Checks that the cluster is the one that was asked for.
fn check(
    cluster: &Cluster,
    options: &NodeOptions,
    nodes: usize,
    path: &Path,
) -> Result<(), DevClusterError> {
    let other = |name, found: String, asked: String| match found == asked {
        true => Ok(()),
        false => Err(DevClusterError::Other {
            path: path.to_owned(),
            name,
            found,
            asked,
        }),
    };
    let text = |number: usize| number.to_string();
    other("nodes", text(cluster.nodes.len()), text(nodes))?;
    if let Some(asked) = options.shards {
        other("shards", text(cluster.members.len()), text(asked))?;
    }
    for node in &cluster.nodes {
        if let Some(asked) = options.cores {
            other("cores", text(node.cores), text(asked))?;
        }
        if let Some(asked) = options.listen.address {
            other("clients", node.clients.host.clone(), asked.to_string())?;
        }
    }
    let (history, asked) = (cluster.history, &options.history);
    for (name, found, asked) in [
        (
            "history.max_revisions",
            history.revisions_max,
            asked.revisions_max,
        ),
        (
            "history.max_age in milliseconds",
            history.age_ms_max,
            asked.age_ms_max,
        ),
        ("history.max_bytes", history.bytes_max, asked.bytes_max),
    ] {
        if let Some(asked) = asked {
            other(name, found.to_string(), asked.to_string())?;
        }
    }
    if let Some(asked) = options.listen.port {
        let first = cluster.nodes[0].clients.port;
        other("the first port", first.to_string(), asked.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Configuration, Sources};
    use crate::node::Oversubscription;

    fn options() -> NodeOptions {
        let configuration = Configuration::load(&Sources::default()).expect("defaults are allowed");
        configuration.node_options(Oversubscription::Warn)
    }

    fn new(options: &NodeOptions, nodes: usize) -> Result<Cluster, DevClusterError> {
        let new = new_cluster(options, nodes, ClusterId(7))?;
        Ok(new.place()?)
    }

    #[test]
    fn the_ports_of_the_nodes_follow_each_other() {
        let mut options = options();
        let shown = |options: &NodeOptions, nodes| -> Vec<String> {
            let cluster = new(options, nodes).expect("it can be");
            let shown = |node: &ClusterNode| format!("{} {}", node.clients, node.peers);
            cluster.nodes.iter().map(shown).collect()
        };
        assert_eq!(
            shown(&options, 3),
            [
                "127.0.0.1:7400 127.0.0.1:8400",
                "127.0.0.1:7401 127.0.0.1:8401",
                "127.0.0.1:7402 127.0.0.1:8402",
            ]
        );
        options.cores = Some(4);
        options.listen.address = "::1".parse().ok();
        options.listen.port = Some(20_000);
        assert_eq!(
            shown(&options, 2),
            ["[::1]:20000 [::1]:21000", "[::1]:20004 [::1]:21004"]
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refusal = |cores, port, nodes| {
            let mut options = options();
            (options.cores, options.listen.port) = (cores, port);
            match new(&options, nodes) {
                Ok(_) => "fits".to_owned(),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(refusal(Some(500), None, 2), "fits");
        assert!(
            refusal(Some(501), None, 2)
                .contains("2 nodes of 501 cores from port 7400 on do not fit")
        );
        assert_eq!(refusal(None, Some(64_533), 3), "fits");
        assert!(refusal(None, Some(64_534), 3).contains("from port 64534 on do not fit"));
        let mut options = options();
        options.listen.address = "0.0.0.0".parse().ok();
        let error = new(&options, 3).expect_err("nobody can connect there");
        assert!(
            error.to_string().contains("others can connect to"),
            "{error}"
        );
    }
}
