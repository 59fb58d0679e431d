//! A client over a plain socket, for command lines and tests: one connection, every call waits for its answer.
//!
//! It does not retry, does not follow hints to other cores and does not reconnect: after a fault the connection is of
//! no further use, and the caller decides.

mod error;
mod link;

pub use crate::owned::{
    GetAnswer, GetManyAnswer, OwnedDetail, OwnedOutcome, OwnedRow, OwnedTxn, OwnedTxnResult,
};
pub use error::{ClientError, ConnectionFault};

use crate::admin::{AdminReply, AdminRequest};
use crate::client::{ClientConnection, ClientOptions};
use crate::count::{CountReply, CountRequest};
use crate::frame::RequestId;
use crate::hello::{HelloReply, HelloRequest};
use crate::range::{RangeRequest, ShardRevision};
use crate::read::{Consistency, GetRequest};
use crate::response::Response;
use crate::shard_map::ShardMapReply;
use crate::status::StatusReply;
use crate::wire_error::WireError;
use link::Link;
use metastore_statemachine::{
    Command, CommandKind, Commit, GetQuery, KeyRange, NamespaceId, Revision, Row, Structured, Txn,
};
use std::net::ToSocketAddrs;
use std::time::Duration;

/// The content of one kind of response; `None` for any other, which [`ClientConnection`] has already refused.
macro_rules! match_response {
    ($response:expr, $kind:ident) => {
        if let Response::$kind(content) = $response {
            Some(content)
        } else {
            None
        }
    };
}

/// How a client connects.
#[derive(Debug, Clone, Copy)]
pub struct ConnectOptions<'a> {
    /// How long connecting, one write, and the wait for bytes may take.
    pub timeout: Duration,
    /// For the server's logs.
    pub client_name: &'a str,
    /// Refuse to talk to any other cluster.
    pub cluster_id: Option<u128>,
    /// The protocol's own options.
    pub connection: ClientOptions,
}

impl Default for ConnectOptions<'_> {
    fn default() -> Self {
        ConnectOptions {
            timeout: Duration::from_secs(5),
            client_name: "metastore",
            cluster_id: None,
            connection: ClientOptions::default(),
        }
    }
}

/// A connection that has said hello.
///
/// Calls that wait and requests that are [submitted](Self::submit) may take turns, but a call begins only when every
/// submitted request has been answered.
#[derive(Debug)]
pub struct Client {
    link: Link,
    server: HelloReply,
}

impl Client {
    /// Connects and says hello.
    ///
    /// # Errors
    /// When nobody answers there in time, or not as a server of this protocol.
    pub fn connect(
        address: impl ToSocketAddrs + std::fmt::Display,
        timeout: Duration,
    ) -> Result<Client, ClientError> {
        let options = ConnectOptions {
            timeout,
            ..ConnectOptions::default()
        };
        Client::connect_with(address, &options)
    }

    /// Connects and says hello.
    ///
    /// # Errors
    /// When nobody answers there in time, or not as a server of this protocol, or it is another cluster.
    pub fn connect_with(
        address: impl ToSocketAddrs + std::fmt::Display,
        options: &ConnectOptions<'_>,
    ) -> Result<Client, ClientError> {
        let mut link = Link::open(&address, options).map_err(|source| ClientError::Connect {
            address: address.to_string(),
            source,
        })?;
        let hello = HelloRequest::new(options.client_name, options.cluster_id);
        let send = |connection: &mut ClientConnection| connection.hello(&hello);
        let server = ask(&mut link, send, |response| match_response!(response, Hello))?;
        Ok(Client { link, server })
    }

    /// What the server said of itself.
    pub fn server(&self) -> &HelloReply {
        &self.server
    }

