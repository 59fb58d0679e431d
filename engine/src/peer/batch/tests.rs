//! Batches as they stand on the wire: golden bytes, round trips, and everything that is refused.

use bytes::Bytes;
use metastore_wal::{LogIndex, ReplicaId, Term};
use raft::eraftpb::{Entry, EntryType, MessageType};

use super::super::beat::BeatRecord;
use super::super::kind::PeerKind;
use super::super::message::{ChunkContent, encode_offer, life_of};
use super::super::notice::NoticeKind;
use super::*;
use crate::ids::{BootNonce, SnapshotId};
use crate::membership::{Member, Membership};

const SENDER: Identity = Identity {
    cluster: ClusterId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
    node: NodeId(1),
    core: CoreId(2),
};
const RECEIVER: Identity = Identity {
    node: NodeId(3),
    core: CoreId(4),
    ..SENDER
};

fn core_of(identity: Identity) -> PeerCore {
    PeerCore {
        node: identity.node,
        core: identity.core,
    }
}

fn message(kind: MessageType) -> Message {
    let mut message = Message::default();
    message.set_msg_type(kind);
    message.from = 11;
    message.to = 13;
    message.term = 7;
    message
}

fn entry(index: u64, kind: EntryType, bytes: &'static [u8]) -> Entry {
    let mut entry = Entry::default();
    entry.set_entry_type(kind);
    entry.index = index;
    entry.term = 6;
    match kind {
        EntryType::EntryNormal => entry.data = Bytes::from_static(bytes),
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            entry.context = Bytes::from_static(bytes);
        }
    }
    entry
}

fn append() -> Message {
    let mut append = message(MessageType::MsgAppend);
    append.index = 20;
    append.log_term = 5;
    append.commit = 19;
    let entries = vec![
        entry(21, EntryType::EntryNormal, b"first"),
        entry(22, EntryType::EntryNormal, b""),
        entry(23, EntryType::EntryConfChangeV2, b"members"),
    ];
    append.set_entries(entries.into());
    append
}

/// One message of every kind that leaves a process.
fn one_of_each() -> Vec<Message> {
    let mut rejected = message(MessageType::MsgAppendResponse);
    (rejected.reject, rejected.index, rejected.reject_hint) = (true, 20, 17);
    (rejected.log_term, rejected.commit) = (4, 16);
    let mut heartbeat = message(MessageType::MsgHeartbeat);
    heartbeat.commit = 18;
    heartbeat.context = Bytes::from_static(b"reads");
    let mut asked = message(MessageType::MsgRequestVote);
    asked.context = Bytes::from_static(raft::CAMPAIGN_TRANSFER);
    (asked.commit, asked.commit_term) = (19, 5);
    let mut read = message(MessageType::MsgReadIndex);
    read.term = 0;
    let context = Entry {
        data: Bytes::from_static(b"context"),
        ..Entry::default()
    };
    read.set_entries(vec![context.clone()].into());
    let mut read_response = message(MessageType::MsgReadIndexResp);
    read_response.index = 19;
    read_response.set_entries(vec![context].into());
    let bare = [
        MessageType::MsgHeartbeatResponse,
        MessageType::MsgRequestVoteResponse,
        MessageType::MsgRequestPreVote,
        MessageType::MsgRequestPreVoteResponse,
        MessageType::MsgTimeoutNow,
    ];
    let mut all = vec![append(), rejected, heartbeat, asked, read, read_response];
    all.extend(bare.map(message));
    all
}

fn batches_of(messages: &[Message], bytes_max: usize) -> Vec<(PeerLane, Vec<u8>)> {
    let mut batches = Batches::new(SENDER, bytes_max);
    let mut out = Effects::default();
    for message in messages {
        batches.push(core_of(RECEIVER), ShardId(9), message, &mut out);
    }
    batches.flush(|_| Stamp::default(), &mut out);
    let sent = out.queue.into_iter().map(|effect| {
        let Effect::Send { to, lane, batch } = effect else {
            panic!("{effect:?}");
        };
        assert_eq!(to, core_of(RECEIVER));
        (lane, batch)
    });
    sent.collect()
}

