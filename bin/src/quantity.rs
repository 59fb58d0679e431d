//! Sizes and durations as people write them.

use std::time::Duration;

/// Why a text is not a size or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QuantityError {
    /// It does not begin with a whole number.
    #[error("a whole number and a unit are expected, as in {example}")]
    NoNumber {
        /// How it could look.
        example: &'static str,
    },
    /// The number has no unit where one is needed.
    #[error("the unit is missing: one of {known}")]
    UnitMissing {
        /// The units that are understood.
        known: &'static str,
    },
    /// The unit is not one of those understood.
    #[error("unknown unit \"{found}\": one of {known}")]
    UnitUnknown {
        /// The unit as it was written.
        found: String,
        /// The units that are understood.
        known: &'static str,
    },
    /// Nothing can be that large.
    #[error("the number is too large")]
    TooLarge,
    /// Nothing is meant by none of it.
    #[error("it must not be 0")]
    Zero,
}

const SIZE_UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];
const SIZE_UNITS_KNOWN: &str = "B, KiB, MiB, GiB, TiB, kB, MB, GB, TB";

const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
const DURATION_UNITS_KNOWN: &str = "ms, s, m, h";

/// A size in bytes: `64MiB`, `8GiB`, `4096`.
pub(crate) fn parse_size(text: &str) -> Result<u64, QuantityError> {
    parse(text, &SIZE_UNITS, SIZE_UNITS_KNOWN, "64MiB")
}

/// A duration that is not nothing: `500ms`, `5s`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let milliseconds = parse(text, &DURATION_UNITS, DURATION_UNITS_KNOWN, "5s")?;
    Ok(Duration::from_millis(milliseconds))
}

/// A size as [`parse_size`] reads it, in the largest unit that loses nothing.
pub(crate) fn show_size(bytes: u64) -> String {
    let units = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    show(bytes, &units, "B")
}

/// A duration as [`parse_duration`] reads it, in the largest unit that loses nothing.
pub(crate) fn show_duration_ms(milliseconds: u64) -> String {
    show(
        milliseconds,
        &[("h", 3_600_000), ("m", 60_000), ("s", 1000)],
        "ms",
    )
}

fn show(quantity: u64, units: &[(&str, u64)], smallest: &str) -> String {
    let fits = |(_, factor): &&(&str, u64)| quantity > 0 && quantity.is_multiple_of(*factor);
    match units.iter().find(fits) {
        Some((unit, factor)) => format!("{}{unit}", quantity / factor),
        None => format!("{quantity}{smallest}"),
    }
}

fn parse(
    text: &str,
    units: &[(&str, u64)],
    known: &'static str,
    example: &'static str,
) -> Result<u64, QuantityError> {
    let text = text.trim();
    let digits = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(QuantityError::NoNumber { example });
    }
    let unit = unit.trim_start();
    let Some(&(_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(if unit.is_empty() {
            QuantityError::UnitMissing { known }
        } else {
            QuantityError::UnitUnknown {
                found: unit.to_owned(),
                known,
            }
        });
    };
    // The text has digits only, so that the one thing wrong with it can be its length.
    let number: u64 = number.parse().map_err(|_| QuantityError::TooLarge)?;
    match number.checked_mul(factor) {
        None => Err(QuantityError::TooLarge),
        Some(0) => Err(QuantityError::Zero),
        Some(quantity) => Ok(quantity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("1B"), Ok(1));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("8 GiB"), Ok(8 << 30));
        assert_eq!(parse_size("2kB"), Ok(2000));
        assert_eq!(parse_size("16777215TiB"), Ok(16_777_215 << 40));
    }

    #[test]
    fn what_is_no_size_is_refused_with_its_reason() {
        let no_number = QuantityError::NoNumber { example: "64MiB" };
        assert_eq!(parse_size(""), Err(no_number.clone()));
        assert_eq!(parse_size("MiB"), Err(no_number.clone()));
        assert_eq!(parse_size("-1"), Err(no_number));
        assert_eq!(parse_size("0"), Err(QuantityError::Zero));
        assert_eq!(parse_size("16777216TiB"), Err(QuantityError::TooLarge));
        assert_eq!(
            parse_size("99999999999999999999"),
            Err(QuantityError::TooLarge)
        );
        // Whether this means a thousand or 1024 is anybody's guess, and a fraction of a byte nobody's.
        for unit in ["M", "mib", ".5GiB"] {
            let found = unit.to_owned();
            let known = SIZE_UNITS_KNOWN;
            assert_eq!(
                parse_size(&format!("64{unit}")),
                Err(QuantityError::UnitUnknown { found, known })
            );
        }
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
        let known = DURATION_UNITS_KNOWN;
        assert_eq!(
            parse_duration("5"),
            Err(QuantityError::UnitMissing { known })
        );
        assert_eq!(parse_duration("0s"), Err(QuantityError::Zero));
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for bytes in [1, 4097, 64 << 10, 64 << 20, 8 << 30, 1 << 40, u64::MAX] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
        assert_eq!(show_size(64 << 20), "64MiB");
        assert_eq!(show_size(1025), "1025B");
        for milliseconds in [1, 50, 1500, 90_000, 600_000, 7_200_000] {
            let shown = show_duration_ms(milliseconds);
            assert_eq!(
                parse_duration(&shown),
                Ok(Duration::from_millis(milliseconds)),
                "{shown}"
            );
        }
        assert_eq!(show_duration_ms(90_000), "90s");
    }
}
