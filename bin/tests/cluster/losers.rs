//! The nodes of clusters of any size, each a process, of which some are lost for good.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use metastore_net::async_client::{Client, ClientSettings};
use metastore_net::blocking::Client as PlainClient;
use metastore_net::{ReplicaRole, ReplicaStatus};
use serde_json::Value;

use crate::harness::{Store, TestDirectory, free_ports, metastore, stderr, stdout};
use crate::nodes::format_node;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ids are below this.
const NODES_MAX: u16 = 8;

/// How a command ended.
pub(crate) struct Ended(Output);

impl Ended {
    /// What it has printed, if it did what it was asked for.
    pub(crate) fn done(&self) -> String {
        let (out, errors) = (stdout(&self.0), stderr(&self.0));
        assert!(self.0.status.success(), "{out}{errors}");
        out
    }

    /// It must have ended like that, and said why.
    pub(crate) fn refused(&self, code: i32, why: &str) {
        let told = format!("{}{}", stdout(&self.0), stderr(&self.0));
        assert_eq!(self.0.status.code(), Some(code), "{told}");
        assert!(told.contains(why), "{told}");
    }
}

/// A cluster of nodes of one core.
pub(crate) struct Nodes {
    directory: TestDirectory,
    port: u16,
    running: BTreeMap<u16, Store>,
}

impl Nodes {
    /// Formats nodes of a cluster, and starts them.
    pub(crate) fn start(name: &str, founders: &[u16], numbers: &str) -> Nodes {
        let mut nodes = Nodes {
            directory: TestDirectory::new(name),
            port: free_ports(2 * NODES_MAX),
            running: BTreeMap::new(),
        };
        let mut text = format!("cluster = \"{:032x}\"\n{numbers}", 0xC0FFEE);
        for &node in founders {
            let (clients, peers) = (nodes.address(node), nodes.peer_address(node));
            text += &format!(
                "[[node]]\nid = {node}\nclients = \"{clients}\"\npeers = \"{peers}\"\ncores = 1\n"
            );
        }
        fs::write(nodes.file(), text).expect("it can be written");
        for &node in founders {
            nodes.format(node, &[]);
            nodes.launch(node);
        }
        let shards = numbers.split_whitespace().nth(2).expect("a number");
        nodes.await_leaders(founders, shards.parse().expect("a number"));
        nodes
    }

    fn file(&self) -> PathBuf {
        self.beside("cluster.toml")
    }

    fn format(&self, node: u16, joins: &[&str]) {
        format_node(&self.file(), &self.path(node), node, joins);
    }

    /// Formats a node that joins, as the file of the cluster is now, and starts it.
    pub(crate) fn join(&mut self, node: u16) {
        let (clients, peers) = (self.address(node), self.peer_address(node));
        let joins = [
            "--join-clients",
            &clients,
            "--join-peers",
            &peers,
            "--cores",
            "1",
        ];
        self.format(node, &joins);
        self.launch(node);
        self.await_some(|nodes| nodes.replicas(node));
    }

    /// Has the file of the cluster say what a node knows of recoveries.
    pub(crate) fn note_recovery(&self, node: u16) {
        let plan = fs::read_to_string(self.path(node).join("recovery.json"));
        let plan: Value = serde_json::from_str(&plan.expect("it is there")).expect("JSON");
        let text = fs::read_to_string(self.file()).expect("it is there");
        let (head, rest) = text.split_once("[[node]]").expect("there are nodes");
        let line = format!("recoveries = [{}]\n", plan["recovery"]);
        fs::write(self.file(), format!("{head}{line}[[node]]{rest}")).expect("it can be written");
    }

    /// The data of a node.
    pub(crate) fn path(&self, node: u16) -> PathBuf {
        self.beside(&format!("node-{node}"))
    }

    pub(crate) fn data(&self, node: u16) -> String {
        self.path(node).display().to_string()
    }

    /// What stands in the `node.toml` of a node.
    pub(crate) fn node_file(&self, node: u16) -> String {
        fs::read_to_string(self.path(node).join("node.toml")).expect("it is there")
    }

