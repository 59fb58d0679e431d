//! Reading the state: now, at a revision, or at a pin.

use super::StateMachine;
use super::history::ChangePosition;
use super::key_map::{Backward, Forward, Head, KeyMap};
use super::pins::{Pin, View};
use super::record::Record;
use crate::command::CommandKind;
use crate::ids::{NamespaceId, Revision, ShardTime};
use crate::query::{Direction, GetQuery, Projection, RangeQuery, ReadError, Scope};
use crate::row::Row;

/// How much of a range one call may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceLimit {
    /// Most rows.
    pub rows: u64,
    /// Most bytes of rows. The first row comes whatever its size.
    pub bytes: u64,
    /// Most keys and versions looked at, matching or not.
    pub visits: u64,
}

/// How a slice of a range ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliceEnd {
    /// The range is complete, or has as many rows as its limit allows.
    Finished,
    /// There may be more.
    More {
        /// Where to go on: pass it as `from` to the next call.
        resume_after: Vec<u8>,
    },
}

/// A change in the history, as a watcher would be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The keyspace.
    pub namespace: NamespaceId,
    /// The revision that the change took.
    pub revision: Revision,
    /// The shard's time when it was applied.
    pub time: ShardTime,
    /// The command that made it.
    pub kind: CommandKind,
    /// The key.
    pub key: &'a [u8],
    /// The key's row after the change; `None` when it was removed.
    pub after: Option<Row<'a>>,
    /// The key's row before; `None` when it was absent.
    pub before: Option<Row<'a>>,
}

/// The keys that a range may touch: from `low` to below `high`; without `high`, to the last of all.
pub(super) struct Region {
    pub(super) low: Vec<u8>,
    pub(super) high: Option<Vec<u8>>,
}

