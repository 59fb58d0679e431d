//! The same question, answered by trying every order. It knows nothing of places, intervals or logs.

use super::*;
use crate::oracle::Model;
use metastore_statemachine::Command;

/// Whether some order of these few operations explains them.
pub(super) fn is_linearizable(operations: &[Operation]) -> bool {
    let highest = operations.iter().map(|operation| match &operation.end {
        End::Outcome { outcome, .. } => outcome.revision.0,
        End::Rows { revision, .. }
        | End::Listed { revision, .. }
        | End::Counted { revision, .. }
        | End::Future {
            current: revision, ..
        }
        | End::Compacted {
            oldest: revision, ..
        } => revision.0,
        End::Unknown => 0,
    });
    let highest = highest.max().unwrap_or(0) + 1;
    let mut open = vec![true; operations.len()];
    try_rest(operations, &mut open, &Model::default(), highest)
}

fn try_rest(operations: &[Operation], open: &mut [bool], copy: &Model, highest: u64) -> bool {
    let is_done =
        |(operation, &is_open): (&Operation, &bool)| !is_open || operation.end == End::Unknown;
    if operations.iter().zip(open.iter()).all(is_done) {
        return true;
    }
    for next in 0..operations.len() {
        let sent = operations[next].sent;
        let must_wait = operations.iter().zip(open.iter()).any(|(other, &is_open)| {
            is_open && other.answered().is_some_and(|answered| answered < sent)
        });
        if !open[next] || must_wait {
            continue;
        }
        open[next] = false;
        let is_explained = after(copy, &operations[next], highest)
            .iter()
            .any(|after| try_rest(operations, open, after, highest));
        open[next] = true;
        if is_explained {
            return true;
        }
    }
    false
}

/// Every state in which an operation may leave a copy, none if it cannot come next.
fn after(copy: &Model, operation: &Operation, highest: u64) -> Vec<Model> {
    let first = copy.revision().0;
    let at_each = (first..=highest).map(|revision| {
        let mut copy = copy.clone();
        copy.skip_to(Revision(revision));
        copy
    });
    let Some(bytes) = operation.encoded() else {
        return at_each.filter(|copy| is_seen(copy, operation)).collect();
    };
    let (command, _) = Command::decode(&bytes).expect("it is a command");
    let done = at_each.filter_map(|mut copy| {
        let evaluated = copy.evaluate(&command);
        let is_so = match &operation.end {
            End::Outcome { outcome, .. } => evaluated.outcome.is(outcome, SHARD),
            End::Unknown => true,
            End::Rows { .. }
            | End::Listed { .. }
            | End::Counted { .. }
            | End::Compacted { .. }
            | End::Future { .. } => unreachable!("a command does not end like a read"),
        };
        copy.apply(&command);
        is_so.then_some(copy)
    });
    done.collect()
}

fn is_seen(copy: &Model, operation: &Operation) -> bool {
    let now = copy.revision();
    match (&operation.action, &operation.end) {
        (Action::Read { keys, at: None }, End::Rows { revision, rows, .. }) => {
            let found = keys.iter().zip(rows);
            *revision == now
                && found.into_iter().all(|(key, row)| {
                    let expected = copy.row_at(key, now).map(|row| FoundRow {
                        value: row.value.clone(),
                        create_revision: row.create_revision,
                        mod_revision: row.mod_revision,
                        version: row.version,
                    });
                    expected == *row
                })
        }
        (Action::Range { range, until: None }, End::Listed { revision, rows, .. }) => {
            *revision == now && copy.range(range, now) == *rows
        }
        (
            Action::Count(range),
            End::Counted {
                revision, count, ..
            },
        ) => *revision == now && copy.range(range, now).len() as u64 == *count,
        (action, end) => unreachable!("{action:?} does not end in {end:?}"),
    }
}
