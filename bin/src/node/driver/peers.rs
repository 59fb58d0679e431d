//! Messages to and from the cores of other nodes.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use metastore_engine::{CoreId, Input, NodeId, PeerCore, PeerLane};
use metastore_net::peer::{self as net, LocalPeer};
use metastore_net::server::{
    IncomingCounts, IncomingLinks, LinkCounts, LinkEnd, PeerLinks, PeerListener, PeerOptions,
    PeerService, Readiness, Sent, serve_peers,
};

use super::Driver;
use crate::log;
use crate::node::keeper::Known;
use crate::node::places::{KnownNode, Places};
use crate::node::wire;

/// Where other nodes are, and where they find this core.
pub(crate) struct PeersSetup {
    pub(crate) listener: TcpListener,
    pub(crate) local: LocalPeer,
    /// Makes the waits of this core differ from those of others.
    pub(crate) seed: u64,
}

/// What has happened to the connections with other nodes since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PeerCounts {
    pub(crate) links: LinkCounts,
    pub(crate) incoming: IncomingCounts,
}

/// The connections of a core to those of other nodes; a node alone has none.
#[derive(Default)]
pub(super) struct Peers {
    joined: OnceCell<Joined>,
}

struct Joined {
    local: LocalPeer,
    links: PeerLinks<Driver>,
    incoming: IncomingLinks,
    /// Until others may be spoken to.
    listener: RefCell<Option<PeerListener>>,
    /// Up to where [`Places::moves`] has been followed.
    moves_seen: Cell<Option<u64>>,
}

impl Peers {
    /// From now on the cores of other nodes are to be found where `places` says.
    pub(super) fn follow(&self, places: &Places) {
        let Some(joined) = self.joined.get() else {
            return;
        };
        if joined.listener.borrow().is_some() {
            return;
        }
        let moves = places.moves();
        if joined.moves_seen.replace(Some(moves)) == Some(moves) {
            return;
        }
        for KnownNode { entry, address } in places.nodes() {
            let Some(address) = address.filter(|_| entry.node.0 != joined.local.core.node) else {
                continue;
            };
            for core in 0..entry.cores {
                let core = u16::try_from(core).expect("cores were counted");
                let Some(place) = entry.peers.checked_of_core(CoreId(core)) else {
                    continue;
                };
                let node = entry.node.0;
                let address = SocketAddr::new(address, place.port);
                joined.links.set_peer(net::PeerCore { node, core }, address);
            }
        }
    }

    pub(super) fn send(&self, to: PeerCore, lane: PeerLane, batch: &[u8]) {
        let joined = self.joined.get().expect("a node alone has no peers");
        if joined.listener.borrow().is_some() {
            // Nobody may hear of what the next start would not look for.
            return;
        }
        let (core, lane) = (wire::to_net_core(to), wire::to_net_lane(lane));
        match joined.links.send(core, lane, batch) {
            // What is dropped because too much waits comes again when it is missed, and without a connection its end was
            // told of.
            Sent::Queued | Sent::Unreachable | Sent::Full => {}
            // Its node is still to be heard of, or its name to be resolved.
            Sent::Unknown => log::warning!(
                "nobody knows where a member of a shard is",
                node = u64::from(to.node.0),
                core = to.core.0,
            ),
            Sent::Unsendable => panic!("the core makes batches that can be sent"),
        }
    }

    /// Lets what was sent leave, and says whether there is any of it.
    pub(super) fn flush(&self) -> bool {
        self.joined.get().is_some_and(|joined| joined.links.flush())
    }

    pub(super) fn counts(&self) -> PeerCounts {
        let counts = |joined: &Joined| PeerCounts {
            links: joined.links.counts(),
            incoming: joined.incoming.counts(),
        };
        self.joined.get().map(counts).unwrap_or_default()
    }

    pub(super) fn has_joined(&self) -> bool {
        self.joined.get().is_some()
    }

    /// Bytes that wait to be sent.
    pub(super) fn queued_bytes(&self) -> usize {
        self.joined
            .get()
            .map_or(0, |joined| joined.links.queued_bytes())
    }

    /// Memory of what waits to be sent, and of what has come in part.
    pub(super) fn buffer_bytes(&self) -> (usize, usize) {
        self.joined.get().map_or((0, 0), |joined| {
            (joined.links.buffer_bytes(), joined.incoming.held_bytes())
        })
    }
}

