//! Every kind of request, and what both ends make of each other.

use crate::harness::{CLUSTER, PATIENCE, SMALL_ROWS, TestServer, echo_row};
use metastore_net::blocking::{Client, ClientError, ConnectOptions, ConnectionFault, OwnedRow};
use metastore_net::server::{BindError, ServerOptions, bind};
use metastore_net::*;
use metastore_statemachine::{Command, NamespaceId, OutcomeCode, Revision};
use std::sync::atomic::Ordering;
use std::time::Duration;

const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;

#[test]
fn every_kind_of_request_is_answered() {
    let server = TestServer::start(ServerOptions::default());
    let mut client = server.connect();
    assert_eq!(client.server().info.cluster_id, CLUSTER);
    assert_eq!(client.server().limits, ServerLimits::default());

    client.ping().unwrap();
    let outcome = client.put(NAMESPACE, b"a", b"1").unwrap();
    assert_eq!(
        (outcome.code, outcome.revision),
        (OutcomeCode::Done, Revision(1))
    );
    assert_eq!(
        client.delete(NAMESPACE, b"a").unwrap().revision,
        Revision(2)
    );

    let answer = client.get(NAMESPACE, b"key").unwrap();
    assert_eq!(answer.row, Some(OwnedRow::from(echo_row(b"key", b"key"))));
    assert_eq!(answer.position.revision, Revision(2));
    assert_eq!(client.get(NAMESPACE, b"absent").unwrap().row, None);

    let answer = client
        .get_many(NAMESPACE, None, &[b"x", b"absent"])
        .unwrap();
    assert_eq!(
        answer.rows,
        [Some(OwnedRow::from(echo_row(b"x", b"x"))), None]
    );

    let commands = [
        Command::put(NAMESPACE, b"b", b""),
        Command::put(NAMESPACE, b"full", b""),
    ];
    let items = client.batch(&commands).unwrap();
    assert_eq!(items[0].as_ref().unwrap().revision, Revision(3));
    assert_eq!(items[1].as_ref().unwrap_err().code, ErrorCode::ReadOnly);

    assert_eq!(client.status().unwrap(), StatusReply::default());
    assert_eq!(client.shard_map().unwrap().slot_count, 16384);
}

#[test]
fn a_range_arrives_whole_although_it_is_larger_than_what_a_connection_may_hold() {
    let server = TestServer::start(ServerOptions::default());
    let mut client = server.connect();
    let mut range = RangeRequest::subtree(NAMESPACE, b"");
    range.query.limit = 205;
    let (mut rows, mut bytes) = (0, 0);
    let revisions = client
        .range(&range, |row| {
            rows += 1;
            bytes += row.value.len();
        })
        .unwrap();
    assert_eq!((rows, bytes), (205, 205 * 64 * 1024));
    let revision = Revision(0);
    assert_eq!(revisions, [ShardRevision { shard: 1, revision }]);
    client.ping().unwrap();
}

#[test]
fn a_cancelled_range_ends_and_the_connection_goes_on() {
    let server = TestServer::start(ServerOptions::default());
    let mut client = server.connect();
    let mut range = RangeRequest::subtree(NAMESPACE, SMALL_ROWS);
    range.query.limit = u64::MAX;
    let range_id = client.submit(|connection| connection.range(&range));
    let (mut is_cancelled, mut chunks) = (false, 0);
    client
        .next_responses(|id, response| {
            assert!(matches!(response, Response::Range(chunk) if !chunk.is_last));
            assert_eq!(id, range_id);
        })
        .unwrap();
    let cancel_id = client.submit(|connection| connection.cancel(range_id));
    while client.pending_count() > 0 {
        client
            .next_responses(|id, response| {
                if let Response::Error(error) = response {
                    assert_eq!((id, error.code), (range_id, ErrorCode::Cancelled));
                    is_cancelled = true;
                } else if let Response::Cancelled = response {
                    assert_eq!(id, cancel_id);
                } else {
                    chunks += 1;
                }
            })
            .unwrap();
    }
    assert!(is_cancelled);
    // What the sockets hold may still come. But a client that keeps up with the stream must not keep the server from
    // reading, as it once did.
    assert!(chunks < 20_000, "{chunks} chunks after the cancel");
    client.ping().unwrap();
}

#[test]
fn answers_may_come_in_another_order_than_requests() {
    let server = TestServer::start(ServerOptions::default());
    let mut client = server.connect();
    let held = client.submit(|connection| connection.put(NAMESPACE, b"hold", b""));
    let quick = client.submit(|connection| connection.put(NAMESPACE, b"quick", b""));
    let mut order = Vec::new();
    client.next_responses(|id, _| order.push(id)).unwrap();
    server.orders.release.store(true, Ordering::Relaxed);
    client.next_responses(|id, _| order.push(id)).unwrap();
    assert_eq!(order, [quick, held]);
}

