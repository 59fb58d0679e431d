//! What ends a run.

use std::path::{Path, PathBuf};

use crate::arguments::Arguments;

/// Longest input that is printed whole; the replay makes it again in any case.
const HEX_BYTES_MAX: usize = 4096;

/// Why a run ended.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An execution did what none may do.
    #[error(
        "{target}: {reason}\ninput ({} bytes): {}\nreplay: scripts/fuzz --target {target} --seed {seed} --at {number}",
        input.len(),
        hex(input)
    )]
    Execution {
        /// The target.
        target: String,
        /// The seed of the run.
        seed: u64,
        /// The number of the execution.
        number: u64,
        /// What happened.
        reason: Reason,
        /// The input.
        input: Vec<u8>,
    },
    /// An input from a file did what none may do.
    #[error("{target}: {reason}")]
    Input {
        /// The target.
        target: String,
        /// What happened.
        reason: Reason,
    },
    /// No target has this name.
    #[error("no target is named {names}; --list names them")]
    NoTarget {
        /// What was asked for.
        names: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of the record is not one.
    #[error("{}, line {line}: {cause}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
}

/// What an execution did that none may do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It panicked.
    #[error("panicked: {message}")]
    Panic {
        /// The message, with the place in the code.
        message: String,
    },
    /// It held more memory than its target may.
    #[error("held {bytes} bytes of memory, more than {limit}")]
    Memory {
        /// What it held at most.
        bytes: usize,
        /// What it may hold.
        limit: usize,
    },
    /// It did not end.
    #[error("did not end within {seconds} s")]
    Hang {
        /// How long it was waited for.
        seconds: u64,
    },
}

impl Failure {
    pub(crate) fn no_target(arguments: &Arguments) -> Failure {
        Failure::NoTarget {
            names: arguments.target.join(", "),
        }
    }

    pub(crate) fn file(path: &Path, source: std::io::Error) -> Failure {
        Failure::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// An input as hexadecimal digits.
pub(crate) fn hex_whole(input: &[u8]) -> String {
    input.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An input as hexadecimal digits, cut when it is long.
pub(crate) fn hex(input: &[u8]) -> String {
    let shown = &input[..input.len().min(HEX_BYTES_MAX)];
    let mut text = hex_whole(shown);
    if shown.len() < input.len() {
        text.push_str("...");
    }
    text
}
