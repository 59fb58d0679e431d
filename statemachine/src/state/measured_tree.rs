//! The map of a namespace on its own, to be measured beside others.

use super::history::ChangePosition;
use super::key_map::{Head, KeyMap};
use super::record::Record;
use crate::row::Row;

/// A map without a state around it.
#[derive(Debug)]
pub(crate) struct MeasuredTree {
    keys: KeyMap,
    scratch: Vec<u8>,
}

impl Default for MeasuredTree {
    fn default() -> MeasuredTree {
        MeasuredTree {
            keys: KeyMap::new(),
            scratch: Vec::new(),
        }
    }
}

impl MeasuredTree {
    pub(crate) fn put(&mut self, row: &Row<'_>) {
        let record = Record::build(row, &[], &mut self.scratch);
        let position = ChangePosition(1);
        match self.keys.get_mut(row.key) {
            Some(head) => {
                head.replace(record, position);
            }
            None => self.keys.insert(Head::new(record, position)),
        }
    }

    pub(crate) fn find(&self, key: &[u8]) -> Option<Row<'_>> {
        self.keys
            .get(key)
            .and_then(Head::live)
            .map(|record| record.row())
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.forward_from(b"").map(Head::key)
    }
}
