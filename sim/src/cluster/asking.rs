//! How clients ask: connect, send, wait, go elsewhere, give up.

use metastore_engine::{ConnectionId, Input, PeerCore, ShardId};
use metastore_net::{Consistency, GetRequest, RequestId, Response};
use metastore_statemachine::GetQuery;

use super::clients::{Asked, Meaning, meaning_of};
use super::link::{ClientEnd, ServerEnd};
use super::workload::Known;
use super::{Cluster, Event};
use crate::checkers::linearizability::{Action, End, Operation};
use crate::network::{Site, Traffic};
use crate::operation::NAMESPACE;
use crate::oracle::Moment;
use crate::violation::Violation;

/// How often something that was certainly not done is tried.
const TRIES_MAX: u32 = 60;
/// How long a client waits before it tries again.
const PAUSE_MIN_NS: u64 = 2_000_000;
const PAUSE_MAX_NS: u64 = 60_000_000;
/// How long it takes until one end knows that the other is gone.
const CLOSE_MAX_NS: u64 = 50_000_000;

/// Something that happens to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientEvent {
    /// It tries again what it asked for with this number.
    Try(u64),
    /// It has waited long enough for the try of this number.
    Timeout(u64),
    /// Its connection is gone.
    Closed(ConnectionId),
}

impl<E> Cluster<E> {
    /// Whether a client is waiting for something.
    #[must_use]
    pub fn is_asking(&self, client: usize) -> bool {
        self.clients[client].asked.is_some()
    }

    /// The newest revisions that a client saw.
    pub(super) fn known(&self, client: usize) -> &Known {
        &self.clients[client].known
    }

    /// Lets a client ask for something. It asks for one thing at a time.
    pub fn ask(&mut self, client: usize, shard: ShardId, action: Action) {
        assert!(
            !self.is_asking(client),
            "a client asks for one thing at a time"
        );
        self.clients[client].asked = Some(Asked {
            shard,
            action,
            tries: 0,
            number: 0,
            sent: Moment(0),
            under_way: None,
            began: self.now(),
        });
        self.try_now(client);
    }

    pub(super) fn on_client_event(
        &mut self,
        client: usize,
        event: ClientEvent,
    ) -> Result<(), Violation> {
        let asked = self.clients[client].asked.as_ref();
        let number = asked.map(|asked| asked.number);
        match event {
            ClientEvent::Try(due) => {
                if number == Some(due) {
                    self.try_now(client);
                }
            }
            ClientEvent::Timeout(due) => {
                let under_way = asked.and_then(|asked| asked.under_way);
                if let (true, Some((connection, _))) = (number == Some(due), under_way) {
                    self.close_link(client, connection);
                }
            }
            ClientEvent::Closed(connection) => {
                if self.clients[client].drop_link(connection) {
                    self.on_link_gone(client, connection);
                }
            }
        }
        Ok(())
    }

    // ---- A try ----

    /// Sends what the client asks for to the node that it takes for the leader.
    fn try_now(&mut self, client: usize) {
        let asked = self.clients[client].asked.as_mut().expect("it asks");
        asked.tries += 1;
        if asked.tries > TRIES_MAX {
            self.tally.failed += 1;
            self.clients[client].asked = None;
            return;
        }
        let number = self.clients[client].next_number;
        self.clients[client].next_number += 1;
        let asked = self.clients[client].asked.as_mut().expect("it asks");
        asked.number = number;
        asked.under_way = None;
        let (shard, tries) = (asked.shard, asked.tries);
        let place = self.choose_place(client, shard);
        if !self.connect(client, place) {
            self.clients[client].leaders.remove(&shard);
            self.try_later(client, tries);
            return;
        }
        let sent = self.next_moment();
        let timeout_ns = self.config.timeout_ns;
        let asked = self.clients[client].asked.clone().expect("it asks");
        let link = self.clients[client].links.get_mut(&place);
        let link = link.expect("it is connected");
        let (connection, request) = (link.id, send(link, &asked.action, timeout_ns));
        let bytes = link.take_outbound();
        let asked = self.clients[client].asked.as_mut().expect("it asks");
        asked.sent = sent;
        asked.under_way = Some((connection, request));
        let timeout = Event::Client(client, ClientEvent::Timeout(number));
        self.scheduler.after(timeout_ns, timeout);
        let (from, to) = (Site::Client(client), Site::Node(place.node));
        match self.network.send_piece(self.scheduler.now(), from, to) {
            Some(arrival) => {
                let event = Event::ToServer { connection, bytes };
                self.scheduler.at(arrival, event);
            }
            None => self.break_link(client, connection),
        }
    }

