//! The nodes of a round: processes of the real program, which are started, stopped, killed and paused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use metastore_engine::{CoreId, NodeId, PeerCore, ShardId};
use metastore_net::blocking::Client;
use metastore_net::{ReplicaRole, StatusReply};
use thiserror::Error;

use crate::addresses::Addresses;
use crate::stopwatch::Stopwatch;

/// Why a node is not what it should be.
#[derive(Debug, Error)]
pub(crate) enum NodeError {
    /// It could not be started, asked or killed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A command of the program failed.
    #[error("{command} ended with {status}:\n{said}")]
    Refused {
        /// Which one.
        command: String,
        /// How.
        status: String,
        /// What it said.
        said: String,
    },
    /// It ended by itself.
    #[error("node {node} ended by itself, {status}; it said:\n{said}")]
    Ended {
        /// Which one.
        node: u32,
        /// How.
        status: String,
        /// The end of what it printed.
        said: String,
    },
    /// It was asked to stop, and did so badly.
    #[error("node {node} was asked to stop, and ended with {status}; it said:\n{said}")]
    StoppedBadly {
        /// Which one.
        node: u32,
        /// How.
        status: String,
        /// The end of what it printed.
        said: String,
    },
    /// It was asked to stop, and did not.
    #[error("node {node} was asked to stop, and still runs after {seconds} s; it said:\n{said}")]
    StillRuns {
        /// Which one.
        node: u32,
        /// How long was waited.
        seconds: u64,
        /// The end of what it printed.
        said: String,
    },
    /// It does not answer.
    #[error("node {node} does not answer after {seconds} s; it said:\n{said}")]
    Silent {
        /// Which one.
        node: u32,
        /// How long was waited.
        seconds: u64,
        /// The end of what it printed.
        said: String,
    },
}

/// What nodes are formatted and started with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Nodes, numbered from 1.
    pub(crate) nodes: u32,
    /// Cores of each.
    pub(crate) cores: u16,
    /// Shards of the cluster.
    pub(crate) shards: u32,
    /// Keys of the configuration with which nodes are started, each with its value.
    pub(crate) keys: Vec<(&'static str, String)>,
    /// A bug that they are to have.
    pub(crate) mutant: Option<String>,
}

/// All nodes of a round. Dropped, they are killed.
pub(crate) struct Nodes {
    program: PathBuf,
    directory: PathBuf,
    addresses: Addresses,
    settings: Settings,
    running: BTreeMap<u32, Process>,
    /// Where the data of a node lies when it is not beside that of the others.
    elsewhere: BTreeMap<u32, PathBuf>,
    /// Nodes that stopped before all was done that they had accepted, because too much was wrong.
    pub(crate) hurried_stops: u64,
}

struct Process {
    child: Child,
    is_paused: bool,
    /// Since when it is to stop.
    stopping: Option<Stopwatch>,
}

/// Length of a segment: the shortest there may be, so that logs rotate.
const SEGMENT: &str = "8MiB";
/// How long a node may take until it answers, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long an answer of a node may take that runs.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a node may take to stop.
const STOP: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How a node ends that could not finish in time what it had accepted, or had not begun to serve, and what it says then.
const EXIT_HURRIED: i32 = 3;
const HURRIED: [&str; 2] = [
    "some requests were not finished in time",
    "stopped before it served anybody",
];
/// How long a node may take to say whether it leads: while things go wrong nobody waits for it.
const LEADS: Duration = Duration::from_millis(200);
/// How much of what a node said is shown.
const SAID_BYTES_MAX: usize = 4_000;

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> NodeError {
    let what = what.into();
    move |source| NodeError::System { what, source }
}

