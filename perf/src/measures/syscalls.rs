//! System calls of the store for each put: deep pipelines, whose answers and flushes are shared by many.
//!
//! The kernel's own counter costs the store next to nothing (`perf stat`), and decides where it can be read. strace says
//! which calls they are, and stops the store at each of them: a slower store gathers more in each turn, so that what
//! strace counts is a little too good.

mod tracer;

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
pub(crate) use tracer::TracerError;
use tracer::{SystemCalls, Tool, Tracer};

/// A turn that takes many puts makes a few calls.
const CALLS_PER_PUT_MAX: f64 = 0.5;
/// So many kinds of calls are told.
const KINDS_TOLD: usize = 6;

/// One tool in one round.
#[derive(Debug, Serialize)]
struct Count {
    tool: Tool,
    measurement: Measurement,
    calls: SystemCalls,
}

impl Count {
    fn per_put(&self) -> f64 {
        self.calls.total() as f64 / self.measurement.costs.operations as f64
    }

    fn words(&self) -> String {
        let puts = self.measurement.costs.operations as f64;
        let kinds = self.calls.by_name.iter().take(KINDS_TOLD);
        let kinds: Vec<String> = kinds
            .map(|(name, calls)| format!("{name} {}", number(*calls as f64 / puts)))
            .collect();
        let kinds = match kinds.is_empty() {
            true => String::new(),
            false => format!(" ({})", kinds.join(", ")),
        };
        format!(
            "{} system calls a put by {}{kinds}, {} puts/s",
            number(self.per_put()),
            self.tool.name(),
            number(self.measurement.achieved_per_second),
        )
    }
}

/// Measures on a store of the bench.
pub(super) fn measure_syscalls(bench: &mut Bench<'_>) -> Result<Findings, PerfError> {
    let tools = Tool::available()?;
    let mut own = bench.start(PLAIN)?;
    let effort = bench.effort;
    let mut requests = RequestMaker::new(effort.keys);
    let case = Case::deepest(Workload::W4);
    let space = case.mix.key_space().expect("puts have keys");
    let loaded = ensure_loaded(&mut own.store, space, &mut requests)?;
    bench.output.line(&loaded.words())?;
    let (mut counts, mut thrown_away) = (Vec::new(), Vec::new());
    for number_of_round in 1..=effort.rounds {
        for &tool in &tools {
            let tracer = Tracer::attach(tool, own.store.processes())?;
            let measured = measure(&case, Pace::Closed, &effort, &mut own.store, &mut requests);
            let calls = tracer.detach()?;
            let measurement = match measured {
                Ok(measurement) => measurement,
                // What the first tool has counted is there; a store that is stopped at each call may be too slow.
                Err(error) if Some(&tool) != tools.first() => {
                    bench.output.line(&format!(
                        "round {number_of_round}: nothing by {}: {error}",
                        tool.name()
                    ))?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let count = Count {
                tool,
                measurement,
                calls,
            };
            // Under strace nothing else of the measurement is used, and its store is slow as it must be.
            let why = count.measurement.void_words();
            bench.output.line(&format!(
                "round {number_of_round}: {}{}",
                count.words(),
                why.map_or(String::new(), |why| format!("  THROWN AWAY: {why}")),
            ))?;
            match why {
                None => counts.push(count),
                Some(_) => thrown_away.push(count),
            }
        }
    }
    Ok(findings(&tools, &counts, &thrown_away))
}

fn findings(tools: &[Tool], counts: &[Count], thrown_away: &[Count]) -> Findings {
    let spread = |tool: Tool| {
        let of_tool = counts.iter().filter(|count| count.tool == tool);
        Spread::of(of_tool.map(Count::per_put))
    };
    let figures = tools.iter().enumerate().map(|(position, &tool)| {
        // The first tool disturbs least, so it decides.
        let (name, target) = match (position, tool) {
            (0, _) => (
                "system calls a put, deep pipelines",
                Target::AtMost(CALLS_PER_PUT_MAX),
            ),
            (_, Tool::Kernel) => ("system calls a put by perf stat", Target::None),
            (_, Tool::Strace) => ("system calls a put by strace", Target::None),
        };
        Figure::new(name, target, spread(tool))
    });
    let decisive = counts
        .iter()
        .filter(|count| Some(&count.tool) == tools.first());
    let decisive_away = thrown_away
        .iter()
        .filter(|count| Some(&count.tool) == tools.first());
    Findings {
        figures: figures.collect(),
        rounds: decisive.count(),
        rounds_thrown_away: decisive_away.count(),
        details: serde_json::json!({ "counts": counts, "thrown_away": thrown_away }),
    }
}
