//! Connections that end, or cannot be made.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use metastore_net::peer::{
    AnswerFault, BackoffAttempt, HelloFault, IncomingFault, LocalPeer, OutgoingFault, PeerAnswer,
    PeerLane, PeerVerdict, RefusalCode, choose_backoff,
};
use metastore_net::server::{LinkEnd, LinkWait, PeerOptions, Sent};

use crate::harness::{TestCore, core_of, local_of, own_host};
use crate::raw::{RawReceiver, framed};

const SHORT: Duration = Duration::from_millis(60);
const LANE: PeerLane = PeerLane::Entries;

/// A core that knows where a receiver is, and has said one thing to it.
fn sender_to(receiver: &RawReceiver, options: PeerOptions) -> TestCore {
    let core = TestCore::start_with(1, options);
    let address = receiver.address();
    core.call(move |inside| inside.links.set_peer(core_of(2), address));
    assert_eq!(core.send(core_of(2), LANE, b"first"), Sent::Queued);
    core
}

/// Waits for the first word about an end, and gives it.
fn first_end(core: &TestCore) -> LinkEnd {
    core.wait_until("an end", |inside| {
        !inside.told.unreachable.borrow().is_empty()
    });
    let ends = core.unreachable();
    let (peer, lane, end) = ends[0];
    assert_eq!((peer, lane, ends.len()), (core_of(2), LANE, 1));
    end
}

/// Says something again and again until an attempt was made so often.
fn insist(core: &TestCore, attempts: u64) {
    core.wait_until("attempts", move |inside| {
        inside.send(core_of(2), LANE, b"again");
        inside.links.counts().attempts >= attempts
    });
}

#[test]
fn a_restart_is_told_once_for_each_lane_and_mended_after_a_wait() {
    let left = TestCore::start(1);
    let right = TestCore::start(2);
    let (to, address) = (right.core, right.address);
    left.knows(&right);
    for lane in PeerLane::ALL {
        assert_eq!(left.send(to, lane, b"before"), Sent::Queued);
    }
    right.wait_until("all lanes", |inside| {
        inside.told.batches.borrow().len() == 3
    });

    drop(right);
    // Also who has nothing to say hears of it.
    left.wait_until("the ends", |inside| {
        inside.told.unreachable.borrow().len() == 3
    });
    let mut lanes: Vec<_> = left.unreachable();
    lanes.sort_by_key(|(_, lane, _)| *lane);
    for ((peer, lane, end), expected) in lanes.into_iter().zip(PeerLane::ALL) {
        assert_eq!((peer, lane), (to, expected));
        assert!(
            matches!(end, LinkEnd::Closed | LinkEnd::Broken { .. }),
            "{end}"
        );
    }

    // While nobody is there, attempts are few, and nothing more is said about them.
    let mut turns = 0;
    while left.call(|inside| inside.links.counts().attempts) < 3 + 3 * 4 {
        turns += 1;
        for lane in PeerLane::ALL {
            left.send(to, lane, b"meanwhile");
        }
    }
    assert_eq!(left.unreachable().len(), 3);
    let counts = left.call(|inside| inside.links.counts());
    assert_eq!((counts.opened, counts.ended), (3, 3));
    assert!(counts.dropped_unreachable > 0, "{turns} turns, {counts:?}");

    let local = LocalPeer {
        incarnation: 5,
        ..local_of(2)
    };
    let right = TestCore::start_at(address, local, PeerOptions::default());
    left.wait_until("all lanes again", move |inside| {
        for lane in PeerLane::ALL {
            inside.send(to, lane, b"after");
        }
        inside.links.counts().opened == 6
    });
    for lane in PeerLane::ALL {
        right.wait_until("what was said after", move |inside| {
            inside.told.of_lane(lane).contains(&b"after".to_vec())
        });
    }
    assert_eq!(left.unreachable().len(), 3);
}

#[test]
fn every_batch_is_sent_lost_or_dropped() {
    let left = TestCore::start(1);
    let right = TestCore::start(2);
    let (to, address) = (right.core, right.address);
    left.knows(&right);
    let mut right = Some(right);
    let (mut queued, mut unreachable) = (0, 0);
    for turn in 0..60 {
        match turn {
            20 => drop(right.take()),
            40 => {
                right = Some(TestCore::start_at(
                    address,
                    local_of(2),
                    PeerOptions::default(),
                ))
            }
            _ => {}
        }
        match left.send(to, LANE, &[7; 5000]) {
            Sent::Queued => queued += 1,
            Sent::Unreachable => unreachable += 1,
            other @ (Sent::Full | Sent::Unknown | Sent::Unsendable) => panic!("{other:?}"),
        }
    }
    left.wait_until("all", |inside| inside.links.queued_bytes() == 0);
    left.wait_until("a word on each", move |inside| {
        let counts = inside.links.counts();
        counts.sent + counts.lost == queued
    });
    let counts = left.call(|inside| inside.links.counts());
    assert_eq!(counts.dropped_unreachable, unreachable);
}

