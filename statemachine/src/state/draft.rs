//! A transaction while it is decided: what it would change, over a state that it does not touch.

use super::Parameters;
use super::apply::KeyChange;
use super::decide::{Context, Decision, decide};
use super::history::ChangePosition;
use super::key_map::{Head, KeyMap};
use super::key_walk::{KeyWalk, Overlay};
use super::record::Record;
use crate::command::{Command, CommandKind};
use crate::detail::{Branch, RangeEnd, ResultsWriter};
use crate::ids::Revision;
use crate::outcome::{Outcome, OutcomeCode};
use crate::query::{Direction, Projection};
use crate::row::Row;
use crate::structured::{
    Compare, Existence, KeyRange, Operation, RangeOperation, Relation, Subject, Target, Txn,
};

/// A transaction is decided as a whole before anything of it is done: every step reads through the overlay of those
/// before it, and what would change is only listed. So there is nothing to undo when a step cannot be done.
pub(super) struct Draft<'m> {
    keys: &'m KeyMap,
    /// The history's floor.
    floor: ChangePosition,
    context: Context<'m>,
    visits_left: u64,
    /// Steps begun so far.
    steps: u32,
    overlay: Overlay,
    changes: Vec<KeyChange>,
    results: ResultsWriter,
    scratch: Vec<u8>,
}

/// Why nothing is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It would look at more, or answer more, than it may.
    OverBudget,
    /// A step cannot be done.
    Step {
        step: u32,
        code: OutcomeCode,
        revision: Revision,
    },
}

impl<'m> Draft<'m> {
    pub(super) fn new(
        (keys, floor): (&'m KeyMap, ChangePosition),
        parameters: &'m Parameters,
        revision: Revision,
        visits_left: u64,
    ) -> Draft<'m> {
        Draft {
            keys,
            floor,
            context: Context {
                parameters,
                revision,
            },
            visits_left,
            steps: 0,
            overlay: Overlay::new(),
            changes: Vec::new(),
            results: ResultsWriter::default(),
            scratch: Vec::new(),
        }
    }

    /// What is to be done, in order, and what to answer.
    pub(super) fn finish(self) -> (Vec<KeyChange>, ResultsWriter) {
        (self.changes, self.results)
    }

    /// Decides a transaction. One within another is decided in the same way; the depth was checked.
    pub(super) fn decide_txn(&mut self, txn: &Txn<'_>) -> Result<(), Refusal> {
        let mut branch = Branch::Then;
        for compare in &txn.compares {
            if !self.holds(compare)? {
                branch = Branch::Otherwise;
                break;
            }
        }
        let operations = match branch {
            Branch::Then => &txn.then,
            Branch::Otherwise => &txn.otherwise,
        };
        self.results.begin_txn(branch);
        for operation in operations {
            self.steps += 1;
            visit(&mut self.visits_left)?;
            match operation {
                Operation::Mutation(command) => self.mutate(command)?,
                Operation::Get(key) => self.get(key),
                Operation::Range(read) => self.read_range(read)?,
                Operation::DeleteRange(range) => self.delete_range(range)?,
                Operation::Txn(txn) => self.decide_txn(txn)?,
            }
            self.check_answer()?;
        }
        self.results.end_txn();
        Ok(())
    }

