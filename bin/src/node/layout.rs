//! What a store shall look like, and whether that can work: decided before anything is written.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use metastore_engine::{ClusterId, CoreId, Identity, Member, NodeId, PeerCore, SLOT_COUNT};
use metastore_wal::{LogOptions, SealKey};

use super::cluster::{CORES_MAX, Cluster, ClusterNode, HostPort};
use super::node_file::{HistoryBounds, NodeFile};
use super::{Founding, ListenOptions, NodeOptions, Oversubscription, PeersOptions, StartError};

const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
const RECORD_BYTES_MAX: usize = 4 << 20;
/// The kernel takes a table of 2^20 files for a ring, which has a few others besides segments.
const SEGMENTS_MAX: usize = 1_000_000;

/// What is fixed when a data directory is formatted, from options that fit each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) cores: usize,
    pub(super) shards: usize,
    pub(super) segment_bytes: u64,
    pub(super) record_bytes_max: usize,
    pub(super) history: HistoryBounds,
}

impl Layout {
    /// What new data would look like on `cpus` processors. A format that the next step refuses could never be
    /// corrected, because later starts are held to it: so everything that depends on it is checked here.
    pub(super) fn choose(options: &NodeOptions, cpus: usize) -> Result<Layout, StartError> {
        let (cores, shards, history) = match &options.founding {
            None => {
                let cores = options.cores.unwrap_or(cpus);
                let shards = options.shards.unwrap_or(cores);
                (cores, shards, options.history.bounds())
            }
            Some(founding) => founding.fixed(options)?,
        };
        let layout = Layout {
            cores,
            shards,
            segment_bytes: options.wal.segment_bytes.unwrap_or(SEGMENT_BYTES_DEFAULT),
            record_bytes_max: options.wal.record_bytes_max.unwrap_or(RECORD_BYTES_MAX),
            history,
        };
        for (name, actual, max) in [
            ("cores", layout.cores, CORES_MAX),
            ("shards", layout.shards, SLOT_COUNT),
        ] {
            if actual == 0 || actual > max {
                return Err(StartError::Count { name, actual, max });
            }
        }
        let entry = options.founding.as_ref().map(Founding::entry).transpose()?;
        let clients = client_addresses(&options.listen, entry, layout.cores)?;
        let peers = addresses_of_peers(&options.peers, entry, &clients)?;
        check_admin(options, &clients, "listen.port (--port)")?;
        check_admin(options, &peers, "peers.port")?;
        check_cpus(options, layout.cores, cpus)?;
        // The limits do not depend on whose log it is, and that is not known yet.
        let nobody = Identity {
            cluster: ClusterId(0),
            node: NodeId(0),
            core: CoreId(0),
        };
        log_options(
            options,
            layout.segment_bytes,
            layout.record_bytes_max,
            (nobody, SealKey(0)),
        )?;
        Ok(layout)
    }
}

/// Refuses more cores than processors unless they may take turns.
pub(super) fn check_cpus(
    options: &NodeOptions,
    cores: usize,
    cpus: usize,
) -> Result<(), StartError> {
    match options.oversubscription {
        Oversubscription::Refuse if cores > cpus => Err(StartError::TooFewCpus { cores, cpus }),
        Oversubscription::Refuse | Oversubscription::Warn => Ok(()),
    }
}

/// The limits of a core's log.
pub(super) fn log_options(
    options: &NodeOptions,
    segment_bytes: u64,
    record_bytes_max: usize,
    (identity, seal): (Identity, SealKey),
) -> Result<LogOptions, StartError> {
    let log = LogOptions {
        segment_bytes,
        record_bytes_max,
        budget_bytes: options.wal.budget_bytes,
        spare_segments: options.wal.spare_segments,
        writes_in_flight_max: options.wal.writes_in_flight_max,
        ..LogOptions::new(identity, seal)
    };
    log.validate()?;
    let segments = log.segments_max();
    if segments > SEGMENTS_MAX {
        return Err(StartError::SegmentCount {
            segments,
            max: SEGMENTS_MAX,
        });
    }
    Ok(log)
}

impl Founding {
    /// What the cluster says of the node.
    pub(super) fn entry(&self) -> Result<&ClusterNode, StartError> {
        let unknown = || StartError::NotInCluster {
            node: self.node,
            known: describe_nodes(&self.cluster.nodes),
        };
        self.cluster.node(self.node).ok_or_else(unknown)
    }

    /// Cores, shards and history of the node, which are not for its own options to decide.
    fn fixed(&self, options: &NodeOptions) -> Result<(usize, usize, HistoryBounds), StartError> {
        let entry = self.entry()?;
        let (cores, shards) = (entry.cores, self.cluster.members.len());
        let (history, asked) = (self.cluster.history, &options.history);
        let wide = |number: usize| number as u64;
        for (name, asked, found) in [
            ("cores (--cores)", options.cores.map(wide), wide(cores)),
            ("shards (--shards)", options.shards.map(wide), wide(shards)),
            (
                "history.max_revisions",
                asked.revisions_max,
                history.revisions_max,
            ),
            (
                "history.max_age in milliseconds",
                asked.age_ms_max,
                history.age_ms_max,
            ),
            ("history.max_bytes", asked.bytes_max, history.bytes_max),
        ] {
            if let Some(asked) = asked.filter(|&asked| asked != found) {
                return Err(StartError::AgainstCluster {
                    name,
                    asked,
                    found,
                    node: self.node,
                });
            }
        }
        Ok((cores, shards, history))
    }
}

