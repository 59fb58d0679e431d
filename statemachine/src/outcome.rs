//! The answer to a command.

use crate::detail::{Detail, DetailError};
use crate::generated;
use crate::ids::Revision;
use crate::row::{Row, RowError};
use crate::wire::{Reader, Short, length_u32, length_usize};

/// Length of the part that every outcome has.
pub const OUTCOME_BASE_BYTES: usize = size_of::<generated::OutcomeBase>();

const FLAG_NUMBER: u16 = 1;
const FLAG_PREVIOUS: u16 = 2;
const FLAG_DETAIL: u16 = 4;

/// What a command did. It is also the wire form of its answer; the answer to a batch is its commands' outcomes back
/// to back.
///
/// ```text
///      0        2        4                 8
///    0 |  code  | flags  | previous length |   flags: 1 number is meant, 2 the previous row follows, 4 a detail follows
///    8 |             revision              |
///   16 |              number               |   i64, a counter's value or a count of keys, else 0
///   24 |      the previous row, if any ... |
///      |      the detail, if any       ... |   see Detail; only of commands with structure
/// ```
///
/// Little-endian, at any byte offset, self-delimiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// What happened.
    pub code: OutcomeCode,
    /// `Done`: the revision that the key has now, which is the one the command took if it changed anything; of a command
    /// with structure, the one it took, or the namespace's current one if it changed nothing.
    /// `Conflict`: the key's mod revision, 0 when it is absent; of a commit, the revision of the change that it ran into.
    /// `Compacted`: the oldest revision that is answered. Otherwise the namespace's current revision.
    pub revision: Revision,
    /// The counter's value after the command; of `delete_range`, how many keys were deleted.
    pub number: Option<i64>,
    /// The row as the command found it, if that was asked for and the key existed.
    pub previous: Option<Row<'a>>,
    /// What a command with structure has to say beyond that.
    pub detail: Option<Detail<'a>>,
}

/// How a command ended. Only `Done` may have changed anything.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutcomeCode {
    /// It did what it says.
    Done = 0,
    /// A delete found no key.
    Absent = 1,
    /// A condition on absence or revision did not hold.
    Conflict = 2,
    /// A counter command found a value that is not eight bytes long.
    NotANumber = 3,
    /// The sum does not fit an `i64`.
    Overflow = 4,
    /// The value would outgrow its limit.
    TooLarge = 5,
    /// What was read was read at a revision that the history no longer reaches.
    Compacted = 6,
    /// The revision has not happened.
    FutureRevision = 7,
    /// The transaction would look at more keys, or answer with more bytes, than one may.
    OverBudget = 8,
}

/// Why bytes are not an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutcomeError {
    /// The bytes end inside the outcome.
    #[error("the outcome needs {needed} bytes, there are {available}")]
    Truncated {
        /// Bytes that the parts seen so far need.
        needed: usize,
        /// Bytes present.
        available: usize,
    },
    /// The code is from a later version.
    #[error("unknown outcome code {code}")]
    UnknownCode {
        /// The number found.
        code: u16,
    },
    /// A flag is from a later version.
    #[error("unknown outcome flags {flags:#06x}")]
    UnknownFlags {
        /// The unknown bits.
        flags: u16,
    },
    /// The announced length of the previous row is not the row's own.
    #[error("the previous row has {actual} bytes, {announced} were announced")]
    PreviousLength {
        /// Length in the outcome.
        announced: usize,
        /// Length of the row, zero where none is announced by the flags.
        actual: usize,
    },
    /// A number where none is meant.
    #[error("the number {number} is not announced by the flags")]
    NumberNotAnnounced {
        /// The number found.
        number: i64,
    },
    /// The previous row is malformed.
    #[error("the previous row: {0}")]
    Previous(RowError),
    /// The detail is malformed.
    #[error("the detail: {0}")]
    Detail(DetailError),
}

