//! Figures beside their targets.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::latency::Spread;
use crate::output::{Table, number};

/// Below this many durable writes a second the disk, not the store, decides about the rate of puts.
pub(crate) const FLOOR_PER_SECOND_MIN: f64 = 8_000.0;

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    AtMost(f64),
    /// At least this much.
    AtLeast(f64),
    /// At least this much, on disks whose floor reaches [`FLOOR_PER_SECOND_MIN`].
    AtLeastOnFastDisk(f64),
    /// There is none: the figure explains others.
    None,
}

/// How a figure stands to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Standing {
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    name: Cow<'static, str>,
    /// The median of the rounds' values with their extremes.
    measured: Option<Spread>,
    target: Target,
    standing: Standing,
}

impl Target {
    /// How a figure stands, given the floor's durable writes a second.
    fn standing(self, measured: Option<Spread>, floor: Option<Spread>) -> Standing {
        let Some(measured) = measured else {
            return Standing::NotMeasured;
        };
        let is_met = match self {
            Target::AtMost(limit) => measured.median <= limit,
            Target::AtLeast(limit) => measured.median >= limit,
            Target::AtLeastOnFastDisk(limit) => {
                let is_slow = floor.is_none_or(|floor| floor.median < FLOOR_PER_SECOND_MIN);
                if measured.median < limit && is_slow {
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

    /// The target in words, nothing if there is none.
    pub(crate) fn words(self) -> String {
        match self {
            Target::AtMost(limit) => format!("<= {}", number(limit)),
            Target::AtLeast(limit) => format!(">= {}", number(limit)),
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
    /// A figure that does not hang on the speed of the disk.
    pub(crate) fn new(
        name: impl Into<Cow<'static, str>>,
        target: Target,
        measured: Option<Spread>,
    ) -> Figure {
        Figure::on_floor(name, target, measured, None)
    }

    /// A figure beside the floor's durable writes a second.
    pub(crate) fn on_floor(
        name: impl Into<Cow<'static, str>>,
        target: Target,
        measured: Option<Spread>,
        floor: Option<Spread>,
    ) -> Figure {
        Figure {
            name: name.into(),
            measured,
            target,
            standing: target.standing(measured, floor),
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The median of the rounds' values with their extremes.
    pub(crate) fn measured(&self) -> Option<Spread> {
        self.measured
    }

    /// What it should be.
    pub(crate) fn target(&self) -> Target {
        self.target
    }

    /// How it stands to its target.
    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether it should be otherwise, or is not known.
    pub(crate) fn is_missed(&self) -> bool {
        match self.standing {
            Standing::Missed => true,
            Standing::NotMeasured => self.target != Target::None,
            Standing::Met | Standing::NotApplicable | Standing::NoTarget => false,
        }
    }

    /// A table of figures.
    pub(crate) fn table<'a>(figures: impl IntoIterator<Item = &'a Figure>) -> Table {
        let mut table = Table::new(&["figure", "median (min..max)", "target", ""]);
        for figure in figures {
            table.row(figure.row());
        }
        table
    }

    /// The figure as a row of a table.
    fn row(&self) -> Vec<String> {
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
            self.name.to_string(),
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
        let at_least = |median| Target::AtLeast(10.0).standing(spread(median), None);
        assert_eq!(at_least(10.0), Standing::Met);
        assert_eq!(at_least(9.99), Standing::Missed);
        let at_most = |median| Target::AtMost(1.4).standing(spread(median), floor);
        assert_eq!(at_most(1.4), Standing::Met);
        assert_eq!(at_most(1.41), Standing::Missed);
        assert_eq!(
            Target::AtMost(1.4).standing(None, None),
            Standing::NotMeasured
        );
    }

    #[test]
    fn what_is_missed_or_unknown_is_not_met() {
        let is_missed = |target, measured: Option<f64>| {
            Figure::new("figure", target, measured.and_then(spread)).is_missed()
        };
        assert!(is_missed(Target::AtMost(1.0), Some(1.1)));
        assert!(is_missed(Target::AtMost(1.0), None));
        assert!(!is_missed(Target::AtMost(1.0), Some(0.9)));
        assert!(!is_missed(Target::None, Some(0.9)));
        assert!(!is_missed(Target::None, None));
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
