//! What latencies become under load: the 99th percentile at a share of the store's own capacity, over the median of a
//! client that is alone.
//!
//! A round is: one client alone, the capacity in a closed loop, then the open loop at its share.

use serde::Serialize;

use super::{Bench, Findings, PLAIN};
use crate::arguments::UnderLoadArguments;
use crate::error::PerfError;
use crate::figure::{Figure, Target};
use crate::good_clients::{GoodClients, Span};
use crate::latency::Spread;
use crate::measurement::Measurement;
use crate::output::number;

/// What the tail may grow to.
const TAIL_RATIO_MAX: f64 = 8.0;

/// One round.
#[derive(Debug, Serialize)]
struct Round {
    alone: Measurement,
    capacity: Measurement,
    loaded: Measurement,
}

/// Measures on a store of the bench.
pub(super) fn measure_tail(
    bench: &mut Bench<'_>,
    arguments: &UnderLoadArguments,
) -> Result<Findings, PerfError> {
    let mut own = bench.start(PLAIN)?;
    let store = &mut own.store;
    let (mut clients, loaded) = GoodClients::load(store, bench.effort.keys, arguments.directories)?;
    bench.output.line(&loaded.words())?;
    let span = Span::from(&bench.effort);
    let mut rounds = Vec::new();
    let mut thrown_away = Vec::new();
    for number_of_round in 1..=bench.effort.rounds {
        store.settle()?;
        let alone = clients.measure_alone(store, span)?;
        let capacity = clients.measure_capacity(store, span)?;
        let rate = (arguments.load * capacity.achieved_per_second).max(1.0);
        let round = Round {
            alone,
            loaded: clients.measure_at(store, rate, span)?,
            capacity,
        };
        bench
            .output
            .line(&format!("round {number_of_round}: {}", round.words()))?;
        if round.is_void() {
            thrown_away.push(round);
        } else {
            rounds.push(round);
        }
    }
    Ok(Findings {
        figures: figures(&rounds),
        rounds: rounds.len(),
        rounds_thrown_away: thrown_away.len(),
        details: serde_json::json!({
            "load": arguments.load,
            "directories": arguments.directories,
            "loaded": loaded,
            "rounds": rounds,
            "thrown_away": thrown_away,
        }),
    })
}

fn figures(rounds: &[Round]) -> Vec<Figure> {
    let spread = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
    vec![
        Figure::new(
            "tail under load: w8 p99 at the share of the capacity / p50 of one client alone",
            Target::AtMost(TAIL_RATIO_MAX),
            spread(Round::tail_ratio),
        ),
        Figure::new(
            "w8 p99 us under load",
            Target::None,
            spread(|round| round.loaded.latency.p99_us),
        ),
        Figure::new(
            "w8 p50 us alone",
            Target::None,
            spread(|round| round.alone.latency.p50_us),
        ),
        Figure::new(
            "w8 operations/s, capacity",
            Target::None,
            spread(|round| round.capacity.achieved_per_second),
        ),
    ]
}

impl Round {
    fn tail_ratio(&self) -> f64 {
        self.loaded.latency.p99_us / self.alone.latency.p50_us
    }

    fn all(&self) -> [&Measurement; 3] {
        [&self.alone, &self.capacity, &self.loaded]
    }

    fn is_void(&self) -> bool {
        self.all().iter().any(|measurement| measurement.is_void())
    }

    fn words(&self) -> String {
        let why = self.all().into_iter().find_map(Measurement::void_words);
        format!(
            "alone p50 {} us; capacity {}/s; offered {}/s, p50 {} us, p99 {} us: ratio {}{}",
            number(self.alone.latency.p50_us),
            number(self.capacity.achieved_per_second),
            number(self.loaded.offered_per_second.unwrap_or(0.0)),
            number(self.loaded.latency.p50_us),
            number(self.loaded.latency.p99_us),
            number(self.tail_ratio()),
            why.map_or(String::new(), |why| format!("  THROWN AWAY: {why}")),
        )
    }
}
