//! The order of places, held against time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use metastore_statemachine::Revision;

use super::NotLinearizable;
use crate::oracle::Moment;

/// Where something stands among everything that happened in a shard: a change at its revision, everything that only
/// looked between two changes.
///
/// ```text
///   0     1        2          3        4          5
///   .   looked  change 1   looked   change 2   looked
///        at 0               at 1                at 2
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(pub(super) u64);

impl Place {
    pub(super) fn of_change(revision: Revision) -> Place {
        Place(revision.0.saturating_mul(2))
    }

    /// Of something that looked, behind the change of `revision` and before the next.
    pub(super) fn after_change(revision: Revision) -> Place {
        Place(revision.0.saturating_mul(2).saturating_add(1))
    }

    /// The first revision whose change would stand behind this place.
    pub(super) fn next_change(self) -> Revision {
        Revision(self.0 / 2 + 1)
    }

    /// The last revision whose change would stand before this place.
    pub(super) fn last_change(self) -> Revision {
        Revision(self.0.saturating_sub(1) / 2)
    }

    /// Whether it is one of something that looked.
    pub(super) fn is_look(self) -> bool {
        self.0 % 2 == 1
    }

    /// The nearest place from here on for something that looks.
    pub(super) fn looking(self) -> Place {
        Place(self.0 | 1)
    }

    pub(super) fn revision(self) -> Revision {
        Revision(self.0 / 2)
    }
}

/// Something whose place is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchored {
    pub(super) place: Place,
    pub(super) sent: Moment,
    pub(super) answered: Moment,
}

/// Something that was answered and whose place is not known.
#[derive(Debug)]
pub(super) struct Floating {
    /// Which operation it is.
    pub(super) number: usize,
    pub(super) sent: Moment,
    pub(super) at: Moment,
    /// Between which places time lets it stand, both included.
    pub(super) window: (Place, Place),
    /// Where its answer is right: from the first place to before the second, in order.
    pub(super) intervals: Vec<(Place, Place)>,
}

impl Floating {
    /// The earliest place not before `from`.
    fn earliest(&self, from: Place) -> Option<Place> {
        self.intervals
            .iter()
            .map(|&(start, end)| (start.max(from), end))
            .find(|(place, end)| place < end)
            .map(|(place, _)| place)
    }
}

/// Everything whose place is known.
pub(super) struct TimeOrder {
    by_place: Vec<Anchored>,
    /// By the moment of the answer: the newest place that had been answered.
    answered: Vec<(Moment, Place)>,
    /// By the moment of sending: the oldest place that is still to be sent.
    sent: Vec<(Moment, Place)>,
}

impl TimeOrder {
    pub(super) fn new(operations: impl Iterator<Item = Anchored>) -> TimeOrder {
        let mut by_place: Vec<Anchored> = operations.collect();
        by_place.sort_by_key(|operation| operation.place);
        let mut answered: Vec<(Moment, Place)> = by_place
            .iter()
            .map(|operation| (operation.answered, operation.place))
            .collect();
        answered.sort_unstable();
        let mut newest = Place(0);
        for (_, place) in &mut answered {
            newest = newest.max(*place);
            *place = newest;
        }
        let mut sent: Vec<(Moment, Place)> = by_place
            .iter()
            .map(|operation| (operation.sent, operation.place))
            .collect();
        sent.sort_unstable();
        let mut oldest = Place(u64::MAX);
        for (_, place) in sent.iter_mut().rev() {
            oldest = oldest.min(*place);
            *place = oldest;
        }
        TimeOrder {
            by_place,
            answered,
            sent,
        }
    }

    /// Nothing was sent after something that stands behind it was answered.
    pub(super) fn check(&self) -> Result<(), NotLinearizable> {
        // From the newest place down. What shares a place only looked, and may stand in any order.
        let mut behind: Option<(Moment, Place)> = None;
        for group in self
            .by_place
            .chunk_by(|one, other| one.place == other.place)
            .rev()
        {
            for operation in group {
                if let Some((answered, newer)) = behind
                    && answered < operation.sent
                {
                    return Err(NotLinearizable::BackInTime {
                        sent: operation.sent,
                        revision: operation.place.revision(),
                        newer: newer.revision(),
                        answered,
                    });
                }
            }
            let first = group
                .iter()
                .map(|operation| (operation.answered, operation.place));
            behind = first.chain(behind).min();
        }
        Ok(())
    }

    /// The newest place of what had been answered before `moment`.
    pub(super) fn newest_before(&self, moment: Moment) -> Place {
        let count = self
            .answered
            .partition_point(|&(answered, _)| answered < moment);
        self.answered[..count]
            .last()
            .map_or(Place(0), |&(_, place)| place)
    }

    /// The oldest place of what was sent after `moment`.
    fn oldest_after(&self, moment: Moment) -> Place {
        let start = self.sent.partition_point(|&(sent, _)| sent <= moment);
        self.sent
            .get(start)
            .map_or(Place(u64::MAX), |&(_, place)| place)
    }

    /// Between which places something may stand that was sent and answered then.
    pub(super) fn window(&self, sent: Moment, at: Moment) -> (Place, Place) {
        (self.newest_before(sent).looking(), self.oldest_after(at))
    }

    /// Finds a place for everything that floats: the earliest one that agrees with time. Earlier is always better, because
    /// all that these demand of each other is that those sent later do not stand before those answered earlier.
    pub(super) fn place_floating(
        &self,
        mut floating: Vec<Floating>,
        describe: &dyn Fn(&Floating) -> String,
    ) -> Result<(), NotLinearizable> {
        floating.sort_by_key(|floating| floating.sent);
        let mut open: BinaryHeap<Reverse<(Moment, Place)>> = BinaryHeap::new();
        let mut newest_answered = Place(0);
        for floating in &floating {
            while let Some(&Reverse((answered, place))) = open.peek()
                && answered < floating.sent
            {
                open.pop();
                newest_answered = newest_answered.max(place);
            }
            let (earliest, latest) = floating.window;
            let place = floating
                .earliest(earliest.max(newest_answered.looking()))
                .filter(|&place| place <= latest);
            let Some(place) = place else {
                return Err(NotLinearizable::WithoutPlace {
                    sent: floating.sent,
                    at: floating.at,
                    what: describe(floating),
                });
            };
            open.push(Reverse((floating.at, place)));
        }
        Ok(())
    }
}
