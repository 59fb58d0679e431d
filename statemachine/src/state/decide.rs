//! What a command comes to: the rules, without the doing.

use super::Parameters;
use super::record::Record;
use crate::command::{Command, CommandKind};
use crate::ids::Revision;
use crate::outcome::OutcomeCode;
use crate::row::Row;

/// What a command comes to, before it is done.
pub(super) enum Decision {
    /// The key gets a version, which has been put together.
    Set { after: Record, number: Option<i64> },
    /// The key goes.
    Remove,
    /// Nothing changes.
    Keep {
        code: OutcomeCode,
        revision: Revision,
        number: Option<i64>,
    },
}

/// What a decision is made from, beside the command and the key.
pub(super) struct Context<'a> {
    pub(super) parameters: &'a Parameters,
    /// Revision of the namespace's last change.
    pub(super) revision: Revision,
}

/// What the command comes to on the key as it is.
pub(super) fn decide(
    command: &Command<'_>,
    current: Option<Row<'_>>,
    context: &Context<'_>,
    scratch: &mut Vec<u8>,
) -> Decision {
    let mod_revision = current.map_or(Revision(0), |row| row.mod_revision);
    let is_unexpected = command
        .expected_revision
        .is_some_and(|expected| expected != mod_revision);
    if is_unexpected || (command.is_absence_required() && current.is_some()) {
        return Decision::Keep {
            code: OutcomeCode::Conflict,
            revision: mod_revision,
            number: None,
        };
    }
    match command.kind {
        CommandKind::Put => {
            let lease = command.lease.unwrap_or(0);
            let row = next_version(command, current, context);
            let after = Record::build(
                &Row {
                    value: command.value,
                    lease,
                    ..row
                },
                &[],
                scratch,
            );
            Decision::Set {
                after,
                number: None,
            }
        }
        CommandKind::Delete => match current {
            Some(_) => Decision::Remove,
            None => context.refuse(OutcomeCode::Absent),
        },
        CommandKind::Append => {
            let row = next_version(command, current, context);
            if row.value.len() + command.value.len() > context.parameters.value_bytes_max {
                return context.refuse(OutcomeCode::TooLarge);
            }
            Decision::Set {
                after: Record::build(&row, command.value, scratch),
                number: None,
            }
        }
        CommandKind::AddI64 | CommandKind::MaxI64 | CommandKind::MinI64 => {
            decide_counter(command, current, context, scratch)
        }
        CommandKind::DeleteRange
        | CommandKind::Txn
        | CommandKind::Commit
        | CommandKind::Compact => panic!("a command with structure is not about one key"),
    }
}

fn decide_counter(
    command: &Command<'_>,
    current: Option<Row<'_>>,
    context: &Context<'_>,
    scratch: &mut Vec<u8>,
) -> Decision {
    let Some(operand) = number_of(command.value) else {
        panic!("the operand was checked");
    };
    let number = match current {
        None => operand,
        Some(row) => {
            let Some(number) = number_of(row.value) else {
                return context.refuse(OutcomeCode::NotANumber);
            };
            let next = match command.kind {
                CommandKind::MaxI64 => Some(number.max(operand)),
                CommandKind::MinI64 => Some(number.min(operand)),
                CommandKind::AddI64
                | CommandKind::Put
                | CommandKind::Delete
                | CommandKind::Append
                | CommandKind::DeleteRange
                | CommandKind::Txn
                | CommandKind::Commit
                | CommandKind::Compact => number.checked_add(operand),
            };
            let Some(next) = next else {
                return context.refuse(OutcomeCode::Overflow);
            };
            if next == number && command.kind != CommandKind::AddI64 {
                let revision = row.mod_revision;
                return Decision::Keep {
                    code: OutcomeCode::Done,
                    revision,
                    number: Some(number),
                };
            }
            next
        }
    };
    let row = next_version(command, current, context);
    let value = number.to_le_bytes();
    let after = Record::build(
        &Row {
            value: &value,
            ..row
        },
        &[],
        scratch,
    );
    Decision::Set {
        after,
        number: Some(number),
    }
}

/// The row that the key gets, with the value and lease that it has.
fn next_version<'a>(
    command: &Command<'a>,
    current: Option<Row<'a>>,
    context: &Context<'_>,
) -> Row<'a> {
    let revision = context.revision.next();
    match current {
        Some(row) => Row {
            mod_revision: revision,
            version: row.version + 1,
            ..row
        },
        None => Row {
            key: command.key,
            value: &[],
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        },
    }
}

impl Context<'_> {
    /// Nothing changes, and the answer names the namespace's revision.
    fn refuse(&self, code: OutcomeCode) -> Decision {
        Decision::Keep {
            code,
            revision: self.revision,
            number: None,
        }
    }
}

/// A counter's value.
fn number_of(value: &[u8]) -> Option<i64> {
    value.try_into().ok().map(i64::from_le_bytes)
}
