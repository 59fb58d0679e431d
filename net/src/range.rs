//! Ranges: a table asks, a stream of chunks answers.
//!
//! ```text
//!             0        1        2        3        4        5        6        7
//! chunk  0 | rows: count                       | revisions: count, 0 but in the last |
//!        8 | rows, back to back ...
//!          | then per shard read, in the last chunk:
//!          | revision                                                              |
//!          | shard                             | zero                              |
//! ```
//!
//! Every chunk but the last has the flag `MORE`. A stream that fails ends with an error in place of the last chunk:
//! the rows before it are right, but there may have been more.

use crate::body::{Body, length_u32};
use crate::body_error::BodyError;
use crate::generated::layout::{ChunkBase, ShardRevision as WireShardRevision};
use crate::generated::messages;
use crate::read::{revision_from_wire, revision_to_wire, take_row};
use crate::request::RequestLimits;
use crate::table::{TableBudget, append_root, read_root};
use metastore_statemachine::{
    Direction, NamespaceId, Projection, RangeQuery, Revision, Row, Scope, ShardList,
};

const _: () = assert!(size_of::<ChunkBase>() == 8);
const _: () = assert!(size_of::<WireShardRevision>() == 16);

/// Asks for the rows of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeRequest<'a> {
    /// What to read.
    pub query: RangeQuery<'a>,
    /// About how many bytes of rows one chunk shall have; 0 leaves it to the server, which may give less than asked.
    pub chunk_bytes: u32,
    /// Of which shards.
    pub shards: ShardList<'a>,
}

impl<'a> RangeRequest<'a> {
    /// Everything below `prefix`, in chunks as the server likes them.
    pub fn subtree(namespace: NamespaceId, prefix: &'a [u8]) -> RangeRequest<'a> {
        RangeRequest {
            query: RangeQuery {
                namespace,
                prefix,
                start: &[],
                end: &[],
                scope: Scope::Subtree,
                delimiter: None,
                direction: Direction::Forward,
                projection: Projection::KeysAndValues,
                at: None,
                limit: 0,
            },
            chunk_bytes: 0,
            shards: ShardList::ALL,
        }
    }

    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        let query = &self.query;
        let (scope, separator) = match query.scope {
            Scope::Subtree => (messages::Scope::Subtree, b'/'),
            Scope::Children { separator } => (messages::Scope::Children, separator),
        };
        append_root(out, |builder| {
            let prefix = Some(builder.create_vector(query.prefix));
            let start = Some(builder.create_vector(query.start));
            let end = Some(builder.create_vector(query.end));
            let named: Vec<u32> = self.shards.named().collect();
            let shards = (!named.is_empty()).then(|| builder.create_vector(&named));
            messages::RangeRequest::create(
                builder,
                &messages::RangeRequestArgs {
                    namespace_id: query.namespace.0,
                    prefix,
                    start,
                    end,
                    scope,
                    separator,
                    reverse: query.direction == Direction::Reverse,
                    keys_only: query.projection == Projection::KeysOnly,
                    at_revision: revision_to_wire(query.at),
                    limit: query.limit,
                    chunk_bytes: self.chunk_bytes,
                    delimiter: query.delimiter,
                    shards,
                },
            )
        });
    }

    pub(crate) fn decode(
        body: &'a [u8],
        limits: &RequestLimits,
    ) -> Result<RangeRequest<'a>, BodyError> {
        let table = read_root::<messages::RangeRequest<'a>>(body, TableBudget::Small)?;
        let scope = match table.scope() {
            messages::Scope::Subtree => Scope::Subtree,
            messages::Scope::Children => Scope::Children {
                separator: table.separator(),
            },
            messages::Scope(found) => {
                return Err(BodyError::FieldValue {
                    field: "scope",
                    found: u64::from(found),
                });
            }
        };
        let query = RangeQuery {
            namespace: NamespaceId(table.namespace_id()),
            prefix: bound(table.prefix(), limits)?,
            start: bound(table.start(), limits)?,
            end: bound(table.end(), limits)?,
            scope,
            delimiter: table.delimiter(),
            direction: if table.reverse() {
                Direction::Reverse
            } else {
                Direction::Forward
            },
            projection: if table.keys_only() {
                Projection::KeysOnly
            } else {
                Projection::KeysAndValues
            },
            at: revision_from_wire(table.at_revision()),
            limit: table.limit(),
        };
        Ok(RangeRequest {
            query,
            chunk_bytes: table.chunk_bytes(),
            shards: shard_list(table.shards())?,
        })
    }
}

fn shard_list<'a>(
    shards: Option<flatbuffers::Vector<'a, u32>>,
) -> Result<ShardList<'a>, BodyError> {
    let bytes = shards.map_or(&[][..], |vector| vector.bytes());
    ShardList::new(bytes).ok_or(BodyError::FieldValue {
        field: "shards",
        found: (bytes.len() / size_of::<u32>()) as u64,
    })
}

