//! What is wrong with a configuration, in words that name the place, the key and what is allowed.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::kind::ValueError;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// The same, for `metastore dev`.
    DevDefault,
    /// A line of the file, counted from 1.
    File { path: PathBuf, line: usize },
    /// A flag, by name.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            Origin::DevDefault => formatter.write_str("default of dev"),
            Origin::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Origin::Flag(name) => formatter.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The file is larger than any configuration.
    #[error("{path}: longer than {limit_bytes} bytes: this is no configuration", path = .path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// The most that is read.
        limit_bytes: u64,
    },
    /// The file is not TOML.
    #[error("{origin}: {cause}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser says.
        cause: String,
    },
    /// There is no such key.
    #[error("{origin}: unknown key {name}; {known}")]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// What was written.
        name: String,
        /// What there is, in words.
        known: String,
    },
    /// The key is known and there is nothing behind it yet.
    #[error("{origin}: {name} cannot be set: {why}")]
    NotBuilt {
        /// Where.
        origin: Origin,
        /// What was written.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// The value is not one that the key takes.
    #[error("{origin}: {name} is {found}: {cause}; allowed: {allowed}")]
    Value {
        /// Where.
        origin: Origin,
        /// The key.
        name: &'static str,
        /// What was written.
        found: String,
        /// What is wrong with it.
        cause: ValueError,
        /// What is allowed, in words.
        allowed: String,
    },
    /// Two values do not go together.
    #[error("{first} and {second} contradict each other: {rule}")]
    Contradiction {
        /// One, with its value and origin.
        first: String,
        /// The other.
        second: String,
        /// What must hold.
        rule: &'static str,
    },
}

/// Why a file that is no configuration cannot set a key.
#[derive(Debug, thiserror::Error)]
#[error("{name} is {found}: {cause}; allowed: {allowed}")]
pub(crate) struct KeyRefusal {
    /// The key.
    pub(super) name: &'static str,
    /// What was written.
    pub(super) found: String,
    /// What is wrong with it.
    pub(super) cause: ValueError,
    /// What is allowed, in words.
    pub(super) allowed: String,
}

/// Everything that is wrong, one line each.
#[derive(Debug, thiserror::Error)]
pub(crate) struct ConfigErrors(pub(super) Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            error.fmt(formatter)?;
        }
        Ok(())
    }
}
