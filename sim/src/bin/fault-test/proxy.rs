//! Proxies in front of every core of every node: all that nodes say to each other and clients to nodes goes through them,
//! and meets the [`Weather`].
//!
//! Who connects to the port for other nodes says in its hello who it is and what the connection carries; clients are
//! known by their address. So each direction of each pair is treated on its own.
//!
//! What they do **not** do: they see streams, not packets. A direction that is cut holds up its own bytes and not the
//! acknowledgements of the other direction, and a node that is cut off is still connected to by the kernel; a network
//! namespace does better there.

mod pump;

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metastore_engine::{NodeId, PeerLane};
use metastore_net::peer::{PEER_HELLO_BYTES, PeerHello};
use metastore_sim::network::{Site, Traffic};
use metastore_sim::random::Random;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::pump::{Direction, carry};
use crate::addresses::Addresses;
use crate::weather::Weather;

/// The state of the network, as everybody sees it.
pub(crate) type Sky = watch::Receiver<Arc<Weather>>;

/// What proxies did.
#[derive(Debug, Default)]
pub(crate) struct ProxyCounters {
    pub(crate) connections: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Pieces in which a bit was changed.
    pub(crate) corrupted: AtomicU64,
    /// Connections that ended in the middle of a piece.
    pub(crate) broken: AtomicU64,
    /// Directions that ended alone.
    pub(crate) half_closed: AtomicU64,
    /// Bytes that went nowhere.
    pub(crate) swallowed_bytes: AtomicU64,
    /// Connections that a partition ended or refused.
    pub(crate) reset: AtomicU64,
}

/// All proxies of a round. Dropped, they are gone with all that they carry.
pub(crate) struct Proxies {
    _tasks: JoinSet<()>,
    pub(crate) counters: Arc<ProxyCounters>,
}

/// Whom a proxy stands in front of, and for whom.
#[derive(Clone, Copy, Debug)]
struct Place {
    node: NodeId,
    kind: Kind,
    /// Where the node really listens.
    behind: SocketAddrV4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Peers,
    Clients,
}

/// Connections of one proxy at one time.
const CONNECTIONS_MAX: usize = 512;
/// How long a node may take to say hello to another.
const HELLO_MAX: Duration = Duration::from_secs(5);

pub(crate) fn count(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl Proxies {
    /// Listens in front of everybody. To be called on a runtime.
    pub(crate) async fn start(
        addresses: Addresses,
        (nodes, cores): (u32, u16),
        sky: &Sky,
        mut random: Random,
    ) -> std::io::Result<Proxies> {
        let counters = Arc::new(ProxyCounters::default());
        let mut tasks = JoinSet::new();
        for node in 1..=nodes {
            for core in 0..cores {
                let sides = [
                    (
                        addresses.front_peers(node, core),
                        Kind::Peers,
                        addresses.node_peers(node, core),
                    ),
                    (
                        addresses.front_clients(node, core),
                        Kind::Clients,
                        addresses.node_clients(node, core),
                    ),
                ];
                for (front, kind, behind) in sides {
                    let node = NodeId(node);
                    let place = Place { node, kind, behind };
                    let proxy = Proxy {
                        addresses,
                        place,
                        sky: sky.clone(),
                        counters: Arc::clone(&counters),
                    };
                    let listener = TcpListener::bind(front).await?;
                    tasks.spawn(proxy.serve(listener, random.fork()));
                }
            }
        }
        Ok(Proxies {
            _tasks: tasks,
            counters,
        })
    }
}

#[derive(Clone)]
struct Proxy {
    addresses: Addresses,
    place: Place,
    sky: Sky,
    counters: Arc<ProxyCounters>,
}

impl Proxy {
    async fn serve(self, listener: TcpListener, mut random: Random) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut tasks = JoinSet::new();
        loop {
            let room = Arc::clone(&room).acquire_owned().await;
            let room = room.expect("nobody closes it");
            // A connection that is gone before it was accepted is no fault of this proxy.
            let Ok((stream, from)) = listener.accept().await else {
                continue;
            };
            count(&self.counters.connections, 1);
            let (proxy, random) = (self.clone(), random.fork());
            tasks.spawn(async move {
                // How a connection ends is for its two ends to judge.
                let _ended = proxy.connect(stream, from, random).await;
                drop(room);
            });
            while tasks.try_join_next().is_some() {}
        }
    }

    /// Finds out who connects, connects to whom it means, and carries until the end.
    async fn connect(
        mut self,
        mut from: TcpStream,
        address: SocketAddr,
        random: Random,
    ) -> std::io::Result<()> {
        from.set_nodelay(true)?;
        let mut first = Vec::new();
        let known = match self.place.kind {
            Kind::Clients => self.client_of(address),
            Kind::Peers => {
                first.resize(PEER_HELLO_BYTES, 0);
                let hello = tokio::time::timeout(HELLO_MAX, from.read_exact(&mut first)).await;
                hello.ok().and_then(Result::ok).and(peer_of(&first))
            }
        };
        let Some((site, traffic)) = known else {
            return Ok(());
        };
        let here = Site::Node(self.place.node);
        // Over a link that is silent nobody hears that somebody wants to connect.
        loop {
            let weather = Arc::clone(&self.sky.borrow_and_update());
            let there = weather.treatment(site, here, traffic);
            let back = weather.treatment(here, site, traffic);
            if there.is_reset() || back.is_reset() {
                count(&self.counters.reset, 1);
                return Ok(());
            }
            if !there.is_held() && !back.is_held() {
                break;
            }
            if self.sky.changed().await.is_err() {
                return Ok(());
            }
        }
        let to = TcpStream::connect(self.place.behind).await?;
        to.set_nodelay(true)?;
        let direction = Direction {
            from: site,
            to: here,
            traffic,
        };
        carry(
            (from, first),
            to,
            direction,
            &self.sky,
            &self.counters,
            random,
        )
        .await;
        Ok(())
    }

    fn client_of(&self, address: SocketAddr) -> Option<(Site, Traffic)> {
        let IpAddr::V4(address) = address.ip() else {
            return None;
        };
        let client = self.addresses.client_at(address)?;
        Some((Site::Client(client), Traffic::Clients))
    }
}

/// Who says hello, and for what.
fn peer_of(hello: &[u8]) -> Option<(Site, Traffic)> {
    let hello = PeerHello::decode(hello.try_into().ok()?).ok()?;
    let node = NodeId(hello.sender.core.node);
    let lane = match hello.lane {
        metastore_net::peer::PeerLane::Urgent => PeerLane::Urgent,
        metastore_net::peer::PeerLane::Entries => PeerLane::Entries,
        metastore_net::peer::PeerLane::Snapshots => PeerLane::Snapshots,
    };
    Some((Site::Node(node), Traffic::Peers(lane)))
}

#[cfg(test)]
mod tests;
