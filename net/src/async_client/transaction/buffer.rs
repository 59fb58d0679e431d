//! What a transaction has read and written so far.

use crate::async_client::error::Error;
use crate::async_client::transaction::Entry;
use crate::owned::OwnedRow;
use metastore_statemachine::{CommandKind, Direction, KeyRange, STRUCTURED_BYTES_MAX, Scope};
use std::collections::{BTreeMap, BTreeSet};

/// What a key or range costs beyond its bytes, about.
const ITEM_BYTES: usize = 32;

/// A [`KeyRange`] with bytes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnedRange {
    pub(super) prefix: Vec<u8>,
    pub(super) start: Vec<u8>,
    pub(super) end: Vec<u8>,
    pub(super) scope: Scope,
}

impl OwnedRange {
    pub(super) fn as_range(&self) -> KeyRange<'_> {
        KeyRange {
            prefix: &self.prefix,
            start: &self.start,
            end: &self.end,
            scope: self.scope,
        }
    }

    /// The part of it that a reader has seen who stopped at `last`.
    pub(super) fn up_to(mut self, last: &[u8], direction: Direction) -> OwnedRange {
        match direction {
            Direction::Forward => {
                self.end = last.to_vec();
                // The first key behind the last.
                self.end.push(0);
            }
            Direction::Reverse => self.start = last.to_vec(),
        }
        self
    }
}

/// The keys and ranges that were read.
#[derive(Debug, Default)]
pub(super) struct ReadSet {
    pub(super) keys: BTreeSet<Vec<u8>>,
    pub(super) ranges: Vec<OwnedRange>,
    bytes: usize,
}

impl ReadSet {
    pub(super) fn add_key(&mut self, key: &[u8]) -> Result<(), Error> {
        if !self.keys.contains(key) {
            self.grow(key.len())?;
            self.keys.insert(key.to_vec());
        }
        Ok(())
    }

    pub(super) fn add_range(&mut self, range: OwnedRange) -> Result<(), Error> {
        if !self.ranges.contains(&range) {
            self.grow(range.prefix.len() + range.start.len() + range.end.len())?;
            self.ranges.push(range);
        }
        Ok(())
    }

    /// Whether a key's being changed would be a conflict.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        self.keys.contains(key)
            || self
                .ranges
                .iter()
                .any(|range| range.as_range().contains(key))
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes + ITEM_BYTES;
        check_size(self.bytes)
    }
}

pub(super) fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes > STRUCTURED_BYTES_MAX {
        return Err(Error::TooLarge {
            what: "the transaction",
            limit: STRUCTURED_BYTES_MAX,
            actual: bytes,
        });
    }
    Ok(())
}

/// A write of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mutation {
    pub(super) kind: CommandKind,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// The writes in order, and what they make of each key.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    pub(super) mutations: Vec<Mutation>,
    overlays: BTreeMap<Vec<u8>, Overlay>,
    bytes: usize,
}

