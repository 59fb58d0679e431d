//! The messages of etcd that the load needs, as protobuf bytes.
//!
//! A message is a sequence of fields in any order; numbers are little-endian groups of seven bits, each but the last
//! marked by its highest bit:
//!
//! ```text
//!   0        1        2 ...
//! | number and type   | value ...
//!   number << 3 | 0   : a number
//!   number << 3 | 2   : a length, and so many bytes: text, or a message
//! ```
//!
//! A field that is absent has the value zero, or no bytes. Fields that are not known here are skipped. The numbers are
//! those of `etcdserverpb/rpc.proto` and `mvccpb/kv.proto`.

use super::super::{Page, Puts};
use metastore_statemachine::Revision;

/// What a range finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct RangeAnswer<'a> {
    pub(super) rows: u64,
    pub(super) first: Option<KeyValue<'a>>,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct KeyValue<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) mod_revision: Revision,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TxnAnswer {
    /// Whether its compares were true.
    pub(super) succeeded: bool,
    /// Operations that were answered.
    pub(super) operations: u64,
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("a message of etcd ends within a field")]
    Truncated,
    #[error("a message of etcd has a number of more than 64 bits")]
    LongNumber,
    #[error("a message of etcd has a field of type {wire_type}")]
    WireType { wire_type: u64 },
    #[error("field {field} of a message of etcd is of another type")]
    FieldType { field: u64 },
}

// Requests.

/// `PutRequest`: 1 key, 2 value.
pub(super) fn append_put(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    append_bytes(out, 1, key);
    append_bytes(out, 2, value);
}

fn put_length(key: &[u8], value: &[u8]) -> usize {
    bytes_length(key.len()) + bytes_length(value.len())
}

/// `RangeRequest` of one key: 1 key. It is linearizable unless field 7, `serializable`, says otherwise.
pub(super) fn append_get(out: &mut Vec<u8>, key: &[u8]) {
    append_bytes(out, 1, key);
}

/// `RangeRequest` of a page: 1 key, 2 end, 3 limit.
pub(super) fn append_page(out: &mut Vec<u8>, page: &Page<'_>) {
    append_bytes(out, 1, page.from.max(page.directory));
    append_bytes(out, 2, &prefix_end(page.directory));
    append_number(out, 3, page.rows_max);
}

/// `TxnRequest` of one compare and one put: 1 compare, 2 operation if it is true.
///
/// `Compare`: 1 result (0, equal, and so absent), 2 target (2, the revision of the last change), 3 key, 6 that revision.
pub(super) fn append_swap(out: &mut Vec<u8>, key: &[u8], value: &[u8], revision: Revision) {
    let mut compare = Vec::with_capacity(key.len() + 16);
    append_number(&mut compare, 2, 2);
    append_bytes(&mut compare, 3, key);
    append_number(&mut compare, 6, revision.0);
    append_bytes(out, 1, &compare);
    append_put_operation(out, key, value);
}

/// `TxnRequest` of puts alone: 2 operation, as often as there are puts.
pub(super) fn append_puts(out: &mut Vec<u8>, puts: &Puts<'_>) {
    for (key, value) in puts.iter() {
        append_put_operation(out, key, value);
    }
}

/// `LeaseGrantRequest`: 1 its time to live. Etcd chooses its id.
pub(super) fn append_lease_grant(out: &mut Vec<u8>, seconds: u64) {
    append_number(out, 1, seconds);
}

/// Field 2 of `TxnRequest`, a `RequestOp`: 2 put.
fn append_put_operation(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let put_bytes = put_length(key, value);
    append_head(out, 2, bytes_length(put_bytes));
    append_head(out, 2, put_bytes);
    append_put(out, key, value);
}

/// The first key behind all that begin with `prefix`; a zero byte, which means the end of all keys, if there is none.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|&byte| byte != u8::MAX);
    let Some(last) = kept else {
        return vec![0];
    };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end
}

