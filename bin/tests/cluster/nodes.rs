//! The nodes of a cluster, each a process.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use metastore_net::async_client::{Client, ClientSettings};
use metastore_net::blocking::Client as PlainClient;
use metastore_net::{ReplicaRole, ReplicaStatus};

use crate::harness::{Store, TestDirectory, free_ports, metastore, stderr};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The node that may join.
pub(crate) const NEWCOMER: u16 = 4;

/// The most cores that a node may have, so many ports apart.
const CORES_MAX: u16 = 2;

/// A cluster of three nodes, and one that may join.
pub(crate) struct Nodes {
    directory: TestDirectory,
    /// Of each node.
    cores: [u16; NEWCOMER as usize],
    /// How many nodes it begins with.
    founders: u16,
    port: u16,
    arguments: Vec<String>,
    running: [Option<Store>; NEWCOMER as usize],
}

impl Nodes {
    /// Formats three nodes and starts them with these flags.
    pub(crate) fn start(name: &str, cores: u16, shards: usize, arguments: &[&str]) -> Nodes {
        Nodes::found(name, 3, [cores; NEWCOMER as usize], shards, arguments)
    }

    /// Three nodes with so many cores each.
    pub(crate) fn start_with_cores(
        name: &str,
        [one, two, three]: [u16; 3],
        shards: usize,
    ) -> Nodes {
        Nodes::found(name, 3, [one, two, three, 1], shards, &[])
    }

    /// Four nodes, of which three have a replica of each shard.
    pub(crate) fn start_four(name: &str, cores: u16, shards: usize) -> Nodes {
        Nodes::found(name, NEWCOMER, [cores; NEWCOMER as usize], shards, &[])
    }

    fn found(
        name: &str,
        founders: u16,
        cores: [u16; NEWCOMER as usize],
        shards: usize,
        arguments: &[&str],
    ) -> Nodes {
        let mut nodes = Nodes {
            directory: TestDirectory::new(name),
            cores,
            founders,
            port: free_ports(2 * NEWCOMER * CORES_MAX),
            arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
            running: [None, None, None, None],
        };
        nodes.format(shards);
        for node in 1..=founders {
            nodes.launch(node);
        }
        nodes.await_leaders();
        nodes
    }