/// What the writes so far make of a key.
#[derive(Debug)]
struct Overlay {
    base: Base,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Base {
    /// The key as the store has it.
    Stored,
    /// The key with this value, or without one.
    Written(Option<Vec<u8>>),
}

#[derive(Debug)]
enum Step {
    Add(i64),
    Append(Vec<u8>),
}

impl Overlay {
    /// The key's value where the store has `stored`.
    fn resolve(&self, stored: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, Error> {
        let mut value = match &self.base {
            Base::Stored => stored,
            Base::Written(written) => written.clone(),
        };
        for step in &self.steps {
            value = Some(step.apply(value)?);
        }
        Ok(value)
    }
}

impl Step {
    /// As the store does it: an absent counter becomes the operand, an absent value counts as empty.
    fn apply(&self, value: Option<Vec<u8>>) -> Result<Vec<u8>, Error> {
        match self {
            Step::Append(bytes) => {
                let mut value = value.unwrap_or_default();
                value.extend_from_slice(bytes);
                Ok(value)
            }
            Step::Add(operand) => {
                let before = match value {
                    None => 0,
                    Some(value) => {
                        let bytes = value.try_into().map_err(|_| Error::NotANumber)?;
                        i64::from_le_bytes(bytes)
                    }
                };
                let sum = before.checked_add(*operand).ok_or(Error::Overflow)?;
                Ok(sum.to_le_bytes().to_vec())
            }
        }
    }
}

impl WriteBuffer {
    /// Takes a write. Beyond the size that can be committed nothing more is kept; the commit will say so.
    pub(super) fn push(&mut self, kind: CommandKind, key: &[u8], value: &[u8]) {
        self.bytes = self
            .bytes
            .saturating_add(key.len() + value.len() + ITEM_BYTES);
        if self.check_size().is_err() {
            return;
        }
        self.mutations.push(Mutation {
            kind,
            key: key.to_vec(),
            value: value.to_vec(),
        });
        let overlay = self.overlays.entry(key.to_vec()).or_insert(Overlay {
            base: Base::Stored,
            steps: Vec::new(),
        });
        match kind {
            CommandKind::AddI64 => {
                let operand = value.try_into().expect("an operand has eight bytes");
                overlay.steps.push(Step::Add(i64::from_le_bytes(operand)));
            }
            CommandKind::Append => overlay.steps.push(Step::Append(value.to_vec())),
            CommandKind::Put => overlay.write(Some(value.to_vec())),
            CommandKind::Delete => overlay.write(None),
            CommandKind::MaxI64
            | CommandKind::MinI64
            | CommandKind::DeleteRange
            | CommandKind::Txn
            | CommandKind::Commit
            | CommandKind::Compact => unreachable!("a transaction does not offer them"),
        }
    }

    pub(super) fn check_size(&self) -> Result<(), Error> {
        check_size(self.bytes)
    }

    /// The value that the writes give a key whatever the store has, if they do.
    pub(super) fn known(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let overlay = self.overlays.get(key)?;
        match &overlay.base {
            Base::Written(written) if overlay.steps.is_empty() => Some(written.clone()),
            Base::Written(_) | Base::Stored => None,
        }
    }

