//! How cores of a cluster are driven, and what becomes of what they send.

use metastore_engine::{
    ConnectionId, CoreId, Input, MembersEffect, MeshBatch, PeerCore, PeerLane, Time,
};

use super::link::ServerEnd;
use super::{At, Cluster, Event, Observer};
use crate::checkers::log_view::{PartSeen, RecordSeen};
use crate::checkers::promises::messages_of;
use crate::network::{Arrivals, Site, Traffic};
use crate::node::{Machine, Node, Observed, SEAL, Stop};
use crate::violation::Violation;

use std::collections::BTreeMap;

/// What leaves a core besides what goes to its disk.
enum Outgoing {
    Mesh(CoreId, MeshBatch),
    Peers(PeerCore, PeerLane, Vec<u8>),
    Members(MembersEffect),
    Answer(ConnectionId),
}

/// How often the state of a core is looked at.
const STATUS_EVERY_NS: u64 = 2_000_000;
/// How often a core is asked what it holds.
const HOLDING_EVERY_NS: u64 = 250_000_000;
/// How long a message between two cores of a node takes.
const MESH_NS: u64 = 5_000;
/// How many in a thousand losses a node is told of, and how long that takes.
const TOLD_PER_MILLE: u64 = 300;
const TOLD_MAX_NS: u64 = 100_000_000;

