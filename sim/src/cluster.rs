//! A cluster: nodes with cores and disks, a network, clients, and everybody who checks them.
//!
//! ```text
//!   clients ──frames──> links ──Input──> cores ──Effect──> disks
//!      ^                  |              |  ^                |
//!      └────── answers ───┘     messages v  | messages       v
//!                                       network          LogWatch
//!   what clients saw ──> ShardHistory            all logs ──> Replication
//! ```
//!
//! [`Cluster`] is the mechanism: it does what it is told, and the checkers look on. What goes wrong, and when, is up to
//! its owner: [`world`] draws it from a seed, a scenario tells it step by step.
//!
//! It does **not** judge whether clients wait too long: who knows when faults have stopped can.

mod answers;
mod asking;
mod clients;
mod cores;
pub mod event_log;
mod host;
mod link;
mod members;
mod nodes;
mod observer;
pub mod shape;
mod standing;
mod wire;
pub mod world;

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::rc::Rc;

use metastore_engine::{
    ConnectionId, CoreId, HaltReason, Input, MembersEffect, MeshBatch, NodeId, PeerCore, PeerLane,
    ReplicaId, ReplicaStatus, Settings, ShardMap, Time,
};
use metastore_wal::LogOptions;

pub use self::answers::{Meaning, meaning_of};
use self::asking::ClientEvent;
use self::clients::Client;
pub use self::clients::{Asked, ClusterTally, Part, learn};
use self::event_log::EventLog;
use self::host::Host;
use self::link::ServerEnd;
pub use self::observer::Observer;
use self::shape::Shape;
use self::standing::standing_of;
use crate::checkers::budgets::Budgets;
use crate::disk::{CrashKind, Disk, Latency};
use crate::network::{Network, NetworkFaults, Site, Traffic};
use crate::node::{FlushMethod, NodeConfig, NodeCounters, NodeEvent, SEAL, Stop};
use crate::oracle::Checkers;
use crate::random::Random;
use crate::scheduler::Scheduler;
use crate::trace::Trace;
use crate::violation::Violation;

/// What a cluster is, through all that happens to it.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// How large it is.
    pub shape: Shape,
    /// Clients.
    pub clients: usize,
    /// How long a client waits for an answer.
    pub timeout_ns: u64,
    /// Settings of every core.
    pub settings: Settings,
    /// The log of every core; its identity is that of the core.
    pub log: LogOptions,
    /// How writes are flushed.
    pub flush: FlushMethod,
    /// How long disks take.
    pub latency: Latency,
    /// How the network is.
    pub network: NetworkFaults,
    /// Who checks.
    pub checkers: Checkers,
}

/// What happens next. `E` are events of whoever owns the cluster.
enum Event<E> {
    /// To a core, in one life of its node.
    Core(PeerCore, u64, NodeEvent),
    /// Messages between cores of a node arrive.
    Mesh {
        from: PeerCore,
        to: CoreId,
        life: u64,
        batch: MeshBatch,
    },
    /// Messages between nodes arrive.
    Peers {
        from: PeerCore,
        to: PeerCore,
        lane: PeerLane,
        batch: Vec<u8>,
    },
    /// A core learns that what it sent to another may be lost.
    PeerUnreachable {
        to: PeerCore,
        peer: PeerCore,
    },
    /// A client's bytes arrive.
    ToServer {
        connection: ConnectionId,
        bytes: Vec<u8>,
    },
    /// A server's bytes arrive.
    ToClient {
        client: usize,
        connection: ConnectionId,
        from: NodeId,
        bytes: Vec<u8>,
    },
    /// A server learns that a connection is gone.
    ServerClosed {
        connection: ConnectionId,
    },
    /// What a server sent on a connection has gone out.
    Drained {
        connection: ConnectionId,
    },
    Client(usize, ClientEvent),
    Own(E),
}

/// What the next event came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterStepped<E> {
    /// Something went on.
    WentOn,
    /// An event of the cluster's owner.
    Own(E),
    /// A node stopped because a disk of it failed.
    Stopped(NodeId),
}

