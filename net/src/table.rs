//! FlatBuffers roots: verified once when read, finished into the caller's buffer when written.

use crate::body_error::{BodyError, TableFault};
use flatbuffers::{FlatBufferBuilder, Follow, Verifiable, VerifierOptions, WIPOffset};

/// How many tables one message may hold. The library's default of a million would let a short message cost seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TableBudget {
    /// A root and its few direct children: whatever a client sends, and short answers.
    Small,
    /// A root with lists: an error with its keys, status, the shard map.
    Lists,
}

impl TableBudget {
    fn tables_max(self) -> usize {
        match self {
            TableBudget::Small => 4,
            TableBudget::Lists => 65_536,
        }
    }
}

/// No message nests deeper than a list of tables with a list of structs.
const DEPTH_MAX: usize = 6;

/// The root of a body, verified.
pub(crate) fn read_root<'a, T>(body: &'a [u8], budget: TableBudget) -> Result<T::Inner, BodyError>
where
    T: Follow<'a> + Verifiable + 'a,
{
    let options = VerifierOptions {
        max_depth: DEPTH_MAX,
        max_tables: budget.tables_max(),
        // A sound writer refers to each part once or twice; more is an attempt to make the reader walk in circles.
        max_apparent_size: body.len().saturating_mul(2).saturating_add(64),
        ignore_missing_null_terminator: false,
    };
    flatbuffers::root_with_opts::<T>(&options, body).map_err(|invalid| BodyError::Table {
        fault: TableFault::from(&invalid),
    })
}

/// Appends the root that `build` makes to `out`.
pub(crate) fn append_root<'b, T: 'b>(
    out: &mut Vec<u8>,
    build: impl FnOnce(&mut FlatBufferBuilder<'b>) -> WIPOffset<T>,
) {
    let mut builder = FlatBufferBuilder::with_capacity(256);
    let root = build(&mut builder);
    builder.finish_minimal(root);
    out.extend_from_slice(builder.finished_data());
}
