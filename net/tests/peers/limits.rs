//! What others cannot make a core hold or do.

use std::io::Read;
use std::time::Duration;

use metastore_net::peer::{BATCH_HEAD_BYTES, PeerLane, RefusalCode};
use metastore_net::server::{LinkEnd, LinkWait, PeerOptions, Sent};

use crate::harness::{TestCore, core_of};
use crate::raw::{RawReceiver, RawSender, framed, hello_from};

const LANE: PeerLane = PeerLane::Entries;
const QUEUED_BYTES_MAX: usize = 300_000;

/// A core whose connection to a receiver that reads nothing has taken all it may, and how many batches these were.
fn sender_to_who_stands_still(
    receiver: &RawReceiver,
    options: PeerOptions,
) -> (TestCore, std::net::TcpStream, usize) {
    let options = PeerOptions {
        queued_bytes_max: [QUEUED_BYTES_MAX; 3],
        ..options
    };
    let core = TestCore::start_with(1, options);
    let address = receiver.address();
    core.call(move |inside| inside.links.set_peer(core_of(2), address));
    core.send(core_of(2), LANE, &[0; 50_000]);
    let stream = receiver.open();
    core.wait_until("the connection", |inside| {
        inside.links.is_open(core_of(2), LANE)
    });
    let mut queued = 1;
    // The kernel takes some of it first.
    loop {
        let sent = core.send(core_of(2), LANE, &[0; 50_000]);
        core.call(|inside| {
            let (queued, buffer) = (inside.links.queued_bytes(), inside.links.buffer_bytes());
            assert!(queued <= QUEUED_BYTES_MAX, "{queued} bytes wait");
            assert!(buffer <= 4 * QUEUED_BYTES_MAX, "{buffer} bytes of memory");
        });
        match sent {
            Sent::Queued => queued += 1,
            Sent::Full => break,
            other @ (Sent::Unreachable | Sent::Unknown | Sent::Unsendable) => panic!("{other:?}"),
        }
    }
    (core, stream, queued)
}

#[test]
fn for_a_reader_that_stands_still_a_bounded_amount_waits() {
    let receiver = RawReceiver::new(2);
    let (core, mut stream, mut queued) =
        sender_to_who_stands_still(&receiver, PeerOptions::default());
    let counts = core.call(|inside| inside.links.counts());
    assert_eq!(counts.dropped_full, 1);
    // Other lanes, and what is short enough for the rest, are not held up.
    assert_eq!(core.send(core_of(2), LANE, b"short"), Sent::Queued);
    queued += 1;
    assert_eq!(core.send(core_of(2), PeerLane::Urgent, b"a"), Sent::Queued);
    let _urgent = receiver.open();

    // It reads after all: everything that was taken arrives whole, and in order.
    let mut bytes = vec![0; (queued - 1) * (50_000 + BATCH_HEAD_BYTES)];
    stream.read_exact(&mut bytes).unwrap();
    assert!(bytes == framed(&[0; 50_000]).repeat(queued - 1));
    let mut last = vec![0; framed(b"short").len()];
    stream.read_exact(&mut last).unwrap();
    assert_eq!(last, framed(b"short"));
    // And there is room again.
    assert_eq!(core.send(core_of(2), LANE, b"more"), Sent::Queued);
    let mut more = vec![0; framed(b"more").len()];
    stream.read_exact(&mut more).unwrap();
    assert_eq!(more, framed(b"more"));
    core.call(|inside| {
        assert!(inside.told.unreachable.borrow().is_empty());
        assert!(
            inside.links.buffer_bytes() <= 2 * 64 * 1024,
            "it is given back"
        );
    });
}

#[test]
fn a_reader_that_stands_still_for_too_long_is_left() {
    let receiver = RawReceiver::new(2);
    let options = PeerOptions {
        unsent_timeout: Duration::from_millis(500),
        ..PeerOptions::default()
    };
    let (core, _stream, queued) = sender_to_who_stands_still(&receiver, options);
    core.wait_until("the end", |inside| {
        !inside.told.unreachable.borrow().is_empty()
    });
    let (_, _, end) = core.unreachable()[0];
    let waited_for = LinkWait::Room;
    let in_time = matches!(end, LinkEnd::TimedOut { waited_for: what } if what == waited_for);
    // The kernel may be first.
    let kind = std::io::ErrorKind::TimedOut;
    assert!(in_time || end == LinkEnd::Broken { kind }, "{end}");
    let counts = core.call(|inside| inside.links.counts());
    assert!(counts.lost > 0);
    assert_eq!(counts.sent + counts.lost, queued as u64);
    core.call(|inside| {
        assert_eq!(inside.links.queued_bytes(), 0);
        assert_eq!(inside.links.buffer_bytes(), 0);
    });
}

#[test]
fn strangers_are_few() {
    let options = PeerOptions {
        strangers_max: 2,
        ..PeerOptions::default()
    };
    let core = TestCore::start_with(2, options);
    let mut known = RawSender::open(1, &core, LANE);
    let (first, second) = (RawSender::connect(&core), RawSender::connect(&core));
    core.wait_until("both", |inside| inside.incoming.count() == 3);
    RawSender::connect(&core).assert_ended();
    let counts = core.call(|inside| inside.incoming.counts());
    assert_eq!((counts.turned_away, counts.opened), (1, 1));
    // Whoever is known is heard all the same.
    known.write(&framed(b"a"));
    core.wait_until("it", |inside| inside.told.batches.borrow().len() == 1);
    drop(first);
    core.wait_until("a place", |inside| inside.incoming.count() == 2);
    let _known_too = RawSender::open(3, &core, LANE);
    drop(second);
}

