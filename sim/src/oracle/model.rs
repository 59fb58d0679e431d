//! What a shard should hold: the meaning of commands written down a second time, as plainly as possible.
//!
//! It shares no code with the state machine beyond the format of commands and of what they are answered, so that a mistake there shows here.

mod range;
mod structured;

use std::collections::BTreeMap;

use metastore_engine::ShardId;
use metastore_net::blocking::{OwnedDetail, OwnedOutcome, OwnedRow};
use metastore_statemachine::{
    Command, CommandFlags, CommandKind, OutcomeCode, Revision, ShardRevision,
};

/// A row of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRow {
    /// The value.
    pub value: Vec<u8>,
    /// When the key came into being.
    pub create_revision: Revision,
    /// When it was last changed.
    pub mod_revision: Revision,
    /// How often it was changed since it came into being.
    pub version: u64,
}

/// What a command should be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelOutcome {
    /// How it ended.
    pub code: OutcomeCode,
    /// The revision in the answer.
    pub revision: Revision,
    /// The counter's value.
    pub number: Option<i64>,
    /// The row as it was found, if that was asked for.
    pub previous: Option<ModelRow>,
    /// What the answer to a command with structure says beyond that; of a deleted range nothing.
    pub detail: Option<OwnedDetail>,
}

/// What a command comes to, before it has happened.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// What it should be answered.
    pub outcome: ModelOutcome,
    /// What it leaves of the keys that it changes.
    rows: BTreeMap<Vec<u8>, Option<ModelRow>>,
    /// The keys in the order of their changes.
    changed: Vec<Vec<u8>>,
    /// What it asks to be forgotten.
    oldest: Revision,
}

impl Evaluated {
    /// Whether it takes a revision.
    #[must_use]
    pub fn is_change(&self) -> bool {
        !self.changed.is_empty()
    }
}

/// One shard: every version that every key ever had.
#[derive(Clone, Debug, Default)]
pub struct Model {
    revision: Revision,
    /// The oldest revision that is answered.
    oldest: Revision,
    keys: BTreeMap<Vec<u8>, Vec<(Revision, Option<ModelRow>)>>,
    /// Every change of a key, in order.
    changes: Vec<(Revision, Vec<u8>)>,
}

impl Model {
    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The row of a key at a revision.
    #[must_use]
    pub fn row_at(&self, key: &[u8], at: Revision) -> Option<&ModelRow> {
        let versions = self.keys.get(key)?;
        let after = versions.partition_point(|&(revision, _)| revision <= at);
        versions[..after].last()?.1.as_ref()
    }

    /// Every row at a revision, by key.
    pub fn rows_at(&self, at: Revision) -> impl Iterator<Item = (&[u8], &ModelRow)> {
        self.keys
            .keys()
            .filter_map(move |key| Some((key.as_slice(), self.row_at(key, at)?)))
    }

    /// The oldest revision that is answered.
    #[must_use]
    pub fn oldest(&self) -> Revision {
        self.oldest
    }

    /// Lets the next change take the revision after this one: revisions may skip.
    pub fn skip_to(&mut self, revision: Revision) {
        assert!(revision >= self.revision, "revisions grow");
        self.revision = revision;
    }

    /// Applies the next command of the log.
    pub fn apply(&mut self, command: &Command<'_>) -> ModelOutcome {
        let evaluated = self.evaluate(command);
        self.oldest = self.oldest.max(evaluated.oldest);
        if evaluated.is_change() {
            self.revision = self.revision.next();
            let revision = self.revision;
            let changed = evaluated.changed.into_iter();
            self.changes.extend(changed.map(|key| (revision, key)));
            for (key, row) in evaluated.rows {
                self.keys.entry(key).or_default().push((revision, row));
            }
        }
        evaluated.outcome
    }

    /// What a command would come to if it came next.
    #[must_use]
    pub fn evaluate(&self, command: &Command<'_>) -> Evaluated {
        if command.kind.has_structure() {
            return self.evaluate_structured(command);
        }
        let current = self.row_at(command.key, self.revision);
        let mut evaluated = Evaluated {
            outcome: ModelOutcome {
                code: OutcomeCode::Done,
                revision: self.revision.next(),
                number: None,
                previous: current
                    .filter(|_| command.flags.contains(CommandFlags::RETURN_PREVIOUS))
                    .cloned(),
                detail: None,
            },
            rows: BTreeMap::new(),
            changed: Vec::new(),
            oldest: Revision(0),
        };
        match self.decide(command, current) {
            Decided::Change { value, number } => {
                let revision = self.revision.next();
                let row = value.map(|value| ModelRow::next(current, value, revision));
                evaluated.rows.insert(command.key.to_vec(), row);
                evaluated.changed.push(command.key.to_vec());
                evaluated.outcome.number = number;
            }
            Decided::Keep {
                code,
                revision,
                number,
            } => {
                evaluated.outcome.code = code;
                evaluated.outcome.revision = revision;
                evaluated.outcome.number = number;
            }
        }
        evaluated
    }