/// The heads of a region in the order of a range.
pub(super) enum Walk<'a> {
    Forward(Forward<'a>),
    Backward(Backward<'a>),
}

impl StateMachine {
    /// The row of a key, now or at a revision.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] and [`ReadError::Future`].
    pub fn get(&self, query: &GetQuery<'_>) -> Result<Option<Row<'_>>, ReadError> {
        let view = self.choose_view(query.namespace, query.at, None)?;
        let head = self
            .namespaces
            .get(&query.namespace)
            .and_then(|namespace| namespace.keys.get(query.key));
        Ok(head
            .and_then(|head| self.version_in(head, view).0)
            .map(Record::row))
    }

    /// Reads a slice of a range and hands each row to `on_row`. `from` is where the slice before ended.
    ///
    /// With a pin, the slices together are one picture of the state, whatever is applied between them. A query
    /// that names a revision wants a pin from [`StateMachine::pin_at`], or none and the risk that the history is
    /// compacted between slices.
    ///
    /// # Errors
    /// [`ReadError::Compacted`], [`ReadError::Future`], and with a pin [`ReadError::PinLost`].
    pub fn range(
        &self,
        query: &RangeQuery<'_>,
        pin: Option<&Pin>,
        from: Option<&[u8]>,
        slice: SliceLimit,
        on_row: &mut impl FnMut(Row<'_>),
    ) -> Result<SliceEnd, ReadError> {
        let view = self.choose_view(query.namespace, query.at, pin)?;
        let Some(namespace) = self.namespaces.get(&query.namespace) else {
            return Ok(SliceEnd::Finished);
        };
        let mut region = Region::of(query);
        if let Some(from) = from {
            region.cut_to_rest(query, from);
        }
        let mut walk = Walk::begin(&namespace.keys, &region, query.direction);
        let (mut rows, mut bytes, mut visits) = (0, 0, 0);
        let mut last: Option<&[u8]> = None;
        while let Some(head) = walk.next(&region) {
            if visits >= slice.visits.max(1) || rows >= slice.rows.max(1) {
                return Ok(more_after(last));
            }
            visits += 1;
            if let Some(subtree) = subtree_of(query, head.key()) {
                last = Some(head.key());
                region.cut_off(subtree, query.direction);
                walk = Walk::begin(&namespace.keys, &region, query.direction);
                continue;
            }
            let (version, steps) = self.version_in(head, view);
            visits += steps;
            if let Some(version) = version {
                let row = match query.projection {
                    Projection::KeysAndValues => version.row(),
                    Projection::KeysOnly => version.row().without_value(),
                };
                bytes += row.encoded_len() as u64;
                if rows > 0 && bytes > slice.bytes {
                    return Ok(more_after(last));
                }
                rows += 1;
                on_row(row);
                if rows == query.limit {
                    return Ok(SliceEnd::Finished);
                }
            }
            last = Some(head.key());
        }
        Ok(SliceEnd::Finished)
    }

    /// The position that the next change will take.
    #[must_use]
    pub fn next_change(&self) -> ChangePosition {
        self.history.next()
    }

    /// The change at a position, unless it has not happened or the history has let go of it. Changes that only pins
    /// hold are not shown: replicas would differ.
    #[must_use]
    pub fn change(&self, position: ChangePosition) -> Option<Change<'_>> {
        if position < self.history.floor() {
            return None;
        }
        let entry = self.history.get(position)?;
        Some(Change {
            namespace: entry.namespace,
            revision: entry.revision,
            time: entry.time,
            kind: entry.kind,
            key: entry.key(),
            after: entry.after.as_ref().map(Record::row),
            before: entry.before.as_ref().map(Record::row),
        })
    }

    /// Whether the history answers reads at a revision.
    pub(super) fn check_answered(
        &self,
        namespace: NamespaceId,
        at: Revision,
    ) -> Result<(), ReadError> {
        let current = self.revision(namespace);
        if at > current {
            return Err(ReadError::Future { current });
        }
        let oldest = self.oldest_revision(namespace);
        if at < oldest {
            return Err(ReadError::Compacted { oldest });
        }
        Ok(())
    }

    /// What a read sees, by its revision and pin. A revision that is named counts for more than a pin.
    fn choose_view(
        &self,
        namespace: NamespaceId,
        at: Option<Revision>,
        pin: Option<&Pin>,
    ) -> Result<View, ReadError> {
        if let Some(pin) = pin
            && !self.pins.is_alive(pin)
        {
            return Err(ReadError::PinLost);
        }
        let pinned = pin.map(Pin::view);
        match (at, pinned) {
            (None, None) => Ok(View::Newest),
            (None, Some(view)) => Ok(view),
            (Some(at), Some(view)) if view == View::Upto(namespace, at) => Ok(view),
            (Some(at), _) => {
                self.check_answered(namespace, at)?;
                Ok(View::Upto(namespace, at))
            }
        }
    }

    /// The version of a key that a view shows, and the number of changes looked at for it.
    fn version_in<'a>(&'a self, head: &'a Head, view: View) -> (Option<&'a Record>, u64) {
        if view == View::Newest {
            return (head.live(), 0);
        }
        self.history
            .version_before(head.live(), head.position(), |position, entry| match view {
                View::Newest => true,
                View::Before(bound) => position < bound,
                View::Upto(namespace, revision) => {
                    entry.namespace != namespace || entry.revision <= revision
                }
            })
    }
}

impl Region {
    pub(super) fn of(query: &RangeQuery<'_>) -> Region {
        let low = query.prefix.max(query.start);
        let past_prefix = past_prefix(query.prefix);
        let high = match (query.end, past_prefix) {
            ([], past_prefix) => past_prefix,
            (end, None) => Some(end.to_vec()),
            (end, Some(past_prefix)) => Some(past_prefix.min(end.to_vec())),
        };
        Region {
            low: low.to_vec(),
            high,
        }
    }

    /// Leaves out what slices up to `from` have covered, with the whole of the subtree that `from` lies in.
    fn cut_to_rest(&mut self, query: &RangeQuery<'_>, from: &[u8]) {
        match query.direction {
            Direction::Forward => {
                let mut after = from.to_vec();
                after.push(0);
                self.raise_low(after);
            }
            Direction::Reverse => self.lower_high(from.to_vec()),
        }
        if let Some(subtree) = subtree_of(query, from) {
            self.cut_off(subtree, query.direction);
        }
    }

    /// Leaves out a subtree that the walk has come to, and what lies before it in the walk's order.
    pub(super) fn cut_off(&mut self, subtree: &[u8], direction: Direction) {
        match direction {
            Direction::Forward => match past_prefix(subtree) {
                Some(past) => self.raise_low(past),
                None => self.high = Some(self.low.clone()),
            },
            Direction::Reverse => self.lower_high(subtree.to_vec()),
        }
    }

    fn raise_low(&mut self, low: Vec<u8>) {
        if low > self.low {
            self.low = low;
        }
    }

    fn lower_high(&mut self, high: Vec<u8>) {
        if self.high.as_ref().is_none_or(|present| high < *present) {
            self.high = Some(high);
        }
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        key >= self.low.as_slice() && self.high.as_ref().is_none_or(|high| key < high.as_slice())
    }
}

impl<'a> Walk<'a> {
    pub(super) fn begin(keys: &'a KeyMap, region: &Region, direction: Direction) -> Walk<'a> {
        match direction {
            Direction::Forward => Walk::Forward(keys.forward_from(&region.low)),
            Direction::Reverse => Walk::Backward(keys.backward_before(region.high.as_deref())),
        }
    }

    fn next(&mut self, region: &Region) -> Option<&'a Head> {
        let head = match self {
            Walk::Forward(heads) => heads.next(),
            Walk::Backward(heads) => heads.next(),
        };
        head.filter(|head| region.contains(head.key()))
    }

    /// The next head that `is_wanted`, which is asked before the key is looked at.
    pub(super) fn next_where(
        &mut self,
        region: &Region,
        is_wanted: impl Fn(&Head) -> bool,
    ) -> Option<&'a Head> {
        let head = match self {
            Walk::Forward(heads) => heads.find(|head| is_wanted(head)),
            Walk::Backward(heads) => heads.find(|head| is_wanted(head)),
        };
        head.filter(|head| region.contains(head.key()))
    }
}

/// The subtree in which `key` lies: everything up to and including the first separator after the prefix. `None` for
/// keys that belong into the answer.
pub(super) fn subtree_of<'k>(query: &RangeQuery<'_>, key: &'k [u8]) -> Option<&'k [u8]> {
    let Scope::Children { separator } = query.scope else {
        return None;
    };
    let depth = query.prefix.len();
    let length = key
        .get(depth..)?
        .iter()
        .position(|byte| *byte == separator)?;
    Some(&key[..=depth + length])
}

/// The least key above every key that begins with `prefix`; `None` if there is none.
fn past_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut past = prefix[..=last].to_vec();
    past[last] += 1;
    Some(past)
}

/// The end of a slice that was cut short after `last`.
fn more_after(last: Option<&[u8]>) -> SliceEnd {
    match last {
        Some(last) => SliceEnd::More {
            resume_after: last.to_vec(),
        },
        None => panic!("a slice covers at least one key"),
    }
}
