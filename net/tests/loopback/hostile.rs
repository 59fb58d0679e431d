//! Clients that mean harm, and those beside them who must not notice.

use crate::harness::{PATIENCE, TestServer};
use metastore_net::server::ServerOptions;
use metastore_net::*;
use metastore_statemachine::{Command, GetQuery, NamespaceId};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;
const SHORT: Duration = Duration::from_millis(100);
const MIB: usize = 1 << 20;

/// A connection that has said hello and read the answer.
fn greeted(server: &TestServer) -> (TcpStream, ClientConnection) {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut connection = ClientConnection::new(&ClientOptions::default());
    connection.hello(&HelloRequest::new("hostile", None));
    stream.write_all(connection.outbound()).unwrap();
    connection.outbound().clear();
    let mut buffer = [0; 4096];
    while connection.pending_count() > 0 {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0);
        connection.on_bytes(&buffer[..count], |_, _| ()).unwrap();
    }
    (stream, connection)
}

fn bytes_of(request: impl FnOnce(&mut ClientConnection)) -> Vec<u8> {
    let mut connection = ClientConnection::new(&ClientOptions::default());
    request(&mut connection);
    std::mem::take(connection.outbound())
}

fn large_get(key: &[u8]) -> GetRequest<'_> {
    GetRequest {
        query: GetQuery {
            namespace: NAMESPACE,
            key,
            at: None,
        },
        consistency: Consistency::Linearizable,
    }
}

#[test]
fn among_all_kinds_of_abuse_a_good_client_is_answered_and_nothing_is_left_behind() {
    let options = ServerOptions {
        handshake_timeout: SHORT,
        frame_timeout: SHORT,
        unread_timeout: SHORT,
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let mut good = server.connect();
    let mut abusers: Vec<TcpStream> = Vec::new();
    for _ in 0..5 {
        let mut open = |bytes: &[u8]| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(bytes).unwrap();
            abusers.push(stream);
        };
        // Nothing, garbage, a damaged checksum, and half a hello.
        open(&[]);
        open(&[b'G'; 100_000]);
        let mut hello = bytes_of(|connection| {
            connection.hello(&HelloRequest::new("bad", None));
        });
        open(&hello[..hello.len() / 2]);
        hello[30] ^= 1;
        open(&hello);
        // After a hello: an absurd length, half a frame, and questions whose answers are not read.
        let mut absurd = bytes_of(|connection| {
            connection.ping();
        });
        absurd[15] = 0xff;
        let half = bytes_of(|connection| {
            connection.put(NAMESPACE, b"a", &[7; MIB]);
        });
        let questions = bytes_of(|connection| {
            for _ in 0..2_000 {
                connection.get(&large_get(&[b'k'; 4000]));
            }
        });
        for bytes in [&absurd[..], &half[..MIB / 2]] {
            let (mut stream, _) = greeted(&server);
            stream.write_all(bytes).unwrap();
            abusers.push(stream);
        }
        let (stream, _) = greeted(&server);
        let mut writer = stream.try_clone().unwrap();
        // It blocks until the server gives the connection up.
        std::thread::spawn(move || writer.write_all(&questions));
        abusers.push(stream);
        for _ in 0..20 {
            good.get(NAMESPACE, b"key").unwrap();
        }
    }
    server.wait_until("only the good client is left", |seen| {
        seen.live.load(Ordering::Relaxed) == 1
    });
    good.ping().unwrap();
    server.wait_until("nothing is held any more", |seen| {
        seen.inbound_bytes.load(Ordering::Relaxed) == 0
            && seen.outbound_bytes.load(Ordering::Relaxed) == 0
    });
    drop(abusers);
}

