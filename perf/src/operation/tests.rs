use super::*;
use crate::protocol::RowsPart;
use std::collections::BTreeSet;

#[test]
fn a_mix_has_its_shares() {
    let mut requests = RequestMaker::new(1_000);
    let mix = Mix::Metadata(KeySpace::LONG);
    let mut counts = [0_u32; 4];
    for _ in 0..20_000 {
        // As if a read had just been answered.
        requests.reads.push_back((0, Revision(1)));
        let (_, asked) = requests.next_request(mix);
        let kind = asked.operation.kind();
        let position = mix.kinds().iter().position(|&found| found == kind);
        counts[position.unwrap()] += 1;
    }
    let expected = [16_000, 3_000, 800, 200];
    for (found, expected) in counts.into_iter().zip(expected) {
        // Four standard deviations of the middle ones.
        assert!(found.abs_diff(expected) <= 230, "{counts:?}");
    }
}

#[test]
fn a_swap_without_a_read_is_a_read() {
    let mut requests = RequestMaker::new(1_000);
    let swap = Mix::Only(Operation::CompareAndSwap(KeySpace::LONG));
    let (_, asked) = requests.next_request(swap);
    assert_eq!(asked.operation, Operation::Get(KeySpace::LONG));
    requests.reads.push_back((7, Revision(3)));
    let (_, asked) = requests.next_request(swap);
    assert_eq!(asked.operation, Operation::CompareAndSwap(KeySpace::LONG));
    assert_eq!(asked.number, 7);
}

#[test]
fn no_key_is_twice_in_a_batch_and_the_frequent_ones_are_in_most() {
    let space = KeySpace::BATCHED;
    let mix = Mix::Only(Operation::Batch(space, 64));
    let mut requests = RequestMaker::new(1_000);
    let mut with_first = 0;
    let mut with_last = 0;
    for _ in 0..1_000 {
        let (request, asked) = requests.next_request(mix);
        assert_eq!(asked.operation, Operation::Batch(space, 64));
        let Request::Batch(puts) = request else {
            panic!("{request:?}");
        };
        let keys: BTreeSet<&[u8]> = puts.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), 64);
        let values: BTreeSet<&[u8]> = puts.iter().map(|(_, value)| value).collect();
        assert_eq!(values.len(), 64);
        assert!(puts.iter().all(|(_, value)| value.len() == 64));
        with_first += u32::from(keys.contains(&*space.key(0)));
        with_last += u32::from(keys.contains(&*space.key(999)));
    }
    // An eighth of all draws fall on the first key, and one in 8,000 on the last.
    assert!(with_first > 980, "{with_first}");
    assert!(with_last < 60, "{with_last}");
}

#[test]
fn a_batch_may_hold_every_key() {
    let mix = Mix::Only(Operation::Batch(KeySpace::BATCHED, 100));
    let mut requests = RequestMaker::new(100);
    for _ in 0..10 {
        let (request, _) = requests.next_request(mix);
        let Request::Batch(puts) = request else {
            panic!("{request:?}");
        };
        let keys: BTreeSet<&[u8]> = puts.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), 100);
    }
}

#[test]
fn a_reply_counts_only_if_it_is_what_was_asked_for() {
    let space = KeySpace::LONG;
    let judged = |operation, reply: &Reply<'_>| Asked::new(operation, 7).judge(reply);
    let row = |value| {
        let revision = Revision(1);
        Reply::Row(Some(FoundRow { value, revision }))
    };
    let get = Operation::Get(space);
    assert_eq!(judged(get, &row(&[0; 128])), Ok(Ending::Done));
    let short = Failure::ValueLength {
        expected_bytes: 128,
        found_bytes: 3,
    };
    assert_eq!(judged(get, &row(b"abc")), Err(short));
    assert_eq!(judged(get, &Reply::Row(None)), Err(Failure::Absent));
    assert_eq!(judged(get, &Reply::Done), Err(Failure::Mismatch));

    let swap = Operation::CompareAndSwap(space);
    assert_eq!(judged(swap, &Reply::Conflict), Ok(Ending::Conflict));
    let refused = Failure::Outcome(OutcomeCode::Conflict);
    let put = judged(Operation::Put(space), &Reply::Conflict);
    assert_eq!(put, Err(refused));

    let batch = Operation::Batch(space, 64);
    assert_eq!(judged(batch, &Reply::Batch { done: 64 }), Ok(Ending::Done));
    let fewer = Failure::BatchCount {
        expected: 64,
        found: 63,
    };
    assert_eq!(judged(batch, &Reply::Batch { done: 63 }), Err(fewer));
    assert_eq!(judged(batch, &Reply::Done), Err(Failure::Mismatch));
}

