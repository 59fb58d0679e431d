//! One key, replayed along its revisions, with mutations of unknown outcome wherever they are needed.

use std::collections::BTreeSet;

use metastore_statemachine::{CommandKind, Revision};

use super::time::Place;
use crate::operation::{Condition, Mutation};
use crate::oracle::FoundRow;

/// Steps after which the search for one key is given up.
pub const SEARCH_STEPS_MAX: usize = 200_000;

/// Something that is known of a key, at a place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'a> {
    /// It was changed, and the counter's value was this.
    Change(Revision, &'a Mutation, Option<i64>),
    /// It was read.
    Row(Revision, Option<&'a FoundRow>),
    /// It had this revision at some time.
    Revision(Revision),
}

/// What came of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Searched {
    /// Everything has an explanation.
    Explained,
    /// What cannot be explained however the unknown outcomes are placed.
    Unexplained { revision: Revision, what: String },
    /// It took too long.
    GaveUp,
}

/// How far the key has been explained.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reached {
    items: usize,
    place: Place,
    row: Option<Row>,
    /// Which unknown outcomes have been used.
    used: Vec<bool>,
}

/// A row as the replay has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    value: Vec<u8>,
    create_revision: Revision,
    mod_revision: Revision,
    version: u64,
}

/// What is still to be tried.
enum Try {
    /// The next item as things stand.
    Next(Reached),
    /// An unknown outcome first.
    Insert(Reached),
}

/// The search for one key.
pub(super) struct KeySearch<'a> {
    items: &'a [Item<'a>],
    unknown: &'a [(Place, &'a Mutation)],
    taken: &'a BTreeSet<Revision>,
    /// Revisions that somebody saw or wanted at this key and that no answered change made: some unknown outcome may have.
    seen: BTreeSet<Revision>,
}

impl Item<'_> {
    pub(super) fn place(&self) -> Place {
        match *self {
            Item::Change(revision, ..) => Place::of_change(revision),
            Item::Row(revision, _) | Item::Revision(revision) => Place::after_change(revision),
        }
    }

    /// The change of the key that it is, or that it saw.
    pub(super) fn change_seen(&self) -> Option<Revision> {
        match *self {
            Item::Change(revision, ..) | Item::Revision(revision) => Some(revision),
            Item::Row(_, row) => row.map(|row| row.mod_revision),
        }
    }
}

impl<'a> KeySearch<'a> {
    pub(super) fn new(
        items: &'a [Item<'a>],
        unknown: &'a [(Place, &'a Mutation)],
        taken: &'a BTreeSet<Revision>,
    ) -> KeySearch<'a> {
        let seen = items.iter().flat_map(|item| match item {
            Item::Change(_, mutation, _) => [expected_by(mutation), None],
            Item::Revision(revision) => [Some(*revision), None],
            Item::Row(_, row) => [
                row.map(|row| row.mod_revision),
                row.map(|row| row.create_revision),
            ],
        });
        let wanted = unknown
            .iter()
            .filter_map(|&(_, mutation)| expected_by(mutation));
        KeySearch {
            items,
            unknown,
            taken,
            seen: seen
                .flatten()
                .chain(wanted)
                .filter(|revision| !taken.contains(revision))
                .collect(),
        }
    }

    /// Goes on from what was reached last, without an unknown outcome where that is possible, and remembers what failed.
    pub(super) fn run(&self) -> Searched {
        let start = Reached {
            items: 0,
            place: Place(0),
            row: None,
            used: vec![false; self.unknown.len()],
        };
        let mut failed = BTreeSet::new();
        let mut furthest = (0, String::new());
        let mut tries = vec![Try::Next(start)];
        let mut steps = 0;
        while let Some(next) = tries.pop() {
            steps += 1;
            if steps > SEARCH_STEPS_MAX {
                return Searched::GaveUp;
            }
            let reached = match next {
                Try::Next(reached) => reached,
                Try::Insert(reached) => {
                    tries.extend(self.insertions(&reached).into_iter().map(Try::Next));
                    continue;
                }
            };
            let Some(item) = self.items.get(reached.items) else {
                return Searched::Explained;
            };
            let explained = reached.explain(item);
            // Without anything to insert nothing is ever tried twice.
            if !self.unknown.is_empty() {
                if !failed.insert(reached.clone()) {
                    continue;
                }
                tries.push(Try::Insert(reached.clone()));
            }
            match explained {
                Ok(further) => tries.push(Try::Next(further)),
                Err(what) if reached.items >= furthest.0 => furthest = (reached.items, what),
                Err(_) => {}
            }
        }
        let (items, what) = furthest;
        Searched::Unexplained {
            revision: self.items[items].place().revision(),
            what,
        }
    }

    /// Every way to let an unknown outcome happen before the next item.
    fn insertions(&self, reached: &Reached) -> Vec<Reached> {
        let Some(item) = self.items.get(reached.items) else {
            return Vec::new();
        };
        let last = item.place().last_change();
        let mut insertions = Vec::new();
        for (number, &(behind, mutation)) in self.unknown.iter().enumerate() {
            let first = reached.place.max(behind).next_change();
            if reached.used[number] || first > last {
                continue;
            }
            // A revision that somebody saw, or any other: then the lowest, which leaves the most room.
            let seen = self.seen.range(first..=last).copied();
            let lowest = (first.0..=last.0)
                .map(Revision)
                .find(|revision| !self.taken.contains(revision) && !self.seen.contains(revision));
            for revision in seen.chain(lowest) {
                if let Change::To(row, _) = change(mutation, reached.row.as_ref(), revision) {
                    let mut used = reached.used.clone();
                    used[number] = true;
                    insertions.push(Reached {
                        items: reached.items,
                        place: Place::of_change(revision),
                        row,
                        used,
                    });
                }
            }
        }
        insertions
    }
}

