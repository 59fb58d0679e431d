//! Reads of one key and of several: `get` and `get_many`, both ways.
//!
//! ```text
//!             0        1        2        3        4        5        6        7
//! get    0 | revision to read at, 0 for the newest                                 |
//!        8 | namespace                         | key length in bytes               |
//!       16 | consist.| zero                                                        |
//!       24 | key ...
//!
//! get_many   as above with the count of keys for the key's length; then per key
//!          | length in bytes                   | key ...
//!
//! reply  0 | revision read at                                                      |
//!        8 | shard                             | count                             |
//!       16 | get: `count` rows, none or one; get_many, in the order asked, per key
//!          | row length, 0 for an absent key   | row ...
//! ```

use crate::body::{Body, length_u32};
use crate::body_error::BodyError;
use crate::generated::layout::{GetBase, GetManyBase, ReadBase};
use crate::request::RequestLimits;
use metastore_statemachine::{GetQuery, NamespaceId, Revision, Row};

const _: () = assert!(size_of::<GetBase>() == 24);
const _: () = assert!(size_of::<GetManyBase>() == 24);
const _: () = assert!(size_of::<ReadBase>() == 16);

/// How fresh an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// It reflects every mutation that was answered before the read was sent.
    #[default]
    Linearizable,
    /// It may lag behind. Reserved: a server may answer linearizably.
    Stale,
}

impl Consistency {
    fn as_u8(self) -> u8 {
        match self {
            Consistency::Linearizable => 0,
            Consistency::Stale => 1,
        }
    }

    fn from_u8(number: u8) -> Result<Consistency, BodyError> {
        match number {
            0 => Ok(Consistency::Linearizable),
            1 => Ok(Consistency::Stale),
            found => Err(BodyError::FieldValue {
                field: "consistency",
                found: u64::from(found),
            }),
        }
    }
}

/// Revision 0 is before the first change, where there is nothing to read: on the wire it means the newest.
pub(crate) fn revision_to_wire(at: Option<Revision>) -> u64 {
    at.map_or(0, |revision| revision.0)
}

/// The reverse of [`revision_to_wire`].
pub(crate) fn revision_from_wire(at: u64) -> Option<Revision> {
    (at != 0).then_some(Revision(at))
}

/// Asks for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetRequest<'a> {
    /// What to read.
    pub query: GetQuery<'a>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

impl<'a> GetRequest<'a> {
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        let base = GetBase::new(
            revision_to_wire(self.query.at),
            self.query.namespace.0,
            length_u32(self.query.key.len()),
            self.consistency.as_u8(),
            0,
            0,
            0,
        );
        out.extend_from_slice(&base.0);
        out.extend_from_slice(self.query.key);
    }

    pub(crate) fn decode(
        bytes: &'a [u8],
        limits: &RequestLimits,
    ) -> Result<GetRequest<'a>, BodyError> {
        let mut body = Body::new(bytes);
        let base = GetBase(body.take_array()?);
        if base.zero_8() != 0 || base.zero_16() != 0 || base.zero_32() != 0 {
            return Err(BodyError::ReservedNotZero);
        }
        let key = take_key(&mut body, base.key_length(), limits)?;
        body.finish()?;
        Ok(GetRequest {
            query: GetQuery {
                namespace: NamespaceId(base.namespace_id()),
                key,
                at: revision_from_wire(base.at()),
            },
            consistency: Consistency::from_u8(base.consistency())?,
        })
    }
}

/// Asks for several keys of one shard at one revision.
#[derive(Debug, Clone, Copy)]
pub struct GetManyRequest<'a> {
    /// The namespace of all keys.
    pub namespace: NamespaceId,
    /// The revision to read at, the newest if none.
    pub at: Option<Revision>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
    /// How many keys are asked for.
    pub count: u32,
    /// The keys with their lengths, checked.
    keys: &'a [u8],
}

impl<'a> GetManyRequest<'a> {
    /// The keys in the order of the answer.
    pub fn keys(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut body = Body::new(self.keys);
        (0..self.count).map(move |_| {
            let length = body.take_u32().expect("lengths were checked by decode");
            body.take(length as usize)
                .expect("keys were checked by decode")
        })
    }

    /// The keys as they came in, checked: each a length and its bytes.
    pub fn key_bytes(&self) -> &'a [u8] {
        self.keys
    }

    pub(crate) fn encode_into(
        out: &mut Vec<u8>,
        namespace: NamespaceId,
        at: Option<Revision>,
        consistency: Consistency,
        keys: &[&[u8]],
    ) {
        let base = GetManyBase::new(
            revision_to_wire(at),
            namespace.0,
            length_u32(keys.len()),
            consistency.as_u8(),
            0,
            0,
            0,
        );
        out.extend_from_slice(&base.0);
        for key in keys {
            out.extend_from_slice(&length_u32(key.len()).to_le_bytes());
            out.extend_from_slice(key);
        }
    }

    pub(crate) fn decode(
        bytes: &'a [u8],
        limits: &RequestLimits,
    ) -> Result<GetManyRequest<'a>, BodyError> {
        let mut body = Body::new(bytes);
        let base = GetManyBase(body.take_array()?);
        if base.zero_8() != 0 || base.zero_16() != 0 || base.zero_32() != 0 {
            return Err(BodyError::ReservedNotZero);
        }
        let count = base.count();
        if count as usize > limits.get_many_keys_max {
            return Err(BodyError::TooMany {
                limit: limits.get_many_keys_max,
                actual: count as usize,
            });
        }
        let keys = body.rest();
        for _ in 0..count {
            let length = body.take_u32()?;
            take_key(&mut body, length, limits)?;
        }
        body.finish()?;
        Ok(GetManyRequest {
            namespace: NamespaceId(base.namespace_id()),
            at: revision_from_wire(base.at()),
            consistency: Consistency::from_u8(base.consistency())?,
            count,
            keys,
        })
    }
}

