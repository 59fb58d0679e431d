//! `metastore-perf goals`: the figures by which a single node is judged, or a cluster of three on this machine, each beside
//! its target, in one command.
//!
//! A round is: floor, ping, lone puts, floor, then 1,000 puts in flight and deep pipelines. What is compared within a
//! round was measured seconds apart, and a round is thrown away when the floor has moved meanwhile. The measurements
//! with stores of their own follow, each as it is by itself.

mod figures;
mod round;

use serde::Serialize;

use crate::arguments::{
    Effort, GoalPart, GoalsArguments, OwnMeasurement, OwnStoreArguments, Strictness,
};
use crate::conditions::Conditions;
use crate::error::{PerfError, Verdict};
use crate::figure::Figure;
use crate::keys::KeySpace;
use crate::latency::Spread;
use crate::machine_use::OTHERS_SHARE_MAX;
use crate::measures::{Bench, Findings, PLAIN, words_of};
use crate::node::end_stores_on_signals;
use crate::operation::RequestMaker;
use crate::output::Output;
use crate::pinning::Pinning;
use crate::preload::{Loaded, ensure_loaded};
use crate::store::Store;
use round::{Discard, Ground, Round, measure_round};

/// How many rounds are tried for each that is wanted.
const ATTEMPTS_PER_ROUND: u32 = 2;

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct GoalsReport {
    #[serde(flatten)]
    rounds: Option<RoundsReport>,
    parts: Vec<Part>,
}

/// A measurement with stores of its own.
#[derive(Debug, Serialize)]
struct Part {
    name: &'static str,
    findings: Option<Findings>,
    /// Why there are none.
    failure: Option<String>,
}

/// What the rounds have shown.
#[derive(Debug, Serialize)]
struct RoundsReport {
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

/// Starts stores, measures them, and reports.
pub(crate) fn run(arguments: &GoalsArguments) -> Result<Verdict, PerfError> {
    let mut output = Output::new(arguments.store.json.clone());
    end_stores_on_signals()?;
    let pinning = arguments.store.pinning();
    output.line(&pinning.words_for(u32::from(arguments.store.nodes)))?;
    let rounds = match arguments.includes(GoalPart::Rounds) {
        true => Some(run_rounds(&arguments.store, &pinning, &mut output)?),
        false => None,
    };
    let mut report = GoalsReport {
        rounds,
        parts: Vec::new(),
    };
    for measurement in arguments.measurements() {
        output.line("")?;
        output.line(&format!("{}:", measurement.name()))?;
        let part = run_part(&measurement, &pinning, &mut output)?;
        report.parts.push(part);
    }
    report.print(&mut output)?;
    output.json(&report)?;
    Ok(report.verdict(arguments.store.strict.strictness()))
}

/// One measurement. That it fails does not keep the others from being made.
fn run_part(
    measurement: &OwnMeasurement,
    pinning: &Pinning,
    output: &mut Output,
) -> Result<Part, PerfError> {
    let mut bench = Bench::new(measurement.store(), pinning.clone(), output)?;
    let (findings, failure) = match bench.measure(measurement) {
        Ok(findings) => (Some(findings), None),
        Err(error) => (None, Some(error.to_string())),
    };
    if let Some(failure) = &failure {
        output.line(&format!("NOT MEASURED: {failure}"))?;
    }
    Ok(Part {
        name: measurement.name(),
        findings,
        failure,
    })
}

/// Floor, ping and puts in turns, on one store.
fn run_rounds(
    arguments: &OwnStoreArguments,
    pinning: &Pinning,
    output: &mut Output,
) -> Result<RoundsReport, PerfError> {
    let effort = arguments.effort.effort();
    let mut bench = Bench::new(arguments, pinning.clone(), output)?;
    let mut own = bench.start(PLAIN)?;
    let conditions = bench.conditions().expect("a store was started").clone();
    announce(&effort, output)?;
    let mut requests = RequestMaker::new(effort.keys);
    let loaded = load(&mut own.store, &mut requests, output)?;
    let mut report = RoundsReport {
        conditions,
        pinning: pinning.clone(),
        store_arguments: words_of(&arguments.store_arguments),
        loaded,
        warm_up_seconds: effort.warm_up.as_secs_f64(),
        round_seconds: effort.measured.as_secs_f64(),
        rounds: Vec::new(),
        thrown_away: Vec::new(),
        figures: Vec::new(),
    };
    report.measure_rounds(&effort, arguments, &mut own.store, &mut requests, output)?;
    report.figures = figures::of(&report.rounds, arguments.nodes);
    Ok(report)
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
        let loaded = ensure_loaded(store, space, requests)?;
        output.line(&loaded.words())?;
        all.push(loaded);
    }
    Ok(all)
}