    fn format(&self, shards: usize) {
        let mut text = format!("cluster = \"{:032x}\"\nshards = {shards}\n", 0xC0FFEE);
        text += "replicas = 3\n";
        for node in 1..=self.founders {
            let (clients, peers) = (self.client_port(node), self.peer_port(node));
            let cores = self.cores(node);
            text += &format!(
                "[[node]]\nid = {node}\nclients = \"127.0.0.1:{clients}\"\npeers = \"127.0.0.1:{peers}\"\ncores = {cores}\n"
            );
        }
        fs::write(self.file(), text).expect("it can be written");
        for node in 1..=self.founders {
            self.format_node(node, &[]);
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("cluster.toml")
    }

    /// Replaces the data of a node that does not run by new ones, as after the loss of a disk.
    pub(crate) fn wipe(&self, node: u16) {
        fs::remove_dir_all(self.data(node)).expect("it is there");
        self.format_node(node, &[]);
    }

    /// Formats the node that may join, and starts it. The others do not know of it yet.
    pub(crate) fn join(&mut self) {
        self.format_newcomer();
        self.launch(NEWCOMER);
        self.await_some(|nodes| nodes.replicas(NEWCOMER));
    }

    /// Formats the node that may join, and does not start it.
    pub(crate) fn format_newcomer(&self) {
        let clients = self.address(NEWCOMER);
        let (peers, cores) = (
            self.peer_address(NEWCOMER),
            self.cores(NEWCOMER).to_string(),
        );
        let joins = [
            "--join-clients",
            &clients,
            "--join-peers",
            &peers,
            "--cores",
            &cores,
        ];
        self.format_node(NEWCOMER, &joins);
    }

    fn format_node(&self, node: u16, joins: &[&str]) {
        format_node(&self.file(), &self.data(node), node, joins);
    }

    fn client_port(&self, node: u16) -> u16 {
        self.port + (node - 1) * CORES_MAX
    }

    fn peer_port(&self, node: u16) -> u16 {
        self.client_port(node + NEWCOMER)
    }

    /// Where other nodes reach core 0 of a node.
    pub(crate) fn peer_address(&self, node: u16) -> String {
        format!("127.0.0.1:{}", self.peer_port(node))
    }

    /// How many cores a node has.
    pub(crate) fn cores(&self, node: u16) -> u16 {
        self.cores[usize::from(node) - 1]
    }

    /// Where a node has its data.
    pub(crate) fn data(&self, node: u16) -> std::path::PathBuf {
        self.directory.path().join(format!("node-{node}"))
    }

    /// What a node has said so far.
    pub(crate) fn messages(&self, node: u16) -> String {
        fs::read_to_string(self.data(node).with_extension("log")).expect("it runs")
    }

    /// Where clients reach core 0 of a node.
    pub(crate) fn address(&self, node: u16) -> String {
        format!("127.0.0.1:{}", self.client_port(node))
    }

    /// Starts a node that does not run, and does not wait for it.
    pub(crate) fn launch(&mut self, node: u16) {
        let place = &mut self.running[usize::from(node) - 1];
        assert!(place.is_none(), "node {node} runs");
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        *place = None;
        let store = Store::spawn_node(&self.data(node), self.client_port(node), &arguments);
        self.running[usize::from(node) - 1] = Some(store);
    }

    fn take(&mut self, node: u16) -> Store {
        let store = self.running[usize::from(node) - 1].take();
        store.unwrap_or_else(|| panic!("node {node} does not run"))
    }

    /// Kills a node as `kill -9` does.
    pub(crate) fn kill(&mut self, node: u16) {
        self.take(node).kill();
    }

    /// Sends a signal by name to a node.
    pub(crate) fn signal(&self, node: u16, name: &str) {
        let store = self.running[usize::from(node) - 1].as_ref();
        store.expect("it runs").signal(name);
    }

    /// Has a node stop, and waits until it has.
    pub(crate) fn stop(&mut self, node: u16) {
        let store = self.take(node);
        store.signal("TERM");
        let (code, errors, _) = store.wait();
        assert_eq!(code, Some(0), "{errors}");
    }

    /// A client that knows all nodes.
    pub(crate) async fn client(&self) -> Client {
        self.client_of(&[1, 2, 3]).await
    }

    /// A client that is told of these nodes only.
    pub(crate) async fn client_of(&self, nodes: &[u16]) -> Client {
        let addresses = nodes.iter().map(|&node| self.address(node));
        let client = Client::connect(addresses, ClientSettings::default()).await;
        client.expect("one of them answers")
    }

    /// How the replicas of a node stand; `None` while it does not answer.
    pub(crate) fn replicas(&self, node: u16) -> Option<Vec<ReplicaStatus>> {
        let mut replicas = Vec::new();
        for core in 0..self.cores(node) {
            let address = format!("127.0.0.1:{}", self.client_port(node) + core);
            let mut client = PlainClient::connect(address, Duration::from_secs(2)).ok()?;
            replicas.extend(client.status().ok()?.replicas);
        }
        Some(replicas)
    }

    /// The value of a counter of a node, over its cores.
    pub(crate) fn counter(&self, node: u16, name: &str) -> u64 {
        let mut sum = 0;
        for core in 0..self.cores(node) {
            let address = format!("127.0.0.1:{}", self.client_port(node) + core);
            let client = PlainClient::connect(address, PATIENCE);
            let status = client.and_then(|mut client| client.status());
            let counters = status.expect("it answers").counters;
            let found = counters.iter().find(|counter| counter.name == name);
            sum += found.unwrap_or_else(|| panic!("no counter {name}")).value;
        }
        sum
    }

    /// The node that leads a shard, of those that run.
    pub(crate) fn leader(&self, shard: u32) -> Option<u16> {
        let mut leaders = (1..=NEWCOMER).filter(|&node| {
            let is_running = self.running[usize::from(node) - 1].is_some();
            let replicas = is_running.then(|| self.replicas(node)).flatten();
            replicas
                .unwrap_or_default()
                .iter()
                .any(|replica| replica.shard == shard && replica.role == ReplicaRole::Leader)
        });
        leaders.next()
    }

    /// Waits until somebody leads each shard.
    pub(crate) fn await_leaders(&self) {
        let shards: BTreeSet<u32> = self.await_some(|nodes| {
            // Any of three has a replica of each shard; of more, two that are left have.
            let answers = (1..=nodes.founders).filter_map(|node| nodes.replicas(node));
            let answers: Vec<_> = answers.collect();
            let is_enough = answers.len() > usize::from(nodes.founders > 3);
            let shards = answers.iter().flatten().map(|replica| replica.shard);
            is_enough.then(|| shards.collect())
        });
        for shard in shards {
            self.await_some(|nodes| nodes.leader(shard));
        }
    }

    /// Waits until the replicas of all nodes have applied the same and hold the same, however many entries come after.
    pub(crate) fn await_agreement(&self) {
        self.await_agreement_of([1, 2, 3]);
    }

    /// The same of these nodes.
    pub(crate) fn await_agreement_of(&self, among: [u16; 3]) {
        self.await_some(|nodes| {
            let mut held = Vec::new();
            for node in among {
                let replicas = nodes.replicas(node)?;
                let of_node = replicas
                    .iter()
                    .map(|one| (one.shard, one.applied, one.state_hash));
                let mut of_node: Vec<_> = of_node.collect();
                of_node.sort_unstable();
                held.push(of_node);
            }
            (held[0] == held[1] && held[1] == held[2]).then_some(())
        });
    }

    /// Waits until there is an answer.
    pub(crate) fn await_some<T>(&self, mut ask: impl FnMut(&Nodes) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(answer) = ask(self) {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "it does not happen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Makes the data of a node of the cluster that a file describes.
pub(crate) fn format_node(file: &Path, data: &Path, node: u16, joins: &[&str]) {
    let output = metastore()
        .args(["format", "--node", &node.to_string(), "--cluster"])
        .arg(file)
        .arg("--data")
        .arg(data)
        .args(["--segment-bytes", "8MiB", "--flush", "dsync"])
        .args(joins)
        .output()
        .expect("the program can be started");
    assert!(output.status.success(), "{}", stderr(&output));
}
