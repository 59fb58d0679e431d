//! Whether what clients saw of a shard is what one copy of it, doing one thing at a time, could have shown them.
//!
//! Searching for an order that explains a history takes exponential time. Here answers carry their place: a change is
//! answered with its revision, a read with the revision of its shard. So the order is a **witness** that only has to be
//! checked, in three steps:
//!
//! 1. *Time.* Nothing that was answered before something else was sent stands behind it. One sweep over the sorted
//!    positions, O(n log n).
//! 2. *Meaning.* Each key is replayed along its revisions: every change was possible and was answered rightly, every
//!    read found what was there. Only mutations of unknown outcome have no place; for them, and only for them, places
//!    are searched, key by key.
//! 3. *Conflicts.* A condition that did not hold is answered with the revision of the key, which leaves an interval.
//!    The earliest place in it that agrees with time is taken; if that does not fit, none does.
//!
//! What it accepts although it should not: two changes of unknown outcome, of different keys, that need the same
//! revision; and a conflict whose interval an unseen change of unknown outcome would have ended. It refuses nothing that
//! is right. Revisions may skip, so a gap needs no explanation. A search that grows beyond [`SEARCH_STEPS_MAX`] is given
//! up and said to be [`Verdict::Undecided`].
//!
//! The idea of the witness is that of version orders as in Elle (Kingsbury and Alvaro, 2020), the search with a memory of
//! what failed is that of Wing and Gong (1993) with Lowe's cache (2017).

mod conflicts;
mod key_search;
mod time;

use std::collections::{BTreeMap, BTreeSet};

use metastore_statemachine::Revision;
use thiserror::Error;

use self::conflicts::Conflict;
pub use self::key_search::SEARCH_STEPS_MAX;
use self::key_search::{Item, KeySearch, Searched};
use self::time::{Anchored, Place, TimeOrder};
use crate::operation::{Condition, Mutation};
use crate::oracle::{FoundRow, Moment};
use crate::violation::readable;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A put, a delete, an addition or an append.
    Mutate(Mutation),
    /// The rows of these keys, all at one moment.
    Read(Vec<Vec<u8>>),
}

/// How it ended, as far as the client knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The mutation took place and made this revision.
    Changed {
        /// When the answer came.
        at: Moment,
        /// The revision.
        revision: Revision,
        /// The counter's value after an addition.
        number: Option<i64>,
    },
    /// The mutation's condition did not hold: the key was at this revision, 0 when it was absent.
    Conflict {
        /// When the answer came.
        at: Moment,
        /// The key's revision.
        found: Revision,
    },
    /// The delete found no key, at this revision of the shard.
    Absent {
        /// When the answer came.
        at: Moment,
        /// The shard's revision.
        revision: Revision,
    },
    /// The rows of a read, in the order of its keys, at this revision of the shard.
    Rows {
        /// When the answer came.
        at: Moment,
        /// The shard's revision.
        revision: Revision,
        /// What was found.
        rows: Vec<Option<FoundRow>>,
    },
    /// The mutation may have taken place at any time since, or may still.
    Unknown,
}

/// One thing that one client did. What was certainly not done is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When it was sent.
    pub sent: Moment,
    /// What was asked for.
    pub action: Action,
    /// How it ended.
    pub end: End,
}

/// Why no order explains what clients saw.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotLinearizable {
    /// Two changes say that they made the same revision.
    #[error("two changes made revision {revision}")]
    SameRevision {
        /// The revision.
        revision: Revision,
    },
    /// A change says that it made revision 0, which is that of a shard in which nothing has happened.
    #[error("a change of {key:?} made revision 0")]
    ZeroRevision {
        /// The key.
        key: String,
    },
    /// Something stands before what had been answered when it was sent.
    #[error(
        "something sent at {sent} stands at revision {revision}, behind it stands revision {newer}, answered at {answered}",
        sent = sent.0, answered = answered.0
    )]
    BackInTime {
        /// When the earlier one was sent.
        sent: Moment,
        /// Its revision.
        revision: Revision,
        /// The revision of the later one.
        newer: Revision,
        /// When the later one was answered.
        answered: Moment,
    },
    /// A conflict was reported where the condition held.
    #[error("{key:?}: {condition:?} holds at revision {found}, and was said not to")]
    NoConflict {
        /// The key.
        key: String,
        /// The condition.
        condition: Condition,
        /// What was found.
        found: Revision,
    },
    /// Nothing explains a change or a row.
    #[error("{key:?} at revision {revision}: {what}")]
    Unexplained {
        /// The key.
        key: String,
        /// Where the explanation ends.
        revision: Revision,
        /// What could not be explained.
        what: String,
    },
    /// At no moment between sending and answer was the key as a conflict reports it.
    #[error("{key:?} was said to be at revision {found}, and was not between {sent} and {at}", sent = sent.0, at = at.0)]
    ConflictWithoutPlace {
        /// The key.
        key: String,
        /// What was found.
        found: Revision,
        /// When the mutation was sent.
        sent: Moment,
        /// When it was answered.
        at: Moment,
    },
}

/// What is known of a history that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains it.
    Linearizable,
    /// The search for places of unknown outcomes was given up for these keys.
    Undecided {
        /// The keys.
        keys: Vec<String>,
    },
}

/// Everything that clients did with one shard.
#[derive(Clone, Debug, Default)]
pub struct ShardHistory {
    operations: Vec<Operation>,
}

