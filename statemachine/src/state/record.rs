//! One version of a key, in one allocation.

use std::sync::Arc;

use crate::generated;
use crate::row::{ROW_BASE_BYTES, Row};
use crate::wire::{length_u32, length_usize};

/// A version of a key: the bytes of its [`Row`], shared between the map, where it is the newest, and the history,
/// which holds it as the result of one change and as what another replaced.
///
/// The row's form in memory is its form on the wire, so that answering is copying.
#[derive(Clone, Debug)]
pub(super) struct Record(Arc<[u8]>);

/// What an allocation of a record takes beyond its bytes: two reference counts, and the allocator's rounding.
pub(super) const RECORD_OVERHEAD_BYTES: u64 = 24;

impl Record {
    /// Makes the record of `row` with `appended` put behind its value. `scratch` saves an allocation.
    pub(super) fn build(row: &Row<'_>, appended: &[u8], scratch: &mut Vec<u8>) -> Record {
        let base = generated::RowBase::new(
            length_u32(row.key.len()),
            length_u32(row.value.len() + appended.len()),
            row.create_revision.0,
            row.mod_revision.0,
            row.version,
            row.lease,
        );
        scratch.clear();
        scratch.extend_from_slice(&base.0);
        scratch.extend_from_slice(row.key);
        scratch.extend_from_slice(row.value);
        scratch.extend_from_slice(appended);
        Record(Arc::from(scratch.as_slice()))
    }

    /// The record of a row that has been decoded from exactly these bytes.
    pub(super) fn from_row_bytes(bytes: &[u8]) -> Record {
        debug_assert_eq!(
            Row::decode(bytes).map(|(_, length)| length),
            Ok(bytes.len())
        );
        Record(Arc::from(bytes))
    }

    pub(super) fn row(&self) -> Row<'_> {
        match Row::decode(&self.0) {
            Ok((row, length)) => {
                debug_assert_eq!(length, self.0.len());
                row
            }
            Err(error) => panic!("a record is not a row: {error}"),
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        let length = u32::from_le_bytes([self.0[0], self.0[1], self.0[2], self.0[3]]);
        &self.0[ROW_BASE_BYTES..ROW_BASE_BYTES + length_usize(length)]
    }

    /// How many hold the version.
    pub(super) fn reference_count(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// The bytes of the row.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Length of the row's bytes. Does not touch them.
    pub(super) fn bytes_len(&self) -> u64 {
        self.0.len() as u64
    }
}