    fn decide(&self, command: &Command<'_>, current: Option<&ModelRow>) -> Decided {
        let mod_revision = current.map_or(Revision(0), |row| row.mod_revision);
        let must_be_absent = command.flags.contains(CommandFlags::IF_ABSENT);
        let is_expected = command
            .expected_revision
            .is_none_or(|expected| expected == mod_revision);
        if !is_expected || must_be_absent && current.is_some() {
            return Decided::keep(OutcomeCode::Conflict, mod_revision);
        }
        let change = |value: Vec<u8>, number| Decided::Change {
            value: Some(value),
            number,
        };
        match command.kind {
            CommandKind::DeleteRange
            | CommandKind::Txn
            | CommandKind::Commit
            | CommandKind::Compact => {
                unreachable!("a command with structure is not about one key")
            }
            CommandKind::Put => change(command.value.to_vec(), None),
            CommandKind::Delete if current.is_none() => {
                Decided::keep(OutcomeCode::Absent, self.revision)
            }
            CommandKind::Delete => Decided::Change {
                value: None,
                number: None,
            },
            CommandKind::Append => {
                let mut value = current.map_or_else(Vec::new, |row| row.value.clone());
                value.extend_from_slice(command.value);
                change(value, None)
            }
            CommandKind::AddI64 | CommandKind::MaxI64 | CommandKind::MinI64 => {
                let operand = number(command.value).expect("an operand has eight bytes");
                let Some(row) = current else {
                    return change(operand.to_le_bytes().to_vec(), Some(operand));
                };
                let Some(before) = number(&row.value) else {
                    return Decided::keep(OutcomeCode::NotANumber, self.revision);
                };
                let after = match command.kind {
                    CommandKind::MaxI64 => Some(before.max(operand)),
                    CommandKind::MinI64 => Some(before.min(operand)),
                    CommandKind::AddI64
                    | CommandKind::Put
                    | CommandKind::Delete
                    | CommandKind::Append
                    | CommandKind::DeleteRange
                    | CommandKind::Txn
                    | CommandKind::Commit
                    | CommandKind::Compact => before.checked_add(operand),
                };
                match after {
                    None => Decided::keep(OutcomeCode::Overflow, self.revision),
                    Some(after) if after == before && command.kind != CommandKind::AddI64 => {
                        Decided::Keep {
                            code: OutcomeCode::Done,
                            revision: mod_revision,
                            number: Some(after),
                        }
                    }
                    Some(after) => change(after.to_le_bytes().to_vec(), Some(after)),
                }
            }
        }
    }
}

impl ModelOutcome {
    /// Whether it is what a command on keys of `shard` was answered.
    #[must_use]
    pub fn is(&self, answered: &OwnedOutcome, shard: ShardId) -> bool {
        let is_same_previous = match (&answered.previous, &self.previous) {
            (Some(row), Some(model)) => model.is(row),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let is_same_detail = match &answered.detail {
            // Each shard's part of a deleted range is told; the model knows one shard.
            Some(OwnedDetail::ShardRevisions(revisions)) => {
                let of_this = ShardRevision {
                    shard: shard.0,
                    revision: self.revision,
                };
                self.detail.is_none() && revisions.as_slice() == [of_this]
            }
            detail => *detail == self.detail,
        };
        is_same_previous
            && is_same_detail
            && (answered.code, answered.revision, answered.number)
                == (self.code, self.revision, self.number)
    }
}

impl ModelRow {
    fn is(&self, row: &OwnedRow) -> bool {
        (
            row.value.as_slice(),
            row.create_revision,
            row.mod_revision,
            row.version,
        ) == (
            self.value.as_slice(),
            self.create_revision,
            self.mod_revision,
            self.version,
        )
    }
}

enum Decided {
    Change {
        value: Option<Vec<u8>>,
        number: Option<i64>,
    },
    Keep {
        code: OutcomeCode,
        revision: Revision,
        number: Option<i64>,
    },
}

impl Decided {
    fn keep(code: OutcomeCode, revision: Revision) -> Decided {
        Decided::Keep {
            code,
            revision,
            number: None,
        }
    }
}

fn number(value: &[u8]) -> Option<i64> {
    Some(i64::from_le_bytes(value.try_into().ok()?))
}
