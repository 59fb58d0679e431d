//! From values to places on an axis, in percent of its length, so that a drawing has no width of its own.

/// No axis gets more ticks than this.
const TICKS_MAX: usize = 12;

/// A logarithmic axis is at least this many times as far at its end as at its beginning.
const LOG_SPAN_MIN: f64 = 3.0;

/// An axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// From zero to `end`.
    Linear { end: f64 },
    /// Equal distances are equal ratios. Both ends are decimal logarithms.
    Log { start: f64, end: f64 },
}

impl Scale {
    /// From zero to the greatest of the values. `None` when there is nothing to show.
    pub(super) fn linear(values: impl IntoIterator<Item = f64>) -> Option<Scale> {
        let end = positive(values).max_by(f64::total_cmp)?;
        Some(Scale::Linear { end })
    }

    /// Wide enough for all values above zero, with some room at the ends. `None` when there is nothing to show.
    pub(super) fn log(values: impl IntoIterator<Item = f64>) -> Option<Scale> {
        let values: Vec<f64> = positive(values).map(f64::log10).collect();
        let start = values.iter().copied().min_by(f64::total_cmp)?;
        let end = values.iter().copied().max_by(f64::total_cmp)?;
        let lacking = (LOG_SPAN_MIN.log10() - (end - start)).max(0.0);
        let room = lacking / 2.0 + (end - start + lacking) * 0.06;
        Some(Scale::Log {
            start: start - room,
            end: end + room,
        })
    }

    /// Where a value lies, from 0 to 100. `None` for values that a logarithmic axis does not have.
    pub(super) fn percent(&self, value: f64) -> Option<f64> {
        let share = match *self {
            Scale::Linear { end } => value / end,
            Scale::Log { start, end } => (value.log10() - start) / (end - start),
        };
        share.is_finite().then(|| share.clamp(0.0, 1.0) * 100.0)
    }

    /// Round numbers on the axis, in order.
    pub(super) fn ticks(&self) -> Vec<f64> {
        match *self {
            Scale::Linear { .. } => vec![0.0],
            Scale::Log { start, end } => {
                let fine = log_ticks(start, end, &[1.0, 2.0, 5.0], 1);
                if fine.len() <= TICKS_MAX / 2 {
                    return fine;
                }
                let decades_apart = ((end - start) / TICKS_MAX as f64 * 2.0).ceil().max(1.0);
                log_ticks(start, end, &[1.0], decades_apart as i32)
            }
        }
    }
}

fn positive(values: impl IntoIterator<Item = f64>) -> impl Iterator<Item = f64> {
    values
        .into_iter()
        .filter(|value| value.is_finite() && *value > 0.0)
}

/// The digits times powers of ten between two decimal logarithms.
fn log_ticks(start: f64, end: f64, digits: &[f64], decades_apart: i32) -> Vec<f64> {
    let (first, last) = (start.floor() as i32, end.ceil() as i32);
    let decades = (first..=last).filter(|decade| decade.rem_euclid(decades_apart) == 0);
    decades
        .flat_map(|decade| digits.iter().map(move |digit| digit * 10f64.powi(decade)))
        .filter(|tick| (start..=end).contains(&tick.log10()))
        .collect()
}

/// A place as an attribute.
pub(super) fn place(percent: f64) -> String {
    format!("{percent:.2}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_begin_at_zero() {
        let scale = Scale::linear([50.0, 200.0, f64::NAN]).unwrap();
        assert_eq!(scale.percent(0.0), Some(0.0));
        assert_eq!(scale.percent(50.0), Some(25.0));
        assert_eq!(scale.percent(200.0), Some(100.0));
        assert_eq!(scale.percent(f64::NAN), None);
        assert_eq!(Scale::linear([0.0]), None);
    }

    #[test]
    fn equal_ratios_are_equally_far_apart() {
        let scale = Scale::log([10.0, 100.0, 1_000.0, 0.0, -1.0]).unwrap();
        let at = |value| scale.percent(value).unwrap();
        assert!((at(100.0) - at(10.0) - (at(1_000.0) - at(100.0))).abs() < 1e-9);
        assert!(at(10.0) > 0.0 && at(1_000.0) < 100.0);
        assert_eq!(at(0.0001), 0.0);
        assert_eq!(scale.percent(-1.0), None);
        assert_eq!(Scale::log([]), None);
        assert_eq!(Scale::log([0.0]), None);
    }

    #[test]
    fn ticks_are_round_few_and_on_the_axis() {
        let close = |found: Vec<f64>, expected: &[f64]| {
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!((found / expected - 1.0).abs() < 1e-9, "{found}");
            }
        };
        close(
            Scale::log([1.1, 19.0]).unwrap().ticks(),
            &[1.0, 2.0, 5.0, 10.0, 20.0],
        );
        close(
            Scale::log([1.0, 10_000.0]).unwrap().ticks(),
            &[1.0, 10.0, 100.0, 1_000.0, 10_000.0],
        );
        let widest = Scale::log([f64::MIN_POSITIVE, f64::MAX]).unwrap().ticks();
        assert!(
            !widest.is_empty() && widest.len() <= TICKS_MAX,
            "{widest:?}"
        );
        // Values that are all alike have an axis too.
        assert!(!Scale::log([123.0]).unwrap().ticks().is_empty());
    }
}
