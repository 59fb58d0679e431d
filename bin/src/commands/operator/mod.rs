//! A small client for operators: it knows every core of every node, and finds who leads a shard.
//!
//! It decides nothing, and repeats nothing by itself: whoever asks looks again at what is there, and goes on from that.

mod crew;
mod error;
mod replica_ids;
mod survey;
mod view;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use metastore_engine::CoreId;
use metastore_net::blocking::{Client, ClientError, ConnectOptions};
use metastore_net::{
    AdminReply, AdminRequest, NodeStanding, OwnedNodeEntry, ReplicaHome, ShardMapReply, ShardPlace,
};

pub(super) use self::crew::in_parallel;
pub(crate) use self::error::{AskFailed, NoLeader, OperatorError};
pub(super) use self::replica_ids::ReplicaIds;
pub(super) use self::survey::{NodeAnswer, Survey, home};
#[cfg(test)]
pub(super) use self::view::tests as view_tests;
pub(super) use self::view::{ShardView, part_name};
use super::CommandError;
use crate::node::cluster::HostPort;

/// How long a core may take to answer what it knows at once. One that is cut off is not waited for longer.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// A core that did not answer is not asked again for so long.
const SILENCE: Duration = Duration::from_secs(1);
/// The server gives up before we do, so that it can still say what became of a request.
const GIVE_UP_AFTER: Duration = Duration::from_millis(500);
/// Before something that may pass is tried again.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// A node, and where clients reach its core 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OperatedNode {
    pub(super) entry: OwnedNodeEntry,
    clients: HostPort,
}

impl OperatedNode {
    /// What a node says of a node; `None` where nobody could connect to what it says, or where it is gone.
    fn new(entry: OwnedNodeEntry) -> Option<OperatedNode> {
        if entry.standing == NodeStanding::Gone {
            return None;
        }
        let clients: HostPort = entry.clients.parse().ok()?;
        Some(OperatedNode { entry, clients })
    }

    /// Where clients reach a core of it.
    pub(super) fn address(&self, core: u16) -> String {
        let place = self.clients.checked_of_core(CoreId(core));
        place.map_or_else(|| self.entry.clients.clone(), |place| place.to_string())
    }

    /// The core that clients reach there.
    pub(super) fn core_at(&self, address: &str) -> Option<u16> {
        (0..self.entry.cores).find(|&core| self.address(core) == address)
    }
}

/// A client that knows the cluster.
pub(super) struct Operator {
    cluster: u128,
    nodes: BTreeMap<u32, OperatedNode>,
    map: ShardMapReply,
    connections: BTreeMap<ReplicaHome, Client>,
    /// Whom nobody could connect to, when, and why.
    silent: BTreeMap<ReplicaHome, (Instant, String)>,
    /// Where a shard's replicas are to be looked for, whoever leads first.
    homes: BTreeMap<u32, Vec<ReplicaHome>>,
}

impl Operator {
    /// Learns from the first of the addresses that answers who is there.
    pub(super) fn connect(connect: &str, timeout: Duration) -> Result<Operator, CommandError> {
        let mut first = super::client::connect_first(connect, timeout)?;
        let cluster = first.server().info.cluster_id;
        let nodes = first.admin(&AdminRequest::Nodes)?.nodes;
        let nodes = nodes.into_iter().filter_map(OperatedNode::new);
        let map = first.shard_map()?;
        let mut operator = Operator {
            cluster,
            nodes: nodes.map(|node| (node.entry.node_id, node)).collect(),
            map,
            connections: BTreeMap::new(),
            silent: BTreeMap::new(),
            homes: BTreeMap::new(),
        };
        operator.homes = operator.homes_of_map();
        Ok(operator)
    }

    /// Another one that knows the same, with connections of its own.
    pub(super) fn another(&self) -> Operator {
        Operator {
            cluster: self.cluster,
            nodes: self.nodes.clone(),
            map: self.map.clone(),
            connections: BTreeMap::new(),
            silent: BTreeMap::new(),
            homes: self.homes.clone(),
        }
    }

    fn homes_of_map(&self) -> BTreeMap<u32, Vec<ReplicaHome>> {
        let mut cores = BTreeMap::new();
        for node in self.nodes.values() {
            for core in 0..node.entry.cores {
                cores.insert(node.address(core), home(node.entry.node_id, core));
            }
        }
        let homes_of = |place: &ShardPlace| {
            let addresses = std::iter::once(&place.address).chain(&place.followers);
            addresses
                .filter_map(|address| cores.get(address))
                .copied()
                .collect()
        };
        let places = self.map.shards.iter();
        places.map(|place| (place.shard, homes_of(place))).collect()
    }