#[test]
fn hundreds_of_idle_connections_hold_no_buffers_and_live_on() {
    let options = ServerOptions {
        frame_timeout: SHORT,
        unread_timeout: SHORT,
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let mut idle: Vec<_> = (0..300).map(|_| greeted(&server)).collect();
    let mut good = server.connect();
    server.wait_until("their buffers are given back", |seen| {
        seen.live.load(Ordering::Relaxed) == 301
            && seen.inbound_bytes.load(Ordering::Relaxed) == 0
            && seen.outbound_bytes.load(Ordering::Relaxed) == 0
    });
    std::thread::sleep(SHORT * 3);
    good.ping().unwrap();
    for (stream, connection) in &mut idle {
        connection.ping();
        stream.write_all(connection.outbound()).unwrap();
        connection.outbound().clear();
        let mut pong = [0; FRAME_HEADER_BYTES];
        stream.read_exact(&mut pong).unwrap();
    }
    assert_eq!(server.seen.live.load(Ordering::Relaxed), 301);
}

#[test]
fn beside_one_at_full_rate_others_are_answered() {
    let server = TestServer::start(ServerOptions::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let is_greedy = Arc::new(AtomicBool::new(false));
    let greedy = std::thread::spawn({
        let mut client = server.connect();
        let (is_over, is_greedy) = (Arc::clone(&is_over), Arc::clone(&is_greedy));
        move || {
            let batch = vec![Command::put(NAMESPACE, b"key", &[7; 64]); 1_000];
            while !is_over.load(Ordering::Relaxed) {
                while client.pending_count() < 30 {
                    client.submit(|connection| connection.batch(&batch));
                }
                client.next_responses(|_, _| ()).unwrap();
                is_greedy.store(true, Ordering::Relaxed);
            }
        }
    });
    let mut good = server.connect();
    server.wait_until("the greedy one to be at full rate", |_| {
        is_greedy.load(Ordering::Relaxed)
    });
    for _ in 0..200 {
        good.get(NAMESPACE, b"key").unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    greedy.join().unwrap();
}

#[test]
fn half_sent_frames_cannot_keep_large_ones_out() {
    let options = ServerOptions {
        buffer_bytes_max: 256 * 1024,
        shortage_timeout: SHORT,
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let large = bytes_of(|connection| {
        connection.put(NAMESPACE, b"a", &[7; MIB]);
    });
    let abusers: Vec<_> = (0..8)
        .map(|_| {
            let (mut stream, _) = greeted(&server);
            stream.write_all(&large[..100_000]).unwrap();
            stream
        })
        .collect();
    let mut good = server.connect();
    for _ in 0..3 {
        good.put(NAMESPACE, b"key", &[7; MIB]).unwrap();
    }
    server.wait_until("who was in the way is gone", |seen| {
        let (live, gone) = (
            seen.live.load(Ordering::Relaxed),
            seen.timed_out.load(Ordering::Relaxed),
        );
        gone > 0 && live < 9
    });
    drop(abusers);
    server.wait_until("nothing is held any more", |seen| {
        seen.inbound_bytes.load(Ordering::Relaxed) == 0
    });
}

#[test]
fn many_honest_large_frames_get_through_a_small_share_of_memory() {
    let options = ServerOptions {
        buffer_bytes_max: 256 * 1024,
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let mut client = server.connect();
            std::thread::spawn(move || {
                for _ in 0..4 {
                    client.put(NAMESPACE, b"key", &[7; MIB]).unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    assert_eq!(server.seen.requests.load(Ordering::Relaxed), 32);
}

#[test]
fn who_does_not_read_is_closed_when_others_need_the_memory() {
    let options = ServerOptions {
        buffer_bytes_max: MIB,
        shortage_timeout: SHORT,
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let questions = bytes_of(|connection| {
        for _ in 0..5_000 {
            connection.get(&large_get(&[b'k'; 4000]));
        }
    });
    let abusers: Vec<_> = (0..4)
        .map(|_| {
            let (stream, _) = greeted(&server);
            let mut writer = stream.try_clone().unwrap();
            let questions = questions.clone();
            std::thread::spawn(move || writer.write_all(&questions));
            stream
        })
        .collect();
    let mut good = server.connect();
    for _ in 0..100 {
        good.get(NAMESPACE, b"key").unwrap();
    }
    server.wait_until("room is made", |seen| {
        seen.unread.load(Ordering::Relaxed) > 0
            && seen.outbound_bytes.load(Ordering::Relaxed) <= MIB
    });
    good.ping().unwrap();
    drop(abusers);
}

#[test]
fn a_connection_too_many_reads_why_whatever_it_has_sent() {
    let options = ServerOptions {
        connections_max: 1,
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let _only = server.connect();
    let mut eager = bytes_of(|connection| {
        connection.hello(&HelloRequest::new("eager", None));
        connection.put(NAMESPACE, b"a", &[7; 100_000]);
    });
    eager.truncate(60_000);
    for _ in 0..50 {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&eager).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let frame = cut_frame(&answer, FRAME_BYTES_MAX_DEFAULT)
            .unwrap()
            .unwrap();
        let response = Response::decode(&frame.header, frame.body).unwrap();
        let Response::Error(error) = response else {
            panic!("{response:?}");
        };
        assert_eq!(error.code, ErrorCode::Overloaded);
        assert!(error.retry_after_ms > 0);
    }
}

#[test]
fn the_end_of_a_client_is_noticed_though_it_came_with_its_last_request() {
    let server = TestServer::start(ServerOptions::default());
    let clients: Vec<TcpStream> = (0..100)
        .map(|_| {
            let (mut stream, mut connection) = greeted(&server);
            connection.get(&large_get(b"/key"));
            stream.write_all(connection.outbound()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stream
        })
        .collect();
    server.wait_until("all connections to be over", |seen| {
        seen.live.load(Ordering::Relaxed) == 0
    });
    drop(clients);
}
