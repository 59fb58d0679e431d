//! What many shards on one core cost: server CPU for each put with 16 shards over that with one, on deep pipelines.
//!
//! Two stores run at the same time on the same processor and are loaded in turns; the one that is not loaded idles. The
//! order changes from round to round.

use serde::Serialize;

use super::{Bench, Findings, OwnStore};
use crate::arguments::ShardsArguments;
use crate::error::PerfError;
use crate::figure::{Figure, Target};
use crate::latency::Spread;
use crate::load::Pace;
use crate::measurement::{Measurement, measure};
use crate::operation::RequestMaker;
use crate::output::number;
use crate::preload::ensure_loaded;
use crate::workload::{Case, Workload};

/// What many shards may cost over one.
const CPU_RATIO_MAX: f64 = 1.15;

#[derive(Debug, Serialize)]
struct Round {
    one: Measurement,
    many: Measurement,
}

/// Measures on two stores of the bench.
pub(super) fn measure_shards(
    bench: &mut Bench<'_>,
    arguments: &ShardsArguments,
) -> Result<Findings, PerfError> {
    let shards = arguments.shards.to_string();
    let mut one = bench.start(&["--shards", "1"])?;
    // Each store would choose a flush method by its own probe.
    let flush_method = one.store.observe()?.flush_method();
    let mut more = vec!["--shards", &shards];
    if !bench.has_store_argument("--flush") {
        more.extend(["--flush", &flush_method]);
    }
    let mut many = bench.start(&more)?;
    let effort = bench.effort;
    let mut requests = RequestMaker::new(effort.keys);
    let case = Case::deepest(Workload::W4);
    let space = case.mix.key_space().expect("puts have keys");
    for (own, shards) in [(&mut one, 1), (&mut many, u64::from(arguments.shards))] {
        let loaded = ensure_loaded(&mut own.store, space, &mut requests)?;
        bench.output.line(&loaded.words())?;
        bench.fill_history(own, &case, &mut requests, shards)?;
    }
    let mut point = |own: &mut OwnStore| {
        own.store.settle()?;
        measure(&case, Pace::Closed, &effort, &mut own.store, &mut requests)
            .map_err(PerfError::from)
    };
    let mut rounds = Vec::new();
    let mut thrown_away = Vec::new();
    for number_of_round in 1..=effort.rounds {
        let round = if number_of_round % 2 == 1 {
            let first = point(&mut one)?;
            Round {
                one: first,
                many: point(&mut many)?,
            }
        } else {
            let first = point(&mut many)?;
            Round {
                one: point(&mut one)?,
                many: first,
            }
        };
        bench.output.line(&format!(
            "round {number_of_round}: {}",
            round.words(arguments.shards)
        ))?;
        if round.cpu_ratio().is_none() || round.void_words().is_some() {
            thrown_away.push(round);
        } else {
            rounds.push(round);
        }
    }
    let spread = |of: fn(&Round) -> Option<f64>| Spread::of(rounds.iter().filter_map(of));
    Ok(Findings {
        figures: vec![
            Figure::new(
                "many shards: server CPU a put / that with one shard",
                Target::AtMost(CPU_RATIO_MAX),
                spread(Round::cpu_ratio),
            ),
            Figure::new(
                "server CPU us a put, one shard",
                Target::None,
                spread(|round| round.one.costs.server_cpu_us_per_operation),
            ),
            Figure::new(
                "server CPU us a put, many shards",
                Target::None,
                spread(|round| round.many.costs.server_cpu_us_per_operation),
            ),
            Figure::new(
                "puts/s, many shards",
                Target::None,
                spread(|round| Some(round.many.achieved_per_second)),
            ),
        ],
        rounds: rounds.len(),
        rounds_thrown_away: thrown_away.len(),
        details: serde_json::json!({
            "shards": arguments.shards,
            "rounds": rounds,
            "thrown_away": thrown_away,
        }),
    })
}

impl Round {
    fn cpu_ratio(&self) -> Option<f64> {
        let of = |measurement: &Measurement| measurement.costs.server_cpu_us_per_operation;
        Some(of(&self.many)? / of(&self.one)?)
    }

    fn void_words(&self) -> Option<&'static str> {
        self.one.void_words().or(self.many.void_words())
    }

    fn words(&self, shards: u32) -> String {
        let words = |measurement: &Measurement| {
            let costs = &measurement.costs;
            format!(
                "{} CPU us a put, {}/s, {} puts a durable write",
                number(costs.server_cpu_us_per_operation.unwrap_or(f64::NAN)),
                number(measurement.achieved_per_second),
                number(1.0 / costs.durable_writes_per_operation),
            )
        };
        format!(
            "1 shard: {}; {shards} shards: {}; ratio {}{}",
            words(&self.one),
            words(&self.many),
            number(self.cpu_ratio().unwrap_or(f64::NAN)),
            self.void_words()
                .map_or(String::new(), |why| format!("  THROWN AWAY: {why}")),
        )
    }
}
