//! A node, its disk, its clients and the checkers, joined together: what worlds and single scenarios are made with.

use metastore_engine::{ConnectionId, CoreStatus, Input, LogHistory, Time};
use metastore_statemachine::Parameters;
use metastore_wal::recovery::Decision;

use crate::clients::{AfterAnswer, Clients};
use crate::clock::{Clock, ClockRate};
use crate::disk::{CrashKind, Disk, FileName};
use crate::node::{
    Machine, Node, NodeConfig, NodeCounters, NodeEvent, Observed, StartFailure, Started, Stop,
};
use crate::operation::Operation;
use crate::oracle::{Checkers, Ledger, Oracle};
use crate::random::Random;
use crate::scheduler::Scheduler;
use crate::trace::Trace;
use crate::violation::Violation;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event<E> {
    Node(NodeEvent),
    Drained(ConnectionId),
    Own(E),
}

/// What the next event came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stepped<E> {
    /// The node went on.
    WentOn,
    /// An event of the bench's owner.
    Own(E),
    /// The node stopped because its disk failed.
    Stopped,
}

/// A node on its disk with its clients. `E` are events of whoever owns the bench.
pub struct Bench<E> {
    config: NodeConfig,
    node: Option<Node>,
    scheduler: Scheduler<Event<E>>,
    random: Random,
    counters: NodeCounters,
    has_served: bool,
    boots: u64,
    states_compared: u64,
    /// The disk.
    pub disk: Disk,
    /// The clients.
    pub clients: Clients,
    /// The checkers.
    pub oracle: Oracle,
    /// What goes into the core and comes out, if that is recorded.
    pub trace: Option<Trace>,
}

impl<E> Bench<E> {
    /// A formatted disk and a node that never ran.
    #[must_use]
    pub fn new(
        config: NodeConfig,
        mut disk: Disk,
        (clients, checkers): (usize, Checkers),
        random: Random,
    ) -> Bench<E> {
        disk.format_file(FileName::Mark, 2 * metastore_wal::format::BLOCK_BYTES);
        Bench {
            oracle: Oracle::new(match checkers {
                Checkers::All => Some(Ledger::new(
                    &config.placement.replicas,
                    Parameters::default(),
                )),
                Checkers::AllButOrder | Checkers::ClientsAlone => None,
            }),
            config,
            node: None,
            scheduler: Scheduler::default(),
            random,
            counters: NodeCounters::default(),
            has_served: false,
            boots: 0,
            states_compared: 0,
            disk,
            clients: Clients::new(clients),
            trace: None,
        }
    }

