//! The maps between which the choice was, for whoever wants to measure it again.
//!
//! Not for use: the state has its map inside. It reads no clock; the caller does.

use std::collections::BTreeMap;

use crate::ids::Revision;
use crate::row::Row;
use crate::state::MeasuredTree;

/// An ordered map from keys to rows.
pub trait OrderedMap: Default {
    /// Its name in reports.
    const NAME: &'static str;

    /// Puts a row under its key.
    fn put(&mut self, row: &Row<'_>);

    /// The length of the value of a key.
    fn find(&self, key: &[u8]) -> Option<usize>;

    /// Adds up the lengths of all keys, in their order.
    fn walk(&self) -> u64;
}

/// The map of the state: a B+ tree with words of the keys in its nodes.
#[derive(Debug, Default)]
pub struct Tree(MeasuredTree);

/// The standard library's map, with the same rows in it.
#[derive(Debug, Default)]
pub struct Standard(BTreeMap<Box<[u8]>, Box<[u8]>>);

impl OrderedMap for Tree {
    const NAME: &'static str = "B+ tree with words";

    fn put(&mut self, row: &Row<'_>) {
        self.0.put(row);
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        self.0.find(key).map(|row| row.value.len())
    }

    fn walk(&self) -> u64 {
        self.0.keys().map(|key| key.len() as u64).sum()
    }
}

impl OrderedMap for Standard {
    const NAME: &'static str = "BTreeMap";

    fn put(&mut self, row: &Row<'_>) {
        let mut bytes = Vec::with_capacity(row.encoded_len());
        row.encode_into(&mut bytes);
        self.0.insert(row.key.into(), bytes.into());
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        self.0.get(key).map(|bytes| match Row::decode(bytes) {
            Ok((row, _)) => row.value.len(),
            Err(error) => panic!("what was put is a row: {error}"),
        })
    }

    fn walk(&self) -> u64 {
        self.0.keys().map(|key| key.len() as u64).sum()
    }
}

/// The row that a measurement puts under a key.
#[must_use]
pub fn row_of<'a>(key: &'a [u8], value: &'a [u8]) -> Row<'a> {
    Row {
        key,
        value,
        create_revision: Revision(1),
        mod_revision: Revision(1),
        version: 1,
        lease: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill<M: OrderedMap>() -> (u64, Option<usize>, Option<usize>) {
        let mut map = M::default();
        for round in 0..2_usize {
            for number in 0..1_000_u64 {
                let key = (number * 7_919 % 1_000).to_le_bytes();
                map.put(&row_of(&key, &vec![0; round]));
            }
        }
        (
            map.walk(),
            map.find(&5_u64.to_le_bytes()),
            map.find(b"none"),
        )
    }

    #[test]
    fn both_maps_hold_what_is_put_into_them() {
        assert_eq!(fill::<Tree>(), (8_000, Some(1), None));
        assert_eq!(fill::<Standard>(), fill::<Tree>());
    }
}