impl RoundsReport {
    /// Measures until enough rounds count.
    fn measure_rounds(
        &mut self,
        effort: &Effort,
        arguments: &OwnStoreArguments,
        store: &mut Store,
        requests: &mut RequestMaker,
        output: &mut Output,
    ) -> Result<(), PerfError> {
        for attempt in 1..=effort.rounds * ATTEMPTS_PER_ROUND {
            let ground = Ground {
                data: &arguments.data,
                pinning: &self.pinning,
                nodes: arguments.nodes,
            };
            let round = measure_round(effort, &ground, store, requests)?;
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

    /// What must be known beside the figures.
    fn print_notes(&self, output: &mut Output) -> Result<(), PerfError> {
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
        let moves = self.rounds.iter().flat_map(Round::moves);
        for moves in moves {
            output.line(&format!("a round that counts: {}", moves.words()))?;
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

impl GoalsReport {
    fn print(&self, output: &mut Output) -> Result<(), PerfError> {
        output.line("")?;
        output.table(&Figure::table(self.figures()))?;
        output.line("")?;
        if let Some(rounds) = &self.rounds {
            rounds.print_notes(output)?;
        }
        for part in &self.parts {
            let words = match (&part.findings, &part.failure) {
                (Some(findings), _) => findings.words(),
                (None, failure) => {
                    format!("NOT MEASURED: {}", failure.as_deref().unwrap_or_default())
                }
            };
            output.line(&format!("{}: {words}", part.name))?;
        }
        Ok(())
    }

    fn figures(&self) -> impl Iterator<Item = &Figure> {
        let rounds = self.rounds.iter().flat_map(|rounds| &rounds.figures);
        let findings = self.parts.iter().filter_map(|part| part.findings.as_ref());
        rounds.chain(findings.flat_map(|findings| &findings.figures))
    }

    fn verdict(&self, strictness: Strictness) -> Verdict {
        let of_parts = self.parts.iter().map(|part| match &part.findings {
            Some(findings) => Verdict::of(&findings.figures, findings.rounds, strictness),
            // A target of it would have been asked for.
            None => Verdict::of(&[], 0, strictness),
        });
        let of_rounds = self
            .rounds
            .iter()
            .map(|rounds| Verdict::of(&rounds.figures, rounds.rounds.len(), strictness));
        of_rounds.chain(of_parts).max().unwrap_or(Verdict::Valid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Target;

    #[test]
    fn the_worst_part_decides() {
        let part = |measured: Option<f64>| Part {
            name: "part",
            findings: measured.map(|measured| Findings {
                figures: vec![Figure::new(
                    "figure",
                    Target::AtMost(1.0),
                    Spread::of([measured]),
                )],
                rounds: 1,
                rounds_thrown_away: 0,
                details: serde_json::Value::Null,
            }),
            failure: None,
        };
        let verdict = |parts: Vec<Part>, strictness| {
            let report = GoalsReport {
                rounds: None,
                parts,
            };
            report.verdict(strictness)
        };
        let mixed = || vec![part(Some(0.5)), part(Some(2.0))];
        assert_eq!(verdict(mixed(), Strictness::Lenient), Verdict::Valid);
        assert_eq!(verdict(mixed(), Strictness::Strict), Verdict::Missed);
        let failed = || vec![part(None), part(Some(0.5))];
        assert_eq!(verdict(failed(), Strictness::Lenient), Verdict::Invalid);
        assert_eq!(verdict(failed(), Strictness::Strict), Verdict::Missed);
        assert_eq!(verdict(Vec::new(), Strictness::Strict), Verdict::Valid);
    }
}
