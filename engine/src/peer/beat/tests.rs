//! Beats as they stand on the wire.

use super::*;

const STAMP: Stamp = Stamp {
    boot: 0x0807_0605_0403_0201,
    sent_ns: 500,
    echo: Echo {
        boot: u64::MAX,
        sent_ns: 400,
        held_ns: 30,
    },
    tick_needed_us: 15_000,
    tick_us: 50_000,
};

fn message(kind: MessageType) -> Message {
    let mut message = Message::default();
    message.set_msg_type(kind);
    (message.from, message.to, message.term) = (11, 13, 7);
    message.commit = 19;
    message
}

fn beat() -> Vec<u8> {
    let mut records = Vec::new();
    let heartbeat = message(MessageType::MsgHeartbeat);
    let response = message(MessageType::MsgHeartbeatResponse);
    encode_record(ShardId(9), &heartbeat, Aside::Sleep, &mut records);
    encode_record(ShardId(10), &response, Aside::Lead, &mut records);
    let mut bytes = Vec::new();
    encode(&STAMP, &records, &mut bytes);
    bytes
}

#[test]
fn a_beat_survives_the_round_trip_and_leaves_what_follows() {
    let bytes = [&beat()[..], b"more"].concat();
    let mut rest = &bytes[..];
    let beat = decode(&mut rest, 40).expect("intact");
    assert_eq!(rest, b"more");
    assert_eq!(beat.stamp, STAMP);
    let records: Vec<BeatRecord> = beat.records().collect();
    let [first, second] = &records[..] else {
        panic!("{records:?}");
    };
    assert_eq!((first.shard, first.aside), (ShardId(9), Aside::Sleep));
    assert_eq!((second.shard, second.aside), (ShardId(10), Aside::Lead));
    assert_eq!(first.to_raft(), message(MessageType::MsgHeartbeat));
    assert_eq!(second.to_raft(), message(MessageType::MsgHeartbeatResponse));
}

/// The bytes of version 1, for good.
#[test]
fn the_golden_beat_reads_and_writes_as_ever() {
    let golden = [
        17, 0, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, // kind, lengths
        1, 2, 3, 4, 5, 6, 7, 8, 0xf4, 1, 0, 0, 0, 0, 0, 0, // boot, sent
        255, 255, 255, 255, 255, 255, 255, 255, 0x90, 1, 0, 0, 0, 0, 0, 0, // echo
        30, 0, 0, 0, 0, 0, 0, 0, 0x98, 0x3a, 0, 0, 0x50, 0xc3, 0, 0, // held, ticks
        3, 1, 0, 0, 9, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, // a heartbeat
        13, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, //
        4, 2, 0, 0, 10, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, // an answer
        13, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(beat(), golden);
}

#[test]
fn heartbeats_that_confirm_reads_stand_for_themselves() {
    let mut heartbeat = message(MessageType::MsgHeartbeat);
    assert!(is_merged(&heartbeat));
    heartbeat.context = b"reads".to_vec().into();
    assert!(!is_merged(&heartbeat));
    assert!(!is_merged(&message(MessageType::MsgAppend)));
}

#[test]
fn a_beat_that_is_cut_or_makes_no_sense_is_refused() {
    let bytes = beat();
    for length in 0..bytes.len() {
        assert!(decode(&mut &bytes[..length], 0).is_err(), "{length} bytes");
    }
    let refused = |at: usize, value: u8, offset: usize| {
        let mut changed = bytes.clone();
        changed[at] = value;
        let found = decode(&mut &changed[..], 100).err();
        let offset = 100 + offset;
        assert_eq!(found, Some(PeerError::Malformed { offset }), "byte {at}");
    };
    let (first, second) = (BEAT_HEAD_BYTES, BEAT_HEAD_BYTES + RECORD_BYTES);
    refused(1, 1, 1);
    refused(8, 1, 1);
    refused(31, 0xff, 24);
    refused(47, 0xff, 40);
    refused(55, 0xff, 48);
    // The count, and a length that is no number of records.
    refused(12, 3, 12);
    refused(4, 79, 12);
    // No heartbeat, an aside that there is not, one that leaders do not say, a reserved byte.
    refused(first, 1, first);
    refused(first + 1, 3, first);
    refused(first + 1, LEAD_CODE, first);
    refused(first + 2, 1, first);
    // Nobody sends it, to itself, in no term, of an impossible one.
    refused(second + 8, 0, second);
    refused(second + 8, 13, second);
    refused(second + 24, 0, second);
    refused(second + 31, 0xff, second);
}
