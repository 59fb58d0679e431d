//! The messages of one turn from one core to another, in one piece.

use std::collections::BTreeMap;

use metastore_wal::{ClusterId, CoreId, Identity, NodeId, ShardId};
use raft::eraftpb::Message;

use super::beat::{self, Aside, BEAT_CODE, Beat, Stamp};
use super::error::PeerError;
use super::kind::{REPAIR_REQUEST_CODE, REPAIR_TARGET_CODE, lane_of};
use super::message::{self, ChunkMessage, PeerMessage, RepairMessage};
use super::notice::Notice;
use super::{PeerCore, PeerLane};
use crate::effect::{Effect, Effects};
use crate::fields::{array_at, length_u32, put, u16_at, u32_at};

/// Length of a batch's head.
pub const PEER_BATCH_HEAD_BYTES: usize = 40;
const VERSION: u16 = 1;

/// The head of a batch of messages between two cores.
///
/// ```text
///       0       1       2       3       4       5       6       7
///   0 | version (u16) | lane  | 0     | messages (u32)                |
///   8 | cluster (u128)                                                |
///  16 |                                                               |
///  24 | sender's node (u32)           | receiver's node (u32)         |
///  32 | sender's core | receiver's    | crc32 of everything else      |
///  40 | messages ...
/// ```
///
/// The checksum takes itself as zero. A batch that is damaged, or not from the sender that its connection belongs to, or
/// not for this core, is dropped whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The cluster.
    pub cluster: ClusterId,
    /// Who sent it.
    pub from: PeerCore,
    /// Whom it is for.
    pub to: PeerCore,
    /// Which connection it belongs to.
    pub lane: PeerLane,
    /// How many messages follow.
    pub messages: u32,
}

impl BatchHeader {
    fn encode(&self, bytes: &mut [u8]) {
        bytes[..PEER_BATCH_HEAD_BYTES].fill(0);
        put(bytes, 0, VERSION.to_le_bytes());
        put(bytes, 2, [self.lane.code()]);
        put(bytes, 4, self.messages.to_le_bytes());
        put(bytes, 8, self.cluster.0.to_le_bytes());
        put(bytes, 24, self.from.node.0.to_le_bytes());
        put(bytes, 28, self.to.node.0.to_le_bytes());
        put(bytes, 32, self.from.core.0.to_le_bytes());
        put(bytes, 34, self.to.core.0.to_le_bytes());
        let crc = checksum(bytes);
        put(bytes, 36, crc.to_le_bytes());
    }

    /// Reads and checks the head of a batch, its checksum included.
    ///
    /// # Errors
    /// What is wrong with it; then none of its messages is of use.
    pub fn decode(bytes: &[u8]) -> Result<BatchHeader, PeerError> {
        if bytes.len() < PEER_BATCH_HEAD_BYTES {
            return Err(PeerError::Short {
                needed: PEER_BATCH_HEAD_BYTES,
                actual: bytes.len(),
            });
        }
        let version = u16_at(bytes, 0);
        if version != VERSION {
            return Err(PeerError::Version {
                version,
                known: VERSION,
            });
        }
        let (expected, found) = (checksum(bytes), u32_at(bytes, 36));
        if expected != found {
            return Err(PeerError::Checksum { expected, found });
        }
        let lane = PeerLane::of_code(bytes[2]).ok_or(PeerError::Malformed { offset: 2 })?;
        let core = |node: usize, core: usize| PeerCore {
            node: NodeId(u32_at(bytes, node)),
            core: CoreId(u16_at(bytes, core)),
        };
        Ok(BatchHeader {
            cluster: ClusterId(u128::from_le_bytes(array_at(bytes, 8))),
            from: core(24, 32),
            to: core(28, 34),
            lane,
            messages: u32_at(bytes, 4),
        })
    }
}

pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..36]);
    hasher.update(&[0; 4]);
    hasher.update(&bytes[PEER_BATCH_HEAD_BYTES..]);
    hasher.finalize()
}

