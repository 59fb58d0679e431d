//! Why a node cannot start, in words that say what to do.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use metastore_engine::{MemoryBudgetError, NodeId};
use metastore_net::server::BindError;
use metastore_wal::LogOptionsError;
use metastore_wal::device::DeviceError;
use thiserror::Error;

use super::cluster::{ClusterError, HostPort};
use super::cluster_file::ClusterFileError;
use super::node_file::RECOVERY_PLAN_NAME;
use super::snapshot_files::SnapshotFileError;

/// Why a node cannot start.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// A file or directory of the data cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The snapshots that the log names cannot be loaded.
    #[error(transparent)]
    Snapshot(#[from] SnapshotFileError),
    /// Another process holds the data.
    #[error("{path} is locked: another metastore process uses this data directory")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The directory holds something else.
    #[error(
        "{path} is not empty and holds no {file}: choose an empty directory, or the data of a store"
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// The file that a store has.
        file: &'static str,
    },
    /// There is no store, and nobody asked for a new one.
    #[error(
        "{path} holds no store: mount the disk that does, or run `metastore format --data {path}` to make a new one (`--format if-empty` makes it when the store is started)", path = .path.display()
    )]
    Unformatted {
        /// The directory.
        path: PathBuf,
    },
    /// There is a store already.
    #[error("{path} holds a store already, and nothing was changed", path = .path.display())]
    AlreadyFormatted {
        /// The directory.
        path: PathBuf,
    },
    /// The cluster is being recovered, and this node is in the middle of it.
    #[error(
        "a recovery of the cluster was begun in {path} and is not finished: run `metastore recover --unsafe-quorum apply --data {path} --plan {path}/{RECOVERY_PLAN_NAME} --yes`", path = .path.display()
    )]
    RecoveryUnfinished {
        /// The directory.
        path: PathBuf,
    },
    /// `node.toml` cannot be read.
    #[error("{path}: {cause}")]
    NodeFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The data was written by another version.
    #[error(
        "{path} has format {found}, this program reads formats {oldest} to {newest}: use the version that wrote it, or newer"
    )]
    NodeFileFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The oldest that this program knows.
        oldest: u32,
        /// The newest that it knows.
        newest: u32,
    },
    /// A core cannot take its listening socket.
    #[error("a listening socket cannot be given to its core: {source}")]
    Listener {
        /// What the kernel says.
        source: io::Error,
    },
    /// The data belongs to another number of cores.
    #[error(
        "the data is laid out for {data} cores, but {asked} were asked for: start with cores = {data} (--cores {data})"
    )]
    CoreCount {
        /// What the data says.
        data: usize,
        /// What was asked for.
        asked: usize,
    },
    /// The data belongs to another number of shards.
    #[error(
        "the data has {data} shards, but {asked} were asked for: start with shards = {data} (--shards {data})"
    )]
    ShardCount {
        /// What the data says.
        data: usize,
        /// What was asked for.
        asked: usize,
    },
    /// The data has segments of another size.
    #[error(
        "the data has segments of {data} bytes, but {asked} were asked for: leave wal.segment_bytes (--segment-bytes) out"
    )]
    SegmentBytes {
        /// What the data says.
        data: u64,
        /// What was asked for.
        asked: u64,
    },
    /// The data was formatted with another number.
    #[error(
        "{name} is fixed when data is formatted: the data has {data}, but {asked} was asked for: leave {name} out"
    )]
    Fixed {
        /// The key.
        name: &'static str,
        /// What the data says.
        data: u64,
        /// What was asked for.
        asked: u64,
    },
    /// The budget allows more segments than a ring can have files.
    #[error(
        "the budget allows {segments} log segments, and {max} is the limit: choose a smaller wal.budget (--wal-budget), or a larger wal.segment_bytes for new data"
    )]
    SegmentCount {
        /// What the budget allows.
        segments: usize,
        /// What a ring can have.
        max: usize,
    },
    /// A number of cores or shards that cannot be.
    #[error("{name} is {actual}, it must lie between 1 and {max}")]
    Count {
        /// The option.
        name: &'static str,
        /// Its value.
        actual: usize,
        /// The largest allowed value.
        max: usize,
    },
    /// The last core's port does not exist.
    #[error("{cores} cores from port {port} on need ports above 65535: choose a lower {key}")]
    Ports {
        /// What sets the port.
        key: &'static str,
        /// The first port.
        port: u16,
        /// How many.
        cores: usize,
    },
    /// Clients cannot connect to an address that stands for all of them.
    #[error(
        "listen.address = {address} and listen.advertise = auto contradict each other: clients cannot connect to an address that stands for all of them: say which one they shall use"
    )]
    NothingToAdvertise {
        /// The address.
        address: IpAddr,
    },
    /// What clients are told of a node of a cluster is the same wherever they ask.
    #[error(
        "listen.advertise = {advertise} contradicts the data: it is that of node {node} of a cluster, where clients are told {clients}: leave listen.advertise out"
    )]
    Advertised {
        /// What was asked for.
        advertise: String,
        /// The node.
        node: NodeId,
        /// What the cluster says.
        clients: HostPort,
    },
    /// The cluster gives a name where an address is needed.
    #[error(
        "node {node} of the cluster has {entry} = \"{endpoint}\", a name and no address: say with {key} on which address to listen"
    )]
    ListenUnknown {
        /// The node.
        node: NodeId,
        /// Which entry of it.
        entry: &'static str,
        /// What that says.
        endpoint: HostPort,
        /// The key that decides instead.
        key: &'static str,
    },
    /// A node that is alone has no peers.
    #[error(
        "{key} is set, and the data is that of a node that is alone, which listens for no other nodes: leave it out"
    )]
    NoPeers {
        /// The key.
        key: &'static str,
    },
    /// Clients and other nodes are to connect to the same sockets.
    #[error(
        "{address} would be for clients and for other nodes: choose another listen.port (--port) or peers.port"
    )]
    SameSockets {
        /// The first such address.
        address: SocketAddr,
    },
    /// A core is to listen where the admin port is.
    #[error(
        "admin.listen = {address} contradicts {key}: a core listens there; the admin port is not one of a core"
    )]
    AdminSocket {
        /// The address.
        address: SocketAddr,
        /// What sets the port of the core.
        key: &'static str,
    },
    /// The file of a cluster cannot be used.
    #[error(transparent)]
    ClusterFile(#[from] ClusterFileError),
    /// The cluster has no such node.
    #[error("--node {node}: the cluster has no such node, it has {known}")]
    NotInCluster {
        /// What was asked for.
        node: NodeId,
        /// The nodes that it has.
        known: String,
    },
    /// The cluster says something else.
    #[error(
        "{name} = {asked} contradicts the file of the cluster, which says {found} for node {node}: leave {name} out"
    )]
    AgainstCluster {
        /// The key.
        name: &'static str,
        /// What was asked for.
        asked: u64,
        /// What the file says.
        found: u64,
        /// The node that is formatted.
        node: NodeId,
    },
    /// The cluster cannot be like that.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A node is to join a cluster that begins with it.
    #[error("node {node} stands in {path}, so that it does not join later: leave --join-clients and --join-peers out, or choose an id that was never used", path = .path.display())]
    FoundsAndJoins {
        /// The node.
        node: NodeId,
        /// The file of the cluster.
        path: PathBuf,
    },
    /// A node that is alone is asked to know others.
    #[error("{path} is the data of a node that is alone: it has no cluster that others could join", path = .path.display())]
    Alone {
        /// The data.
        path: PathBuf,
    },
    /// More cores than processors.
    #[error(
        "{cores} cores need as many processors, and there are {cpus} to use: allow more (cpus, --cpus), or format the data for fewer cores"
    )]
    TooFewCpus {
        /// How many cores.
        cores: usize,
        /// How many processors.
        cpus: usize,
    },
    /// The admin port cannot be listened on.
    #[error("admin.listen {address} cannot be used: {source}; choose another one, or \"off\"")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// A list of processors that is none.
    #[error("{list} is not a list of processors; write it like 0-3,8")]
    CpuList {
        /// What was given.
        list: String,
    },
    /// A processor that this process may not use.
    #[error("processor {cpu} is not among those that this process may use: {allowed:?}")]
    CpuNotAllowed {
        /// The processor.
        cpu: usize,
        /// Those that are.
        allowed: Vec<usize>,
    },
    /// A port cannot be listened on.
    #[error(
        "{0}; is another store running there? choose another listen.port (--port), or peers.port where it is for other nodes"
    )]
    Bind(#[from] BindError),
    /// The kernel or the disk lacks what the log needs.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The log's limits contradict each other.
    #[error(transparent)]
    Log(#[from] LogOptionsError),
    /// The executor of a core cannot be made.
    #[error("core {core}: the executor cannot be made: {cause}")]
    Executor {
        /// The core.
        core: u16,
        /// What glommio says.
        cause: String,
    },
    /// A core's log cannot be recovered.
    #[error("core {core} cannot start: {cause}\nrun `metastore wal verify --data {}` to see what the log holds", .data.display())]
    Recovery {
        /// The core.
        core: u16,
        /// The data directory.
        data: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The memory budget cannot work.
    #[error("{0}: choose a larger --memory-budget, or fewer shards for new data")]
    Memory(#[from] MemoryBudgetError),
    /// How many files may be open cannot be found out or raised.
    #[error("RLIMIT_NOFILE: {0}")]
    OpenFiles(io::Error),
    /// More connections than descriptors.
    #[error(
        "{connections} connections to each core need {needed} open files, and RLIMIT_NOFILE allows {limit}: raise it (ulimit -n, LimitNOFILE=) or choose fewer with --connections-max"
    )]
    Descriptors {
        /// Connections of a core.
        connections: usize,
        /// Descriptors in all.
        needed: u64,
        /// What the process may open.
        limit: u64,
    },
    /// A core ended before it was ready.
    #[error("core {core} ended before it was ready")]
    CoreEnded {
        /// The core.
        core: u16,
    },
}

impl StartError {
    /// Whether the command line asked for what cannot be, rather than something being in the way.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            StartError::CoreCount { .. }
            | StartError::ShardCount { .. }
            | StartError::SegmentBytes { .. }
            | StartError::SegmentCount { .. }
            | StartError::Count { .. }
            | StartError::Ports { .. }
            | StartError::NothingToAdvertise { .. }
            | StartError::Advertised { .. }
            | StartError::ListenUnknown { .. }
            | StartError::NoPeers { .. }
            | StartError::SameSockets { .. }
            | StartError::AdminSocket { .. }
            | StartError::ClusterFile(_)
            | StartError::NotInCluster { .. }
            | StartError::AgainstCluster { .. }
            | StartError::CpuList { .. }
            | StartError::CpuNotAllowed { .. }
            | StartError::Memory(_)
            | StartError::TooFewCpus { .. }
            | StartError::Fixed { .. }
            | StartError::Cluster(_)
            | StartError::Alone { .. }
            | StartError::FoundsAndJoins { .. }
            | StartError::Log(_) => true,
            StartError::File { .. }
            | StartError::Locked { .. }
            | StartError::NotOurs { .. }
            | StartError::Unformatted { .. }
            | StartError::AlreadyFormatted { .. }
            | StartError::RecoveryUnfinished { .. }
            | StartError::Admin { .. }
            | StartError::NodeFile { .. }
            | StartError::NodeFileFormat { .. }
            | StartError::Bind(_)
            | StartError::Listener { .. }
            | StartError::Device(_)
            | StartError::OpenFiles(_)
            | StartError::Descriptors { .. }
            | StartError::Executor { .. }
            | StartError::Recovery { .. }
            | StartError::Snapshot(_)
            | StartError::CoreEnded { .. } => false,
        }
    }
}
