//! The report of a run.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::conditions::Conditions;
use crate::error::{PerfError, Verdict};
use crate::keys::Directories;
use crate::latency::{Latency, Spread, new_histogram};
use crate::measurement::{Measurement, OperationLatency};
use crate::operation::OperationKind;
use crate::output::{Output, Table, number};
use crate::preload::Loaded;
use crate::store::Costs;

use super::Point;

/// Everything that a run has shown.
#[derive(Debug, Serialize)]
pub(super) struct RunReport {
    pub(super) conditions: Conditions,
    pub(super) loaded: Option<Loaded>,
    /// Where the keys lie.
    pub(super) directories: Directories,
    pub(super) warm_up_seconds: f64,
    pub(super) round_seconds: f64,
    pub(super) cases: Vec<CaseReport>,
}

/// All rounds of one case. Summaries are those of the valid rounds.
#[derive(Debug, Serialize)]
pub(super) struct CaseReport {
    label: String,
    connections: usize,
    in_flight_per_connection: usize,
    in_flight: usize,
    #[serde(skip)]
    writes: bool,
    rounds: Vec<Measurement>,
    invalid_rounds: usize,
    /// Of all rounds together: histograms are merged, percentiles never averaged.
    latency: Latency,
    /// Of a mix: the same for each of its operations.
    operations: Vec<OperationLatency>,
    /// Compare-and-swaps that came too late.
    conflicts: u64,
    /// Rounds in which leaders of a cluster moved, or requests were sent elsewhere.
    #[serde(skip_serializing_if = "is_zero")]
    rounds_with_moves: usize,
    offered_per_second: Option<Spread>,
    achieved_per_second: Option<Spread>,
    server_cpu_us_per_operation: Option<Spread>,
    written_bytes_per_operation: Option<Spread>,
    durable_writes_per_operation: Option<Spread>,
    /// Of a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    durable_writes_per_replica: Option<Spread>,
    client_cpu_us_per_operation: Option<Spread>,
    client_cpu_share: Option<Spread>,
    others_cpu_share: Option<Spread>,
}

impl CaseReport {
    /// Sums up the rounds of a case.
    pub(super) fn of(point: Point) -> CaseReport {
        let label = point.label();
        let Point { case, rounds, .. } = point;
        let valid = || rounds.iter().filter(|round| round.invalid.is_none());
        let merged = merge(valid().map(|round| &round.histogram));
        let cost = |of: fn(&Costs) -> Option<f64>| {
            Spread::of(valid().filter_map(|round| of(&round.costs)))
        };
        CaseReport {
            label,
            connections: case.connections,
            in_flight_per_connection: case.in_flight_per_connection,
            in_flight: case.in_flight(),
            writes: case.mix.kinds().contains(&OperationKind::Put),
            invalid_rounds: rounds.len() - valid().count(),
            latency: Latency::of(&merged),
            operations: merge_operations(valid()),
            conflicts: valid().map(|round| round.conflicts).sum(),
            rounds_with_moves: rounds.iter().filter(|round| round.moves.is_some()).count(),
            offered_per_second: Spread::of(valid().filter_map(|round| round.offered_per_second)),
            achieved_per_second: Spread::of(valid().map(|round| round.achieved_per_second)),
            server_cpu_us_per_operation: cost(|costs| costs.server_cpu_us_per_operation),
            written_bytes_per_operation: cost(|costs| costs.written_bytes_per_operation),
            durable_writes_per_operation: cost(|costs| Some(costs.durable_writes_per_operation)),
            durable_writes_per_replica: cost(|costs| costs.durable_writes_per_replica),
            client_cpu_us_per_operation: Spread::of(
                valid().map(|round| round.client.cpu_us_per_operation),
            ),
            client_cpu_share: Spread::of(valid().map(|round| round.client.cpu_share)),
            others_cpu_share: Spread::of(valid().filter_map(|round| round.others_cpu_share)),
            rounds,
        }
    }

    /// The row of the case, and under it one for each operation of a mix.
    fn latency_rows(&self) -> Vec<Vec<String>> {
        let median = |spread: &Option<Spread>| spread.map_or("-".to_owned(), |s| number(s.median));
        let row = |name: String, front: [String; 2], latency: &Latency, validity: String| {
            let time = |microseconds| match latency.count {
                0 => "-".to_owned(),
                _ => number(microseconds),
            };
            let mut row = vec![name];
            row.extend(front);
            row.extend(
                [
                    latency.p50_us,
                    latency.p90_us,
                    latency.p99_us,
                    latency.p999_us,
                    latency.max_us,
                ]
                .map(time),
            );
            row.push(validity);
            row
        };
        let rates = [
            median(&self.offered_per_second),
            median(&self.achieved_per_second),
        ];
        let validity = format!(
            "{} of {}",
            self.rounds.len() - self.invalid_rounds,
            self.rounds.len()
        );
        let mut rows = vec![row(self.label.clone(), rates, &self.latency, validity)];
        rows.extend(self.operations.iter().map(|operation| {
            let name = format!("  {}", operation.operation.words());
            let blank = [String::new(), String::new()];
            row(name, blank, &operation.latency, String::new())
        }));
        rows
    }

    /// How many compare-and-swaps came too late.
    fn conflict_words(&self) -> Option<String> {
        let is_swap =
            |operation: &&OperationLatency| operation.operation == OperationKind::CompareAndSwap;
        let swaps = self.operations.iter().find(is_swap)?.latency.count;
        Some(format!(
            "{}: {} of {swaps} compare-and-swaps came too late",
            self.label, self.conflicts
        ))
    }

