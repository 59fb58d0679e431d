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
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let options = ServerOptions {
        idle_timeout: SHORT,
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
    server.wait_until("the idle one is closed", |seen| {
        seen.closed.load(Ordering::Relaxed) == 1
    });
    server.wait_until("the other one is left", |seen| {
        seen.live.load(Ordering::Relaxed) == 1
    });
    assert!(idle.ping().is_err());
}

#[test]
fn a_client_that_never_reads_is_cut_in_time() {
    let options = ServerOptions {
        idle_timeout: SHORT,
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