    /// The nodes, ascending by their ids.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &OperatedNode> {
        self.nodes.values()
    }

    /// A node.
    ///
    /// # Errors
    /// That nobody knows it.
    pub(super) fn node(&self, node: u32) -> Result<&OperatedNode, OperatorError> {
        let known = || self.nodes.keys().copied().collect();
        self.nodes
            .get(&node)
            .ok_or_else(|| OperatorError::NodeUnknown {
                node,
                known: known(),
            })
    }

    /// The shards, ascending by their ids.
    pub(super) fn shards(&self) -> &[ShardPlace] {
        &self.map.shards
    }

    /// Where clients reach a core, as far as that is known.
    pub(super) fn address(&self, at: ReplicaHome) -> String {
        let node = self.nodes.get(&at.node_id);
        node.map_or_else(String::new, |node| node.address(at.core_index))
    }

    // ---- Questions ----

    /// Asks a core something that it may take its time for.
    ///
    /// # Errors
    /// Where it failed, and why. What becomes of a change may not be known then.
    pub(super) fn ask_within<T>(
        &mut self,
        at: ReplicaHome,
        wait: Duration,
        ask: impl FnOnce(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, AskFailed> {
        let failed = |error, address| AskFailed { at, address, error };
        let address = self.address(at);
        let client = match self.connection(at, &address) {
            Ok(client) => client,
            Err(error) => return Err(failed(error, address)),
        };
        client.set_deadline_ms(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1));
        let answer = client
            .set_timeout(wait + GIVE_UP_AFTER)
            .and_then(|()| ask(client));
        answer.map_err(|error| {
            // What is left of the connection after anything but a refusal is of no use.
            if !matches!(error, ClientError::Server(_)) {
                self.connections.remove(&at);
            }
            failed(error, address)
        })
    }

    /// Asks a core what it knows at once.
    pub(super) fn ask<T>(
        &mut self,
        at: ReplicaHome,
        ask: impl FnOnce(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, AskFailed> {
        self.ask_within(at, ANSWER_WAIT, ask)
    }

    fn connection(&mut self, at: ReplicaHome, address: &str) -> Result<&mut Client, ClientError> {
        let refused = |kind: std::io::ErrorKind, why: &str| ClientError::Connect {
            address: address.to_owned(),
            source: std::io::Error::new(kind, why.to_owned()),
        };
        if address.is_empty() {
            let why = format!("nobody knows where node {} is", at.node_id);
            return Err(refused(std::io::ErrorKind::NotFound, &why));
        }
        if let Some((since, why)) = self.silent.get(&at)
            && since.elapsed() < SILENCE
        {
            let why = format!("a moment ago: {why}");
            return Err(refused(std::io::ErrorKind::TimedOut, &why));
        }
        if !self.connections.contains_key(&at) {
            let options = ConnectOptions {
                timeout: ANSWER_WAIT,
                client_name: concat!("metastore ", env!("CARGO_PKG_VERSION")),
                cluster_id: Some(self.cluster),
                ..ConnectOptions::default()
            };
            let connected = Client::connect_with(address, &options);
            let client = connected.inspect_err(|error| {
                let silent = (Instant::now(), error.to_string());
                self.silent.insert(at, silent);
            })?;
            let found = &client.server().info;
            if (found.node_id, found.core_index) != (at.node_id, at.core_index) {
                let (node, core) = (found.node_id, found.core_index);
                let why = format!("core {core} of node {node} answers there");
                return Err(refused(std::io::ErrorKind::AddrInUse, &why));
            }
            self.connections.insert(at, client);
        }
        Ok(self.connections.get_mut(&at).expect("it is there"))
    }

    /// The members of a shard as its leader knows them.
    ///
    /// # Errors
    /// That nobody leads, with what others know.
    pub(super) fn look(&mut self, shard: u32) -> Result<ShardView, NoLeader> {
        let mut none = NoLeader::new(shard);
        let mut to_ask = self.homes.get(&shard).cloned().unwrap_or_default();
        let mut asked = Vec::new();
        while let Some(at) = (!to_ask.is_empty()).then(|| to_ask.remove(0)) {
            if asked.contains(&at) {
                continue;
            }
            asked.push(at);
            let members = AdminRequest::Members { shard };
            match self.ask(at, |client| client.admin(&members)) {
                Err(failed) => none.note_silent(&failed),
                Ok(reply) => {
                    let view = ShardView { shard, at, reply };
                    if view.is_of_leader() {
                        self.homes.insert(shard, view.homes_leader_first());
                        return Ok(view);
                    }
                    // Who leads, as this one knows, is asked next, and everybody else after all.
                    to_ask.extend(view.homes_leader_first());
                    if let Some(leader) = view.leader_home() {
                        to_ask.insert(0, leader);
                    }
                    none.note_view(view);
                }
            }
        }
        Err(none)
    }

    /// [`Operator::look`] again and again; where nobody is found who leads, all nodes are asked where the shard is.
    pub(super) fn look_until(
        &mut self,
        shard: u32,
        deadline: Instant,
    ) -> Result<ShardView, NoLeader> {
        loop {
            let none = match self.look(shard) {
                Ok(view) => return Ok(view),
                Err(none) => none,
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(none);
            }
            std::thread::sleep(PAUSE);
            self.survey();
        }
    }

    /// Asks all nodes who they are and what lives on them, and remembers where shards are.
    pub(super) fn survey(&mut self) -> Survey {
        let survey = Survey::take(self);
        for (shard, homes) in survey.homes() {
            let known = self.homes.entry(shard).or_default();
            let unknown = homes.into_iter().filter(|home| !known.contains(home));
            let unknown: Vec<_> = unknown.collect();
            known.extend(unknown);
        }
        survey
    }

    /// Has a node know a node.
    ///
    /// # Errors
    /// Where it failed, and why.
    pub(super) fn add_node(
        &mut self,
        told: u32,
        entry: &OwnedNodeEntry,
    ) -> Result<AdminReply, AskFailed> {
        let request = AdminRequest::AddNode(entry.as_entry());
        self.ask(home(told, 0), |client| client.admin(&request))
    }

    /// Has a node forget a node.
    ///
    /// # Errors
    /// Where it failed, and why.
    pub(super) fn forget_node(&mut self, told: u32, node_id: u32) -> Result<AdminReply, AskFailed> {
        let request = AdminRequest::ForgetNode { node_id };
        self.ask(home(told, 0), |client| client.admin(&request))
    }

    /// Which data a node has that nobody else knows yet, as it says itself; 0 where it does not answer there.
    pub(super) fn data_at(&self, node_id: u32, clients: &str) -> u64 {
        let options = ConnectOptions {
            timeout: ANSWER_WAIT,
            client_name: concat!("metastore ", env!("CARGO_PKG_VERSION")),
            cluster_id: Some(self.cluster),
            ..ConnectOptions::default()
        };
        let told = Client::connect_with(clients, &options)
            .and_then(|mut client| client.admin(&AdminRequest::Nodes));
        let nodes = told.map(|reply| reply.nodes).unwrap_or_default();
        let own = nodes.iter().find(|entry| entry.node_id == node_id);
        own.map_or(0, |entry| entry.data_id)
    }

    /// From now on it is known here.
    pub(super) fn know(&mut self, entry: OwnedNodeEntry) {
        if let Some(node) = OperatedNode::new(entry) {
            self.nodes.insert(node.entry.node_id, node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node_id: u32, cores: u16) -> OwnedNodeEntry {
        OwnedNodeEntry {
            node_id,
            cores,
            clients: format!("n{node_id}:7400"),
            peers: format!("n{node_id}:7500"),
            data_id: 0,
            standing: NodeStanding::Member,
        }
    }

    #[test]
    fn cores_are_at_ports_one_above_the_other() {
        let node = OperatedNode::new(node(4, 2)).expect("a node");
        assert_eq!(node.address(1), "n4:7401");
        assert_eq!(node.core_at("n4:7401"), Some(1));
        assert_eq!(node.core_at("n4:7402"), None, "it has two cores");
    }

    #[test]
    fn who_is_nowhere_is_no_node() {
        let entry = OwnedNodeEntry {
            clients: "nowhere".to_owned(),
            ..node(4, 2)
        };
        assert_eq!(OperatedNode::new(entry), None);
    }
}
