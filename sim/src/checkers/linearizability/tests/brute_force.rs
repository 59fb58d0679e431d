//! The same question, answered by trying every order. It knows nothing of places or intervals.

use std::collections::BTreeMap;

use super::*;

/// What one copy holds.
#[derive(Clone, Default)]
struct Copy {
    revision: u64,
    rows: BTreeMap<Vec<u8>, FoundRow>,
}

/// Whether some order of these few operations explains them.
pub(super) fn is_linearizable(operations: &[Operation]) -> bool {
    let highest = operations.iter().map(|operation| match operation.end {
        End::Changed { revision, .. }
        | End::Absent { revision, .. }
        | End::Rows { revision, .. } => revision.0,
        End::Conflict { found, .. } => found.0,
        End::Unknown => 0,
    });
    let highest = highest.max().unwrap_or(0) + 1;
    let mut open = vec![true; operations.len()];
    try_rest(operations, &mut open, &Copy::default(), highest)
}

fn try_rest(operations: &[Operation], open: &mut [bool], copy: &Copy, highest: u64) -> bool {
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
        let is_explained = copy
            .after(&operations[next], highest)
            .iter()
            .any(|after| try_rest(operations, open, after, highest));
        open[next] = true;
        if is_explained {
            return true;
        }
    }
    false
}

impl Copy {
    /// Every state in which the operation may leave it, none if it cannot come next.
    fn after(&self, operation: &Operation, highest: u64) -> Vec<Copy> {
        match (&operation.action, &operation.end) {
            (
                Action::Mutate(mutation),
                End::Changed {
                    revision, number, ..
                },
            ) => {
                let after = self.changed(mutation, revision.0);
                let after = after.filter(|(_, counted)| counted == number);
                after.into_iter().map(|(copy, _)| copy).collect()
            }
            (Action::Mutate(mutation), End::Unknown) => (self.revision + 1..=highest)
                .filter_map(|revision| Some(self.changed(mutation, revision)?.0))
                .collect(),
            (Action::Mutate(mutation), End::Conflict { found, .. }) => {
                let is_so = self.mod_revision(&mutation.key) == found.0 && !self.holds(mutation);
                is_so.then(|| self.clone()).into_iter().collect()
            }
            (Action::Mutate(mutation), End::Absent { revision, .. }) => {
                let is_so = !self.rows.contains_key(&mutation.key);
                self.seen_at(revision.0, is_so)
            }
            (Action::Read(keys), End::Rows { revision, rows, .. }) => {
                let is_so = keys
                    .iter()
                    .zip(rows)
                    .all(|(key, row)| self.rows.get(key) == row.as_ref());
                self.seen_at(revision.0, is_so)
            }
            (action, end) => unreachable!("{action:?} does not end in {end:?}"),
        }
    }

    fn seen_at(&self, revision: u64, is_so: bool) -> Vec<Copy> {
        let is_possible = is_so && revision >= self.revision;
        let seen = Copy {
            revision,
            rows: self.rows.clone(),
        };
        is_possible.then_some(seen).into_iter().collect()
    }

    fn mod_revision(&self, key: &[u8]) -> u64 {
        self.rows.get(key).map_or(0, |row| row.mod_revision.0)
    }

    fn holds(&self, mutation: &Mutation) -> bool {
        match mutation.condition {
            Condition::Always => true,
            Condition::IfAbsent => !self.rows.contains_key(&mutation.key),
            Condition::IfRevision(expected) => self.mod_revision(&mutation.key) == expected.0,
        }
    }

    fn changed(&self, mutation: &Mutation, revision: u64) -> Option<(Copy, Option<i64>)> {
        if revision <= self.revision || !self.holds(mutation) {
            return None;
        }
        let mut copy = self.clone();
        copy.revision = revision;
        let before = copy.rows.remove(&mutation.key);
        let (create_revision, version, value) = match &before {
            None => (Revision(revision), 0, Vec::new()),
            Some(row) => (row.create_revision, row.version, row.value.clone()),
        };
        let (value, number) = match mutation.kind {
            CommandKind::Delete => return before.map(|_| (copy, None)),
            CommandKind::Put => (mutation.value.clone(), None),
            CommandKind::Append => ([value, mutation.value.clone()].concat(), None),
            CommandKind::AddI64 => {
                let of = |bytes: &[u8]| bytes.try_into().ok().map(i64::from_le_bytes);
                let count = if before.is_some() { of(&value)? } else { 0 };
                let sum = count.checked_add(of(&mutation.value)?)?;
                (sum.to_le_bytes().to_vec(), Some(sum))
            }
            CommandKind::MaxI64
            | CommandKind::MinI64
            | CommandKind::DeleteRange
            | CommandKind::Txn
            | CommandKind::Commit
            | CommandKind::Compact => unreachable!("no history holds it"),
        };
        let row = FoundRow {
            value,
            create_revision,
            mod_revision: Revision(revision),
            version: version + 1,
        };
        copy.rows.insert(mutation.key.clone(), row);
        Some((copy, number))
    }
}
