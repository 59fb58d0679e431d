//! Every sample of every round, for those who want to judge by themselves.

use super::html::Html;
use super::view::View;
use super::words;
use crate::compare::document::{Round, Sample};
use crate::output::number;

const COLUMNS: [&str; 14] = [
    "round",
    "point",
    "system",
    "offered/s",
    "commands/s",
    "p50",
    "p90",
    "p99",
    "p99.9",
    "max",
    "server CPU",
    "bytes",
    "flushes",
    "remark",
];

/// The table, folded away.
pub(super) fn write_samples(html: &mut Html, view: &View<'_>) {
    let samples: usize = view
        .document
        .rounds
        .iter()
        .map(|round| round.samples.len())
        .sum();
    if samples == 0 {
        html.leaf("p", &[("class", "nothing")], "There is none.");
        return;
    }
    html.within("details", &[], |html| {
        let rounds = words::count(view.document.rounds.len(), "round", "rounds");
        html.leaf(
            "summary",
            &[],
            &format!("{} of {rounds}", words::count(samples, "sample", "samples")),
        );
        html.scrolling("Every sample", |html| {
            html.within("table", &[("class", "plain samples")], |html| {
                html.within("thead", &[], |html| {
                    html.within("tr", &[], |html| {
                        for column in COLUMNS {
                            html.leaf("th", &[("scope", "col")], column);
                        }
                    });
                });
                html.within("tbody", &[], |html| {
                    for round in &view.document.rounds {
                        for sample in &round.samples {
                            write_sample(html, round, sample);
                        }
                    }
                });
            });
        });
    });
}

fn write_sample(html: &mut Html, round: &Round, sample: &Sample) {
    let latency = &sample.latency;
    let or_none =
        |value: Option<f64>, words: fn(f64) -> String| value.map_or("–".to_owned(), words);
    let why = match (&round.discard, &sample.void) {
        (_, Some(void)) => format!("void: {}", void.words()),
        (Some(_), None) => "round thrown away".to_owned(),
        (None, None) => String::new(),
    };
    write_row(
        html,
        [
            round.number.to_string(),
            sample.point.0.clone(),
            sample.system.0.clone(),
        ],
        [
            or_none(sample.offered_per_second, number),
            number(sample.achieved_per_second),
            words::time(latency.p50_us),
            words::time(latency.p90_us),
            words::time(latency.p99_us),
            words::time(latency.p999_us),
            words::time(latency.max_us),
            or_none(sample.costs.server_cpu_us, words::time),
            or_none(sample.costs.written_bytes, words::bytes),
            or_none(sample.costs.flushes, number),
        ],
        &why,
    );
    for part in &sample.operations {
        let latency = &part.latency;
        let name = format!("{}: {}", sample.point, part.operation.words());
        write_row(
            html,
            [round.number.to_string(), name, sample.system.0.clone()],
            [
                String::new(),
                String::new(),
                words::time(latency.p50_us),
                words::time(latency.p90_us),
                words::time(latency.p99_us),
                words::time(latency.p999_us),
                words::time(latency.max_us),
                String::new(),
                String::new(),
                String::new(),
            ],
            &why,
        );
    }
}

fn write_row(html: &mut Html, names: [String; 3], figures: [String; 10], why: &str) {
    let class = match why {
        "" => "counts",
        _ => "thrown-away",
    };
    html.within("tr", &[("class", class)], |html| {
        for name in &names {
            html.leaf("td", &[], name);
        }
        for figure in &figures {
            html.leaf("td", &[("class", "figure")], figure);
        }
        html.leaf("td", &[], why);
    });
}
