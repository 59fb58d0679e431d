//! Worlds, one after the other, until there were enough crashes.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use metastore_bugs::planted_name;

use crate::log_reuse::{LogReuse, ReuseReport};
use crate::oracle::Checkers;
use crate::trace::Trace;
use crate::violation::Violation;
use crate::world::{World, WorldReport};

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerLoss {
    /// Seed of the first world; each further one has the next.
    pub seed: u64,
    /// Worlds are run until there were so many crashes; each is run to its end.
    pub crashes: u64,
    /// Who checks.
    pub checkers: Checkers,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Worlds.
    pub worlds: u64,
    /// What happened in all of them together.
    pub total: WorldReport,
    /// What happened to the logs that were driven alone, one beside each world.
    pub reuse: ReuseReport,
}

/// A broken promise, and where to find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Seed of the world.
    pub seed: u64,
    /// The name of the bug that was planted, if any.
    pub planted: Option<&'static str>,
    /// What was broken.
    pub violation: Violation,
    /// What had been done until then.
    pub summary: Summary,
}

/// Crashes of the log that is driven alone, beside each world.
const LOG_CRASHES: u64 = 20;

impl PowerLoss {
    /// Runs until there were enough crashes or a promise is broken.
    ///
    /// # Errors
    /// The promise, and the world in which it was broken.
    pub fn run(&self) -> Result<Summary, Box<Failure>> {
        let mut summary = Summary::default();
        while summary.total.crashes < self.crashes {
            let seed = self.seed + summary.worlds;
            let mut world = World::new(seed, self.checkers);
            let mut log = LogReuse::new(seed);
            let ran = caught(|| world.run()).and_then(|()| caught(|| log.run(LOG_CRASHES)));
            summary.worlds += 1;
            summary.total.add(&world.report());
            summary.reuse.add(&log.report());
            if let Err(violation) = ran {
                return Err(Box::new(Failure {
                    seed,
                    planted: planted_name(),
                    violation,
                    summary,
                }));
            }
        }
        Ok(summary)
    }
}

/// Runs worlds until their cores had so many inputs, and returns the trace of all.
///
/// # Errors
/// A broken promise, and the world in which it was broken.
pub fn trace(seed: u64, inputs: u64) -> Result<Trace, Box<Failure>> {
    let mut trace = Trace::new(inputs);
    let mut summary = Summary::default();
    while !trace.is_full() {
        let world_seed = seed + summary.worlds;
        let mut world = World::new(world_seed, Checkers::All);
        world.set_trace(trace);
        let ran = caught(|| world.run());
        trace = world.take_trace().expect("the world was given a trace");
        summary.worlds += 1;
        summary.total.add(&world.report());
        if let Err(violation) = ran {
            return Err(Box::new(Failure {
                seed: world_seed,
                planted: planted_name(),
                violation,
                summary,
            }));
        }
    }
    Ok(trace)
}

/// An assertion that fails in the core is a finding like any other.
pub(crate) fn caught(run: impl FnOnce() -> Result<(), Violation>) -> Result<(), Violation> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(ran) => ran,
        Err(payload) => {
            let message = payload
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| {
                    payload
                        .downcast_ref::<&str>()
                        .map(|text| (*text).to_owned())
                })
                .unwrap_or_else(|| String::from("without a message"));
            Err(Violation::Panicked { message })
        }
    }
}

impl WorldReport {
    fn add(&mut self, other: &WorldReport) {
        self.crashes += other.crashes;
        self.power_losses += other.power_losses;
        self.recoveries += other.recoveries;
        self.torn_tails += other.torn_tails;
        self.full_disks += other.full_disks;
        self.starts_without_room += other.starts_without_room;
        self.refused_damages += other.refused_damages;
        self.refused_snapshots += other.refused_snapshots;
        self.disk_failures += other.disk_failures;
        self.states_compared += other.states_compared;
        let (tally, more) = (&mut self.tally, &other.tally);
        tally.acknowledged += more.acknowledged;
        tally.refused += more.refused;
        tally.compounds_done += more.compounds_done;
        tally.compounds_failed += more.compounds_failed;
        tally.unknown += more.unknown;
        tally.reads += more.reads;
        tally.ranges += more.ranges;
        tally.audits += more.audits;
        tally.refused_by_budget += more.refused_by_budget;
        tally.refused_by_load += more.refused_by_load;
        tally.deadlines_not_done += more.deadlines_not_done;
        tally.deadlines_unknown += more.deadlines_unknown;
        self.node.add(&other.node);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary {
            worlds,
            total,
            reuse,
        } = self;
        let tally = &total.tally;
        writeln!(
            formatter,
            "{} crashes in {worlds} worlds: {} losses of power, {} killed processes; {} failures of the disk",
            total.crashes,
            total.power_losses,
            total.crashes - total.power_losses,
            total.disk_failures
        )?;
        writeln!(
            formatter,
            "{} recoveries, {} torn tails cut, {} damaged logs and {} damaged snapshots refused, {} states compared",
            total.recoveries,
            total.torn_tails,
            total.refused_damages,
            total.refused_snapshots,
            total.states_compared
        )?;
        writeln!(
            formatter,
            "{} commands acknowledged ({} with structure done, {} not), {} refused, {} unknown; {} reads, {} ranges, {} audits",
            tally.acknowledged,
            tally.compounds_done,
            tally.compounds_failed,
            tally.refused,
            tally.unknown,
            tally.reads,
            tally.ranges,
            tally.audits
        )?;
        writeln!(
            formatter,
            "{} inputs, {} writes of the log, {} short writes, {} segments prepared",
            total.node.inputs, total.node.writes, total.node.short_writes, total.node.segments
        )?;
        writeln!(
            formatter,
            "{} snapshots taken, {} loaded; the disk was filled {} times and low {} times, {} last starts waited for room; {} mutations refused by budget or disk",
            total.node.snapshots,
            total.node.loads,
            total.full_disks,
            total.node.low_disks,
            total.starts_without_room,
            total.tally.refused_by_budget
        )?;
        write!(formatter, "{reuse}")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.summary)?;
        writeln!(formatter, "violation: {}", self.violation)?;
        write!(
            formatter,
            "replay: metastore-sim power-loss --crashes 1 --seed {}",
            self.seed
        )?;
        match self.planted {
            Some(mutant) => write!(formatter, " --mutant {mutant}"),
            None => Ok(()),
        }
    }
}
