//! Connections that have gone quiet.

use crate::harness::{PATIENCE, TestServer};
use metastore_net::server::ServerOptions;
use metastore_net::*;
use metastore_statemachine::NamespaceId;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(60);

/// Reads until the server closes, and tells how long that took.
fn wait_for_end(stream: &mut TcpStream) -> Duration {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let started = Instant::now();
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
    started.elapsed()
}

#[test]
fn without_a_hello_a_connection_is_closed() {
    let options = ServerOptions {
        handshake_timeout: SHORT,
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let mut silent = TcpStream::connect(server.address).unwrap();
    let elapsed = wait_for_end(&mut silent);
    assert!(elapsed >= SHORT && elapsed < PATIENCE, "{elapsed:?}");
}

#[test]
fn a_hello_that_drips_in_does_not_buy_time() {
    let options = ServerOptions {
        handshake_timeout: SHORT,
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let mut dripping = TcpStream::connect(server.address).unwrap();
    let mut connection = ClientConnection::new(&ClientOptions::default());
    connection.hello(&HelloRequest::new(&"x".repeat(4096), None));
    let started = Instant::now();
    let mut is_cut = false;
    for byte in connection.outbound().iter() {
        std::thread::sleep(Duration::from_millis(5));
        is_cut = dripping.write_all(&[*byte]).is_err();
        if is_cut {
            break;
        }
    }
    assert!(is_cut && started.elapsed() < PATIENCE);
}

#[test]
fn idle_connections_live_on() {
    let options = ServerOptions {
        handshake_timeout: SHORT,
        frame_timeout: SHORT,
        unread_timeout: SHORT,
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let mut idle = server.connect();
    let mut waiting = server.connect();
    let held =
        |connection: &mut ClientConnection| connection.put(NamespaceId::DEFAULT, b"hold", b"");
    waiting.submit(held);
    waiting.set_timeout(SHORT * 4).unwrap();
    // The answer is not there in time, but the connection is: only the server's own work is outstanding.
    waiting.next_responses(|_, _| ()).unwrap_err();
    idle.ping().unwrap();
    assert_eq!(server.seen.timed_out.load(Ordering::Relaxed), 0);
}

#[test]
fn a_frame_that_drips_in_is_given_up_with_a_last_word() {
    let options = ServerOptions {
        frame_timeout: SHORT,
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut connection = ClientConnection::new(&ClientOptions::default());
    connection.hello(&HelloRequest::new("drip", None));
    stream.write_all(connection.outbound()).unwrap();
    connection.outbound().clear();
    connection.put(NamespaceId::DEFAULT, b"a", &[7; 10_000]);
    let started = Instant::now();
    let mut bytes = connection.outbound().iter();
    while server.seen.timed_out.load(Ordering::Relaxed) == 0 {
        assert!(started.elapsed() < PATIENCE);
        stream.write_all(&[*bytes.next().unwrap()]).unwrap();
        std::thread::sleep(Duration::from_millis(3));
    }
    assert!(started.elapsed() >= SHORT);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let hello = cut_frame(&answer, FRAME_BYTES_MAX_DEFAULT)
        .unwrap()
        .unwrap();
    let word = cut_frame(&answer[hello.consumed_bytes..], FRAME_BYTES_MAX_DEFAULT);
    let word = word.unwrap().unwrap();
    let response = Response::decode(&word.header, word.body).unwrap();
    let Response::Error(error) = response else {
        panic!("{response:?}");
    };
    assert_eq!(error.code, ErrorCode::Deadline);
    assert_eq!(word.header.request_id, RequestId::CONNECTION);
}

#[test]
fn frames_after_each_other_have_their_time_each() {
    let options = ServerOptions {
        frame_timeout: SHORT * 4,
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let mut connection = ClientConnection::new(&ClientOptions::default());
    connection.hello(&HelloRequest::new("steady", None));
    for _ in 0..20 {
        connection.put(NamespaceId::DEFAULT, b"a", &[7; 100]);
    }
    // Cut so that there is never a moment without an unfinished frame.
    let bytes = std::mem::take(connection.outbound());
    for part in bytes.chunks(bytes.len() / 20) {
        stream.write_all(part).unwrap();
        std::thread::sleep(SHORT / 2);
    }
    server.wait_until("all have arrived", |seen| {
        seen.requests.load(Ordering::Relaxed) == 20
    });
    assert_eq!(server.seen.timed_out.load(Ordering::Relaxed), 0);
}

#[test]
fn a_client_that_never_reads_is_cut_in_time() {
    let options = ServerOptions {
        unread_timeout: SHORT,
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let mut connection = ClientConnection::new(&ClientOptions::default());
    connection.hello(&HelloRequest::new("stuck", None));
    let mut range = RangeRequest::subtree(NamespaceId::DEFAULT, b"");
    range.query.limit = u64::MAX;
    connection.range(&range);
    stream.write_all(connection.outbound()).unwrap();
    server.wait_until("it is cut", |seen| seen.closed.load(Ordering::Relaxed) == 1);
}

#[test]
fn a_refused_client_that_does_not_close_is_cut() {
    let options = ServerOptions {
        handshake_timeout: SHORT,
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(&[b'x'; 100]).unwrap();
    server.wait_until("it came and was cut", |seen| {
        seen.opened.load(Ordering::Relaxed) == 1 && seen.live.load(Ordering::Relaxed) == 0
    });
}
