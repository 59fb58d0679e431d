//! One world: a node, clients that never rest, and the crashes that the node lives through.
//!
//! Everything about a world follows from its seed: which faults it has, how slow its disk is, what clients do.

mod plan;

use metastore_engine::Time;
use metastore_wal::SegmentSequence;
use metastore_wal::recovery::{Decision, RecoveryError};

use self::plan::{LifeKind, WorldPlan};
use crate::bench::{Bench, Stepped};
use crate::clients::Tally;
use crate::disk::{CrashKind, Disk, DiskFaults};
use crate::node::{NodeCounters, StartFailure};
use crate::operation::Operation;
use crate::oracle::{Checkers, Ledger, RecordPlace};
use crate::random::Random;
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
    /// Snapshots that were damaged for a start, which had to refuse them.
    pub refused_snapshots: u64,
    /// Nodes stopped by a failing disk, running or starting.
    pub disk_failures: u64,
    /// Times that others filled the disk.
    pub full_disks: u64,
    /// Starts that had to wait for room, at the end of a world.
    pub starts_without_room: u64,
    /// States compared with one that never crashed.
    pub states_compared: u64,
    /// How requests ended.
    pub tally: Tally,
    /// What the nodes did.
    pub node: NodeCounters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Client(usize),
    /// Others fill the disk, and leave so many bytes free.
    FillDisk {
        free_bytes: u64,
    },
    /// Others give back what they took.
    FreeDisk,
    Crash,
}

/// Why a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LifeEnd {
    /// By the crash that was meant for it, or by its disk.
    Over,
    /// As many inputs as were asked for have been traced.
    Traced,
}

/// A simulated world.
pub struct World {
    plan: WorldPlan,
    random: Random,
    bench: Bench<Event>,
    workload: Workload,
    is_auditing: bool,
    report: WorldReport,
}

/// How long after the last fault everything must be answered.
const CALM_MS: u64 = 10_000;
/// Puts that must be taken at the end of a world, and how long to wait between two tries.
const PUTS_AT_REST: u64 = 5;
const PAUSE_MS: u64 = 50;
/// How often in a row the disk may fail a start; then the life is over.
const STARTS_MAX: u32 = 20;

impl World {
    /// The world of a seed.
    #[must_use]
    pub fn new(seed: u64, checkers: Checkers) -> World {
        let mut random = Random::new(seed);
        let plan = WorldPlan::draw(&mut random);
        let mut disk = Disk::new(random.fork(), plan.latency);
        disk.faults = plan.faults;
        disk.set_capacity(plan.capacity_bytes);
        World {
            bench: Bench::new(
                plan.node.clone(),
                disk,
                (plan.clients, checkers),
                random.fork(),
            ),
            workload: Workload::new(random.fork(), plan.values),
            is_auditing: false,
            report: WorldReport::default(),
            plan,
            random,
        }
    }

    /// Records a trace and stops when it is full.
    pub fn set_trace(&mut self, trace: Trace) {
        self.bench.trace = Some(trace);
    }

    /// The trace so far.
    #[must_use]
    pub fn take_trace(&mut self) -> Option<Trace> {
        self.bench.trace.take()
    }

    /// What it went through so far.
    #[must_use]
    pub fn report(&self) -> WorldReport {
        WorldReport {
            tally: self.bench.clients.tally(),
            node: self.bench.counters(),
            states_compared: self.bench.states_compared(),
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
            if self.live(kind)? == LifeEnd::Traced {
                return Ok(());
            }
            self.crash();
        }
        self.bench.disk.faults = self.calm_faults();
        self.come_to_rest()
    }

