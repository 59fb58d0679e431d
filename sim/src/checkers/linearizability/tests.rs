//! Histories written by hand, good and bad, and small random ones that are also judged by trying every order.

mod bad;
mod brute_force;
mod good;
mod random;

use super::*;
use crate::operation::PreviousRow;
use metastore_statemachine::CommandKind;

const KEY: &[u8] = b"/d/k";
const OTHER: &[u8] = b"/d/other";

fn mutation(kind: CommandKind, value: &[u8]) -> Mutation {
    Mutation {
        kind,
        key: KEY.to_vec(),
        value: value.to_vec(),
        condition: Condition::Always,
        previous: PreviousRow::NotWanted,
    }
}

fn put(value: &str) -> Mutation {
    mutation(CommandKind::Put, value.as_bytes())
}

fn append(value: &str) -> Mutation {
    mutation(CommandKind::Append, value.as_bytes())
}

fn delete() -> Mutation {
    mutation(CommandKind::Delete, b"")
}

fn add(operand: i64) -> Mutation {
    mutation(CommandKind::AddI64, &operand.to_le_bytes())
}

fn of_other(mutation: Mutation) -> Mutation {
    Mutation {
        key: OTHER.to_vec(),
        ..mutation
    }
}

fn if_absent(mutation: Mutation) -> Mutation {
    Mutation {
        condition: Condition::IfAbsent,
        ..mutation
    }
}

fn if_revision(revision: u64, mutation: Mutation) -> Mutation {
    Mutation {
        condition: Condition::IfRevision(Revision(revision)),
        ..mutation
    }
}

/// From when it was sent to when it was answered.
type Span = (u64, u64);

fn changed((sent, at): Span, mutation: Mutation, revision: u64) -> Operation {
    Operation {
        sent: Moment(sent),
        action: Action::Mutate(mutation),
        end: End::Changed {
            at: Moment(at),
            revision: Revision(revision),
            number: None,
        },
    }
}

fn added((sent, at): Span, operand: i64, revision: u64, number: i64) -> Operation {
    Operation {
        sent: Moment(sent),
        action: Action::Mutate(add(operand)),
        end: End::Changed {
            at: Moment(at),
            revision: Revision(revision),
            number: Some(number),
        },
    }
}

fn conflict((sent, at): Span, mutation: Mutation, found: u64) -> Operation {
    Operation {
        sent: Moment(sent),
        action: Action::Mutate(mutation),
        end: End::Conflict {
            at: Moment(at),
            found: Revision(found),
        },
    }
}

fn absent((sent, at): Span, revision: u64) -> Operation {
    Operation {
        sent: Moment(sent),
        action: Action::Mutate(delete()),
        end: End::Absent {
            at: Moment(at),
            revision: Revision(revision),
        },
    }
}

fn unknown(sent: u64, mutation: Mutation) -> Operation {
    Operation {
        sent: Moment(sent),
        action: Action::Mutate(mutation),
        end: End::Unknown,
    }
}

/// A row: value, create revision, mod revision, version.
fn row(value: &str, create: u64, modified: u64, version: u64) -> Option<FoundRow> {
    Some(FoundRow {
        value: value.as_bytes().to_vec(),
        create_revision: Revision(create),
        mod_revision: Revision(modified),
        version,
    })
}

fn count(value: i64, create: u64, modified: u64, version: u64) -> Option<FoundRow> {
    let row = row("", create, modified, version);
    row.map(|row| FoundRow {
        value: value.to_le_bytes().to_vec(),
        ..row
    })
}

fn read(span: Span, revision: u64, found: Option<FoundRow>) -> Operation {
    read_many(span, revision, &[KEY], vec![found])
}

fn read_many(
    (sent, at): Span,
    revision: u64,
    keys: &[&[u8]],
    rows: Vec<Option<FoundRow>>,
) -> Operation {
    Operation {
        sent: Moment(sent),
        action: Action::Read(keys.iter().map(|key| key.to_vec()).collect()),
        end: End::Rows {
            at: Moment(at),
            revision: Revision(revision),
            rows,
        },
    }
}

fn check(operations: Vec<Operation>) -> Result<Verdict, NotLinearizable> {
    let mut history = ShardHistory::default();
    operations
        .into_iter()
        .for_each(|operation| history.add(operation));
    history.check()
}