#[test]
fn nobody_listens() {
    let core = TestCore::start(1);
    let nobody = SocketAddr::from((own_host(), 1));
    core.call(move |inside| inside.links.set_peer(core_of(2), nobody));
    core.send(core_of(2), LANE, b"a");
    let refused = LinkEnd::Unconnected {
        kind: ErrorKind::ConnectionRefused,
    };
    assert_eq!(first_end(&core), refused);
    insist(&core, 5);
    assert_eq!(core.unreachable().len(), 1, "it is said once");
    let counts = core.call(|inside| inside.links.counts());
    assert_eq!((counts.opened, counts.ended, counts.sent), (0, 0, 0));
    assert!(counts.lost >= 4 && counts.dropped_unreachable > 0);
}

#[test]
fn nobody_answers() {
    let receiver = RawReceiver::new(2);
    let options = PeerOptions {
        connect_timeout: SHORT,
        ..PeerOptions::default()
    };
    let core = sender_to(&receiver, options);
    // The kernel takes the connection and the hello, as it does for a process that hangs.
    let waited_for = LinkWait::Answer;
    assert_eq!(first_end(&core), LinkEnd::TimedOut { waited_for });
    insist(&core, 3);
    assert_eq!(core.unreachable().len(), 1);
}

#[test]
fn an_answer_that_drips_in_does_not_buy_time() {
    let receiver = RawReceiver::new(2);
    let options = PeerOptions {
        connect_timeout: SHORT,
        ..PeerOptions::default()
    };
    let core = sender_to(&receiver, options);
    let (mut stream, _) = receiver.accept();
    for byte in receiver.consent().encode() {
        std::thread::sleep(Duration::from_millis(3));
        if stream.write_all(&[byte]).is_err() {
            break;
        }
    }
    let waited_for = LinkWait::Answer;
    assert_eq!(first_end(&core), LinkEnd::TimedOut { waited_for });
}

#[test]
fn who_is_not_meant_refuses_and_is_not_sent_anything() {
    let (left, right) = (TestCore::start(1), TestCore::start(3));
    let address = right.address;
    left.call(move |inside| inside.links.set_peer(core_of(2), address));
    left.send(core_of(2), LANE, b"a");
    let refused = OutgoingFault::Refused {
        by: core_of(3),
        code: RefusalCode::Receiver,
    };
    assert_eq!(first_end(&left), LinkEnd::Fault(refused));
    insist(&left, 3);
    assert_eq!(left.unreachable().len(), 1);
    let expected = HelloFault::Receiver {
        expected: core_of(3),
        found: core_of(2),
    };
    let expected = IncomingFault::Hello(expected);
    right.call(move |inside| {
        let refused = inside.told.refused.borrow();
        assert!(refused.iter().all(|fault| *fault == expected));
        assert_eq!(inside.incoming.counts().wrong_core, refused.len() as u64);
        assert_eq!(inside.told.batches.borrow().len(), 0);
    });
    // Both give up what was refused.
    right.wait_until("it is gone", |inside| inside.incoming.count() == 0);
}

#[test]
fn consent_of_somebody_else_opens_nothing() {
    let receiver = RawReceiver::new(2);
    let core = sender_to(&receiver, PeerOptions::default());
    let (mut stream, _) = receiver.accept();
    let mut answer = PeerAnswer::new(local_of(2), PeerVerdict::Accepted { version: 1 });
    answer.receiver.cluster_id += 1;
    stream.write_all(&answer.encode()).unwrap();
    let fault = AnswerFault::Cluster {
        expected: 77,
        found: 78,
    };
    let end = LinkEnd::Fault(OutgoingFault::Answer(fault));
    assert_eq!(first_end(&core), end);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [], "not a batch was sent to it");
}

#[test]
fn bytes_that_are_no_answer_open_nothing() {
    let receiver = RawReceiver::new(2);
    let core = sender_to(&receiver, PeerOptions::default());
    let (mut stream, _) = receiver.accept();
    stream.write_all(&[b'x'; 100]).unwrap();
    let fault = AnswerFault::Magic { found: 0x7878_7878 };
    let end = LinkEnd::Fault(OutgoingFault::Answer(fault));
    assert_eq!(first_end(&core), end);
}

