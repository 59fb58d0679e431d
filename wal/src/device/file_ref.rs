//! The files of a log, by what they are.

use std::fmt;

use crate::ids::FileNumber;

/// A file of the log, by what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileRef {
    /// The segment `log-<n>.seg`.
    Segment(FileNumber),
    /// The file with the two marks.
    Mark,
}

impl fmt::Display for FileRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(number) => write!(formatter, "log-{number}.seg"),
            Self::Mark => formatter.write_str("mark"),
        }
    }
}
