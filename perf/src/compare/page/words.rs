//! Numbers with their units, as the page shows them.

use crate::compare::document::Unit;
use crate::figure::{FLOOR_PER_SECOND_MIN, Standing, Target};
use crate::latency::Spread;
use crate::output::number;

/// A time in the unit in which it has few digits.
pub(super) fn time(microseconds: f64) -> String {
    match microseconds {
        long if long >= 1e6 => format!("{} s", number(long / 1e6)),
        middling if middling >= 1e3 => format!("{} ms", number(middling / 1e3)),
        short => format!("{} µs", number(short)),
    }
}

/// Something a second.
pub(super) fn rate(per_second: f64) -> String {
    format!("{}/s", number(per_second))
}

/// Bytes.
pub(super) fn bytes(count: f64) -> String {
    format!("{} B", number(count))
}

/// A part of a whole.
pub(super) fn share(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A value of a ratio.
pub(super) fn value(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Times => format!("{}×", number(value)),
        Unit::PerSecond => rate(value),
        Unit::PerCommand => number(value),
    }
}

/// A round number, such as a goal or a mark on an axis, with no more digits than it has.
pub(super) fn plain(value: f64) -> String {
    if value.abs() >= 1_000.0 {
        return number(value);
    }
    let digits = format!("{value:.6}");
    digits
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

/// A round number of a ratio's unit.
pub(super) fn plain_value(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Times => format!("{}×", plain(value)),
        Unit::PerSecond => format!("{}/s", plain(value)),
        Unit::PerCommand => plain(value),
    }
}

/// A round time, as a mark on an axis.
pub(super) fn plain_time(microseconds: f64) -> String {
    match microseconds {
        long if long >= 1e6 => format!("{} s", plain(long / 1e6)),
        middling if middling >= 1e3 => format!("{} ms", plain(middling / 1e3)),
        short => format!("{} µs", plain(short)),
    }
}

/// A round number with a letter for its thousands or millions, as a mark on an axis.
pub(super) fn plain_short(value: f64) -> String {
    match value {
        large if large >= 1e6 => format!("{} M", plain(large / 1e6)),
        middling if middling >= 1e3 => format!("{} k", plain(middling / 1e3)),
        small => plain(small),
    }
}

/// From the least to the greatest, or nothing if they look alike.
pub(super) fn range(spread: &Spread, words: impl Fn(f64) -> String) -> Option<String> {
    let (min, max) = (words(spread.min), words(spread.max));
    (min != max).then(|| format!("{min} – {max}"))
}

/// A count of things, such as `1 round`.
pub(super) fn count(count: usize, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        plain(count as f64),
        if count == 1 { one } else { many }
    )
}

/// Words of a command line, quoted where a shell would need it.
pub(super) fn command(words: &[String]) -> String {
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "-_./=:,+@%".contains(character);
    let quoted = |word: &String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    let words: Vec<String> = words.iter().map(quoted).collect();
    words.join(" ")
}

/// What a figure should be, if anything.
pub(super) fn goal(target: Target, unit: Option<Unit>) -> Option<String> {
    let limit = |limit| unit.map_or_else(|| plain(limit), |unit| plain_value(unit, limit));
    match target {
        Target::AtMost(most) => Some(format!("at most {}", limit(most))),
        Target::AtLeast(least) => Some(format!("at least {}", limit(least))),
        Target::AtLeastOnFastDisk(least) => Some(format!(
            "at least {} where the floor reaches {}",
            limit(least),
            plain_value(Unit::PerSecond, FLOOR_PER_SECOND_MIN)
        )),
        Target::None => None,
    }
}

/// How a figure stands to its goal: a sign, words, and the class of its looks.
pub(super) fn standing(standing: Standing) -> (&'static str, &'static str, &'static str) {
    match standing {
        Standing::Met => ("✓", "met", "met"),
        Standing::Missed => ("✕", "missed", "missed"),
        Standing::NotApplicable => ("○", "floor too low for this goal", "open"),
        Standing::NotMeasured => ("○", "not measured", "open"),
        Standing::NoTarget => ("", "no goal", "none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_unit_that_fits() {
        assert_eq!(time(0.0), "0 µs");
        assert_eq!(time(239.4), "239 µs");
        assert_eq!(time(14_500.0), "14.5 ms");
        assert_eq!(time(1_250_000.0), "1.25 s");
    }

    #[test]
    fn round_numbers_have_no_digits_too_many() {
        let cases = [
            (0.02, "0.02"),
            (1.0, "1"),
            (1.25, "1.25"),
            (500_000.0, "500,000"),
        ];
        for (value, text) in cases {
            assert_eq!(plain(value), text);
        }
        assert_eq!(plain_time(20_000.0), "20 ms");
        assert_eq!(plain_short(50_000.0), "50 k");
    }

    #[test]
    fn a_range_is_shown_where_there_is_one() {
        let spread = |min, max| Spread {
            median: min,
            min,
            max,
        };
        assert_eq!(range(&spread(1.0, 1.001), number), None);
        assert_eq!(
            range(&spread(1.0, 2.0), rate).as_deref(),
            Some("1.00/s – 2.00/s")
        );
    }

    #[test]
    fn commands_can_be_given_to_a_shell() {
        let words = ["redis", "--save", "", "a b", "it's"].map(str::to_owned);
        assert_eq!(command(&words), "redis --save '' 'a b' 'it'\\''s'");
    }

    #[test]
    fn goals_are_in_words() {
        let words = |target| goal(target, Some(Unit::Times)).unwrap_or_default();
        assert_eq!(words(Target::AtMost(1.25)), "at most 1.25×");
        assert_eq!(words(Target::AtLeast(10.0)), "at least 10×");
        assert_eq!(words(Target::None), "");
    }
}