impl<E> Cluster<E> {
    /// Lets a core do something in the life that it was meant for, and passes on what comes of it.
    pub(super) fn on_core(
        &mut self,
        place: PeerCore,
        life: u64,
        act: impl FnOnce(
            &mut Node,
            Time,
            &mut Machine<'_>,
            &mut dyn FnMut(Observed<'_>),
        ) -> Result<(), Stop>,
    ) -> Result<Option<Stop>, Violation> {
        let now = self.scheduler.now();
        let host = self.hosts.get_mut(&place.node).expect("the node is there");
        let host_core = &mut host.cores[usize::from(place.core.0)];
        let Some(core) = host_core.core.as_mut().filter(|_| host.life == life) else {
            return Ok(None);
        };
        let (mut events, mut outgoing, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = Ok(());
        let mut machine = Machine {
            disk: &mut host_core.disk,
            events: &mut events,
            random: &mut self.random,
            trace: self.trace.as_mut(),
        };
        let mut watching = Watching {
            place,
            observer: &mut self.observer,
            servers: &mut self.servers,
            outgoing: &mut outgoing,
            lines: self.event_log.is_read().then_some(&mut lines),
        };
        let acted = act(core, now, &mut machine, &mut |observed| {
            if seen.is_ok() {
                seen = watching.observe(observed);
            }
        });
        for line in lines {
            self.event_log
                .add(now, &At(place), "write", format_args!("{line}"));
        }
        seen?;
        if now.nanos_since(host_core.last_status) >= STATUS_EVERY_NS
            && let Some(replicas) = core.replicas()
        {
            host_core.last_status = now;
            let mut replicas = replicas.iter();
            replicas.try_for_each(|replica| self.observer.on_status(replica))?;
        }
        if now.nanos_since(host_core.last_holding) >= HOLDING_EVERY_NS {
            host_core.last_holding = now;
            self.observer.on_core_status(place, &core.status())?;
        }
        let replicas = host_core.config.placement.replicas.len();
        host_core.has_served |= self.observer.durable_replicas(place) >= replicas;
        for (delay_ns, event) in events {
            let event = Event::Core(place, life, event);
            self.scheduler.after(delay_ns, event);
        }
        for sent in outgoing {
            self.carry(place, life, sent);
        }
        Ok(acted.err())
    }

    fn carry(&mut self, from: PeerCore, life: u64, sent: Outgoing) {
        match sent {
            Outgoing::Mesh(to, batch) => {
                let event = Event::Mesh {
                    from,
                    to,
                    life,
                    batch,
                };
                self.scheduler.after(MESH_NS, event);
            }
            Outgoing::Peers(to, lane, batch) => self.carry_to_peer((from, to), lane, batch),
            Outgoing::Members(effect) => self.on_members_told(from, effect),
            Outgoing::Answer(connection) => self.carry_answer(connection),
        }
    }

    // ---- Between nodes ----

    fn carry_to_peer(&mut self, (from, to): (PeerCore, PeerCore), lane: PeerLane, batch: Vec<u8>) {
        let sites = (Site::Node(from.node), Site::Node(to.node));
        let now = self.scheduler.now();
        let arrivals = self
            .network
            .send(now, sites.0, sites.1, Traffic::Peers(lane));
        if self.event_log.is_read() {
            let lost = if arrivals == Arrivals::Lost {
                " lost"
            } else {
                ""
            };
            for message in messages_of(&batch).filter(|_| lane != PeerLane::Snapshots) {
                let to = At(to);
                self.log(&At(from), "send", format_args!("{to}{lost} {message}"));
            }
        }
        match arrivals {
            Arrivals::Lost => self.tell_of_loss(from, to),
            Arrivals::At(times) => {
                for time in times {
                    let batch = batch.clone();
                    let event = Event::Peers {
                        from,
                        to,
                        lane,
                        batch,
                    };
                    self.scheduler.at(time, event);
                }
            }
        }
    }

    /// Now and then a node learns that what it sent was lost.
    fn tell_of_loss(&mut self, from: PeerCore, peer: PeerCore) {
        if self.random.chance(TOLD_PER_MILLE) {
            let delay_ns = self.random.between(1, TOLD_MAX_NS);
            let event = Event::PeerUnreachable { to: from, peer };
            self.scheduler.after(delay_ns, event);
        }
    }

    pub(super) fn on_peers(
        &mut self,
        (from, to): (PeerCore, PeerCore),
        lane: PeerLane,
        batch: &[u8],
    ) -> Result<Option<Stop>, Violation> {
        let (sender, receiver) = (Site::Node(from.node), Site::Node(to.node));
        let traffic = Traffic::Peers(lane);
        if !self.network.may_arrive(sender, receiver, traffic) || !self.is_running(to.node) {
            self.tell_of_loss(from, to);
            return Ok(None);
        }
        let life = self.hosts[&to.node].life;
        self.on_core(to, life, |node, now, machine, _| {
            node.on_input(now, Input::PeerMessages { from, batch }, machine);
            Ok(())
        })
    }

    // ---- Clients ----

    pub(super) fn on_server_bytes(
        &mut self,
        connection: ConnectionId,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let Some(mut server) = self.servers.remove(&connection) else {
            return Ok(());
        };
        let (place, life, client) = (server.place, server.life, server.client);
        let (from, to) = (Site::Client(client), Site::Node(place.node));
        if !self.network.may_arrive(from, to, Traffic::Clients) {
            self.servers.insert(connection, server);
            self.break_link(client, connection);
            return Ok(());
        }
        let shard_map = std::rc::Rc::clone(&self.shard_map);
        // A core that is gone answers nothing, and the connection ends by itself.
        self.on_core(place, life, |node, now, machine, _| {
            server.on_bytes(bytes, &shard_map, |request, deadline_ms, body| {
                let input = Input::Request {
                    connection,
                    request,
                    deadline_ms,
                    body,
                };
                node.on_input(now, input, machine);
            });
            Ok(())
        })?;
        self.servers.insert(connection, server);
        self.carry_answer(connection);
        Ok(())
    }

    /// Everything that was sent on a connection has gone out: a range may go on.
    pub(super) fn on_drained(&mut self, connection: ConnectionId) -> Result<(), Violation> {
        let Some(server) = self.servers.get(&connection) else {
            return Ok(());
        };
        self.on_core(server.place, server.life, |node, now, machine, _| {
            node.on_input(now, Input::ConnectionDrained { connection }, machine);
            Ok(())
        })?;
        Ok(())
    }

    fn carry_answer(&mut self, connection: ConnectionId) {
        let Some(server) = self.servers.get_mut(&connection) else {
            return;
        };
        let bytes = server.take_outbound();
        if bytes.is_empty() {
            return;
        }
        let (client, node) = (server.client, server.place.node);
        let awaits_drain = server.take_awaits_drain();
        let (from, to) = (Site::Node(node), Site::Client(client));
        match self.network.send_piece(self.scheduler.now(), from, to) {
            Some(arrival) => {
                if awaits_drain {
                    let event = Event::Drained { connection };
                    self.scheduler.at(arrival, event);
                }
                let event = Event::ToClient {
                    client,
                    connection,
                    from: node,
                    bytes,
                };
                self.scheduler.at(arrival, event);
            }
            None => self.break_link(client, connection),
        }
    }
}

/// Hands what a core lets be seen to the checkers, and gathers what it sends.
struct Watching<'a> {
    place: PeerCore,
    observer: &'a mut Observer,
    servers: &'a mut BTreeMap<ConnectionId, ServerEnd>,
    outgoing: &'a mut Vec<Outgoing>,
    /// What is written, in words, if anybody reads it.
    lines: Option<&'a mut Vec<String>>,
}

impl Watching<'_> {
    fn observe(&mut self, observed: Observed<'_>) -> Result<(), Violation> {
        match observed {
            Observed::DiskChanged { disk } => self.observer.on_disk_changed(self.place, disk)?,
            Observed::RecordSubmitted {
                file,
                offset,
                bytes,
            } => {
                if let Some(lines) = &mut self.lines {
                    let record = RecordSeen::parse(SEAL, (file, offset), bytes);
                    lines.extend(record.parts.iter().map(PartSeen::to_string));
                }
                self.observer
                    .on_submitted(self.place, (file, offset), bytes)?;
            }
            Observed::MarkSubmitted { .. } => {}
            Observed::Forward { core, batch } => self.outgoing.push(Outgoing::Mesh(core, batch)),
            Observed::Send { to, lane, batch } => {
                self.observer.on_sent(self.place, lane, &batch)?;
                self.outgoing.push(Outgoing::Peers(to, lane, batch));
            }
            Observed::Members(effect) => self.outgoing.push(Outgoing::Members(effect)),
            Observed::Answer {
                connection,
                request,
                kind,
                reply,
                arena,
            } => {
                let Some(server) = self.servers.get_mut(&connection) else {
                    return Ok(());
                };
                for (shard, command) in server.on_reply((request, kind), reply, arena) {
                    self.observer.on_acknowledged(shard, &command)?;
                }
                self.outgoing.push(Outgoing::Answer(connection));
            }
        }
        Ok(())
    }
}
