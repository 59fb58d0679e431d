//! The figures of all rounds beside their targets.

use serde::Serialize;

use super::round::Round;
use crate::latency::Spread;
use crate::output::number;

/// Below this many durable writes a second the disk, not the store, decides about the rate of puts.
const FLOOR_PER_SECOND_MIN: f64 = 8_000.0;

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Target {
    AtMost(f64),
    /// At least this much, on disks whose floor reaches [`FLOOR_PER_SECOND_MIN`].
    AtLeastOnFastDisk(f64),
    /// There is none: the figure explains others.
    None,
}

/// How a figure stands to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Standing {
    Met,
    Missed,
    /// The target does not hold for this disk.
    NotApplicable,
    /// No round counts.
    NotMeasured,
    /// There is no target.
    NoTarget,
}

/// One figure, by name.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    name: &'static str,
    /// The median of the rounds' values with their extremes.
    measured: Option<Spread>,
    target: Target,
    standing: Standing,
}

/// A figure's name, its target and its value in one round.
type Definition = (&'static str, Target, fn(&Round) -> Option<f64>);

const DEFINITIONS: [Definition; 12] = [
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
pub(super) fn of(rounds: &[Round]) -> Vec<Figure> {
    let floor = Spread::of(rounds.iter().map(Round::floor_per_second));
    let figure = |&(name, target, value): &Definition| {
        let measured = Spread::of(rounds.iter().filter_map(value));
        Figure {
            name,
            measured,
            target,
            standing: target.standing(measured, floor),
        }
    };
    DEFINITIONS.iter().map(figure).collect()
}

impl Target {
    /// How a figure stands, given the floor's durable writes a second.
    fn standing(self, measured: Option<Spread>, floor: Option<Spread>) -> Standing {
        let (Some(measured), Some(floor)) = (measured, floor) else {
            return Standing::NotMeasured;
        };
        let is_met = match self {
            Target::AtMost(limit) => measured.median <= limit,
            Target::AtLeastOnFastDisk(limit) => {
                if measured.median < limit && floor.median < FLOOR_PER_SECOND_MIN {
                    return Standing::NotApplicable;
                }
                measured.median >= limit
            }
            Target::None => return Standing::NoTarget,
        };
        if is_met {
            Standing::Met
        } else {
            Standing::Missed
        }
    }

    fn words(self) -> String {
        match self {
            Target::AtMost(limit) => format!("<= {}", number(limit)),
            Target::AtLeastOnFastDisk(limit) => format!(
                ">= {} where the floor reaches {}/s",
                number(limit),
                number(FLOOR_PER_SECOND_MIN)
            ),
            Target::None => String::new(),
        }
    }
}

impl Figure {
    /// The figure as a row of a table.
    pub(super) fn row(&self) -> Vec<String> {
        let measured = self
            .measured
            .map_or("-".to_owned(), |spread| spread.words());
        let standing = match self.standing {
            Standing::Met => "met",
            Standing::Missed => "MISSED",
            Standing::NotApplicable => "floor too low",
            Standing::NotMeasured => "not measured",
            Standing::NoTarget => "",
        };
        vec![
            self.name.to_owned(),
            measured,
            self.target.words(),
            standing.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(median: f64) -> Option<Spread> {
        Spread::of([median])
    }

    #[test]
    fn targets_hold_up_to_and_including_their_limit() {
        let floor = spread(10_000.0);
        let at_most = |median| Target::AtMost(1.4).standing(spread(median), floor);
        assert_eq!(at_most(1.4), Standing::Met);
        assert_eq!(at_most(1.41), Standing::Missed);
        assert_eq!(
            Target::AtMost(1.4).standing(None, None),
            Standing::NotMeasured
        );
    }

    #[test]
    fn a_slow_disk_excuses_a_low_rate_and_nothing_else() {
        let target = Target::AtLeastOnFastDisk(200_000.0);
        let slow = spread(7_999.0);
        let fast = spread(8_000.0);
        assert_eq!(target.standing(spread(1.0), slow), Standing::NotApplicable);
        assert_eq!(target.standing(spread(1.0), fast), Standing::Missed);
        assert_eq!(target.standing(spread(200_000.0), slow), Standing::Met);
        assert_eq!(
            Target::AtMost(1.0).standing(spread(2.0), slow),
            Standing::Missed
        );
    }
}
