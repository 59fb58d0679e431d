//! A node: its data directory, its cores and their life from start to stop.

mod acquaintance;
mod blocking;
mod board;
mod clock;
pub(crate) mod cluster;
pub(crate) mod cluster_file;
mod core_thread;
pub(crate) mod cpus;
mod data;
mod disk_space;
mod driver;
mod error;
mod event;
mod halt;
mod keeper;
mod layout;
mod limits;
mod log_files;
mod memory;
mod mesh;
pub(crate) mod node_file;
mod options;
mod outgoing;
mod phase;
mod places;
mod pulse;
pub(crate) mod snapshot_files;
mod snapshot_writer;
mod stop;
mod wire;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use glommio::{Latency, LocalExecutorBuilder, Placement, PoolPlacement, Shares};
use metastore_engine::{
    BootNonce, CoreConfig, CoreId, Identity, LogHistory, MemoryPool, Namespaces, ShardLocation,
    ShardMap,
};
use metastore_net::HelloInfo;
use metastore_net::peer::{self as net_peer, LocalPeer};
use metastore_net::server::{BindError, bind};
use metastore_wal::device::{FlushMethod, probe_io_uring};

use self::acquaintance::Acquaintance;
use self::blocking::BLOCKING_THREADS;
pub(crate) use self::board::{Board, CoreNumbers, Phase};
use self::clock::Clock;
use self::cluster::Cluster;
use self::core_thread::{CoreReport, CoreSetup};
pub(crate) use self::cpus::parse_list as parse_cpu_list;
pub(crate) use self::data::{
    DataDirectory, NodeLock, lock_path as data_lock_path, log_directory, make_durable_directory,
    random_u128, refuse_strange,
};
use self::disk_space::DiskWatch;
use self::driver::PeersSetup;
pub(crate) use self::error::StartError;
pub(crate) use self::limits::budget_bytes_beside;
use self::limits::{NodeLimits, NodeSize};
pub(crate) use self::log_files::LogFiles;
use self::mesh::MeshEnds;
use self::node_file::{NodeFile, NodeState};
pub(crate) use self::options::{
    FormatPolicy, Founding, HistoryOptions, ListenOptions, NodeOptions, Oversubscription,
    PeersOptions, WalOptions,
};
use self::phase::NodePhase;
use self::places::Places;
use self::pulse::{Beat, Pulse};
pub(crate) use self::stop::StopOutcome;

use crate::admin;

/// How long a port may take to become free after the process that had it was killed.
const PORT_RELEASE_LIMIT: Duration = Duration::from_secs(2);
const PORT_POLL: Duration = Duration::from_millis(20);
/// Bytes of glommio's own registered memory for each core: the log has a ring of its own, so this stays unused.
const EXECUTOR_IO_MEMORY_BYTES: usize = 64 << 10;
/// After this a busy core looks for events even where none has come that would have made it. An executor that finds this
/// time over before it ran anything goes to sleep over its tasks (see `pulse`), so that it must be longer than a machine
/// usually keeps a thread waiting.
const CORE_LATENCY: Duration = Duration::from_millis(50);
/// A core that has not ended this long after it was told to stop is left behind.
const STOP_LIMIT: Duration = Duration::from_millis(4_900);

/// Where the main thread hears from the cores.
type Reports = mpsc::Receiver<(u16, Result<CoreReport, StartError>)>;

/// A node whose cores answer.
pub(crate) struct RunningNode {
    phase: NodePhase,
    /// How the cores stopped; disconnected when all have ended.
    stops: mpsc::Receiver<StopOutcome>,
    /// Held so that no other process uses the data.
    data: DataDirectory,
    pub(crate) summary: NodeSummary,
}

/// What an operator wants to know once the node runs.
#[derive(Debug, Clone)]
pub(crate) struct NodeSummary {
    pub(crate) data: PathBuf,
    pub(crate) cluster: u128,
    pub(crate) flush_method: &'static str,
    pub(crate) shards: usize,
    /// Each core's address and processor.
    pub(crate) cores: Vec<(SocketAddr, usize)>,
    /// Where core 0 listens for other nodes; `None` for a node alone.
    pub(crate) peers: Option<SocketAddr>,
    pub(crate) warnings: Vec<String>,
}

/// A node whose cores could answer, and answer nobody yet.
pub(crate) struct ReadyNode(RunningNode);

