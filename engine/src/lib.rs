//! The sans-IO core of MetaStore: every raft replica of one processor core, over the one log they share.
//!
//! A driver feeds [`Core`] with inputs ([`Core::step`]), closes the turn ([`Core::finish_turn`]) and carries out the
//! effects that come back: write the log, answer a connection, hand a message to another core. Everything that decides
//! about consensus or durability is in here, so that a simulator and a production server run the same code.
//!
//! What this crate does not do: it opens no file and no socket, reads no clock, draws no random number, starts no
//! thread and knows no executor. Time is an argument, randomness is a pure function of a seed that the driver gives.
//!
//! # How to drive it
//!
//! 1. Recover: hand every event of [`metastore_wal::recovery::recover`] to a [`CoreBuilder`], load the snapshots that
//!    it asks for after the first, then [`CoreBuilder::build`] the core.
//! 2. Feed inputs with [`Core::step`], as many as are there, then call [`Core::finish_turn`] once.
//! 3. Carry out the [`Effects`] in order. A log write that completed comes back as [`Input::LogWritten`]; one that
//!    failed does not come back at all: the process halts.
//! 4. Call [`Core::on_turn_executed`] when the effects are carried out. While [`Core::has_slice`], do a slice or several
//!    of background work with [`Core::run_slice`] after a turn, tell its time with [`Core::on_slice_executed`], and end
//!    another turn soon.
//! 5. Go on with 2 when something arrived or [`Core::next_deadline`] has passed.

mod answers;
mod copies;
mod core;
mod effect;
mod fields;
pub mod fuzz;
mod ids;
mod input;
mod members;
mod membership;
mod memory;
mod mesh;
mod peer;
mod replica;
mod request;
mod router;
mod settings;
pub mod snapshot;
mod span;
mod stages;
mod status;

pub use crate::copies::{CopyFault, Force, Group, REVISIONS_PASSED, ShardCopy, TermRun};
pub use crate::core::{
    Core, CoreBuilder, CoreConfig, DiskSpace, LogHistory, SliceKind, SnapshotLoad,
    SnapshotLoadError, StartError,
};
pub use crate::effect::{Effect, Effects, HaltReason};
pub use crate::ids::{
    BootNonce, ConnectionId, LogReadTicket, RequestId, SnapshotId, SnapshotTicket, Time,
};
pub use crate::input::{Input, LogReadFailed, SnapshotFailed};
pub use crate::members::{
    BadChange, ChangeRefused, ChangeTicket, CreateRefused, Feed, MemberPart, MemberStatus,
    MembersChange, MembersEffect, MembersInput, MembersStatus, Spare,
};
pub use crate::membership::Member;
pub use crate::memory::{
    Account, LoadRoom, MemoryAccounts, MemoryBudget, MemoryBudgetError, MemoryPool, MemoryRoom,
    MemoryShare,
};
pub use crate::mesh::MeshBatch;
pub use crate::peer::{
    BatchHeader, PEER_BATCH_HEAD_BYTES, PeerCore, PeerError, PeerLane, describe_batch,
};
pub use crate::replica::Quarantine;
pub use crate::request::{
    BatchItem, ChunkEnd, Happened, ReadShape, Reply, Request, RequestError, RequestKind,
};
pub use crate::router::{
    NamespaceRule, Namespaces, SLOT_COUNT, ShardLocation, ShardMap, ShardMapError, Slot, slot_of,
};
pub use crate::settings::{
    AdmissionSettings, BatchSettings, IdleSettings, PEER_BATCH_BYTES_MAX, RaftSettings,
    SNAPSHOT_WRITE_ALIGN_BYTES, Settings, SettingsError, SnapshotSettings, TickTiming,
};
pub use crate::span::Span;
pub use crate::stages::{BUCKET_BOUNDS_NS, BUCKETS, Stage, StageSummary, Stages};
pub use crate::status::{
    AdmissionStatus, CoreCounters, CoreStatus, ReplicaStatus, Role, WaitingWork,
};

pub use metastore_wal::{
    ClusterId, CoreId, Identity, LogIndex, NodeId, ReplicaId, ShardId, Term, Ticket,
};
