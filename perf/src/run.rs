//! `metastore-perf run`: workloads against a store that is running.

mod report;

use crate::arguments::{Effort, LoadChoice, RunArguments};
use crate::conditions::Conditions;
use crate::error::{PerfError, Verdict};
use crate::load::Pace;
use crate::measurement::{Invalid, Measurement, measure};
use crate::measures;
use crate::operation::RequestMaker;
use crate::output::Output;
use crate::preload::ensure_loaded;
use crate::store::Store;
use crate::workload::Case;
use report::{CaseReport, RunReport, round_words};

/// What is measured of a case in each round.
struct Point {
    case: Case,
    load: LoadChoice,
    rounds: Vec<Measurement>,
}

/// Runs the workload and reports. Says whether every measurement is valid.
pub(crate) fn run(arguments: &RunArguments) -> Result<Verdict, PerfError> {
    if let Some(measurement) = &arguments.measurement {
        return measures::run(measurement);
    }
    let mut output = Output::new(arguments.json.clone());
    let effort = arguments.effort.effort();
    let mut store = connect(arguments, &mut output)?;
    let observation = store.observe()?;
    let conditions = Conditions::of(&store, &observation, arguments.data.as_deref());
    for line in conditions.lines() {
        output.line(&line)?;
    }
    let mut requests = RequestMaker::new(effort.keys);
    let cases = arguments.workload().cases(&arguments.overrides());
    let loaded = match cases.iter().find_map(|case| case.mix.key_space()) {
        Some(space) => Some(ensure_loaded(&mut store, space, &mut requests)?),
        None => None,
    };
    if let Some(loaded) = &loaded {
        output.line(&loaded.words())?;
    }
    let mut points = points(&cases, arguments.load());
    announce(&effort, &points, arguments.load(), &mut output)?;
    for round in 1..=effort.rounds {
        let mut capacity = None;
        for point in &mut points {
            let pace = point.load.pace(capacity.as_ref());
            let mut measurement = measure(&point.case, pace, &effort, &mut store, &mut requests)?;
            if let (LoadChoice::ShareOfCapacity(_), Some(Capacity { is_void: true, .. })) =
                (point.load, capacity)
            {
                measurement.invalid.get_or_insert(Invalid::Capacity);
            }
            output.line(&format!(
                "round {round}, {}",
                round_words(&point.label(), &measurement)
            ))?;
            capacity = Some(Capacity::of(&measurement));
            point.rounds.push(measurement);
        }
    }
    let report = RunReport {
        conditions,
        loaded,
        directories: arguments.overrides().directories,
        warm_up_seconds: effort.warm_up.as_secs_f64(),
        round_seconds: effort.measured.as_secs_f64(),
        cases: points.into_iter().map(CaseReport::of).collect(),
    };
    report.print(&mut output)?;
    output.json(&report)?;
    Ok(report.verdict())
}

/// The points of a round, one after the other. A share of the capacity stands behind its capacity.
fn points(cases: &[Case], load: LoadChoice) -> Vec<Point> {
    let mut points = Vec::new();
    for &case in cases {
        let mut add = |load| {
            points.push(Point {
                case,
                load,
                rounds: Vec::new(),
            });
        };
        if let LoadChoice::ShareOfCapacity(_) = load {
            add(LoadChoice::Closed);
        }
        add(load);
    }
    points
}

/// What a closed loop has reached just before.
#[derive(Debug, Clone, Copy)]
struct Capacity {
    operations_per_second: f64,
    is_void: bool,
}

impl Capacity {
    fn of(measurement: &Measurement) -> Capacity {
        Capacity {
            operations_per_second: measurement.achieved_per_second,
            is_void: measurement.invalid.is_some(),
        }
    }
}

impl LoadChoice {
    fn pace(self, capacity: Option<&Capacity>) -> Pace {
        let operations_per_second = match self {
            LoadChoice::Closed => return Pace::Closed,
            LoadChoice::Rate(rate) => rate,
            LoadChoice::ShareOfCapacity(share) => {
                let capacity = capacity.expect("a share stands behind its capacity");
                // Nothing at all was answered: the point will be void, but it needs a rate.
                (share * capacity.operations_per_second).max(1.0)
            }
        };
        Pace::Poisson {
            operations_per_second,
        }
    }

    fn words(self) -> String {
        match self {
            LoadChoice::Closed => "closed loop".to_owned(),
            LoadChoice::Rate(rate) => format!("open loop at {rate}/s"),
            LoadChoice::ShareOfCapacity(share) => {
                format!("open loop at {:.0} % of the capacity", share * 100.0)
            }
        }
    }
}

impl Point {
    /// The case, and how it is loaded unless by a closed loop.
    fn label(&self) -> String {
        match self.load {
            LoadChoice::Closed => self.case.label(),
            LoadChoice::Rate(_) => format!("{} open", self.case.label()),
            LoadChoice::ShareOfCapacity(share) => {
                format!("{} open {:.0} %", self.case.label(), share * 100.0)
            }
        }
    }
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
    points: &[Point],
    load: LoadChoice,
    output: &mut Output,
) -> Result<(), PerfError> {
    let round = effort.warm_up + effort.measured;
    let seconds = round.as_secs_f64() * f64::from(effort.rounds) * points.len() as f64;
    output.line(&format!(
        "{}, {} rounds of {} points, {:.1} s of warm-up and {} s measured each: about {seconds:.0} s",
        load.words(),
        effort.rounds,
        points.len(),
        effort.warm_up.as_secs_f64(),
        effort.measured.as_secs(),
    ))
}

#[cfg(test)]
mod tests;