/// Starts a node and waits until every core could answer.
///
/// # Errors
/// Whatever keeps it from starting. Threads of cores that could start may live on: the process is meant to end.
pub(crate) fn start(options: &NodeOptions) -> Result<ReadyNode, StartError> {
    probe_io_uring()?;
    let allowed = cpus::allowed()?;
    let cpus = choose_cpus(options, &allowed)?;
    let data = DataDirectory::open(options, cpus.len())?;
    let node = data.node();
    let cores = node.cores;
    layout::check_cpus(options, cores, cpus.len())?;
    halt::halt_on_panic();
    let (clock, phase) = (Clock::start(), NodePhase::new(cores));
    let board = Board::new(clock, phase.clone(), cores);
    // It answers while the logs are recovered, which can take a while.
    if let Some(address) = options.admin {
        admin::start(address, board.clone())
            .map_err(|source| StartError::Admin { address, source })?;
    }
    let addresses = layout::addresses(options, &node)?;
    let listeners = listen_all(&addresses)?;
    let peer_addresses = layout::peer_addresses(options, &node)?;
    let mut peer_listeners = listen_all(&peer_addresses)?.into_iter();
    let setups = Setups {
        options,
        node: &node,
        cluster: layout::cluster(options, &node),
        data: &data,
        clock,
    }
    .build()?;
    if node.cluster_plan.is_some() {
        let acquaintance = Acquaintance {
            cluster: node.cluster,
            here: node.node,
            places: setups.facts.0.places.clone(),
            keeper: data.keeper().clone(),
        };
        acquaintance.start();
    }
    let limits = NodeLimits::choose(
        options,
        NodeSize {
            cores,
            history_bytes_max: node.history.bytes_max * node.replicas.len() as u64,
            log_files: setups
                .configs
                .iter()
                .map(|config| config.log.segments_max() as u64)
                .sum(),
        },
    )?;
    let memory = MemoryPool::new(limits.budget);
    let disk = DiskWatch::start(data.path(), options.disk_low_bytes, cores)?;
    let (ready, reports) = mpsc::channel();
    let (stopped, stops) = mpsc::channel();
    let mut meshes: Vec<Option<MeshEnds>> = match cores {
        1 => vec![None],
        _ => mesh::build(cores).into_iter().map(Some).collect(),
    };
    let mut pulse = Pulse::default();
    for (index, (config, listener)) in setups.configs.into_iter().zip(listeners).enumerate() {
        let core = config.identity.core;
        let setup = CoreSetup {
            facts: setups.facts.of_core(core),
            config,
            history: setups.history,
            data: data.path().to_owned(),
            keeper: data.keeper().clone(),
            log_directory: data.log_directory(core),
            flush_method: setups.flush_method,
            idle_wait_max: options.wal.wait_max,
            fault: options.fault,
            memory: Arc::clone(&memory),
            server: limits.server,
            snapshot_bytes_per_second_max: options.snapshot_bytes_per_second_max,
            clock,
            disk: disk.clone(),
            board: board.clone(),
            mesh: meshes[index].take(),
            peers: peer_listeners
                .next()
                .map(|listener| setups.peers.of_core(core, listener)),
            phase: phase.clone(),
            ready: ready.clone(),
            stopped: stopped.clone(),
        };
        // More cores than processors take turns, where that was not refused.
        let cpu = cpus[index % cpus.len()];
        let beat = pulse.add_core().map_err(|source| StartError::File {
            path: data.path().to_owned(),
            source,
        })?;
        spawn(core, cpu, setup, listener, beat)?;
    }
    pulse.start();
    drop((ready, stopped));
    let mut warnings = match await_ready(&reports, cores) {
        Ok(warnings) => [limits.warnings, warnings].concat(),
        Err(error) => {
            phase.set(Phase::Stopping);
            return Err(error);
        }
    };
    if cores > cpus.len() {
        warnings.push(format!(
            "{cores} cores take turns on {} processors: this is for trying things out",
            cpus.len()
        ));
    }
    let summary = NodeSummary {
        data: data.path().to_owned(),
        cluster: node.cluster.0,
        flush_method: flush_name(setups.flush_method),
        shards: node.shards(),
        cores: addresses
            .iter()
            .enumerate()
            .map(|(index, &address)| (address, cpus[index % cpus.len()]))
            .collect(),
        peers: peer_addresses.first().copied(),
        warnings,
    };
    Ok(ReadyNode(RunningNode {
        phase,
        stops,
        data,
        summary,
    }))
}

