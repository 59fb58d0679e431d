//! Against a server of HTTP/2 in the same memory: the bytes between the two can be cut and damaged anywhere.

use super::*;
use crate::protocol::{Page, Puts};
use crate::random::Random;
use h2::server;
use http::{HeaderMap, HeaderValue, Response};
use metastore_statemachine::Revision;

/// What a server does with a call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    /// Answers with the message that belongs to the path.
    Answers,
    /// Answers the newest call of a turn first.
    Reversed,
    /// Says no at once, without a message.
    Refuses,
    /// Says no behind a message.
    RefusesBehind,
    /// Gives up the stream.
    Resets,
    /// Answers as a server of web pages that has not got the page.
    NotFound,
    /// Sends a message, and no word about how the call went.
    NoStatus,
    /// Sends another message behind the first.
    Twice,
}

/// The server's end, driven by hand as the client's is.
struct FakeEtcd {
    pipe: Pipe,
    connection: Option<server::Connection<FarEnd, Bytes>>,
    calls: Vec<(String, h2::RecvStream, Vec<u8>, server::SendResponse<Bytes>)>,
    manner: Manner,
    bodies: Vec<Vec<u8>>,
}

impl FakeEtcd {
    fn start(manner: Manner, streams_max: u32) -> (FakeEtcd, server::Handshake<FarEnd, Bytes>) {
        let pipe = Pipe::default();
        let mut builder = server::Builder::new();
        builder.max_concurrent_streams(streams_max);
        let handshake = builder.handshake(pipe.far_end());
        let etcd = FakeEtcd {
            pipe,
            connection: None,
            calls: Vec::new(),
            manner,
            bodies: Vec::new(),
        };
        (etcd, handshake)
    }

    /// Takes bytes and gives those that answer them.
    fn turn(&mut self, handshake: &mut server::Handshake<FarEnd, Bytes>, bytes: &[u8]) -> Vec<u8> {
        let mut context = Context::from_waker(Waker::noop());
        self.pipe.push(bytes);
        if self.connection.is_none()
            && let Poll::Ready(connection) = Pin::new(handshake).poll(&mut context)
        {
            self.connection = Some(connection.unwrap());
        }
        if let Some(connection) = &mut self.connection {
            // Answers that are given between two looks leave with the second.
            for _ in 0..2 {
                while let Poll::Ready(Some(Ok((request, respond)))) =
                    connection.poll_accept(&mut context)
                {
                    let path = request.uri().path().to_owned();
                    self.calls
                        .push((path, request.into_body(), Vec::new(), respond));
                }
                answer_whole(&mut self.calls, self.manner, &mut self.bodies);
            }
            let _pending = connection.poll_accept(&mut context);
        }
        let mut out = Vec::new();
        self.pipe.take_written(&mut out);
        out
    }
}

/// Answers the calls whose requests have come as a whole.
fn answer_whole(
    calls: &mut Vec<(String, h2::RecvStream, Vec<u8>, server::SendResponse<Bytes>)>,
    manner: Manner,
    bodies: &mut Vec<Vec<u8>>,
) {
    let mut context = Context::from_waker(Waker::noop());
    let mut whole = Vec::new();
    let mut position = 0;
    while position < calls.len() {
        let (_, stream, bytes, _) = &mut calls[position];
        while let Poll::Ready(Some(Ok(piece))) = stream.poll_data(&mut context) {
            stream.flow_control().release_capacity(piece.len()).unwrap();
            bytes.extend_from_slice(&piece);
        }
        if stream.is_end_stream() {
            whole.push(calls.remove(position));
        } else {
            position += 1;
        }
    }
    if manner == Manner::Reversed {
        whole.reverse();
    }
    for (path, _, bytes, respond) in whole {
        let message = only_message(&bytes).expect("a request is one message");
        bodies.push(message.to_vec());
        answer(manner, &path, respond);
    }
}

fn answer(manner: Manner, path: &str, mut respond: server::SendResponse<Bytes>) {
    let mut response = Response::new(());
    let status = |code: &'static str| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(code));
        trailers.insert("grpc-message", HeaderValue::from_static("no space"));
        trailers
    };
    match manner {
        Manner::Resets => return respond.send_reset(h2::Reason::REFUSED_STREAM),
        Manner::NotFound => {
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            let _stream = respond.send_response(response, true).unwrap();
            return;
        }
        Manner::Refuses => {
            *response.headers_mut() = status("8");
            let _stream = respond.send_response(response, true).unwrap();
            return;
        }
        Manner::Answers
        | Manner::Reversed
        | Manner::RefusesBehind
        | Manner::NoStatus
        | Manner::Twice => {}
    }
    let mut stream = respond.send_response(response, false).unwrap();
    let mut body = framed(answer_message(path));
    if manner == Manner::Twice {
        body.extend(framed(b""));
    }
    stream
        .send_data(body.into(), manner == Manner::NoStatus)
        .unwrap();
    match manner {
        Manner::NoStatus => {}
        Manner::RefusesBehind => stream.send_trailers(status("8")).unwrap(),
        Manner::Answers
        | Manner::Reversed
        | Manner::Twice
        | Manner::Refuses
        | Manner::Resets
        | Manner::NotFound => stream.send_trailers(status("0")).unwrap(),
    }
}

