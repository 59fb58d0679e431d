use super::*;
use crate::client::{ClientConnection, ClientOptions};
use crate::frame::{FRAME_HEADER_BYTES, FrameKind, append_frame, append_frame_of};
use crate::outbox::Answered;
use crate::response::{Response, append_outcome};
use crate::samples::{CLUSTER, NAMESPACE, sample_hello_info, sample_outcome};
use metastore_statemachine::Command;
use std::cell::Cell;

/// Both ends of a connection, without anything between them.
struct Pair {
    client: ClientConnection,
    server: ServerConnection,
    outbox: RefCell<Outbox>,
    /// Requests that were handed out, in order.
    requests: Vec<(RequestId, u32)>,
}

impl Pair {
    fn new(limits: &ConnectionLimits) -> Pair {
        Pair {
            client: ClientConnection::new(&ClientOptions::default()),
            server: ServerConnection::new(limits),
            outbox: RefCell::new(Outbox::new(limits)),
            requests: Vec::new(),
        }
    }

    fn greeted(limits: &ConnectionLimits) -> Pair {
        let mut pair = Pair::new(limits);
        pair.client.hello(&HelloRequest::new("test", Some(CLUSTER)));
        assert_eq!(pair.send(), Intake::Reading);
        assert_eq!(pair.receive().len(), 1);
        pair
    }

    fn take_in(&mut self, bytes: &[u8]) -> Intake {
        let requests = &mut self.requests;
        self.server.on_bytes(
            bytes,
            &self.outbox,
            sample_hello_info,
            |id, deadline_ms, _| {
                requests.push((id, deadline_ms));
            },
        )
    }

    /// Carries what the client has to say to the server.
    fn send(&mut self) -> Intake {
        let bytes = std::mem::take(self.client.outbound());
        self.take_in(&bytes)
    }

    /// Carries the server's answers to the client: their ids, and errors where there are any.
    fn receive(&mut self) -> Vec<(RequestId, Option<ErrorCode>)> {
        let mut answers = Vec::new();
        let mut outbox = self.outbox.borrow_mut();
        self.client
            .on_bytes(outbox.unsent(), |id, response| {
                let code = if let Response::Error(error) = response {
                    Some(error.code)
                } else {
                    None
                };
                answers.push((id, code));
            })
            .unwrap();
        let count = outbox.unsent().len();
        outbox.on_sent(count);
        answers
    }

    fn answer(&mut self, id: RequestId) {
        self.outbox.borrow_mut().reply(|out| {
            append_outcome(out, id, &sample_outcome());
            Answered::Last
        });
    }

    /// The server's last word, which belongs to no request.
    fn refusal(&mut self) -> ErrorCode {
        let outbox = self.outbox.borrow();
        let frame = cut_frame(outbox.unsent(), 1 << 20).unwrap().unwrap();
        assert_eq!(frame.header.request_id, RequestId::CONNECTION);
        let response = Response::decode(&frame.header, frame.body).unwrap();
        let Response::Error(error) = response else {
            panic!("{response:?}");
        };
        error.code
    }
}

fn limits() -> ConnectionLimits {
    ConnectionLimits::default()
}

#[test]
fn hello_comes_first() {
    let mut pair = Pair::new(&limits());
    let ping = pair.client.ping();
    assert_eq!(pair.send(), Intake::Closing);
    assert_eq!(pair.receive(), [(ping, Some(ErrorCode::HelloRequired))]);
    assert!(!pair.outbox.borrow().was_greeted());

    let mut malformed = Pair::new(&limits());
    let put = malformed.client.put(NAMESPACE, b"", b"");
    assert_eq!(malformed.send(), Intake::Closing);
    assert_eq!(malformed.receive(), [(put, Some(ErrorCode::HelloRequired))]);
}

#[test]
fn hello_is_answered_with_what_is_enforced() {
    let mut pair = Pair::new(&limits());
    pair.client.hello(&HelloRequest::new("test", None));
    pair.send();
    let outbox = pair.outbox.borrow();
    let frame = cut_frame(outbox.unsent(), 1 << 20).unwrap().unwrap();
    let Response::Hello(reply) = Response::decode(&frame.header, frame.body).unwrap() else {
        panic!("another kind");
    };
    assert_eq!(reply.limits, limits().announced);
    assert_eq!(
        (reply.version, reply.info),
        (PROTOCOL_VERSION, sample_hello_info())
    );
    assert!(outbox.was_greeted());
}