/// What a batch holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Said<'a> {
    /// A message of one replica to another.
    Message(PeerMessage<'a>),
    /// That the sender is there, with heartbeats and answers of many replicas.
    Beat(Beat<'a>),
}

/// A received batch, whose messages are taken one after the other.
#[derive(Debug)]
pub(crate) struct OpenedBatch<'a> {
    bytes: &'a [u8],
    rest: &'a [u8],
    left: u32,
}

impl<'a> OpenedBatch<'a> {
    /// Opens a batch that came from `from`.
    pub(crate) fn open(
        identity: &Identity,
        from: PeerCore,
        bytes: &'a [u8],
    ) -> Result<OpenedBatch<'a>, PeerError> {
        let header = BatchHeader::decode(bytes)?;
        let us = PeerCore {
            node: identity.node,
            core: identity.core,
        };
        if header.cluster != identity.cluster || header.from != from || header.to != us {
            return Err(PeerError::Misdirected);
        }
        Ok(OpenedBatch {
            bytes,
            rest: &bytes[PEER_BATCH_HEAD_BYTES..],
            left: header.messages,
        })
    }

    /// The next message or beat; after an error there are no more.
    pub(crate) fn next_message(&mut self) -> Option<Result<Said<'a>, PeerError>> {
        let at = self.bytes.len() - self.rest.len();
        if self.left == 0 {
            let is_all = std::mem::take(&mut self.rest).is_empty();
            return (!is_all).then_some(Err(PeerError::Malformed { offset: at }));
        }
        let message = match self.rest.first() {
            Some(&BEAT_CODE) => beat::decode(&mut self.rest, at).map(Said::Beat),
            Some(_) | None => message::decode(&mut self.rest, at).map(Said::Message),
        };
        self.left -= 1;
        if message.is_err() {
            (self.left, self.rest) = (0, &[]);
        }
        Some(message)
    }
}

/// What a batch says, one line a message, for traces. A beat has a line for each heartbeat and answer.
///
/// # Errors
/// What is wrong with it.
pub fn describe_batch(bytes: &[u8]) -> Result<Vec<String>, PeerError> {
    let header = BatchHeader::decode(bytes)?;
    let mut opened = OpenedBatch {
        bytes,
        rest: &bytes[PEER_BATCH_HEAD_BYTES..],
        left: header.messages,
    };
    let mut lines = Vec::new();
    while let Some(message) = opened.next_message() {
        match message? {
            Said::Message(message) => lines.push(message.to_string()),
            Said::Beat(beat) => lines.extend(beat.records().map(|record| record.to_string())),
        }
    }
    Ok(lines)
}

/// A batch that is being filled.
#[derive(Debug, Default)]
struct Filling {
    bytes: Vec<u8>,
    messages: u32,
}

/// What this core has to tell others in this turn.
#[derive(Debug)]
pub(crate) struct Batches {
    identity: Identity,
    batch_bytes_max: usize,
    filling: BTreeMap<(PeerCore, PeerLane), Filling>,
    /// Records of the beats that leave next. One without records says that this core is there.
    beats: BTreeMap<PeerCore, Vec<u8>>,
}

impl Batches {
    /// `batch_bytes_max` is passed by one message at most.
    pub(crate) fn new(identity: Identity, batch_bytes_max: usize) -> Batches {
        Batches {
            identity,
            batch_bytes_max,
            filling: BTreeMap::new(),
            beats: BTreeMap::new(),
        }
    }

    /// Sends a beat to `to` with the next flush, whether there are heartbeats for it or not.
    pub(crate) fn beat(&mut self, to: PeerCore) {
        self.beats.entry(to).or_default();
    }

