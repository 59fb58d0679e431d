//! Ranges within a transaction: what was seen, and that there was nothing else.

use crate::async_client::error::Error;
use crate::async_client::placement::Route;
use crate::async_client::transaction::buffer::OwnedRange;
use crate::async_client::transaction::{Ask, Entry, Transaction};
use crate::owned::OwnedRow;
use crate::range::ShardRevision;
use crate::read::ReadPosition;
use metastore_statemachine::{Direction, Revision, Scope};
use std::time::Duration;

/// A range read within a transaction. Made by [`Transaction::range`].
#[derive(Debug, Clone)]
#[must_use = "a range is read by `collect`"]
pub struct TransactionRange<'a> {
    transaction: Transaction,
    prefix: &'a [u8],
    start: &'a [u8],
    end: &'a [u8],
    scope: Scope,
    direction: Direction,
    limit: usize,
}

impl<'a> TransactionRange<'a> {
    pub(super) fn new(transaction: Transaction, prefix: &'a [u8]) -> TransactionRange<'a> {
        TransactionRange {
            transaction,
            prefix,
            start: &[],
            end: &[],
            scope: Scope::Subtree,
            direction: Direction::Forward,
            limit: 0,
        }
    }

    pub(super) fn prefix(&self) -> &'a [u8] {
        self.prefix
    }

    /// Only the entries of the directory: keys without a `/` behind the prefix.
    pub fn children(mut self) -> TransactionRange<'a> {
        self.scope = Scope::Children { separator: b'/' };
        self
    }

    /// Begins at this key, itself included.
    pub fn start(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> TransactionRange<'a> {
        self.start = key.as_ref();
        self
    }

    /// Ends before this key.
    pub fn end(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> TransactionRange<'a> {
        self.end = key.as_ref();
        self
    }

    /// Descending keys.
    pub fn reverse(mut self) -> TransactionRange<'a> {
        self.direction = Direction::Reverse;
        self
    }

    /// At most this many entries; 0 for all. What lies behind the last one does not become part of what was read.
    pub fn limit(mut self, entries: usize) -> TransactionRange<'a> {
        self.limit = entries;
        self
    }

    /// Reads the entries. That nothing else lies in the range is part of what was read: a key that somebody adds to it
    /// is a conflict.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub async fn collect(self) -> Result<Vec<Entry>, Error> {
        let transaction = &self.transaction;
        self.settle()?;
        let asked = OwnedRange {
            prefix: self.prefix.to_vec(),
            start: self.start.to_vec(),
            end: self.end.to_vec(),
            scope: self.scope,
        };
        // Own deletes take rows away from those that were asked for.
        let own = transaction.state().writes.count_in(&asked);
        let fetched_max = match self.limit {
            0 => 0,
            limit => limit + own,
        };
        let ask = Ask::Range {
            range: &self,
            limit: fetched_max as u64,
        };
        let rows = transaction.read(&ask).await?;
        let is_cut = fetched_max > 0 && rows.len() == fetched_max;
        let seen = match rows.last() {
            Some(last) if is_cut => asked.up_to(&last.key, self.direction),
            Some(_) | None => asked,
        };
        let mut state = transaction.state();
        state.reads.add_range(seen.clone())?;
        let mut entries = state.writes.over_range(&seen, rows, self.direction)?;
        if self.limit > 0 {
            entries.truncate(self.limit);
        }
        Ok(entries)
    }

    pub(super) async fn fetch(
        &self,
        at: Option<Revision>,
        left: Duration,
        limit: u64,
    ) -> Result<(ReadPosition, Vec<OwnedRow>), Error> {
        let client = &self.transaction.inner.client;
        let mut range = client
            .range(self.prefix)
            .start(self.start)
            .end(self.end)
            .limit(limit)
            .deadline(left);
        if let Scope::Children { separator } = self.scope {
            range = range.children_by(separator);
        }
        if self.direction == Direction::Reverse {
            range = range.reverse();
        }
        if let Some(revision) = at {
            range = range.at(revision);
        }
        let answer = range.collect().await?;
        let &[ShardRevision { shard, revision }] = answer.revisions.as_slice() else {
            return Err(self.transaction.cross_shard(self.prefix));
        };
        Ok((ReadPosition { shard, revision }, answer.rows))
    }

    /// As [`Transaction::settle`]; a range over several shards cannot be read at a revision of one.
    fn settle(&self) -> Result<(), Error> {
        let client = &self.transaction.inner.client;
        let namespaces = &client.shared.settings().namespaces;
        match Route::of_range(namespaces, client.namespace, self.prefix, self.scope) {
            Route::Slot(slot) => self.transaction.settle_in(slot, self.prefix),
            Route::Any if namespaces.rule(client.namespace).is_none() => Ok(()),
            Route::Any => {
                let placement = client.shared.placement();
                if placement.is_some_and(|map| map.shard_count() > 1) {
                    Err(self.transaction.cross_shard(self.prefix))
                } else {
                    Ok(())
                }
            }
        }
    }
}