/// A bound may be one byte longer than a key: the first key behind a key of the greatest length.
fn bound<'a>(
    bytes: Option<flatbuffers::Vector<'a, u8>>,
    limits: &RequestLimits,
) -> Result<&'a [u8], BodyError> {
    let bytes = bytes.map_or(&[][..], |vector| vector.bytes());
    let limit = limits.command.key_bytes_max + 1;
    if bytes.len() > limit {
        return Err(BodyError::KeyTooLarge {
            limit,
            actual: bytes.len(),
        });
    }
    Ok(bytes)
}

/// The revision at which one shard was read, or that a command took there.
pub use metastore_statemachine::ShardRevision;

pub(crate) fn append_shard_revision(place: &ShardRevision, out: &mut Vec<u8>) {
    out.extend_from_slice(&WireShardRevision::new(place.revision.0, place.shard, 0).0);
}

pub(crate) fn take_shard_revision(body: &mut Body<'_>) -> Result<ShardRevision, BodyError> {
    let wire = WireShardRevision(body.take_array()?);
    if wire.zero_32() != 0 {
        return Err(BodyError::ReservedNotZero);
    }
    Ok(ShardRevision {
        shard: wire.shard(),
        revision: Revision(wire.revision()),
    })
}

/// Whether more of a range follows a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkEnd<'a> {
    /// Another chunk follows.
    More,
    /// The range is complete; it was read at these revisions.
    Last(&'a [ShardRevision]),
}

/// One part of a range's answer.
#[derive(Debug, Clone, Copy)]
pub struct RangeChunk<'a> {
    /// How many rows.
    pub count: u32,
    /// Whether this is the end of the range.
    pub is_last: bool,
    /// The rows, checked.
    rows: &'a [u8],
    /// The revisions, checked.
    revisions: &'a [u8],
}

impl<'a> RangeChunk<'a> {
    /// The rows in the order asked for.
    pub fn rows(&self) -> impl Iterator<Item = Row<'a>> + use<'a> {
        let mut body = Body::new(self.rows);
        (0..self.count).map(move |_| take_row(&mut body).expect("rows were checked by decode"))
    }

    /// In the last chunk: at which revision each shard was read. Otherwise empty.
    pub fn revisions(&self) -> impl Iterator<Item = ShardRevision> + use<'a> {
        let (layouts, _) = self.revisions.as_chunks();
        layouts.iter().map(|bytes| {
            let wire = WireShardRevision(*bytes);
            ShardRevision {
                shard: wire.shard(),
                revision: Revision(wire.revision()),
            }
        })
    }

    pub(crate) fn decode(bytes: &'a [u8], end: ChunkKind) -> Result<RangeChunk<'a>, BodyError> {
        let mut body = Body::new(bytes);
        let base = ChunkBase(body.take_array()?);
        let before = body.rest();
        for _ in 0..base.rows() {
            take_row(&mut body)?;
        }
        let rows = &before[..before.len() - body.rest().len()];
        if end == ChunkKind::More && base.revisions() != 0 {
            return Err(BodyError::FieldValue {
                field: "revisions",
                found: u64::from(base.revisions()),
            });
        }
        let revisions_bytes =
            (base.revisions() as usize).saturating_mul(size_of::<WireShardRevision>());
        let revisions = body.take(revisions_bytes)?;
        body.finish()?;
        let (layouts, _) = revisions.as_chunks();
        if layouts
            .iter()
            .any(|bytes| WireShardRevision(*bytes).zero_32() != 0)
        {
            return Err(BodyError::ReservedNotZero);
        }
        Ok(RangeChunk {
            count: base.rows(),
            is_last: end == ChunkKind::Last,
            rows,
            revisions,
        })
    }
}

/// What a chunk's frame says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkKind {
    More,
    Last,
}

/// Writes one chunk, row after row.
#[derive(Debug)]
pub struct ChunkWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Where the first row begins.
    rows_start: usize,
    count: u32,
}

impl<'a> ChunkWriter<'a> {
    pub(crate) fn encode_into(
        out: &'a mut Vec<u8>,
        end: ChunkEnd<'_>,
        write: impl FnOnce(&mut ChunkWriter<'_>),
    ) {
        let revisions = match end {
            ChunkEnd::More => &[][..],
            ChunkEnd::Last(revisions) => revisions,
        };
        let start = out.len();
        out.extend_from_slice(&ChunkBase::new(0, 0).0);
        let rows_start = out.len();
        let mut writer = ChunkWriter {
            out,
            rows_start,
            count: 0,
        };
        write(&mut writer);
        let count = writer.count;
        for place in revisions {
            append_shard_revision(place, out);
        }
        let base = ChunkBase::new(count, length_u32(revisions.len()));
        out[start..start + base.0.len()].copy_from_slice(&base.0);
    }

    /// Bytes of the rows written so far, for whoever cuts chunks by size.
    pub fn rows_bytes(&self) -> usize {
        self.out.len() - self.rows_start
    }

    /// The next row.
    pub fn row(&mut self, row: &Row<'_>) {
        row.encode_into(self.out);
        self.count += 1;
    }

    /// The next `count` rows, encoded elsewhere.
    pub fn row_bytes(&mut self, count: u32, rows: &[u8]) {
        self.out.extend_from_slice(rows);
        self.count += count;
    }
}
