//! What a shard should hold: the meaning of commands written down a second time, as plainly as possible.
//!
//! It shares no code with the state machine beyond the format of commands, so that a mistake there shows here.

use std::collections::BTreeMap;

use metastore_statemachine::{Command, CommandFlags, CommandKind, OutcomeCode, Revision};

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
}

/// One shard: every version that every key ever had.
#[derive(Clone, Debug, Default)]
pub struct Model {
    revision: Revision,
    keys: BTreeMap<Vec<u8>, Vec<(Revision, Option<ModelRow>)>>,
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

    /// Applies the next command of the log.
    pub fn apply(&mut self, command: &Command<'_>) -> ModelOutcome {
        let current = self.row_at(command.key, self.revision).cloned();
        let (code, revision, number) = match self.decide(command, current.as_ref()) {
            Decided::Change { value, number } => {
                self.revision = self.revision.next();
                let row = value.map(|value| ModelRow {
                    value,
                    create_revision: current
                        .as_ref()
                        .map_or(self.revision, |row| row.create_revision),
                    mod_revision: self.revision,
                    version: current.as_ref().map_or(1, |row| row.version + 1),
                });
                let versions = self.keys.entry(command.key.to_vec()).or_default();
                versions.push((self.revision, row));
                (OutcomeCode::Done, self.revision, number)
            }
            Decided::Keep {
                code,
                revision,
                number,
            } => (code, revision, number),
        };
        ModelOutcome {
            code,
            revision,
            number,
            previous: current.filter(|_| command.flags.contains(CommandFlags::RETURN_PREVIOUS)),
        }
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
                unreachable!("the workload has only commands on single keys")
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
