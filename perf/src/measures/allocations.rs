//! Heap allocations of the store for each put in steady state: deep pipelines that overwrite loaded keys, long enough
//! that the history has been full since before the first round.

use serde::Serialize;

use super::{Bench, Findings, PLAIN};
use crate::error::PerfError;
use crate::figure::{Figure, Target};
use crate::latency::Spread;
use crate::load::Pace;
use crate::measurement::{Measurement, measure};
use crate::operation::RequestMaker;
use crate::output::number;
use crate::preload::ensure_loaded;
use crate::workload::{Case, Workload};

/// One for what a put leaves behind, and one for everything else.
const ALLOCATIONS_PER_PUT_MAX: f64 = 2.0;

#[derive(Debug, Serialize)]
struct Round {
    measurement: Measurement,
    allocations_per_put: f64,
}

/// Measures on a store of the bench.
pub(super) fn measure_allocations(bench: &mut Bench<'_>) -> Result<Findings, PerfError> {
    let mut own = bench.start(PLAIN)?;
    if own.store.observe()?.allocations().is_none() {
        return Err(PerfError::NotCounting);
    }
    let effort = bench.effort;
    let mut requests = RequestMaker::new(effort.keys);
    let case = Case::deepest(Workload::W4);
    let space = case.mix.key_space().expect("puts have keys");
    let loaded = ensure_loaded(&mut own.store, space, &mut requests)?;
    bench.output.line(&loaded.words())?;
    bench.fill_history(&mut own, &case, &mut requests, 1)?;
    let mut rounds = Vec::new();
    let mut thrown_away = 0;
    for number_of_round in 1..=effort.rounds {
        let measurement = measure(&case, Pace::Closed, &effort, &mut own.store, &mut requests)?;
        let allocations_per_put = measurement
            .costs
            .allocations_per_operation
            .ok_or(PerfError::NotCounting)?;
        let why = measurement.void_words();
        bench.output.line(&format!(
            "round {number_of_round}: {} allocations a put, {} puts, {} puts a durable write{}",
            number(allocations_per_put),
            measurement.costs.operations,
            number(1.0 / measurement.costs.durable_writes_per_operation),
            why.map_or(String::new(), |why| format!("  THROWN AWAY: {why}")),
        ))?;
        if why.is_some() {
            thrown_away += 1;
            continue;
        }
        rounds.push(Round {
            measurement,
            allocations_per_put,
        });
    }
    let spread = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
    Ok(Findings {
        figures: vec![
            Figure::new(
                "heap allocations a put, deep pipelines",
                Target::AtMost(ALLOCATIONS_PER_PUT_MAX),
                spread(|round| round.allocations_per_put),
            ),
            Figure::new(
                "puts a durable write meanwhile",
                Target::None,
                spread(|round| 1.0 / round.measurement.costs.durable_writes_per_operation),
            ),
        ],
        rounds: rounds.len(),
        rounds_thrown_away: thrown_away,
        details: serde_json::json!({ "loaded": loaded, "rounds": rounds }),
    })
}
