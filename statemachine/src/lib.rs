//! The deterministic state of one shard: the formats of commands, batches, outcomes and rows, the rule by which a key
//! finds its slot, and the multi-version map that applies commands.
//!
//! It reads the log and nothing else. It does **not** contain raft, input or output, a clock, randomness, threads
//! or async; it does not compress, does not checksum what it is given, and does not decide who may write. The same
//! batches give the same outcomes, the same rows and the same [`StateMachine::state_hash`] on every replica.
//!
//! A mutation lives here from end to end:
//!
//! 1. [`Command::check`] at the edge: every rule, once. From then on the command stays the bytes it came as.
//! 2. [`BatchBuilder`] gathers commands into the payload of one raft entry.
//! 3. [`StateMachine::apply`] applies a committed [`Batch`] in order and hands out one [`Outcome`] a command.
//! 4. [`StateMachine::get`] and [`StateMachine::range`] answer with [`Row`]s, now, at a revision, or at a [`Pin`].

mod batch;
mod command;
mod detail;
pub mod fuzz;
mod generated;
mod ids;
pub mod measure;
mod outcome;
mod query;
mod routing;
mod row;
mod shard_list;
mod snapshot;
mod state;
mod structured;
mod wire;

pub use batch::{BATCH_HEADER_BYTES, Batch, BatchBuilder, BatchError, Codec, Commands};
pub use command::{
    COMMAND_BASE_BYTES, Command, CommandError, CommandFlags, CommandKind, CommandLimits, Feature,
    SessionStamp,
};
pub use detail::{
    Branch, Detail, DetailError, ShardRevision, ShardRevisions, TxnResult, TxnResults,
};
pub use ids::{NamespaceId, Revision, ShardTime};
pub use outcome::{OUTCOME_BASE_BYTES, Outcome, OutcomeCode, OutcomeError};
pub use query::{Direction, GetQuery, Projection, RangeQuery, ReadError, Scope};
pub use routing::{NamespaceRule, Namespaces, SLOT_COUNT, Slot, slot_of};
pub use row::{ROW_BASE_BYTES, Row, RowError};
pub use shard_list::ShardList;
pub use snapshot::{ImportError, ImportFault, SectionTag};
pub use state::{
    ApplyError, Change, ChangePosition, ExportLimits, ExportProgress, MemoryUse, Parameters, Pin,
    PinLimits, SliceEnd, SliceLimit, SnapshotExport, SnapshotImport, StateMachine,
};
pub use structured::{
    Commit, Compare, Existence, KeyRange, Named, Operation, RangeOperation, Relation,
    STRUCTURED_BYTES_MAX, StructureFault, Structured, Subject, TXN_DEPTH_MAX, TableFault, Target,
    Txn,
};
