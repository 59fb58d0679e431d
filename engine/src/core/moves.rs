//! Where replicas stand on a core changes when one comes or goes: whoever remembers places follows.

/// A replica came to a place, or went from one. Those behind it have moved by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    /// It came to this place.
    Inserted(usize),
    /// It was at this place.
    Removed(usize),
}

impl Move {
    /// The place at which the replica is that was at `place`; `None` when it is gone.
    pub(super) fn of(self, place: usize) -> Option<usize> {
        match self {
            Move::Inserted(at) if place >= at => Some(place + 1),
            Move::Removed(at) if place == at => None,
            Move::Removed(at) if place > at => Some(place - 1),
            Move::Inserted(_) | Move::Removed(_) => Some(place),
        }
    }

    /// Where a turn among replicas goes on that would have gone on at `next`, now that there are `count`.
    pub(super) fn of_turn(self, next: usize, count: usize) -> usize {
        let follows = self.of(next).unwrap_or(next);
        if follows < count { follows } else { 0 }
    }

    /// Lets a list follow that has an item for each replica.
    pub(super) fn apply<T: Default>(self, items: &mut Vec<T>) {
        match self {
            Move::Inserted(at) => items.insert(at, T::default()),
            Move::Removed(at) => {
                items.remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_behind_a_change_move_by_one() {
        let of = |moved: Move| [0, 1, 2, 3].map(|place| moved.of(place));
        assert_eq!(of(Move::Inserted(2)), [Some(0), Some(1), Some(3), Some(4)]);
        assert_eq!(of(Move::Removed(2)), [Some(0), Some(1), None, Some(2)]);
    }

    #[test]
    fn a_turn_goes_on_with_somebody_who_is_there() {
        assert_eq!(Move::Removed(2).of_turn(2, 2), 0);
        assert_eq!(Move::Removed(1).of_turn(1, 2), 1);
        assert_eq!(Move::Inserted(0).of_turn(0, 1), 0);
    }

    #[test]
    fn a_list_follows_what_it_is_about() {
        let mut items = vec![7, 8, 9];
        Move::Removed(1).apply(&mut items);
        Move::Inserted(0).apply(&mut items);
        assert_eq!(items, [0, 7, 9]);
    }
}
