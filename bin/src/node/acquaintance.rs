//! How a node learns of nodes that joined while it was away, who leads shards of which it has no replica, and where nodes
//! are that have names.
//!
//! A thread of its own asks the others in turn which nodes they know, as any client could, and resolves names. It decides
//! nothing: what a node is told by an operator it has at once, and this only carries it on to who did not hear it.

use std::net::{IpAddr, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use metastore_engine::{ClusterId, NodeId};
use metastore_net::blocking::{Client, ClientError, ConnectOptions};
use metastore_net::{AdminRequest, NodeStanding, OwnedNodeEntry};

use super::keeper::{Heard, NodeKeeper};
use super::places::{KnownNode, Places};
use super::wire;
use crate::log;

/// Between two looks at names that are not resolved, and two questions for who leads what has no replica here.
const ROUND: Duration = Duration::from_secs(1);
/// Another node is asked, and names are resolved anew, in every so many rounds.
const ROUNDS_PER_QUESTION: u64 = 5;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What the thread works on.
pub(super) struct Acquaintance {
    pub(super) cluster: ClusterId,
    pub(super) here: NodeId,
    pub(super) places: Places,
    pub(super) keeper: NodeKeeper,
}

impl Acquaintance {
    /// Goes on until the process ends. Nobody waits for it: a name server that does not answer keeps no node from starting.
    pub(super) fn start(self) {
        let names = Names {
            places: self.places.clone(),
        };
        thread::spawn(move || names.resolve_on());
        thread::spawn(move || {
            for round in 0_u64.. {
                thread::sleep(ROUND);
                let is_due = round.is_multiple_of(ROUNDS_PER_QUESTION);
                if is_due {
                    self.ask_next(round / ROUNDS_PER_QUESTION);
                }
                if self.places.lacks_any(self.here) {
                    self.ask_who_leads(round);
                }
            }
        });
    }

    /// Asks one of the other nodes which it knows, each in its turn.
    fn ask_next(&self, turn: u64) {
        let nodes = self.places.nodes();
        let others: Vec<_> = nodes
            .iter()
            .filter(|known| known.entry.node != self.here)
            .collect();
        if others.is_empty() {
            return;
        }
        let asked = &others[(turn % others.len() as u64) as usize].entry;
        // Who does not answer is asked again in its next turn; others may be able to tell.
        let Ok(told) = self.ask(&asked.clients.to_string()) else {
            return;
        };
        for entry in &told {
            let node = NodeId(entry.node_id);
            let is_known = nodes.iter().any(|known| known.entry.node == node);
            match entry.standing {
                NodeStanding::Gone => self.forget(node, is_known),
                NodeStanding::Member if is_known => {
                    self.hear_of_data(asked.node, node, entry.data_id)
                }
                NodeStanding::Member => self.add(entry),
            }
        }
    }

    /// A node was heard of that is not known here.
    fn add(&self, entry: &OwnedNodeEntry) {
        let Ok(node) = wire::to_cluster_node(&entry.as_entry()) else {
            return;
        };
        // Who has not heard yet that it is gone still tells of it.
        let plan = self.keeper.node().cluster_plan;
        if plan.is_some_and(|plan| plan.gone.contains(&node.node)) {
            return;
        }
        log::info!(
            "a node is heard of",
            node = u64::from(entry.node_id),
            peers = entry.peers.as_str(),
        );
        match self.keeper.add_node(node.clone()) {
            Ok(()) => self.places.set_node(node),
            Err(error) => log::warning!(
                "what another node says of a node cannot be",
                node = u64::from(entry.node_id),
                error = log::text(&error),
            ),
        }
        self.hear_of_data(NodeId(entry.node_id), NodeId(entry.node_id), entry.data_id);
    }

    /// A node was taken off the list elsewhere.
    fn forget(&self, node: NodeId, is_known: bool) {
        if !is_known {
            return;
        }
        if node == self.here {
            log::warning!("the others have taken this node off their lists");
            return;
        }
        match self.keeper.forget_node(node) {
            Ok(()) => {
                log::info!("a node is off the list", node = u64::from(node.0));
                self.places.remove_node(node);
            }
            Err(error) => log::warning!(
                "a node that is gone stays on the list",
                node = u64::from(node.0),
                error = log::text(&error),
            ),
        }
    }

    /// Remembers which data a node has, as another says, so that it is refused with any other from the first contact on.
    fn hear_of_data(&self, teller: NodeId, node: NodeId, data_id: u64) {
        if data_id == 0 || node == self.here {
            return;
        }
        match self.keeper.hear_of_data(node, data_id) {
            Ok(Heard::NothingNew | Heard::Learned) => {}
            // One of the two met it after its data was lost; nobody can say which.
            Ok(Heard::Contradicts) => log::warning!(
                "another node knows a node with other data than this one",
                node = u64::from(node.0),
                teller = u64::from(teller.0),
            ),
            Err(error) => log::warning!(
                "what is known of another node cannot be written down",
                node = u64::from(node.0),
                error = log::text(&error),
            ),
        }
    }

    /// Asks one of the other nodes, each in its turn, who leads the shards of which this one has no replica: nothing that
    /// happens to those comes by here, and clients want to be sent on.
    fn ask_who_leads(&self, turn: u64) {
        let nodes = self.places.nodes();
        let others = nodes.iter().map(|known| &known.entry);
        let others: Vec<_> = others.filter(|entry| entry.node != self.here).collect();
        if others.is_empty() {
            return;
        }
        let asked = others[(turn % others.len() as u64) as usize];
        let map = self.connect(&asked.clients.to_string());
        if let Ok(map) = map.and_then(|mut client| client.shard_map()) {
            self.places.learn(self.here, asked.node, &map);
        }
    }

    fn ask(&self, address: &str) -> Result<Vec<OwnedNodeEntry>, ClientError> {
        Ok(self.connect(address)?.admin(&AdminRequest::Nodes)?.nodes)
    }

    fn connect(&self, address: &str) -> Result<Client, ClientError> {
        let options = ConnectOptions {
            timeout: TIMEOUT,
            client_name: concat!("metastore node ", env!("CARGO_PKG_VERSION")),
            cluster_id: Some(self.cluster.0),
            ..ConnectOptions::default()
        };
        Client::connect_with(address, &options)
    }
}

/// The names of nodes, which a thread of its own resolves. A look-up may take as long as the system's resolver likes, and
/// that of one name holds up those behind it and nothing else.
struct Names {
    places: Places,
}

impl Names {
    fn resolve_on(&self) {
        for round in 0_u64.. {
            let is_due = round.is_multiple_of(ROUNDS_PER_QUESTION);
            for known in self.places.nodes() {
                if is_due || known.address.is_none() {
                    self.resolve(&known);
                }
            }
            thread::sleep(ROUND);
        }
    }

    fn resolve(&self, known: &KnownNode) {
        let peers = &known.entry.peers;
        if peers.address().is_some() {
            return;
        }
        let found = (peers.host.as_str(), peers.port).to_socket_addrs();
        let found = found.into_iter().flatten();
        let found: Vec<IpAddr> = found.map(|found| found.ip()).collect();
        match found.first() {
            // It may have several addresses; the one that is known stays as long as it is one of them.
            Some(_) if known.address.is_some_and(|known| found.contains(&known)) => {}
            Some(&address) => self.places.set_address(known.entry.node, address),
            None => log::warning!(
                "the name of another node cannot be resolved",
                node = u64::from(known.entry.node.0),
                name = peers.host.as_str(),
            ),
        }
    }
}
