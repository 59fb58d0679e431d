//! What was done, in numbers: of one round as a line of JSON, and of all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clients::Tally;
use crate::judge::Judged;
use crate::plan::{FaultKind, Plan};

/// When everybody was answered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// It did not come to that.
    Never,
    /// So long after the last fault.
    After(Duration),
}

/// One round.
#[derive(Clone, Debug)]
pub(crate) struct RoundReport {
    pub(crate) seed: u64,
    cores: u16,
    shards: u32,
    has_snapshots: bool,
    pub(crate) tally: Tally,
    pub(crate) faults: BTreeMap<FaultKind, u64>,
    /// What went wrong when, in words.
    pub(crate) lines: Vec<String>,
    pub(crate) recovery: Recovery,
    /// From when a leader was killed to the next write of its shard that was acknowledged.
    pub(crate) waits: Vec<Duration>,
    /// Those during which nothing else was wrong.
    pub(crate) waits_alone: Vec<Duration>,
    pub(crate) judged: Judged,
    /// Nodes that stopped before all was done that they had accepted, because too much was wrong.
    pub(crate) hurried_stops: u64,
    pub(crate) connections: u64,
    pub(crate) corrupted: u64,
    pub(crate) broken: u64,
    pub(crate) half_closed: u64,
    pub(crate) reset: u64,
    pub(crate) swallowed_bytes: u64,
    pub(crate) took: Duration,
}

/// All rounds, those of earlier runs included.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) rounds: u64,
    /// Rounds of this run that were run again because this process stood still.
    pub(crate) disturbed: u64,
    /// Kinds of faults that are not possible here, each with the reason.
    pub(crate) skipped: Vec<String>,
    tally: Tally,
    /// In how many rounds each kind happened, and how often.
    faults: BTreeMap<String, (u64, u64)>,
    recovery_ms_max: u64,
    wait_ms_max: u64,
    waits_alone: u64,
    wait_alone_ms_max: u64,
    shards: u64,
    shards_without_log: u64,
    undecided: u64,
    operations_checked: u64,
    hurried_stops: u64,
    proxies: BTreeMap<&'static str, u64>,
    seeds: BTreeSet<u64>,
}

/// What the proxies did, by the name under which it stands in a line.
const PROXIES: [&str; 6] = [
    "connections",
    "corrupted",
    "broken",
    "half_closed",
    "reset",
    "swallowed_bytes",
];

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a round is short")
}

fn longest_ms(durations: &[Duration]) -> u64 {
    durations.iter().copied().map(ms).max().unwrap_or(0)
}

impl RoundReport {
    pub(crate) fn of(seed: u64, plan: &Plan) -> RoundReport {
        RoundReport {
            seed,
            cores: plan.cores,
            shards: plan.shards,
            has_snapshots: plan.has_snapshots,
            tally: Tally::default(),
            faults: BTreeMap::new(),
            lines: Vec::new(),
            recovery: Recovery::Never,
            waits: Vec::new(),
            waits_alone: Vec::new(),
            judged: Judged::default(),
            hurried_stops: 0,
            connections: 0,
            corrupted: 0,
            broken: 0,
            half_closed: 0,
            reset: 0,
            swallowed_bytes: 0,
            took: Duration::ZERO,
        }
    }

    /// It as a line.
    pub(crate) fn document(&self, commit: &str) -> Value {
        let faults = self.faults.iter();
        let faults: BTreeMap<&str, u64> =
            faults.map(|(kind, count)| (kind.name(), *count)).collect();
        let recovery_ms = match self.recovery {
            Recovery::Never => None,
            Recovery::After(after) => Some(ms(after)),
        };
        json!({
            "seed": self.seed,
            "commit": commit,
            "cores": self.cores,
            "shards": self.shards,
            "has_snapshots": self.has_snapshots,
            "succeeded": self.tally.succeeded,
            "failed": self.tally.failed,
            "unknown": self.tally.unknown,
            "retries": self.tally.retries,
            "follower_reads": self.tally.follower_reads,
            "nonsense": self.tally.nonsense,
            "faults": faults,
            "recovery_ms": recovery_ms,
            "leader_kills": self.waits.len(),
            "wait_ms_max": longest_ms(&self.waits),
            "leader_kills_alone": self.waits_alone.len(),
            "wait_alone_ms_max": longest_ms(&self.waits_alone),
            "operations_checked": self.judged.operations,
            "shards_without_log": self.judged.shards_without_log,
            "undecided": self.judged.undecided,
            "hurried_stops": self.hurried_stops,
            "connections": self.connections,
            "corrupted": self.corrupted,
            "broken": self.broken,
            "half_closed": self.half_closed,
            "reset": self.reset,
            "swallowed_bytes": self.swallowed_bytes,
            "took_ms": ms(self.took),
        })
    }
}