/// A cluster, its clients and the checkers.
pub struct Cluster<E> {
    config: ClusterConfig,
    shard_map: Rc<ShardMap>,
    hosts: BTreeMap<NodeId, Host>,
    scheduler: Scheduler<Event<E>>,
    random: Random,
    clients: Vec<Client>,
    servers: BTreeMap<ConnectionId, ServerEnd>,
    next_connection: u64,
    moments: u64,
    /// Who was the last to give up what it asked for, and when it had begun to ask.
    given_up: Option<(usize, Time)>,
    tally: ClusterTally,
    /// The newest id that a replica was given.
    newest_replica: ReplicaId,
    /// What cores told about members and nobody has heard yet.
    members_told: Vec<(PeerCore, MembersEffect)>,
    /// The network.
    pub network: Network,
    /// The checkers.
    pub observer: Observer,
    /// What goes into cores and comes out, if that is recorded.
    pub trace: Option<Trace>,
    /// What happens, line by line, if anybody reads it.
    pub event_log: EventLog,
}

/// The name of a core in the event log.
struct At(PeerCore);

impl Display for At {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "n{}.{}", self.0.node, self.0.core)
    }
}

impl<E> Cluster<E> {
    /// Formatted nodes that never ran.
    #[must_use]
    pub fn new(config: ClusterConfig, mut random: Random) -> Cluster<E> {
        let shape = config.shape;
        let host = |node| {
            let core = |core| {
                let core = node_config(&config, PeerCore { node, core }, &mut random);
                (core, Disk::new(random.fork(), config.latency))
            };
            (node, Host::new(node, shape.cores().map(core).collect()))
        };
        Cluster {
            hosts: shape.nodes().map(host).collect(),
            shard_map: Rc::new(shape.shard_map()),
            scheduler: Scheduler::default(),
            clients: (0..config.clients).map(|_| Client::new()).collect(),
            servers: BTreeMap::new(),
            next_connection: 0,
            moments: 0,
            given_up: None,
            tally: ClusterTally::default(),
            newest_replica: shape.newest_replica(),
            members_told: Vec::new(),
            network: Network::new(random.fork(), config.network),
            observer: Observer::new(
                shape,
                Budgets::of(&config.settings, &config.log),
                config.checkers,
            ),
            trace: None,
            event_log: EventLog::default(),
            random,
            config,
        }
    }