// Answers.

/// `RangeResponse`: 2 row, as often as there are rows.
pub(super) fn read_range(message: &[u8]) -> Result<RangeAnswer<'_>, MessageError> {
    let mut answer = RangeAnswer::default();
    for field in Fields(message) {
        if let (2, value) = field? {
            let row = read_row(value.bytes(2)?)?;
            answer.first.get_or_insert(row);
            answer.rows += 1;
        }
    }
    Ok(answer)
}

/// `KeyValue`: 1 key, 3 revision of the last change, 5 value.
fn read_row(message: &[u8]) -> Result<KeyValue<'_>, MessageError> {
    let mut row = KeyValue::default();
    for field in Fields(message) {
        match field? {
            (1, value) => row.key = value.bytes(1)?,
            (3, value) => row.mod_revision = Revision(value.number(3)?),
            (5, value) => row.value = value.bytes(5)?,
            _ => {}
        }
    }
    Ok(row)
}

/// `TxnResponse`: 2 whether the compares were true, 3 answer to an operation, as often as there are operations.
pub(super) fn read_txn(message: &[u8]) -> Result<TxnAnswer, MessageError> {
    let mut answer = TxnAnswer::default();
    for field in Fields(message) {
        match field? {
            (2, value) => answer.succeeded = value.number(2)? != 0,
            (3, value) => {
                let _operation = value.bytes(3)?;
                answer.operations += 1;
            }
            _ => {}
        }
    }
    Ok(answer)
}

/// `PutResponse` or `LeaseGrantResponse`, of which nothing is needed: it only must be a message.
pub(super) fn check_message(message: &[u8]) -> Result<(), MessageError> {
    Fields(message).try_for_each(|field| field.map(|_| ()))
}

// Fields.

const NUMBER: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const BYTES: u64 = 2;
const FOUR_BYTES: u64 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn number(self, field: u64) -> Result<u64, MessageError> {
        if let Value::Number(number) = self {
            Ok(number)
        } else {
            Err(MessageError::FieldType { field })
        }
    }

    fn bytes(self, field: u64) -> Result<&'a [u8], MessageError> {
        if let Value::Bytes(bytes) = self {
            Ok(bytes)
        } else {
            Err(MessageError::FieldType { field })
        }
    }
}

/// The fields of a message, each with its number. It ends with the first error.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.take_field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn take_field(&mut self) -> Result<(u64, Value<'a>), MessageError> {
        let head = self.take_number()?;
        let value = match head & 7 {
            NUMBER => Value::Number(self.take_number()?),
            EIGHT_BYTES => Value::Bytes(self.take(8)?),
            BYTES => {
                let length = self.take_number()?;
                Value::Bytes(self.take(length)?)
            }
            FOUR_BYTES => Value::Bytes(self.take(4)?),
            wire_type => return Err(MessageError::WireType { wire_type }),
        };
        Ok((head >> 3, value))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], MessageError> {
        let length = usize::try_from(length).map_err(|_| MessageError::Truncated)?;
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(MessageError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn take_number(&mut self) -> Result<u64, MessageError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(MessageError::Truncated)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return Err(MessageError::LongNumber);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(MessageError::LongNumber)
    }
}

fn append_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn append_number(out: &mut Vec<u8>, field: u8, number: u64) {
    append_varint(out, u64::from(field) << 3 | NUMBER);
    append_varint(out, number);
}

/// What stands before the bytes of a field.
fn append_head(out: &mut Vec<u8>, field: u8, length: usize) {
    append_varint(out, u64::from(field) << 3 | BYTES);
    append_varint(out, length as u64);
}

fn append_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    append_head(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// The length of a field of bytes with a number below 16: its head's first byte, its length, and the bytes.
fn bytes_length(length: usize) -> usize {
    let bits = u64::BITS - (length as u64 | 1).leading_zeros();
    1 + bits.div_ceil(7) as usize + length
}

#[cfg(test)]
mod tests;