    /// Adds a message of a shard's replica to the batch for `to`, and what it says beyond raft's words if it is a
    /// heartbeat or an answer to one.
    pub(crate) fn push_with(
        &mut self,
        to: PeerCore,
        shard: ShardId,
        message: &Message,
        aside: Aside,
        out: &mut Effects,
    ) {
        if beat::is_merged(message) {
            let records = self.beats.entry(to).or_default();
            beat::encode_record(shard, message, aside, records);
        } else {
            self.push(to, shard, message, out);
        }
    }

    /// Adds a message of a shard's replica, which stands for itself, to the batch for `to`.
    pub(crate) fn push(
        &mut self,
        to: PeerCore,
        shard: ShardId,
        message: &Message,
        out: &mut Effects,
    ) {
        let lane = lane_of(message.get_msg_type());
        self.add((to, lane), out, |bytes| {
            message::encode(shard, message, bytes);
        });
    }

    /// Adds a message about a chunk of a snapshot's file to the batch for `to`.
    pub(crate) fn push_chunk(
        &mut self,
        to: PeerCore,
        message: &ChunkMessage<'_>,
        out: &mut Effects,
    ) {
        self.add((to, PeerLane::Snapshots), out, |bytes| {
            message::encode_chunk(message, bytes);
        });
    }

    /// Adds a notice to the batch for `to`.
    pub(crate) fn push_notice(&mut self, to: PeerCore, notice: &Notice, out: &mut Effects) {
        self.add((to, PeerLane::Urgent), out, |bytes| {
            message::encode_notice(notice, bytes);
        });
    }

    /// Adds the request of a replica in quarantine to the batch for `to`.
    pub(crate) fn push_repair_request(
        &mut self,
        to: PeerCore,
        message: &RepairMessage,
        out: &mut Effects,
    ) {
        self.add((to, PeerLane::Snapshots), out, |bytes| {
            message::encode_repair(REPAIR_REQUEST_CODE, message, bytes);
        });
    }

    /// Adds the answer to such a request to the batch for `to`.
    pub(crate) fn push_repair_target(
        &mut self,
        to: PeerCore,
        message: &RepairMessage,
        out: &mut Effects,
    ) {
        self.add((to, PeerLane::Snapshots), out, |bytes| {
            message::encode_repair(REPAIR_TARGET_CODE, message, bytes);
        });
    }

    fn add(
        &mut self,
        (to, lane): (PeerCore, PeerLane),
        out: &mut Effects,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let filling = self.filling.entry((to, lane)).or_default();
        if filling.bytes.is_empty() {
            filling.bytes.resize(PEER_BATCH_HEAD_BYTES, 0);
        }
        encode(&mut filling.bytes);
        filling.messages += 1;
        if filling.bytes.len() >= self.batch_bytes_max {
            let filling = std::mem::take(filling);
            self.send(to, lane, filling, out);
        }
    }

    /// Whether there is nothing to send.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.beats.is_empty() && self.filling.is_empty()
    }

    /// Sends everything; `stamp` says what the beats for a core say of this one.
    pub(crate) fn flush(&mut self, stamp: impl Fn(PeerCore) -> Stamp, out: &mut Effects) {
        for (to, records) in std::mem::take(&mut self.beats) {
            let stamp = stamp(to);
            self.add((to, PeerLane::Urgent), out, |bytes| {
                beat::encode(&stamp, &records, bytes);
            });
        }
        for ((to, lane), filling) in std::mem::take(&mut self.filling) {
            if filling.messages > 0 {
                self.send(to, lane, filling, out);
            }
        }
    }

    fn send(&self, to: PeerCore, lane: PeerLane, filling: Filling, out: &mut Effects) {
        let Filling {
            bytes: mut batch,
            messages,
        } = filling;
        let Identity {
            cluster,
            node,
            core,
        } = self.identity;
        let header = BatchHeader {
            cluster,
            from: PeerCore { node, core },
            to,
            lane,
            messages,
        };
        let _: u32 = length_u32(batch.len());
        header.encode(&mut batch);
        out.queue.push(Effect::Send { to, lane, batch });
    }
}

#[cfg(test)]
mod tests;