fn answer_message(path: &str) -> &'static [u8] {
    match path {
        "/etcdserverpb.KV/Put" | "/etcdserverpb.Lease/LeaseGrant" => b"\x0a\x02\x18\x07",
        "/etcdserverpb.KV/Range" => b"\x12\x08\x0a\x01k\x18\x05\x2a\x01v\x20\x01",
        "/etcdserverpb.KV/Txn" => b"\x10\x01\x1a\x02\x12\x00\x1a\x02\x12\x00",
        other => panic!("nothing is at {other}"),
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, message.len() as u8];
    body.extend_from_slice(message);
    body
}

/// Lets both ends talk until neither has anything to say, in pieces of so many bytes. Gives the replies in words, and
/// the bytes of the server.
fn talk(
    connection: &mut Connection,
    etcd: &mut FakeEtcd,
    handshake: &mut server::Handshake<FarEnd, Bytes>,
    piece_bytes: usize,
) -> (Vec<(CallId, String)>, Vec<u8>) {
    let mut replies = Vec::new();
    let mut from_server = Vec::new();
    loop {
        let to_server = std::mem::take(connection.outbound());
        if to_server.is_empty() {
            return (replies, from_server);
        }
        let mut to_client = Vec::new();
        let server_piece_bytes = if etcd.manner == Manner::Reversed {
            // All calls come in one turn.
            to_server.len()
        } else {
            piece_bytes
        };
        for piece in to_server.chunks(server_piece_bytes) {
            to_client.extend(etcd.turn(handshake, piece));
        }
        for piece in to_client.chunks(piece_bytes) {
            let taken =
                connection.on_bytes(piece, |id, reply| replies.push((id, format!("{reply:?}"))));
            taken.unwrap();
        }
        from_server.extend(to_client);
    }
}

/// One of each kind.
const CALLS: usize = 6;

fn requests<'a>() -> [Request<'a>; CALLS] {
    [
        Request::Put {
            key: b"k",
            value: b"v",
        },
        Request::Get { key: b"k" },
        Request::List(Page {
            directory: b"",
            from: b"k",
            rows_max: 9,
        }),
        Request::CompareAndSwap {
            key: b"k",
            value: b"v",
            revision: Revision(5),
        },
        Request::Batch(Puts::new(2, b"kl", b"vw")),
        Request::WriteNoKey,
    ]
}

fn expected_replies() -> Vec<String> {
    let row = FoundRow {
        value: b"v",
        revision: Revision(5),
    };
    let page = RowsPart {
        count: 1,
        first_key: Some(b"k"),
        is_last: true,
    };
    let replies = [
        Reply::Done,
        Reply::Row(Some(row)),
        Reply::Rows(page),
        Reply::Done,
        Reply::Batch { done: 2 },
        Reply::Done,
    ];
    replies.iter().map(|reply| format!("{reply:?}")).collect()
}

/// A client that was greeted, and its server.
fn greeted(
    manner: Manner,
    streams_max: u32,
    piece_bytes: usize,
) -> (
    Connection,
    FakeEtcd,
    server::Handshake<FarEnd, Bytes>,
    Vec<u8>,
) {
    let (mut etcd, mut handshake) = FakeEtcd::start(manner, streams_max);
    let mut connection = Connection::new();
    assert!(!connection.is_ready());
    let (_, greeting) = talk(&mut connection, &mut etcd, &mut handshake, piece_bytes);
    assert!(connection.is_ready());
    (connection, etcd, handshake, greeting)
}

fn ask_all(manner: Manner, streams_max: u32, piece_bytes: usize) -> Vec<(CallId, String)> {
    let (mut connection, mut etcd, mut handshake, _) = greeted(manner, streams_max, piece_bytes);
    for (number, request) in requests().iter().enumerate() {
        assert_eq!(connection.submit(request), CallId(number as u64));
    }
    let (mut replies, _) = talk(&mut connection, &mut etcd, &mut handshake, piece_bytes);
    assert_eq!(etcd.bodies.len(), CALLS);
    if manner != Manner::Reversed {
        replies.sort_by_key(|(id, _)| id.0);
    }
    replies
}