impl Reached {
    /// Whether the next item follows from what is there.
    fn explain(&self, item: &Item<'_>) -> Result<Reached, String> {
        let row = match *item {
            Item::Change(revision, mutation, number) => {
                match change(mutation, self.row.as_ref(), revision) {
                    Change::To(row, counted) if counted == number => row,
                    Change::To(_, counted) => {
                        return Err(format!(
                            "{mutation:?} was answered {number:?} and comes to {counted:?}"
                        ));
                    }
                    Change::Nothing(why) => {
                        return Err(format!("{mutation:?} was done, and {why}: {:?}", self.row));
                    }
                }
            }
            Item::Row(_, found) => {
                let is_same = match (found, &self.row) {
                    (Some(found), Some(row)) => row.is(found),
                    (None, None) => true,
                    (Some(_), None) | (None, Some(_)) => false,
                };
                if !is_same {
                    return Err(format!("{found:?} was found, and there was {:?}", self.row));
                }
                self.row.clone()
            }
            Item::Revision(revision) => {
                let is_there = self.row.as_ref().map(|row| row.mod_revision) == Some(revision);
                if !is_there {
                    return Err(format!("it was said to be there: {:?}", self.row));
                }
                self.row.clone()
            }
        };
        Ok(Reached {
            items: self.items + 1,
            place: item.place(),
            row,
            used: self.used.clone(),
        })
    }
}

impl Row {
    fn is(&self, found: &FoundRow) -> bool {
        (
            self.value.as_slice(),
            self.create_revision,
            self.mod_revision,
            self.version,
        ) == (
            found.value.as_slice(),
            found.create_revision,
            found.mod_revision,
            found.version,
        )
    }
}

/// The revision that the key must have.
fn expected_by(mutation: &Mutation) -> Option<Revision> {
    match mutation.condition {
        Condition::IfRevision(revision) => Some(revision),
        Condition::Always | Condition::IfAbsent => None,
    }
}

/// What a mutation does.
enum Change {
    /// It leaves this, and the counter has that value.
    To(Option<Row>, Option<i64>),
    /// It changes nothing, for this reason.
    Nothing(&'static str),
}

/// What a mutation makes of a row when it takes `revision`: the meaning of the commands, written down once more.
fn change(mutation: &Mutation, row: Option<&Row>, revision: Revision) -> Change {
    let mod_revision = row.map_or(Revision(0), |row| row.mod_revision);
    let holds = match mutation.condition {
        Condition::Always => true,
        Condition::IfAbsent => row.is_none(),
        Condition::IfRevision(expected) => expected == mod_revision,
    };
    if !holds {
        return Change::Nothing("its condition does not hold");
    }
    let before = row.map_or(&[][..], |row| &row.value);
    let (value, number) = match mutation.kind {
        CommandKind::Put => (mutation.value.clone(), None),
        CommandKind::Append => ([before, &mutation.value].concat(), None),
        CommandKind::Delete if row.is_none() => return Change::Nothing("there is nothing"),
        CommandKind::Delete => return Change::To(None, None),
        CommandKind::AddI64 => {
            let operand = number_of(&mutation.value).expect("an operand has eight bytes");
            let sum = match row {
                None => Some(operand),
                Some(row) => number_of(&row.value).and_then(|count| count.checked_add(operand)),
            };
            let Some(sum) = sum else {
                return Change::Nothing("there is no sum");
            };
            (sum.to_le_bytes().to_vec(), Some(sum))
        }
        CommandKind::MaxI64
        | CommandKind::MinI64
        | CommandKind::DeleteRange
        | CommandKind::Txn
        | CommandKind::Commit
        | CommandKind::Compact => unreachable!("no history holds a {:?}", mutation.kind),
    };
    let changed = Row {
        value,
        create_revision: row.map_or(revision, |row| row.create_revision),
        mod_revision: revision,
        version: row.map_or(0, |row| row.version) + 1,
    };
    Change::To(Some(changed), number)
}

pub(super) fn is_delete(mutation: &Mutation) -> bool {
    mutation.kind == CommandKind::Delete
}

fn number_of(value: &[u8]) -> Option<i64> {
    Some(i64::from_le_bytes(value.try_into().ok()?))
}
