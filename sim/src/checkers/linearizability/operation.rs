//! What one client did, and what it was told.

use metastore_net::blocking::{OwnedDetail, OwnedOutcome, OwnedRow, OwnedTxn, OwnedTxnResult};
use metastore_statemachine::{CommandKind, OutcomeCode, Revision};

use crate::operation::{Commit, Compound, Mutation, RangeOf, Step, Txn};
use crate::oracle::{FoundRow, Moment};

/// What a client asked for, of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A command on one key.
    Mutate(Mutation),
    /// A command on several.
    Compound(Compound),
    /// The rows of these keys, all at one moment.
    Read {
        /// The keys.
        keys: Vec<Vec<u8>>,
        /// At which revision, `None` for the newest.
        at: Option<Revision>,
    },
    /// The shard's part of a range.
    Range {
        /// Which keys.
        range: RangeOf,
        /// The last key in the order asked for that was wanted, `None` for all.
        until: Option<Vec<u8>>,
    },
    /// How many keys a range has.
    Count(RangeOf),
}

/// How it ended, as far as the client knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A command came to this.
    Outcome {
        /// When the answer came.
        at: Moment,
        /// What it says.
        outcome: OwnedOutcome,
    },
    /// The rows of a read, in the order of its keys, at this revision of the shard.
    Rows {
        /// When the answer came.
        at: Moment,
        /// The shard's revision.
        revision: Revision,
        /// What was found.
        rows: Vec<Option<FoundRow>>,
    },
    /// The rows of a range, at this revision of the shard.
    Listed {
        /// When the last of them came.
        at: Moment,
        /// The shard's revision.
        revision: Revision,
        /// What was found.
        rows: Vec<OwnedRow>,
    },
    /// The number of keys, at this revision of the shard.
    Counted {
        /// When the answer came.
        at: Moment,
        /// The shard's revision.
        revision: Revision,
        /// How many.
        count: u64,
    },
    /// A read in the past was refused: what it wanted is forgotten.
    Compacted {
        /// When the answer came.
        at: Moment,
        /// The oldest revision that is answered.
        oldest: Revision,
    },
    /// A read in the past was refused: the shard has not come so far.
    Future {
        /// When the answer came.
        at: Moment,
        /// The shard's revision.
        current: Revision,
    },
    /// The command may have taken place at any time since, or may still.
    Unknown,
}

/// One thing that one client did. What was certainly not done is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When it was sent.
    pub sent: Moment,
    /// What was asked for.
    pub action: Action,
    /// How it ended.
    pub end: End,
}

/// What an answer says of the place of its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It took this revision.
    Change(Revision),
    /// It took this revision, or left everything as it was when the shard, or its key, was at it.
    ChangeOr(Revision, NoChange),
    /// It changed nothing, and the shard was at this revision.
    Look(Revision),
    /// It changed nothing, at some time.
    Float,
    /// Nobody knows.
    Unknown,
}

/// What the revision of a command that changed nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoChange {
    /// That of the shard.
    OfShard,
    /// That of its key.
    OfKey,
}

/// Whether a command changed anything, as far as its answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Changed {
    No,
    Perhaps,
    Yes,
}

impl Operation {
    /// When it was answered, if it was.
    #[must_use]
    pub fn answered(&self) -> Option<Moment> {
        match self.end {
            End::Outcome { at, .. }
            | End::Rows { at, .. }
            | End::Listed { at, .. }
            | End::Counted { at, .. }
            | End::Compacted { at, .. }
            | End::Future { at, .. } => Some(at),
            End::Unknown => None,
        }
    }

    /// The bytes of a command as they stand in the log.
    pub(super) fn encoded(&self) -> Option<Vec<u8>> {
        match &self.action {
            Action::Mutate(mutation) => Some(mutation.encoded()),
            Action::Compound(compound) => Some(compound.encoded()),
            Action::Read { .. } | Action::Range { .. } | Action::Count(_) => None,
        }
    }

