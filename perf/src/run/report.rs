//! The report of a run.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::conditions::Conditions;
use crate::error::{PerfError, Verdict};
use crate::latency::{Latency, Spread, new_histogram};
use crate::measurement::Measurement;
use crate::operation::Operation;
use crate::output::{Output, Table, number};
use crate::preload::Loaded;
use crate::store::Costs;
use crate::workload::Case;

/// Everything that a run has shown.
#[derive(Debug, Serialize)]
pub(super) struct RunReport {
    pub(super) conditions: Conditions,
    pub(super) loaded: Option<Loaded>,
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
    is_put: bool,
    rounds: Vec<Measurement>,
    invalid_rounds: usize,
    /// Of all rounds together: histograms are merged, percentiles never averaged.
    latency: Latency,
    offered_per_second: Option<Spread>,
    achieved_per_second: Option<Spread>,
    server_cpu_us_per_operation: Option<Spread>,
    written_bytes_per_operation: Option<Spread>,
    durable_writes_per_operation: Option<Spread>,
    client_cpu_us_per_operation: Option<Spread>,
    client_cpu_share: Option<Spread>,
    others_cpu_share: Option<Spread>,
}

impl CaseReport {
    /// Sums up the rounds of a case.
    pub(super) fn of(case: &Case, rounds: Vec<Measurement>) -> CaseReport {
        let valid = || rounds.iter().filter(|round| round.invalid.is_none());
        let mut merged: Histogram<u64> = new_histogram();
        for round in valid() {
            merged
                .add(&round.histogram)
                .expect("all histograms have the same bounds");
        }
        let cost = |of: fn(&Costs) -> Option<f64>| {
            Spread::of(valid().filter_map(|round| of(&round.costs)))
        };
        CaseReport {
            label: case.label(),
            connections: case.connections,
            in_flight_per_connection: case.in_flight_per_connection,
            in_flight: case.in_flight(),
            is_put: matches!(case.operation, Operation::Put(_)),
            invalid_rounds: rounds.len() - valid().count(),
            latency: Latency::of(&merged),
            offered_per_second: Spread::of(valid().filter_map(|round| round.offered_per_second)),
            achieved_per_second: Spread::of(valid().map(|round| round.achieved_per_second)),
            server_cpu_us_per_operation: cost(|costs| costs.server_cpu_us_per_operation),
            written_bytes_per_operation: cost(|costs| costs.written_bytes_per_operation),
            durable_writes_per_operation: cost(|costs| Some(costs.durable_writes_per_operation)),
            client_cpu_us_per_operation: Spread::of(
                valid().map(|round| round.client.cpu_us_per_operation),
            ),
            client_cpu_share: Spread::of(valid().map(|round| round.client.cpu_share)),
            others_cpu_share: Spread::of(valid().filter_map(|round| round.others_cpu_share)),
            rounds,
        }
    }

    fn latency_row(&self) -> Vec<String> {
        let median = |spread: &Option<Spread>| spread.map_or("-".to_owned(), |s| number(s.median));
        let latency = &self.latency;
        let time = |microseconds| match latency.count {
            0 => "-".to_owned(),
            _ => number(microseconds),
        };
        vec![
            self.label.clone(),
            median(&self.offered_per_second),
            median(&self.achieved_per_second),
            time(latency.p50_us),
            time(latency.p90_us),
            time(latency.p99_us),
            time(latency.p999_us),
            time(latency.max_us),
            format!(
                "{} of {}",
                self.rounds.len() - self.invalid_rounds,
                self.rounds.len()
            ),
        ]
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
        if !self.is_put {
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
            latency.row(case.latency_row());
            costs.row(case.cost_row());
        }
        output.line("")?;
        output.table(&latency)?;
        output.line("")?;
        output.table(&costs)?;
        output.line("")?;
        for words in self.cases.iter().filter_map(CaseReport::flush_words) {
            output.line(&words)?;
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

/// One round in one line, while the run goes on.
pub(super) fn round_words(case: &Case, measurement: &Measurement) -> String {
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
    format!(
        "{}: {}/s, p50 {} us, p99 {} us{delay}{validity}",
        case.label(),
        number(measurement.achieved_per_second),
        number(measurement.latency.p50_us),
        number(measurement.latency.p99_us),
    )
}
