//! What can be asked of the state.

use crate::ids::{NamespaceId, Revision};

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetQuery<'a> {
    /// The keyspace.
    pub namespace: NamespaceId,
    /// The key.
    pub key: &'a [u8],
    /// The revision to read at; `None` for the newest.
    pub at: Option<Revision>,
}

/// The keys that begin with `prefix` and lie within [`start`, `end`), as `scope` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeQuery<'a> {
    /// The keyspace.
    pub namespace: NamespaceId,
    /// What every key of the answer begins with; empty for no condition.
    pub prefix: &'a [u8],
    /// The first key that may be in the answer; empty for the beginning of the prefix.
    pub start: &'a [u8],
    /// The first key past the answer; empty for the end of the prefix.
    pub end: &'a [u8],
    /// How deep to go below the prefix.
    pub scope: Scope,
    /// With a byte here, all keys that have it behind the prefix are rolled up: one row stands for every key that
    /// begins alike up to and including the first of it. That row has this common prefix as its key, an empty value,
    /// and 0 for its revisions, version and lease, which no key has.
    pub delimiter: Option<u8>,
    /// The order of the answer.
    pub direction: Direction,
    /// What to tell of each key.
    pub projection: Projection,
    /// The revision to read at; `None` for the newest, or the pin's.
    pub at: Option<Revision>,
    /// The most rows that the answer may have, 0 for no limit. Who reads on after a slice subtracts what it has got.
    pub limit: u64,
}

/// How deep a range goes below its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every key.
    Subtree,
    /// Only keys without a separator after the prefix, as the entries of a directory. Deeper keys are passed over
    /// without looking at each.
    Children {
        /// The byte that parts levels, such as `/`.
        separator: u8,
    },
}

/// The order of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Reverse,
}

/// What a range tells of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projection {
    /// Everything.
    KeysAndValues,
    /// Everything but the value, which is left empty.
    KeysOnly,
}

/// Why a read cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The history no longer reaches that far back.
    #[error("the history begins at revision {oldest}")]
    Compacted {
        /// The oldest revision that is answered.
        oldest: Revision,
    },
    /// The revision has not happened.
    #[error("the newest revision is {current}")]
    Future {
        /// The newest revision.
        current: Revision,
    },
    /// The pin held too much for too long and was broken.
    #[error("the read took too long and lost its place")]
    PinLost,
}
