//! Who sends what no core of the cluster would send.

use std::io::Write;
use std::time::{Duration, Instant};

use metastore_net::peer::{
    BATCH_HEAD_BYTES, BatchFault, HelloFault, IncomingFault, PEER_HELLO_BYTES, PeerHello, PeerLane,
    RefusalCode, VersionRange,
};
use metastore_net::server::{IncomingCounts, PeerOptions};

use crate::harness::{PATIENCE, TestCore, core_of, local_of};
use crate::raw::{RawSender, framed, hello_from};

const SHORT: Duration = Duration::from_millis(60);
const LANE: PeerLane = PeerLane::Entries;

/// Whoever was there before, a core of the cluster is heard, nobody else is left, and this is what was counted.
fn assert_unharmed(core: &TestCore, count: impl Fn(&IncomingCounts) -> u64) {
    let mut good = RawSender::open(1, core, PeerLane::Urgent);
    good.write(&framed(b"good"));
    core.wait_until("it", |inside| {
        inside.told.of_lane(PeerLane::Urgent) == [b"good"]
    });
    core.wait_until("the others' ends", |inside| inside.incoming.count() == 1);
    let counts = core.call(|inside| inside.incoming.counts());
    assert_eq!(count(&counts), 1, "{counts:?}");
    assert_eq!(core.call(|inside| inside.incoming.held_bytes()), 0);
}

fn only_fault(core: &TestCore) -> IncomingFault {
    let refused = core.call(|inside| inside.told.refused.borrow().clone());
    assert_eq!(refused.len(), 1);
    refused[0]
}

/// Says a hello of another kind, with batches at once behind it, and is refused by name.
fn assert_hello_refused(
    change: impl FnOnce(&mut PeerHello),
    code: RefusalCode,
    expected: HelloFault,
    count: impl Fn(&IncomingCounts) -> u64,
) {
    let core = TestCore::start(2);
    let mut hello = hello_from(1, &core, LANE);
    change(&mut hello);
    let mut sender = RawSender::connect(&core);
    sender.write(&[&hello.encode()[..], &framed(b"unheard")].concat());
    sender.assert_refused(code);
    assert_eq!(only_fault(&core), IncomingFault::Hello(expected));
    assert_unharmed(&core, count);
    assert_eq!(core.call(|inside| inside.told.batches.borrow().len()), 1);
}

#[test]
fn another_cluster_is_refused() {
    assert_hello_refused(
        |hello| hello.sender.cluster_id = 5,
        RefusalCode::Cluster,
        HelloFault::Cluster {
            expected: 77,
            found: 5,
        },
        |counts| counts.wrong_cluster,
    );
}

#[test]
fn a_cluster_of_other_shards_is_refused() {
    assert_hello_refused(
        |hello| hello.sender.initial_map_hash = 98,
        RefusalCode::InitialMap,
        HelloFault::InitialMap {
            expected: 99,
            found: 98,
        },
        |counts| counts.wrong_cluster,
    );
}

#[test]
fn who_was_left_out_of_a_recovery_is_refused_and_who_was_in_a_later_one_too() {
    for (found, code) in [(2, RefusalCode::LeftOut), (4, RefusalCode::NotRecovered)] {
        assert_hello_refused(
            |hello| hello.sender.cluster_epoch = found,
            code,
            HelloFault::Epoch { expected: 3, found },
            |counts| counts.wrong_cluster,
        );
    }
}

#[test]
fn who_means_another_node_is_refused() {
    assert_hello_refused(
        |hello| hello.receiver.node = 3,
        RefusalCode::Receiver,
        HelloFault::Receiver {
            expected: core_of(2),
            found: core_of(3),
        },
        |counts| counts.wrong_core,
    );
}

#[test]
fn who_means_another_core_is_refused() {
    let mut meant = core_of(2);
    meant.core = 1;
    assert_hello_refused(
        |hello| hello.receiver = meant,
        RefusalCode::Receiver,
        HelloFault::Receiver {
            expected: core_of(2),
            found: meant,
        },
        |counts| counts.wrong_core,
    );
}