/// Formats an empty or missing directory and starts nothing.
///
/// # Errors
/// Whatever keeps it from being formatted, a store that is there already included.
pub(crate) fn format(options: &NodeOptions) -> Result<NodeFile, StartError> {
    assert_eq!(options.format, FormatPolicy::Anew);
    probe_io_uring()?;
    let cpus = choose_cpus(options, &cpus::allowed()?)?;
    let data = DataDirectory::open(options, cpus.len())?;
    Ok(data.node())
}

impl ReadyNode {
    /// Answers clients from here on.
    ///
    /// # Errors
    /// When it cannot be noted that the data has served.
    pub(crate) fn serve(self) -> Result<RunningNode, StartError> {
        let ReadyNode(node) = self;
        // No log may be missing at the next start.
        node.data.keeper().note_serving()?;
        node.phase.set(Phase::Serving);
        Ok(node)
    }
}

impl RunningNode {
    /// Stops the node: what was accepted is finished, which takes a bounded time.
    pub(crate) fn stop(self) -> StopOutcome {
        self.phase.set(Phase::Stopping);
        let began = Instant::now();
        let mut outcome = StopOutcome::Finished;
        // Each core holds a sender until it ends.
        while let Some(left) = STOP_LIMIT.checked_sub(began.elapsed()) {
            match self.stops.recv_timeout(left) {
                Ok(StopOutcome::Finished) => {}
                Ok(StopOutcome::Unfinished) => outcome = StopOutcome::Unfinished,
                Err(mpsc::RecvTimeoutError::Disconnected) => return outcome,
                Err(mpsc::RecvTimeoutError::Timeout) => break,
            }
        }
        StopOutcome::Unfinished
    }
}

fn choose_cpus(options: &NodeOptions, allowed: &[usize]) -> Result<Vec<usize>, StartError> {
    let Some(list) = &options.cpus else {
        return Ok(allowed.to_vec());
    };
    let cpus = cpus::parse_list(list).ok_or_else(|| StartError::CpuList { list: list.clone() })?;
    match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        Some(&cpu) => Err(StartError::CpuNotAllowed {
            cpu,
            allowed: allowed.to_vec(),
        }),
        None => Ok(cpus),
    }
}

/// Listens on `address`. The kernel takes down the rings of a killed process in the background, and until it has, the
/// process's sockets still hold their ports: a restart right after `kill -9` waits for that.
fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    let began = Instant::now();
    loop {
        match bind(address) {
            Err(BindError::InUse { .. }) if began.elapsed() < PORT_RELEASE_LIMIT => {
                std::thread::sleep(PORT_POLL);
            }
            result => return result,
        }
    }
}

fn listen_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    addresses.iter().map(|&address| listen(address)).collect()
}

/// What the cores' threads are given, as far as it is the same for all or follows from their number.
struct Setups<'a> {
    options: &'a NodeOptions,
    node: &'a NodeFile,
    cluster: Cluster,
    data: &'a DataDirectory,
    clock: Clock,
}

struct BuiltSetups {
    configs: Vec<CoreConfig>,
    history: LogHistory,
    flush_method: FlushMethod,
    facts: NodeFacts,
    peers: NodePeers,
}

/// Who this node is for others.
struct NodePeers {
    local: LocalPeer,
    seed: u64,
}

impl NodePeers {
    fn of_core(&self, core: CoreId, listener: TcpListener) -> PeersSetup {
        let mut local = self.local;
        local.core.core = core.0;
        PeersSetup {
            listener,
            local,
            seed: self.seed ^ u64::from(core.0),
        }
    }
}

struct NodeFacts(wire::CoreFacts);

impl NodeFacts {
    fn of_core(&self, core: CoreId) -> wire::CoreFacts {
        let mut facts = self.0.clone();
        facts.hello.core_index = core.0;
        facts
    }
}

