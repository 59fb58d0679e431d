//! Connections between the cores of different nodes, without input and output.
//!
//! A connection carries one [`PeerLane`] of an ordered pair of cores, one way: who has something to say connects, says
//! [`PeerHello`], is answered with a [`PeerAnswer`], and then sends batches, each behind a [`BATCH_HEAD_BYTES`] long
//! head. [`OutgoingLink`] is the sender's end, [`IncomingLink`] the receiver's, and [`choose_backoff`] says when to
//! connect again.
//!
//! It does **not** look into batches, which carry a checksum and the names of their sender and receiver themselves, it
//! repeats nothing that was lost, and it knows neither sockets nor clocks: feature `server` drives it.

mod answer;
mod backoff;
mod fault;
mod fields;
mod hello;
mod incoming;
mod outgoing;
mod queue;
mod reader;
#[cfg(test)]
pub(crate) mod samples;

use std::fmt;

pub(crate) use answer::mend_answer;
pub use answer::{PEER_ANSWER_BYTES, PeerAnswer, PeerVerdict, RefusalCode};
pub use backoff::{BACKOFF_MAX, BACKOFF_MIN, BACKOFF_STEADY, BackoffAttempt, choose_backoff};
pub use fault::{AnswerFault, BatchFault, HelloFault, IncomingFault, OutgoingFault};
pub(crate) use hello::mend_hello;
pub use hello::{PEER_HELLO_BYTES, PEER_MAGIC, PEER_VERSIONS, PeerHello, VersionRange};
pub use incoming::{IncomingLink, IncomingState};
pub use outgoing::{OutgoingLink, OutgoingState};
pub use queue::{BatchQueue, Queued};
pub use reader::{BATCH_BYTES_MAX, BATCH_HEAD_BYTES, BatchReader, Room, append_batch_head};

/// A core of a node: one end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerCore {
    /// The node.
    pub node: u32,
    /// The core of that node, counted from 0.
    pub core: u16,
}

impl fmt::Display for PeerCore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "core {} of node {}", self.core, self.node)
    }
}

/// What a connection carries. Each lane has its own, so that what keeps a group alive never waits behind what fills its
/// log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PeerLane {
    /// Votes, heartbeats, reads.
    Urgent = 1,
    /// Entries and what acknowledges them.
    Entries = 2,
    /// Chunks of snapshots.
    Snapshots = 3,
}

impl PeerLane {
    /// All of them, in the order of their numbers.
    pub const ALL: [PeerLane; 3] = [PeerLane::Urgent, PeerLane::Entries, PeerLane::Snapshots];

    /// Its number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The lane of this number, if this version knows it.
    #[must_use]
    pub fn of_code(code: u8) -> Option<PeerLane> {
        PeerLane::ALL.into_iter().find(|lane| lane.code() == code)
    }
}

/// A core as it shows itself to others, and the cluster that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalPeer {
    /// The cluster's identity, fixed when it was formatted.
    pub cluster_id: u128,
    /// This core.
    pub core: PeerCore,
    /// A number that differs between two starts of the process.
    pub incarnation: u64,
    /// A number that was drawn when the data of the node was formatted. A node whose disk was wiped and formatted anew
    /// under the same id has another. It stands in hellos and not in answers: who listens decides whom it believes.
    pub data_id: u64,
    /// The epoch of the shard map that the node holds.
    pub map_epoch: u64,
    /// The hash of the shard map with which the cluster was formatted, and of the recoveries since.
    pub initial_map_hash: u64,
    /// How many times the cluster was recovered after most voters of a shard were lost. It stands in hellos and not in
    /// answers, like the data id.
    pub cluster_epoch: u32,
}