#[test]
fn a_receiver_that_says_more_than_its_answer_is_left() {
    let receiver = RawReceiver::new(2);
    let core = sender_to(&receiver, PeerOptions::default());
    let mut stream = receiver.open();
    let mut batch = vec![0; framed(b"first").len()];
    stream.read_exact(&mut batch).unwrap();
    assert_eq!(batch, framed(b"first"));
    stream.write_all(b"!").unwrap();
    assert_eq!(first_end(&core), LinkEnd::Fault(OutgoingFault::Chatter));
}

#[test]
fn a_receiver_that_closes_only_its_direction_is_left() {
    let receiver = RawReceiver::new(2);
    let core = sender_to(&receiver, PeerOptions::default());
    let mut stream = receiver.open();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(first_end(&core), LinkEnd::Closed);
    // It hangs up itself, and comes back when there is something to say.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    insist(&core, 2);
    receiver.open();
}

#[test]
fn who_accepts_and_closes_is_asked_less_and_less() {
    let receiver = RawReceiver::new(2);
    let core = sender_to(&receiver, PeerOptions::default());
    let mut attempt = BackoffAttempt::default();
    for round in 1..=6 {
        let began = Instant::now();
        drop(receiver.open());
        core.wait_until("the end", move |inside| {
            inside.told.unreachable.borrow().len() == round
        });
        attempt = attempt.after_end(Some(began.elapsed()));
        insist(&core, round as u64 + 1);
        assert!(began.elapsed() >= choose_backoff(attempt, 0), "{attempt:?}");
    }
    // Each of these connections could be used, so that each end was told.
    let counts = core.call(|inside| inside.links.counts());
    assert_eq!((counts.opened, counts.ended), (6, 6));
}

#[test]
fn a_core_that_is_removed_is_hung_up_on_without_a_word() {
    let (left, right) = (TestCore::start(1), TestCore::start(2));
    left.knows(&right);
    let to = right.core;
    for lane in PeerLane::ALL {
        left.send(to, lane, b"a");
    }
    right.wait_until("all lanes", |inside| {
        inside.told.batches.borrow().len() == 3
    });
    left.call(move |inside| {
        assert_eq!(inside.links.send(to, LANE, b"lost"), Sent::Queued);
        inside.links.remove_peer(to);
        inside.links.flush();
        assert_eq!(inside.links.send(to, LANE, b"b"), Sent::Unknown);
    });
    right.wait_until("the ends", |inside| inside.incoming.count() == 0);
    assert_eq!(left.unreachable(), []);
    let counts = left.call(|inside| inside.links.counts());
    assert_eq!((counts.ended, counts.sent, counts.lost), (3, 3, 1));
    // It may come again.
    left.knows(&right);
    left.send(to, LANE, b"c");
    right.wait_until("it", |inside| inside.told.batches.borrow().len() == 4);
}

#[test]
fn a_core_that_moves_is_found_after_its_connection_ends() {
    let left = TestCore::start(1);
    let (old, new) = (RawReceiver::new(2), RawReceiver::new(2));
    let (to, address) = (core_of(2), old.address());
    left.call(move |inside| inside.links.set_peer(to, address));
    left.send(to, LANE, b"a");
    let mut stream = old.open();
    let mut batch = vec![0; framed(b"a").len()];
    stream.read_exact(&mut batch).unwrap();
    let address = new.address();
    left.call(move |inside| inside.links.set_peer(to, address));
    // What exists lives on.
    left.send(to, LANE, b"b");
    stream.read_exact(&mut batch).unwrap();
    assert_eq!(batch, framed(b"b"));
    drop(stream);
    assert!(matches!(first_end(&left), LinkEnd::Closed));
    insist(&left, 2);
    new.open();
}

#[test]
fn a_node_that_was_formatted_anew_is_not_heard() {
    let left = TestCore::start(1);
    let first = TestCore::start(2);
    first.knows(&left);
    let (to, address) = (left.core, first.address);
    assert_eq!(first.send(to, LANE, b"first"), Sent::Queued);
    left.wait_until("the first word", |inside| {
        inside.told.batches.borrow().len() == 1
    });
    drop(first);
    let wiped = LocalPeer {
        incarnation: 5,
        data_id: 9,
        ..local_of(2)
    };
    let second = TestCore::start_at(address, wiped, PeerOptions::default());
    second.knows(&left);
    assert_eq!(second.send(to, LANE, b"second"), Sent::Queued);
    second.wait_until("a refusal", |inside| {
        !inside.told.unreachable.borrow().is_empty()
    });
    let refused = OutgoingFault::Refused {
        by: to,
        code: RefusalCode::OtherData,
    };
    assert_eq!(second.unreachable(), [(to, LANE, LinkEnd::Fault(refused))]);
    assert_eq!(left.call(|inside| inside.incoming.counts().other_data), 1);
    assert_eq!(left.call(|inside| inside.told.batches.borrow().len()), 1);
}