fn describe_nodes(nodes: &[ClusterNode]) -> String {
    const SHOWN_MAX: usize = 16;
    let ids: Vec<String> = nodes
        .iter()
        .take(SHOWN_MAX)
        .map(|node| node.node.to_string())
        .collect();
    match nodes.len() > SHOWN_MAX {
        true => format!("{}, ...", ids.join(", ")),
        false => ids.join(", "),
    }
}

/// Where the cores listen for clients.
pub(super) fn addresses(
    options: &NodeOptions,
    node: &NodeFile,
) -> Result<Vec<SocketAddr>, StartError> {
    let clients = client_addresses(&options.listen, node.entry(), node.cores)?;
    check_admin(options, &clients, "listen.port (--port)")?;
    Ok(clients)
}

/// Where the cores listen for other nodes; nowhere when the node is alone.
pub(super) fn peer_addresses(
    options: &NodeOptions,
    node: &NodeFile,
) -> Result<Vec<SocketAddr>, StartError> {
    let clients = addresses(options, node)?;
    let peers = addresses_of_peers(&options.peers, node.entry(), &clients)?;
    check_admin(options, &peers, "peers.port")?;
    Ok(peers)
}

/// Refuses cores that would listen where the admin port is.
fn check_admin(
    options: &NodeOptions,
    addresses: &[SocketAddr],
    key: &'static str,
) -> Result<(), StartError> {
    match options.admin {
        Some(admin) if addresses.iter().any(|address| is_same(address, &admin)) => {
            Err(StartError::AdminSocket {
                address: admin,
                key,
            })
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether two sockets cannot be listened on at one time.
fn is_same(one: &SocketAddr, other: &SocketAddr) -> bool {
    let overlap =
        one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && overlap
}

fn client_addresses(
    listen: &ListenOptions,
    entry: Option<&ClusterNode>,
    cores: usize,
) -> Result<Vec<SocketAddr>, StartError> {
    let first = match entry {
        Some(entry) => {
            if let Some(advertise) = &listen.advertise {
                return Err(StartError::Advertised {
                    advertise: advertise.clone(),
                    node: entry.node,
                    clients: entry.clients.clone(),
                });
            }
            let own = entry.clients.address();
            let address = listen
                .address
                .or(own)
                .ok_or_else(|| StartError::ListenUnknown {
                    node: entry.node,
                    entry: "clients",
                    endpoint: entry.clients.clone(),
                    key: "listen.address (--listen)",
                })?;
            SocketAddr::new(address, listen.port.unwrap_or(entry.clients.port))
        }
        None => {
            let first = listen.alone();
            if first.ip().is_unspecified() && listen.advertise.is_none() {
                let address = first.ip();
                return Err(StartError::NothingToAdvertise { address });
            }
            first
        }
    };
    of_cores(first, cores, "listen.port (--port)")
}

/// Where the cores listen for other nodes that listen at `clients` for those.
fn addresses_of_peers(
    peers: &PeersOptions,
    entry: Option<&ClusterNode>,
    clients: &[SocketAddr],
) -> Result<Vec<SocketAddr>, StartError> {
    let Some(entry) = entry else {
        let address = peers.address.map(|_| "peers.address");
        return match address.or(peers.port.map(|_| "peers.port")) {
            Some(key) => Err(StartError::NoPeers { key }),
            None => Ok(Vec::new()),
        };
    };
    let own = entry.peers.address();
    let address = peers
        .address
        .or(own)
        .ok_or_else(|| StartError::ListenUnknown {
            node: entry.node,
            entry: "peers",
            endpoint: entry.peers.clone(),
            key: "peers.address",
        })?;
    let first = SocketAddr::new(address, peers.port.unwrap_or(entry.peers.port));
    let addresses = of_cores(first, entry.cores, "peers.port")?;
    let taken = addresses
        .iter()
        .find(|address| clients.iter().any(|client| is_same(client, address)));
    match taken {
        Some(&address) => Err(StartError::SameSockets { address }),
        None => Ok(addresses),
    }
}

/// The addresses of so many cores from that of core 0 on.
fn of_cores(
    first: SocketAddr,
    cores: usize,
    key: &'static str,
) -> Result<Vec<SocketAddr>, StartError> {
    let port = first.port();
    (0..cores)
        .map(|core| {
            let port = u16::try_from(core)
                .ok()
                .and_then(|core| port.checked_add(core));
            port.map(|port| SocketAddr::new(first.ip(), port))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or(StartError::Ports { key, port, cores })
}

/// The cluster that a node is part of. A node that is alone is one of its own, and listens for nobody.
pub(super) fn cluster(options: &NodeOptions, node: &NodeFile) -> Cluster {
    if let Some(plan) = &node.cluster_plan {
        return plan.clone();
    }
    let clients = HostPort {
        host: options.listen.advertised_host(),
        port: options.listen.alone().port(),
    };
    let alone = ClusterNode {
        node: node.node,
        peers: clients.clone(),
        clients,
        cores: node.cores,
    };
    let members = node.replicas.iter().map(|place| {
        let home = PeerCore {
            node: node.node,
            core: place.core,
        };
        let replica = place.replica;
        (place.shard, vec![Member { replica, home }])
    });
    Cluster {
        id: node.cluster,
        history: node.history,
        nodes: vec![alone],
        gone: BTreeSet::new(),
        members: members.collect(),
        recoveries: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