    /// One life without a fault, in a world that is otherwise that of its seed: nothing fails, nobody crashes, no disk is
    /// small. What is wrong here is wrong every day.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn run_without_faults(&mut self) -> Result<(), Violation> {
        self.plan.drop_faults();
        self.bench.disk.faults = self.plan.faults;
        self.bench.disk.set_capacity(self.plan.capacity_bytes);
        if self.live(LifeKind::Idle)? == LifeEnd::Traced {
            return Ok(());
        }
        self.run_until_answered()?;
        self.bench.send(0, Operation::Audit, 0);
        self.run_until_answered()?;
        self.bench.check_states()
    }

    /// Faults have stopped; a device that lies goes on lying.
    fn calm_faults(&self) -> DiskFaults {
        DiskFaults {
            io_error_per_mille: 0,
            short_write_per_mille: 0,
            full_write_per_mille: 0,
            snapshot_error_per_mille: 0,
            ..self.plan.faults
        }
    }

    fn crash(&mut self) {
        let kind = self
            .random
            .weighted(&[(2, CrashKind::PowerLoss), (1, CrashKind::ProcessKilled)]);
        self.report.crashes += 1;
        self.report.power_losses += u64::from(kind == CrashKind::PowerLoss);
        self.bench.crash(kind);
    }

    // ---- A life ----

    /// Starts the node, unless its disk fails again and again.
    fn start(&mut self) -> Result<bool, Violation> {
        for _ in 0..STARTS_MAX {
            match self.bench.start() {
                Ok(decision) => {
                    self.report.recoveries += 1;
                    self.report.torn_tails += u64::from(decision == Decision::TornTail);
                    return Ok(true);
                }
                Err(
                    StartFailure::DiskFailed(_) | StartFailure::Refused(RecoveryError::Source(_)),
                ) => self.report.disk_failures += 1,
                Err(StartFailure::Refused(error)) => {
                    let cause = format!("{error:?}");
                    return Err(Violation::RecoveryRefused { cause });
                }
                Err(StartFailure::Violation(violation)) => return Err(violation),
            }
        }
        Ok(false)
    }

    /// From a start to the next crash.
    fn live(&mut self, kind: LifeKind) -> Result<LifeEnd, Violation> {
        self.try_damage()?;
        if !self.start()? {
            return Ok(LifeEnd::Over);
        }
        let now = self.bench.now();
        let rest_at = Time(now.0 + kind.draw_busy_ns(&mut self.random));
        let crash_at = Time(rest_at.0 + kind.draw_idle_ns(&mut self.random));
        self.bench.at(crash_at, Event::Crash);
        self.is_auditing = self.random.chance(self.plan.audits_per_mille);
        if self.is_auditing {
            self.bench.send(0, Operation::Audit, 0);
        }
        for client in 0..self.plan.clients {
            self.schedule_client(client);
        }
        self.schedule_full_disk((now, crash_at));
        let mut was_serving = false;
        loop {
            let stepped = self.bench.step()?;
            match stepped.expect("a crash is to come") {
                Stepped::Stopped => {
                    self.report.disk_failures += 1;
                    return Ok(LifeEnd::Over);
                }
                Stepped::Own(Event::Crash) => return Ok(LifeEnd::Over),
                Stepped::Own(Event::FillDisk { free_bytes }) => self.fill_disk(free_bytes),
                Stepped::Own(Event::FreeDisk) => self.bench.disk.set_foreign(0),
                Stepped::Own(Event::Client(client)) => {
                    if self.bench.now() < rest_at {
                        self.on_client(client)?;
                    }
                }
                Stepped::WentOn => {
                    if !was_serving && self.bench.is_serving() {
                        was_serving = true;
                        self.bench.check_states()?;
                    }
                }
            }
            if self.bench.trace.as_ref().is_some_and(Trace::is_full) {
                return Ok(LifeEnd::Traced);
            }
        }
    }

    /// After the last fault: everything that is asked is answered, and what is there is what should be.
    fn come_to_rest(&mut self) -> Result<(), Violation> {
        if self.plan.full_disks_per_mille > 0 {
            self.fill_disk(0);
        }
        let is_started = self.start()?;
        assert!(is_started, "a disk without faults lets a node start");
        self.bench.send(0, Operation::Audit, 0);
        let has_segment = self
            .bench
            .status()
            .is_some_and(|status| status.log.segment > SegmentSequence(0));
        if has_segment {
            self.run_until_answered()?;
            self.bench.check_states()?;
        } else {
            // Each start begins a segment. When a row of them has used up what was prepared, and the log itself has filled
            // the disk, it waits until somebody makes room.
            self.report.starts_without_room += 1;
            let enlarged = self.plan.capacity_bytes.saturating_mul(2);
            self.bench.disk.set_capacity(enlarged);
        }
        // Without another start it takes writes again.
        self.bench.disk.set_foreign(0);
        self.run_until_answered()?;
        let by = self.bench.now().plus_ms(CALM_MS);
        let acknowledged = self.bench.clients.tally().acknowledged;
        while self.bench.now() <= by {
            for _ in 0..PUTS_AT_REST {
                let put = self.workload.draw_put();
                self.bench.send(0, Operation::Mutate(put), 0);
            }
            self.run_until_answered()?;
            if self.bench.clients.tally().acknowledged >= acknowledged + PUTS_AT_REST {
                return self.bench.check_states();
            }
            let pause_over = self.bench.now().plus_ms(PAUSE_MS);
            self.bench.at(pause_over, Event::FreeDisk);
            while self.bench.now() < pause_over && self.bench.step()?.is_some() {}
        }
        Err(Violation::StillRefused { after_ms: CALM_MS })
    }

    /// Until the node serves and nobody waits.
    fn run_until_answered(&mut self) -> Result<(), Violation> {
        if self.bench.is_serving() && self.bench.clients.pending_count() == 0 {
            return Ok(());
        }
        let by = self.bench.now().plus_ms(CALM_MS);
        while self.bench.step()?.is_some() && self.bench.now() <= by {
            if self.bench.is_serving() && self.bench.clients.pending_count() == 0 {
                return Ok(());
            }
        }
        Err(Violation::Stuck {
            waiting: self.bench.clients.pending_count(),
            after_ms: CALM_MS,
        })
    }

    // ---- The disk ----

    fn fill_disk(&mut self, free_bytes: u64) {
        let disk = &mut self.bench.disk;
        disk.set_foreign(0);
        let foreign_bytes = disk.free_bytes().saturating_sub(free_bytes);
        disk.set_foreign(foreign_bytes);
        self.report.full_disks += 1;
    }

    /// In some lives others fill the disk, and give back what they took, or not before the crash.
    fn schedule_full_disk(&mut self, (from, to): (Time, Time)) {
        if !self.random.chance(self.plan.full_disks_per_mille) {
            return;
        }
        let filled = Time(self.random.between(from.0, to.0));
        let freed = Time(self.random.between(filled.0, to.0 + to.nanos_since(from)));
        let free_bytes = self.random.weighted(&[(2, 0), (1, 1)]);
        let free_bytes = free_bytes * self.random.below(self.plan.node.disk_low_bytes + 1);
        self.bench.at(filled, Event::FillDisk { free_bytes });
        self.bench.at(freed, Event::FreeDisk);
    }

    // ---- Clients ----

    fn schedule_client(&mut self, client: usize) {
        let think_ns = self
            .random
            .between(self.plan.think_min_ns, self.plan.think_max_ns);
        let time = Time(self.bench.now().0 + think_ns);
        self.bench.at(time, Event::Client(client));
    }

    fn on_client(&mut self, client: usize) -> Result<(), Violation> {
        self.schedule_client(client);
        // An audit wants to be alone.
        if self.is_auditing && self.bench.clients.pending_count() > 0 {
            return Ok(());
        }
        self.is_auditing = false;
        if self.random.chance(self.plan.reconnects_per_mille) {
            return self.bench.reconnect(client);
        }
        let pending = self.bench.clients.pending(client);
        let room = self.plan.requests_per_client_max.saturating_sub(pending);
        let burst = self.random.index(4).min(room);
        for _ in 0..burst {
            let operation = self.workload.draw(self.bench.clients.known(client));
            let deadline_ms = self.plan.draw_deadline_ms(&mut self.random);
            self.bench.send(client, operation, deadline_ms);
        }
        Ok(())
    }

    // ---- Damage ----

    /// Now and then a durable record decays before a start: the start must refuse. Then the record is healed.
    fn try_damage(&mut self) -> Result<(), Violation> {
        if !self.bench.has_served() || !self.random.chance(self.plan.damages_per_mille) {
            return Ok(());
        }
        if self.random.chance(500) {
            return self.try_snapshot_damage();
        }
        let ledger = self.bench.oracle.ledger.iter();
        let records: Vec<RecordPlace> = ledger
            .flat_map(Ledger::indispensable_records)
            .copied()
            .collect();
        if records.is_empty() || self.bench.disk.flush_all().is_err() {
            return Ok(());
        }
        let victim = records[self.random.index(records.len())];
        let mut noise = [0; 8];
        self.random.fill(&mut noise);
        // Eight random bytes are those that were there only once in 2^64 tries.
        let at = victim.offset + 8 * self.random.index(victim.bytes_len / 8) as u64;
        let disk = &mut self.bench.disk;
        let before = disk.replace_durable(victim.file, at, &noise);
        let started = self.bench.try_start();
        self.bench.disk.replace_durable(victim.file, at, &before);
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
                if let Some(ledger) = &mut self.bench.oracle.ledger {
                    ledger.on_recovered(started.survivors)?;
                }
                Err(Violation::DamageAccepted {
                    sequence: victim.sequence.0,
                })
            }
        }
    }

    /// As above for snapshots: a start that needs one must refuse it.
    fn try_snapshot_damage(&mut self) -> Result<(), Violation> {
        let (at_per_mille, noise) = (self.random.index(1000), 1 << self.random.index(8));
        let named = self.bench.disk.damage_snapshots(at_per_mille, noise);
        let started = self.bench.try_start();
        self.bench.disk.restore_snapshots(named);
        match started {
            Err(StartFailure::Violation(Violation::SnapshotRefused { .. })) => {
                self.report.refused_snapshots += 1;
                Ok(())
            }
            Ok((node, _)) if node.counters().loads > 0 => Err(Violation::SnapshotDamageAccepted),
            Ok(_)
            | Err(StartFailure::DiskFailed(_) | StartFailure::Refused(RecoveryError::Source(_))) => {
                Ok(())
            }
            Err(StartFailure::Refused(error)) => Err(Violation::RecoveryRefused {
                cause: format!("{error:?}"),
            }),
            Err(StartFailure::Violation(violation)) => Err(violation),
        }
    }
}
