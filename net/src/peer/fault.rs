//! What can be wrong with a connection between cores.

use thiserror::Error;

use crate::peer::{PeerCore, RefusalCode, VersionRange};

/// Why a hello is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HelloFault {
    /// These are no bytes of ours. Nothing is answered: whoever it is would not understand.
    #[error("no hello: it begins with {found:#010x}")]
    Magic {
        /// The first four bytes.
        found: u32,
    },
    /// It was damaged.
    #[error("a damaged hello: its checksum is {found:#010x}, not {expected:#010x}")]
    Checksum {
        /// Of the bytes that came.
        expected: u32,
        /// As it came.
        found: u32,
    },
    /// There is no common version.
    #[error("the sender speaks versions {} to {}", offered.min, offered.max)]
    Version {
        /// What the sender speaks.
        offered: VersionRange,
    },
    /// A byte that must be 0 is not.
    #[error("byte {offset} of the hello is reserved and not 0")]
    Reserved {
        /// Where it stands.
        offset: usize,
    },
    /// No such lane.
    #[error("there is no lane {code}")]
    Lane {
        /// Its number.
        code: u8,
    },
    /// It is of another cluster.
    #[error("the sender is of cluster {found:032x}, this is {expected:032x}")]
    Cluster {
        /// This one.
        expected: u128,
        /// The sender's.
        found: u128,
    },
    /// It means somebody else.
    #[error("the sender means {found}, this is {expected}")]
    Receiver {
        /// This core.
        expected: PeerCore,
        /// Whom the sender means.
        found: PeerCore,
    },
    /// It claims to be of this very node.
    #[error("the sender claims to be {found}, which is of this node")]
    Sender {
        /// Who it claims to be.
        found: PeerCore,
    },
    /// Its cluster was formatted with other shards.
    #[error("the sender's initial shard map has the hash {found:016x}, not {expected:016x}")]
    InitialMap {
        /// Of this node's.
        expected: u64,
        /// Of the sender's.
        found: u64,
    },
    /// One of the two was left out when the cluster was recovered.
    #[error(
        "the sender is of epoch {found} of the cluster, this is epoch {expected}: {} was left out when the cluster was recovered",
        if found < expected { "it" } else { "this node" }
    )]
    Epoch {
        /// Of this node.
        expected: u32,
        /// Of the sender.
        found: u32,
    },
}

impl HelloFault {
    /// What the sender is told, if it would understand.
    #[must_use]
    pub fn refusal(&self) -> Option<RefusalCode> {
        Some(match self {
            HelloFault::Magic { .. } => return None,
            HelloFault::Checksum { .. } | HelloFault::Reserved { .. } => RefusalCode::Damaged,
            HelloFault::Version { .. } => RefusalCode::Version,
            HelloFault::Lane { .. } => RefusalCode::Lane,
            HelloFault::Cluster { .. } => RefusalCode::Cluster,
            HelloFault::Receiver { .. } => RefusalCode::Receiver,
            HelloFault::Sender { .. } => RefusalCode::Sender,
            HelloFault::InitialMap { .. } => RefusalCode::InitialMap,
            HelloFault::Epoch { expected, found } if found < expected => RefusalCode::LeftOut,
            HelloFault::Epoch { .. } => RefusalCode::NotRecovered,
        })
    }
}

/// Why an answer to a hello opens no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AnswerFault {
    /// These are no bytes of ours.
    #[error("no answer: it begins with {found:#010x}")]
    Magic {
        /// The first four bytes.
        found: u32,
    },
    /// It was damaged.
    #[error("a damaged answer: its checksum is {found:#010x}, not {expected:#010x}")]
    Checksum {
        /// Of the bytes that came.
        expected: u32,
        /// As it came.
        found: u32,
    },
    /// A byte that must be 0 is not.
    #[error("byte {offset} of the answer is reserved and not 0")]
    Reserved {
        /// Where it stands.
        offset: usize,
    },
    /// The receiver chose a version that was not offered.
    #[error("the receiver chose version {chosen}, which was not offered")]
    Version {
        /// What it chose.
        chosen: u16,
    },
    /// It is of another cluster, and accepts all the same.
    #[error("the receiver is of cluster {found:032x}, this is {expected:032x}")]
    Cluster {
        /// This one.
        expected: u128,
        /// The receiver's.
        found: u128,
    },
    /// It is not who was meant, and accepts all the same.
    #[error("the receiver is {found}, not {expected}")]
    Receiver {
        /// Who was meant.
        expected: PeerCore,
        /// Who answers.
        found: PeerCore,
    },
    /// Its cluster was formatted with other shards, and it accepts all the same.
    #[error("the receiver's initial shard map has the hash {found:016x}, not {expected:016x}")]
    InitialMap {
        /// Of this node's.
        expected: u64,
        /// Of the receiver's.
        found: u64,
    },
}

/// What is wrong with a batch's head. The stream has no next batch then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BatchFault {
    /// The two forms of the length do not fit each other: these bytes are no head.
    #[error("a length of {length} with {inverse:#010x} for its inverse: no head of a batch")]
    Head {
        /// The first form.
        length: u32,
        /// The second form.
        inverse: u32,
    },
    /// A batch of nothing.
    #[error("a batch without bytes")]
    Empty,
    /// Longer than a batch may be.
    #[error("a batch of {actual} bytes, {limit} are allowed")]
    TooLong {
        /// What is allowed.
        limit: usize,
        /// What was announced.
        actual: usize,
    },
}

/// Why the receiver's end of a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IncomingFault {
    /// Its hello was not accepted.
    #[error(transparent)]
    Hello(#[from] HelloFault),
    /// What followed was no batch.
    #[error(transparent)]
    Batch(#[from] BatchFault),
}

/// Why the sender's end of a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OutgoingFault {
    /// The receiver does not want it.
    #[error("{by} refuses the connection: {code}")]
    Refused {
        /// Who answered.
        by: PeerCore,
        /// Why not.
        code: RefusalCode,
    },
    /// The answer cannot be believed.
    #[error(transparent)]
    Answer(#[from] AnswerFault),
    /// The receiver says something on a connection on which it has nothing to say.
    #[error("the receiver sent bytes behind its answer")]
    Chatter,
}