    /// Something that lies beside the data of the nodes.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn address(&self, node: u16) -> String {
        format!("127.0.0.1:{}", self.port + node)
    }

    fn peer_address(&self, node: u16) -> String {
        format!("127.0.0.1:{}", self.port + NODES_MAX + node)
    }

    /// Starts a node that does not run, and does not wait for it.
    pub(crate) fn launch(&mut self, node: u16) {
        let store = Store::spawn_node(&self.path(node), self.port + node, &[]);
        assert!(
            self.running.insert(node, store).is_none(),
            "node {node} runs"
        );
    }

    /// Kills a node as `kill -9` does.
    pub(crate) fn kill(&mut self, node: u16) {
        let store = self.running.remove(&node);
        store
            .unwrap_or_else(|| panic!("node {node} does not run"))
            .kill();
    }

    /// Runs the program.
    pub(crate) fn run(&self, words: &[&str]) -> Ended {
        let output = metastore().args(words).output();
        Ended(output.expect("the program can be started"))
    }

    /// A step of a recovery.
    pub(crate) fn recover(&self, words: &[&str]) -> Ended {
        self.run(&[&["recover", "--unsafe-quorum"], words].concat())
    }

    /// Writes the report of a node into a file.
    pub(crate) fn report(&self, node: u16) -> String {
        let report = self.recover(&["report", "--data", &self.data(node)]).done();
        let path = self.beside(&format!("report-{node}.json"));
        fs::write(&path, report).expect("it can be written");
        path.display().to_string()
    }

    /// A command of operators, which is told of the nodes that run.
    pub(crate) fn operate(&self, words: &[&str]) -> Ended {
        let addresses: Vec<_> = self
            .running
            .keys()
            .map(|&node| self.address(node))
            .collect();
        let connect = addresses.join(",");
        let timeout = ["--connect", &connect, "--timeout", "50s"];
        self.run(&[words, &timeout].concat())
    }

    /// Makes a node known.
    pub(crate) fn add(&self, node: u16, more: &[&str]) -> Ended {
        let (clients, peers) = (self.address(node), self.peer_address(node));
        let number = node.to_string();
        let words = ["member", "add", "--node", &number, "--clients", &clients];
        let words = [&words[..], &["--peers", &peers, "--cores", "1"], more].concat();
        self.operate(&words)
    }

    /// The nodes on which each shard has voters.
    pub(crate) fn voters(&self) -> Vec<Vec<u64>> {
        let text = self.operate(&["shard", "list", "--json"]).done();
        let voters = text.lines().map(|line| {
            let shard: Value = serde_json::from_str(line).expect("JSON");
            let members = shard["members"].as_array().expect("members").iter();
            let voters = members.filter(|member| member["part"] == "voter");
            let mut nodes: Vec<u64> = voters
                .map(|member| member["node"].as_u64().expect("a node"))
                .collect();
            nodes.sort_unstable();
            nodes
        });
        voters.collect()
    }

    /// A client that is told of these nodes.
    pub(crate) async fn client(&self, among: &[u16]) -> Client {
        let addresses = among.iter().map(|&node| self.address(node));
        let client = Client::connect(addresses, ClientSettings::default()).await;
        client.expect("one of them answers")
    }

    /// How the replicas of a node stand; `None` while it does not answer.
    fn replicas(&self, node: u16) -> Option<Vec<ReplicaStatus>> {
        let client = PlainClient::connect(self.address(node), Duration::from_secs(2));
        Some(client.ok()?.status().ok()?.replicas)
    }

    /// How many shards a node leads.
    pub(crate) fn leaders(&self, node: u16) -> usize {
        let replicas = self.replicas(node).unwrap_or_default();
        let leads = |replica: &&ReplicaStatus| replica.role == ReplicaRole::Leader;
        replicas.iter().filter(leads).count()
    }

    /// Waits until each shard has a leader among these nodes.
    pub(crate) fn await_leaders(&self, among: &[u16], shards: usize) {
        self.await_some(|nodes| {
            let leaders: usize = among.iter().map(|&node| nodes.leaders(node)).sum();
            (leaders >= shards).then_some(())
        });
    }

    /// Waits until these nodes have so many replicas in all.
    pub(crate) fn await_replicas(&self, among: &[u16], count: usize) {
        self.await_some(|nodes| {
            let replicas = among.iter().map(|&node| nodes.replicas(node));
            let counts = replicas.map(|found| Some(found?.len()));
            let found: usize = counts.sum::<Option<usize>>()?;
            (found == count).then_some(())
        });
    }

    /// Waits until the replicas of each shard have applied the same and hold the same.
    pub(crate) fn await_agreement(&self, among: &[u16]) {
        self.await_some(|nodes| {
            let mut held: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
            for &node in among {
                for replica in nodes.replicas(node)? {
                    let here = (replica.applied, replica.state_hash);
                    if *held.entry(replica.shard).or_insert(here) != here {
                        return None;
                    }
                }
            }
            Some(())
        });
    }

    /// Waits until a node has said something.
    pub(crate) fn await_message(&self, node: u16, words: &str) {
        self.await_some(|nodes| {
            let said = fs::read_to_string(nodes.path(node).with_extension("log"));
            said.expect("it runs").contains(words).then_some(())
        });
    }

    fn await_some<T>(&self, mut ask: impl FnMut(&Nodes) -> Option<T>) -> T {
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

/// Copies a directory with all that is in it.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it can be made");
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("it can be copied");
        }
    }
}
