//! How clients ask: connect, send, wait, go elsewhere, give up.

use std::rc::Rc;

use metastore_engine::{ConnectionId, Input, PeerCore, Time};
use metastore_net::{RequestId, Response};

use super::answers::{Meaning, meaning_of};
use super::clients::{Asked, Client, Part, learn};
use super::link::{ClientEnd, ServerEnd};
use super::{Cluster, Event};
use crate::checkers::linearizability::{End, Operation as Seen};
use crate::network::{Site, Traffic};
use crate::operation::Operation;
use crate::oracle::Moment;
use crate::violation::Violation;
use crate::workload::Known;

/// How often something that was certainly not done is tried.
const TRIES_MAX: u32 = 60;
/// How many reads in a thousand are asked of any node.
const FOLLOWER_READS_PER_MILLE: u64 = 300;
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
    pub fn ask(&mut self, client: usize, operation: Operation) {
        assert!(
            !self.is_asking(client),
            "a client asks for one thing at a time"
        );
        let asked = Asked::new(operation, &self.shard_map, self.now());
        self.clients[client].asked = Some(asked);
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
            self.given_up = Some((client, asked.began));
            self.clients[client].asked = None;
            return;
        }
        let number = self.clients[client].next_number;
        self.clients[client].next_number += 1;
        let asked = self.clients[client].asked.as_mut().expect("it asks");
        asked.number = number;
        asked.under_way = None;
        asked.rows.clear();
        let tries = asked.tries;
        let place = self.choose_place(client);
        if self.event_log.is_read() {
            let to = super::At(place);
            self.log(
                &format_args!("c{client}"),
                "asks",
                format_args!("{to} ({tries})"),
            );
        }
        if !self.connect(client, place) {
            self.forget_leader(client);
            self.try_later(client, tries);
            return;
        }
        let sent = self.next_moment();
        let timeout_ns = self.config.timeout_ns;
        let Client { links, asked, .. } = &mut self.clients[client];
        let asked = asked.as_mut().expect("it asks");
        let link = links.get_mut(&place).expect("it is connected");
        let timeout_ms = u32::try_from(timeout_ns / 1_000_000).unwrap_or(u32::MAX);
        let request = asked.send(&mut link.connection, timeout_ms);
        let connection = link.id;
        let bytes = link.take_outbound();
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

    /// The node that led last time, or any, which reads are often asked of anyway; mostly the core that has the shard,
    /// else another, which passes it on.
    fn choose_place(&mut self, client: usize) -> PeerCore {
        let shape = self.config.shape;
        let nodes = self.nodes();
        let asked = self.clients[client].asked.as_ref().expect("it asks");
        let (shard, is_mutation) = (asked.shard, asked.is_mutation());
        let leaders = &self.clients[client].leaders;
        let leader = shard.and_then(|shard| leaders.get(&shard).copied());
        let wants_leader = is_mutation || !self.random.chance(FOLLOWER_READS_PER_MILLE);
        let node = leader
            .filter(|_| wants_leader)
            .unwrap_or_else(|| nodes[self.random.index(nodes.len())]);
        let is_stray = self.random.chance(100);
        let core = match shard.filter(|_| !is_stray) {
            Some(shard) => shape.core_of(shard),
            None => {
                let cores: Vec<_> = shape.cores().collect();
                cores[self.random.index(cores.len())]
            }
        };
        PeerCore { node, core }
    }

    /// Who led the shard does not, or does not answer.
    fn forget_leader(&mut self, client: usize) {
        let client = &mut self.clients[client];
        let asked = client.asked.as_ref().expect("it asks");
        if let Some(shard) = asked.shard {
            client.leaders.remove(&shard);
        }
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
        let Client { links, asked, .. } = &mut self.clients[client];
        let Some(link) = links.values_mut().find(|link| link.id == connection) else {
            return Ok(());
        };
        let (moments, map) = (&mut self.moments, Rc::clone(&self.shard_map));
        let mut meanings = Vec::new();
        let mut bad = None;
        let read = link.connection.on_bytes(bytes, |id, response| {
            if let Response::Hello(_) = response {
                return;
            }
            let answered = Some((connection, id));
            // What was given up is answered as well.
            let Some(asked) = asked.as_mut().filter(|asked| asked.under_way == answered) else {
                return;
            };
            *moments += 1;
            match meaning_of(asked, &response, &map, Moment(*moments)) {
                Ok(meaning) => meanings.push(meaning),
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
        meanings
            .into_iter()
            .for_each(|meaning| self.on_meaning(client, connection, meaning));
        Ok(())
    }

    fn on_meaning(&mut self, client: usize, connection: ConnectionId, meaning: Meaning) {
        let asked = self.clients[client].asked.as_ref().expect("it asks");
        let tries = asked.tries;
        match meaning {
            Meaning::More => {}
            Meaning::Ended(parts) => {
                self.learn_place(client, connection);
                let is_known = parts.iter().all(|part| part.end != End::Unknown);
                match is_known {
                    true => self
                        .tally
                        .add_answered(asked_of(&self.clients[client]), &parts),
                    false => self.tally.unknown += 1,
                }
                self.end(client, parts);
            }
            Meaning::Elsewhere(leader) => {
                let shard = asked.shard;
                self.forget_leader(client);
                let leaders = &mut self.clients[client].leaders;
                leaders.extend(shard.zip(leader));
                self.try_later(client, tries);
            }
            Meaning::NotDone => {
                if self.random.chance(300) {
                    self.forget_leader(client);
                }
                self.try_later(client, tries);
            }
            Meaning::Unknown => self.on_unknown(client),
        }
    }

    /// Who carried out a command leads its shard; who answered a read may only follow.
    fn learn_place(&mut self, client: usize, connection: ConnectionId) {
        let Some(server) = self.servers.get(&connection) else {
            return;
        };
        let node = server.place.node;
        let client = &mut self.clients[client];
        let asked = client.asked.as_ref().expect("it asks");
        let Some(shard) = asked.shard else {
            return;
        };
        if asked.is_mutation() {
            client.leaders.insert(shard, node);
        } else if client
            .leaders
            .get(&shard)
            .is_some_and(|&leader| leader != node)
        {
            self.tally.follower_reads += 1;
        }
    }

    /// Nobody knows what became of it. What changes nothing is simply tried again.
    fn on_unknown(&mut self, client: usize) {
        let asked = self.clients[client].asked.as_ref().expect("it asks");
        let (tries, is_mutation) = (asked.tries, asked.is_mutation());
        self.forget_leader(client);
        if !is_mutation {
            self.try_later(client, tries);
            return;
        }
        let asked = asked_of(&self.clients[client]);
        let parts = asked.unknown_parts(&self.shard_map);
        self.tally.unknown += 1;
        self.end(client, parts);
    }

    fn end(&mut self, client: usize, parts: Vec<Part>) {
        let asked = self.clients[client].asked.take().expect("it asks");
        self.count_overtaken(&asked);
        if self.event_log.is_read() {
            let waited_ns = self.now().nanos_since(asked.began);
            let shard = asked.shard;
            self.log(
                &format_args!("c{client}"),
                "ended",
                format_args!("shard {shard:?} after {waited_ns} ns: {parts:?}"),
            );
        }
        for part in parts {
            learn(&mut self.clients[client].known, &part);
            let operation = Seen {
                sent: asked.sent,
                action: part.action,
                end: part.end,
            };
            self.observer.on_operation(part.shard, operation);
        }
    }

    /// Everybody who has waited for longer, for the same shard, was overtaken.
    fn count_overtaken(&mut self, ended: &Asked) {
        let waiting = self.clients.iter_mut();
        for asked in waiting.filter_map(|client| client.asked.as_mut()) {
            if asked.shard == ended.shard && asked.began < ended.began {
                asked.overtaken += 1;
            }
        }
    }

    /// A client that has given up what it began to ask for at `from` or later.
    #[must_use]
    pub fn given_up_since(&self, from: Time) -> Option<usize> {
        let given_up = self.given_up.filter(|&(_, began)| began >= from);
        given_up.map(|(client, _)| client)
    }

    /// A client that has waited at least so long since `from`, while so many others were served that asked the same shard
    /// later.
    #[must_use]
    pub fn starving(&self, from: Time, waited_ms: u64, overtaken: u64) -> Option<usize> {
        let is_starving = |client: &Client| {
            client.asked.as_ref().is_some_and(|asked| {
                self.now().millis_since(asked.began.max(from)) >= waited_ms
                    && asked.overtaken >= overtaken
            })
        };
        self.clients.iter().position(is_starving)
    }

    fn next_moment(&mut self) -> Moment {
        self.moments += 1;
        Moment(self.moments)
    }
}

fn asked_of(client: &Client) -> &Asked {
    client.asked.as_ref().expect("it asks")
}
