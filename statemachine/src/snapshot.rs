//! What a snapshot of a shard's state consists of: sections of items, as bytes.
//!
//! A snapshot holds the state at the **floor** of the history, and then every change from the floor to the pin. What
//! is loaded is therefore the state that was exported, with its past, and not only its newest versions: it answers
//! the same reads at a revision, compacts at the same commands, and has the same hash ever after.
//!
//! ```text
//! counters    | one item: time, hash, where the changes lie, parameters, totals to check against |
//! namespaces  | namespace | namespace | ...        ascending
//! keys        | row | row | row | ...              the versions below the floor, ascending by namespace and key
//! history     | change | change | ...              from the floor to the pin, in order
//! ```
//!
//! A section is a stream of items without anything between them; whoever stores it may cut it anywhere. Little-endian,
//! nothing aligned.
//!
//! It does **not** check that bytes are those that were written, does not compress and does no input or output: the
//! file's format does, in the engine. [`StateMachine::begin_export`](crate::StateMachine::begin_export) and
//! [`SnapshotImport`](crate::SnapshotImport) walk the state.

mod error;
mod item;
mod section;

pub use error::{ImportError, ImportFault};
pub(crate) use item::{ChangeItem, Counters, ItemError, KeyItem, NamespaceItem, check_item_length};
pub use section::SectionTag;
