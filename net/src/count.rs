//! Counts: the table of a range asks, a number answers.
//!
//! ```text
//!             0        1        2        3        4        5        6        7
//! reply    0 | count                                                                 |
//!        8 | revisions: count                  | zero                              |
//!          | revision                                                              | per shard read
//!          | shard                             | zero                              |
//! ```

use crate::body::{Body, length_u32};
use crate::body_error::BodyError;
use crate::generated::layout::CountBase;
use crate::range::{RangeRequest, ShardRevision, append_shard_revision, take_shard_revision};
use crate::request::RequestLimits;
use metastore_statemachine::{RangeQuery, ShardList};

const _: () = assert!(size_of::<CountBase>() == 16);

/// Asks how many rows a range has. Its direction and projection change nothing, and it has no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountRequest<'a> {
    /// What to count.
    pub query: RangeQuery<'a>,
    /// In which shards.
    pub shards: ShardList<'a>,
}

impl<'a> CountRequest<'a> {
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        let range = RangeRequest {
            query: self.query,
            chunk_bytes: 0,
            shards: self.shards,
        };
        range.encode_into(out);
    }

    pub(crate) fn decode(
        body: &'a [u8],
        limits: &RequestLimits,
    ) -> Result<CountRequest<'a>, BodyError> {
        let RangeRequest { query, shards, .. } = RangeRequest::decode(body, limits)?;
        if query.limit != 0 {
            return Err(BodyError::FieldValue {
                field: "limit",
                found: query.limit,
            });
        }
        Ok(CountRequest { query, shards })
    }
}

/// How many rows a range has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountReply {
    /// Keys, and common prefixes where a delimiter was named.
    pub count: u64,
    /// At which revision each shard was counted.
    pub revisions: Vec<ShardRevision>,
}

impl CountReply {
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        let base = CountBase::new(self.count, length_u32(self.revisions.len()), 0);
        out.extend_from_slice(&base.0);
        for place in &self.revisions {
            append_shard_revision(place, out);
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<CountReply, BodyError> {
        let mut body = Body::new(bytes);
        let base = CountBase(body.take_array()?);
        if base.zero_32() != 0 {
            return Err(BodyError::ReservedNotZero);
        }
        // Nothing is allocated for what is not there: each revision is taken before the next is thought of.
        let revisions = (0..base.revisions())
            .map(|_| take_shard_revision(&mut body))
            .collect::<Result<Vec<_>, BodyError>>()?;
        body.finish()?;
        Ok(CountReply {
            count: base.count(),
            revisions,
        })
    }
}