fn read_all(bytes: &[u8]) -> Result<Vec<Message>, PeerError> {
    let mut opened = OpenedBatch::open(&RECEIVER, core_of(SENDER), bytes)?;
    let mut messages = Vec::new();
    while let Some(message) = opened.next_message() {
        match message? {
            Said::Message(message) => messages.push(message.to_raft().expect("it is for raft")),
            Said::Beat(beat) => messages.extend(beat.records().map(BeatRecord::to_raft)),
        }
    }
    Ok(messages)
}

fn next_of<'a>(opened: &mut OpenedBatch<'a>) -> PeerMessage<'a> {
    let next = opened.next_message().expect("there is one");
    match next.expect("intact") {
        Said::Message(message) => message,
        Said::Beat(beat) => panic!("{beat:?}"),
    }
}

#[test]
fn every_kind_of_message_survives_the_round_trip() {
    for message in one_of_each() {
        let batches = batches_of(std::slice::from_ref(&message), 1 << 20);
        let [(lane, bytes)] = &batches[..] else {
            panic!("one batch: {batches:?}");
        };
        assert_eq!(*lane, lane_of(message.get_msg_type()));
        assert_eq!(read_all(bytes), Ok(vec![message]));
        let mut opened = OpenedBatch::open(&RECEIVER, core_of(SENDER), bytes).expect("intact");
        let first = next_of(&mut opened);
        let ends = (first.shard, first.from.0, first.to.0);
        assert_eq!(ends, (ShardId(9), 11, 13));
    }
}

#[test]
fn a_turn_sends_one_batch_for_each_lane() {
    let batches = batches_of(&one_of_each(), 1 << 20);
    let lanes: Vec<PeerLane> = batches.iter().map(|(lane, _)| *lane).collect();
    assert_eq!(lanes, [PeerLane::Urgent, PeerLane::Entries]);
    let counts = batches.iter().map(|(_, bytes)| read_all(bytes));
    let counts: Vec<usize> = counts.map(|read| read.expect("intact").len()).collect();
    assert_eq!(counts, [9, 2]);
}

#[test]
fn heartbeats_of_all_shards_are_one_message_and_a_core_without_any_says_that_it_is_there() {
    let mut batches = Batches::new(SENDER, 1 << 20);
    let mut out = Effects::default();
    let to = core_of(RECEIVER);
    batches.beat(to);
    batches.flush(|_| Stamp::default(), &mut out);
    for shard in 0..100 {
        let heartbeat = message(MessageType::MsgHeartbeat);
        batches.push_with(to, ShardId(shard), &heartbeat, Aside::Nothing, &mut out);
    }
    batches.flush(|_| Stamp::default(), &mut out);
    batches.flush(|_| Stamp::default(), &mut out);
    let sent = out.queue.iter().map(|effect| {
        let Effect::Send { lane, batch, .. } = effect else {
            panic!("{effect:?}");
        };
        assert_eq!(*lane, PeerLane::Urgent);
        let header = BatchHeader::decode(batch).expect("intact");
        (
            header.messages,
            batch.len(),
            read_all(batch).expect("intact").len(),
        )
    });
    let empty = PEER_BATCH_HEAD_BYTES + 64;
    let expected = [(1, empty, 0), (1, empty + 100 * 40, 100)];
    assert_eq!(sent.collect::<Vec<_>>(), expected);
}

#[test]
fn a_batch_that_is_full_leaves_before_the_turn_ends() {
    let appends = vec![append(); 10];
    let batches = batches_of(&appends, 300);
    assert_eq!(batches.len(), 5);
    let all: Vec<Message> = batches
        .iter()
        .flat_map(|(_, bytes)| read_all(bytes).expect("intact"))
        .collect();
    assert_eq!(all, appends);
}

/// Every byte of a batch matters: whichever is changed or missing, nothing of it is taken.
#[test]
fn a_batch_with_a_changed_or_missing_byte_is_refused() {
    for (_, bytes) in batches_of(&one_of_each(), 1 << 20) {
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(read_all(&changed).is_err(), "byte {at}");
            assert!(read_all(&bytes[..at]).is_err(), "first {at} bytes");
        }
        assert!(read_all(&[&bytes[..], &[0]].concat()).is_err());
    }
}

fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = checksum(&bytes);
    put(&mut bytes, 36, crc.to_le_bytes());
    bytes
}

