//! How long a store takes from the start of its process until it serves, for each GiB of log that it reads.
//!
//! The log is filled with single puts of 8 + 256 bytes, 1,000 in flight, and the store is killed: what it reads is what
//! a crash leaves. A round is one start of the same log.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::data_files::DataFiles;
use super::{Bench, Findings, OwnStore};
use crate::arguments::{Effort, RestartArguments};
use crate::error::PerfError;
use crate::figure::{Figure, Target};
use crate::latency::Spread;
use crate::load::Pace;
use crate::measurement::measure;
use crate::operation::RequestMaker;
use crate::output::number;
use crate::workload::{Case, Workload};

/// What a start may take for each GiB of log.
const SECONDS_PER_GIB_MAX: f64 = 10.0;

const GIB: f64 = (1_u64 << 30) as f64;

/// How long puts run before the length of the log is looked at again.
const FILL_STEP: Duration = Duration::from_secs(1);

/// Steps of filling, at most: a store that writes less than this in all is not measured.
const FILL_STEPS_MAX: u32 = 600;

/// One start.
#[derive(Debug, Clone, Copy, Serialize)]
struct Round {
    /// From the start of the process to the first answers of all its cores.
    seconds: f64,
    /// CPU time of the process until then.
    cpu_seconds: Option<f64>,
    keys: u64,
}

/// Measures on a store of the bench.
pub(super) fn measure_restart(
    bench: &mut Bench<'_>,
    arguments: &RestartArguments,
) -> Result<Findings, PerfError> {
    let wanted_bytes = arguments.log_bytes();
    let budget = (4 * wanted_bytes).max(1 << 30).to_string();
    let mut own = bench.start(&["--wal-budget", &budget])?;
    let log_bytes = fill(bench, &mut own, wanted_bytes)?;
    let mut rounds = Vec::new();
    for number_of_round in 1..=bench.effort.rounds {
        let started = Instant::now();
        bench.restart(&mut own)?;
        let elapsed = started.elapsed();
        let observation = own.store.observe()?;
        let replicas = observation
            .statuses()
            .iter()
            .flat_map(|status| &status.replicas);
        let round = Round {
            seconds: elapsed.as_secs_f64(),
            cpu_seconds: observation.cpu().map(|cpu| cpu.as_secs_f64()),
            keys: replicas.map(|replica| replica.keys).sum(),
        };
        bench.output.line(&format!(
            "round {number_of_round}: serving after {} s, {} s of it on a CPU, with {} keys",
            number(round.seconds),
            number(round.cpu_seconds.unwrap_or(f64::NAN)),
            round.keys
        ))?;
        rounds.push(round);
    }
    let snapshots = DataFiles::of(&own.node.data())?.snapshot_paths.len();
    if snapshots > 0 {
        bench.output.line(&format!(
            "NOT THE LOG ALONE: {snapshots} snapshots lie beside it"
        ))?;
    }
    let gib = log_bytes as f64 / GIB;
    let counts = snapshots == 0;
    let each_gib = rounds
        .iter()
        .filter(|_| counts)
        .map(|round| round.seconds / gib);
    Ok(Findings {
        figures: vec![
            Figure::new(
                "restart: seconds to serving for each GiB of log",
                Target::AtMost(SECONDS_PER_GIB_MAX),
                Spread::of(each_gib),
            ),
            Figure::new(
                "restart: of these, seconds of CPU for each GiB",
                Target::None,
                Spread::of(
                    rounds
                        .iter()
                        .filter_map(|round| Some(round.cpu_seconds? / gib)),
                ),
            ),
            Figure::new(
                "restart: seconds to serving",
                Target::None,
                Spread::of(rounds.iter().map(|round| round.seconds)),
            ),
        ],
        rounds: if counts { rounds.len() } else { 0 },
        rounds_thrown_away: if counts { 0 } else { rounds.len() },
        details: serde_json::json!({
            "log_bytes": log_bytes,
            "snapshots": snapshots,
            "rounds": rounds,
        }),
    })
}

/// Puts until the log has its length, and tells it.
fn fill(bench: &mut Bench<'_>, own: &mut OwnStore, wanted_bytes: u64) -> Result<u64, PerfError> {
    let mut requests = RequestMaker::new(bench.effort.keys);
    let effort = Effort {
        warm_up: Duration::ZERO,
        measured: FILL_STEP,
        ..bench.effort
    };
    let mut log_bytes = 0;
    let mut puts = 0;
    for _ in 0..FILL_STEPS_MAX {
        let case = Case::deepest(Workload::W2);
        let measurement = measure(&case, Pace::Closed, &effort, &mut own.store, &mut requests)?;
        if let Some(failure) = measurement.first_failure {
            return Err(PerfError::Preparation { failure });
        }
        puts += measurement.costs.operations;
        let observation = own.store.observe()?;
        log_bytes = observation
            .statuses()
            .iter()
            .map(|status| status.log.record_bytes)
            .sum();
        if log_bytes >= wanted_bytes {
            break;
        }
    }
    bench.output.line(&format!(
        "a log of {} MiB, {puts} puts of 8 + 256 bytes on {} keys",
        number(log_bytes as f64 / f64::from(1 << 20)),
        bench.effort.keys,
    ))?;
    Ok(log_bytes)
}
