//! Entries in the payload of a part.

use super::bytes::{put, u32_at, u64_at};
use crate::ids::Term;
use crate::part::EntryKind;

/// The length of the header in front of an entry's data.
pub const ENTRY_HEADER_BYTES: usize = 16;

/// One entry of a raft log, read in place.
///
/// ```text
///       0       1       2       3       4       5       6       7
///   0 | term                                                          |
///   8 | data length                   | kind  | 0     | 0     | 0     |
///  16 | data ...
/// ```
///
/// * kind: 0 data of the state machine, 1 a change of the members, 2 a leader's word about the state.
///
/// The next entry follows the data at once. The record's checksum covers it; its index follows from its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// The term it was proposed in.
    pub term: Term,
    /// What it means to raft.
    pub kind: EntryKind,
    /// Its data.
    pub data: &'a [u8],
}

/// The entries of one part, in order of their indexes. Their form has been checked before it is made.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    payload: &'a [u8],
    remaining: usize,
}

impl<'a> Entries<'a> {
    /// Checks that `payload` is exactly `count` entries; `None` when it is not.
    #[must_use]
    pub fn check(payload: &'a [u8], count: u32) -> Option<Self> {
        let mut rest = payload;
        for _ in 0..count {
            (_, rest) = split_entry(rest)?;
        }
        rest.is_empty().then_some(Self {
            payload,
            remaining: count as usize,
        })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = EntryRef<'a>;

    fn next(&mut self) -> Option<EntryRef<'a>> {
        if self.remaining == 0 {
            return None;
        }
        let (entry, rest) = split_entry(self.payload)?;
        self.payload = rest;
        self.remaining -= 1;
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Entries<'_> {}

/// The header that goes in front of an entry's data.
pub(super) fn encode_entry_header(
    term: Term,
    kind: EntryKind,
    data_bytes: u32,
) -> [u8; ENTRY_HEADER_BYTES] {
    let mut bytes = [0; ENTRY_HEADER_BYTES];
    put(&mut bytes, 0, term.0.to_le_bytes());
    put(&mut bytes, 8, data_bytes.to_le_bytes());
    bytes[12] = match kind {
        EntryKind::Normal => 0,
        EntryKind::ConfChange => 1,
        EntryKind::StateCheck => 2,
    };
    bytes
}

/// Appends the header that goes in front of `data_bytes` of data, for those who carry entries as the log holds them.
///
/// # Panics
/// When the data is longer than the format can say: every limit lies far below.
pub fn put_entry_header(out: &mut Vec<u8>, term: Term, kind: EntryKind, data_bytes: usize) {
    let Ok(data_bytes) = u32::try_from(data_bytes) else {
        panic!("an entry of {data_bytes} bytes does not fit the format");
    };
    out.extend_from_slice(&encode_entry_header(term, kind, data_bytes));
}

fn split_entry(payload: &[u8]) -> Option<(EntryRef<'_>, &[u8])> {
    let (header, rest) = payload.split_at_checked(ENTRY_HEADER_BYTES)?;
    let kind = match header[12..] {
        [0, 0, 0, 0] => EntryKind::Normal,
        [1, 0, 0, 0] => EntryKind::ConfChange,
        [2, 0, 0, 0] => EntryKind::StateCheck,
        _ => return None,
    };
    let (data, rest) = rest.split_at_checked(u32_at(header, 8) as usize)?;
    Some((
        EntryRef {
            term: Term(u64_at(header, 0)),
            kind,
            data,
        },
        rest,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back_and_others_are_not_entries() {
        let kinds = [
            EntryKind::Normal,
            EntryKind::ConfChange,
            EntryKind::StateCheck,
        ];
        for (code, kind) in (0..).zip(kinds) {
            let mut bytes = Vec::new();
            put_entry_header(&mut bytes, Term(7), kind, 3);
            bytes.extend_from_slice(b"abc");
            assert_eq!(bytes[12], code);
            let entries = Entries::check(&bytes, 1).expect("an entry");
            let expected = EntryRef {
                term: Term(7),
                kind,
                data: b"abc",
            };
            assert_eq!(entries.collect::<Vec<_>>(), [expected]);
            bytes[12] = 3;
            assert!(Entries::check(&bytes, 1).is_none());
        }
    }
}