#[test]
fn a_list_ends_with_its_last_part_and_begins_with_its_key() {
    let space = KeySpace::LONG;
    let key = space.key(7);
    let other = space.key(8);
    let part = |count, first_key, is_last| {
        Reply::Rows(RowsPart {
            count,
            first_key,
            is_last,
        })
    };
    let mut asked = Asked::new(Operation::List(space), 7);
    let more = asked.judge(&part(1, Some(&key), false));
    assert_eq!(more, Ok(Ending::Unfinished));
    let end = asked.judge(&part(1, Some(&other), true));
    assert_eq!(end, Ok(Ending::Done), "only the first row is the key");
    for wrong in [part(1, Some(&other), true), part(0, None, true)] {
        let mut asked = Asked::new(Operation::List(space), 7);
        assert_eq!(asked.judge(&wrong), Err(Failure::Absent));
    }
}

#[test]
fn what_was_not_done_may_be_done_elsewhere_or_later() {
    let refused = |code, hint: &str| {
        let mut error = WireError::new(code);
        error.hint = hint.to_owned();
        Failure::Refused(error)
    };
    let elsewhere = refused(ErrorCode::NotLeader, "h:1");
    assert_eq!(elsewhere.redirect(), Some("h:1"));
    assert_eq!(refused(ErrorCode::NotLeader, "").redirect(), Some(""));
    let busy = refused(ErrorCode::Overloaded, "");
    assert_eq!((busy.redirect(), busy.may_pass()), (None, true));
    assert!(elsewhere.may_pass());
    assert!(!Failure::Absent.may_pass());
    let unknown = WireError::new(ErrorCode::NotLeader).outcome_unknown();
    assert!(!Failure::Refused(unknown).may_pass());
}

#[test]
fn requests_follow_the_leaders_of_their_keys() {
    use metastore_net::{ShardMapReply, ShardPlace, SlotRange};
    let place = |shard: u32| ShardPlace {
        shard,
        slots: vec![SlotRange {
            first: shard as u16 * 8_192,
            last: shard as u16 * 8_192 + 8_191,
        }],
        node_id: shard + 1,
        core_index: 0,
        address: format!("127.0.0.1:{}", 7_001 + shard),
        followers: Vec::new(),
        follower_nodes: Vec::new(),
    };
    let map = ShardMapReply {
        epoch: 1,
        slot_count: 16_384,
        shards: vec![place(0), place(1)],
    };
    let routes = Routes::of(&map).unwrap().unwrap();
    let space = KeySpace::BATCHED;
    let mut requests = RequestMaker::new(1_000);
    requests.follow(Some(&routes), Some(space));
    requests.set_lanes(&[4, 9]);
    let lane_of = |key: &[u8]| [4, 9][routes.shard_of(key)];
    let mut lanes = BTreeSet::new();
    for _ in 0..200 {
        let (request, asked) = requests.next_request(Mix::Only(Operation::Batch(space, 64)));
        let Request::Batch(puts) = request else {
            panic!("{request:?}");
        };
        let keys: BTreeSet<&[u8]> = puts.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), 64);
        assert!(keys.iter().all(|key| lane_of(key) == asked.lane));
        lanes.insert(asked.lane);
    }
    assert_eq!(lanes, BTreeSet::from([4, 9]));
    let (_, asked) = requests.next_request(Mix::Only(Operation::Get(space)));
    // The leader of all is another one by then.
    requests.set_lanes(&[1, 1]);
    let (again, moved) = requests.again(&asked);
    let Request::Get { key } = again else {
        panic!("{again:?}");
    };
    assert_eq!(*key, *space.key(asked.number));
    assert_eq!((moved.lane, moved.operation), (1, asked.operation));
    assert_eq!(requests.batch_keys_max(), 1_000);
    requests.follow(None, Some(space));
    let (_, alone) = requests.next_request(Mix::Only(Operation::Get(space)));
    assert_eq!(alone.lane, 0);
}