#[test]
fn hellos_that_do_not_fit_are_refused() {
    let good = HelloRequest::new("test", Some(CLUSTER));
    let too_old = HelloRequest {
        version_min: 0,
        version_max: 0,
        ..good
    };
    let too_new = HelloRequest {
        version_min: 2,
        version_max: 9,
        ..good
    };
    let other = HelloRequest {
        cluster_id: Some(1),
        ..good
    };
    for (hello, code) in [
        (too_old, ErrorCode::Unsupported),
        (too_new, ErrorCode::Unsupported),
        (other, ErrorCode::WrongCluster),
    ] {
        let mut pair = Pair::new(&limits());
        let id = pair.client.hello(&hello);
        assert_eq!(pair.send(), Intake::Closing);
        assert_eq!(pair.receive(), [(id, Some(code))]);
    }
}

#[test]
fn a_second_hello_is_a_bad_request_and_no_more() {
    let mut pair = Pair::greeted(&limits());
    let id = pair.client.hello(&HelloRequest::new("test", None));
    assert_eq!(pair.send(), Intake::Reading);
    assert_eq!(pair.receive(), [(id, Some(ErrorCode::BadRequest))]);
}

#[test]
fn requests_arrive_whole_however_they_are_split() {
    let mut sample = Pair::greeted(&limits());
    sample.client.set_deadline_ms(30);
    let ids = [
        sample.client.put(NAMESPACE, b"a", b"1"),
        sample.client.batch(&[Command::delete(NAMESPACE, b"b")]),
        sample.client.shard_map(),
    ];
    let bytes = sample.client.outbound().clone();
    for first in 0..bytes.len() {
        let second = (first + bytes.len()) / 2;
        let mut pair = Pair::greeted(&limits());
        for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
            assert_eq!(pair.take_in(part), Intake::Reading);
        }
        assert_eq!(pair.requests, ids.map(|id| (id, 30)));
        assert_eq!(pair.outbox.borrow().in_flight(), 3);
    }
}

#[test]
fn an_unknown_kind_is_answered_under_its_own_number() {
    let mut pair = Pair::greeted(&limits());
    let mut bytes = Vec::new();
    append_frame_of(&mut bytes, 99, FrameFlags::NONE, RequestId(7), 0, |_| ());
    assert_eq!(pair.take_in(&bytes), Intake::Reading);
    let outbox = pair.outbox.borrow();
    let frame = cut_frame(outbox.unsent(), 1 << 20).unwrap().unwrap();
    assert_eq!(
        (frame.header.kind, frame.header.request_id),
        (99, RequestId(7))
    );
    assert!(frame.header.flags.has(FrameFlags::ERROR));
}

#[test]
fn bytes_that_are_no_request_end_the_connection() {
    let frame = |flags, id| {
        let mut bytes = Vec::new();
        append_frame(&mut bytes, FrameKind::Ping, flags, id, 0, |_| ());
        bytes
    };
    let mut damaged = frame(FrameFlags::NONE, RequestId(1));
    damaged[20] ^= 1;
    let mut newer = frame(FrameFlags::NONE, RequestId(1));
    newer[4] = 2;
    let mut huge = frame(FrameFlags::NONE, RequestId(1));
    huge[15] = 0xff;
    for (bytes, code) in [
        (vec![b'x'; FRAME_HEADER_BYTES], ErrorCode::BadFrame),
        (damaged, ErrorCode::BadFrame),
        (newer, ErrorCode::Unsupported),
        (huge, ErrorCode::TooLarge),
        (
            frame(FrameFlags::RESPONSE, RequestId(1)),
            ErrorCode::BadFrame,
        ),
        (
            frame(FrameFlags::NONE, RequestId::CONNECTION),
            ErrorCode::BadFrame,
        ),
    ] {
        let mut pair = Pair::greeted(&limits());
        assert_eq!(pair.take_in(&bytes), Intake::Closing);
        assert_eq!(pair.refusal(), code);
        let words = pair.outbox.borrow().unsent().len();
        assert_eq!(pair.take_in(&bytes), Intake::Closing);
        assert_eq!(
            pair.outbox.borrow().unsent().len(),
            words,
            "nothing is said after the last word"
        );
    }
}

#[test]
fn at_the_limit_nothing_more_is_handed_out_until_an_answer() {
    let mut limits = limits();
    limits.announced.commands_in_flight = 2;
    let mut pair = Pair::greeted(&limits);
    let ids: Vec<_> = (0..4)
        .map(|_| pair.client.put(NAMESPACE, b"a", b""))
        .collect();
    let ping = pair.client.ping();
    assert_eq!(pair.send(), Intake::Paused);
    assert_eq!(pair.requests.len(), 2);
    assert!(pair.server.is_holding());
    assert_eq!(pair.receive(), [], "not even a ping overtakes");

    pair.answer(ids[1]);
    assert!(!pair.outbox.borrow().is_paused());
    assert_eq!(pair.take_in(&[]), Intake::Paused);
    assert_eq!(pair.requests.len(), 3);
    pair.answer(ids[0]);
    pair.answer(ids[2]);
    assert_eq!(pair.take_in(&[]), Intake::Reading);
    assert!(!pair.server.is_holding());
    let answered: Vec<_> = pair.receive().into_iter().map(|(id, _)| id).collect();
    assert_eq!(answered, [ids[1], ids[0], ids[2], ping]);
    assert_eq!(pair.requests.len(), 4);
}