    fn try_later(&mut self, client: usize, tries: u32) {
        let asked = self.clients[client].asked.as_mut().expect("it asks");
        asked.under_way = None;
        let number = asked.number;
        self.tally.retries += 1;
        let longest_ns = PAUSE_MAX_NS.min(PAUSE_MIN_NS << tries.min(8));
        let pause_ns = self.random.between(PAUSE_MIN_NS, longest_ns);
        let event = Event::Client(client, ClientEvent::Try(number));
        self.scheduler.after(pause_ns, event);
    }

    /// The node that led last time, or any; mostly the core that has the shard, else another, which passes it on.
    fn choose_place(&mut self, client: usize, shard: ShardId) -> PeerCore {
        let shape = self.config.shape;
        let nodes = self.nodes();
        let known = self.clients[client].leaders.get(&shard).copied();
        let node = known.unwrap_or_else(|| nodes[self.random.index(nodes.len())]);
        let core = match self.random.chance(100) {
            true => {
                let cores: Vec<_> = shape.cores().collect();
                cores[self.random.index(cores.len())]
            }
            false => shape.core_of(shard),
        };
        PeerCore { node, core }
    }

    /// Makes a connection if there is none. It needs both directions and somebody who listens.
    fn connect(&mut self, client: usize, place: PeerCore) -> bool {
        if self.clients[client].links.contains_key(&place) {
            return true;
        }
        let (one, other) = (Site::Client(client), Site::Node(place.node));
        let is_open = self.network.is_open(one, other, Traffic::Clients)
            && self.network.is_open(other, one, Traffic::Clients);
        let host = &self.hosts[&place.node];
        if !is_open || !host.is_running() || host.paused_until > self.scheduler.now() {
            return false;
        }
        self.next_connection += 1;
        let id = ConnectionId(self.next_connection);
        let server = ServerEnd::new(client, place, host.life);
        self.servers.insert(id, server);
        let link = ClientEnd::new(id);
        self.clients[client].links.insert(place, link);
        self.tally.connections += 1;
        true
    }

    // ---- The end of a connection ----

    /// The network drops a connection: each end learns of it some time.
    pub(super) fn break_link(&mut self, client: usize, connection: ConnectionId) {
        let delay_ns = self.random.between(1, CLOSE_MAX_NS);
        let closed = Event::Client(client, ClientEvent::Closed(connection));
        self.scheduler.after(delay_ns, closed);
        let delay_ns = self.random.between(1, CLOSE_MAX_NS);
        self.scheduler
            .after(delay_ns, Event::ServerClosed { connection });
    }

    /// The client closes a connection.
    fn close_link(&mut self, client: usize, connection: ConnectionId) {
        self.clients[client].drop_link(connection);
        let delay_ns = self.random.between(1, CLOSE_MAX_NS);
        self.scheduler
            .after(delay_ns, Event::ServerClosed { connection });
        self.on_link_gone(client, connection);
    }

    /// What was under way on a connection will not be answered.
    fn on_link_gone(&mut self, client: usize, connection: ConnectionId) {
        let asked = self.clients[client].asked.as_ref();
        let is_meant = asked.is_some_and(|asked| {
            asked
                .under_way
                .is_some_and(|(waiting, _)| waiting == connection)
        });
        if is_meant {
            self.on_unknown(client);
        }
    }

    /// The server's end of a connection is gone.
    pub(super) fn on_server_closed(&mut self, connection: ConnectionId) -> Result<(), Violation> {
        let Some(server) = self.servers.remove(&connection) else {
            return Ok(());
        };
        self.on_core(server.place, server.life, |node, now, machine, _| {
            node.on_input(now, Input::ConnectionClosed { connection }, machine);
            Ok(())
        })?;
        Ok(())
    }

    // ---- Answers ----

