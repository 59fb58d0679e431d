//! The protocols of the systems that are measured, behind one set of requests and replies.
//!
//! A [`Connection`] is one end of a connection without a socket: it makes bytes of requests and replies of bytes. It
//! does **not** send, wait, count time or judge whether a reply is the wanted one; it never retries.

mod etcd;
mod metastore;
mod redis;
mod session;

use metastore_net::ProtocolError;
use metastore_statemachine::Revision;

pub(crate) use etcd::EtcdError;
pub(crate) use redis::RespError;
pub(crate) use session::{Session, SessionError};

use crate::operation::Failure;
use crate::system::System;

/// A request under way on a connection. It may be used again once it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallId(pub(crate) u64);

/// What is asked of a system.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request<'a> {
    Ping,
    Put {
        key: &'a [u8],
        value: &'a [u8],
    },
    /// Linearizable.
    Get {
        key: &'a [u8],
    },
    /// A put that happens only if the key is still at this revision.
    CompareAndSwap {
        key: &'a [u8],
        value: &'a [u8],
        revision: Revision,
    },
    List(Page<'a>),
    Batch(Puts<'a>),
    /// Writes something that is no key. Only etcd is asked for it, after keys were loaded.
    WriteNoKey,
}

/// A page of a directory: keys and values in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page<'a> {
    /// What all keys of the directory begin with, separator included. A system without directories gives what lies
    /// deeper too.
    pub(crate) directory: &'a [u8],
    /// The first key of the page, or any key before it.
    pub(crate) from: &'a [u8],
    pub(crate) rows_max: u64,
}

/// Puts that are sent together. Each of their keys occurs once, since etcd takes no other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Puts<'a> {
    /// One after the other, all of one length.
    keys: &'a [u8],
    /// As many, in the same order.
    values: &'a [u8],
    count: usize,
}

/// What a system answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    Pong,
    /// A put took effect.
    Done,
    /// So many puts took effect together, and no other did not.
    Batch {
        done: u64,
    },
    /// A compare-and-swap came too late.
    Conflict,
    /// What a get has found, if anything.
    Row(Option<FoundRow<'a>>),
    Rows(RowsPart<'a>),
    /// Any other answer to this request.
    Failed(Failure),
}

/// The row that a get has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundRow<'a> {
    pub(crate) value: &'a [u8],
    /// The key's last change; 0 from a system that keeps no revisions.
    pub(crate) revision: Revision,
}

/// A page, or one part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowsPart<'a> {
    pub(crate) count: u64,
    pub(crate) first_key: Option<&'a [u8]>,
    /// Whether no other part follows.
    pub(crate) is_last: bool,
}

/// The bytes that came are no answers. The connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TalkError {
    #[error(transparent)]
    MetaStore(#[from] ProtocolError),
    #[error(transparent)]
    Redis(#[from] RespError),
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    #[error("the greeting was not answered with one: {0}")]
    Greeting(Failure),
}

/// The client's end of one connection.
///
/// To drive it: send [`outbound`](Self::outbound) and remove what was sent, hand every byte received to
/// [`on_bytes`](Self::on_bytes), and submit requests once it [is ready](Self::is_ready).
#[derive(Debug)]
pub(crate) enum Connection {
    MetaStore(metastore::Connection),
    Redis(redis::Connection),
    Etcd(Box<etcd::Connection>),
}

impl Connection {
    /// An end on which nothing has been sent; what must be said first stands in the outbound bytes.
    pub(crate) fn new(system: System) -> Connection {
        match system {
            System::MetaStore => Connection::MetaStore(metastore::Connection::new()),
            System::Redis => Connection::Redis(redis::Connection::new()),
            System::Etcd => Connection::Etcd(Box::new(etcd::Connection::new())),
        }
    }

    /// Whether the system has said what it says first.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Connection::MetaStore(connection) => connection.is_ready(),
            Connection::Redis(_) => true,
            Connection::Etcd(connection) => connection.is_ready(),
        }
    }

    /// Prepares a request.
    ///
    /// # Panics
    /// When the system [lacks](System::lacks) it.
    pub(crate) fn submit(&mut self, request: &Request<'_>) -> CallId {
        match self {
            Connection::MetaStore(connection) => connection.submit(request),
            Connection::Redis(connection) => connection.submit(request),
            Connection::Etcd(connection) => connection.submit(request),
        }
    }

    /// The bytes to send. The driver removes what it has sent, and only that.
    pub(crate) fn outbound(&mut self) -> &mut Vec<u8> {
        match self {
            Connection::MetaStore(connection) => connection.outbound(),
            Connection::Redis(connection) => connection.outbound(),
            Connection::Etcd(connection) => connection.outbound(),
        }
    }

    /// Takes bytes as they were received, and hands out each reply that is complete with them.
    pub(crate) fn on_bytes(
        &mut self,
        bytes: &[u8],
        on_reply: impl FnMut(CallId, &Reply<'_>),
    ) -> Result<(), TalkError> {
        match self {
            Connection::MetaStore(connection) => connection.on_bytes(bytes, on_reply),
            Connection::Redis(connection) => Ok(connection.on_bytes(bytes, on_reply)?),
            Connection::Etcd(connection) => Ok(connection.on_bytes(bytes, on_reply)?),
        }
    }
}

impl<'a> Puts<'a> {
    /// Pairs as many keys with as many values, which stand one after the other.
    pub(crate) fn new(count: usize, keys: &'a [u8], values: &'a [u8]) -> Puts<'a> {
        assert!(count > 0, "a batch holds something");
        for bytes in [keys.len(), values.len()] {
            assert!(
                bytes >= count && bytes.is_multiple_of(count),
                "all keys, and all values, are of one length"
            );
        }
        Puts {
            keys,
            values,
            count,
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Key and value of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let keys = self.keys.chunks_exact(self.keys.len() / self.count);
        keys.zip(self.values.chunks_exact(self.values.len() / self.count))
    }
}

impl Reply<'_> {
    /// Whether nothing follows that answers the same request.
    pub(crate) fn is_last(&self) -> bool {
        if let Reply::Rows(part) = self {
            return part.is_last;
        }
        true
    }
}