impl Nodes {
    /// Formats all nodes below a directory; none runs. `elsewhere` says where the data of a node lies that has a disk of
    /// its own.
    pub(crate) fn format(
        program: &Path,
        directory: &Path,
        addresses: Addresses,
        settings: Settings,
        elsewhere: BTreeMap<u32, PathBuf>,
    ) -> Result<Nodes, NodeError> {
        let nodes = Nodes {
            program: program.to_owned(),
            directory: directory.to_owned(),
            addresses,
            settings,
            running: BTreeMap::new(),
            elsewhere,
            hurried_stops: 0,
        };
        fs::write(nodes.cluster_file(), nodes.cluster()).map_err(system("the cluster's file"))?;
        for node in nodes.numbers() {
            let mut format = nodes.command("format");
            format.args(["--node", &node.to_string(), "--cluster"]);
            format.arg(nodes.cluster_file());
            format.arg("--data").arg(nodes.data(node));
            format.args(["--segment-bytes", SEGMENT, "--flush", "dsync"]);
            nodes.run(format, "format")?;
        }
        Ok(nodes)
    }

    /// What the nodes are told of the cluster: that the others are where the proxies stand.
    fn cluster(&self) -> String {
        let Settings { cores, shards, .. } = self.settings;
        let mut text = format!("cluster = \"{:032x}\"\nshards = {shards}\n", 0xFA_017);
        for node in self.numbers() {
            let clients = self.addresses.front_clients(node, 0);
            let peers = self.addresses.front_peers(node, 0);
            text += &format!(
                "[[node]]\nid = {node}\nclients = \"{clients}\"\npeers = \"{peers}\"\ncores = {cores}\n"
            );
        }
        text
    }

    fn cluster_file(&self) -> PathBuf {
        self.directory.join("cluster.toml")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(name).stdin(Stdio::null());
        command.env_remove("METASTORE_CONNECT");
        if let Some(mutant) = &self.settings.mutant {
            command.env("METASTORE_MUTANT", mutant);
        }
        command
    }

    fn run(&self, mut command: Command, name: &str) -> Result<(), NodeError> {
        let what = format!("{} {name}", self.program.display());
        let output = command.output().map_err(system(what))?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        Err(NodeError::Refused {
            command: name.to_owned(),
            status: output.status.to_string(),
            said: end_of(&said),
        })
    }

