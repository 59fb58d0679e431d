//! Histories written by hand, good and bad, and small random ones that are also judged by trying every order.

/// The history is refused for a reason of this kind.
macro_rules! assert_bad {
    ($reason:pat, $operations:expr) => {
        let refused = check($operations);
        assert!(matches!(refused, Err($reason)), "{refused:?}");
    };
}

mod along_a_log;
mod bad;
mod bad_compounds;
mod brute_force;
mod compounds;
mod good;
mod random;

use super::*;
use crate::operation::{Condition, Mutation, PreviousRow};
use crate::oracle::{FoundRow, Moment};
use metastore_net::blocking::OwnedOutcome;
use metastore_statemachine::{CommandKind, OutcomeCode, Revision};

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

fn outcome(code: OutcomeCode, revision: u64) -> OwnedOutcome {
    OwnedOutcome {
        code,
        revision: Revision(revision),
        number: None,
        previous: None,
        detail: None,
    }
}

fn answered((sent, at): Span, action: Action, outcome: OwnedOutcome) -> Operation {
    Operation {
        sent: Moment(sent),
        action,
        end: End::Outcome {
            at: Moment(at),
            outcome,
        },
    }
}

fn changed(span: Span, mutation: Mutation, revision: u64) -> Operation {
    let outcome = outcome(OutcomeCode::Done, revision);
    answered(span, Action::Mutate(mutation), outcome)
}

fn added(span: Span, operand: i64, revision: u64, number: i64) -> Operation {
    let outcome = OwnedOutcome {
        number: Some(number),
        ..outcome(OutcomeCode::Done, revision)
    };
    answered(span, Action::Mutate(add(operand)), outcome)
}

fn conflict(span: Span, mutation: Mutation, found: u64) -> Operation {
    let outcome = outcome(OutcomeCode::Conflict, found);
    answered(span, Action::Mutate(mutation), outcome)
}

fn absent(span: Span, revision: u64) -> Operation {
    let outcome = outcome(OutcomeCode::Absent, revision);
    answered(span, Action::Mutate(delete()), outcome)
}

fn unknown(sent: u64, mutation: Mutation) -> Operation {
    unknown_action(sent, Action::Mutate(mutation))
}

fn unknown_action(sent: u64, action: Action) -> Operation {
    Operation {
        sent: Moment(sent),
        action,
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
        action: Action::Read {
            keys: keys.iter().map(|key| key.to_vec()).collect(),
            at: None,
        },
        end: End::Rows {
            at: Moment(at),
            revision: Revision(revision),
            rows,
        },
    }
}

const SHARD: ShardId = ShardId(3);

fn history(operations: Vec<Operation>) -> ShardHistory {
    let mut history = ShardHistory::new(SHARD);
    operations
        .into_iter()
        .for_each(|operation| history.add(operation));
    history
}

fn check(operations: Vec<Operation>) -> Result<Verdict, NotLinearizable> {
    history(operations).check(None)
}
