//! One world: a node on its disk, clients, checkers, and the crashes that the node lives through.
//!
//! Everything about a world follows from its seed: which faults it has, how slow its disk is, what clients do.

mod plan;

use metastore_engine::{ConnectionId, Input, LogHistory, Time};
use metastore_statemachine::Parameters;
use metastore_wal::recovery::{Decision, RecoveryError};

use self::plan::{LifeKind, WorldPlan};
use crate::clients::{AfterAnswer, Clients, Tally};
use crate::disk::{CrashKind, Disk, DiskFaults, FileName};
use crate::mutants::Mutant;
use crate::node::{Machine, Node, NodeCounters, NodeEvent, Observed, StartFailure, Started, Stop};
use crate::operation::Operation;
use crate::oracle::{Ledger, Oracle};
use crate::random::Random;
use crate::scheduler::Scheduler;
use crate::trace::Trace;
use crate::violation::Violation;
use crate::workload::Workload;

/// What a world went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorldReport {
    /// Losses of power and killed processes.
    pub crashes: u64,
    /// Those that were losses of power.
    pub power_losses: u64,
    /// Starts that read a log and went on with it.
    pub recoveries: u64,
    /// Those that cut off a torn tail.
    pub torn_tails: u64,
    /// Durable records that were damaged for a start, which had to refuse the log.
    pub refused_damages: u64,
    /// Nodes stopped by a failing disk.
    pub disk_failures: u64,
    /// States compared with one that never crashed.
    pub states_compared: u64,
    /// How requests ended.
    pub tally: Tally,
    /// What the nodes did.
    pub node: NodeCounters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Node(NodeEvent),
    Client(usize),
    Drained(ConnectionId),
    Crash,
}

/// Why a life ended.
enum LifeEnd {
    Crashed,
    Stopped,
    /// As many inputs as were asked for have been traced.
    Traced,
    /// Everything has been answered after the last fault.
    Calm,
}

/// A simulated world.
pub struct World {
    plan: WorldPlan,
    random: Random,
    driver_random: Random,
    scheduler: Scheduler<Event>,
    disk: Disk,
    clients: Clients,
    workload: Workload,
    oracle: Oracle,
    trace: Option<(Trace, u64)>,
    report: WorldReport,
    has_served: bool,
    boots: u64,
}

/// How long after the last fault everything must be answered.
const CALM_MS: u64 = 10_000;
/// How often a start may fail because of the disk before faults are turned off.
const STARTS_MAX: u32 = 20;

impl World {
    /// The world of a seed, possibly with a planted bug.
    #[must_use]
    pub fn new(seed: u64, mutant: Option<Mutant>) -> World {
        let mut random = Random::new(seed);
        let plan = WorldPlan::draw(&mut random, mutant);
        let mut disk = Disk::new(random.fork(), plan.latency);
        disk.faults = plan.faults;
        disk.format_file(FileName::Mark, 2 * metastore_wal::format::BLOCK_BYTES);
        let oracle = Oracle {
            ledger: Ledger::new(&plan.node.replicas(), Parameters::default()),
        };
        World {
            driver_random: random.fork(),
            scheduler: Scheduler::default(),
            disk,
            clients: Clients::new(plan.clients),
            workload: Workload::new(random.fork(), plan.values),
            oracle,
            trace: None,
            report: WorldReport::default(),
            has_served: false,
            boots: 0,
            plan,
            random,
        }
    }

    /// Records a trace and stops when it has so many inputs.
    pub fn set_trace(&mut self, trace: Trace, inputs_max: u64) {
        self.trace = Some((trace, inputs_max));
    }

    /// The trace so far.
    #[must_use]
    pub fn take_trace(&mut self) -> Option<Trace> {
        self.trace.take().map(|(trace, _)| trace)
    }

    /// What it went through so far.
    #[must_use]
    pub fn report(&self) -> WorldReport {
        WorldReport {
            tally: self.clients.tally(),
            ..self.report
        }
    }