impl Setups<'_> {
    fn build(&self) -> Result<BuiltSetups, StartError> {
        let node = self.node;
        let flush_method = self.options.wal.flush_method.unwrap_or(node.flush_method);
        let shard_map = ShardMap::split_evenly(self.locations())
            .map_err(|error| self.bad_node_file(error.to_string()))?;
        let members = &self.cluster.members;
        let homes_of = |shard| members[&shard].iter().map(|member| member.home).collect();
        let places = Places::new(&shard_map, homes_of, self.cluster.living().cloned());
        let hello = HelloInfo {
            cluster_id: node.cluster.0,
            node_id: node.node.0,
            core_index: 0,
            core_count: u16::try_from(node.cores).expect("cores were counted"),
            first_port: self
                .cluster
                .node(node.node)
                .expect("this node is one of them")
                .clients
                .port,
            map_epoch: shard_map.epoch(),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let facts = NodeFacts(wire::CoreFacts {
            hello,
            places,
            flush_method: flush_name(flush_method),
            budget_bytes: self.options.wal.budget_bytes,
            segment_bytes: node.segment_bytes,
            clock: self.clock,
        });
        let (seed, boot) = (data::random_u64()?, BootNonce(data::random_u64()?));
        let configs = (0..node.cores).map(|core| {
            let core = CoreId(u16::try_from(core).expect("cores were counted"));
            let identity = Identity {
                cluster: node.cluster,
                node: node.node,
                core,
            };
            let log = layout::log_options(
                self.options,
                node.segment_bytes,
                node.record_bytes_max,
                (identity, node.seal),
            )?;
            let here = node.replicas.iter().filter(|place| place.core == core);
            Ok(CoreConfig {
                identity,
                cores: node.cores,
                replicas: here.map(|place| (place.replica, place.shard)).collect(),
                members: members.clone(),
                shard_map: shard_map.clone(),
                namespaces: Namespaces::default(),
                settings: self.options.settings.clone(),
                log,
                parameters: node.history.parameters(),
                seed,
                boot,
            })
        });
        Ok(BuiltSetups {
            configs: configs.collect::<Result<_, StartError>>()?,
            history: match node.state {
                NodeState::Formatted => LogHistory::New,
                NodeState::Serving | NodeState::Recovering => LogHistory::HasServed,
            },
            flush_method,
            facts,
            peers: NodePeers {
                local: LocalPeer {
                    cluster_id: node.cluster.0,
                    core: net_peer::PeerCore {
                        node: node.node.0,
                        core: 0,
                    },
                    incarnation: boot.0,
                    map_epoch: shard_map.epoch(),
                    initial_map_hash: self.cluster.initial_map_hash(),
                    data_id: node.data_ids.get(&node.node).copied().unwrap_or(0),
                    cluster_epoch: self.cluster.epoch(),
                },
                seed,
            },
        })
    }

    /// On which core of this node each shard is, or would be: where it was in the beginning, also when its replica has
    /// gone since, so that the next one finds it there before and after a start.
    fn locations(&self) -> Vec<ShardLocation> {
        let here = self.node.node;
        let shards = self.cluster.members.iter().map(|(&shard, voters)| {
            let first = voters.iter().find(|member| member.home.node == here);
            ShardLocation {
                shard,
                core: first.map_or_else(
                    || cluster::core_of_newcomer(shard, self.node.cores),
                    |member| member.home.core,
                ),
            }
        });
        shards.collect()
    }

    fn bad_node_file(&self, cause: String) -> StartError {
        StartError::NodeFile {
            path: self.data.path().join(node_file::FILE_NAME),
            cause,
        }
    }
}

fn flush_name(method: FlushMethod) -> &'static str {
    match method {
        FlushMethod::Dsync => "dsync",
        FlushMethod::WriteThenSync => "write-then-sync",
    }
}

fn spawn(
    core: CoreId,
    cpu: usize,
    setup: CoreSetup,
    listener: TcpListener,
    beat: Beat,
) -> Result<(), StartError> {
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(&format!("core-{}", core.0))
        .io_memory(EXECUTOR_IO_MEMORY_BYTES)
        // The default would pin the threads that prepare segments to the core's own processor.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS))
        .spawn(move || async move {
            glommio::spawn_local(pulse::feel(beat)).detach();
            // Sockets and the ring wake tasks from outside: in a queue to which latency does not matter that can
            // take tens of milliseconds.
            let latency = Latency::Matters(CORE_LATENCY);
            let queue = glommio::executor().create_task_queue(Shares::default(), latency, "core");
            glommio::spawn_local_into(core_thread::run(setup, listener), queue)
                .expect("the queue was just made")
                .await;
        })
        .map(|_thread| ())
        .map_err(|error| StartError::Executor {
            core: core.0,
            cause: error.to_string(),
        })
}

fn await_ready(reports: &Reports, cores: usize) -> Result<Vec<String>, StartError> {
    let mut warnings = Vec::new();
    for reported in 0..cores {
        let missing = u16::try_from(reported).expect("cores were counted");
        let (_, report) = reports
            .recv()
            .map_err(|_| StartError::CoreEnded { core: missing })?;
        warnings.extend(report?.warnings);
    }
    Ok(warnings)
}