/// Takes a key that must not be empty nor longer than allowed.
fn take_key<'a>(
    body: &mut Body<'a>,
    length: u32,
    limits: &RequestLimits,
) -> Result<&'a [u8], BodyError> {
    let length = length as usize;
    if length == 0 {
        return Err(BodyError::KeyEmpty);
    }
    if length > limits.command.key_bytes_max {
        return Err(BodyError::KeyTooLarge {
            limit: limits.command.key_bytes_max,
            actual: length,
        });
    }
    body.take(length)
}

/// Where a read was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadPosition {
    /// The shard that answered.
    pub shard: u32,
    /// The revision of (shard, namespace) that the answer shows.
    pub revision: Revision,
}

/// The answer to `get`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetReply<'a> {
    /// Where it was read.
    pub position: ReadPosition,
    /// The key, if it is there.
    pub row: Option<Row<'a>>,
}

impl<'a> GetReply<'a> {
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        let count = u32::from(self.row.is_some());
        out.extend_from_slice(&read_base(self.position, count).0);
        if let Some(row) = &self.row {
            row.encode_into(out);
        }
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<GetReply<'a>, BodyError> {
        let mut body = Body::new(bytes);
        let base = ReadBase(body.take_array()?);
        let row = match base.count() {
            0 => None,
            1 => Some(take_row(&mut body)?),
            found => {
                return Err(BodyError::FieldValue {
                    field: "count",
                    found: u64::from(found),
                });
            }
        };
        body.finish()?;
        Ok(GetReply {
            position: position_of(&base),
            row,
        })
    }
}

/// The answer to `get_many`.
#[derive(Debug, Clone, Copy)]
pub struct GetManyReply<'a> {
    /// Where it was read.
    pub position: ReadPosition,
    /// How many keys were asked for.
    pub count: u32,
    /// Row lengths and rows, checked.
    rows: &'a [u8],
}

impl<'a> GetManyReply<'a> {
    /// For each key asked for, in that order, its row or nothing.
    pub fn rows(&self) -> impl Iterator<Item = Option<Row<'a>>> + use<'a> {
        let mut body = Body::new(self.rows);
        (0..self.count)
            .map(move |_| take_optional_row(&mut body).expect("rows were checked by decode"))
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<GetManyReply<'a>, BodyError> {
        let mut body = Body::new(bytes);
        let base = ReadBase(body.take_array()?);
        let rows = body.rest();
        for _ in 0..base.count() {
            take_optional_row(&mut body)?;
        }
        body.finish()?;
        Ok(GetManyReply {
            position: position_of(&base),
            count: base.count(),
            rows,
        })
    }
}

/// Writes the answer to `get_many`, one row after the other.
#[derive(Debug)]
pub struct GetManyWriter<'a> {
    out: &'a mut Vec<u8>,
    count: u32,
}

impl<'a> GetManyWriter<'a> {
    /// Runs `write`, which must give exactly as many rows as keys were asked for.
    pub(crate) fn encode_into(
        out: &'a mut Vec<u8>,
        position: ReadPosition,
        write: impl FnOnce(&mut GetManyWriter<'_>),
    ) {
        let start = out.len();
        out.extend_from_slice(&read_base(position, 0).0);
        let mut writer = GetManyWriter { out, count: 0 };
        write(&mut writer);
        let base = read_base(position, writer.count);
        out[start..start + base.0.len()].copy_from_slice(&base.0);
    }

    /// The next key's row, or that it is absent.
    pub fn row(&mut self, row: Option<&Row<'_>>) {
        let length = row.map_or(0, Row::encoded_len);
        self.out
            .extend_from_slice(&length_u32(length).to_le_bytes());
        if let Some(row) = row {
            row.encode_into(self.out);
        }
        self.count += 1;
    }

    /// The next key's row as it was encoded elsewhere; no bytes for an absent key.
    pub fn row_bytes(&mut self, row: &[u8]) {
        self.out
            .extend_from_slice(&length_u32(row.len()).to_le_bytes());
        self.out.extend_from_slice(row);
        self.count += 1;
    }
}

fn read_base(position: ReadPosition, count: u32) -> ReadBase {
    ReadBase::new(position.revision.0, position.shard, count)
}

fn position_of(base: &ReadBase) -> ReadPosition {
    ReadPosition {
        shard: base.shard(),
        revision: Revision(base.revision()),
    }
}

/// Takes the row that comes next.
pub(crate) fn take_row<'a>(body: &mut Body<'a>) -> Result<Row<'a>, BodyError> {
    let (row, length) = Row::decode(body.rest()).map_err(BodyError::Row)?;
    body.skip(length);
    Ok(row)
}

/// Takes a row's length and the row, which must have that length.
fn take_optional_row<'a>(body: &mut Body<'a>) -> Result<Option<Row<'a>>, BodyError> {
    let length = body.take_u32()?;
    if length == 0 {
        return Ok(None);
    }
    let mut item = Body::new(body.take(length as usize)?);
    let row = take_row(&mut item)?;
    item.finish()?;
    Ok(Some(row))
}
