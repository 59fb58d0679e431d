//! The figures of all rounds beside their targets.

use super::round::Round;
use crate::figure::{Figure, Target};
use crate::latency::Spread;

/// A figure's name, its target and its value in one round.
type Definition = (&'static str, Target, fn(&Round) -> Option<f64>);

/// Of one node.
const ALONE: [Definition; 4] = [
    (
        "put latency ratio: lone put p50 / (floor p50 + ping p50)",
        Target::AtMost(1.4),
        |round| Some(round.put_latency_ratio()),
    ),
    (
        "durable flushes a put, 1,000 in flight",
        Target::AtMost(0.02),
        |round| Some(round.crowd.costs.durable_writes_per_operation),
    ),
    (
        "server CPU us a put, deep pipelines",
        Target::AtMost(5.0),
        |round| round.deep.costs.server_cpu_us_per_operation,
    ),
    (
        "puts/s, deep pipelines",
        Target::AtLeastOnFastDisk(200_000.0),
        |round| Some(round.deep.achieved_per_second),
    ),
];

/// The same of three nodes.
const REPLICATED: [Definition; 4] = [
    (
        "put latency ratio: lone put p50 / (floor p50, three writers + 2 ping p50)",
        Target::AtMost(1.6),
        |round| Some(round.put_latency_ratio()),
    ),
    (
        "durable flushes a put and replica, 1,000 in flight",
        Target::AtMost(0.02),
        |round| round.crowd.costs.durable_writes_per_replica,
    ),
    (
        "server CPU us a put, all nodes together, deep pipelines",
        Target::AtMost(12.0),
        |round| round.deep.costs.server_cpu_us_per_operation,
    ),
    ("puts/s, deep pipelines", Target::None, |round| {
        Some(round.deep.achieved_per_second)
    }),
];

/// What explains them.
const BESIDE: [Definition; 8] = [
    ("floor, durable writes/s", Target::None, |round| {
        Some(round.floor_per_second())
    }),
    ("floor p50 us", Target::None, |round| {
        Some(round.floor_p50_us())
    }),
    ("ping p50 us", Target::None, |round| {
        Some(round.ping.latency.p50_us)
    }),
    ("lone put p50 us", Target::None, |round| {
        Some(round.lone.latency.p50_us)
    }),
    ("puts/s, 1,000 in flight", Target::None, |round| {
        Some(round.crowd.achieved_per_second)
    }),
    (
        "bytes written a put, 1,000 in flight",
        Target::None,
        |round| round.crowd.costs.written_bytes_per_operation,
    ),
    (
        "client CPU us a put, deep pipelines",
        Target::None,
        |round| Some(round.deep.client.cpu_us_per_operation),
    ),
    (
        "CPUs taken by other processes",
        Target::None,
        Round::others_cpu_share,
    ),
];

/// All figures of the rounds that count.
pub(super) fn of(rounds: &[Round], nodes: u16) -> Vec<Figure> {
    let floor = Spread::of(rounds.iter().map(Round::floor_per_second));
    let figure = |&(name, target, value): &Definition| {
        let measured = Spread::of(rounds.iter().filter_map(value));
        Figure::on_floor(name, target, measured, floor)
    };
    let judged = if nodes == 1 { &ALONE } else { &REPLICATED };
    judged.iter().chain(&BESIDE).map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_goals_of_its_own() {
        let targets = |nodes| -> Vec<String> {
            let figures = of(&[], nodes);
            assert_eq!(figures.len(), 12);
            figures
                .iter()
                .map(|figure| figure.target().words())
                .collect()
        };
        let alone = targets(1);
        assert_eq!(alone[..3], ["<= 1.40", "<= 0.020", "<= 5.00"]);
        assert!(alone[3].starts_with(">= 200,000"));
        assert_eq!(targets(3)[..4], ["<= 1.60", "<= 0.020", "<= 12.0", ""]);
    }
}
