//! What kinds of values there are, how each is read from the file and from a flag, and how it is shown.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::node::parse_cpu_list;
use crate::quantity::{QuantityError, parse_duration, parse_size, show_duration_ms, show_size};

/// What a key can be set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A path.
    Path,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An address of this machine.
    Address,
    /// An address with a port.
    Socket,
    /// The name or address of a machine.
    Host,
    /// A list of processors.
    Cpus,
    /// Bytes, with a unit, in steps.
    Size { min: u64, max: u64, step: u64 },
    /// Time, with a unit.
    Duration { min_ms: u64, max_ms: u64 },
    /// A number.
    Count { min: u64, max: u64 },
}

/// A word that is allowed beside the values of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    None,
    /// The store chooses.
    Auto,
    /// The thing is turned off.
    Off,
}

/// What a key is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Bytes(u64),
    Milliseconds(u64),
    Number(u64),
    Auto,
    Off,
}

/// A value as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    Text(String),
    Integer(String),
    /// Something that no key takes, by the name of its type.
    Other(&'static str),
}

/// Why a text is not a value of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    /// It is no quantity.
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    /// A number where a quantity is needed.
    #[error("a number without a unit; write it in quotation marks with its unit")]
    UnitMissing,
    /// Text where a number is needed.
    #[error("text where a whole number is needed; leave the quotation marks out")]
    Quoted,
    /// A value of a type that no key takes.
    #[error("a value of type {0}, which no key takes")]
    Type(&'static str),
    /// It is not a number.
    #[error("not a whole number")]
    NotANumber,
    /// It is none of the words.
    #[error("none of the words that are known")]
    UnknownWord,
    /// It is outside its bounds.
    #[error("out of bounds")]
    OutOfBounds,
    /// It is no multiple of what it must be.
    #[error("not a multiple of {step}")]
    Step {
        /// What it must be a multiple of, as people write it.
        step: String,
    },
    /// It is no address.
    #[error("not an address")]
    NotAnAddress,
    /// It is no list of processors.
    #[error("not a list of processors")]
    NotCpus,
    /// There is nothing.
    #[error("empty")]
    Empty,
}

impl Kind {
    /// Reads a value from the file: quantities and words are text, numbers are numbers.
    pub(super) fn parse_written(
        self,
        special: Special,
        written: &Written,
    ) -> Result<Value, ValueError> {
        match (self, written) {
            (_, Written::Other(name)) => Err(ValueError::Type(name)),
            (Kind::Count { .. }, Written::Integer(text)) => self.parse_flag(special, text),
            (Kind::Count { .. }, Written::Text(text)) => {
                special.parse(text).ok_or(ValueError::Quoted)
            }
            (_, Written::Text(text)) => self.parse_flag(special, text),
            (Kind::Size { .. } | Kind::Duration { .. }, Written::Integer(_)) => {
                Err(ValueError::UnitMissing)
            }
            (_, Written::Integer(_)) => Err(ValueError::Type("integer")),
        }
    }

    /// Reads a value from a flag, where everything is text.
    pub(super) fn parse_flag(self, special: Special, text: &str) -> Result<Value, ValueError> {
        if let Some(value) = special.parse(text) {
            return Ok(value);
        }
        if text.is_empty() {
            return Err(ValueError::Empty);
        }
        match self {
            Kind::Path | Kind::Host => Ok(Value::Text(text.to_owned())),
            Kind::Choice(words) => match words.contains(&text) {
                true => Ok(Value::Text(text.to_owned())),
                false => Err(ValueError::UnknownWord),
            },
            Kind::Address => match text.parse::<IpAddr>() {
                Ok(_) => Ok(Value::Text(text.to_owned())),
                Err(_) => Err(ValueError::NotAnAddress),
            },
            Kind::Socket => match text.parse::<SocketAddr>() {
                Ok(_) => Ok(Value::Text(text.to_owned())),
                Err(_) => Err(ValueError::NotAnAddress),
            },
            Kind::Cpus => match parse_cpu_list(text) {
                Some(_) => Ok(Value::Text(text.to_owned())),
                None => Err(ValueError::NotCpus),
            },
            Kind::Size { min, max, step } => {
                let bytes = within(parse_size(text)?, min, max)?;
                match bytes.is_multiple_of(step) {
                    true => Ok(Value::Bytes(bytes)),
                    false => Err(ValueError::Step {
                        step: show_size(step),
                    }),
                }
            }
            Kind::Duration { min_ms, max_ms } => {
                let duration = parse_duration(text)?;
                let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                Ok(Value::Milliseconds(within(milliseconds, min_ms, max_ms)?))
            }
            Kind::Count { min, max } => {
                let number = text.parse().map_err(|_| ValueError::NotANumber)?;
                Ok(Value::Number(within(number, min, max)?))
            }
        }
    }