/// What a peer with a bug could send: intact bytes whose fields make no sense. They are refused, and none panics.
#[test]
fn fields_that_make_no_sense_are_refused_however_intact_they_are() {
    for (_, bytes) in batches_of(&one_of_each(), 1 << 20) {
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                drop(read_all(&with_checksum(changed)));
            }
            if at >= PEER_BATCH_HEAD_BYTES {
                assert!(read_all(&with_checksum(bytes[..at].to_vec())).is_err());
            }
        }
    }
    let refused = |change: fn(&mut Message), offset: usize| {
        let mut message = append();
        change(&mut message);
        let (_, bytes) = batches_of(&[message], 1 << 20).remove(0);
        let offset = PEER_BATCH_HEAD_BYTES + offset;
        assert_eq!(read_all(&bytes), Err(PeerError::Malformed { offset }));
    };
    refused(|message| message.from = 0, 16);
    refused(|message| message.to = message.from, 16);
    refused(|message| message.term = 0, 32);
    refused(|message| message.commit = u64::MAX, 56);
    refused(
        |message| message.context = raft::CAMPAIGN_TRANSFER.into(),
        1,
    );
}

#[test]
fn a_batch_for_somebody_else_is_refused() {
    let (_, bytes) = batches_of(&[append()], 1 << 20).remove(0);
    let others = [
        Identity {
            cluster: ClusterId(1),
            ..RECEIVER
        },
        Identity {
            node: NodeId(9),
            ..RECEIVER
        },
        Identity {
            core: CoreId(9),
            ..RECEIVER
        },
    ];
    for other in others {
        let opened = OpenedBatch::open(&other, core_of(SENDER), &bytes);
        assert_eq!(opened.err(), Some(PeerError::Misdirected));
    }
    let opened = OpenedBatch::open(&RECEIVER, core_of(RECEIVER), &bytes);
    assert_eq!(opened.err(), Some(PeerError::Misdirected));
}

const SNAPSHOT: SnapshotId = SnapshotId {
    shard: ShardId(9),
    term: Term(6),
    index: LogIndex(20),
};

fn members() -> Membership {
    Membership::of_voters(&[Member {
        replica: ReplicaId(11),
        home: core_of(SENDER),
    }])
}

fn offer() -> Message {
    let mut offer = message(MessageType::MsgSnapshot);
    let mut snapshot = raft::eraftpb::Snapshot {
        data: encode_offer(70_000, &members()),
        ..Default::default()
    };
    let metadata = snapshot.mut_metadata();
    (metadata.index, metadata.term) = (20, 6);
    offer.set_snapshot(snapshot);
    offer
}

/// A request for a chunk, the chunk, and the word that it is gone.
fn chunks() -> [ChunkMessage<'static>; 3] {
    let contents = [
        ChunkContent::Wanted(4096),
        ChunkContent::Bytes(b"a chunk"),
        ChunkContent::Gone,
    ];
    contents.map(|content| ChunkMessage {
        from: ReplicaId(11),
        to: ReplicaId(13),
        term: Term(7),
        snapshot: SNAPSHOT,
        offset: 65_536,
        content,
    })
}

fn batch_of_snapshots() -> Vec<u8> {
    let mut batches = Batches::new(SENDER, 1 << 20);
    let mut out = Effects::default();
    batches.push(core_of(RECEIVER), ShardId(9), &offer(), &mut out);
    for chunk in chunks() {
        batches.push_chunk(core_of(RECEIVER), &chunk, &mut out);
    }
    batches.flush(|_| Stamp::default(), &mut out);
    let [Effect::Send { lane, batch, .. }] = &out.queue[..] else {
        panic!("{out:?}");
    };
    assert_eq!(*lane, PeerLane::Snapshots);
    batch.clone()
}

#[test]
fn offers_and_chunks_survive_the_round_trip() {
    let bytes = batch_of_snapshots();
    let mut opened = OpenedBatch::open(&RECEIVER, core_of(SENDER), &bytes).expect("intact");
    let mut next = || next_of(&mut opened);
    let found = next().to_offer().expect("an offer");
    assert_eq!((found.snapshot, found.term), (SNAPSHOT, Term(7)));
    assert_eq!(found.file_bytes, 70_000);
    assert_eq!(found.members, members());
    for sent in chunks() {
        let found = next().to_chunk().expect("about a chunk");
        assert_eq!(found.snapshot, sent.snapshot);
        assert_eq!((found.from, found.to), (sent.from, sent.to));
        assert_eq!((found.offset, found.content), (sent.offset, sent.content));
    }
    assert!(opened.next_message().is_none());
}

