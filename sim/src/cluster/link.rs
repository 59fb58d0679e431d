//! A client's connection to a core: both ends, and the frames between them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use metastore_engine::{
    BatchItem, ConnectionId, PeerCore, Reply, RequestId, RequestKind, ShardId, ShardMap,
};
use metastore_net::{
    Answered, CheckedCommand, ClientConnection, ClientOptions, ConnectionLimits, Consistency,
    CountRequest, GetRequest, HelloInfo, HelloRequest, Outbox, RangeRequest, Request,
    ServerConnection,
};
use metastore_statemachine::{Command, GetQuery, ShardList};

use super::clients::Asked;
use super::shape::shard_of;
use super::wire;
use crate::node::IDENTITY;
use crate::operation::{NAMESPACE, Operation};

/// The server's end.
pub(super) struct ServerEnd {
    pub(super) client: usize,
    pub(super) place: PeerCore,
    /// The life of the node that it belongs to.
    pub(super) life: u64,
    connection: ServerConnection,
    outbox: RefCell<Outbox>,
    /// Commands that are to be acknowledged, each with its shard, by their request.
    promised: BTreeMap<RequestId, Vec<Promised>>,
    /// Whether a range waits until its last chunk has gone.
    awaits_drain: bool,
}

/// A command with its shard.
pub(super) type Promised = (ShardId, Vec<u8>);

/// The client's end.
pub(super) struct ClientEnd {
    pub(super) id: ConnectionId,
    pub(super) connection: ClientConnection,
}

impl ServerEnd {
    pub(super) fn new(client: usize, place: PeerCore, life: u64) -> ServerEnd {
        let limits = ConnectionLimits::default();
        ServerEnd {
            client,
            place,
            life,
            connection: ServerConnection::new(&limits),
            outbox: RefCell::new(Outbox::new(&limits)),
            promised: BTreeMap::new(),
            awaits_drain: false,
        }
    }

    /// Bytes arrive: hands each request on as the core takes it, with its deadline.
    pub(super) fn on_bytes(
        &mut self,
        bytes: &[u8],
        map: &ShardMap,
        mut on_request: impl FnMut(RequestId, u32, metastore_engine::Request<'_>),
    ) {
        let hello = || hello_of(self.place);
        let promised = &mut self.promised;
        self.connection
            .on_bytes(bytes, &self.outbox, hello, |id, deadline_ms, request| {
                let id = RequestId(id.0);
                let of = |command: &CheckedCommand<'_>| {
                    let shard = shard_of(map, command.command.key);
                    (shard, command.bytes.to_vec())
                };
                match &request {
                    Request::Command(checked) => {
                        promised.insert(id, vec![of(checked)]);
                    }
                    Request::Batch(batch) => {
                        let commands = batch.commands();
                        let commands = commands.map(|command| of(&command)).collect();
                        promised.insert(id, commands);
                    }
                    Request::Get(_)
                    | Request::GetMany(_)
                    | Request::Range(_)
                    | Request::Count(_)
                    | Request::Admin(_)
                    | Request::Cancel { .. }
                    | Request::Status
                    | Request::ShardMap
                    | Request::Hello(_)
                    | Request::Ping => {}
                }
                on_request(id, deadline_ms, wire::to_core(&request));
            });
    }

    /// A request is answered. Tells the commands of which the client learns how they ended.
    pub(super) fn on_reply(
        &mut self,
        (id, kind): (RequestId, RequestKind),
        reply: &Reply,
        arena: &[u8],
    ) -> Vec<Promised> {
        let awaits_drain = &mut self.awaits_drain;
        self.outbox.borrow_mut().reply(|out| {
            let id = metastore_net::RequestId(id.0);
            let answered = wire::append_reply(id, kind, reply, arena, out);
            *awaits_drain |= answered == Answered::More;
            answered
        });
        let promised = self.promised.remove(&id).unwrap_or_default();
        match reply {
            Reply::Outcome(_) => promised,
            Reply::Batch(items) => {
                let outcomes = promised.into_iter().zip(items);
                outcomes
                    .filter(|(_, item)| matches!(item, BatchItem::Outcome(_)))
                    .map(|(promised, _)| promised)
                    .collect()
            }
            Reply::Rows { .. }
            | Reply::Chunk { .. }
            | Reply::Count { .. }
            | Reply::Cancelled
            | Reply::Status(_)
            | Reply::Error(_) => Vec::new(),
        }
    }

    /// Whether the core waits to be told that everything has gone out.
    pub(super) fn take_awaits_drain(&mut self) -> bool {
        std::mem::take(&mut self.awaits_drain)
    }

    /// What goes out now.
    pub(super) fn take_outbound(&mut self) -> Vec<u8> {
        let mut outbox = self.outbox.borrow_mut();
        let bytes = outbox.unsent().to_vec();
        outbox.on_sent(bytes.len());
        bytes
    }
}

impl ClientEnd {
    /// A connection on which nothing was sent but the hello.
    pub(super) fn new(id: ConnectionId) -> ClientEnd {
        let mut connection = ClientConnection::new(&ClientOptions::default());
        connection.hello(&HelloRequest::new("simulated", Some(IDENTITY.cluster.0)));
        ClientEnd { id, connection }
    }

    /// What goes out now.
    pub(super) fn take_outbound(&mut self) -> Vec<u8> {
        std::mem::take(self.connection.outbound())
    }
}

impl Asked {
    /// Puts it into what a connection sends next, to be answered within so many milliseconds.
    pub fn send(
        &self,
        connection: &mut ClientConnection,
        timeout_ms: u32,
    ) -> metastore_net::RequestId {
        connection.set_deadline_ms(timeout_ms.max(1));
        let consistency = Consistency::Linearizable;
        match &self.operation {
            Operation::Mutate(_) | Operation::Compound(_) => {
                connection.command(&decoded(&self.commands[0]))
            }
            Operation::Batch(_) => {
                let commands: Vec<Command<'_>> =
                    self.commands.iter().map(|bytes| decoded(bytes)).collect();
                connection.batch(&commands)
            }
            Operation::Get { key, at } => connection.get(&GetRequest {
                query: GetQuery {
                    namespace: NAMESPACE,
                    key,
                    at: *at,
                },
                consistency,
            }),
            Operation::GetMany { keys, at } => {
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                connection.get_many(NAMESPACE, *at, consistency, &keys)
            }
            Operation::Range(range) => connection.range(&RangeRequest {
                query: range.query(),
                chunk_bytes: u32::try_from(range.chunk_bytes).expect("a small chunk"),
                shards: ShardList::ALL,
            }),
            Operation::Count(range) => connection.count(&CountRequest {
                query: range.query(),
                shards: ShardList::ALL,
            }),
            Operation::Audit | Operation::Status => {
                unreachable!("clients of a cluster do not ask for it")
            }
        }
    }
}

fn decoded(bytes: &[u8]) -> Command<'_> {
    Command::decode(bytes).expect("clients send commands").0
}

fn hello_of(place: PeerCore) -> HelloInfo {
    HelloInfo {
        cluster_id: IDENTITY.cluster.0,
        node_id: place.node.0,
        core_index: place.core.0,
        core_count: 1,
        first_port: 1,
        map_epoch: 1,
        server_version: String::from("simulated"),
    }
}