#[test]
fn connections_have_their_limit() {
    let options = PeerOptions {
        links_max: 2,
        ..PeerOptions::default()
    };
    let core = TestCore::start_with(2, options);
    let first = RawSender::open(1, &core, LANE);
    let _second = RawSender::open(3, &core, LANE);
    let mut third = RawSender::connect(&core);
    third.write(&hello_from(4, &core, LANE).encode());
    third.assert_refused(RefusalCode::Full);
    assert_eq!(core.call(|inside| inside.incoming.counts().full), 1);
    // Who takes its own place again is not one more.
    let again = RawSender::open(1, &core, LANE);
    first.assert_ended();
    drop(again);
    core.wait_until("a place", |inside| inside.incoming.open_count() == 1);
    let _third = RawSender::open(4, &core, LANE);
}

#[test]
fn a_newer_connection_takes_the_place_of_an_older() {
    let core = TestCore::start(2);
    let mut older = RawSender::open(1, &core, LANE);
    older.write(&framed(b"older"));
    core.wait_until("it", |inside| inside.told.batches.borrow().len() == 1);
    // In the middle of a batch.
    older.write(&framed(&[7; 1000])[..500]);
    core.wait_until("its part", |inside| inside.incoming.held_bytes() > 0);
    let other_lane = RawSender::open(1, &core, PeerLane::Urgent);
    let other_core = RawSender::open(3, &core, LANE);
    let mut newer = RawSender::open(1, &core, LANE);
    older.assert_ended();
    newer.write(&framed(b"newer"));
    core.wait_until("it", |inside| inside.told.batches.borrow().len() == 2);
    core.call(|inside| {
        let counts = inside.incoming.counts();
        assert_eq!((counts.opened, counts.replaced), (4, 1));
        assert_eq!(
            (inside.incoming.count(), inside.incoming.open_count()),
            (3, 3)
        );
        assert_eq!(inside.incoming.held_bytes(), 0);
        let whole = [b"older".to_vec(), b"newer".to_vec()];
        assert_eq!(inside.told.of_lane(LANE), whole);
    });
    drop((other_lane, other_core));
    core.wait_until("the others' ends", |inside| inside.incoming.count() == 1);
    // The newer one's end gives its place back.
    drop(newer);
    core.wait_until("its end", |inside| inside.incoming.open_count() == 0);
}

const HELD_BYTES_MAX: usize = 100_000;
const LONG: usize = 1 << 20;

fn short_of_memory(batch_timeout: Duration) -> TestCore {
    let options = PeerOptions {
        held_bytes_max: HELD_BYTES_MAX,
        batch_bytes_max: LONG,
        batch_timeout,
        ..PeerOptions::default()
    };
    TestCore::start_with(2, options)
}

#[test]
fn batches_in_part_hold_a_bounded_amount_and_all_of_them_end() {
    const SENDERS: usize = 12;
    const BATCHES: usize = 3;
    let core = short_of_memory(Duration::from_secs(30));
    let (bytes, nodes) = (framed(&[7; LONG]).repeat(BATCHES), 10..10 + SENDERS as u32);
    let senders: Vec<_> = nodes
        .map(|node| {
            let mut sender = RawSender::open(node, &core, LANE);
            let bytes = bytes.clone();
            std::thread::spawn(move || {
                // So that many have begun before the first can end.
                for part in bytes.chunks(150_000) {
                    sender.write(part);
                    std::thread::sleep(Duration::from_millis(1));
                }
                sender
            })
        })
        .collect();
    core.wait_until("all", |inside| {
        inside.told.batches.borrow().len() == SENDERS * BATCHES
    });
    let senders: Vec<_> = senders.into_iter().map(|sender| sender.join()).collect();
    assert!(senders.iter().all(Result::is_ok));
    core.call(|inside| {
        assert_eq!(inside.incoming.held_bytes(), 0);
        let peak = inside.told.held_bytes_peak.get();
        // What one read takes, for each connection, and two batches.
        let most = HELD_BYTES_MAX + 2 * (LONG + BATCH_HEAD_BYTES) + SENDERS * (64 << 10);
        assert!(peak > HELD_BYTES_MAX, "memory was never short");
        assert!(peak <= most, "{peak} bytes were held");
        assert_eq!(inside.incoming.counts().timed_out, 0);
    });
}

#[test]
fn who_does_not_end_its_batch_holds_the_others_up_for_a_time_only() {
    let core = short_of_memory(Duration::from_millis(1500));
    let long = framed(&[7; LONG]);
    let mut stuck = RawSender::open(1, &core, LANE);
    stuck.write(&long[..LONG / 2]);
    core.wait_until("its part", |inside| inside.incoming.held_bytes() >= LONG);
    // These have begun too, and wait.
    let mut others: Vec<_> = (3..6)
        .map(|node| RawSender::open(node, &core, LANE))
        .collect();
    for other in &mut others {
        other.write(&long[..1000]);
    }
    core.wait_until("their parts", |inside| {
        inside.incoming.held_bytes() >= LONG + 3000
    });
    // A batch that comes whole passes by.
    let mut lucky = RawSender::open(6, &core, LANE);
    lucky.write(&framed(b"whole"));
    core.wait_until("it", |inside| {
        inside.told.of_lane(LANE).contains(&b"whole".to_vec())
    });
    for other in &mut others {
        other.write(&long[1000..]);
    }
    core.wait_until("the others", |inside| {
        inside.told.batches.borrow().len() == 4
    });
    stuck.assert_ended();
    let counts = core.call(|inside| inside.incoming.counts());
    assert_eq!(counts.timed_out, 1);
}