    /// The writes to a key over what the store has.
    pub(super) fn over(
        &self,
        key: &[u8],
        stored: Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, Error> {
        match self.overlays.get(key) {
            Some(overlay) => overlay.resolve(stored),
            None => Ok(stored),
        }
    }

    /// How many written keys lie in a range.
    pub(super) fn count_in(&self, range: &OwnedRange) -> usize {
        let range = range.as_range();
        self.overlays
            .keys()
            .filter(|key| range.contains(key))
            .count()
    }

    /// The writes in a range over all that the store has there.
    pub(super) fn over_range(
        &self,
        range: &OwnedRange,
        rows: Vec<OwnedRow>,
        direction: Direction,
    ) -> Result<Vec<Entry>, Error> {
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> =
            rows.into_iter().map(|row| (row.key, row.value)).collect();
        let range = range.as_range();
        let inside = self.overlays.iter().filter(|(key, _)| range.contains(key));
        for (key, overlay) in inside {
            match overlay.resolve(merged.remove(key))? {
                Some(value) => merged.insert(key.clone(), value),
                None => None,
            };
        }
        let mut entries: Vec<Entry> = merged
            .into_iter()
            .map(|(key, value)| Entry { key, value })
            .collect();
        if direction == Direction::Reverse {
            entries.reverse();
        }
        Ok(entries)
    }
}

impl Overlay {
    fn write(&mut self, value: Option<Vec<u8>>) {
        self.base = Base::Written(value);
        self.steps.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_statemachine::Revision;

    fn row(key: &str, value: &str) -> OwnedRow {
        OwnedRow {
            key: key.into(),
            value: value.into(),
            create_revision: Revision(1),
            mod_revision: Revision(1),
            version: 1,
            lease: 0,
        }
    }

    fn range(prefix: &str) -> OwnedRange {
        OwnedRange {
            prefix: prefix.into(),
            start: Vec::new(),
            end: Vec::new(),
            scope: Scope::Children { separator: b'/' },
        }
    }

    fn keys(entries: &[Entry]) -> Vec<&str> {
        entries
            .iter()
            .map(|entry| std::str::from_utf8(&entry.key).unwrap())
            .collect()
    }

    #[test]
    fn reads_see_the_writes_before_them() {
        let mut writes = WriteBuffer::default();
        assert_eq!(writes.known(b"k"), None);
        writes.push(CommandKind::Append, b"k", b"b");
        assert_eq!(writes.known(b"k"), None, "it depends on the store");
        let over = writes.over(b"k", Some(b"a".to_vec()));
        assert_eq!(over.unwrap(), Some(b"ab".to_vec()));
        writes.push(CommandKind::Put, b"k", b"c");
        assert_eq!(writes.known(b"k"), Some(Some(b"c".to_vec())));
        writes.push(CommandKind::Append, b"k", b"d");
        let over = writes.over(b"k", Some(b"a".to_vec()));
        assert_eq!(over.unwrap(), Some(b"cd".to_vec()));
        writes.push(CommandKind::Delete, b"k", b"");
        assert_eq!(writes.known(b"k"), Some(None));
        writes.push(CommandKind::AddI64, b"k", &5_i64.to_le_bytes());
        writes.push(CommandKind::AddI64, b"k", &(-7_i64).to_le_bytes());
        let over = writes.over(b"k", None).unwrap();
        assert_eq!(over, Some((-2_i64).to_le_bytes().to_vec()));
        assert_eq!(writes.mutations.len(), 6);
        writes.push(CommandKind::AddI64, b"t", &1_i64.to_le_bytes());
        let text = writes.over(b"t", Some(b"text".to_vec()));
        assert!(matches!(text, Err(Error::NotANumber)));
    }

    #[test]
    fn ranges_see_the_writes_before_them() {
        let mut writes = WriteBuffer::default();
        writes.push(CommandKind::Put, b"/d/b", b"new");
        writes.push(CommandKind::Delete, b"/d/c", b"");
        writes.push(CommandKind::Put, b"/d/deep/x", b"");
        writes.push(CommandKind::Put, b"/e", b"");
        let rows = vec![row("/d/a", "1"), row("/d/c", "2"), row("/d/e", "3")];
        assert_eq!(writes.count_in(&range("/d/")), 2);
        let forward = writes.over_range(&range("/d/"), rows.clone(), Direction::Forward);
        assert_eq!(keys(&forward.unwrap()), ["/d/a", "/d/b", "/d/e"]);
        let reverse = writes.over_range(&range("/d/"), rows, Direction::Reverse);
        assert_eq!(keys(&reverse.unwrap()), ["/d/e", "/d/b", "/d/a"]);
    }

    #[test]
    fn what_lies_behind_the_last_row_was_not_read() {
        let forward = range("/d/").up_to(b"/d/m", Direction::Forward);
        let mut reads = ReadSet::default();
        reads.add_range(forward).unwrap();
        assert!(reads.covers(b"/d/a") && reads.covers(b"/d/m"));
        assert!(!reads.covers(b"/d/n") && !reads.covers(b"/d/m\0"));
        let reverse = range("/d/").up_to(b"/d/m", Direction::Reverse);
        let mut reads = ReadSet::default();
        reads.add_range(reverse).unwrap();
        assert!(reads.covers(b"/d/m") && reads.covers(b"/d/z"));
        assert!(!reads.covers(b"/d/l"));
    }

    #[test]
    fn a_transaction_has_a_size() {
        let mut writes = WriteBuffer::default();
        let value = vec![0; 1 << 20];
        writes.push(CommandKind::Put, b"a", &value);
        writes.push(CommandKind::Put, b"b", &value);
        assert!(writes.check_size().is_ok());
        writes.push(CommandKind::Put, b"c", &value);
        assert!(matches!(writes.check_size(), Err(Error::TooLarge { .. })));
        assert_eq!(writes.mutations.len(), 2);
        let mut reads = ReadSet::default();
        let refused = (0..1_000_000_u32).position(|n| reads.add_key(&n.to_le_bytes()).is_err());
        assert_eq!(refused, Some(STRUCTURED_BYTES_MAX / (4 + ITEM_BYTES)));
    }
}
