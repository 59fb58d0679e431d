//! What a client cannot make a server hold.

use crate::harness::{PATIENCE, TestServer};
use metastore_net::server::ServerOptions;
use metastore_net::*;
use metastore_statemachine::NamespaceId;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;

fn open(server: &TestServer) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads to the end and gives the error of the one frame that came.
fn last_word(mut stream: TcpStream) -> WireError {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let frame = cut_frame(&bytes, FRAME_BYTES_MAX_DEFAULT).unwrap().unwrap();
    assert_eq!(frame.consumed_bytes, bytes.len());
    let response = Response::decode(&frame.header, frame.body).unwrap();
    let Response::Error(error) = response else {
        panic!("{response:?}");
    };
    error
}

#[test]
fn garbage_is_answered_with_a_last_word_and_a_closed_connection() {
    let server = TestServer::start(ServerOptions::default());
    let mut stream = open(&server);
    // More than the server reads at once: what it has not read must not cost the client the answer.
    stream.write_all(&vec![b'G'; 300_000]).unwrap();
    assert_eq!(last_word(stream).code, ErrorCode::BadFrame);
    server.wait_until("it is closed", |seen| {
        seen.live.load(Ordering::Relaxed) == 0
    });
}

#[test]
fn a_request_before_hello_is_refused() {
    let server = TestServer::start(ServerOptions::default());
    let mut stream = open(&server);
    let mut connection = ClientConnection::new(&ClientOptions::default());
    connection.put(NAMESPACE, b"a", b"");
    stream.write_all(connection.outbound()).unwrap();
    assert_eq!(last_word(stream).code, ErrorCode::HelloRequired);
    assert_eq!(server.seen.requests.load(Ordering::Relaxed), 0);
}

#[test]
fn a_frame_above_the_limit_is_refused_from_its_header() {
    let mut options = ServerOptions::default();
    options.connection.announced.frame_bytes = 1000;
    let server = TestServer::start(options);
    let mut stream = open(&server);
    let mut connection = ClientConnection::new(&ClientOptions::default());
    connection.put(NAMESPACE, b"a", &[0; 1000]);
    stream
        .write_all(&connection.outbound()[..FRAME_HEADER_BYTES])
        .unwrap();
    let error = last_word(stream);
    assert_eq!((error.code, error.limit), (ErrorCode::TooLarge, 1000));
}

#[test]
fn a_connection_too_many_is_told_so() {
    let options = ServerOptions {
        connections_max: 2,
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let (first, second) = (server.connect(), server.connect());
    assert_eq!(last_word(open(&server)).code, ErrorCode::Overloaded);
    drop(first);
    server.wait_until("a place is free", |seen| {
        seen.closed.load(Ordering::Relaxed) == 1
    });
    server.connect().ping().unwrap();
    drop(second);
}

#[test]
fn at_the_limit_of_requests_under_way_the_connection_is_not_read() {
    let mut options = ServerOptions::default();
    options.connection.announced.commands_in_flight = 3;
    let server = TestServer::start(options);
    let mut client = server.connect();
    for _ in 0..10 {
        client.submit(|connection| connection.put(NAMESPACE, b"hold", b""));
    }
    // A ping would be answered at once if it were read.
    client.submit(ClientConnection::ping);
    client.set_timeout(Duration::from_millis(100)).unwrap();
    let mut answered = Vec::new();
    client
        .next_responses(|id, _| answered.push(id))
        .unwrap_err();
    assert_eq!(answered, []);
    server.wait_until("requests up to the limit are there", |seen| {
        seen.requests.load(Ordering::Relaxed) == 3
    });
}

#[test]
fn what_was_held_back_at_the_limit_goes_on_after_answers() {
    let mut options = ServerOptions::default();
    options.connection.announced.commands_in_flight = 3;
    let server = TestServer::start(options);
    let mut client = server.connect();
    for _ in 0..100 {
        client.submit(|connection| connection.put(NAMESPACE, b"hold", b""));
    }
    server.orders.release.store(true, Ordering::Relaxed);
    while client.pending_count() > 0 {
        client.next_responses(|_, _| ()).unwrap();
    }
    assert_eq!(server.seen.requests.load(Ordering::Relaxed), 100);
}

#[test]
fn a_client_that_does_not_read_holds_a_bounded_amount() {
    const OUTBOUND_BYTES_MAX: usize = 100_000;
    let mut options = ServerOptions::default();
    options.connection.outbound_bytes_max = OUTBOUND_BYTES_MAX;
    let server = TestServer::start(options);
    let mut stream = open(&server);
    let mut connection = ClientConnection::new(&ClientOptions::default());
    connection.hello(&HelloRequest::new("slow", None));
    let key = [b'k'; 4000];
    // Answers of some 8 kB each, far more of them than all buffers on the way hold.
    for _ in 0..5_000 {
        connection.get(&GetRequest {
            query: metastore_statemachine::GetQuery {
                namespace: NAMESPACE,
                key: &key,
                at: None,
            },
            consistency: Consistency::Linearizable,
        });
    }
    let outbound = std::mem::take(connection.outbound());
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&outbound));
    server.wait_until("the outbox is full", |seen| {
        seen.outbound_bytes_max.load(Ordering::Relaxed) >= OUTBOUND_BYTES_MAX
    });

    // It reads after all, and misses nothing.
    let mut buffer = vec![0; 1 << 20];
    while connection.pending_count() > 0 {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0);
        connection.on_bytes(&buffer[..count], |_, _| ()).unwrap();
    }
    writing.join().unwrap().unwrap();
    let held = server.seen.outbound_bytes_max.load(Ordering::Relaxed);
    // Buffers grow by doubling.
    assert!(held < 2 * (OUTBOUND_BYTES_MAX + 10_000), "{held} bytes");
}

#[test]
fn a_client_with_too_much_unread_is_cut() {
    let mut options = ServerOptions::default();
    options.connection.outbound_bytes_close = 1 << 20;
    let server = TestServer::start(options);
    let mut stream = open(&server);
    let mut connection = ClientConnection::new(&ClientOptions::default());
    connection.hello(&HelloRequest::new("greedy", None));
    // Each range puts 640 kB at once into the outbox. All together are far more than the sockets' buffers hold, and
    // nothing of it is read.
    let mut range = RangeRequest::subtree(NAMESPACE, b"");
    range.query.limit = 10;
    for _ in 0..100 {
        connection.range(&range);
    }
    stream.write_all(connection.outbound()).unwrap();
    server.wait_until("it is cut", |seen| seen.closed.load(Ordering::Relaxed) == 1);
}
