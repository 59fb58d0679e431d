//! Mutations whose condition did not hold.

use metastore_statemachine::Revision;

use super::NotLinearizable;
use super::key_search::{Item, is_delete};
use super::time::Place;
use crate::operation::{Condition, Mutation};
use crate::oracle::Moment;
use crate::violation::readable;

/// A mutation that found its key at another revision than it wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conflict<'a> {
    pub(super) mutation: &'a Mutation,
    pub(super) sent: Moment,
    pub(super) at: Moment,
    pub(super) found: Revision,
}

/// A conflict with the places where its key was as it says: from the first to before the second.
#[derive(Debug)]
pub(super) struct Floating<'a> {
    pub(super) conflict: Conflict<'a>,
    intervals: Vec<(Place, Place)>,
}

impl Conflict<'_> {
    /// The condition does not hold for what was found.
    pub(super) fn check_is_one(&self) -> Result<(), NotLinearizable> {
        let holds = match self.mutation.condition {
            Condition::Always => true,
            Condition::IfAbsent => self.found == Revision(0),
            Condition::IfRevision(expected) => self.found == expected,
        };
        if !holds {
            return Ok(());
        }
        Err(NotLinearizable::NoConflict {
            key: readable(&self.mutation.key),
            condition: self.mutation.condition,
            found: self.found,
        })
    }

    pub(super) fn without_place(&self) -> NotLinearizable {
        NotLinearizable::ConflictWithoutPlace {
            key: readable(&self.mutation.key),
            found: self.found,
            sent: self.sent,
            at: self.at,
        }
    }
}

impl Floating<'_> {
    /// The earliest place not before `from`.
    pub(super) fn earliest(&self, from: Place) -> Option<Place> {
        self.intervals
            .iter()
            .map(|&(start, end)| (start.max(from), end))
            .find(|(place, end)| place < end)
            .map(|(place, _)| place)
    }
}

/// The conflicts of a key, with where they may stand. `items` is what is known of it, by place.
pub(super) fn with_intervals<'a>(
    items: &[Item<'a>],
    may_be_deleted: bool,
    conflicts: &[Conflict<'a>],
) -> Vec<Floating<'a>> {
    let absent = if conflicts.is_empty() {
        Vec::new()
    } else {
        absences(items, may_be_deleted)
    };
    let with_interval = |&conflict: &Conflict<'a>| Floating {
        conflict,
        intervals: match conflict.found {
            Revision(0) => absent.clone(),
            found => vec![presence(items, found)],
        },
    };
    conflicts.iter().map(with_interval).collect()
}

/// From the change that made `found` to the next one that somebody saw.
fn presence(items: &[Item<'_>], found: Revision) -> (Place, Place) {
    let next = items
        .iter()
        .filter_map(Item::change_seen)
        .filter(|&revision| revision > found)
        .min();
    let end = next.map_or(Place(u64::MAX), Place::of_change);
    (Place::after_change(found), end)
}

/// Where the key was absent.
fn absences(items: &[Item<'_>], may_be_deleted: bool) -> Vec<(Place, Place)> {
    if may_be_deleted {
        return vec![(Place(1), Place(u64::MAX))];
    }
    let mut absences = Vec::new();
    let mut absent_from = Some(Place(1));
    for item in items {
        let Some(revision) = item.change_seen() else {
            continue;
        };
        let is_deleted = matches!(item, Item::Change(_, mutation, _) if is_delete(mutation));
        if let Some(start) = absent_from.take() {
            absences.push((start, Place::of_change(revision)));
        }
        if is_deleted {
            absent_from = Some(Place::after_change(revision));
        }
    }
    absences.extend(absent_from.map(|start| (start, Place(u64::MAX))));
    absences
}