#[test]
fn calls_are_answered_however_their_bytes_are_cut() {
    let in_order: Vec<(CallId, String)> = (0..).map(CallId).zip(expected_replies()).collect();
    for piece_bytes in (1..40).chain([64, 100, 1_000, 100_000]) {
        let found = ask_all(Manner::Answers, 1_000, piece_bytes);
        assert_eq!(found, in_order, "in pieces of {piece_bytes}");
    }
    let found = ask_all(Manner::Reversed, 1_000, 10);
    assert!(found.iter().rev().eq(&in_order), "{found:?}");
}

#[test]
fn calls_wait_until_the_server_admits_them() {
    let in_order: Vec<(CallId, String)> = (0..).map(CallId).zip(expected_replies()).collect();
    for streams_max in [1, 2, 4] {
        assert_eq!(ask_all(Manner::Answers, streams_max, 1_000), in_order);
    }
}

#[test]
fn places_of_answered_calls_are_used_again() {
    let (mut connection, mut etcd, mut handshake, _) = greeted(Manner::Answers, 1_000, 1_000);
    for _ in 0..100 {
        let request = Request::Get { key: b"k" };
        let ids = [connection.submit(&request), connection.submit(&request)];
        assert_ne!(ids[0], ids[1]);
        let (replies, _) = talk(&mut connection, &mut etcd, &mut handshake, 1_000);
        assert_eq!(replies.len(), 2);
    }
    assert_eq!(connection.calls.len(), 2);
}

#[test]
fn a_call_that_does_not_go_well_is_a_failure_of_its_own() {
    let no_space = Failure::Etcd {
        status: 8,
        message: "no space".to_owned(),
    };
    for (manner, failure) in [
        (Manner::Refuses, no_space.clone()),
        (Manner::RefusesBehind, no_space),
        (Manner::NotFound, Failure::EtcdHttp { status: 404 }),
        (Manner::NoStatus, Failure::Mismatch),
        (Manner::Twice, Failure::Mismatch),
    ] {
        let words = format!("{:?}", Reply::Failed(failure));
        let found = ask_all(manner, 1_000, 1_000);
        assert_eq!(found.len(), CALLS);
        assert!(
            found.iter().all(|(_, reply)| *reply == words),
            "{manner:?}: {found:?}"
        );
    }
    let reset = ask_all(Manner::Resets, 1_000, 1_000);
    assert_eq!(reset.len(), CALLS);
    assert!(reset.iter().all(|(_, reply)| reply.contains("EtcdStream")));
}

#[test]
fn a_batch_larger_than_the_window_of_the_server_goes_through() {
    let (mut connection, mut etcd, mut handshake, _) = greeted(Manner::Answers, 1_000, 1_000);
    let values = vec![7; 1_024 * 256];
    let keys = vec![8; 1_024 * 8];
    connection.submit(&Request::Batch(Puts::new(1_024, &keys, &values)));
    let (replies, _) = talk(&mut connection, &mut etcd, &mut handshake, 16_384);
    assert_eq!(replies.len(), 1);
    assert!(etcd.bodies[0].len() > values.len() + keys.len());
}

#[test]
fn what_is_no_http_ends_the_connection() {
    let mut connection = Connection::new();
    let ended = connection.on_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n", |_, _| {
        panic!("nothing was asked")
    });
    assert!(matches!(ended, Err(EtcdError::Http2(_))), "{ended:?}");
    assert!(!connection.is_ready());
}

#[test]
fn damaged_answers_are_refused_or_taken_and_never_more_than_were_asked_for() {
    // The bytes of the server's greeting and of its answers, as they would be without damage.
    let (mut connection, mut etcd, mut handshake, greeting) =
        greeted(Manner::Answers, 1_000, 100_000);
    for request in requests() {
        connection.submit(&request);
    }
    let (_, answers) = talk(&mut connection, &mut etcd, &mut handshake, 100_000);
    let mut random = Random::new(3);
    let mut refused = 0;
    for _ in 0..3_000 {
        let mut damaged = answers.clone();
        for _ in 0..1 + random.next_u64() % 2 {
            let position = (random.next_u64() % damaged.len() as u64) as usize;
            damaged[position] = random.next_u64() as u8;
        }
        let mut connection = Connection::new();
        connection.on_bytes(&greeting, |_, _| ()).unwrap();
        for request in requests() {
            connection.submit(&request);
        }
        let _sent = std::mem::take(connection.outbound());
        let mut replies = 0;
        refused += u32::from(connection.on_bytes(&damaged, |_, _| replies += 1).is_err());
        assert!(replies <= CALLS);
    }
    assert!(refused > 0);
}
