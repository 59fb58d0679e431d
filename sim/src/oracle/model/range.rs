//! Ranges in the model.

use metastore_net::blocking::OwnedRow;
use metastore_statemachine::{Direction, Revision};

use super::Model;
use crate::operation::RangeOf;

impl Model {
    /// The rows of a range at a revision, in the order asked for, common prefixes in place of what they stand for.
    #[must_use]
    pub fn range(&self, range: &RangeOf, at: Revision) -> Vec<OwnedRow> {
        let mut rows: Vec<OwnedRow> = Vec::new();
        for (key, row) in self.rows_at(at).filter(|(key, _)| range.matches(key)) {
            match range.rolled_up(key) {
                None => rows.push(row.with_key(key)),
                Some(prefix) if rows.last().is_some_and(|last| last.key == prefix) => {}
                Some(prefix) => rows.push(common_prefix(prefix)),
            }
        }
        if range.direction == Direction::Reverse {
            rows.reverse();
        }
        if range.limit > 0 {
            rows.truncate(usize::try_from(range.limit).expect("a small limit"));
        }
        rows
    }
}

/// The row that stands for all keys that begin alike.
fn common_prefix(prefix: &[u8]) -> OwnedRow {
    OwnedRow {
        key: prefix.to_vec(),
        value: Vec::new(),
        create_revision: Revision(0),
        mod_revision: Revision(0),
        version: 0,
        lease: 0,
    }
}