    /// Decides the mutations of a commit.
    pub(super) fn decide_mutations(&mut self, mutations: &[Command<'_>]) -> Result<(), Refusal> {
        self.results.begin_txn(Branch::Then);
        for command in mutations {
            self.steps += 1;
            visit(&mut self.visits_left)?;
            self.mutate(command)?;
            self.check_answer()?;
        }
        self.results.end_txn();
        Ok(())
    }

    fn check_answer(&self) -> Result<(), Refusal> {
        if self.results.len() > self.context.parameters.txn_answer_bytes_max {
            return Err(Refusal::OverBudget);
        }
        Ok(())
    }

    // ---- Steps ----

    fn mutate(&mut self, command: &Command<'_>) -> Result<(), Refusal> {
        let current = current_in(&self.overlay, self.keys, command.key);
        let decision = decide(command, current, &self.context, &mut self.scratch);
        let (code, revision, number, after) = match decision {
            Decision::Set { after, number } => {
                let revision = self.context.revision.next();
                (OutcomeCode::Done, revision, number, Some(Some(after)))
            }
            Decision::Remove => {
                let revision = self.context.revision.next();
                (OutcomeCode::Done, revision, None, Some(None))
            }
            Decision::Keep {
                code,
                revision,
                number,
            } => (code, revision, number, None),
        };
        if !matches!(code, OutcomeCode::Done | OutcomeCode::Absent) {
            let step = self.steps - 1;
            return Err(Refusal::Step {
                step,
                code,
                revision,
            });
        }
        self.results.mutation(&Outcome {
            code,
            revision,
            number,
            previous: current.filter(|_| command.is_previous_wanted()),
            detail: None,
        });
        if let Some(after) = after {
            self.change(command.kind, command.key, after);
        }
        Ok(())
    }

    fn change(&mut self, kind: CommandKind, key: &[u8], after: Option<Record>) {
        self.overlay.insert(key.to_vec(), after.clone());
        self.changes.push(KeyChange {
            kind,
            key: key.to_vec(),
            after,
        });
    }

    fn get(&mut self, key: &[u8]) {
        self.results.get(current_in(&self.overlay, self.keys, key));
    }

    fn read_range(&mut self, read: &RangeOperation<'_>) -> Result<(), Refusal> {
        let answer_bytes_max = self.context.parameters.txn_answer_bytes_max;
        let start = self.results.begin_range();
        let (mut rows, mut end) = (0, RangeEnd::Complete);
        let place = (self.keys, self.floor);
        for step in KeyWalk::begin(place, &self.overlay, &read.range, read.direction) {
            visit(&mut self.visits_left)?;
            let Some(record) = step.live() else {
                continue;
            };
            if read.limit > 0 && rows == read.limit {
                end = RangeEnd::LimitReached;
                break;
            }
            rows += 1;
            self.results.row(&match read.projection {
                Projection::KeysAndValues => record.row(),
                Projection::KeysOnly => record.row().without_value(),
            });
            if self.results.len() > answer_bytes_max {
                return Err(Refusal::OverBudget);
            }
        }
        self.results.end_range(start, end);
        Ok(())
    }

    fn delete_range(&mut self, range: &KeyRange<'_>) -> Result<(), Refusal> {
        let mut found = Vec::new();
        let place = (self.keys, self.floor);
        for step in KeyWalk::begin(place, &self.overlay, range, Direction::Forward) {
            visit(&mut self.visits_left)?;
            found.extend(step.live().cloned());
        }
        for record in &found {
            self.change(CommandKind::DeleteRange, record.key(), None);
        }
        self.results.delete_range(found.len() as u64);
        Ok(())
    }

    // ---- Conditions ----

    fn holds(&mut self, compare: &Compare<'_>) -> Result<bool, Refusal> {
        visit(&mut self.visits_left)?;
        let range = match &compare.subject {
            Subject::Key(key) => {
                return Ok(compare.holds_for(current_in(&self.overlay, self.keys, key)));
            }
            Subject::Range(range) => range,
        };
        let place = (self.keys, self.floor);
        for step in KeyWalk::begin(place, &self.overlay, range, Direction::Forward) {
            visit(&mut self.visits_left)?;
            if let Some(record) = step.live()
                && !compare.holds_for(Some(record.row()))
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Takes one look from the budget.
fn visit(visits_left: &mut u64) -> Result<(), Refusal> {
    *visits_left = visits_left.checked_sub(1).ok_or(Refusal::OverBudget)?;
    Ok(())
}

/// The row of a key as the steps so far have left it.
fn current_in<'a>(overlay: &'a Overlay, keys: &'a KeyMap, key: &[u8]) -> Option<Row<'a>> {
    match overlay.get(key) {
        Some(draft) => draft.as_ref().map(Record::row),
        None => keys.get(key).and_then(Head::live).map(Record::row),
    }
}

impl Compare<'_> {
    /// Whether it holds for a key with this row.
    fn holds_for(&self, row: Option<Row<'_>>) -> bool {
        let number = |of: fn(&Row<'_>) -> u64| row.as_ref().map_or(0, of);
        let order = match self.target {
            // Without a value there is nothing to compare, and saying "not equal" would take absence for a value.
            Target::Value(value) => match row {
                Some(row) => row.value.cmp(value),
                None => return false,
            },
            Target::ModRevision(revision) => number(|row| row.mod_revision.0).cmp(&revision.0),
            Target::CreateRevision(revision) => {
                number(|row| row.create_revision.0).cmp(&revision.0)
            }
            Target::Version(version) => number(|row| row.version).cmp(&version),
            Target::Lease(lease) => number(|row| row.lease).cmp(&lease),
            Target::Existence(existence) => {
                let found = match row {
                    Some(_) => Existence::Present,
                    None => Existence::Absent,
                };
                found.cmp(&existence)
            }
        };
        match self.relation {
            Relation::Equal => order.is_eq(),
            Relation::NotEqual => order.is_ne(),
            Relation::Less => order.is_lt(),
            Relation::Greater => order.is_gt(),
        }
    }
}