    /// The revision of the past that it reads.
    pub(super) fn past(&self) -> Option<Revision> {
        match &self.action {
            Action::Read { at, .. } => *at,
            Action::Range { range, .. } | Action::Count(range) => range.at,
            Action::Mutate(_) | Action::Compound(_) => None,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match &self.end {
            End::Outcome { outcome, .. } => self.standing_of(outcome),
            End::Rows { revision, .. }
            | End::Listed { revision, .. }
            | End::Counted { revision, .. } => match self.past() {
                None => Standing::Look(*revision),
                Some(_) => Standing::Float,
            },
            End::Future { current, .. } => Standing::Look(*current),
            End::Compacted { .. } => Standing::Float,
            End::Unknown => Standing::Unknown,
        }
    }

    fn standing_of(&self, outcome: &OwnedOutcome) -> Standing {
        let revision = outcome.revision;
        match outcome.code {
            OutcomeCode::Done => {}
            OutcomeCode::Conflict | OutcomeCode::Compacted => return Standing::Float,
            OutcomeCode::Absent
            | OutcomeCode::NotANumber
            | OutcomeCode::Overflow
            | OutcomeCode::TooLarge
            | OutcomeCode::FutureRevision
            | OutcomeCode::OverBudget => return Standing::Look(revision),
        }
        let (changed, otherwise) = match &self.action {
            Action::Mutate(mutation) => (changed_by(mutation.kind), NoChange::OfKey),
            Action::Compound(compound) => (changed_by_all(compound, outcome), NoChange::OfShard),
            Action::Read { .. } | Action::Range { .. } | Action::Count(_) => {
                unreachable!("a read has no outcome")
            }
        };
        match changed {
            Changed::Yes => Standing::Change(revision),
            Changed::Perhaps => Standing::ChangeOr(revision, otherwise),
            Changed::No => Standing::Look(revision),
        }
    }
}

/// Whether a command of one key that was done has changed it.
fn changed_by(kind: CommandKind) -> Changed {
    match kind {
        // They may have found the number that they wanted.
        CommandKind::MaxI64 | CommandKind::MinI64 => Changed::Perhaps,
        CommandKind::Put
        | CommandKind::Delete
        | CommandKind::AddI64
        | CommandKind::Append
        | CommandKind::DeleteRange
        | CommandKind::Txn
        | CommandKind::Commit
        | CommandKind::Compact => Changed::Yes,
    }
}

fn changed_by_all(compound: &Compound, outcome: &OwnedOutcome) -> Changed {
    match (compound, &outcome.detail) {
        (Compound::DeleteRange(_), _) => match outcome.number {
            None | Some(0) => Changed::No,
            Some(_) => Changed::Yes,
        },
        (Compound::Compact { .. }, _) => Changed::No,
        (Compound::Txn(txn), Some(OwnedDetail::Txn(results))) => changed_by_txn(txn, results),
        (Compound::Commit(Commit { mutations, .. }), Some(OwnedDetail::Txn(results))) => {
            let each = mutations.iter().zip(&results.results);
            let each = each.map(|(mutation, result)| changed_by_step(mutation, result));
            each.max().unwrap_or(Changed::No)
        }
        // Without its results nobody can tell; what it must be answered is checked elsewhere.
        (Compound::Txn(_) | Compound::Commit(_), _) => Changed::Perhaps,
    }
}

fn changed_by_txn(txn: &Txn, results: &OwnedTxn) -> Changed {
    let steps = match results.branch {
        metastore_statemachine::Branch::Then => &txn.then,
        metastore_statemachine::Branch::Otherwise => &txn.otherwise,
    };
    let each = steps
        .iter()
        .zip(&results.results)
        .map(|(step, result)| match (step, result) {
            (Step::Mutation(mutation), result) => changed_by_step(mutation, result),
            (Step::DeleteRange(_), OwnedTxnResult::DeleteRange(1..)) => Changed::Yes,
            (Step::Txn(txn), OwnedTxnResult::Txn(results)) => changed_by_txn(txn, results),
            (Step::Get(_) | Step::Range { .. } | Step::DeleteRange(_) | Step::Txn(_), _) => {
                Changed::No
            }
        });
    each.max().unwrap_or(Changed::No)
}

fn changed_by_step(mutation: &Mutation, result: &OwnedTxnResult) -> Changed {
    match result {
        OwnedTxnResult::Mutation(outcome) if outcome.code == OutcomeCode::Done => {
            changed_by(mutation.kind)
        }
        OwnedTxnResult::Mutation(_)
        | OwnedTxnResult::Get(_)
        | OwnedTxnResult::Range { .. }
        | OwnedTxnResult::DeleteRange(_)
        | OwnedTxnResult::Txn(_) => Changed::No,
    }
}
