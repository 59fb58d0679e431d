//! The items of sections, byte by byte.

use super::error::ImportFault;
use crate::command::CommandKind;
use crate::ids::{NamespaceId, Revision, ShardTime};
use crate::row::{Row, RowError};
use crate::state::{ChangePosition, Parameters};
use crate::wire::{Reader, Short, length_u32, length_usize};

/// Why the bytes at hand are not an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemError {
    /// They end inside it.
    Incomplete {
        /// Length that would have sufficed so far.
        needed: usize,
    },
    /// They are no item.
    Fault(ImportFault),
}

/// The only item of the first section.
///
/// ```text
///      0       1       2       3       4       5       6       7
///  0 | shard time in ms                                              |
///  8 | state hash                                                    |
/// 16 | position of the first change of the history, its floor        |
/// 24 | position that the next change takes                           |
/// 32 | namespaces                                                    |
/// 40 | live keys                                                     |
/// 48 | bytes of their rows                                           |
/// 56 | history: most revisions                                       |
/// 64 | history: most ms                                              |
/// 72 | history: most bytes                                           |
/// 80 | longest value that an append may make                         |
/// 88 | keys and changes that a transaction may look at               |
/// 96 | bytes of results that a transaction may have                  |
///104 | keys that one command deletes of a range                      |
///112 | keys that it looks at for that                                |
/// ```
///
/// * The positions stand here because the floor is folded into the hash: it must be the same number for ever.
/// * Namespaces, live keys and their bytes are what the other sections must come to: a check from end to end.
/// * The parameters are those that decided everything so far. They are a part of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) shard_time: ShardTime,
    pub(crate) state_hash: u64,
    pub(crate) floor: ChangePosition,
    pub(crate) next: ChangePosition,
    pub(crate) namespace_count: u64,
    pub(crate) key_count: u64,
    pub(crate) live_bytes: u64,
    pub(crate) parameters: Parameters,
}

/// A namespace.
///
/// ```text
///      0       1       2       3       4       5       6       7
///  0 | namespace                     | 0                             |
///  8 | revision of its last change                                   |
/// 16 | oldest revision that is answered                              |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamespaceItem {
    pub(crate) namespace: NamespaceId,
    pub(crate) revision: Revision,
    pub(crate) oldest: Revision,
}

/// A key as it was at the floor.
///
/// ```text
///      0       1       2       3       4       5       6       7
///  0 | namespace                     | row ...                       |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyItem<'a> {
    pub(crate) namespace: NamespaceId,
    pub(crate) key: &'a [u8],
    /// The bytes of the whole row.
    pub(crate) row_bytes: &'a [u8],
}

/// A change of the history.
///
/// ```text
///      0       1       2       3       4       5       6       7
///  0 | namespace                     | kind          | flags         |   flags: bit 0, the key was removed
///  8 | revision                                                      |
/// 16 | shard time in ms                                              |
/// 24 | row after it ...                                              |
/// or, where the key was removed:
/// 24 | key length                    | key ...                       |
/// ```
///
/// What the key was before is not here: the keys and the changes before this one say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChangeItem<'a> {
    pub(crate) namespace: NamespaceId,
    pub(crate) kind: CommandKind,
    pub(crate) revision: Revision,
    pub(crate) time: ShardTime,
    pub(crate) key: &'a [u8],
    /// The bytes of the row after the change; `None` where the key was removed.
    pub(crate) after: Option<&'a [u8]>,
}

/// Longest item that is read. A row has at most 4 KiB of key and 3 MiB of value, so this leaves room to grow, and a
/// length that is nonsense is found before the bytes are gathered.
const ITEM_BYTES_MAX: usize = 64 * 1024 * 1024;

/// No shard lives long enough to count this far. What claims more is refused where it is read, so that no arithmetic
/// behind it can overflow.
const NUMBER_MAX: u64 = u64::MAX / 4;

/// Length of the part of a change that each has.
const CHANGE_BASE_BYTES: usize = 24;

const FLAG_REMOVED: u16 = 1;

