//! The listener and the connections of one core, on glommio.
//!
//! All of it runs on one executor and shares nothing with others. [`bind`] makes the socket, [`Listener`] brings it to
//! its core, [`serve`] accepts and runs one task a connection; the [`Service`] is called with requests and answers
//! through [`Connections`].
//!
//! Tasks run in the queue that calls [`serve`]. Sockets wake them from outside the executor, so that queue must have
//! `Latency::Matters`: in one that does not, a wake-up can wait for tens of milliseconds.

mod bind;
mod connections;
mod descriptor;
mod peer;
mod readiness;
mod refuse;
mod serve;
mod socket;
mod sweep;
mod task;

pub use bind::{BindError, bind};
pub use connections::{ConnectionCounts, ConnectionId, Connections, Teardown};
pub use descriptor::adopt_stream;
pub use peer::{
    IncomingCounts, IncomingLinks, LinkCounts, LinkEnd, LinkWait, PeerLinks, PeerListener,
    PeerOptions, PeerService, Sent, serve_peers,
};
pub use readiness::{Bell, Readiness};
pub use serve::serve;
pub use socket::Listener;

use crate::frame::RequestId;
use crate::hello::HelloInfo;
use crate::outbox::ConnectionLimits;
use crate::request::Request;
use std::time::Duration;

/// How a core treats its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerOptions {
    /// Connections at one time; one more is told `Overloaded` and closed.
    pub connections_max: usize,
    /// What one connection may hold.
    pub connection: ConnectionLimits,
    /// Time from accepting to a hello, and from a last word to the client's closing.
    pub handshake_timeout: Duration,
    /// Time from the first byte of a frame to its last. A connection without an unfinished frame may be silent for
    /// ever: the kernel's probes find out when nobody is there any more.
    pub frame_timeout: Duration,
    /// A connection is closed whose client has taken nothing of what waits for it for this long.
    pub unread_timeout: Duration,
    /// Bytes of unfinished frames on all connections together; and again, bytes of answers that wait to be sent. Beyond
    /// it, connections that hold more than a few KiB are not read, and clients that neither finish what they send nor
    /// take what they are sent are closed after [`ServerOptions::shortage_timeout`].
    pub buffer_bytes_max: usize,
    /// Takes the place of the other timeouts for whoever holds memory that others wait for.
    pub shortage_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            connections_max: 16_384,
            connection: ConnectionLimits::default(),
            handshake_timeout: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(30),
            unread_timeout: Duration::from_secs(30),
            buffer_bytes_max: 64 << 20,
            shortage_timeout: Duration::from_secs(2),
        }
    }
}

/// What answers the requests of a core.
///
/// Methods are called from the tasks of connections and must not wait. They may call [`Connections::reply`] and
/// [`Connections::flush`] at once; what they answer later, they answer by connection and id.
pub trait Service: 'static {
    /// Who is here. Called for every hello.
    fn hello(&self) -> HelloInfo;

    /// A request came in, with `deadline_ms` left, 0 for the server's default. It must get exactly one
    /// [`Answered::Last`](crate::Answered::Last), unless the connection closes before. Hello and ping never come here.
    fn on_request(
        &self,
        connection: ConnectionId,
        id: RequestId,
        deadline_ms: u32,
        request: Request<'_>,
    );

    /// All complete requests of one read from a socket have been handed over.
    fn on_read_end(&self);

    /// Everything that waited to be sent on this connection has been taken by the socket, answers of the connection's
    /// own (hello, ping) included. Whoever streams answers writes the next part now.
    fn on_drained(&self, connection: ConnectionId);

    /// A connection that had said hello has closed. Its requests need no answers.
    fn on_closed(&self, connection: ConnectionId);
}
