//! The listener and the connections of one core, on glommio.
//!
//! All of it runs on one executor and shares nothing with others. [`bind`] makes the listener, [`serve`] accepts and
//! runs one task a connection; the [`Service`] is called with requests and answers through [`Connections`].
//!
//! Tasks run in the queue that calls [`serve`]. Sockets wake them from outside the executor, so that queue must have
//! `Latency::Matters`: in one that does not, a wake-up can wait for tens of milliseconds.

mod bind;
mod connections;
mod listener;
mod serve;
mod task;

pub use bind::{BindError, bind, bind_socket};
pub use connections::{ConnectionId, Connections, Teardown};
pub use listener::{adopt_listener, adopt_stream};
pub use serve::serve;

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
    /// A connection is closed on which nothing is under way and nothing has arrived for this long, and one whose
    /// client has taken nothing of what waits for it for this long.
    pub idle_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            connections_max: 8192,
            connection: ConnectionLimits::default(),
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(600),
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
