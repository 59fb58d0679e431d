//! How a node is started.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use metastore_engine::{NodeId, Settings};
use metastore_net::server::ServerOptions;
use metastore_wal::device::{Fault, FlushMethod};

use super::cluster::Cluster;
use super::node_file::HistoryBounds;

/// How a node is started. What is fixed when data is formatted is `None` where nobody asks for anything: then the data
/// decides, and the defaults for new data.
#[derive(Debug, Clone)]
pub(crate) struct NodeOptions {
    pub(crate) data: PathBuf,
    pub(crate) format: FormatPolicy,
    /// The node that new data becomes; `None` for one that is alone.
    pub(crate) founding: Option<Founding>,
    pub(crate) listen: ListenOptions,
    pub(crate) peers: PeersOptions,
    pub(crate) cores: Option<usize>,
    pub(crate) shards: Option<usize>,
    pub(crate) cpus: Option<String>,
    pub(crate) oversubscription: Oversubscription,
    pub(crate) wal: WalOptions,
    /// What must be free on the disk for anything but deletes; `None` for a share of the disk.
    pub(crate) disk_low_bytes: Option<u64>,
    /// Bytes a second that the snapshots of a core take of the disk.
    pub(crate) snapshot_bytes_per_second_max: u64,
    pub(crate) history: HistoryOptions,
    pub(crate) settings: Settings,
    pub(crate) server: ServerOptions,
    /// What the node may use; half of the machine's memory when `None`.
    pub(crate) memory_budget_bytes: Option<u64>,
    /// Of each core; as many as the descriptors allow when `None`.
    pub(crate) connections_max: Option<usize>,
    /// Where metrics and health are answered.
    pub(crate) admin: Option<SocketAddr>,
    /// For tests: what the disk of each core's log does wrong.
    pub(crate) fault: Option<Fault>,
}

/// What happens to a directory that holds no store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormatPolicy {
    /// It is refused: the disk may not be mounted.
    Never,
    /// It is formatted if it is empty.
    IfEmpty,
    /// The same, and a directory that holds a store is refused.
    Anew,
}

/// What happens with more cores than processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oversubscription {
    Refuse,
    Warn,
}

/// A node of a cluster that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Founding {
    pub(crate) cluster: Cluster,
    pub(crate) node: NodeId,
}

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenOptions {
    /// What somebody asked for.
    pub(crate) address: Option<IpAddr>,
    /// Core `i` listens on `port + i`; what somebody asked for.
    pub(crate) port: Option<u16>,
    /// Where a node listens that is alone and was not told where.
    pub(crate) usual: SocketAddr,
    /// What clients are told instead of the address.
    pub(crate) advertise: Option<String>,
}

impl ListenOptions {
    /// Where core 0 of a node listens that is alone.
    pub(crate) fn alone(&self) -> SocketAddr {
        SocketAddr::new(
            self.address.unwrap_or(self.usual.ip()),
            self.port.unwrap_or(self.usual.port()),
        )
    }

    /// Under which name or address clients are told to find a node that is alone.
    pub(crate) fn advertised_host(&self) -> String {
        let host = self.advertise.clone();
        host.unwrap_or_else(|| self.alone().ip().to_string())
    }
}

/// Where other nodes connect. `None`: the node's entry in its cluster decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PeersOptions {
    pub(crate) address: Option<IpAddr>,
    /// Core `i` listens on `port + i`.
    pub(crate) port: Option<u16>,
}

/// The log of each core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WalOptions {
    /// Fixed when data is formatted.
    pub(crate) segment_bytes: Option<u64>,
    /// Fixed when data is formatted.
    pub(crate) record_bytes_max: Option<usize>,
    pub(crate) budget_bytes: u64,
    pub(crate) spare_segments: usize,
    pub(crate) writes_in_flight_max: usize,
    /// How long a core waits in place for the write of its only client; zero for never.
    pub(crate) wait_max: Duration,
    /// `None`: what was measured when the data was formatted.
    pub(crate) flush_method: Option<FlushMethod>,
}

/// How far back reads can go, fixed when data is formatted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HistoryOptions {
    pub(crate) revisions_max: Option<u64>,
    pub(crate) age_ms_max: Option<u64>,
    pub(crate) bytes_max: Option<u64>,
}

impl HistoryOptions {
    /// The bounds of new data.
    pub(crate) fn bounds(&self) -> HistoryBounds {
        let default = HistoryBounds::default();
        HistoryBounds {
            revisions_max: self.revisions_max.unwrap_or(default.revisions_max),
            age_ms_max: self.age_ms_max.unwrap_or(default.age_ms_max),
            bytes_max: self.bytes_max.unwrap_or(default.bytes_max),
        }
    }
}
