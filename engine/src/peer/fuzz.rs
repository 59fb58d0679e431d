//! A target for fuzzers: batches of messages between nodes.

use metastore_wal::{ClusterId, CoreId, Identity, NodeId, ReplicaId, ShardId};
use raft::eraftpb::{Entry, Message, MessageType};

use super::batch::{Batches, OpenedBatch, Said, checksum};
use super::beat::{self, Aside, Echo, Stamp};
use super::kind::PeerKind;
use super::message::{self, ChunkContent, ChunkMessage, encode_offer};
use super::{BatchHeader, PEER_BATCH_HEAD_BYTES, PeerCore, describe_batch};
use crate::effect::{Effect, Effects};
use crate::fields::put;
use crate::ids::SnapshotId;
use crate::membership::{Member, Membership};

/// A batch is refused or taken apart; each message for raft is written back as it was.
pub fn fuzz_peer_batch(data: &[u8]) -> bool {
    let described = describe_batch(data);
    let Ok(header) = BatchHeader::decode(data) else {
        assert!(described.is_err());
        return false;
    };
    let PeerCore { node, core } = header.to;
    let identity = Identity {
        cluster: header.cluster,
        node,
        core,
    };
    let opened = OpenedBatch::open(&identity, header.from, data);
    let mut opened = opened.expect("it is for whom it says");
    let mut written = data[..PEER_BATCH_HEAD_BYTES].to_vec();
    let mut is_whole = true;
    while let Some(next) = opened.next_message() {
        let Ok(next) = next else {
            assert!(described.is_err());
            return false;
        };
        let next = match next {
            Said::Message(next) => next,
            Said::Beat(beat) => {
                let mut records = Vec::new();
                for record in beat.records() {
                    let (shard, aside) = (record.shard, record.aside);
                    beat::encode_record(shard, &record.to_raft(), aside, &mut records);
                }
                beat::encode(&beat.stamp, &records, &mut written);
                continue;
            }
        };
        drop(next.to_offer());
        match (next.kind, next.to_raft(), next.to_chunk()) {
            (PeerKind::Raft(_), Some(message), None) => {
                message::encode(next.shard, &message, &mut written);
            }
            (PeerKind::Notice(_), None, None) => is_whole = false,
            (PeerKind::Raft(_), None, None)
            | (PeerKind::ChunkRequest | PeerKind::Chunk, None, Some(_)) => is_whole = false,
            (PeerKind::RepairRequest | PeerKind::RepairTarget, None, None) => {
                assert!(next.to_repair().is_some());
                is_whole = false;
            }
            (kind, ..) => panic!("{kind:?} is read as something else"),
        }
    }
    assert!(described.is_ok());
    assert!(!is_whole || written == data);
    true
}

/// Makes the checksum of a batch right again, so that a fuzzer gets behind it.
pub fn mend_peer_batch(data: &mut [u8]) {
    if data.len() >= PEER_BATCH_HEAD_BYTES {
        let crc = checksum(data);
        put(data, 36, crc.to_le_bytes());
    }
}

/// A batch of each lane.
#[must_use]
pub fn peer_batch_seeds() -> Vec<Vec<u8>> {
    let home = |node| PeerCore {
        node: NodeId(node),
        core: CoreId(0),
    };
    let of_kind = |kind| {
        let mut message = Message::default();
        message.set_msg_type(kind);
        (message.from, message.to, message.term) = (1, 2, 3);
        message
    };
    let mut append = of_kind(MessageType::MsgAppend);
    (append.index, append.log_term) = (7, 2);
    let entry = |index| Entry {
        index,
        term: 3,
        data: vec![9; 20].into(),
        ..Entry::default()
    };
    append.set_entries(vec![entry(8), entry(9)].into());
    let mut heartbeat = of_kind(MessageType::MsgHeartbeat);
    heartbeat.context = b"reads".to_vec().into();
    let member = Member {
        replica: ReplicaId(1),
        home: home(1),
    };
    let mut offer = of_kind(MessageType::MsgSnapshot);
    let data = encode_offer(5000, &Membership::of_voters(&[member]));
    offer.mut_snapshot().data = data;
    offer.mut_snapshot().mut_metadata().index = 7;
    let snapshot = SnapshotId {
        shard: ShardId(4),
        term: metastore_wal::Term(2),
        index: metastore_wal::LogIndex(7),
    };
    let chunk = ChunkMessage {
        from: ReplicaId(1),
        to: ReplicaId(2),
        term: metastore_wal::Term(3),
        snapshot,
        offset: 4096,
        content: ChunkContent::Bytes(b"bytes of a file"),
    };
    let identity = Identity {
        cluster: ClusterId(5),
        node: NodeId(1),
        core: CoreId(0),
    };
    let mut batches = Batches::new(identity, 1 << 20);
    let mut out = Effects::default();
    let response = of_kind(MessageType::MsgAppendResponse);
    for message in [append, response, heartbeat, offer] {
        batches.push(home(2), snapshot.shard, &message, &mut out);
    }
    for (kind, aside) in [
        (MessageType::MsgHeartbeat, Aside::Sleep),
        (MessageType::MsgHeartbeatResponse, Aside::Lead),
    ] {
        let merged = of_kind(kind);
        batches.push_with(home(2), snapshot.shard, &merged, aside, &mut out);
    }
    batches.push_chunk(home(2), &chunk, &mut out);
    let echo = Echo {
        boot: 8,
        sent_ns: 40,
        held_ns: 3,
    };
    let stamp = Stamp {
        boot: 7,
        sent_ns: 50,
        echo,
        tick_needed_us: 15_000,
        tick_us: 50_000,
    };
    batches.flush(|_| stamp, &mut out);
    let sent = out.queue.into_iter().map(|effect| {
        let Effect::Send { batch, .. } = effect else {
            panic!("{effect:?}");
        };
        batch
    });
    sent.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_read_or_refused() {
        let seeds = peer_batch_seeds();
        assert_eq!(seeds.len(), 3);
        for seed in seeds {
            assert!(fuzz_peer_batch(&seed));
            for at in 0..seed.len() {
                let mut changed = seed.clone();
                changed[at] ^= 0x41;
                assert!(!fuzz_peer_batch(&changed), "byte {at}");
                mend_peer_batch(&mut changed);
                fuzz_peer_batch(&changed);
            }
        }
    }
}
