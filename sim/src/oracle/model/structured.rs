//! Commands with structure in the model. What they do is tried on a layer above the keys, which is laid down when every
//! step could be done.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use metastore_net::blocking::{OwnedDetail, OwnedOutcome, OwnedRow, OwnedTxn, OwnedTxnResult};
use metastore_statemachine::{
    Branch, Command, CommandFlags, Commit, Compare, Direction, Existence, KeyRange, Operation,
    OutcomeCode, RangeOperation, Relation, Revision, Structured, Subject, Target, Txn,
};

use super::{Decided, Evaluated, Model, ModelOutcome, ModelRow};

/// How many changes, times ranges, a commit looks at before it looks at the keys of its ranges instead.
const VISITS_MAX: usize = 4096;

/// What a transaction has done so far.
struct Draft<'m> {
    model: &'m Model,
    rows: BTreeMap<Vec<u8>, Option<ModelRow>>,
    /// The keys in the order of their changes.
    changed: Vec<Vec<u8>>,
    steps: u32,
}

/// The step that could not be done, and why.
struct Failed {
    step: u32,
    code: OutcomeCode,
    revision: Revision,
}

impl Model {
    /// What a command with structure would come to if it came next.
    pub(super) fn evaluate_structured(&self, command: &Command<'_>) -> Evaluated {
        let structured = Structured::of(command).expect("the log holds what was checked");
        match structured.expect("it has structure") {
            Structured::Txn(txn) => {
                let mut draft = Draft::new(self);
                let decided = draft.txn(&txn);
                draft.come_to(decided)
            }
            Structured::Commit(commit) => self.commit(&commit),
            Structured::DeleteRange(range) => {
                let mut draft = Draft::new(self);
                let count = draft.delete_range(&range);
                let mut evaluated = draft.lay_down(None);
                let count = i64::try_from(count).expect("a few keys");
                evaluated.outcome.number = Some(count);
                evaluated
            }
            Structured::Compact(revision) if revision > self.revision => {
                self.refused(OutcomeCode::FutureRevision, self.revision, None)
            }
            Structured::Compact(revision) => Evaluated {
                oldest: revision,
                ..Draft::new(self).lay_down(None)
            },
        }
    }

    /// A command that changes nothing.
    fn refused(
        &self,
        code: OutcomeCode,
        revision: Revision,
        detail: Option<OwnedDetail>,
    ) -> Evaluated {
        Evaluated {
            outcome: ModelOutcome {
                code,
                revision,
                number: None,
                previous: None,
                detail,
            },
            rows: BTreeMap::new(),
            changed: Vec::new(),
            oldest: Revision(0),
        }
    }

    fn commit(&self, commit: &Commit<'_>) -> Evaluated {
        if commit.read_revision > self.revision {
            return self.refused(OutcomeCode::FutureRevision, self.revision, None);
        }
        if commit.read_revision < self.oldest {
            return self.refused(OutcomeCode::Compacted, self.oldest, None);
        }
        if let Some((revision, detail)) = self.find_conflict(commit) {
            return self.refused(OutcomeCode::Conflict, revision, Some(detail));
        }
        let mut draft = Draft::new(self);
        let results = commit.mutations.iter().map(|mutation| {
            draft.steps += 1;
            draft.step(mutation).map(OwnedTxnResult::Mutation)
        });
        let decided = results.collect::<Result<_, _>>().map(|results| OwnedTxn {
            branch: Branch::Then,
            results,
        });
        draft.come_to(decided)
    }