    /// How long a call waits for bytes from now on.
    ///
    /// # Errors
    /// When the socket does not take it.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<(), ClientError> {
        Ok(self.link.set_timeout(timeout)?)
    }

    /// The deadline that requests carry from now on; 0 for the server's default.
    pub fn set_deadline_ms(&mut self, deadline_ms: u32) {
        self.link.connection.set_deadline_ms(deadline_ms);
    }

    // Mutations.

    /// Sets a key to a value.
    ///
    /// # Errors
    /// [`ClientError::OutcomeUnknown`] when it may have happened.
    pub fn put(
        &mut self,
        namespace: NamespaceId,
        key: &[u8],
        value: &[u8],
    ) -> Result<OwnedOutcome, ClientError> {
        self.command(&Command::put(namespace, key, value))
    }

    /// Removes a key.
    ///
    /// # Errors
    /// [`ClientError::OutcomeUnknown`] when it may have happened.
    pub fn delete(
        &mut self,
        namespace: NamespaceId,
        key: &[u8],
    ) -> Result<OwnedOutcome, ClientError> {
        self.command(&Command::delete(namespace, key))
    }

    /// Any command.
    ///
    /// # Errors
    /// [`ClientError::OutcomeUnknown`] when it may have happened.
    pub fn command(&mut self, command: &Command<'_>) -> Result<OwnedOutcome, ClientError> {
        self.mutate(
            |connection| connection.command(command),
            |response| match_response!(response, Command).map(OwnedOutcome::from),
        )
    }

    /// Independent commands, each answered on its own.
    ///
    /// # Errors
    /// [`ClientError::OutcomeUnknown`] when they may have happened.
    pub fn batch(
        &mut self,
        commands: &[Command<'_>],
    ) -> Result<Vec<Result<OwnedOutcome, WireError>>, ClientError> {
        self.mutate(
            |connection| connection.batch(commands),
            |response| {
                let reply = match_response!(response, Batch)?;
                Some(
                    reply
                        .items()
                        .map(|item| item.map(OwnedOutcome::from))
                        .collect(),
                )
            },
        )
    }

    /// Compares, then one of two lists of operations, all at one revision or not at all. The keys belong to one shard.
    ///
    /// # Errors
    /// [`ClientError::OutcomeUnknown`] when it may have happened.
    pub fn txn(
        &mut self,
        namespace: NamespaceId,
        txn: Txn<'_>,
    ) -> Result<OwnedOutcome, ClientError> {
        self.structured(namespace, &Structured::Txn(txn))
    }

    /// Mutations that apply if nothing that was read has changed since.
    ///
    /// # Errors
    /// [`ClientError::OutcomeUnknown`] when it may have happened.
    pub fn commit(
        &mut self,
        namespace: NamespaceId,
        commit: Commit<'_>,
    ) -> Result<OwnedOutcome, ClientError> {
        self.structured(namespace, &Structured::Commit(commit))
    }

    /// Removes every key of a range, in as many shards as it has keys in. It is not atomic: when it ends before it is
    /// done, send it again.
    ///
    /// # Errors
    /// [`ClientError::OutcomeUnknown`] when it may have happened; an error of the server may have come after a part.
    pub fn delete_range(
        &mut self,
        namespace: NamespaceId,
        range: KeyRange<'_>,
    ) -> Result<OwnedOutcome, ClientError> {
        self.delete_range_in(namespace, range, &[])
    }

    /// The same in these shards only, whose ids ascend; in all for none. Where several nodes lead shards, each is asked
    /// for its own.
    ///
    /// # Errors
    /// As [`Client::delete_range`].
    pub fn delete_range_in(
        &mut self,
        namespace: NamespaceId,
        range: KeyRange<'_>,
        shards: &[u32],
    ) -> Result<OwnedOutcome, ClientError> {
        let value = range.encode_delete(shards);
        let structured = Structured::DeleteRange(range);
        let key = structured.first_named().unwrap_or(b"\0");
        self.command(&Command::structured(
            structured.kind(),
            namespace,
            key,
            &value,
        ))
    }

    /// Refuses reads below a revision from now on, in the shard that `key` belongs to.
    ///
    /// # Errors
    /// [`ClientError::OutcomeUnknown`] when it may have happened.
    pub fn compact(
        &mut self,
        namespace: NamespaceId,
        key: &[u8],
        revision: Revision,
    ) -> Result<OwnedOutcome, ClientError> {
        let value = Structured::Compact(revision).encode();
        let kind = CommandKind::Compact;
        self.command(&Command::structured(kind, namespace, key, &value))
    }

    fn structured(
        &mut self,
        namespace: NamespaceId,
        structured: &Structured<'_>,
    ) -> Result<OwnedOutcome, ClientError> {
        let value = structured.encode();
        // Where it names nothing there is nothing to route by, and the server says so.
        let key = structured.first_named().unwrap_or(b"\0");
        let kind = structured.kind();
        self.command(&Command::structured(kind, namespace, key, &value))
    }

    // Reads.

    /// Reads one key at its newest.
    ///
    /// # Errors
    /// Nothing has happened whatever the error.
    pub fn get(&mut self, namespace: NamespaceId, key: &[u8]) -> Result<GetAnswer, ClientError> {
        self.get_with(&GetRequest {
            query: GetQuery {
                namespace,
                key,
                at: None,
            },
            consistency: Consistency::Linearizable,
        })
    }

    /// Reads one key, at a revision if asked for.
    ///
    /// # Errors
    /// Nothing has happened whatever the error.
    pub fn get_with(&mut self, get: &GetRequest<'_>) -> Result<GetAnswer, ClientError> {
        self.ask(
            |connection| connection.get(get),
            |response| match_response!(response, Get).map(GetAnswer::from),
        )
    }

    /// Reads several keys of one shard at one revision.
    ///
    /// # Errors
    /// Nothing has happened whatever the error.
    pub fn get_many(
        &mut self,
        namespace: NamespaceId,
        at: Option<Revision>,
        keys: &[&[u8]],
    ) -> Result<GetManyAnswer, ClientError> {
        self.ask(
            |connection| connection.get_many(namespace, at, Consistency::Linearizable, keys),
            |response| match_response!(response, GetMany).map(GetManyAnswer::from),
        )
    }

    /// Reads a range row by row, and tells at the end at which revisions it was read.
    ///
    /// # Errors
    /// The rows handed out before are right, but there may have been more.
    pub fn range(
        &mut self,
        range: &RangeRequest<'_>,
        mut on_row: impl FnMut(Row<'_>),
    ) -> Result<Vec<ShardRevision>, ClientError> {
        let mut revisions = Vec::new();
        self.ask(
            |connection| connection.range(range),
            |response| {
                let chunk = match_response!(response, Range)?;
                chunk.rows().for_each(&mut on_row);
                revisions.extend(chunk.revisions());
                Some(())
            },
        )?;
        Ok(revisions)
    }

    /// Counts the rows of a range.
    ///
    /// # Errors
    /// Nothing has happened whatever the error.
    pub fn count(&mut self, count: &CountRequest<'_>) -> Result<CountReply, ClientError> {
        self.ask(
            |connection| connection.count(count),
            |response| match_response!(response, Count),
        )
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// When there is none.
    pub fn ping(&mut self) -> Result<(), ClientError> {
        self.ask(ClientConnection::ping, |response| {
            matches!(response, Response::Pong).then_some(())
        })
    }

    /// Asks what the core is doing.
    ///
    /// # Errors
    /// Nothing has happened whatever the error.
    pub fn status(&mut self) -> Result<StatusReply, ClientError> {
        self.ask(ClientConnection::status, |response| {
            match_response!(response, Status)
        })
    }

    /// Asks which core serves which slots.
    ///
    /// # Errors
    /// Nothing has happened whatever the error.
    pub fn shard_map(&mut self) -> Result<ShardMapReply, ClientError> {
        self.ask(ClientConnection::shard_map, |response| {
            match_response!(response, ShardMap)
        })
    }

    /// Asks something of the replicas of a shard.
    ///
    /// # Errors
    /// [`ClientError::OutcomeUnknown`] when a change may have been made.
    pub fn admin(&mut self, request: &AdminRequest<'_>) -> Result<AdminReply, ClientError> {
        self.mutate(
            |connection| connection.admin(request),
            |response| match_response!(response, Admin),
        )
    }

    // Several requests at a time.

    /// Prepares a request without waiting. It leaves with the next [`Client::next_responses`].
    ///
    /// Everything submitted is written before any answer is read: do not submit more at a time than the server takes
    /// in flight.
    pub fn submit(
        &mut self,
        request: impl FnOnce(&mut ClientConnection) -> RequestId,
    ) -> RequestId {
        request(&mut self.link.connection)
    }

    /// Sends what was submitted and waits until at least one answer is there.
    ///
    /// # Errors
    /// The connection has failed. What has not been answered is unknown if it is a mutation.
    ///
    /// # Panics
    /// When no request is under way.
    pub fn next_responses(
        &mut self,
        mut on_response: impl FnMut(RequestId, Response<'_>),
    ) -> Result<(), ClientError> {
        assert!(self.pending_count() > 0, "waiting for an answer to nothing");
        self.link.send()?;
        let mut count = 0;
        while count == 0 {
            self.link.receive(|id, response| {
                count += 1;
                on_response(id, response);
            })?;
        }
        Ok(())
    }

    /// How many requests are under way.
    pub fn pending_count(&self) -> usize {
        self.link.connection.pending_count()
    }

    // Calls.

    fn ask<T>(
        &mut self,
        send: impl FnOnce(&mut ClientConnection) -> RequestId,
        read: impl FnMut(Response<'_>) -> Option<T>,
    ) -> Result<T, ClientError> {
        ask(&mut self.link, send, read)
    }

    /// Like [`Client::ask`], but a fault after the request may have left says that the outcome is unknown.
    fn mutate<T>(
        &mut self,
        send: impl FnOnce(&mut ClientConnection) -> RequestId,
        read: impl FnMut(Response<'_>) -> Option<T>,
    ) -> Result<T, ClientError> {
        if self.link.is_broken() {
            return Err(ConnectionFault::Closed.into());
        }
        let answer = self.link.call(send, read);
        Ok(answer.map_err(|cause| ClientError::OutcomeUnknown { cause })??)
    }
}

fn ask<T>(
    link: &mut Link,
    send: impl FnOnce(&mut ClientConnection) -> RequestId,
    read: impl FnMut(Response<'_>) -> Option<T>,
) -> Result<T, ClientError> {
    Ok(link.call(send, read)??)
}