impl<'a> Outcome<'a> {
    /// Reads the outcome at the front of `bytes` and tells how many bytes it has.
    ///
    /// # Errors
    /// Any [`OutcomeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<(Outcome<'a>, usize), OutcomeError> {
        Outcome::decode_with(bytes, FLAG_NUMBER | FLAG_PREVIOUS | FLAG_DETAIL)
    }

    /// [`Outcome::decode`] of one that must not have a detail.
    pub(crate) fn decode_plain(bytes: &'a [u8]) -> Result<(Outcome<'a>, usize), OutcomeError> {
        Outcome::decode_with(bytes, FLAG_NUMBER | FLAG_PREVIOUS)
    }

    fn decode_with(
        bytes: &'a [u8],
        known_flags: u16,
    ) -> Result<(Outcome<'a>, usize), OutcomeError> {
        let mut reader = Reader::new(bytes);
        let base = generated::OutcomeBase(reader.take_array()?);
        let Some(code) = OutcomeCode::from_number(base.code()) else {
            return Err(OutcomeError::UnknownCode { code: base.code() });
        };
        let unknown = base.flags() & !known_flags;
        if unknown != 0 {
            return Err(OutcomeError::UnknownFlags { flags: unknown });
        }
        let has_number = base.flags() & FLAG_NUMBER != 0;
        if !has_number && base.number() != 0 {
            return Err(OutcomeError::NumberNotAnnounced {
                number: base.number(),
            });
        }
        let announced = length_usize(base.previous_length());
        let previous_bytes = reader.take(announced)?;
        let (previous, actual) = if base.flags() & FLAG_PREVIOUS != 0 {
            let (row, length) = Row::decode(previous_bytes).map_err(OutcomeError::Previous)?;
            (Some(row), length)
        } else {
            (None, 0)
        };
        if actual != announced {
            return Err(OutcomeError::PreviousLength { announced, actual });
        }
        let mut length = reader.position();
        let detail = if base.flags() & FLAG_DETAIL != 0 {
            let (detail, detail_bytes) =
                Detail::decode(&bytes[length..]).map_err(OutcomeError::Detail)?;
            length += detail_bytes;
            Some(detail)
        } else {
            None
        };
        let number = has_number.then_some(base.number());
        let outcome = Outcome {
            code,
            revision: Revision(base.revision()),
            number,
            previous,
            detail,
        };
        Ok((outcome, length))
    }

    /// Appends the outcome's bytes to `out`.
    ///
    /// # Panics
    /// When a length does not fit 32 bits.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let number_flag = if self.number.is_some() {
            FLAG_NUMBER
        } else {
            0
        };
        let previous_flag = if self.previous.is_some() {
            FLAG_PREVIOUS
        } else {
            0
        };
        let detail_flag = if self.detail.is_some() {
            FLAG_DETAIL
        } else {
            0
        };
        let previous_bytes = self.previous.map_or(0, |row| row.encoded_len());
        let base = generated::OutcomeBase::new(
            self.code as u16,
            number_flag | previous_flag | detail_flag,
            length_u32(previous_bytes),
            self.revision.0,
            self.number.unwrap_or(0),
        );
        out.reserve(self.encoded_len());
        out.extend_from_slice(&base.0);
        if let Some(row) = self.previous {
            row.encode_into(out);
        }
        if let Some(detail) = self.detail {
            detail.encode_into(out);
        }
    }

    /// Length of the outcome's bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        OUTCOME_BASE_BYTES
            + self.previous.map_or(0, |row| row.encoded_len())
            + self.detail.map_or(0, |detail| detail.encoded_len())
    }
}

impl OutcomeCode {
    fn from_number(number: u16) -> Option<OutcomeCode> {
        match number {
            0 => Some(OutcomeCode::Done),
            1 => Some(OutcomeCode::Absent),
            2 => Some(OutcomeCode::Conflict),
            3 => Some(OutcomeCode::NotANumber),
            4 => Some(OutcomeCode::Overflow),
            5 => Some(OutcomeCode::TooLarge),
            6 => Some(OutcomeCode::Compacted),
            7 => Some(OutcomeCode::FutureRevision),
            8 => Some(OutcomeCode::OverBudget),
            _ => None,
        }
    }
}

