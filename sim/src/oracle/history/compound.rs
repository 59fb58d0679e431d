//! Commands on several keys, taken apart into what each key saw of them.
//!
//! What was answered is one change of each key, at one revision. What was not answered may have been done or not, but
//! not in part: that is checked over all its keys at once, when everything is read.

use std::collections::BTreeMap;

use metastore_net::blocking::{OwnedDetail, OwnedOutcome, OwnedRow, OwnedTxn, OwnedTxnResult};
use metastore_statemachine::{CommandKind, OutcomeCode, Revision};

use super::key::{KeyHistory, Validation};
use super::{Attempt, AttemptEnd, FoundRow, History, Moment, Sighting};
use crate::operation::{
    Commit, Compound, Condition, DirectoryRange, Mutation, PreviousRow, Step, Txn,
};
use crate::violation::{Violation, readable};
use crate::workload::keys_of;

/// Puts that are done together or not at all, of which nobody knows.
#[derive(Debug)]
pub(super) struct Group {
    puts: Vec<Mutation>,
}

/// What one key saw of a command.
enum Effect {
    Mutated {
        mutation: Mutation,
        revision: Revision,
        number: Option<i64>,
    },
    /// If it was there, it was deleted.
    Swept,
}

/// What all keys saw of a command.
#[derive(Default)]
struct Seen {
    effects: BTreeMap<Vec<u8>, Effect>,
    rows: Vec<(Vec<u8>, Option<FoundRow>)>,
}

impl History {
    /// A command on several keys will never be answered.
    pub fn add_unknown_compound(&mut self, compound: &Compound, sent: Moment) {
        for mutation in compound.mutations() {
            self.add_attempt(Attempt {
                mutation: mutation.clone(),
                sent,
                end: AttemptEnd::Unknown,
            });
        }
        for range in compound.deleted_ranges() {
            for key in keys_in(range) {
                self.add_attempt(Attempt {
                    mutation: deletion(CommandKind::Delete, key),
                    sent,
                    end: AttemptEnd::Unknown,
                });
            }
        }
        match compound {
            Compound::Commit(commit) => self.add_group(commit.mutations.iter()),
            Compound::Txn(txn) => {
                for steps in [&txn.then, &txn.otherwise] {
                    self.add_group(steps.iter().filter_map(|step| match step {
                        Step::Mutation(mutation) => Some(mutation),
                        Step::Get(_) | Step::Range { .. } | Step::DeleteRange(_) | Step::Txn(_) => {
                            None
                        }
                    }));
                }
            }
            Compound::DeleteRange(_) | Compound::Compact { .. } => {}
        }
    }

    fn add_group<'a>(&mut self, mutations: impl Iterator<Item = &'a Mutation>) {
        let puts: Vec<Mutation> = mutations
            .filter(|mutation| mutation.kind == CommandKind::Put)
            .cloned()
            .collect();
        if puts.len() > 1 {
            self.groups.push(Group { puts });
        }
    }

    /// A command on several keys was answered.
    ///
    /// # Panics
    /// When the answer does not have the form of the command.
    pub fn add_compound(
        &mut self,
        compound: &Compound,
        outcome: &OwnedOutcome,
        (sent, at): (Moment, Moment),
    ) {
        // Nothing else changes anything.
        if outcome.code != OutcomeCode::Done {
            return;
        }
        let mut seen = Seen::default();
        match (compound, &outcome.detail) {
            (Compound::Txn(txn), Some(OwnedDetail::Txn(results))) => seen.add_txn(txn, results),
            (Compound::Commit(commit), Some(OwnedDetail::Txn(results))) => {
                seen.add_commit(commit, results);
                self.add_validations(commit, outcome.revision, &seen);
            }
            (Compound::DeleteRange(range), _) => seen.sweep(range),
            (Compound::Compact { .. }, _) => {}
            (Compound::Txn(_) | Compound::Commit(_), _) => {
                panic!("{compound:?} was answered without results")
            }
        }
        for (key, row) in seen.rows {
            if !seen.effects.contains_key(&key) {
                let sighting = Sighting {
                    sent,
                    answered: at,
                    row,
                };
                self.add_sighting(&key, sighting);
            }
        }
        for (key, effect) in seen.effects {
            let (mutation, revision, number) = match effect {
                Effect::Mutated {
                    mutation,
                    revision,
                    number,
                } => (mutation, revision, number),
                Effect::Swept => {
                    let sweep = deletion(CommandKind::DeleteRange, key);
                    (sweep, outcome.revision, None)
                }
            };
            self.add_attempt(Attempt {
                mutation,
                sent,
                end: AttemptEnd::Answered {
                    code: OutcomeCode::Done,
                    revision,
                    number,
                    at,
                },
            });
        }
    }

    /// A commit was done: nothing that it had read changed in between.
    fn add_validations(&mut self, commit: &Commit, revision: Revision, seen: &Seen) {
        // Without a change its revision is that of the last change before it.
        let before = match seen.effects.is_empty() {
            true => revision.next(),
            false => revision,
        };
        let in_ranges = commit.read_ranges.iter().flat_map(keys_in);
        for key in commit.read_keys.iter().cloned().chain(in_ranges) {
            let history = self.keys.entry(key).or_default();
            history.validations.push(Validation {
                after: commit.read_revision,
                before,
            });
        }
    }

    /// What was not answered is there as a whole or not at all. `rows` is all there is.
    pub(super) fn check_groups(
        &mut self,
        rows: &BTreeMap<Vec<u8>, FoundRow>,
    ) -> Result<(), Violation> {
        for group in std::mem::take(&mut self.groups) {
            let done_at = group.puts.iter().find_map(|put| {
                let row = rows.get(&put.key)?;
                (row.value == put.value).then_some(row.mod_revision)
            });
            let Some(revision) = done_at else {
                continue;
            };
            for put in &group.puts {
                let is_whole = match rows.get(&put.key) {
                    Some(row) if row.mod_revision == revision => row.value == put.value,
                    Some(row) => row.mod_revision > revision,
                    None => self.keys.get(&put.key).is_some_and(KeyHistory::has_delete),
                };
                if !is_whole {
                    return Err(Violation::History {
                        key: readable(&put.key),
                        what: format!(
                            "a transaction was done in part: other keys of it are at revision {revision}, and here \
                             {put:?} is missing"
                        ),
                    });
                }
            }
        }
        Ok(())
    }
}

