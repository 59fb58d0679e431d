//! How a node learns of nodes that joined while it was away, and where nodes are that have names.
//!
//! A thread of its own asks the others in turn which nodes they know, as any client could, and resolves names. It decides
//! nothing: what a node is told by an operator it has at once, and this only carries it on to who did not hear it.

use std::net::{IpAddr, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use metastore_engine::{ClusterId, NodeId};
use metastore_net::AdminRequest;
use metastore_net::blocking::{Client, ClientError, ConnectOptions};

use super::keeper::NodeKeeper;
use super::places::{KnownNode, Places};
use super::wire;
use crate::log;

/// Between two looks at names that are not resolved.
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
    /// Goes on until the process ends. What can be resolved at once is, before it returns.
    pub(super) fn start(self) {
        self.resolve(|known| known.address.is_none());
        thread::spawn(move || {
            for round in 0_u64.. {
                thread::sleep(ROUND);
                let is_due = round.is_multiple_of(ROUNDS_PER_QUESTION);
                self.resolve(|known| is_due || known.address.is_none());
                if is_due {
                    self.ask_next(round / ROUNDS_PER_QUESTION);
                }
            }
        });
    }

    /// Resolves the names of those nodes of which `wanted` says so.
    fn resolve(&self, wanted: impl Fn(&KnownNode) -> bool) {
        for known in self.places.nodes() {
            let peers = &known.entry.peers;
            if peers.address().is_some() || !wanted(&known) {
                continue;
            }
            let found = (peers.host.as_str(), peers.port).to_socket_addrs();
            let found: Vec<IpAddr> = found
                .into_iter()
                .flatten()
                .map(|found| found.ip())
                .collect();
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
            let is_known = nodes
                .iter()
                .any(|known| known.entry.node.0 == entry.node_id);
            if is_known {
                continue;
            }
            let Ok(node) = wire::to_cluster_node(&entry.as_entry()) else {
                continue;
            };
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
        }
    }

    fn ask(&self, address: &str) -> Result<Vec<metastore_net::OwnedNodeEntry>, ClientError> {
        let options = ConnectOptions {
            timeout: TIMEOUT,
            client_name: concat!("metastore node ", env!("CARGO_PKG_VERSION")),
            cluster_id: Some(self.cluster.0),
            ..ConnectOptions::default()
        };
        let mut client = Client::connect_with(address, &options)?;
        Ok(client.admin(&AdminRequest::Nodes)?.nodes)
    }
}