    /// What is allowed, in words.
    pub(crate) fn allowed(self, special: Special) -> String {
        let mut allowed = match self {
            Kind::Path => "a path".to_owned(),
            Kind::Host => "the name or address of a machine".to_owned(),
            Kind::Address => "an address, as in 127.0.0.1 or ::1".to_owned(),
            Kind::Socket => "an address with a port, as in 127.0.0.1:7399 or [::1]:7399".to_owned(),
            Kind::Cpus => "a list of processors, as in 0-3,8".to_owned(),
            Kind::Choice(words) => words.join(", "),
            Kind::Size { min, max, .. } => format!("{} to {}", show_size(min), show_size(max)),
            Kind::Duration { min_ms, max_ms } => {
                format!(
                    "{} to {}",
                    show_duration_ms(min_ms),
                    show_duration_ms(max_ms)
                )
            }
            Kind::Count { min, max } => format!("{min} to {max}"),
        };
        match special {
            Special::None => {}
            Special::Auto => allowed += ", or auto",
            Special::Off => allowed += ", or off",
        }
        allowed
    }

    /// The units that are understood, for quantities.
    pub(crate) fn unit(self) -> Option<&'static str> {
        match self {
            Kind::Size { .. } => Some("bytes, with a unit as in 4096B, 64KiB, 64MiB, 8GiB"),
            Kind::Duration { .. } => Some("time, with a unit as in 50ms, 5s, 10m, 1h"),
            Kind::Count { .. } => Some("a whole number"),
            Kind::Path
            | Kind::Choice(_)
            | Kind::Address
            | Kind::Socket
            | Kind::Host
            | Kind::Cpus => None,
        }
    }
}

fn within(number: u64, min: u64, max: u64) -> Result<u64, ValueError> {
    match (min..=max).contains(&number) {
        true => Ok(number),
        false => Err(ValueError::OutOfBounds),
    }
}

impl Special {
    fn parse(self, text: &str) -> Option<Value> {
        match (self, text) {
            (Special::Auto, "auto") => Some(Value::Auto),
            (Special::Off, "off") => Some(Value::Off),
            (Special::None | Special::Auto | Special::Off, _) => None,
        }
    }
}

impl Value {
    /// The value as one writes it in the file.
    pub(crate) fn to_toml(&self) -> String {
        match self {
            Value::Number(number) => number.to_string(),
            Value::Text(_)
            | Value::Bytes(_)
            | Value::Milliseconds(_)
            | Value::Auto
            | Value::Off => toml::Value::String(self.to_string()).to_string(),
        }
    }
}

/// As one writes it in a flag.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => formatter.write_str(text),
            Value::Bytes(bytes) => formatter.write_str(&show_size(*bytes)),
            Value::Milliseconds(milliseconds) => {
                formatter.write_str(&show_duration_ms(*milliseconds))
            }
            Value::Number(number) => number.fmt(formatter),
            Value::Auto => formatter.write_str("auto"),
            Value::Off => formatter.write_str("off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: Kind = Kind::Size {
        min: 8 << 20,
        max: 4 << 30,
        step: 4096,
    };
    const COUNT: Kind = Kind::Count { min: 1, max: 9 };

    #[test]
    fn what_is_shown_is_read_back() {
        for (kind, special, text) in [
            (SEGMENT, Special::None, "64MiB"),
            (SEGMENT, Special::Auto, "auto"),
            (COUNT, Special::Off, "off"),
            (COUNT, Special::None, "7"),
            (
                Kind::Duration {
                    min_ms: 1,
                    max_ms: 1 << 40,
                },
                Special::None,
                "90s",
            ),
            (Kind::Cpus, Special::Auto, "0-3,8"),
            (Kind::Socket, Special::Off, "[::1]:7399"),
        ] {
            let value = kind.parse_flag(special, text).expect("it is allowed");
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn bounds_steps_and_words_are_kept() {
        let parse = |kind: Kind, text| kind.parse_flag(Special::None, text);
        assert_eq!(parse(SEGMENT, "4MiB"), Err(ValueError::OutOfBounds));
        assert_eq!(parse(SEGMENT, "8GiB"), Err(ValueError::OutOfBounds));
        assert!(matches!(
            parse(SEGMENT, "9000001"),
            Err(ValueError::Step { .. })
        ));
        assert_eq!(parse(COUNT, "0"), Err(ValueError::OutOfBounds));
        assert_eq!(parse(COUNT, "auto"), Err(ValueError::NotANumber));
        let word = Kind::Choice(&["a", "b"]);
        assert_eq!(parse(word, "c"), Err(ValueError::UnknownWord));
        assert_eq!(
            parse(Kind::Address, "localhost"),
            Err(ValueError::NotAnAddress)
        );
        assert_eq!(parse(Kind::Path, ""), Err(ValueError::Empty));
    }

    #[test]
    fn the_file_has_numbers_as_numbers_and_quantities_as_text() {
        let text = |text: &str| Written::Text(text.to_owned());
        let integer = |text: &str| Written::Integer(text.to_owned());
        let parse = |kind: Kind, written| kind.parse_written(Special::Auto, &written);
        assert_eq!(parse(COUNT, integer("3")), Ok(Value::Number(3)));
        assert_eq!(parse(COUNT, text("3")), Err(ValueError::Quoted));
        assert_eq!(parse(COUNT, text("auto")), Ok(Value::Auto));
        assert_eq!(
            parse(SEGMENT, integer("67108864")),
            Err(ValueError::UnitMissing)
        );
        assert_eq!(parse(SEGMENT, text("64MiB")), Ok(Value::Bytes(64 << 20)));
        assert_eq!(
            parse(COUNT, Written::Other("boolean")),
            Err(ValueError::Type("boolean"))
        );
        assert_eq!(
            parse(Kind::Path, integer("3")),
            Err(ValueError::Type("integer"))
        );
    }
}
