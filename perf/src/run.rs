//! `metastore-perf run`: workloads against a store that is running.

mod report;

use crate::arguments::{Effort, RunArguments};
use crate::conditions::Conditions;
use crate::error::{PerfError, Verdict};
use crate::load::Pace;
use crate::measurement::{Measurement, measure};
use crate::operation::RequestMaker;
use crate::output::Output;
use crate::preload::ensure_loaded;
use crate::store::Store;
use crate::workload::Case;
use report::{CaseReport, RunReport, round_words};

/// Runs the workload and reports. Says whether every measurement is valid.
pub(crate) fn run(arguments: &RunArguments) -> Result<Verdict, PerfError> {
    let mut output = Output::new(arguments.json.clone());
    let effort = arguments.effort.effort();
    let mut store = connect(arguments, &mut output)?;
    let observation = store.observe()?;
    let conditions = Conditions::of(&store, &observation, arguments.data.as_deref());
    for line in conditions.lines() {
        output.line(&line)?;
    }
    let mut requests = RequestMaker::new(effort.keys);
    let cases = arguments.workload.cases(&arguments.overrides());
    let loaded = match cases.iter().find_map(Case::key_space) {
        Some(space) => Some(ensure_loaded(store.first(), space, &mut requests)?),
        None => None,
    };
    if let Some(loaded) = &loaded {
        output.line(&loaded.words())?;
    }
    let pace = arguments.rate.map_or(Pace::Closed, |rate| Pace::Poisson {
        operations_per_second: rate,
    });
    announce(&effort, cases.len(), pace, &mut output)?;
    let mut rounds: Vec<Vec<Measurement>> = cases.iter().map(|_| Vec::new()).collect();
    for round in 1..=effort.rounds {
        for (case, measurements) in cases.iter().zip(&mut rounds) {
            let measurement = measure(case, pace, &effort, &mut store, &mut requests)?;
            output.line(&format!(
                "round {round}, {}",
                round_words(case, &measurement)
            ))?;
            measurements.push(measurement);
        }
    }
    let reports = cases.iter().zip(rounds);
    let report = RunReport {
        conditions,
        loaded,
        warm_up_seconds: effort.warm_up.as_secs_f64(),
        round_seconds: effort.measured.as_secs_f64(),
        cases: reports
            .map(|(case, rounds)| CaseReport::of(case, rounds))
            .collect(),
    };
    report.print(&mut output)?;
    output.json(&report)?;
    Ok(report.verdict())
}

fn connect(arguments: &RunArguments, output: &mut Output) -> Result<Store, PerfError> {
    let mut store = Store::connect(&arguments.connect)?;
    if let Err(error) = store.watch_process(arguments.server_pid) {
        // A process that was named must be there; one that was not may well be on another machine.
        if arguments.server_pid.is_some() {
            return Err(error.into());
        }
        output.line(&format!(
            "the store's CPU and bytes are not measured: {error}"
        ))?;
    }
    if let Some(data) = &arguments.data {
        store.watch_disk(data)?;
    }
    Ok(store)
}

/// Says beforehand how long it will take.
fn announce(
    effort: &Effort,
    cases: usize,
    pace: Pace,
    output: &mut Output,
) -> Result<(), PerfError> {
    let round = effort.warm_up + effort.measured;
    let seconds = round.as_secs_f64() * f64::from(effort.rounds) * cases as f64;
    let loop_words = match pace {
        Pace::Closed => "closed loop".to_owned(),
        Pace::Poisson {
            operations_per_second,
        } => format!("open loop at {operations_per_second}/s"),
    };
    output.line(&format!(
        "{loop_words}, {} rounds of {} points, {:.1} s of warm-up and {} s measured each: about {seconds:.0} s",
        effort.rounds,
        cases,
        effort.warm_up.as_secs_f64(),
        effort.measured.as_secs(),
    ))
}

#[cfg(test)]
mod tests;