    // ---- What it tells ----

    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.scheduler.now()
    }

    /// What it is.
    #[must_use]
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// Where every shard is.
    #[must_use]
    pub fn shard_map(&self) -> &ShardMap {
        &self.shard_map
    }

    /// How requests ended.
    #[must_use]
    pub fn tally(&self) -> ClusterTally {
        self.tally
    }

    /// What all nodes did in all their lives.
    #[must_use]
    pub fn counters(&self) -> NodeCounters {
        let mut total = NodeCounters::default();
        for host in self.hosts.values() {
            total.add(&host.counters());
        }
        total
    }

    /// Whether a node runs.
    #[must_use]
    pub fn is_running(&self, node: NodeId) -> bool {
        self.hosts[&node].is_running()
    }

    /// How every replica that runs stands, those in the middle of a turn left out.
    #[must_use]
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        self.hosts.values().flat_map(Host::replicas).collect()
    }

    /// A line for each of them, for whoever has to find out why they stand so.
    #[must_use]
    pub fn standing(&self) -> Vec<String> {
        let of_host = |(node, host): (&NodeId, &Host)| {
            let cores = host.cores.iter().filter_map(|core| core.core.as_ref());
            let standing = cores.flat_map(|core| core.standing(self.now()));
            let line = |(status, members): (_, Vec<_>)| standing_of(*node, &status, &members);
            standing.map(line).collect::<Vec<_>>()
        };
        self.hosts.iter().flat_map(of_host).collect()
    }

    fn log(&mut self, place: &dyn Display, what: &str, details: fmt::Arguments<'_>) {
        self.event_log
            .add(self.scheduler.now(), place, what, details);
    }

    /// Writes down what the owner does.
    pub fn note(&mut self, what: &str, details: fmt::Arguments<'_>) {
        self.log(&"world", what, details);
    }

    // ---- Events ----

    /// Lets an event of the owner happen.
    pub fn at(&mut self, time: Time, event: E) {
        self.scheduler.at(time, Event::Own(event));
    }

    /// Lets the next event happen; `None` when there is none any more.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn step(&mut self) -> Result<Option<ClusterStepped<E>>, Violation> {
        let Some(event) = self.scheduler.next_event() else {
            return Ok(None);
        };
        if let Some(until) = self.paused_until(&event) {
            self.scheduler.at(until, event);
            return Ok(Some(ClusterStepped::WentOn));
        }
        if let (true, Event::Core(place, _, event)) = (self.event_log.is_read(), &event) {
            let (place, event) = (At(*place), *event);
            self.log(&place, "event", format_args!("{event:?}"));
        }
        let (node, stop) = match event {
            Event::Own(event) => return Ok(Some(ClusterStepped::Own(event))),
            Event::Core(place, life, event) => {
                let stop = self.on_core(place, life, |node, now, machine, observe| {
                    node.on_event(now, event, machine, observe)
                })?;
                (place.node, stop)
            }
            Event::Mesh {
                from,
                to,
                life,
                mut batch,
            } => {
                let node = from.node;
                let place = PeerCore { node, core: to };
                let stop = self.on_core(place, life, |node, now, machine, _| {
                    let from = from.core;
                    let batch = &mut batch;
                    node.on_input(now, Input::Mesh { from, batch }, machine);
                    Ok(())
                })?;
                (node, stop)
            }
            Event::Peers {
                from,
                to,
                lane,
                batch,
            } => (to.node, self.on_peers((from, to), lane, &batch)?),
            Event::PeerUnreachable { to, peer } => {
                let life = self.hosts[&to.node].life;
                let stop = self.on_core(to, life, |node, now, machine, _| {
                    node.on_input(now, Input::PeerUnreachable { peer }, machine);
                    Ok(())
                })?;
                (to.node, stop)
            }
            Event::ToServer { connection, bytes } => {
                self.on_server_bytes(connection, &bytes)?;
                return Ok(Some(ClusterStepped::WentOn));
            }
            Event::ToClient {
                client,
                connection,
                from,
                bytes,
            } => {
                let (from, to) = (Site::Node(from), Site::Client(client));
                match self.network.may_arrive(from, to, Traffic::Clients) {
                    true => self.on_client_bytes(client, connection, &bytes)?,
                    false => self.break_link(client, connection),
                }
                return Ok(Some(ClusterStepped::WentOn));
            }
            Event::ServerClosed { connection } => {
                self.on_server_closed(connection)?;
                return Ok(Some(ClusterStepped::WentOn));
            }
            Event::Drained { connection } => {
                self.on_drained(connection)?;
                return Ok(Some(ClusterStepped::WentOn));
            }
            Event::Client(client, event) => {
                self.on_client_event(client, event)?;
                return Ok(Some(ClusterStepped::WentOn));
            }
        };
        Ok(Some(
            self.stopped(node, stop)?
                .map_or(ClusterStepped::WentOn, ClusterStepped::Stopped),
        ))
    }

    /// Until when an event has to wait because its node is paused.
    fn paused_until(&self, event: &Event<E>) -> Option<Time> {
        let node = match event {
            Event::Core(place, ..) | Event::Mesh { from: place, .. } => place.node,
            Event::Peers { to, .. } | Event::PeerUnreachable { to, .. } => to.node,
            Event::ToServer { connection, .. }
            | Event::ServerClosed { connection }
            | Event::Drained { connection } => self.servers.get(connection)?.place.node,
            Event::ToClient { .. } | Event::Client(..) | Event::Own(_) => return None,
        };
        let until = self.hosts[&node].paused_until;
        (until > self.now()).then_some(until)
    }

    /// What a core's stop means for its node: a process is one, and a failing log ends it.
    fn stopped(&mut self, node: NodeId, stop: Option<Stop>) -> Result<Option<NodeId>, Violation> {
        match stop {
            None => Ok(None),
            Some(Stop::Halt(HaltReason::DiskHangs { waited_ms })) => {
                let waited = format_args!("no write for {waited_ms} ms");
                self.log(&format_args!("n{node}"), "halt", waited);
                self.crash(node, CrashKind::ProcessKilled);
                Ok(Some(node))
            }
            Some(Stop::Halt(reason)) => Err(Violation::Halted(reason)),
            Some(Stop::DiskFailed(error)) => {
                self.log(&format_args!("n{node}"), "halt", format_args!("{error}"));
                self.crash(node, CrashKind::ProcessKilled);
                Ok(Some(node))
            }
        }
    }
}

fn node_config(config: &ClusterConfig, place: PeerCore, random: &mut Random) -> NodeConfig {
    let placement = config.shape.placement(place);
    NodeConfig {
        log: LogOptions {
            identity: placement.identity,
            seal: SEAL,
            ..config.log.clone()
        },
        placement,
        settings: config.settings.clone(),
        disk_low_bytes: 0,
        flush: config.flush,
        seed: random.next_u64(),
    }
}
