//! Batches that arrive.

use metastore_net::peer::PeerLane;
use metastore_net::server::Sent;

use crate::harness::{TestCore, core_of};

/// From shorter than their heads to far longer than what is read at once.
fn batches(seed: u8) -> Vec<Vec<u8>> {
    [1, 7, 100, 3000, 64 << 10, 70_000, 1 << 20, 5]
        .iter()
        .zip(seed..)
        .map(|(&length, byte)| vec![byte; length])
        .collect()
}

#[test]
fn every_lane_carries_batches_both_ways() {
    let (left, right) = (TestCore::start(1), TestCore::start(2));
    for (core, other) in [(&left, &right), (&right, &left)] {
        core.knows(other);
        for lane in PeerLane::ALL {
            let to = other.core;
            core.call(move |inside| {
                for batch in batches(lane.code()) {
                    assert_eq!(inside.links.send(to, lane, &batch), Sent::Queued);
                }
                inside.links.flush();
            });
        }
    }
    for (core, other) in [(&left, &right), (&right, &left)] {
        let all = PeerLane::ALL.len() * batches(0).len();
        core.wait_until("everything", move |inside| {
            let is_sent = inside.links.queued_bytes() == 0;
            is_sent && inside.told.batches.borrow().len() == all
        });
        let (from, to) = (other.core, other.core);
        core.call(move |inside| {
            for lane in PeerLane::ALL {
                assert_eq!(inside.told.of_lane(lane), batches(lane.code()));
                assert!(inside.links.is_open(to, lane));
            }
            let batches = inside.told.batches.borrow();
            assert!(batches.iter().all(|(of, _, _)| *of == from));
            assert!(inside.told.read_ends.get() <= batches.len());
            assert!(inside.told.unreachable.borrow().is_empty());
            let counts = inside.incoming.counts();
            assert_eq!((counts.opened, counts.batches), (3, all as u64));
            assert_eq!(
                (inside.incoming.count(), inside.incoming.open_count()),
                (3, 3)
            );
            assert_eq!(inside.incoming.held_bytes(), 0);
            let counts = inside.links.counts();
            assert_eq!((counts.attempts, counts.opened), (3, 3));
            assert_eq!((counts.sent, counts.lost), (all as u64, 0));
            assert_eq!(inside.links.queued_bytes(), 0);
        });
    }
}

#[test]
fn connections_are_made_when_there_is_something_to_say() {
    let (left, right) = (TestCore::start(1), TestCore::start(2));
    left.knows(&right);
    assert_eq!(left.call(|inside| inside.links.counts().attempts), 0);
    left.send(right.core, PeerLane::Urgent, b"a");
    right.wait_until("it", |inside| inside.told.batches.borrow().len() == 1);
    assert_eq!(left.call(|inside| inside.links.counts().attempts), 1);
    assert_eq!(right.call(|inside| inside.incoming.count()), 1);
}

#[test]
fn the_batches_of_a_turn_leave_in_one_write() {
    let (left, right) = (TestCore::start(1), TestCore::start(2));
    left.knows(&right);
    let (to, lane) = (right.core, PeerLane::Entries);
    left.send(to, lane, b"opens");
    right.wait_until("it", |inside| inside.told.batches.borrow().len() == 1);
    for turn in 1..=10 {
        left.call(move |inside| {
            for number in 0..100 {
                assert_eq!(inside.links.send(to, lane, &[number; 50]), Sent::Queued);
            }
            inside.links.flush();
        });
        left.wait_until("the turn's end", |inside| inside.links.queued_bytes() == 0);
        let counts = left.call(|inside| inside.links.counts());
        assert_eq!((counts.writes, counts.sent), (1 + turn, 1 + turn * 100));
    }
    right.wait_until("all", |inside| inside.told.batches.borrow().len() == 1001);
}

#[test]
fn what_cannot_be_sent_is_said() {
    let (left, right) = (TestCore::start(1), TestCore::start(2));
    left.knows(&right);
    let lane = PeerLane::Entries;
    assert_eq!(left.send(core_of(9), lane, b"a"), Sent::Unknown);
    assert_eq!(left.send(right.core, lane, b""), Sent::Unsendable);
    let counts = left.call(|inside| inside.links.counts());
    assert_eq!((counts.dropped_unsendable, counts.attempts), (2, 0));
}
