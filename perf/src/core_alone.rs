//! `metastore-perf core`: what a put costs in the core alone, without sockets, files and a clock.
//!
//! Under callgrind the cost is a number of instructions, which two runs repeat almost exactly, so that a rise of a few
//! percent is a fact on any machine: it is compared with a baseline that is kept with the sources. Natively it is CPU
//! time, which says less and is there at once.
//!
//! It does not measure what a server costs: frames, sockets, the ring and caches that others use are not in it.

mod baseline;
mod callgrind;
mod group;
pub(crate) mod idle;
mod load;
mod profile;
mod replicated;

use serde::{Deserialize, Serialize};

use crate::arguments::{BaselineUse, CoreArguments};
use crate::baseline_file::{self, BaselineError};
use crate::conditions::{Machine, commit};
use crate::error::{PerfError, Verdict};
use crate::output::{Output, Table, number};
use crate::process::{ProcessError, own_thread_cpu};
use baseline::{Baseline, Change};
use callgrind::CallgrindError;
use load::CoreLoad;
use profile::Profile;
use replicated::ReplicatedLoad;

/// What is driven: how many replicas a shard has, and how many puts arrive in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scenario {
    replicas: u32,
    batch: usize,
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CoreAloneError {
    #[error(transparent)]
    Callgrind(#[from] CallgrindError),
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// One scenario, run in this process.
#[derive(Debug, Serialize, Deserialize)]
struct Timed {
    #[serde(flatten)]
    scenario: Scenario,
    puts: u64,
    /// Calls of the core for them.
    calls: u64,
    /// Of this process, the load's own included.
    cpu_us_per_put: f64,
}

/// One scenario, counted.
#[derive(Debug, Serialize)]
struct Counted {
    #[serde(flatten)]
    scenario: Scenario,
    puts: u64,
    profile: Profile,
}

#[derive(Debug, Serialize)]
struct TimedReport<'a> {
    machine: Machine,
    commit: Option<String>,
    timed: &'a [Timed],
}

#[derive(Debug, Serialize)]
struct CountedReport<'a> {
    machine: Machine,
    commit: Option<String>,
    counted: &'a [Counted],
    changes: &'a [Change],
}

impl Scenario {
    fn words(&self) -> String {
        let replicas = match self.replicas {
            1 => "1 replica".to_owned(),
            count => format!("{count} replicas"),
        };
        format!("{replicas}, {} in a turn", self.batch)
    }
}

impl Counted {
    fn instructions_per_put(&self) -> f64 {
        self.profile.total as f64 / self.puts as f64
    }
}

/// Measures and reports.
pub(crate) fn run(arguments: &CoreArguments) -> Result<Verdict, PerfError> {
    let mut output = Output::new(arguments.json.clone());
    output.line(&format!(
        "the core alone, simulated I/O: puts of 8 and 256 bytes, zipfian over {} keys, history full",
        load::KEYS
    ))?;
    match arguments.baseline_use() {
        None => report_times(arguments, &mut output),
        Some(baseline_use) => report_counts(arguments, baseline_use, &mut output),
    }
}

fn scenarios(arguments: &CoreArguments) -> impl Iterator<Item = Scenario> + '_ {
    let replicas = arguments.replicas.iter();
    replicas.flat_map(|&replicas| {
        let batches = arguments.batches.iter();
        batches.map(move |&batch| Scenario { replicas, batch })
    })
}

// ---- CPU time ----

fn report_times(arguments: &CoreArguments, output: &mut Output) -> Result<Verdict, PerfError> {
    let mut timed = Vec::new();
    let mut table = Table::new(&["scenario", "CPU us a put", "calls of the core a put"]);
    for scenario in scenarios(arguments) {
        let measured = time(scenario, arguments.puts).map_err(CoreAloneError::from)?;
        table.row(vec![
            scenario.words(),
            number(measured.cpu_us_per_put),
            number(measured.calls as f64 / measured.puts as f64),
        ]);
        timed.push(measured);
    }
    output.line(&Machine::this().words())?;
    output.table(&table)?;
    output.json(&TimedReport {
        machine: Machine::this(),
        commit: commit(),
        timed: &timed,
    })?;
    Ok(Verdict::Valid)
}

fn time(scenario: Scenario, puts: u64) -> Result<Timed, ProcessError> {
    let (driven, cpu) = match scenario.replicas {
        1 => {
            let mut load = CoreLoad::new();
            let before = own_thread_cpu()?;
            let driven = load.run(scenario, puts);
            (driven, own_thread_cpu()?.saturating_sub(before))
        }
        replicas => {
            let mut load = ReplicatedLoad::new(replicas);
            let before = own_thread_cpu()?;
            let driven = load.run(scenario, puts);
            (driven, own_thread_cpu()?.saturating_sub(before))
        }
    };
    Ok(Timed {
        scenario,
        puts: driven.puts,
        calls: driven.calls,
        cpu_us_per_put: cpu.as_secs_f64() * 1e6 / driven.puts as f64,
    })
}

// ---- Instructions ----

fn report_counts(
    arguments: &CoreArguments,
    baseline_use: BaselineUse,
    output: &mut Output,
) -> Result<Verdict, PerfError> {
    let path = arguments.baseline();
    // Before minutes are spent: without it they would be for nothing.
    let baseline: Option<Baseline> = match baseline_use {
        BaselineUse::Compare => Some(baseline_file::read(&path).map_err(CoreAloneError::from)?),
        BaselineUse::Write => None,
    };
    let mut counted = Vec::new();
    for scenario in scenarios(arguments) {
        let count = callgrind::count(scenario, arguments.puts).map_err(CoreAloneError::from)?;
        counted.push(count);
    }
    let (changes, verdict) = match baseline {
        Some(baseline) => {
            output.line(&format!(
                "baseline {}: {}",
                path.display(),
                baseline.words()
            ))?;
            let changes = baseline.changes(&counted);
            let verdict = Change::verdict(&changes);
            (changes, verdict)
        }
        None => {
            let written = baseline_file::write(&path, &Baseline::of(&counted));
            written.map_err(CoreAloneError::from)?;
            output.line(&format!("baseline {} is written", path.display()))?;
            (Vec::new(), Verdict::Valid)
        }
    };
    for count in &counted {
        output.line(&format!("\n{}:", count.scenario.words()))?;
        output.table(&profile::functions_table(count, arguments.functions))?;
    }
    output.line("")?;
    output.table(&profile::packages_table(&counted))?;
    output.line("")?;
    if changes.is_empty() {
        output.table(&totals_table(&counted))?;
    } else {
        output.table(&Change::table(&changes))?;
    }
    for change in &changes {
        if let Some(remark) = change.remark() {
            output.line(&remark)?;
        }
    }
    output.json(&CountedReport {
        machine: Machine::this(),
        commit: commit(),
        counted: &counted,
        changes: &changes,
    })?;
    Ok(verdict)
}

fn totals_table(counted: &[Counted]) -> Table {
    let mut table = Table::new(&["scenario", "instructions a put"]);
    for count in counted {
        table.row(vec![
            count.scenario.words(),
            number(count.instructions_per_put()),
        ]);
    }
    table
}