impl From<Short> for OutcomeError {
    fn from(short: Short) -> OutcomeError {
        OutcomeError::Truncated {
            needed: short.needed,
            available: short.available,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row<'static> = Row {
        key: b"k",
        value: b"v",
        create_revision: Revision(5),
        mod_revision: Revision(6),
        version: 2,
        lease: 0,
    };

    fn encoded(outcome: &Outcome<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        outcome.encode_into(&mut bytes);
        assert_eq!(bytes.len(), outcome.encoded_len());
        bytes
    }

    #[test]
    fn an_outcome_without_parts_is_the_bytes_of_the_format() {
        let golden: &[u8] = &[
            2, 0, 0, 0, 0, 0, 0, 0, // code, flags, previous length
            0x11, 0x22, 0, 0, 0, 0, 0, 0, // revision
            0, 0, 0, 0, 0, 0, 0, 0, // number
        ];
        let outcome = Outcome {
            code: OutcomeCode::Conflict,
            revision: Revision(0x2211),
            number: None,
            previous: None,
            detail: None,
        };
        assert_eq!(encoded(&outcome), golden);
        assert_eq!(Outcome::decode(golden), Ok((outcome, golden.len())));
    }

    #[test]
    fn an_outcome_with_every_part_is_the_bytes_of_the_format() {
        let golden: &[u8] = &[
            0, 0, 3, 0, 42, 0, 0, 0, // code, flags, previous length
            7, 0, 0, 0, 0, 0, 0, 0, // revision
            0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // number
            1, 0, 0, 0, 1, 0, 0, 0, // the row: key length, value length
            5, 0, 0, 0, 0, 0, 0, 0, // create revision
            6, 0, 0, 0, 0, 0, 0, 0, // mod revision
            2, 0, 0, 0, 0, 0, 0, 0, // version
            0, 0, 0, 0, 0, 0, 0, 0, // lease
            b'k', b'v',
        ];
        let outcome = Outcome {
            code: OutcomeCode::Done,
            revision: Revision(7),
            number: Some(-2),
            previous: Some(ROW),
            detail: None,
        };
        assert_eq!(encoded(&outcome), golden);
        assert_eq!(Outcome::decode(golden), Ok((outcome, golden.len())));
    }

    #[test]
    fn every_code_has_its_number() {
        let codes = [
            OutcomeCode::Done,
            OutcomeCode::Absent,
            OutcomeCode::Conflict,
            OutcomeCode::NotANumber,
            OutcomeCode::Overflow,
            OutcomeCode::TooLarge,
            OutcomeCode::Compacted,
            OutcomeCode::FutureRevision,
            OutcomeCode::OverBudget,
        ];
        for (number, code) in (0..).zip(codes) {
            let outcome = Outcome {
                code,
                revision: Revision(1),
                number: None,
                previous: None,
                detail: None,
            };
            let bytes = encoded(&outcome);
            assert_eq!(bytes[0], number);
            assert_eq!(Outcome::decode(&bytes), Ok((outcome, bytes.len())));
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let outcome = Outcome {
            code: OutcomeCode::Done,
            revision: Revision(7),
            number: Some(1),
            previous: Some(ROW),
            detail: None,
        };
        let bytes = encoded(&outcome);
        let changed = |index: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[index] = value;
            Outcome::decode(&bytes).map(|_| ())
        };
        assert_eq!(changed(0, 9), Err(OutcomeError::UnknownCode { code: 9 }));
        assert_eq!(changed(2, 11), Err(OutcomeError::UnknownFlags { flags: 8 }));
        assert_eq!(
            changed(2, 2),
            Err(OutcomeError::NumberNotAnnounced { number: 1 })
        );
        assert_eq!(
            changed(2, 1),
            Err(OutcomeError::PreviousLength {
                announced: 42,
                actual: 0
            })
        );
        assert_eq!(
            changed(4, 43),
            Err(OutcomeError::Truncated {
                needed: 67,
                available: 66
            })
        );
        assert_eq!(
            changed(28, 0),
            Err(OutcomeError::PreviousLength {
                announced: 42,
                actual: 41
            })
        );
        let short = RowError::Truncated {
            needed: 43,
            available: 42,
        };
        assert_eq!(changed(28, 2), Err(OutcomeError::Previous(short)));
    }
}