/// Everything about one key.
#[derive(Default)]
struct OfKey<'a> {
    items: Vec<Item<'a>>,
    unknown: Vec<(Place, &'a Mutation)>,
    conflicts: Vec<Conflict<'a>>,
    /// Whether an unknown outcome may have deleted it.
    may_be_deleted: bool,
}

impl Operation {
    /// When it was answered, if it was.
    #[must_use]
    pub fn answered(&self) -> Option<Moment> {
        match self.end {
            End::Changed { at, .. }
            | End::Conflict { at, .. }
            | End::Absent { at, .. }
            | End::Rows { at, .. } => Some(at),
            End::Unknown => None,
        }
    }

    /// The place that its answer names.
    fn place(&self) -> Option<Place> {
        match self.end {
            End::Changed { revision, .. } => Some(Place::of_change(revision)),
            End::Absent { revision, .. } | End::Rows { revision, .. } => {
                Some(Place::after_change(revision))
            }
            End::Conflict { .. } | End::Unknown => None,
        }
    }
}

impl ShardHistory {
    /// Adds what a client did. The order in which this is called does not matter.
    pub fn add(&mut self, operation: Operation) {
        if let Some(answered) = operation.answered() {
            assert!(operation.sent < answered, "an answer follows its request");
        }
        self.operations.push(operation);
    }

    /// How many operations it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether nothing was done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// All of them.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Looks for an order that explains everything.
    ///
    /// # Errors
    /// There is none.
    pub fn check(&self) -> Result<Verdict, NotLinearizable> {
        let taken = self.taken_revisions()?;
        let order = TimeOrder::new(self.operations.iter().filter_map(|operation| {
            Some(Anchored {
                place: operation.place()?,
                sent: operation.sent,
                answered: operation.answered()?,
            })
        }));
        order.check()?;
        let keys = self.by_key(&order)?;
        let mut undecided = Vec::new();
        for (key, of_key) in &keys {
            let search = KeySearch::new(&of_key.items, &of_key.unknown, &taken);
            match search.run() {
                Searched::Explained => {}
                Searched::GaveUp => undecided.push(readable(key)),
                Searched::Unexplained { revision, what } => {
                    let key = readable(key);
                    return Err(NotLinearizable::Unexplained {
                        key,
                        revision,
                        what,
                    });
                }
            }
        }
        let conflicts = keys.values().flat_map(|of_key| {
            let may_be_deleted = of_key.may_be_deleted;
            conflicts::with_intervals(&of_key.items, may_be_deleted, &of_key.conflicts)
        });
        order.place_conflicts(conflicts.collect())?;
        match undecided.is_empty() {
            true => Ok(Verdict::Linearizable),
            false => Ok(Verdict::Undecided { keys: undecided }),
        }
    }

    /// The revisions that changes say they made, each once.
    fn taken_revisions(&self) -> Result<BTreeSet<Revision>, NotLinearizable> {
        let mut taken = BTreeSet::new();
        for operation in &self.operations {
            let (Action::Mutate(mutation), End::Changed { revision, .. }) =
                (&operation.action, &operation.end)
            else {
                continue;
            };
            let revision = *revision;
            if revision == Revision(0) {
                let key = readable(&mutation.key);
                return Err(NotLinearizable::ZeroRevision { key });
            }
            if !taken.insert(revision) {
                return Err(NotLinearizable::SameRevision { revision });
            }
        }
        Ok(taken)
    }

    /// What there is to explain of each key, along its revisions.
    fn by_key(&self, order: &TimeOrder) -> Result<BTreeMap<&[u8], OfKey<'_>>, NotLinearizable> {
        let mut keys: BTreeMap<&[u8], OfKey<'_>> = BTreeMap::new();
        for operation in &self.operations {
            match (&operation.action, &operation.end) {
                (Action::Mutate(mutation), end) => {
                    let of_key = keys.entry(&mutation.key).or_default();
                    of_key.add_mutation((mutation, operation.sent), end, order)?;
                }
                (Action::Read(read), End::Rows { revision, rows, .. }) => {
                    assert_eq!(read.len(), rows.len(), "a read is answered key by key");
                    for (key, row) in read.iter().zip(rows) {
                        let of_key = keys.entry(key).or_default();
                        of_key.items.push(Item::Row(*revision, row.as_ref()));
                    }
                }
                // A read that was not answered tells nothing.
                (Action::Read(_), _) => {}
            }
        }
        for of_key in keys.values_mut() {
            of_key.items.sort_by_key(Item::place);
        }
        Ok(keys)
    }
}

impl<'a> OfKey<'a> {
    fn add_mutation(
        &mut self,
        (mutation, sent): (&'a Mutation, Moment),
        end: &'a End,
        order: &TimeOrder,
    ) -> Result<(), NotLinearizable> {
        match *end {
            End::Changed {
                revision, number, ..
            } => self.items.push(Item::Change(revision, mutation, number)),
            End::Absent { revision, .. } => self.items.push(Item::Row(revision, None)),
            End::Conflict { at, found } => {
                let conflict = Conflict {
                    mutation,
                    sent,
                    at,
                    found,
                };
                conflict.check_is_one()?;
                if found > Revision(0) {
                    self.items.push(Item::Revision(found));
                }
                self.conflicts.push(conflict);
            }
            End::Unknown => {
                self.may_be_deleted |= key_search::is_delete(mutation);
                // It stands behind everything that was answered when it was sent.
                self.unknown.push((order.newest_before(sent), mutation));
            }
            End::Rows { .. } => unreachable!("a mutation is not answered with rows"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
