//! What can go wrong between this client and a server.

use crate::client::ProtocolError;
use crate::wire_error::WireError;
use std::io;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection to the address.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The address as it was given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server answered that it failed. [`WireError::happened`] says whether it may have happened all the same.
    #[error("{0}")]
    Server(#[from] WireError),
    /// The connection failed after a mutation may have left: it may have happened, or may yet.
    #[error("the outcome is unknown: {cause}")]
    OutcomeUnknown {
        /// How it failed.
        cause: ConnectionFault,
    },
    /// The connection failed, and nothing has happened.
    #[error("{0}")]
    Connection(#[from] ConnectionFault),
}

/// How a connection failed. It is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionFault {
    /// The socket reported an error.
    #[error("the connection broke: {0}")]
    Io(io::Error),
    /// The server did not answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The server closed the connection, or it failed before.
    #[error("the connection is closed")]
    Closed,
    /// The server does not speak as it should, or gave up the connection.
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
}

impl From<io::Error> for ConnectionFault {
    fn from(error: io::Error) -> ConnectionFault {
        // A socket's timeout shows as either, depending on the system.
        let timeouts = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
        if timeouts.contains(&error.kind()) {
            ConnectionFault::Timeout
        } else {
            ConnectionFault::Io(error)
        }
    }
}
