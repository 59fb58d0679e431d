//! A client's connection to a core: both ends, and the frames between them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use metastore_engine::{ConnectionId, PeerCore, Reply, RequestId, RequestKind, ShardId, ShardMap};
use metastore_net::{
    ClientConnection, ClientOptions, ConnectionLimits, HelloInfo, HelloRequest, Outbox, Request,
    ServerConnection,
};

use super::shape::shard_of;
use super::wire;
use crate::node::IDENTITY;

/// The server's end.
pub(super) struct ServerEnd {
    pub(super) client: usize,
    pub(super) place: PeerCore,
    /// The life of the node that it belongs to.
    pub(super) life: u64,
    connection: ServerConnection,
    outbox: RefCell<Outbox>,
    /// Commands that are to be acknowledged, each with its shard.
    promised: BTreeMap<RequestId, (ShardId, Vec<u8>)>,
}

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
                if let Request::Command(checked) = &request {
                    let shard = shard_of(map, checked.command.key);
                    promised.insert(id, (shard, checked.bytes.to_vec()));
                }
                on_request(id, deadline_ms, wire::to_core(&request));
            });
    }

    /// A request is answered. Tells the command that it was, if it was one.
    pub(super) fn on_reply(
        &mut self,
        (id, kind): (RequestId, RequestKind),
        reply: &Reply,
        arena: &[u8],
    ) -> Option<(ShardId, Vec<u8>)> {
        self.outbox.borrow_mut().reply(|out| {
            wire::append_reply(metastore_net::RequestId(id.0), kind, reply, arena, out)
        });
        self.promised.remove(&id)
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
