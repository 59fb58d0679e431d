//! How the program ends.

use std::process::ExitCode;

/// How a command went, as scripts see it. The numbers are a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked for.
    Done,
    /// It worked, and the answer is no: an absent key, a failed condition, a difference, damage.
    Negative,
    /// It was asked for wrongly.
    Usage,
    /// It could not be done, and nothing was changed.
    Unavailable,
    /// A change was sent, and no answer came: it may have happened, or may yet.
    OutcomeUnknown,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Negative => 1,
            Exit::Usage => 2,
            Exit::Unavailable => 3,
            Exit::OutcomeUnknown => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