    pub(super) fn on_client_bytes(
        &mut self,
        client: usize,
        connection: ConnectionId,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let Some(link) = self.clients[client].link_of(connection) else {
            return Ok(());
        };
        let moments = &mut self.moments;
        let mut meanings = Vec::new();
        let mut bad = None;
        let read = link.connection.on_bytes(bytes, |id, response| {
            if let Response::Hello(_) = response {
                return;
            }
            *moments += 1;
            match meaning_of(&response, Moment(*moments)) {
                Ok(meaning) => meanings.push((id, meaning)),
                Err(what) => bad = Some((id, what)),
            }
        });
        if let Err(error) = read {
            let what = "its bytes cannot be read";
            self.log(
                &format_args!("c{client}"),
                "protocol",
                format_args!("{error}"),
            );
            bad = bad.or(Some((RequestId(0), what)));
        }
        if let Some((request, what)) = bad {
            return Err(Violation::BadAnswer {
                connection: connection.0,
                request: request.0,
                what,
            });
        }
        for (request, meaning) in meanings {
            self.on_meaning(client, (connection, request), meaning);
        }
        Ok(())
    }

    fn on_meaning(&mut self, client: usize, answered: (ConnectionId, RequestId), meaning: Meaning) {
        let asked = self.clients[client].asked.as_ref();
        let Some(asked) = asked.filter(|asked| asked.under_way == Some(answered)) else {
            return;
        };
        let (shard, tries) = (asked.shard, asked.tries);
        match meaning {
            Meaning::Ended(end) => {
                let node = self
                    .servers
                    .get(&answered.0)
                    .map(|server| server.place.node);
                if let Some(node) = node {
                    self.clients[client].leaders.insert(shard, node);
                }
                self.tally.succeeded += 1;
                self.end(client, end);
            }
            Meaning::Elsewhere(leader) => {
                let leaders = &mut self.clients[client].leaders;
                leaders.remove(&shard);
                leaders.extend(leader.map(|node| (shard, node)));
                self.try_later(client, tries);
            }
            Meaning::NotDone => {
                if self.random.chance(300) {
                    self.clients[client].leaders.remove(&shard);
                }
                self.try_later(client, tries);
            }
            Meaning::Unknown => self.on_unknown(client),
        }
    }

    /// Nobody knows what became of it. A read is simply tried again.
    fn on_unknown(&mut self, client: usize) {
        let asked = self.clients[client].asked.as_ref().expect("it asks");
        let (shard, tries) = (asked.shard, asked.tries);
        let is_mutation = matches!(asked.action, Action::Mutate(_));
        self.clients[client].leaders.remove(&shard);
        if is_mutation {
            self.tally.unknown += 1;
            self.end(client, End::Unknown);
        } else {
            self.try_later(client, tries);
        }
    }

    fn end(&mut self, client: usize, end: End) {
        let asked = self.clients[client].asked.take().expect("it asks");
        self.clients[client].learn(&asked.action, &end);
        if self.event_log.is_read() {
            let waited_ns = self.now().nanos_since(asked.began);
            self.log(
                &format_args!("c{client}"),
                "ended",
                format_args!("shard {} after {waited_ns} ns: {end:?}", asked.shard),
            );
        }
        let operation = Operation {
            sent: asked.sent,
            action: asked.action,
            end,
        };
        self.observer.on_operation(asked.shard, operation);
    }

    fn next_moment(&mut self) -> Moment {
        self.moments += 1;
        Moment(self.moments)
    }
}

fn send(link: &mut ClientEnd, action: &Action, timeout_ns: u64) -> RequestId {
    let timeout_ms = u32::try_from(timeout_ns / 1_000_000).unwrap_or(u32::MAX);
    link.connection.set_deadline_ms(timeout_ms.max(1));
    match action {
        Action::Mutate(mutation) => link.connection.command(&mutation.command()),
        Action::Read(keys) => match keys.as_slice() {
            [key] => link.connection.get(&GetRequest {
                query: GetQuery {
                    namespace: NAMESPACE,
                    key,
                    at: None,
                },
                consistency: Consistency::Linearizable,
            }),
            keys => {
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                let newest = Consistency::Linearizable;
                link.connection.get_many(NAMESPACE, None, newest, &keys)
            }
        },
    }
}