#[test]
fn who_claims_to_be_this_node_is_refused() {
    assert_hello_refused(
        |hello| hello.sender = local_of(2),
        RefusalCode::Sender,
        HelloFault::Sender { found: core_of(2) },
        |counts| counts.wrong_core,
    );
}

#[test]
fn another_version_is_refused() {
    let offered = VersionRange { min: 2, max: 7 };
    assert_hello_refused(
        |hello| hello.versions = offered,
        RefusalCode::Version,
        HelloFault::Version { offered },
        |counts| counts.wrong_version,
    );
}

#[test]
fn a_damaged_hello_is_refused() {
    let core = TestCore::start(2);
    let mut sender = RawSender::connect(&core);
    let mut hello = hello_from(1, &core, LANE).encode();
    hello[40] ^= 1;
    sender.write(&hello);
    sender.assert_refused(RefusalCode::Damaged);
    let fault = only_fault(&core);
    assert!(
        matches!(fault, IncomingFault::Hello(HelloFault::Checksum { .. })),
        "{fault}"
    );
    assert_unharmed(&core, |counts| counts.damaged);
}

#[test]
fn garbage_gets_no_answer() {
    let core = TestCore::start(2);
    let mut sender = RawSender::connect(&core);
    sender.write(b"GET / HTTP/1.1\r\n\r\n");
    sender.assert_ended();
    let found = u32::from_le_bytes(*b"GET ");
    let expected = IncomingFault::Hello(HelloFault::Magic { found });
    assert_eq!(only_fault(&core), expected);
    assert_unharmed(&core, |counts| counts.strangers);
}

/// Sends bytes on an open connection that are no batch, behind one that is.
fn assert_batch_refused(bytes: &[u8], expected: BatchFault) {
    let options = PeerOptions {
        batch_bytes_max: 1000,
        ..PeerOptions::default()
    };
    let core = TestCore::start_with(2, options);
    let mut sender = RawSender::open(1, &core, LANE);
    sender.write(&[&framed(b"before"), bytes].concat());
    sender.assert_ended();
    assert_eq!(only_fault(&core), IncomingFault::Batch(expected));
    assert_eq!(
        core.call(|inside| inside.told.of_lane(LANE)),
        [b"before".to_vec()]
    );
    assert_unharmed(&core, |counts| counts.bad_batches);
}

#[test]
fn a_batch_above_the_limit_is_refused_from_its_head() {
    let too_long = BatchFault::TooLong {
        limit: 1000,
        actual: 1001,
    };
    let head = &framed(&[0; 1001])[..BATCH_HEAD_BYTES];
    assert_batch_refused(head, too_long);
}

#[test]
fn bytes_that_are_no_head_of_a_batch_are_refused() {
    let head = [9, 0, 0, 0, 9, 0, 0, 0];
    let fault = BatchFault::Head {
        length: 9,
        inverse: 9,
    };
    assert_batch_refused(&head, fault);
    let empty = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    assert_batch_refused(&empty, BatchFault::Empty);
}

#[test]
fn a_batch_that_is_cut_is_not_handed_over() {
    for end in [1, BATCH_HEAD_BYTES, 5000] {
        let core = TestCore::start(2);
        let mut sender = RawSender::open(1, &core, LANE);
        sender.write(&framed(b"whole"));
        sender.write(&framed(&[7; 100_000])[..end]);
        drop(sender);
        core.wait_until("its end", |inside| inside.incoming.count() == 0);
        assert_eq!(
            core.call(|inside| inside.told.of_lane(LANE)),
            [b"whole".to_vec()]
        );
        assert_unharmed(&core, |counts| counts.cut_short);
        // It is nobody's fault that is worth a word.
        assert_eq!(core.call(|inside| inside.told.refused.borrow().len()), 0);
    }
}

#[test]
fn an_end_between_batches_is_an_ordinary_one() {
    let core = TestCore::start(2);
    let mut sender = RawSender::open(1, &core, LANE);
    sender.write(&framed(b"whole"));
    drop(sender);
    core.wait_until("its end", |inside| inside.incoming.count() == 0);
    assert_unharmed(&core, |counts| counts.cut_short + 1);
}