impl Counters {
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        let words = [
            self.shard_time.0,
            self.state_hash,
            self.floor.0,
            self.next.0,
            self.namespace_count,
            self.key_count,
            self.live_bytes,
            self.parameters.history_revisions_max,
            self.parameters.history_age_ms_max,
            self.parameters.history_bytes_max,
            self.parameters.value_bytes_max as u64,
            self.parameters.txn_visits_max,
            self.parameters.txn_answer_bytes_max as u64,
            self.parameters.sweep_keys_max,
            self.parameters.sweep_visits_max,
        ];
        for word in words {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<(Counters, usize), ItemError> {
        let mut reader = Reader::new(bytes);
        let counters = Counters {
            shard_time: ShardTime(reader.take_u64()?),
            state_hash: reader.take_u64()?,
            floor: ChangePosition(take_number(&mut reader)?),
            next: ChangePosition(take_number(&mut reader)?),
            namespace_count: reader.take_u64()?,
            key_count: reader.take_u64()?,
            live_bytes: reader.take_u64()?,
            parameters: Parameters {
                history_revisions_max: reader.take_u64()?,
                history_age_ms_max: reader.take_u64()?,
                history_bytes_max: reader.take_u64()?,
                value_bytes_max: take_length(&mut reader)?,
                txn_visits_max: reader.take_u64()?,
                txn_answer_bytes_max: take_length(&mut reader)?,
                sweep_keys_max: reader.take_u64()?,
                sweep_visits_max: reader.take_u64()?,
            },
        };
        let ends = [(1, counters.floor.0), (counters.floor.0, counters.next.0)];
        for (low, high) in ends {
            if low > high {
                return Err(ItemError::Fault(ImportFault::OutOfRange { number: high }));
            }
        }
        Ok((counters, reader.position()))
    }
}

impl NamespaceItem {
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.namespace.0.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.revision.0.to_le_bytes());
        out.extend_from_slice(&self.oldest.0.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<(NamespaceItem, usize), ItemError> {
        let mut reader = Reader::new(bytes);
        let namespace = NamespaceId(take_u32(&mut reader)?);
        let zero = take_u32(&mut reader)?;
        if zero != 0 {
            let number = u64::from(zero);
            return Err(ItemError::Fault(ImportFault::OutOfRange { number }));
        }
        let item = NamespaceItem {
            namespace,
            revision: Revision(take_number(&mut reader)?),
            oldest: Revision(reader.take_u64()?),
        };
        if item.oldest > item.revision {
            let revision = item.oldest;
            return Err(ItemError::Fault(ImportFault::WrongRevision { revision }));
        }
        Ok((item, reader.position()))
    }
}

impl<'a> KeyItem<'a> {
    /// Writes the item of a row.
    pub(crate) fn encode_into(namespace: NamespaceId, row: &Row<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&namespace.0.to_le_bytes());
        row.encode_into(out);
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<(KeyItem<'a>, usize), ItemError> {
        let mut reader = Reader::new(bytes);
        let namespace = NamespaceId(take_u32(&mut reader)?);
        let (row, row_bytes) = take_row(&mut reader, bytes)?;
        let item = KeyItem {
            namespace,
            key: row.key,
            row_bytes,
        };
        Ok((item, reader.position()))
    }
}

impl<'a> ChangeItem<'a> {
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        let flags = match self.after {
            Some(_) => 0,
            None => FLAG_REMOVED,
        };
        out.extend_from_slice(&self.namespace.0.to_le_bytes());
        out.extend_from_slice(&(self.kind as u16).to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.revision.0.to_le_bytes());
        out.extend_from_slice(&self.time.0.to_le_bytes());
        match self.after {
            Some(row_bytes) => out.extend_from_slice(row_bytes),
            None => {
                out.extend_from_slice(&length_u32(self.key.len()).to_le_bytes());
                out.extend_from_slice(self.key);
            }
        }
    }

    pub(crate) fn encoded_len(&self) -> usize {
        let result = match self.after {
            Some(row_bytes) => row_bytes.len(),
            None => size_of::<u32>() + self.key.len(),
        };
        CHANGE_BASE_BYTES + result
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<(ChangeItem<'a>, usize), ItemError> {
        let mut reader = Reader::new(bytes);
        let namespace = NamespaceId(take_u32(&mut reader)?);
        let number = u16::from_le_bytes(reader.take_array()?);
        let flags = u16::from_le_bytes(reader.take_array()?);
        let kind = CommandKind::from_number(number).filter(|kind| kind.changes_a_key());
        let Some(kind) = kind else {
            let fault = ImportFault::UnknownKind { kind: number };
            return Err(ItemError::Fault(fault));
        };
        let revision = Revision(reader.take_u64()?);
        let time = ShardTime(reader.take_u64()?);
        let (key, after) = match flags {
            0 => {
                let (row, row_bytes) = take_row(&mut reader, bytes)?;
                (row.key, Some(row_bytes))
            }
            FLAG_REMOVED => {
                let length = length_usize(take_u32(&mut reader)?);
                (reader.take(length)?, None)
            }
            flags => return Err(ItemError::Fault(ImportFault::UnknownFlags { flags })),
        };
        let item = ChangeItem {
            namespace,
            kind,
            revision,
            time,
            key,
            after,
        };
        Ok((item, reader.position()))
    }
}

impl From<ImportFault> for ItemError {
    fn from(fault: ImportFault) -> ItemError {
        ItemError::Fault(fault)
    }
}

impl From<Short> for ItemError {
    fn from(short: Short) -> ItemError {
        match check_item_length(short.needed) {
            Ok(()) => ItemError::Incomplete {
                needed: short.needed,
            },
            Err(fault) => ItemError::Fault(fault),
        }
    }
}

/// Whether an item may be that long.
pub(crate) fn check_item_length(length: usize) -> Result<(), ImportFault> {
    if length > ITEM_BYTES_MAX {
        return Err(ImportFault::TooLong {
            bytes: length as u64,
        });
    }
    Ok(())
}

/// The row at which the reader stands, and its bytes.
fn take_row<'a>(
    reader: &mut Reader<'a>,
    bytes: &'a [u8],
) -> Result<(Row<'a>, &'a [u8]), ItemError> {
    let start = reader.position();
    let (row, length) = Row::decode(&bytes[start..]).map_err(|error| match error {
        RowError::Truncated { needed, available } => ItemError::from(Short {
            needed: start.saturating_add(needed),
            available: start + available,
        }),
    })?;
    for number in [row.mod_revision.0, row.version] {
        check_number(number)?;
    }
    Ok((row, reader.take(length)?))
}

fn take_u32(reader: &mut Reader<'_>) -> Result<u32, ItemError> {
    Ok(u32::from_le_bytes(reader.take_array()?))
}

/// A number that counts something up.
fn take_number(reader: &mut Reader<'_>) -> Result<u64, ItemError> {
    let number = reader.take_u64()?;
    check_number(number)?;
    Ok(number)
}

/// A length of this host.
fn take_length(reader: &mut Reader<'_>) -> Result<usize, ItemError> {
    let number = reader.take_u64()?;
    usize::try_from(number).map_err(|_| ItemError::Fault(ImportFault::OutOfRange { number }))
}

fn check_number(number: u64) -> Result<(), ItemError> {
    if number > NUMBER_MAX {
        return Err(ItemError::Fault(ImportFault::OutOfRange { number }));
    }
    Ok(())
}
