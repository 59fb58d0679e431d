//! One key as it is read.

use crate::generated;
use crate::ids::Revision;
use crate::wire::{Reader, Short, length_u32, length_usize};

/// Length of the part of a row before its key.
pub const ROW_BASE_BYTES: usize = size_of::<generated::RowBase>();

/// A key with its value and its history in numbers. In memory, on the wire and in files it has one form:
///
/// ```text
///      0                 4                 8
///    0 |   key length    |  value length   |
///    8 |          create revision          |   revision at which the key came into being
///   16 |            mod revision           |   revision of its last change
///   24 |              version              |   changes since it came into being, 1 at its creation
///   32 |               lease               |   0: none
///   40 |  key, then value, unpadded   ...  |
/// ```
///
/// Little-endian, at any byte offset, self-delimiting. A row of a query for keys only has an empty value; the
/// asker knows. A row with version 0 is a common prefix, in a range with a delimiter: it stands for many keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Revision at which the key came into being.
    pub create_revision: Revision,
    /// Revision of the key's last change.
    pub mod_revision: Revision,
    /// Changes since the key came into being; 1 at its creation, 0 for a common prefix.
    pub version: u64,
    /// The lease that the key hangs on, zero for none.
    pub lease: u64,
}

/// Why bytes are not a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The bytes end inside the row.
    #[error("the row needs {needed} bytes, there are {available}")]
    Truncated {
        /// Bytes that the parts seen so far need.
        needed: usize,
        /// Bytes present.
        available: usize,
    },
}

impl<'a> Row<'a> {
    /// Reads the row at the front of `bytes` and tells how many bytes it has.
    ///
    /// # Errors
    /// [`RowError::Truncated`].
    pub fn decode(bytes: &'a [u8]) -> Result<(Row<'a>, usize), RowError> {
        let mut reader = Reader::new(bytes);
        let base = generated::RowBase(reader.take_array()?);
        let row = Row {
            key: reader.take(length_usize(base.key_length()))?,
            value: reader.take(length_usize(base.value_length()))?,
            create_revision: Revision(base.create_revision()),
            mod_revision: Revision(base.mod_revision()),
            version: base.version(),
            lease: base.lease(),
        };
        Ok((row, reader.position()))
    }

    /// The row that stands for all keys that begin with `prefix` in a range with a delimiter.
    #[must_use]
    pub fn common_prefix(prefix: &'a [u8]) -> Row<'a> {
        Row {
            key: prefix,
            value: &[],
            create_revision: Revision(0),
            mod_revision: Revision(0),
            version: 0,
            lease: 0,
        }
    }

    /// Whether it stands for many keys, in a range with a delimiter.
    #[must_use]
    pub fn is_common_prefix(&self) -> bool {
        self.version == 0
    }

    /// Appends the row's bytes to `out`.
    ///
    /// # Panics
    /// When a length does not fit 32 bits.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let base = generated::RowBase::new(
            length_u32(self.key.len()),
            length_u32(self.value.len()),
            self.create_revision.0,
            self.mod_revision.0,
            self.version,
            self.lease,
        );
        out.reserve(self.encoded_len());
        out.extend_from_slice(&base.0);
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.value);
    }

    /// Length of the row's bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        ROW_BASE_BYTES + self.key.len() + self.value.len()
    }

    /// The row without its value.
    #[must_use]
    pub fn without_value(self) -> Row<'a> {
        Row { value: &[], ..self }
    }
}

impl From<Short> for RowError {
    fn from(short: Short) -> RowError {
        RowError::Truncated {
            needed: short.needed,
            available: short.available,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_bytes_of_the_format() {
        let golden: &[u8] = &[
            2, 0, 0, 0, 3, 0, 0, 0, // key length, value length
            0x11, 0, 0, 0, 0, 0, 0, 0, // create revision
            0x22, 0x01, 0, 0, 0, 0, 0, 0, // mod revision
            0x33, 0, 0, 0, 0, 0, 0, 0, // version
            0x44, 0, 0, 0, 0, 0, 0, 0x80, // lease
            b'/', b'k', b'v', b'a', b'l',
        ];
        let row = Row {
            key: b"/k",
            value: b"val",
            create_revision: Revision(0x11),
            mod_revision: Revision(0x122),
            version: 0x33,
            lease: 0x8000_0000_0000_0044,
        };
        let mut bytes = Vec::new();
        row.encode_into(&mut bytes);
        assert_eq!(bytes, golden);
        assert_eq!(bytes.len(), row.encoded_len());
        bytes.push(0);
        assert_eq!(Row::decode(&bytes), Ok((row, golden.len())));
        assert_eq!(
            Row::decode(&golden[..44]),
            Err(RowError::Truncated {
                needed: 45,
                available: 44
            })
        );
        assert_eq!(row.without_value().encoded_len(), 42);
    }
}
