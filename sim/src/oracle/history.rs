//! What clients saw, and whether any order of events explains it.
//!
//! It knows nothing of the log, the disk or the node: only when a client sent something, when it was answered, and
//! what was found at the end. So it judges a real server as well as a simulated one.
//!
//! Revisions make this easy: those of one key give its changes one order, so what is left to check is that the order
//! agrees with time, with the conditions of each change, and with what was found after the last crash.

mod compound;
mod key;

use std::collections::BTreeMap;

use metastore_statemachine::{Outcome, OutcomeCode, Revision, Row};

use self::compound::Group;
use self::key::KeyHistory;
use crate::operation::Mutation;
use crate::violation::{Violation, readable};

/// A moment in the order of everything that clients send and receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

/// A row as a client found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRow {
    /// The value.
    pub value: Vec<u8>,
    /// When the key came into being.
    pub create_revision: Revision,
    /// When it was last changed.
    pub mod_revision: Revision,
    /// How often it was changed since it came into being.
    pub version: u64,
}

/// How a mutation ended, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It was answered.
    Answered {
        /// How it ended.
        code: OutcomeCode,
        /// The revision in the answer.
        revision: Revision,
        /// The counter's value in the answer.
        number: Option<i64>,
        /// When.
        at: Moment,
    },
    /// It may have been done.
    Unknown,
}

/// A mutation that a client tried. One that was refused is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What was tried.
    pub mutation: Mutation,
    /// When it was sent.
    pub sent: Moment,
    /// How it ended.
    pub end: AttemptEnd,
}

/// A read of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When it was sent.
    pub sent: Moment,
    /// When it was answered.
    pub answered: Moment,
    /// What it found.
    pub row: Option<FoundRow>,
}

/// Everything that clients saw since everything was last read.
#[derive(Debug, Default)]
pub struct History {
    keys: BTreeMap<Vec<u8>, KeyHistory>,
    groups: Vec<Group>,
}

impl FoundRow {
    /// The row without its key.
    #[must_use]
    pub fn of(row: &Row<'_>) -> FoundRow {
        FoundRow {
            value: row.value.to_vec(),
            create_revision: row.create_revision,
            mod_revision: row.mod_revision,
            version: row.version,
        }
    }
}

impl AttemptEnd {
    /// An answer.
    #[must_use]
    pub fn answered(outcome: &Outcome<'_>, at: Moment) -> AttemptEnd {
        AttemptEnd::Answered {
            code: outcome.code,
            revision: outcome.revision,
            number: outcome.number,
            at,
        }
    }
}

impl History {
    /// A mutation came to its end, or its client will never know.
    pub fn add_attempt(&mut self, attempt: Attempt) {
        let key = attempt.mutation.key.clone();
        self.keys.entry(key).or_default().attempts.push(attempt);
    }

    /// A key was read.
    pub fn add_sighting(&mut self, key: &[u8], sighting: Sighting) {
        let history = self.keys.entry(key.to_vec()).or_default();
        history.sightings.push(sighting);
    }

    /// Everything was read after a restart, with nothing on its way: `rows` is all there is. What is found here is
    /// where the next part of the history begins.
    ///
    /// # Errors
    /// Something is lost, invented or out of order.
    pub fn check(&mut self, mut rows: BTreeMap<Vec<u8>, FoundRow>) -> Result<(), Violation> {
        self.check_groups(&rows)?;
        for (key, history) in &mut self.keys {
            let found = rows.remove(key);
            history
                .check(found.as_ref())
                .map_err(|what| Violation::History {
                    key: readable(key),
                    what,
                })?;
            history.begin_at(found);
        }
        match rows.into_iter().next() {
            None => Ok(()),
            Some((key, row)) => Err(Violation::History {
                key: readable(&key),
                what: format!("nobody wrote it, and it is {row:?}"),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
