//! Reading the state: now, at a revision, or at a pin.

use super::StateMachine;
use super::history::ChangePosition;
use super::key_map::{Head, KeyMap};
use super::pins::{Pin, View};
use super::record::Record;
use super::region::{Covered, Region, common_prefix_of, subtree_of};
use super::walk::{Found, Walk};
use crate::command::CommandKind;
use crate::ids::{NamespaceId, Revision, ShardTime};
use crate::query::{GetQuery, Projection, RangeQuery, ReadError};
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
        /// Where to go on: pass it as `from` to the next call. It says nothing to anybody else.
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
    /// that names a revision wants a pin from [`StateMachine::pin_range`], or none and the risk that the history is
    /// compacted between slices.
    ///
    /// # Errors
    /// [`ReadError::Compacted`], [`ReadError::Future`], and with a pin [`ReadError::PinLost`].
    ///
    /// # Panics
    /// When the pin has passed keys of the slice: they may be gone.
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
            region.resume(from, query.direction);
        }
        let unread = pin.and_then(|pin| self.pins.unread(pin));
        assert!(
            unread.is_none_or(|unread| unread.covers(query.namespace, &region)),
            "a pin has passed what is read with it"
        );
        let mut walk = self.walk(&namespace.keys, query, &region, view);
        let (mut rows, mut bytes, mut visits) = (0, 0, 0);
        let mut covered = Covered::Nothing;
        while let Some(found) = walk.next(&region) {
            if visits >= slice.visits.max(1) || rows >= slice.rows.max(1) {
                return Ok(end_at(covered, query));
            }
            visits += found.visits;
            let key = found.key;
            if let Some(subtree) = subtree_of(query, key) {
                covered = Covered::Subtree(subtree);
                region.cut_off(subtree, query.direction);
                walk = self.walk(&namespace.keys, query, &region, view);
                continue;
            }
            let (version, steps) = self.version_of(&found, view);
            visits += steps;
            let Some(version) = version else {
                covered = Covered::Key(key);
                continue;
            };
            let common_prefix = common_prefix_of(query, key);
            let row = match (common_prefix, query.projection) {
                (Some(prefix), _) => Row::common_prefix(prefix),
                (None, Projection::KeysAndValues) => version.row(),
                (None, Projection::KeysOnly) => version.row().without_value(),
            };
            bytes += row.encoded_len() as u64;
            if rows > 0 && bytes > slice.bytes {
                return Ok(end_at(covered, query));
            }
            rows += 1;
            on_row(row);
            if rows == query.limit {
                return Ok(SliceEnd::Finished);
            }
            covered = Covered::Key(key);
            if let Some(prefix) = common_prefix {
                covered = Covered::Subtree(prefix);
                region.cut_off(prefix, query.direction);
                walk = self.walk(&namespace.keys, query, &region, view);
            }
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
            && self.pins.unread(pin).is_none()
        {
            return Err(ReadError::PinLost);
        }
        match (at, pin) {
            (None, None) => Ok(View::Newest),
            (None, Some(pin)) => Ok(View::Before(pin.bound())),
            (Some(at), Some(pin)) if pin.is_at(namespace, at) => Ok(View::Before(pin.bound())),
            (Some(at), _) => {
                self.check_answered(namespace, at)?;
                Ok(View::Upto(namespace, at))
            }
        }
    }

    /// Begins to walk through a region with what a view shows of it.
    fn walk<'a>(
        &'a self,
        keys: &'a KeyMap,
        query: &RangeQuery<'_>,
        region: &Region,
        view: View,
    ) -> Walk<'a> {
        let kept = match view {
            View::Before(bound) => Some((self.kept.of_region(query.namespace, region), bound)),
            View::Newest | View::Upto(..) => None,
        };
        Walk::begin(keys, kept, region, query.direction)
    }

    /// The version that a view shows of what a walk has found, and the number of changes looked at for it.
    fn version_of<'a>(&'a self, found: &Found<'a>, view: View) -> (Option<&'a Record>, u64) {
        match (found.kept, found.head) {
            // No reader sees two versions, and what is kept for it is the one.
            (Some(kept), _) => (Some(kept), 0),
            (None, Some(head)) => self.version_in(head, view),
            // It was deleted and is forgotten, and what is kept of it is for others.
            (None, None) => (None, 0),
        }
    }

    /// The version of a key that a view shows, and the number of changes looked at for it.
    fn version_in<'a>(&'a self, head: &'a Head, view: View) -> (Option<&'a Record>, u64) {
        let (newest, position) = (head.live(), head.position());
        match view {
            View::Newest => (newest, 0),
            View::Before(bound) => self.history.version_at(newest, position, bound),
            View::Upto(namespace, revision) => {
                self.history.version_before(newest, position, |_, entry| {
                    entry.namespace != namespace || entry.revision <= revision
                })
            }
        }
    }
}

/// The end of a slice that was cut short.
fn end_at(covered: Covered<'_>, query: &RangeQuery<'_>) -> SliceEnd {
    match covered.resume(query.direction) {
        Some(resume_after) => SliceEnd::More { resume_after },
        None => SliceEnd::Finished,
    }
}