#[test]
fn a_refused_request_leaves_the_connection_usable() {
    let server = TestServer::start(ServerOptions::default());
    let mut client = server.connect();
    let key = vec![b'k'; 4097];
    let refused = client.put(NAMESPACE, &key, b"").unwrap_err();
    let ClientError::Server(error) = refused else {
        panic!("{refused}");
    };
    assert_eq!(
        (error.code, error.limit, error.actual),
        (ErrorCode::TooLarge, 4096, 4097)
    );
    assert_eq!(error.happened, Happened::NotDone);
    client.ping().unwrap();
    assert_eq!(server.seen.requests.load(Ordering::Relaxed), 0);
}

#[test]
fn a_client_of_another_cluster_is_turned_away() {
    let server = TestServer::start(ServerOptions::default());
    let options = ConnectOptions {
        cluster_id: Some(CLUSTER + 1),
        ..ConnectOptions::default()
    };
    let refused = Client::connect_with(server.address, &options).unwrap_err();
    assert!(
        matches!(&refused, ClientError::Server(error) if error.code == ErrorCode::WrongCluster),
        "{refused}"
    );
    server.wait_until("the connection is closed", |seen| {
        seen.live.load(Ordering::Relaxed) == 0
    });
    assert_eq!(
        server.seen.closed.load(Ordering::Relaxed),
        0,
        "it was never greeted"
    );
}

#[test]
fn a_mutation_without_an_answer_has_an_unknown_outcome() {
    let server = TestServer::start(ServerOptions::default());
    let mut client = server.connect();
    client.set_timeout(Duration::from_millis(50)).unwrap();
    let error = client.put(NAMESPACE, b"hold", b"").unwrap_err();
    let ClientError::OutcomeUnknown { cause } = error else {
        panic!("{error}");
    };
    assert!(matches!(cause, ConnectionFault::Timeout), "{cause}");
    let after = client.put(NAMESPACE, b"a", b"").unwrap_err();
    assert!(
        matches!(after, ClientError::Connection(ConnectionFault::Closed)),
        "{after}"
    );
}

#[test]
fn a_server_that_drains_answers_what_is_under_way_and_closes() {
    // Clients of this test do not close in turn, so that it is the timeout that ends their connections.
    let options = ServerOptions {
        handshake_timeout: Duration::from_millis(60),
        ..ServerOptions::default()
    };
    let server = TestServer::start(options);
    let mut client = server.connect();
    let mut idle = server.connect();
    let held = client.submit(|connection| connection.put(NAMESPACE, b"hold", b""));
    let refused = client.submit(|connection| connection.put(NAMESPACE, b"quick", b""));
    client
        .next_responses(|id, _| assert_eq!(id, refused))
        .unwrap();
    server.orders.drain.store(true, Ordering::Relaxed);
    server.wait_until("the idle one is closed", |seen| {
        seen.closed.load(Ordering::Relaxed) == 1
    });
    assert!(idle.ping().is_err());

    let late = client.submit(|connection| connection.put(NAMESPACE, b"quick", b""));
    client
        .next_responses(|id, response| {
            assert_eq!(id, late);
            let is_told = |error: &WireError| error.code == ErrorCode::ShuttingDown;
            assert!(matches!(response, Response::Error(error) if is_told(&error)));
        })
        .unwrap();
    server.orders.release.store(true, Ordering::Relaxed);
    let mut answered = 0;
    // The last word says that nothing of what was not answered has happened.
    let last_word = loop {
        let heard = client.next_responses(|id, response| {
            assert_eq!(id, held);
            assert!(matches!(response, Response::Command(_)));
            answered += 1;
        });
        if let Err(end) = heard {
            break end;
        }
    };
    assert_eq!(answered, 1);
    assert!(
        matches!(
            &last_word,
            ClientError::Connection(ConnectionFault::Protocol(ProtocolError::Refused(error)))
                if error.code == ErrorCode::ShuttingDown
        ),
        "{last_word}"
    );
    drop((client, idle));
    server.join();
}

#[test]
fn two_servers_cannot_share_a_port() {
    let server = TestServer::start(ServerOptions::default());
    let taken = bind(server.address).unwrap_err();
    assert!(matches!(taken, BindError::InUse { address } if address == server.address));
    let refused = Client::connect("127.0.0.1:1", PATIENCE).unwrap_err();
    assert!(matches!(refused, ClientError::Connect { .. }), "{refused}");
}