    /// Lives through all crashes, then sees that everything comes to rest.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn run(&mut self) -> Result<(), Violation> {
        for _ in 0..self.plan.lives {
            let kind = LifeKind::draw(&mut self.random);
            match self.live(Some(kind))? {
                LifeEnd::Traced => return Ok(()),
                LifeEnd::Crashed | LifeEnd::Stopped => self.crash(),
                LifeEnd::Calm => unreachable!("a life with a crash in it ends with it"),
            }
        }
        self.disk.faults = self.calm_faults();
        self.live(None)?;
        Ok(())
    }

    /// Faults have stopped; a device that lies goes on lying.
    fn calm_faults(&self) -> DiskFaults {
        DiskFaults {
            io_error_per_mille: 0,
            short_write_per_mille: 0,
            ..self.plan.faults
        }
    }

    fn crash(&mut self) {
        let kind = self
            .random
            .weighted(&[(2, CrashKind::PowerLoss), (1, CrashKind::ProcessKilled)]);
        self.report.crashes += 1;
        self.report.power_losses += u64::from(kind == CrashKind::PowerLoss);
        self.disk.crash(kind);
        self.clients.on_crash();
        self.scheduler.clear();
    }

    // ---- A life ----

    /// From a start to the next crash, or to rest when there is none.
    fn live(&mut self, kind: Option<LifeKind>) -> Result<LifeEnd, Violation> {
        self.try_damage()?;
        let Some(mut node) = self.start()? else {
            return Ok(LifeEnd::Stopped);
        };
        let end = self.drive(&mut node, kind);
        let counters = node.counters();
        let total = &mut self.report.node;
        total.inputs += counters.inputs;
        total.short_writes += counters.short_writes;
        total.segments += counters.segments;
        total.full_disks += counters.full_disks;
        total.writes += counters.writes;
        end
    }

    /// A node that runs, or none when the disk fails again and again.
    fn start(&mut self) -> Result<Option<Node>, Violation> {
        for _ in 0..STARTS_MAX {
            match self.start_once() {
                Ok((node, started)) => {
                    self.report.recoveries += 1;
                    self.report.torn_tails += u64::from(started.decision == Decision::TornTail);
                    self.oracle.ledger.on_recovered(started.survivors)?;
                    return Ok(Some(node));
                }
                Err(
                    StartFailure::DiskFailed(_) | StartFailure::Refused(RecoveryError::Source(_)),
                ) => {
                    self.report.disk_failures += 1;
                }
                Err(StartFailure::Refused(error)) => {
                    let cause = format!("{error:?}");
                    return Err(Violation::RecoveryRefused { cause });
                }
                Err(StartFailure::Violation(violation)) => return Err(violation),
            }
        }
        Ok(None)
    }

    fn start_once(&mut self) -> Result<(Node, Started), StartFailure> {
        self.boots += 1;
        let history = if self.has_served {
            LogHistory::HasServed
        } else {
            LogHistory::New
        };
        let now = self.scheduler.now();
        Node::start(&self.plan.node, now, self.boots, history, &mut self.disk)
    }

    fn drive(&mut self, node: &mut Node, kind: Option<LifeKind>) -> Result<LifeEnd, Violation> {
        let now = self.scheduler.now();
        let rest_at = Time(kind.map_or(0, |kind| kind.busy_ns(&mut self.random)) + now.0);
        match kind {
            Some(kind) => {
                let crash_at = Time(rest_at.0 + kind.idle_ns(&mut self.random));
                self.scheduler.at(crash_at, Event::Crash);
                for client in 0..self.clients.count() {
                    self.schedule_client(client);
                }
            }
            None => self.send(node, 0, Workload::audit(), 0)?,
        }
        let calm_by = now.plus_ms(CALM_MS);
        let mut was_serving = false;
        self.on_node(node, |node, machine, observe| {
            node.run_turn(now, machine, observe)
        })?;
        while let Some(event) = self.scheduler.next_event() {
            let now = self.scheduler.now();
            let stop = match event {
                Event::Crash => return Ok(LifeEnd::Crashed),
                Event::Node(event) => self.on_node(node, |node, machine, observe| {
                    node.on_event(now, event, machine, observe)
                })?,
                Event::Client(client) => {
                    if now < rest_at {
                        self.on_client(node, client)?;
                    }
                    None
                }
                Event::Drained(connection) => {
                    self.input(node, Input::ConnectionDrained { connection })?;
                    None
                }
            };
            match stop {
                None => {}
                Some(Stop::DiskFailed(_)) => {
                    self.report.disk_failures += 1;
                    return Ok(LifeEnd::Stopped);
                }
                Some(Stop::Halt(reason)) => return Err(Violation::Halted(reason)),
            }
            if !was_serving && node.is_serving() {
                was_serving = true;
                self.has_served = true;
                self.check_states(node)?;
            }
            if self
                .trace
                .as_ref()
                .is_some_and(|(trace, inputs_max)| trace.inputs() >= *inputs_max)
            {
                return Ok(LifeEnd::Traced);
            }
            if kind.is_none() && was_serving && self.clients.pending_count() == 0 {
                self.check_states(node)?;
                return Ok(LifeEnd::Calm);
            }
            if kind.is_none() && now > calm_by {
                break;
            }
        }
        Err(Violation::Stuck {
            waiting: self.clients.pending_count(),
            after_ms: CALM_MS,
        })
    }

    fn check_states(&mut self, node: &Node) -> Result<(), Violation> {
        let replicas = node.status().replicas;
        self.report.states_compared += self.oracle.ledger.check_states(&replicas)?;
        Ok(())
    }

    // ---- Clients ----

    fn schedule_client(&mut self, client: usize) {
        let delay_ns = self
            .random
            .between(self.plan.think_min_ns, self.plan.think_max_ns);
        self.scheduler.after(delay_ns, Event::Client(client));
    }

    fn on_client(&mut self, node: &mut Node, client: usize) -> Result<(), Violation> {
        self.schedule_client(client);
        if self.random.chance(5) {
            let connection = self.clients.reconnect(client);
            return self.input(node, Input::ConnectionClosed { connection });
        }
        let room = self.plan.requests_per_client_max
            - self
                .clients
                .pending(client)
                .min(self.plan.requests_per_client_max);
        let burst = self.random.index(4).min(room);
        for _ in 0..burst {
            let operation = self.workload.draw(self.clients.known(client));
            let deadline_ms = self.plan.draw_deadline_ms(&mut self.random);
            self.send(node, client, operation, deadline_ms)?;
        }
        Ok(())
    }

    fn send(
        &mut self,
        node: &mut Node,
        client: usize,
        operation: Operation,
        deadline_ms: u32,
    ) -> Result<(), Violation> {
        let now = self.scheduler.now();
        let mut events = Vec::new();
        let mut machine = Machine {
            disk: &mut self.disk,
            events: &mut events,
            random: &mut self.driver_random,
            trace: self.trace.as_mut().map(|(trace, _)| trace),
        };
        self.clients.send(
            client,
            operation,
            deadline_ms,
            &mut self.oracle,
            &mut |input| {
                node.on_input(now, input, &mut machine);
            },
        );
        self.schedule_all(events);
        Ok(())
    }

    fn input(&mut self, node: &mut Node, input: Input<'_>) -> Result<(), Violation> {
        let now = self.scheduler.now();
        let stop = self.on_node(node, |node, machine, _| {
            node.on_input(now, input, machine);
            Ok(())
        })?;
        assert_eq!(stop, None, "an input alone stops nothing");
        Ok(())
    }

    /// Lets the node do something and passes on what comes of it.
    fn on_node(
        &mut self,
        node: &mut Node,
        act: impl FnOnce(&mut Node, &mut Machine<'_>, &mut dyn FnMut(Observed<'_>)) -> Result<(), Stop>,
    ) -> Result<Option<Stop>, Violation> {
        let mut events = Vec::new();
        let mut drains = Vec::new();
        let mut violation = None;
        let mut machine = Machine {
            disk: &mut self.disk,
            events: &mut events,
            random: &mut self.driver_random,
            trace: self.trace.as_mut().map(|(trace, _)| trace),
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
        self.schedule_all(events);
        for connection in drains {
            let delay_ns = self.random.between(1_000, 50_000);
            self.scheduler.after(delay_ns, Event::Drained(connection));
        }
        Ok(acted.err())
    }

    fn schedule_all(&mut self, events: Vec<(u64, NodeEvent)>) {
        for (delay_ns, event) in events {
            self.scheduler.after(delay_ns, Event::Node(event));
        }
    }

    // ---- Damage ----

    /// Now and then a durable record decays before a start: the start must refuse. Then the record is healed.
    fn try_damage(&mut self) -> Result<(), Violation> {
        if !self.has_served || !self.random.chance(self.plan.damage_per_mille) {
            return Ok(());
        }
        let records = self.oracle.ledger.durable_records();
        let Some(newest) = records.last() else {
            return Ok(());
        };
        // What is damaged must be at or below what an intact record calls durable.
        let covered = records
            .iter()
            .filter(|record| record.sequence <= newest.watermark)
            .count();
        if covered == 0 || self.disk.flush_all().is_err() {
            return Ok(());
        }
        let victim = records[self.random.index(covered)];
        let mut noise = [0; 8];
        self.random.fill(&mut noise);
        // Eight random bytes are those that were there only once in 2^64 tries.
        let at = victim.offset + 8 * self.random.index(victim.bytes_len / 8) as u64;
        let before = self.disk.replace_durable(victim.file, at, &noise);
        let started = self.start_once();
        self.disk.replace_durable(victim.file, at, &before);
        match started {
            // Where recovery lets the damage pass, the core may still miss something.
            Err(
                StartFailure::Refused(RecoveryError::Corrupt { .. })
                | StartFailure::Violation(Violation::StartRefused(_)),
            ) => {
                self.report.refused_damages += 1;
                Ok(())
            }
            Err(StartFailure::DiskFailed(_) | StartFailure::Refused(RecoveryError::Source(_))) => {
                Ok(())
            }
            Err(StartFailure::Refused(error)) => Err(Violation::RecoveryRefused {
                cause: format!("{error:?}"),
            }),
            Err(StartFailure::Violation(violation)) => Err(violation),
            Ok((_, started)) => {
                self.oracle.ledger.on_recovered(started.survivors)?;
                Err(Violation::DamageAccepted {
                    sequence: victim.sequence.0,
                })
            }
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
        Observed::DiskChanged { disk } => oracle.ledger.advance(disk),
        Observed::RecordSubmitted {
            file,
            offset,
            bytes,
        } => {
            oracle.ledger.on_record_submitted(file, offset, bytes);
            Ok(())
        }
        Observed::Answer {
            connection,
            request,
            reply,
            arena,
        } => {
            if clients.on_answer(connection, request, reply, arena, oracle)? == AfterAnswer::Drain {
                drains.push(connection);
            }
            Ok(())
        }
    }
}