impl Summary {
    /// Adds a round, as its line says.
    pub(crate) fn add(&mut self, line: &Value) {
        let number = |key: &str| line[key].as_u64().unwrap_or(0);
        self.rounds += 1;
        self.seeds.insert(number("seed"));
        self.tally.add(&Tally {
            succeeded: number("succeeded"),
            failed: number("failed"),
            unknown: number("unknown"),
            retries: number("retries"),
            follower_reads: number("follower_reads"),
            nonsense: number("nonsense"),
        });
        let faults = line["faults"].as_object();
        for (kind, count) in faults.into_iter().flatten() {
            let known = self.faults.entry(kind.clone()).or_default();
            known.0 += 1;
            known.1 += count.as_u64().unwrap_or(0);
        }
        self.recovery_ms_max = self.recovery_ms_max.max(number("recovery_ms"));
        self.wait_ms_max = self.wait_ms_max.max(number("wait_ms_max"));
        self.waits_alone += number("leader_kills_alone");
        self.wait_alone_ms_max = self.wait_alone_ms_max.max(number("wait_alone_ms_max"));
        self.shards += number("shards");
        self.shards_without_log += number("shards_without_log");
        self.undecided += number("undecided");
        self.operations_checked += number("operations_checked");
        self.hurried_stops += number("hurried_stops");
        for name in PROXIES {
            *self.proxies.entry(name).or_default() += number(name);
        }
    }

    /// How many operations succeeded, in a hundred.
    pub(crate) fn succeeded_percent(&self) -> u64 {
        let Tally {
            succeeded,
            failed,
            unknown,
            ..
        } = self.tally;
        100 * succeeded / (succeeded + failed + unknown).max(1)
    }

    /// The seed behind the last one.
    pub(crate) fn next_seed(&self) -> Option<u64> {
        self.seeds.last().map(|last| last + 1)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        let all = tally.succeeded + tally.failed + tally.unknown;
        let percent = |part: u64| 100.0 * part as f64 / all.max(1) as f64;
        writeln!(
            formatter,
            "{} rounds, {} run again because this process stood still; {all} operations: {} succeeded ({:.1} %), {} failed ({:.1} %), {} unknown ({:.1} %); {} tried again, {} reads answered by followers, {} connections ended by nonsense",
            self.rounds,
            self.disturbed,
            tally.succeeded,
            percent(tally.succeeded),
            tally.failed,
            percent(tally.failed),
            tally.unknown,
            percent(tally.unknown),
            tally.retries,
            tally.follower_reads,
            tally.nonsense,
        )?;
        for (kind, (rounds, count)) in &self.faults {
            writeln!(
                formatter,
                "  {kind:<12} {count:>6} times, in {rounds:>5} rounds"
            )?;
        }
        for skipped in &self.skipped {
            writeln!(formatter, "  skipped {skipped}")?;
        }
        writeln!(
            formatter,
            "{} operations checked in {} shards: {} without a log that holds everything, {} of them undecided; {} stops under faults left something undone",
            self.operations_checked,
            self.shards,
            self.shards_without_log,
            self.undecided,
            self.hurried_stops
        )?;
        let of = |name: &str| self.proxies.get(name).copied().unwrap_or(0);
        writeln!(
            formatter,
            "proxies carried {} connections, changed a bit in {} pieces, broke {} connections within a piece, closed {} in one direction, reset {}, swallowed {} bytes",
            of("connections"),
            of("corrupted"),
            of("broken"),
            of("half_closed"),
            of("reset"),
            of("swallowed_bytes")
        )?;
        write!(
            formatter,
            "everybody answered {} ms after the last fault at the latest; the next write after a leader was killed acknowledged after {} ms at the latest, {} ms where nothing else was wrong ({} times)",
            self.recovery_ms_max, self.wait_ms_max, self.wait_alone_ms_max, self.waits_alone
        )
    }
}
