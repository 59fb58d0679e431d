//! Measurements that start a store of their own: each answers one question by the figures that it prints, beside their
//! targets and under the conditions of the run.
//!
//! What is compared is measured in turns within a round. A round whose measurements are void does not count.

mod allocations;
mod data_files;
mod live_bytes;
mod restart;
mod shards;
mod under_load;

use std::ffi::OsString;

use serde::Serialize;
use serde_json::Value;

use crate::arguments::{Effort, OwnMeasurement, OwnStoreArguments};
use crate::conditions::Conditions;
use crate::error::{PerfError, Verdict};
use crate::figure::Figure;
use crate::node::{Launch, Node, end_stores_on_signals};
use crate::output::Output;
use crate::pinning::Pinning;
use crate::store::Store;

/// Where measurements get their stores from, and where they report while they go on.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) arguments: &'a OwnStoreArguments,
    pub(crate) effort: Effort,
    pub(crate) output: &'a mut Output,
    pinning: Pinning,
    /// Of the first store.
    conditions: Option<Conditions>,
}

/// A store of the bench.
#[derive(Debug)]
pub(crate) struct OwnStore {
    pub(crate) store: Store,
    pub(crate) node: Node,
}

/// What a measurement has found.
#[derive(Debug, Serialize)]
pub(crate) struct Findings {
    pub(crate) figures: Vec<Figure>,
    /// Rounds that count.
    pub(crate) rounds: usize,
    /// Rounds that do not.
    pub(crate) rounds_thrown_away: usize,
    /// What the figures are made of.
    pub(crate) details: Value,
}

/// Everything for programs.
#[derive(Debug, Serialize)]
struct Report<'a> {
    conditions: Option<&'a Conditions>,
    pinning: &'a Pinning,
    store_arguments: Vec<String>,
    round_seconds: f64,
    findings: &'a Findings,
}

/// Measures and reports.
pub(crate) fn run(measurement: &OwnMeasurement) -> Result<Verdict, PerfError> {
    let arguments = measurement.store();
    let mut output = Output::new(arguments.json.clone());
    let pinning = Pinning::choose();
    let mut bench = Bench::new(arguments, pinning, &mut output)?;
    let findings = bench.measure(measurement)?;
    bench.output.line("")?;
    bench.output.table(&Figure::table(&findings.figures))?;
    bench.output.line("")?;
    bench.output.line(&findings.words())?;
    let report = Report {
        conditions: bench.conditions.as_ref(),
        pinning: &bench.pinning,
        store_arguments: words_of(&arguments.store_arguments),
        round_seconds: bench.effort.measured.as_secs_f64(),
        findings: &findings,
    };
    bench.output.json(&report)?;
    Ok(Verdict::of(
        &findings.figures,
        findings.rounds,
        arguments.strict.strictness(),
    ))
}

impl<'a> Bench<'a> {
    fn new(
        arguments: &'a OwnStoreArguments,
        pinning: Pinning,
        output: &'a mut Output,
    ) -> Result<Bench<'a>, PerfError> {
        end_stores_on_signals()?;
        output.line(&pinning.words())?;
        let words = words_of(&arguments.store_arguments);
        if !words.is_empty() {
            output.line(&format!("store arguments: {}", words.join(" ")))?;
        }
        Ok(Bench {
            arguments,
            effort: arguments.effort.effort(),
            output,
            pinning,
            conditions: None,
        })
    }

    fn measure(&mut self, measurement: &OwnMeasurement) -> Result<Findings, PerfError> {
        match measurement {
            OwnMeasurement::UnderLoad(arguments) => under_load::measure_tail(self, arguments),
            OwnMeasurement::Allocations(_) => allocations::measure_allocations(self),
            OwnMeasurement::LiveBytes(arguments) => live_bytes::measure_live_bytes(self, arguments),
            OwnMeasurement::Shards(arguments) => shards::measure_shards(self, arguments),
            OwnMeasurement::Restart(arguments) => restart::measure_restart(self, arguments),
        }
    }

    /// Starts a store with these arguments beyond those of the command line. The first one's conditions are those of
    /// the run.
    pub(crate) fn start(&mut self, more: &[&str]) -> Result<OwnStore, PerfError> {
        let mut all = self.arguments.store_arguments.clone();
        all.extend(more.iter().map(OsString::from));
        let launch = Launch {
            program: self.arguments.metastore.clone(),
            parent: self.arguments.data.clone(),
            cpu: self.pinning.store_cpu(),
            more: all,
        };
        self.pinning.free_client();
        let node = launch.start()?;
        self.pinning.restrict_client();
        let mut store = node.connect()?;
        if self.conditions.is_none() {
            if let Err(error) = store.watch_disk(&self.arguments.data) {
                // Not every file system lies on one disk that counts; the store's own count is still there.
                self.output
                    .line(&format!("the disk's flushes are not counted: {error}"))?;
            }
            let observation = store.observe()?;
            let conditions = Conditions::of(&store, &observation, Some(&self.arguments.data));
            for line in conditions.lines() {
                self.output.line(&line)?;
            }
            self.conditions = Some(conditions);
        }
        Ok(OwnStore { store, node })
    }

    /// Kills a store, starts it again on its data and waits until it serves.
    pub(crate) fn restart(&mut self, own: &mut OwnStore) -> Result<(), PerfError> {
        self.pinning.free_client();
        let started = own.node.kill_and_start();
        self.pinning.restrict_client();
        started?;
        own.store = own.node.connect()?;
        Ok(())
    }
}

fn words_of(arguments: &[OsString]) -> Vec<String> {
    let words = arguments
        .iter()
        .map(|word| word.to_string_lossy().into_owned());
    words.collect()
}

impl Findings {
    fn words(&self) -> String {
        format!(
            "{} rounds count, {} were thrown away",
            self.rounds, self.rounds_thrown_away
        )
    }
}