impl Seen {
    fn add_txn(&mut self, txn: &Txn, results: &OwnedTxn) {
        let steps = match results.branch {
            metastore_statemachine::Branch::Then => &txn.then,
            metastore_statemachine::Branch::Otherwise => &txn.otherwise,
        };
        assert_eq!(steps.len(), results.results.len(), "each step has a result");
        for (step, result) in steps.iter().zip(&results.results) {
            match (step, result) {
                (Step::Mutation(mutation), OwnedTxnResult::Mutation(outcome)) => {
                    self.mutate(mutation, outcome);
                }
                (Step::Get(key), OwnedTxnResult::Get(row)) => {
                    self.note(key, row.as_ref());
                }
                (Step::Range { .. }, OwnedTxnResult::Range { rows, .. }) => {
                    rows.iter().for_each(|row| self.note(&row.key, Some(row)));
                }
                (Step::DeleteRange(range), OwnedTxnResult::DeleteRange(_)) => self.sweep(range),
                (Step::Txn(txn), OwnedTxnResult::Txn(results)) => self.add_txn(txn, results),
                (step, result) => panic!("{step:?} has the result {result:?}"),
            }
        }
    }

    fn add_commit(&mut self, commit: &Commit, results: &OwnedTxn) {
        assert_eq!(
            commit.mutations.len(),
            results.results.len(),
            "each mutation has a result"
        );
        for (mutation, result) in commit.mutations.iter().zip(&results.results) {
            match result {
                OwnedTxnResult::Mutation(outcome) => self.mutate(mutation, outcome),
                OwnedTxnResult::Get(_)
                | OwnedTxnResult::Range { .. }
                | OwnedTxnResult::DeleteRange(_)
                | OwnedTxnResult::Txn(_) => panic!("{mutation:?} has the result {result:?}"),
            }
        }
    }

    fn note(&mut self, key: &[u8], row: Option<&OwnedRow>) {
        let row = row.map(|row| FoundRow {
            value: row.value.clone(),
            create_revision: row.create_revision,
            mod_revision: row.mod_revision,
            version: row.version,
        });
        self.rows.push((key.to_vec(), row));
    }

    fn mutate(&mut self, mutation: &Mutation, outcome: &OwnedOutcome) {
        if outcome.code != OutcomeCode::Done {
            return;
        }
        let mut mutation = mutation.clone();
        let was_swept = matches!(self.effects.get(&mutation.key), Some(Effect::Swept));
        if was_swept {
            // It found the key absent by the work of its own transaction: whatever it is, it leaves its operand.
            mutation.condition = Condition::Always;
            mutation.kind = CommandKind::Put;
        }
        let effect = Effect::Mutated {
            revision: outcome.revision,
            number: outcome.number,
            mutation: mutation.clone(),
        };
        self.effects.insert(mutation.key, effect);
    }

    fn sweep(&mut self, range: &DirectoryRange) {
        for key in keys_in(range) {
            self.effects.insert(key, Effect::Swept);
        }
    }
}

fn keys_in(range: &DirectoryRange) -> impl Iterator<Item = Vec<u8>> {
    keys_of(&range.directory).filter(|key| range.contains(key))
}

fn deletion(kind: CommandKind, key: Vec<u8>) -> Mutation {
    Mutation {
        kind,
        key,
        value: Vec::new(),
        condition: Condition::Always,
        previous: PreviousRow::NotWanted,
    }
}

#[cfg(test)]
mod tests;
