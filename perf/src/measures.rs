//! Measurements that start a store of their own: each answers one question by the figures that it prints, beside their
//! targets and under the conditions of the run.
//!
//! What is compared is measured in turns within a round. A round whose measurements are void does not count.

mod absent_nodes;
mod abuse;
mod allocations;
mod catch_up;
mod data_files;
mod degraded;
mod failover;
mod live_bytes;
mod log_bytes;
mod restart;
mod shards;
mod snapshot;
mod syscalls;
mod under_load;

use std::ffi::{OsStr, OsString};

use serde::Serialize;
use serde_json::Value;

use crate::arguments::{Effort, OwnMeasurement, OwnStoreArguments};
use crate::conditions::Conditions;
use crate::error::{PerfError, Verdict};
use crate::figure::Figure;
use crate::load::Pace;
use crate::measurement::measure;
use crate::node::{Launch, Member, Node, end_stores_on_signals};
use crate::operation::RequestMaker;
use crate::output::Output;
use crate::pinning::Pinning;
use crate::store::Store;
use crate::workload::Case;

pub(crate) use syscalls::TracerError;

/// Changes that the history of a shard keeps by default.
const HISTORY_CHANGES: u64 = 100_000;

/// Rounds that only fill the history, at most.
const FILLING_STEPS_MAX: u32 = 20;

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

/// No arguments beyond those of the command line.
pub(crate) const PLAIN: &[&str] = &[];

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
    if arguments.nodes > 1 && !measurement.is_replicated() {
        return Err(PerfError::NotReplicated {
            what: measurement.name(),
        });
    }
    if arguments.nodes == 1 && measurement.needs_cluster() {
        return Err(PerfError::NeedsCluster {
            what: measurement.name(),
        });
    }
    let mut output = Output::new(arguments.json.clone());
    end_stores_on_signals()?;
    let pinning = arguments.pinning();
    output.line(&pinning.words_for(u32::from(arguments.nodes)))?;
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
    /// A bench whose stores run where `pinning` says.
    pub(crate) fn new(
        arguments: &'a OwnStoreArguments,
        pinning: Pinning,
        output: &'a mut Output,
    ) -> Result<Bench<'a>, PerfError> {
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

    /// Makes one measurement.
    pub(crate) fn measure(&mut self, measurement: &OwnMeasurement) -> Result<Findings, PerfError> {
        match measurement {
            OwnMeasurement::UnderLoad(arguments) => under_load::measure_tail(self, arguments),
            OwnMeasurement::Allocations(_) => allocations::measure_allocations(self),
            OwnMeasurement::LiveBytes(arguments) => live_bytes::measure_live_bytes(self, arguments),
            OwnMeasurement::LogBytes(arguments) => log_bytes::measure_log_bytes(self, arguments),
            OwnMeasurement::Shards(arguments) => shards::measure_shards(self, arguments),
            OwnMeasurement::Abuse(arguments) => abuse::measure_abuse(self, arguments),
            OwnMeasurement::Snapshot(arguments) => snapshot::measure_snapshot(self, arguments),
            OwnMeasurement::Syscalls(_) => syscalls::measure_syscalls(self),
            OwnMeasurement::Restart(arguments) => restart::measure_restart(self, arguments),
            OwnMeasurement::Failover(arguments) => failover::measure_failover(self, arguments),
            OwnMeasurement::CatchUp(arguments) => catch_up::measure_catch_up(self, arguments),
            OwnMeasurement::Degraded(arguments) => degraded::measure_degraded(self, arguments),
        }
    }

    /// Those of the first store, once it was started.
    pub(crate) fn conditions(&self) -> Option<&Conditions> {
        self.conditions.as_ref()
    }

    /// Starts a store with these arguments beyond those of the command line. The first one's conditions are those of
    /// the run.
    pub(crate) fn start<T: AsRef<OsStr>>(&mut self, more: &[T]) -> Result<OwnStore, PerfError> {
        let mut all = self.arguments.store_arguments.clone();
        all.extend(more.iter().map(OsString::from));
        let launch = Launch {
            program: self.arguments.metastore.clone(),
            parent: self.arguments.data.clone(),
            nodes: self.arguments.nodes,
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

    /// Puts until the history of every shard is full: a store that still grows pays for new memory.
    pub(crate) fn fill_history(
        &mut self,
        own: &mut OwnStore,
        case: &Case,
        requests: &mut RequestMaker,
        shards: u64,
    ) -> Result<(), PerfError> {
        let wanted = 2 * HISTORY_CHANGES * shards;
        let mut puts = 0;
        for _ in 0..FILLING_STEPS_MAX {
            let measurement = measure(case, Pace::Closed, &self.effort, &mut own.store, requests)?;
            if let Some(failure) = measurement.first_failure {
                return Err(PerfError::Preparation { failure });
            }
            puts += measurement.costs.operations;
            if puts >= wanted {
                break;
            }
        }
        self.output
            .line(&format!("{puts} puts beforehand, to fill the history"))
    }

    /// Whether the command line says this of all stores.
    pub(crate) fn has_store_argument(&self, name: &str) -> bool {
        let arguments = &self.arguments.store_arguments;
        arguments.iter().any(|argument| argument == name)
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

    /// Starts a node of a cluster again that was killed, and does not wait until it serves.
    fn revive(&self, own: &mut OwnStore, member: &Member) -> Result<(), PerfError> {
        self.pinning.free_client();
        let revived = own.node.revive(member);
        self.pinning.restrict_client();
        Ok(revived?)
    }
}

/// Arguments as words.
pub(crate) fn words_of(arguments: &[OsString]) -> Vec<String> {
    let words = arguments
        .iter()
        .map(|word| word.to_string_lossy().into_owned());
    words.collect()
}

impl Findings {
    /// How many rounds there were.
    pub(crate) fn words(&self) -> String {
        format!(
            "{} rounds count, {} were thrown away",
            self.rounds, self.rounds_thrown_away
        )
    }
}