#[test]
fn a_connection_yields_after_its_turn_and_loses_nothing() {
    let mut limits = limits();
    limits.commands_per_turn = 10;
    let mut pair = Pair::greeted(&limits);
    for _ in 0..25 {
        pair.client.put(NAMESPACE, b"a", b"");
    }
    let commands = [Command::delete(NAMESPACE, b"b"); 30];
    pair.client.batch(&commands);
    pair.client.put(NAMESPACE, b"a", b"");
    assert_eq!(pair.send(), Intake::Yield);
    assert_eq!(pair.requests.len(), 10);
    assert!(pair.server.is_holding());
    assert_eq!(pair.take_in(&[]), Intake::Yield);
    assert_eq!(pair.requests.len(), 20);
    // A batch is taken whole, and counts for all that is in it.
    assert_eq!(pair.take_in(&[]), Intake::Yield);
    assert_eq!(pair.requests.len(), 26);
    assert_eq!(pair.take_in(&[]), Intake::Reading);
    assert_eq!(pair.requests.len(), 27);
    assert_eq!(pair.server.buffer_bytes(), 0);
}

#[test]
fn a_full_outbox_pauses_too() {
    let mut limits = limits();
    limits.outbound_bytes_max = 1000;
    limits.outbound_bytes_close = 2000;
    let mut pair = Pair::greeted(&limits);
    for _ in 0..100 {
        pair.client.ping();
    }
    assert_eq!(pair.send(), Intake::Paused);
    assert_eq!(pair.outbox.borrow().unsent().len(), 32 * FRAME_HEADER_BYTES);
    assert!(!pair.outbox.borrow().is_overfull());
    let mut answered = 0;
    while pair.client.pending_count() > 0 {
        answered += pair.receive().len();
        pair.take_in(&[]);
    }
    assert_eq!(answered, 100);
}

#[test]
fn a_claimed_length_costs_no_memory() {
    let mut pair = Pair::greeted(&limits());
    let mut bytes = Vec::new();
    append_frame(
        &mut bytes,
        FrameKind::Ping,
        FrameFlags::NONE,
        RequestId(1),
        0,
        |_| (),
    );
    bytes[12..16].copy_from_slice(&3_000_000_u32.to_le_bytes());
    assert_eq!(pair.take_in(&bytes), Intake::Reading);
    assert!(pair.server.inbound.capacity() < 1000);
}

#[test]
fn a_large_frame_gives_its_memory_back() {
    let mut pair = Pair::greeted(&limits());
    let value = vec![7; 1_000_000];
    let id = pair.client.put(NAMESPACE, b"a", &value);
    let bytes = std::mem::take(pair.client.outbound());
    for part in bytes.chunks(64 * 1024) {
        assert_eq!(pair.take_in(part), Intake::Reading);
    }
    assert_eq!(pair.requests, [(id, 0)]);
    assert_eq!(pair.server.inbound.capacity(), 0);
}

#[test]
fn draining_answers_what_is_under_way_and_refuses_the_rest() {
    let mut pair = Pair::greeted(&limits());
    let first = pair.client.put(NAMESPACE, b"a", b"");
    pair.send();
    pair.outbox.borrow_mut().begin_drain();
    let late = pair.client.put(NAMESPACE, b"b", b"");
    assert_eq!(pair.send(), Intake::Reading);
    assert_eq!(pair.receive(), [(late, Some(ErrorCode::ShuttingDown))]);
    assert!(!pair.outbox.borrow().is_closing());
    pair.answer(first);
    assert!(pair.outbox.borrow().is_closing());
    assert_eq!(pair.receive(), [(first, None)]);
    assert_eq!(pair.requests.len(), 1);

    let mut silent = Pair::new(&limits());
    silent.outbox.borrow_mut().begin_drain();
    assert_eq!(silent.take_in(&[]), Intake::Closing);
}

#[test]
fn an_answer_may_come_while_the_request_is_handed_out() {
    let limits = limits();
    let mut pair = Pair::greeted(&limits);
    let put = pair.client.put(NAMESPACE, b"a", b"");
    let bytes = std::mem::take(pair.client.outbound());
    let count = Cell::new(0);
    pair.server
        .on_bytes(&bytes, &pair.outbox, sample_hello_info, |id, _, request| {
            assert!(matches!(request, Request::Command(_)));
            count.set(count.get() + 1);
            pair.outbox.borrow_mut().reply(|out| {
                append_outcome(out, id, &sample_outcome());
                Answered::Last
            });
        });
    assert_eq!(count.get(), 1);
    assert_eq!(pair.receive(), [(put, None)]);
}
