//! `metastore-perf goals`: the figures by which a single node is judged, each beside its target, in one command.
//!
//! A round is: floor, ping, lone puts, floor, then 1,000 puts in flight and deep pipelines. What is compared within a
//! round was measured seconds apart, and a round is thrown away when the floor has moved meanwhile.

mod figures;
mod round;

use std::path::Path;

use serde::Serialize;

use crate::arguments::{Effort, GoalsArguments};
use crate::conditions::Conditions;
use crate::error::{PerfError, Verdict};
use crate::figure::Figure;
use crate::keys::KeySpace;
use crate::latency::Spread;
use crate::machine_use::OTHERS_SHARE_MAX;
use crate::node::{Launch, end_stores_on_signals};
use crate::operation::RequestMaker;
use crate::output::Output;
use crate::pinning::Pinning;
use crate::preload::{Loaded, ensure_loaded};
use crate::store::Store;
use round::{Discard, Round, measure_round};

/// How many rounds are tried for each that is wanted.
const ATTEMPTS_PER_ROUND: u32 = 2;

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct GoalsReport {
    conditions: Conditions,
    pinning: Pinning,
    /// Arguments of the store beyond those that this command gives it.
    store_arguments: Vec<String>,
    loaded: Vec<Loaded>,
    warm_up_seconds: f64,
    round_seconds: f64,
    rounds: Vec<Round>,
    thrown_away: Vec<ThrownAway>,
    figures: Vec<Figure>,
}

/// A round that does not count.
#[derive(Debug, Serialize)]
struct ThrownAway {
    why: Discard,
    round: Round,
}

/// Starts a store, measures it, and reports.
pub(crate) fn run(arguments: &GoalsArguments) -> Result<Verdict, PerfError> {
    let arguments = &arguments.store;
    let mut output = Output::new(arguments.json.clone());
    let effort = arguments.effort.effort();
    // The store pins itself to one of the CPUs that it may use, so it starts before this process restricts itself.
    let pinning = Pinning::choose();
    let more = &arguments.store_arguments;
    let launch = Launch {
        program: arguments.metastore.clone(),
        parent: arguments.data.clone(),
        cpu: pinning.store_cpu(),
        more: more.clone(),
    };
    end_stores_on_signals()?;
    let node = launch.start()?;
    pinning.restrict_client();
    let mut store = node.connect()?;
    if let Err(error) = store.watch_disk(&arguments.data) {
        // Not every file system lies on one disk that counts; the store's own count is still there.
        output.line(&format!("the disk's flushes are not counted: {error}"))?;
    }

    let observation = store.observe()?;
    let conditions = Conditions::of(&store, &observation, Some(&arguments.data));
    for line in conditions.lines() {
        output.line(&line)?;
    }
    output.line(&pinning.words())?;
    let store_arguments: Vec<String> = more
        .iter()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    if !store_arguments.is_empty() {
        output.line(&format!("store arguments: {}", store_arguments.join(" ")))?;
    }
    announce(&effort, &mut output)?;
    let mut requests = RequestMaker::new(effort.keys);
    let loaded = load(&mut store, &mut requests, &mut output)?;

    let mut report = GoalsReport {
        conditions,
        pinning,
        store_arguments,
        loaded,
        warm_up_seconds: effort.warm_up.as_secs_f64(),
        round_seconds: effort.measured.as_secs_f64(),
        rounds: Vec::new(),
        thrown_away: Vec::new(),
        figures: Vec::new(),
    };
    report.measure_rounds(
        &effort,
        &arguments.data,
        &mut store,
        &mut requests,
        &mut output,
    )?;
    report.figures = figures::of(&report.rounds);
    report.print(&mut output)?;
    output.json(&report)?;
    Ok(Verdict::of(
        &report.figures,
        report.rounds.len(),
        arguments.strict.strictness(),
    ))
}

/// Says beforehand how long it will take.
fn announce(effort: &Effort, output: &mut Output) -> Result<(), PerfError> {
    let round_s = round::expected_duration(effort).as_secs_f64();
    let rounds = f64::from(effort.rounds);
    output.line(&format!(
        "{} rounds of {} s a point: about {:.0} s, at most {:.0} s when rounds are thrown away, and the loading",
        effort.rounds,
        effort.measured.as_secs(),
        round_s * rounds,
        round_s * rounds * f64::from(ATTEMPTS_PER_ROUND),
    ))
}

fn load(
    store: &mut Store,
    requests: &mut RequestMaker,
    output: &mut Output,
) -> Result<Vec<Loaded>, PerfError> {
    let mut all = Vec::new();
    for space in [KeySpace::MEDIUM, KeySpace::SMALL] {
        let loaded = ensure_loaded(store.first(), space, requests)?;
        output.line(&loaded.words())?;
        all.push(loaded);
    }
    Ok(all)
}

impl GoalsReport {
    /// Measures until enough rounds count.
    fn measure_rounds(
        &mut self,
        effort: &Effort,
        data: &Path,
        store: &mut Store,
        requests: &mut RequestMaker,
        output: &mut Output,
    ) -> Result<(), PerfError> {
        for attempt in 1..=effort.rounds * ATTEMPTS_PER_ROUND {
            let round = measure_round(effort, data, &self.pinning, store, requests)?;
            match round.discard() {
                None => {
                    output.line(&format!("round {attempt}: {}", round.words()))?;
                    self.rounds.push(round);
                }
                Some(why) => {
                    output.line(&format!(
                        "round {attempt}: {}  THROWN AWAY: {}",
                        round.words(),
                        why.words()
                    ))?;
                    self.thrown_away.push(ThrownAway { why, round });
                }
            }
            if self.rounds.len() >= effort.rounds as usize {
                return Ok(());
            }
        }
        Ok(())
    }

    fn print(&self, output: &mut Output) -> Result<(), PerfError> {
        output.line("")?;
        output.table(&Figure::table(&self.figures))?;
        output.line("")?;
        output.line(&format!(
            "{} rounds count, {} were thrown away",
            self.rounds.len(),
            self.thrown_away.len()
        ))?;
        let others = self.rounds.iter().filter_map(Round::others_cpu_share);
        let others = Spread::of(others).map_or(0.0, |spread| spread.max);
        if others > OTHERS_SHARE_MAX {
            output.line(&format!(
                "WARNING: other processes took up to {others:.2} CPUs meanwhile; latencies and ratios are worth little \
                 on a machine that is not quiet"
            ))?;
        }
        for words in self
            .rounds
            .last()
            .iter()
            .flat_map(|round| round.flush_words())
        {
            output.line(&words)?;
        }
        Ok(())
    }
}