impl Driver {
    /// Makes ready for the cores of other nodes; [`Driver::meet_peers`] lets them in.
    ///
    /// # Errors
    /// When the kernel has no descriptor or memory left.
    pub(crate) fn join_peers(
        self: &Rc<Self>,
        setup: PeersSetup,
        readiness: &Readiness,
    ) -> io::Result<()> {
        let PeersSetup {
            listener,
            local,
            seed,
        } = setup;
        let options = PeerOptions::default();
        let listener = PeerListener::new(listener, readiness.clone())?;
        let incoming = IncomingLinks::new();
        let links = PeerLinks::new(&listener, Rc::clone(self), options, seed);
        let joined = Joined {
            local,
            links,
            incoming,
            listener: RefCell::new(Some(listener)),
            moves_seen: Cell::new(None),
        };
        assert!(self.peers.joined.set(joined).is_ok(), "a core joins once");
        Ok(())
    }

    /// Connects with the cores of other nodes, and lets them connect. Before that it must be durable that this data has
    /// served: others rely on what they are told.
    pub(crate) fn meet_peers(self: &Rc<Self>) {
        let Some(joined) = self.peers.joined.get() else {
            return;
        };
        let listener = joined.listener.take();
        let listener = listener.expect("a core meets the others once");
        self.peers.follow(&self.facts.places);
        let options = PeerOptions::default();
        let serving = serve_peers(listener, Rc::clone(self), joined.incoming.clone(), options);
        glommio::spawn_local(serving).detach();
    }
}

impl PeerService for Driver {
    fn local(&self) -> LocalPeer {
        self.peers
            .joined
            .get()
            .expect("who is asked has joined")
            .local
    }

    fn has_known_data(&self, node: u32, data_id: u64) -> bool {
        match self.keeper.knows_data(NodeId(node), data_id) {
            Known::Same => true,
            Known::New => {
                let (keeper, blocking) = (self.keeper.clone(), Rc::clone(&self.blocking));
                // Until it is written it is known all the same; a crash before that costs one more first time.
                glommio::spawn_local(async move {
                    let write = move || keeper.write_data_of(NodeId(node));
                    if let Err(error) = blocking.change_file(write).await {
                        log::warning!(
                            "what is known of another node cannot be written down",
                            node = u64::from(node),
                            error = log::text(&error),
                        );
                    }
                })
                .detach();
                true
            }
            // A newcomer of which this node has still to be told; then it is remembered.
            Known::Stranger => true,
            Known::Gone => {
                log::error!(
                    "a node that was taken off the list is not heard: format it with an id that was never used",
                    node = u64::from(node),
                );
                false
            }
            Known::Other => {
                log::error!(
                    "a node was formatted anew under its old id and is not heard: format it with an id that was never used, then have it take the place of the old one with metastore member replace",
                    node = u64::from(node),
                );
                false
            }
        }
    }

    fn on_batch(&self, from: net::PeerCore, _lane: net::PeerLane, batch: &[u8]) {
        let from = wire::to_engine_core(from);
        self.step(Input::PeerMessages { from, batch });
    }

    fn on_read_end(&self) {
        self.turn_wanted.set();
    }

    fn on_unreachable(&self, peer: net::PeerCore, lane: net::PeerLane, end: &LinkEnd) {
        if let LinkEnd::Fault(net::OutgoingFault::Refused {
            code: net::RefusalCode::LeftOut,
            ..
        }) = end
        {
            log::error!(
                "another node does not hear this one any more",
                core = self.facts.hello.core_index,
                peer = log::text(&peer),
                why = log::text(end),
            );
        } else {
            log::info!(
                "a connection to another node has ended",
                core = self.facts.hello.core_index,
                peer = log::text(&peer),
                lane = log::text(&format_args!("{lane:?}")),
                why = log::text(end),
            );
        }
        let peer = wire::to_engine_core(peer);
        self.step(Input::PeerUnreachable { peer });
        self.turn_wanted.set();
    }

    fn on_refused(&self, address: Option<SocketAddr>, fault: &net::IncomingFault) {
        let address = address.map_or_else(String::new, |address| address.to_string());
        log::warning!(
            "a connection of another node was refused",
            core = self.facts.hello.core_index,
            address = address.as_str(),
            why = log::text(fault),
        );
    }
}