    /// What of it was read has changed since.
    fn find_conflict(&self, commit: &Commit<'_>) -> Option<(Revision, OwnedDetail)> {
        let changed = |key: &[u8]| {
            let (revision, _) = self.keys.get(key)?.last()?;
            (*revision > commit.read_revision).then_some(*revision)
        };
        for &key in &commit.read_keys {
            if let Some(revision) = changed(key) {
                return Some((revision, OwnedDetail::ConflictKey(key.to_vec())));
            }
        }
        let hit = |range: &KeyRange<'_>, revision| {
            Some((
                revision,
                OwnedDetail::ConflictPrefix(range.label().to_vec()),
            ))
        };
        let newer = |(revision, _): &&(Revision, Vec<u8>)| *revision > commit.read_revision;
        let mut newest_first = self.changes.iter().rev().take_while(newer);
        // The answer names the change that is met first, and where there are many, keys are looked at instead.
        let visits = VISITS_MAX / commit.read_ranges.len().max(1);
        for (revision, key) in newest_first.by_ref().take(visits) {
            let range = commit.read_ranges.iter().find(|range| range.contains(key));
            if let Some(range) = range {
                return hit(range, *revision);
            }
        }
        newest_first.next()?;
        for range in &commit.read_ranges {
            let mut keys = self.keys.keys().filter(|key| range.contains(key));
            if let Some(revision) = keys.find_map(|key| changed(key)) {
                return hit(range, revision);
            }
        }
        None
    }
}