    /// What each replica of a cluster has flushed.
    fn replica_words(&self) -> Option<String> {
        let each = self.durable_writes_per_replica.filter(|_| self.writes)?;
        let label = &self.label;
        Some(format!(
            "{label}: {} durable writes an operation and replica",
            each.words()
        ))
    }

    /// In how many rounds leaders did not stay where they were.
    fn move_words(&self) -> Option<String> {
        (self.rounds_with_moves > 0).then(|| {
            format!(
                "{}: in {} of {} rounds leaders moved, or requests were sent elsewhere",
                self.label,
                self.rounds_with_moves,
                self.rounds.len()
            )
        })
    }

    fn cost_row(&self) -> Vec<String> {
        let spread = |spread: &Option<Spread>| spread.map_or("-".to_owned(), |s| s.words());
        let share = |spread: &Option<Spread>| {
            spread.map_or("-".to_owned(), |s| format!("{:.0} %", s.median * 100.0))
        };
        vec![
            self.label.clone(),
            spread(&self.server_cpu_us_per_operation),
            spread(&self.written_bytes_per_operation),
            spread(&self.durable_writes_per_operation),
            spread(&self.client_cpu_us_per_operation),
            share(&self.client_cpu_share),
            share(&self.others_cpu_share),
        ]
    }

    /// What the store and the disk say about flushes, over all rounds.
    fn flush_words(&self) -> Option<String> {
        if !self.writes {
            return None;
        }
        let sum = |of: fn(&Costs) -> u64| -> u64 {
            self.rounds.iter().map(|round| of(&round.costs)).sum()
        };
        let device = self
            .rounds
            .iter()
            .filter_map(|round| round.costs.device_flushes)
            .reduce(|all, flushes| all + flushes)
            .map_or("unknown".to_owned(), |flushes| flushes.to_string());
        // One round that the disk does not bear out outweighs all others.
        let worst = self.rounds.iter().map(|round| round.flush_check).max();
        Some(format!(
            "{}: {} operations, {} durable writes and {} marks by the store's count, {device} flushes by the disk's: \
             {}",
            self.label,
            sum(|costs| costs.operations),
            sum(|costs| costs.durable_writes),
            sum(|costs| costs.mark_writes),
            worst?.words(),
        ))
    }
}

impl RunReport {
    /// Prints the tables for people.
    pub(super) fn print(&self, output: &mut Output) -> Result<(), PerfError> {
        let mut latency = Table::new(&[
            "case",
            "offered/s",
            "achieved/s",
            "p50 us",
            "p90 us",
            "p99 us",
            "p99.9 us",
            "max us",
            "valid",
        ]);
        let mut costs = Table::new(&[
            "per operation",
            "server CPU us",
            "bytes written",
            "durable writes",
            "client CPU us",
            "client's CPU",
            "others' CPU",
        ]);
        for case in &self.cases {
            case.latency_rows()
                .into_iter()
                .for_each(|row| latency.row(row));
            costs.row(case.cost_row());
        }
        output.line("")?;
        output.table(&latency)?;
        output.line("")?;
        output.table(&costs)?;
        output.line("")?;
        for case in &self.cases {
            for words in [
                case.flush_words(),
                case.replica_words(),
                case.conflict_words(),
                case.move_words(),
            ] {
                words.map_or(Ok(()), |words| output.line(&words))?;
            }
        }
        Ok(())
    }

    /// Whether all rounds are valid.
    pub(super) fn verdict(&self) -> Verdict {
        if self.cases.iter().all(|case| case.invalid_rounds == 0) {
            Verdict::Valid
        } else {
            Verdict::Invalid
        }
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Of several rounds; percentiles are never averaged.
fn merge<'a>(histograms: impl Iterator<Item = &'a Histogram<u64>>) -> Histogram<u64> {
    let mut merged = new_histogram();
    for histogram in histograms {
        merged
            .add(histogram)
            .expect("all histograms have the same bounds");
    }
    merged
}

/// Each operation over all rounds, which have the same operations.
fn merge_operations<'a>(
    rounds: impl Iterator<Item = &'a Measurement> + Clone,
) -> Vec<OperationLatency> {
    let operations = rounds
        .clone()
        .next()
        .map_or(&[][..], |round| &round.operations);
    let merged = |(position, operation): (usize, &OperationLatency)| {
        let histogram = merge(
            rounds
                .clone()
                .map(|round| &round.operations[position].histogram),
        );
        OperationLatency {
            operation: operation.operation,
            latency: Latency::of(&histogram),
            histogram,
        }
    };
    operations.iter().enumerate().map(merged).collect()
}

/// One round in one line, while the run goes on.
pub(super) fn round_words(label: &str, measurement: &Measurement) -> String {
    let validity = match (measurement.invalid, &measurement.first_failure) {
        (None, _) => String::new(),
        (Some(invalid), None) => format!("  INVALID: {}", invalid.words()),
        (Some(invalid), Some(failure)) => format!(
            "  INVALID: {}, {} times, first: {failure}",
            invalid.words(),
            measurement.failures
        ),
    };
    let delay = measurement
        .client
        .delay_us
        .map_or(String::new(), |delay_us| {
            format!(", client late by {} us", number(delay_us))
        });
    let moves = measurement.moves.as_ref();
    let moves = moves.map_or(String::new(), |moves| format!(", {}", moves.words()));
    format!(
        "{label}: {}/s, p50 {} us, p99 {} us{delay}{moves}{validity}",
        number(measurement.achieved_per_second),
        number(measurement.latency.p50_us),
        number(measurement.latency.p99_us),
    )
}
