//! The client protocol: frames, schemas, and connections.
//!
//! Without features it is pure code over bytes: [`cut_frame`] and [`append_frame`] for frames, [`Request`] and
//! [`Response`] for what they carry, and the two ends of a connection without input or output:
//! [`ClientConnection`] and [`ServerConnection`]. Feature `client` adds the client library on tokio
//! (`async_client`), feature `blocking` a small client over a plain socket, feature `server` a listener that drives the
//! connections of one core. `docs/PROTOCOL.md` specifies every byte.
//!
//! It does **not** know what a shard, a log or raft is, routes nothing, stores nothing and reads no clock outside
//! the feature-gated drivers. Commands, outcomes and rows are laid out by the state machine's crate and pass through
//! as bytes; the types that flatc generates stay private.

mod admin;
#[cfg(feature = "client")]
pub mod async_client;
mod batch;
#[cfg(feature = "blocking")]
pub mod blocking;
mod body;
mod body_error;
mod client;
mod count;
mod frame;
pub mod fuzz;
mod generated;
mod hello;
mod outbox;
#[cfg(any(feature = "blocking", feature = "client"))]
mod owned;
pub mod peer;
mod range;
mod read;
mod request;
mod response;
#[cfg(test)]
mod samples;
#[cfg(feature = "server")]
pub mod server;
mod server_connection;
mod shard_map;
mod share;
mod status;
mod table;
mod wire_error;

pub use admin::{
    AdminReply, AdminRequest, MemberPart, NodeEntry, NodeStanding, OwnedNodeEntry, ReplicaHome,
    ShardMember, SpareVoter,
};
pub use batch::{BatchReply, BatchReplyWriter, BatchRequest, BatchResult, CheckedCommand};
pub use body_error::{BodyError, TableFault};
pub use client::{ClientConnection, ClientOptions, Lost, ProtocolError};
pub use count::{CountReply, CountRequest};
pub use frame::{
    FRAME_BYTES_MAX_DEFAULT, FRAME_HEADER_BYTES, Frame, FrameError, FrameFlags, FrameHeader,
    FrameKind, MAGIC, PROTOCOL_VERSION, RequestId, append_frame, cut_frame, frame_length,
};
pub use hello::{HelloInfo, HelloReply, HelloRequest, ServerLimits};
pub use outbox::{Answered, ConnectionLimits, Outbox};
pub use range::{ChunkEnd, ChunkWriter, RangeChunk, RangeRequest, ShardRevision};
pub use read::{
    Consistency, GetManyReply, GetManyRequest, GetManyWriter, GetReply, GetRequest, ReadPosition,
};
pub use request::{Request, RequestLimits};
pub use response::{
    Response, append_admin, append_batch, append_cancelled, append_chunk, append_count,
    append_error, append_get, append_get_many, append_hello, append_outcome, append_outcome_bytes,
    append_pong, append_shard_map, append_status,
};
pub use server_connection::{Intake, ServerConnection};
pub use shard_map::{ShardMapReply, ShardPlace, SlotRange};
pub use share::{NodeShare, share_out};
pub use status::{Counter, LogStatus, ReplicaRole, ReplicaStatus, StageStatus, StatusReply};
pub use wire_error::{ErrorCode, Happened, WireError};