impl<'m> Draft<'m> {
    fn new(model: &'m Model) -> Draft<'m> {
        Draft {
            model,
            rows: BTreeMap::new(),
            changed: Vec::new(),
            steps: 0,
        }
    }

    /// What it comes to when every step could be done, or one could not.
    fn come_to(self, decided: Result<OwnedTxn, Failed>) -> Evaluated {
        match decided {
            Ok(results) => self.lay_down(Some(OwnedDetail::Txn(results))),
            Err(Failed {
                step,
                code,
                revision,
            }) => {
                let detail = Some(OwnedDetail::FailedStep(step));
                self.model.refused(code, revision, detail)
            }
        }
    }

    fn lay_down(self, detail: Option<OwnedDetail>) -> Evaluated {
        let revision = match self.changed.is_empty() {
            true => self.model.revision,
            false => self.model.revision.next(),
        };
        Evaluated {
            rows: self.rows,
            changed: self.changed,
            ..self.model.refused(OutcomeCode::Done, revision, detail)
        }
    }

    fn row(&self, key: &[u8]) -> Option<&ModelRow> {
        match self.rows.get(key) {
            Some(row) => row.as_ref(),
            None => self.model.row_at(key, self.model.revision),
        }
    }

    /// The rows of a range by key.
    fn rows_of(&self, range: &KeyRange<'_>) -> Vec<(Vec<u8>, ModelRow)> {
        let keys: BTreeSet<&Vec<u8>> = self.rows.keys().chain(self.model.keys.keys()).collect();
        keys.into_iter()
            .filter(|key| range.contains(key))
            .filter_map(|key| Some((key.clone(), self.row(key)?.clone())))
            .collect()
    }

    fn txn(&mut self, txn: &Txn<'_>) -> Result<OwnedTxn, Failed> {
        let holds = txn.compares.iter().all(|compare| self.holds(compare));
        let (branch, operations) = if holds {
            (Branch::Then, &txn.then)
        } else {
            (Branch::Otherwise, &txn.otherwise)
        };
        let mut results = Vec::new();
        for operation in operations {
            self.steps += 1;
            results.push(match operation {
                Operation::Mutation(command) => OwnedTxnResult::Mutation(self.step(command)?),
                Operation::Get(key) => {
                    OwnedTxnResult::Get(self.row(key).map(|row| row.with_key(key)))
                }
                Operation::Range(read) => self.read(read),
                Operation::DeleteRange(range) => {
                    OwnedTxnResult::DeleteRange(self.delete_range(range))
                }
                Operation::Txn(txn) => OwnedTxnResult::Txn(self.txn(txn)?),
            });
        }
        Ok(OwnedTxn { branch, results })
    }

    fn step(&mut self, command: &Command<'_>) -> Result<OwnedOutcome, Failed> {
        let current = self.row(command.key).cloned();
        let previous = command.flags.contains(CommandFlags::RETURN_PREVIOUS);
        let previous = current
            .as_ref()
            .filter(|_| previous)
            .map(|row| row.with_key(command.key));
        let (code, revision, number) = match self.model.decide(command, current.as_ref()) {
            Decided::Change { value, number } => {
                let revision = self.model.revision.next();
                let row = value.map(|value| ModelRow::next(current.as_ref(), value, revision));
                self.change(command.key, row);
                (OutcomeCode::Done, revision, number)
            }
            Decided::Keep {
                code,
                revision,
                number,
            } => (code, revision, number),
        };
        if !matches!(code, OutcomeCode::Done | OutcomeCode::Absent) {
            let step = self.steps - 1;
            return Err(Failed {
                step,
                code,
                revision,
            });
        }
        Ok(OwnedOutcome {
            code,
            revision,
            number,
            previous,
            detail: None,
        })
    }

    fn change(&mut self, key: &[u8], row: Option<ModelRow>) {
        self.rows.insert(key.to_vec(), row);
        self.changed.push(key.to_vec());
    }

    fn read(&self, read: &RangeOperation<'_>) -> OwnedTxnResult {
        let mut rows = self.rows_of(&read.range);
        if read.direction == Direction::Reverse {
            rows.reverse();
        }
        let limit = match read.limit {
            0 => rows.len(),
            limit => usize::try_from(limit).expect("a small limit"),
        };
        OwnedTxnResult::Range {
            has_more: rows.len() > limit,
            rows: rows
                .iter()
                .take(limit)
                .map(|(key, row)| row.with_key(key))
                .collect(),
        }
    }

    fn delete_range(&mut self, range: &KeyRange<'_>) -> u64 {
        let rows = self.rows_of(range);
        for (key, _) in &rows {
            self.change(key, None);
        }
        rows.len() as u64
    }

    fn holds(&self, compare: &Compare<'_>) -> bool {
        match &compare.subject {
            Subject::Key(key) => holds_for(compare, self.row(key)),
            Subject::Range(range) => self
                .rows_of(range)
                .iter()
                .all(|(_, row)| holds_for(compare, Some(row))),
        }
    }
}

fn holds_for(compare: &Compare<'_>, row: Option<&ModelRow>) -> bool {
    let of = |number: fn(&ModelRow) -> u64| row.map_or(0, number);
    let order = match (compare.target, row) {
        // Nothing is said about a value that is not there.
        (Target::Value(_), None) => return false,
        (Target::Value(value), Some(row)) => row.value.as_slice().cmp(value),
        (Target::ModRevision(revision), _) => of(|row| row.mod_revision.0).cmp(&revision.0),
        (Target::CreateRevision(revision), _) => of(|row| row.create_revision.0).cmp(&revision.0),
        (Target::Version(version), _) => of(|row| row.version).cmp(&version),
        (Target::Lease(lease), _) => 0.cmp(&lease),
        (Target::Existence(existence), _) => row.is_some().cmp(&(existence == Existence::Present)),
    };
    match compare.relation {
        Relation::Equal => order == Ordering::Equal,
        Relation::NotEqual => order != Ordering::Equal,
        Relation::Less => order == Ordering::Less,
        Relation::Greater => order == Ordering::Greater,
    }
}

impl ModelRow {
    /// The version after `current`.
    pub(super) fn next(current: Option<&ModelRow>, value: Vec<u8>, revision: Revision) -> ModelRow {
        ModelRow {
            value,
            create_revision: current.map_or(revision, |row| row.create_revision),
            mod_revision: revision,
            version: current.map_or(1, |row| row.version + 1),
        }
    }

    pub(super) fn with_key(&self, key: &[u8]) -> OwnedRow {
        OwnedRow {
            key: key.to_vec(),
            value: self.value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: 0,
        }
    }
}