    /// The numbers of all nodes.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        1..=self.settings.nodes
    }

    /// The cores of each.
    pub(crate) fn cores(&self) -> impl Iterator<Item = u16> + use<> {
        0..self.settings.cores
    }

    /// Where the data of a node lies.
    pub(crate) fn data(&self, node: u32) -> PathBuf {
        let beside = || self.directory.join(format!("node-{node}"));
        self.elsewhere.get(&node).cloned().unwrap_or_else(beside)
    }

    fn output(&self, node: u32) -> PathBuf {
        self.directory.join(format!("node-{node}.log"))
    }

    /// Whether a process runs, paused or not.
    pub(crate) fn is_running(&self, node: u32) -> bool {
        self.running.contains_key(&node)
    }

    /// Whether a process runs that was asked to stop.
    pub(crate) fn is_stopping(&self, node: u32) -> bool {
        let process = self.running.get(&node);
        process.is_some_and(|process| process.stopping.is_some())
    }

    /// Whether a process runs and is not paused.
    pub(crate) fn is_awake(&self, node: u32) -> bool {
        let process = self.running.get(&node);
        process.is_some_and(|process| !process.is_paused)
    }

    /// Starts a node that does not run, and does not wait for it.
    pub(crate) fn start(&mut self, node: u32) -> Result<(), NodeError> {
        assert!(!self.is_running(node), "node {node} runs");
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.output(node));
        let output = output.map_err(system("a file for the output"))?;
        let (clients, peers) = (
            self.addresses.node_clients(node, 0),
            self.addresses.node_peers(node, 0),
        );
        let mut serve = self.command("serve");
        serve.arg("--data").arg(self.data(node));
        serve.args(["--admin", "off", "--wal-budget", "256MiB"]);
        serve.args(["--cpus", &self.processors(node)]);
        let places = [
            ("listen.address", clients.ip().to_string()),
            ("listen.port", clients.port().to_string()),
            ("peers.address", peers.ip().to_string()),
            ("peers.port", peers.port().to_string()),
        ];
        for (key, value) in places.iter().chain(&self.settings.keys) {
            serve.args(["--set", &format!("{key}={value}")]);
        }
        let child = serve
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .map_err(system("starting a node"))?;
        let process = Process {
            child,
            is_paused: false,
            stopping: None,
        };
        self.running.insert(node, process);
        Ok(())
    }

    /// Nodes take the processors in turn.
    fn processors(&self, node: u32) -> String {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let count = u32::try_from(count).expect("a machine has few processors");
        let of = |core| (node + u32::from(core)) % count;
        let processors = self.cores().map(|core| of(core).to_string());
        processors.collect::<Vec<_>>().join(",")
    }

    /// Kills a node as `kill -9` does, paused or not, and waits until it is gone. One that does not run stays as it is.
    pub(crate) fn kill(&mut self, node: u32) -> Result<(), NodeError> {
        self.check()?;
        let Some(mut process) = self.running.remove(&node) else {
            return Ok(());
        };
        process.child.kill().map_err(system("killing a node"))?;
        process.child.wait().map_err(system("waiting for a node"))?;
        Ok(())
    }

    /// Kills all that still run.
    pub(crate) fn kill_all(&mut self) {
        while let Some((_, mut process)) = self.running.pop_first() {
            // It may be gone already, and nobody is left to tell.
            let _gone = process.child.kill();
            let _reaped = process.child.wait();
        }
    }

    /// Asks a node to stop, and does not wait until it has: [`Nodes::check`] notices.
    pub(crate) fn begin_stop(&mut self, node: u32) -> Result<(), NodeError> {
        self.signal(node, "TERM")?;
        if let Some(process) = self.running.get_mut(&node) {
            process.stopping = Some(Stopwatch::start());
        }
        Ok(())
    }

    /// Has a node stop in peace, and waits until it has done all that it accepted.
    pub(crate) fn stop(&mut self, node: u32) -> Result<(), NodeError> {
        self.begin_stop(node)?;
        let hurried_before = self.hurried_stops;
        while self.is_running(node) {
            std::thread::sleep(LOOK_AGAIN);
            self.check()?;
        }
        if self.hurried_stops > hurried_before {
            return Err(NodeError::StoppedBadly {
                node,
                status: "an exit code that says so".to_owned(),
                said: self.said(node),
            });
        }
        Ok(())
    }

    /// Stops the time of a node.
    pub(crate) fn pause(&mut self, node: u32) -> Result<(), NodeError> {
        self.signal(node, "STOP")?;
        if let Some(process) = self.running.get_mut(&node) {
            process.is_paused = true;
        }
        Ok(())
    }

    /// Lets it go on.
    pub(crate) fn resume(&mut self, node: u32) -> Result<(), NodeError> {
        self.signal(node, "CONT")?;
        if let Some(process) = self.running.get_mut(&node) {
            process.is_paused = false;
        }
        Ok(())
    }

    fn signal(&self, node: u32, name: &str) -> Result<(), NodeError> {
        let Some(process) = self.running.get(&node) else {
            return Ok(());
        };
        let mut kill = Command::new("kill");
        kill.args([&format!("-{name}"), &process.child.id().to_string()]);
        self.run(kill, &format!("kill -{name} of node {node}"))
    }

    /// No process has ended by itself, and those that were asked to do.
    pub(crate) fn check(&mut self) -> Result<(), NodeError> {
        for node in self.numbers() {
            let Some(process) = self.running.get_mut(&node) else {
                continue;
            };
            let ended = process.child.try_wait();
            let ended = ended.map_err(system("looking at a node"))?;
            match (ended, process.stopping) {
                (None, Some(since)) if since.passed() > STOP => {
                    return Err(NodeError::StillRuns {
                        node,
                        seconds: STOP.as_secs(),
                        said: self.said(node),
                    });
                }
                (None, _) => {}
                (Some(status), None) => {
                    return Err(NodeError::Ended {
                        node,
                        status: status.to_string(),
                        said: self.said(node),
                    });
                }
                (Some(status), Some(_)) => {
                    self.running.remove(&node);
                    self.on_stopped(node, status)?;
                }
            }
        }
        Ok(())
    }

    /// A node that was asked to stop has ended.
    fn on_stopped(&mut self, node: u32, status: ExitStatus) -> Result<(), NodeError> {
        if status.success() {
            return Ok(());
        }
        let said = self.said(node);
        if status.code() == Some(EXIT_HURRIED) && HURRIED.iter().any(|words| said.contains(words)) {
            self.hurried_stops += 1;
            return Ok(());
        }
        let status = status.to_string();
        Err(NodeError::StoppedBadly { node, status, said })
    }

    /// What a core of a node says of itself; `None` where it does not answer.
    pub(crate) fn status(&self, node: u32, core: u16) -> Option<StatusReply> {
        self.status_within(node, core, ANSWER)
    }

    fn status_within(&self, node: u32, core: u16, patience: Duration) -> Option<StatusReply> {
        if !self.is_awake(node) {
            return None;
        }
        let address = self.addresses.node_clients(node, core);
        let mut client = Client::connect(address, patience).ok()?;
        client.status().ok()
    }

    /// What all cores of a node say; `None` where one of them does not answer.
    pub(crate) fn statuses(&self, node: u32) -> Option<Vec<StatusReply>> {
        self.cores().map(|core| self.status(node, core)).collect()
    }

    /// Where each shard is led from, by those that say so; the newest term counts.
    pub(crate) fn leaders(&self) -> BTreeMap<ShardId, PeerCore> {
        let mut leaders: BTreeMap<ShardId, (u64, PeerCore)> = BTreeMap::new();
        for node in self.numbers() {
            for core in self.cores() {
                let status = self.status_within(node, core, LEADS);
                let replicas = status.map(|status| status.replicas);
                let replicas = replicas.unwrap_or_default().into_iter();
                for replica in replicas.filter(|replica| replica.role == ReplicaRole::Leader) {
                    let home = PeerCore {
                        node: NodeId(node),
                        core: CoreId(core),
                    };
                    let known = leaders.entry(ShardId(replica.shard));
                    let known = known.or_insert((replica.term, home));
                    if known.0 < replica.term {
                        *known = (replica.term, home);
                    }
                }
            }
        }
        let leaders = leaders.into_iter();
        leaders.map(|(shard, (_, home))| (shard, home)).collect()
    }

    /// Waits until somebody leads each shard, after the first start of all.
    pub(crate) fn await_leaders(&mut self) -> Result<(), NodeError> {
        let waiting = Stopwatch::start();
        while waiting.passed() < PATIENCE {
            self.check()?;
            if self.leaders().len() as u32 == self.settings.shards {
                return Ok(());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let silent = self.numbers().find(|&node| self.statuses(node).is_none());
        let node = silent.unwrap_or(1);
        Err(NodeError::Silent {
            node,
            seconds: PATIENCE.as_secs(),
            said: self.said(node),
        })
    }

    /// A node that does not run would start with all that it has.
    pub(crate) fn verify(&self, node: u32) -> Result<(), NodeError> {
        let mut verify = self.command("wal");
        verify.arg("verify").arg("--data").arg(self.data(node));
        self.run(verify, &format!("wal verify of node {node}"))
    }

    /// The end of what a node printed.
    pub(crate) fn said(&self, node: u32) -> String {
        end_of(&fs::read(self.output(node)).unwrap_or_default())
    }
}

fn end_of(said: &[u8]) -> String {
    let start = said.len().saturating_sub(SAID_BYTES_MAX);
    String::from_utf8_lossy(&said[start..]).into_owned()
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.kill_all();
    }
}