#[test]
fn a_hello_that_is_cut_opens_nothing() {
    let core = TestCore::start(2);
    let mut sender = RawSender::connect(&core);
    let hello = hello_from(1, &core, LANE).encode();
    sender.write(&hello[..PEER_HELLO_BYTES - 1]);
    drop(sender);
    core.wait_until("its end", |inside| {
        inside.incoming.counts().cut_short == 1 && inside.incoming.count() == 0
    });
    assert_unharmed(&core, |counts| counts.cut_short);
    assert_eq!(core.call(|inside| inside.incoming.counts().opened), 1);
}

fn impatient() -> TestCore {
    let options = PeerOptions {
        hello_timeout: SHORT,
        batch_timeout: SHORT,
        ..PeerOptions::default()
    };
    TestCore::start_with(2, options)
}

/// Writes one byte after the other until the other end has closed.
fn drip(sender: &mut RawSender, bytes: &[u8]) {
    let began = Instant::now();
    for byte in bytes {
        assert!(began.elapsed() < PATIENCE, "it is not cut");
        std::thread::sleep(Duration::from_millis(3));
        if sender.stream.write_all(&[*byte]).is_err() {
            // Its time may have begun a little before.
            assert!(began.elapsed() >= SHORT / 2, "cut too early");
            return;
        }
    }
    panic!("{} bytes dripped in", bytes.len());
}

#[test]
fn without_a_hello_a_connection_is_closed() {
    let core = impatient();
    RawSender::connect(&core).assert_ended();
    assert_unharmed(&core, |counts| counts.timed_out);
}

#[test]
fn a_hello_that_drips_in_does_not_buy_time() {
    let core = impatient();
    let mut sender = RawSender::connect(&core);
    drip(&mut sender, &hello_from(1, &core, LANE).encode());
    assert_unharmed(&core, |counts| counts.timed_out);
}

#[test]
fn a_batch_that_drips_in_does_not_buy_time() {
    let core = impatient();
    let mut sender = RawSender::open(1, &core, LANE);
    drip(&mut sender, &framed(&[7; 10_000]));
    assert_unharmed(&core, |counts| counts.timed_out);
    assert_eq!(core.call(|inside| inside.told.of_lane(LANE).len()), 0);
}

#[test]
fn batches_after_each_other_have_their_time_each() {
    let options = PeerOptions {
        hello_timeout: SHORT * 4,
        batch_timeout: SHORT * 4,
        ..PeerOptions::default()
    };
    let core = TestCore::start_with(2, options);
    let mut sender = RawSender::open(1, &core, LANE);
    // Cut so that there is never a moment without an unfinished batch.
    let bytes = framed(&[7; 100]).repeat(20);
    for part in bytes.chunks(bytes.len() / 20 - 1) {
        sender.write(part);
        std::thread::sleep(SHORT / 2);
    }
    core.wait_until("all", |inside| inside.told.batches.borrow().len() == 20);
    // And then it may be silent.
    std::thread::sleep(SHORT * 6);
    sender.write(&framed(b"again"));
    core.wait_until("it", |inside| inside.told.batches.borrow().len() == 21);
    let counts = core.call(|inside| inside.incoming.counts());
    assert_eq!((counts.timed_out, counts.opened), (0, 1));
}

#[test]
fn who_was_refused_and_does_not_close_is_cut() {
    let core = impatient();
    let mut sender = RawSender::connect(&core);
    let mut hello = hello_from(1, &core, LANE);
    hello.receiver.node = 9;
    sender.write(&hello.encode());
    sender.answer();
    core.wait_until("it is cut", |inside| {
        inside.incoming.counts().timed_out == 1 && inside.incoming.count() == 0
    });
    assert_unharmed(&core, |counts| counts.timed_out);
}

#[test]
fn who_was_refused_and_talks_on_for_ever_is_cut() {
    let core = impatient();
    let mut sender = RawSender::connect(&core);
    let mut hello = hello_from(1, &core, LANE);
    hello.receiver.node = 9;
    sender.write(&hello.encode());
    let began = Instant::now();
    let flood = vec![7; 1 << 20];
    while sender.stream.write_all(&flood).is_ok() {
        assert!(began.elapsed() < PATIENCE, "it is not cut");
    }
    assert_unharmed(&core, |counts| counts.timed_out);
}
