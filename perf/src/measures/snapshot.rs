//! What a snapshot does to the latency of others: the 99th percentile of what is sent while one is taken, over that of
//! what is sent before and after it in the same run.
//!
//! A round is a new store, because the next snapshot of an old one is long in coming. It is told to take its first
//! snapshot a little after the keys are loaded; a thread watches its directory for a file that is being written.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::data_files::DataFiles;
use super::{Bench, Findings, OwnStore, PLAIN};
use crate::arguments::SnapshotArguments;
use crate::error::PerfError;
use crate::figure::{Figure, Target};
use crate::good_clients::{GoodClients, Span};
use crate::latency::{Latency, Spread};
use crate::measurement::Measurement;
use crate::output::number;

/// What the tail may grow to.
const TAIL_RATIO_MAX: f64 = 2.0;

/// A snapshot is due when this share of what loading wrote has been written on top of it.
const DUE_AFTER_LOADING: f64 = 0.05;

/// Times that a store is asked for its snapshot to come.
const SPANS_MAX: u32 = 10;

/// A 99th percentile of fewer is chance.
const MARKED_MIN: u64 = 1_000;

/// Time between looks at the directory.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// One store.
#[derive(Debug, Serialize)]
struct Round {
    measurement: Measurement,
    /// What was sent while no snapshot was taken.
    without: Latency,
    snapshots: usize,
    snapshot_bytes: u64,
}

/// Measures on a new store of the bench in each round.
pub(super) fn measure_snapshot(
    bench: &mut Bench<'_>,
    arguments: &SnapshotArguments,
) -> Result<Findings, PerfError> {
    let span = Span::from(&bench.effort);
    let mut own = bench.start(PLAIN)?;
    let (mut clients, loaded) =
        GoodClients::load(&mut own.store, bench.effort.keys, arguments.directories)?;
    bench.output.line(&loaded.words())?;
    let loading_bytes = record_bytes(&mut own)?;
    let capacity = clients.measure_capacity(&mut own.store, span)?;
    drop(own);
    if let Some(why) = capacity.void_words() {
        bench.output.line(&format!("THE CAPACITY IS VOID: {why}"))?;
    }
    let rate = (arguments.load * capacity.achieved_per_second).max(1.0);
    let due_bytes = (loading_bytes as f64 * (1.0 + DUE_AFTER_LOADING)) as u64;
    let more = [
        "--set".to_owned(),
        format!("snapshot.log_bytes={due_bytes}B"),
    ];
    let mut rounds = Vec::new();
    let mut thrown_away = Vec::new();
    for number_of_round in 1..=bench.effort.rounds {
        let mut own = bench.start(&more)?;
        let (mut clients, _) =
            GoodClients::load(&mut own.store, bench.effort.keys, arguments.directories)?;
        own.store.settle()?;
        let round = measure_round(&mut own, &mut clients, rate, span)?;
        bench
            .output
            .line(&format!("round {number_of_round}: {}", round.words()))?;
        if round.void_words().is_some() || capacity.is_void() {
            thrown_away.push(round);
        } else {
            rounds.push(round);
        }
    }
    let spread = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
    Ok(Findings {
        figures: vec![
            Figure::new(
                "snapshot: w8 p99 while one is taken / without",
                Target::AtMost(TAIL_RATIO_MAX),
                spread(Round::tail_ratio),
            ),
            Figure::new(
                "w8 p99 us while a snapshot is taken",
                Target::None,
                spread(|round| round.measurement.marked.p99_us),
            ),
            Figure::new(
                "w8 p99 us without",
                Target::None,
                spread(|round| round.without.p99_us),
            ),
        ],
        rounds: rounds.len(),
        rounds_thrown_away: thrown_away.len(),
        details: serde_json::json!({
            "load": arguments.load,
            "directories": arguments.directories,
            "loaded": loaded,
            "capacity": capacity,
            "rounds": rounds,
            "thrown_away": thrown_away,
        }),
    })
}

fn measure_round(
    own: &mut OwnStore,
    clients: &mut GoodClients,
    rate: f64,
    span: Span,
) -> Result<Round, PerfError> {
    let data = own.node.data();
    let is_writing = AtomicBool::new(false);
    let is_over = AtomicBool::new(false);
    let measurement = thread::scope(|scope| {
        scope.spawn(|| watch(&data, &is_writing, &is_over));
        let mut measure = || clients.measure_marked_at(&mut own.store, rate, span, &is_writing);
        let mut measurement = measure();
        for _ in 1..SPANS_MAX {
            if measurement
                .as_ref()
                .is_ok_and(|found| found.marked.count > 0)
            {
                break;
            }
            measurement = measure();
        }
        is_over.store(true, Ordering::Release);
        measurement
    })?;
    let files = DataFiles::of(&data)?;
    let mut without = measurement.histogram.clone();
    without
        .subtract(&measurement.histogram_marked)
        .expect("what was marked is part of all");
    Ok(Round {
        without: Latency::of(&without),
        measurement,
        snapshots: files.snapshot_paths.len(),
        snapshot_bytes: files.snapshot_bytes,
    })
}

/// Sets the mark while a file is being written. What cannot be looked at is not marked, and then too few requests are.
fn watch(data: &Path, is_writing: &AtomicBool, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Acquire) {
        let unfinished_bytes = DataFiles::of(data).map_or(0, |files| files.unfinished_bytes);
        is_writing.store(unfinished_bytes > 0, Ordering::Relaxed);
        thread::sleep(LOOK_PAUSE);
    }
}

/// What the fullest log holds: each node has only one, and each log its own snapshots.
fn record_bytes(own: &mut OwnStore) -> Result<u64, PerfError> {
    let observation = own.store.observe()?;
    let statuses = observation.statuses().iter();
    let logs = statuses.map(|status| status.log.record_bytes);
    Ok(logs.max().unwrap_or(0))
}

impl Round {
    fn tail_ratio(&self) -> f64 {
        self.measurement.marked.p99_us / self.without.p99_us
    }

    fn void_words(&self) -> Option<&'static str> {
        let too_few = self.measurement.marked.count.min(self.without.count) < MARKED_MIN;
        let why = "too little was sent while a snapshot was taken, or while none was";
        self.measurement.void_words().or(too_few.then_some(why))
    }

    fn words(&self) -> String {
        let Round {
            measurement,
            without,
            ..
        } = self;
        format!(
            "offered {}/s; p99 {} us of {} while a snapshot was taken, {} us of {} without: ratio {}; {} snapshots of {} \
             MiB{}",
            number(measurement.offered_per_second.unwrap_or(0.0)),
            number(measurement.marked.p99_us),
            measurement.marked.count,
            number(without.p99_us),
            without.count,
            number(self.tail_ratio()),
            self.snapshots,
            number(self.snapshot_bytes as f64 / f64::from(1 << 20)),
            self.void_words()
                .map_or(String::new(), |why| format!("  THROWN AWAY: {why}")),
        )
    }
}
