//! What the cores of different nodes tell each other: one batch for each pair of cores, lane and turn.
//!
//! It knows how messages look on the wire and to whom they go. It does **not** know connections: a driver carries the
//! bytes, in order within a lane as long as a connection lives, and may lose or repeat any of them.

mod batch;
mod beat;
mod error;
pub(crate) mod fuzz;
mod kind;
mod message;
mod notice;

use std::fmt;

use metastore_wal::{CoreId, NodeId};

pub use self::batch::{BatchHeader, PEER_BATCH_HEAD_BYTES, describe_batch};
pub(crate) use self::batch::{Batches, OpenedBatch, Said};
pub(crate) use self::beat::{Aside, Beat, BeatRecord, Echo, Stamp};
pub use self::error::PeerError;
pub(crate) use self::kind::PeerKind;
pub(crate) use self::message::{
    ChunkContent, ChunkMessage, PeerMessage, RepairMessage, SnapshotOffer, encode_offer,
    kind_and_data, life_of, to_raft_entry,
};
pub(crate) use self::notice::{Notice, NoticeKind};

/// A core of a node: who sends and receives what replicas say to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerCore {
    /// The node.
    pub node: NodeId,
    /// The core of that node.
    pub core: CoreId,
}

impl PeerCore {
    /// Where no replica lives.
    pub(crate) const NOWHERE: PeerCore = PeerCore {
        node: NodeId(0),
        core: CoreId(0),
    };
}

impl fmt::Display for PeerCore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "core {} of node {}", self.core, self.node)
    }
}

/// Which of the connections between two cores carries a batch. What keeps a group alive never waits behind what fills
/// its logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerLane {
    /// Votes, heartbeats, reads: small, and the leader's authority depends on them.
    Urgent,
    /// Entries and what acknowledges them.
    Entries,
    /// Chunks of snapshots.
    Snapshots,
}

impl PeerLane {
    /// All of them.
    pub const ALL: [PeerLane; 3] = [PeerLane::Urgent, PeerLane::Entries, PeerLane::Snapshots];

    const fn code(self) -> u8 {
        match self {
            PeerLane::Urgent => 1,
            PeerLane::Entries => 2,
            PeerLane::Snapshots => 3,
        }
    }

    fn of_code(code: u8) -> Option<PeerLane> {
        PeerLane::ALL.into_iter().find(|lane| lane.code() == code)
    }
}
