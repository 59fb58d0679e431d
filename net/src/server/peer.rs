//! Connections between this core and cores of other nodes.
//!
//! [`PeerListener`] takes batches in on a port of its own, so that cluster traffic can be fenced off; [`PeerLinks`] sends
//! them. Neither repeats a batch, nor knows what is in one. Both run in the task queue of their caller, which must have
//! `Latency::Matters`.

mod alarm;
mod counts;
mod held;
mod incoming;
mod incoming_task;
mod link_task;
mod links;
mod task_waker;

use std::net::SocketAddr;
use std::time::Duration;

use crate::peer::{BATCH_BYTES_MAX, IncomingFault, LocalPeer, OutgoingFault, PeerCore, PeerLane};

pub use counts::{IncomingCounts, LinkCounts};
pub use incoming::{IncomingLinks, PeerListener, serve_peers};
pub use links::{PeerLinks, Sent};

/// How a core treats its connections to and from cores of other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerOptions {
    /// Time from the beginning of an attempt to the answer to our hello.
    pub connect_timeout: Duration,
    /// A connection ends whose receiver has taken nothing of what waits for it for this long. The kernel does the same
    /// with what it has sent and nobody has confirmed.
    pub unsent_timeout: Duration,
    /// Bytes that may wait on a connection of each lane, in the order of [`PeerLane::ALL`]; or one longer batch.
    pub queued_bytes_max: [usize; 3],
    /// Time from accepting to a hello, and from a refusal to the sender's closing.
    pub hello_timeout: Duration,
    /// Time from the first byte of a batch to its last.
    pub batch_timeout: Duration,
    /// Connections that have not said hello; one more is closed at once.
    pub strangers_max: usize,
    /// Connections that have; one more is refused, unless it takes the place of another.
    pub links_max: usize,
    /// Length of the longest batch.
    pub batch_bytes_max: usize,
    /// Memory of batches that have come in part, on all connections. Beyond it one connection after the other may
    /// finish its batch.
    pub held_bytes_max: usize,
    /// Bytes that are read from one connection before others have their turn.
    pub turn_bytes_max: usize,
}

impl Default for PeerOptions {
    fn default() -> PeerOptions {
        PeerOptions {
            connect_timeout: Duration::from_secs(2),
            unsent_timeout: Duration::from_secs(5),
            queued_bytes_max: [4 << 20, 16 << 20, 4 << 20],
            hello_timeout: Duration::from_secs(5),
            batch_timeout: Duration::from_secs(30),
            strangers_max: 64,
            links_max: 1024,
            batch_bytes_max: BATCH_BYTES_MAX,
            held_bytes_max: 64 << 20,
            turn_bytes_max: 256 << 10,
        }
    }
}

impl PeerOptions {
    fn queued_bytes_max_of(&self, lane: PeerLane) -> usize {
        self.queued_bytes_max[place_of(lane)]
    }
}

/// The place of a lane in [`PeerLane::ALL`].
fn place_of(lane: PeerLane) -> usize {
    usize::from(lane.code()) - 1
}

/// Who owns the connections of a core. Methods are called from their tasks and must not wait.
pub trait PeerService: 'static {
    /// Who is here. Called for every hello.
    fn local(&self) -> LocalPeer;

    /// Whether a node still has the data that it had when it was first heard of. Called for every hello of its cluster.
    fn has_known_data(&self, node: u32, data_id: u64) -> bool;

    /// A batch came from the core that the hello of its connection named.
    fn on_batch(&self, from: PeerCore, lane: PeerLane, batch: &[u8]);

    /// All complete batches of one read from a socket have been handed over.
    fn on_read_end(&self);

    /// Batches to `peer` were lost, or may have been: the connection has ended, or none could be made. Said once for
    /// each time: not again before there was a connection.
    fn on_unreachable(&self, peer: PeerCore, lane: PeerLane, end: &LinkEnd);

    /// Who connected from `address` was not accepted, or sent what is no batch.
    fn on_refused(&self, address: Option<SocketAddr>, fault: &IncomingFault);
}

/// What a connection to another core waited for when its time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkWait {
    /// A connection and the answer to the hello.
    Answer,
    /// Room for what waits to be sent.
    Room,
}

/// Why a connection to another core has ended, or was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    /// Nobody listens there, or nobody can be reached.
    #[error("no connection: {kind}")]
    Unconnected {
        /// What the kernel said.
        kind: std::io::ErrorKind,
    },
    /// The other end closed it.
    #[error("the other end closed the connection")]
    Closed,
    /// It broke.
    #[error("the connection broke: {kind}")]
    Broken {
        /// What the kernel said.
        kind: std::io::ErrorKind,
    },
    /// It took too long.
    #[error("the other end took too long ({waited_for:?})")]
    TimedOut {
        /// What was waited for.
        waited_for: LinkWait,
    },
    /// The other end does not want it, or is somebody else.
    #[error(transparent)]
    Fault(#[from] OutgoingFault),
}