    // ---- What it tells ----

    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.scheduler.now()
    }

    /// What the node did in all its lives.
    #[must_use]
    pub fn counters(&self) -> NodeCounters {
        let mut total = self.counters;
        if let Some(node) = &self.node {
            total.add(&node.counters());
        }
        total
    }

    /// How many states were compared with one that never crashed.
    #[must_use]
    pub fn states_compared(&self) -> u64 {
        self.states_compared
    }

    /// Whether the node runs and every replica of it answers.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.node.as_ref().is_some_and(Node::is_serving)
    }

    /// Whether the node ever served: from then on its log may lack nothing.
    #[must_use]
    pub fn has_served(&self) -> bool {
        self.has_served
    }

    /// What the core reports, if it runs.
    #[must_use]
    pub fn status(&self) -> Option<CoreStatus> {
        self.node.as_ref().map(Node::status)
    }

    // ---- Lives ----

    /// Starts the node over what is on the disk, which the ledger checks.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&mut self) -> Result<Decision, StartFailure> {
        let (node, started) = self.try_start()?;
        if let Some(ledger) = &mut self.oracle.ledger {
            ledger
                .on_recovered(started.survivors)
                .map_err(StartFailure::Violation)?;
        }
        self.node = Some(node);
        let now = self.scheduler.now();
        self.on_node(|node, machine, observe| node.run_turn(now, machine, observe))
            .map_err(StartFailure::Violation)?;
        Ok(started.decision)
    }

    /// What a start would find. The node does not run.
    ///
    /// # Errors
    /// It would not start.
    pub fn try_start(&mut self) -> Result<(Node, Started), StartFailure> {
        self.boots += 1;
        let history = if self.has_served {
            LogHistory::HasServed
        } else {
            LogHistory::New
        };
        let clock = Clock::starting(self.scheduler.now(), ClockRate::TRUE);
        Node::start(&self.config, clock, self.boots, history, &mut self.disk)
    }

    /// The machine stops.
    pub fn crash(&mut self, kind: CrashKind) {
        self.counters = self.counters();
        self.node = None;
        self.disk.crash(kind);
        self.clients.on_crash(&mut self.oracle);
        self.scheduler.clear();
    }

    /// Compares the states of the replicas with states that never crashed.
    ///
    /// # Errors
    /// They differ.
    pub fn check_states(&mut self) -> Result<(), Violation> {
        if let (Some(status), Some(ledger)) = (self.status(), &self.oracle.ledger) {
            self.states_compared += ledger.check_states(&status.replicas)?;
        }
        Ok(())
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
    pub fn step(&mut self) -> Result<Option<Stepped<E>>, Violation> {
        let Some(event) = self.scheduler.next_event() else {
            return Ok(None);
        };
        let now = self.scheduler.now();
        let stop = match event {
            Event::Own(event) => return Ok(Some(Stepped::Own(event))),
            Event::Node(event) => {
                self.on_node(|node, machine, observe| node.on_event(now, event, machine, observe))?
            }
            Event::Drained(connection) => self.on_node(|node, machine, _| {
                node.on_input(now, Input::ConnectionDrained { connection }, machine);
                Ok(())
            })?,
        };
        if !self.has_served && self.is_serving() {
            self.has_served = true;
        }
        match stop {
            None => Ok(Some(Stepped::WentOn)),
            Some(Stop::DiskFailed(_)) => {
                self.counters = self.counters();
                self.node = None;
                Ok(Some(Stepped::Stopped))
            }
            Some(Stop::Halt(reason)) => Err(Violation::Halted(reason)),
        }
    }

    /// A client asks for something. The node runs.
    pub fn send(&mut self, client: usize, operation: Operation, deadline_ms: u32) {
        let now = self.scheduler.now();
        let node = self.node.as_mut().expect("the node runs");
        let mut events = Vec::new();
        let mut machine = Machine {
            disk: &mut self.disk,
            events: &mut events,
            random: &mut self.random,
            trace: self.trace.as_mut(),
        };
        let oracle = &mut self.oracle;
        self.clients
            .send(client, operation, deadline_ms, oracle, &mut |input| {
                node.on_input(now, input, &mut machine);
            });
        self.schedule(events);
    }

    /// A client's connection breaks, and it makes another.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn reconnect(&mut self, client: usize) -> Result<(), Violation> {
        let now = self.scheduler.now();
        let connection = self.clients.reconnect(client, &mut self.oracle);
        self.on_node(|node, machine, _| {
            node.on_input(now, Input::ConnectionClosed { connection }, machine);
            Ok(())
        })?;
        Ok(())
    }

    /// Lets the node do something and passes on what comes of it. A node that does not run does nothing.
    fn on_node(
        &mut self,
        act: impl FnOnce(&mut Node, &mut Machine<'_>, &mut dyn FnMut(Observed<'_>)) -> Result<(), Stop>,
    ) -> Result<Option<Stop>, Violation> {
        let Some(node) = self.node.as_mut() else {
            return Ok(None);
        };
        let mut events = Vec::new();
        let mut drains = Vec::new();
        let mut violation = None;
        let mut machine = Machine {
            disk: &mut self.disk,
            events: &mut events,
            random: &mut self.random,
            trace: self.trace.as_mut(),
        };
        let (oracle, clients) = (&mut self.oracle, &mut self.clients);
        let acted = act(node, &mut machine, &mut |observed| {
            if violation.is_none() {
                violation = observe(oracle, clients, &mut drains, observed).err();
            }
        });
        if let Some(violation) = violation {
            return Err(violation);
        }
        self.schedule(events);
        for connection in drains {
            let delay_ns = self.random.between(1_000, 50_000);
            self.scheduler.after(delay_ns, Event::Drained(connection));
        }
        Ok(acted.err())
    }

    fn schedule(&mut self, events: Vec<(u64, NodeEvent)>) {
        for (delay_ns, event) in events {
            self.scheduler.after(delay_ns, Event::Node(event));
        }
    }
}

fn observe(
    oracle: &mut Oracle,
    clients: &mut Clients,
    drains: &mut Vec<ConnectionId>,
    observed: Observed<'_>,
) -> Result<(), Violation> {
    match observed {
        Observed::DiskChanged { disk } => match &mut oracle.ledger {
            Some(ledger) => ledger.advance(disk),
            None => Ok(()),
        },
        Observed::RecordSubmitted {
            file,
            offset,
            bytes,
        } => {
            if let Some(ledger) = &mut oracle.ledger {
                ledger.on_record_submitted(file, offset, bytes);
            }
            Ok(())
        }
        Observed::MarkSubmitted { bytes } => {
            if let Some(ledger) = &mut oracle.ledger {
                ledger.on_mark_submitted(bytes);
            }
            Ok(())
        }
        Observed::Forward { .. } | Observed::Send { .. } | Observed::Members(_) => {
            unreachable!("a node of one core has nobody to speak to")
        }
        Observed::Answer {
            connection,
            request,
            reply,
            arena,
            ..
        } => {
            if clients.on_answer(connection, request, reply, arena, oracle)? == AfterAnswer::Drain {
                drains.push(connection);
            }
            Ok(())
        }
    }
}