/// The bytes of version 1, for good.
#[test]
fn the_golden_batch_reads_and_writes_as_ever() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/peer-batch-1.bin");
    let batches = batches_of(&one_of_each(), 1 << 20);
    let batches = batches.into_iter().map(|(_, bytes)| bytes);
    let written: Vec<u8> = batches.chain([batch_of_snapshots()]).flatten().collect();
    if std::env::var_os("METASTORE_REWRITE_GOLDEN").is_some() {
        std::fs::write(path, &written).expect("the repository can be written");
    }
    let golden = std::fs::read(path).expect("the golden file is in the repository");
    assert_eq!(written, golden);
}

/// The bytes after the batch's head, by the description of the format.
#[test]
fn notices_are_written_as_described_and_survive_the_round_trip() {
    for (kind, code, term) in [
        (NoticeKind::Removed, 18, 7),
        (NoticeKind::Question, 19, 7),
        (NoticeKind::Question, 19, 0),
    ] {
        let notice = Notice {
            kind,
            shard: ShardId(3),
            from: ReplicaId(1),
            to: ReplicaId(2),
            term: Term(term),
        };
        let mut batches = Batches::new(SENDER, 1 << 20);
        let mut out = Effects::default();
        batches.push_notice(core_of(RECEIVER), &notice, &mut out);
        batches.flush(|_| Stamp::default(), &mut out);
        let [Effect::Send { lane, batch, .. }] = out.queue.as_slice() else {
            panic!("{:?}", out.queue);
        };
        assert_eq!(*lane, PeerLane::Urgent);
        let mut expected = [0; 80];
        (expected[0], expected[8], expected[16], expected[24]) = (code, 3, 1, 2);
        expected[32] = u8::try_from(term).expect("small");
        assert_eq!(batch[PEER_BATCH_HEAD_BYTES..], expected);
        let mut opened =
            OpenedBatch::open(&RECEIVER, core_of(SENDER), batch).expect("it is intact");
        let read = next_of(&mut opened);
        assert_eq!(read.kind, PeerKind::Notice(kind));
        assert_eq!((read.from, read.to), (notice.from, notice.to));
    }
}

/// An answer repeats the life of who asked: it is of no use to a later one.
#[test]
fn messages_about_a_repair_are_written_as_described_and_survive_the_round_trip() {
    let message = RepairMessage {
        shard: ShardId(3),
        from: ReplicaId(1),
        to: ReplicaId(2),
        term: Term(7),
        index: LogIndex(9),
        known_term: Term(6),
        life: life_of(BootNonce(u64::MAX)),
    };
    type Push = fn(&mut Batches, PeerCore, &RepairMessage, &mut Effects);
    let pushes: [(Push, u8, PeerKind); 2] = [
        (Batches::push_repair_request, 15, PeerKind::RepairRequest),
        (Batches::push_repair_target, 16, PeerKind::RepairTarget),
    ];
    for (push, code, kind) in pushes {
        let mut batches = Batches::new(SENDER, 1 << 20);
        let mut out = Effects::default();
        push(&mut batches, core_of(RECEIVER), &message, &mut out);
        batches.flush(|_| Stamp::default(), &mut out);
        let [Effect::Send { lane, batch, .. }] = out.queue.as_slice() else {
            panic!("{:?}", out.queue);
        };
        assert_eq!(*lane, PeerLane::Snapshots);
        let mut expected = [0; 80];
        (expected[0], expected[8], expected[16], expected[24]) = (code, 3, 1, 2);
        (expected[32], expected[40], expected[48]) = (7, 9, 6);
        expected[56..64].copy_from_slice(&(u64::MAX / 4).to_le_bytes());
        assert_eq!(batch[PEER_BATCH_HEAD_BYTES..], expected);
        let mut opened =
            OpenedBatch::open(&RECEIVER, core_of(SENDER), batch).expect("it is intact");
        let read = next_of(&mut opened);
        assert_eq!((read.kind, read.to_repair()), (kind, Some(message)));
    }
}
