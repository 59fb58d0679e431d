//! The checkers. They stand outside of what they check: they see what goes to the disk, what clients send and what
//! they are answered, and nothing inside the core.
//!
//! There are two, which share nothing: the [`Ledger`] holds every answer against what is durable, at once; the
//! [`History`] knows only what clients saw and judges it after a restart. The second is the weaker one and the one that
//! can judge a real server.

mod history;
mod ledger;
mod model;

use std::collections::BTreeMap;

use metastore_engine::ShardId;
use metastore_net::blocking::OwnedOutcome;
use metastore_statemachine::{Outcome, Revision, Row};

pub use history::{Attempt, AttemptEnd, FoundRow, History, Moment, Sighting};
pub(crate) use ledger::decompress;
pub use ledger::{Floor, Ledger, RecordPlace, Survivors};
pub use model::{Evaluated, Model, ModelOutcome, ModelRow};

use crate::operation::{Change, RangeOf};
use crate::violation::Violation;

/// Who checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkers {
    /// Everybody.
    All,
    /// All but those that watch when what is durable: to prove that what comes of a wrong order would be seen. Of the
    /// checkers of a single node only what clients saw is left.
    AllButOrder,
    /// Only what clients saw counts: to prove that it would be enough.
    ClientsAlone,
}

/// What was known when a request was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    at: Moment,
    floor: Floor,
}

/// A row that a read found, or its absence.
#[derive(Clone, Copy, Debug)]
pub struct ReadRow<'a> {
    /// The key.
    pub key: &'a [u8],
    /// What was found.
    pub row: Option<Row<'a>>,
}

/// Everything that is checked.
#[derive(Debug)]
pub struct Oracle {
    /// Every answer against what is durable.
    pub ledger: Option<Ledger>,
    history: History,
    moments: u64,
}

impl Oracle {
    /// The checkers of a store in which nothing has happened.
    #[must_use]
    pub fn new(ledger: Option<Ledger>) -> Oracle {
        Oracle {
            ledger,
            history: History::default(),
            moments: 0,
        }
    }

    fn moment(&mut self) -> Moment {
        self.moments += 1;
        Moment(self.moments)
    }

    /// A request with these commands is sent.
    pub fn on_sent(&mut self, commands: &[Vec<u8>]) -> Sent {
        let at = self.moment();
        let Some(ledger) = &mut self.ledger else {
            return Sent {
                at,
                floor: Floor::default(),
            };
        };
        commands.iter().for_each(|command| ledger.on_sent(command));
        Sent {
            at,
            floor: ledger.floor(),
        }
    }

    /// A mutation was answered with "certainly not done".
    ///
    /// # Errors
    /// It was done.
    pub fn on_refused(&mut self, command: &[u8]) -> Result<(), Violation> {
        match &mut self.ledger {
            Some(ledger) => ledger.on_refused(command),
            None => Ok(()),
        }
    }

    /// Nobody will ever say how a mutation ended.
    pub fn on_unknown(&mut self, change: Change<'_>, sent: &Sent) {
        match change {
            Change::Mutation(mutation) => self.history.add_attempt(Attempt {
                mutation: mutation.clone(),
                sent: sent.at,
                end: AttemptEnd::Unknown,
            }),
            Change::Compound(compound) => self.history.add_unknown_compound(compound, sent.at),
        }
    }

    /// A mutation was answered with an outcome.
    ///
    /// # Errors
    /// The answer does not follow from what is durable.
    pub fn on_acknowledged(
        &mut self,
        (change, command): (Change<'_>, &[u8]),
        sent: &Sent,
        outcome: &Outcome<'_>,
    ) -> Result<(), Violation> {
        let at = self.moment();
        match change {
            Change::Mutation(mutation) => self.history.add_attempt(Attempt {
                mutation: mutation.clone(),
                sent: sent.at,
                end: AttemptEnd::answered(outcome, at),
            }),
            Change::Compound(compound) => {
                let outcome = OwnedOutcome::from(*outcome);
                self.history.add_compound(compound, &outcome, (sent.at, at));
            }
        }
        match &mut self.ledger {
            Some(ledger) => ledger.on_acknowledged(command, &sent.floor, outcome),
            None => Ok(()),
        }
    }

    /// Keys of a shard were read at `revision`; `at` is the revision that was asked for.
    ///
    /// # Errors
    /// It saw too little or too much, or something else than the log holds.
    pub fn on_read(
        &mut self,
        (shard, revision): (ShardId, Revision),
        at: Option<Revision>,
        sent: &Sent,
        rows: &[ReadRow<'_>],
    ) -> Result<(), Violation> {
        let answered = self.moment();
        for read in rows.iter().filter(|_| at.is_none()) {
            let sighting = Sighting {
                sent: sent.at,
                answered,
                row: read.row.as_ref().map(FoundRow::of),
            };
            self.history.add_sighting(read.key, sighting);
        }
        let Some(ledger) = &mut self.ledger else {
            return Ok(());
        };
        ledger.on_read(shard, revision, at, &sent.floor)?;
        rows.iter()
            .try_for_each(|read| ledger.check_row(shard, revision, read.key, read.row.as_ref()))
    }

    /// A range was answered with `rows` and their number, read at `revisions`.
    ///
    /// # Errors
    /// It saw too little or too much, or something else than the log holds.
    pub fn on_range(
        &mut self,
        range: &RangeOf,
        revisions: &[(ShardId, Revision)],
        rows: (&[u8], u64),
        sent: &Sent,
    ) -> Result<(), Violation> {
        match &mut self.ledger {
            Some(ledger) => ledger.check_range(range, revisions, rows, &sent.floor),
            None => Ok(()),
        }
    }

    /// Everything was read after a restart, with nothing else on its way.
    ///
    /// # Errors
    /// No order of events explains what clients saw.
    pub fn on_audit(&mut self, rows: BTreeMap<Vec<u8>, FoundRow>) -> Result<(), Violation> {
        self.history.check(rows)
    }
}
