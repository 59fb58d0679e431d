//! What clients ask of several keys at once. All of it lies in one directory, and so in one shard.

use std::collections::BTreeSet;

use metastore_statemachine::{Direction, Existence, Relation, Revision};

use super::{Known, Workload};
use crate::operation::{
    Commit, Compare, Compound, DirectoryRange, Mutation, Step, Subject, Target, Txn,
};

/// How deep transactions nest here.
const DEPTH_MAX: u32 = 3;

/// The directory of a command, and what may still be written in it: no path through a transaction writes a key twice,
/// so that each of its revisions is left by one mutation.
struct Place<'a> {
    directory: Vec<u8>,
    written: BTreeSet<Vec<u8>>,
    known: &'a Known,
}

impl Workload {
    pub(super) fn draw_compound(&mut self, known: &Known) -> Compound {
        #[derive(Clone, Copy)]
        enum Choice {
            Txn,
            Commit,
            DeleteRange,
            Compact,
        }
        let mut place = Place {
            directory: self.draw_directory(),
            written: BTreeSet::new(),
            known,
        };
        let choice = self.random.weighted(&[
            (8, Choice::Txn),
            (8, Choice::Commit),
            (2, Choice::DeleteRange),
            (1, Choice::Compact),
        ]);
        match choice {
            Choice::Txn => Compound::Txn(self.draw_txn(&mut place, 1)),
            Choice::Commit => Compound::Commit(self.draw_commit(&mut place)),
            Choice::DeleteRange => Compound::DeleteRange(self.draw_deleted_range(&place)),
            Choice::Compact => {
                let (key, _) = self.draw_key_in(&place.directory);
                let revision = place.read_revision();
                // What is a little older stays, so that some commits go on.
                let behind = self.random.weighted(&[(1, 0), (3, 20)]);
                Compound::Compact {
                    key,
                    revision: Revision(revision.0.saturating_sub(behind)),
                }
            }
        }
    }

    fn draw_commit(&mut self, place: &mut Place<'_>) -> Commit {
        let keys = self.random.below(4);
        let read_keys = (0..keys)
            .map(|_| self.draw_key_in(&place.directory).0)
            .collect();
        let ranges = self.random.weighted(&[(2, 0), (2, 1), (1, 2)]);
        let read_ranges = (0..ranges).map(|_| self.draw_range_in(place)).collect();
        let count = self.random.between(1, 4);
        Commit {
            read_revision: place.read_revision(),
            read_keys,
            read_ranges,
            mutations: (0..count)
                .filter_map(|_| self.draw_step_mutation(place))
                .collect(),
        }
    }

    fn draw_txn(&mut self, place: &mut Place<'_>, depth: u32) -> Txn {
        let compares = (0..self.random.below(3))
            .map(|_| self.draw_compare(place))
            .collect();
        let written = place.written.clone();
        let mut then = self.draw_steps(place, depth);
        if then.is_empty() {
            then.push(Step::Get(self.draw_key_in(&place.directory).0));
        }
        let written_then = std::mem::replace(&mut place.written, written);
        let otherwise = if self.random.chance(600) {
            self.draw_steps(place, depth)
        } else {
            Vec::new()
        };
        place.written.extend(written_then);
        Txn {
            compares,
            then,
            otherwise,
        }
    }

    fn draw_steps(&mut self, place: &mut Place<'_>, depth: u32) -> Vec<Step> {
        #[derive(Clone, Copy)]
        enum Choice {
            Mutation,
            Get,
            Range,
            DeleteRange,
            Txn,
        }
        let count = self.random.between(1, 4);
        (0..count)
            .filter_map(|_| {
                let choice = self.random.weighted(&[
                    (10, Choice::Mutation),
                    (2, Choice::Get),
                    (2, Choice::Range),
                    (1, Choice::DeleteRange),
                    (2, Choice::Txn),
                ]);
                Some(match choice {
                    Choice::Txn if depth < DEPTH_MAX => Step::Txn(self.draw_txn(place, depth + 1)),
                    Choice::Mutation | Choice::Txn => {
                        Step::Mutation(self.draw_step_mutation(place)?)
                    }
                    Choice::Get => Step::Get(self.draw_key_in(&place.directory).0),
                    Choice::Range => Step::Range {
                        range: self.draw_range_in(place),
                        direction: self
                            .random
                            .weighted(&[(1, Direction::Forward), (1, Direction::Reverse)]),
                        limit: self.random.weighted(&[(1, 0), (1, 3)]),
                    },
                    Choice::DeleteRange => Step::DeleteRange(self.draw_deleted_range(place)),
                })
            })
            .collect()
    }

    /// A mutation of a key that no other step on the same path writes.
    fn draw_step_mutation(&mut self, place: &mut Place<'_>) -> Option<Mutation> {
        let mutation = self.draw_mutation_in(&place.directory, place.known);
        place
            .written
            .insert(mutation.key.clone())
            .then_some(mutation)
    }

    fn draw_compare(&mut self, place: &Place<'_>) -> Compare {
        let (key, _) = self.draw_key_in(&place.directory);
        let revision = place.known.get(&key).copied().unwrap_or_default();
        let relations = [
            Relation::Equal,
            Relation::NotEqual,
            Relation::Less,
            Relation::Greater,
        ];
        let target = match self.random.below(5) {
            0 => Target::Value(self.next_value.to_le_bytes().to_vec()),
            1 => Target::ModRevision(revision),
            2 => Target::CreateRevision(revision),
            3 => Target::Version(self.random.below(5)),
            _ => Target::Existence(
                self.random
                    .weighted(&[(1, Existence::Absent), (3, Existence::Present)]),
            ),
        };
        let relations = match target {
            // What is there or not has no order.
            Target::Existence(_) => &relations[..2],
            Target::Value(_)
            | Target::ModRevision(_)
            | Target::CreateRevision(_)
            | Target::Version(_) => &relations[..],
        };
        let relation = relations[self.random.index(relations.len())];
        let subject = if self.random.chance(250) {
            Subject::Range(self.draw_range_in(place))
        } else {
            Subject::Key(key)
        };
        Compare {
            subject,
            target,
            relation,
        }
    }

    fn draw_range_in(&mut self, place: &Place<'_>) -> DirectoryRange {
        if self.random.chance(300) {
            return DirectoryRange::all(&place.directory);
        }
        let names = [("counter-", "plain-"), ("plain-1", "plain-3"), ("sum-", "")];
        let (start, end) = names[self.random.index(names.len())];
        place.range(start, end)
    }

    /// Sums are never deleted, so that what was added to them can be counted.
    fn draw_deleted_range(&mut self, place: &Place<'_>) -> DirectoryRange {
        let names = [
            ("counter-", "counter-2"),
            ("counter-3", "plain-2"),
            ("plain-1", "plain-3"),
            ("text-", ""),
        ];
        let (start, end) = names[self.random.index(names.len())];
        place.range(start, end)
    }
}

impl Place<'_> {
    fn range(&self, start: &str, end: &str) -> DirectoryRange {
        let bound = |name: &str| {
            if name.is_empty() {
                return Vec::new();
            }
            [self.directory.as_slice(), name.as_bytes()].concat()
        };
        DirectoryRange {
            directory: self.directory.clone(),
            start: bound(start),
            end: bound(end),
        }
    }

    /// The revision at which the directory was last read.
    fn read_revision(&self) -> Revision {
        let read = self.known.get(&self.directory);
        read.copied().unwrap_or_default()
    }
}
