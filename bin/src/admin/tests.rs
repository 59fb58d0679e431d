use std::io::{Read, Write};

use metastore_engine::{BUCKETS, StageSummary};
use metastore_net::{Counter, ReplicaRole, ReplicaStatus, StatusReply};

use super::*;
use crate::node::CoreNumbers;

/// An admin port of a node of two cores, of which one has reported.
fn start_admin() -> SocketAddr {
    let board = Board::serving(2);
    let mut buckets = [0; BUCKETS];
    buckets[1] = 3;
    let mut numbers = CoreNumbers::idle();
    numbers.stages = vec![StageSummary {
        name: "flush",
        count: 4,
        p50_ns: 9_000,
        p99_ns: 9_000,
        p999_ns: 9_000,
        max_ns: 60_000_000_000,
        mean_ns: 9_000,
        sum_ns: 60_000_027_000,
        buckets,
    }];
    numbers.status = StatusReply {
        counters: vec![
            Counter {
                name: "requests".to_owned(),
                value: u64::MAX,
            },
            Counter {
                name: "brand_new".to_owned(),
                value: 5,
            },
        ],
        replicas: vec![ReplicaStatus {
            shard: 7,
            role: ReplicaRole::Leader,
            keys: 11,
            ..ReplicaStatus::default()
        }],
        ..StatusReply::default()
    };
    board.publish_now(1, numbers);
    let address = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("loopback has a free port");
    start(address, board).expect("it was free a moment ago");
    address
}

/// Sends bytes, closes its own side if asked to, and reads until the other side closes.
fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).expect("it listens");
    // Whoever is refused early may not take everything.
    let _ = socket.write_all(request);
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer);
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    exchange(
        address,
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(),
    )
}

#[test]
fn numbers_of_cores_and_replicas_are_in_the_metrics() {
    let address = start_admin();
    let answer = get(address, "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for line in [
        "metastore_build_info{version=\"0.1.0\"} 1",
        "metastore_cores 2",
        "metastore_ready 0",
        "metastore_requests_total{core=\"1\"} 18446744073709551615",
        "metastore_status_brand_new{core=\"1\"} 5",
        "metastore_replica_info{core=\"1\",shard=\"7\",replica=\"0\",role=\"leader\"} 1",
        "metastore_replica_keys{core=\"1\",shard=\"7\"} 11",
        "metastore_command_stage_seconds_bucket{le=\"0.000008192\",core=\"1\",stage=\"flush\"} 0",
        "metastore_command_stage_seconds_bucket{le=\"+Inf\",core=\"1\",stage=\"flush\"} 4",
        "metastore_command_stage_seconds_count{core=\"1\",stage=\"flush\"} 4",
        "metastore_command_stage_longest_seconds{core=\"1\",stage=\"flush\"} 60.0",
    ] {
        assert!(
            answer.lines().any(|found| found == line),
            "{line} is not in {answer}"
        );
    }
    assert!(
        !answer.contains("metastore_shards{core=\"0\"}"),
        "core 0 has not reported"
    );
    assert!(answer.ends_with("# EOF\n"));
}

#[test]
fn health_and_readiness_say_why_not() {
    let address = start_admin();
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 OK\r\n"));
    let ready = get(address, "/readyz");
    assert!(
        ready.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{ready}"
    );
    assert!(ready.ends_with("core 0 has not reported yet\n"), "{ready}");
}

#[test]
fn what_is_not_asked_for_properly_is_refused() {
    let address = start_admin();
    let begins = |answer: String, code: &str| {
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {code} ")),
            "{code}: {answer}"
        );
    };
    begins(get(address, "/"), "404");
    begins(exchange(address, b"POST /metrics HTTP/1.1\r\n\r\n"), "405");
    begins(exchange(address, b"hello\r\n\r\n"), "400");
    let long = vec![b'a'; 1 << 20];
    begins(exchange(address, &long), "431");
    let head = exchange(address, b"HEAD /healthz HTTP/1.1\r\n\r\n");
    assert!(
        head.contains("Content-Length: 3") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

#[test]
fn clients_that_say_nothing_are_let_go_and_others_have_their_turn() {
    let address = start_admin();
    let silent: Vec<TcpStream> = (0..CONNECTIONS_MAX)
        .map(|_| TcpStream::connect(address).expect("it listens"))
        .collect();
    // This one comes after them all, and they have every place.
    let answer = get(address, "/");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    for mut socket in silent {
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("it is answered");
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
}
