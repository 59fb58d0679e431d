//! How a node stops while clients are at work.

mod harness;

use std::fs::File;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use metastore_net::blocking::{Client, ClientError};
use metastore_net::{ErrorCode, RangeRequest};
use metastore_statemachine::NamespaceId;

use harness::{Store, TestDirectory, free_ports, stderr, stdout};

/// How long a client waits for an answer: longer than any stop.
const PATIENCE: Duration = Duration::from_secs(20);

fn connect(store: &Store) -> Client {
    let address = format!("127.0.0.1:{}", store.port);
    Client::connect(address, PATIENCE).expect("the store serves")
}

/// Puts ascending numbers until the store refuses one because it stops; the last one that was acknowledged.
fn put_until_refused(mut client: Client, key: &str, begun: &mpsc::Sender<()>) -> u64 {
    for number in 1.. {
        let value = number.to_string();
        match client.put(NamespaceId::DEFAULT, key.as_bytes(), value.as_bytes()) {
            Ok(_) if number == 20 => begun.send(()).expect("the test waits"),
            Ok(_) => {}
            Err(ClientError::Server(error)) => {
                assert_eq!(error.code, ErrorCode::ShuttingDown, "{error}");
                return number - 1;
            }
            Err(error) => panic!("{key}, put {number} got no answer: {error}"),
        }
    }
    unreachable!("the store refuses at some time")
}

#[test]
fn every_request_is_answered_when_a_node_of_two_cores_stops_under_load() {
    let data = TestDirectory::new("stop-load");
    let store = Store::start(data.path(), 2, &["--shards", "2"]);
    let (begun, has_begun) = mpsc::channel();
    // All through core 0; the shard of every other directory, more or less, is on core 1.
    let keys: Vec<String> = (0..12).map(|n| format!("/directory-{n}/key")).collect();
    let clients: Vec<_> = keys
        .iter()
        .map(|key| {
            let (client, key, begun) = (connect(&store), key.clone(), begun.clone());
            thread::spawn(move || put_until_refused(client, &key, &begun))
        })
        .collect();
    drop(begun);
    for _ in &clients {
        has_begun.recv().expect("every client gets answers");
    }
    store.signal("TERM");
    let (code, errors, took) = store.wait();
    let acknowledged: Vec<u64> = clients
        .into_iter()
        .map(|client| client.join().expect("every request is answered"))
        .collect();
    assert_eq!(code, Some(0), "{errors}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    let store = Store::start(data.path(), 2, &[]);
    for (key, number) in keys.iter().zip(acknowledged) {
        let value = stdout(&store.run(&["get", key]));
        assert_eq!(
            value.lines().last(),
            Some(number.to_string().as_str()),
            "{key}"
        );
    }
}

#[test]
fn commands_that_meet_a_stop_know_whether_they_happened() {
    let data = TestDirectory::new("stop-commands");
    let store = Store::start(data.path(), 2, &["--shards", "2"]);
    let (begun, has_begun) = mpsc::channel();
    thread::scope(|scope| {
        for client in 0..4 {
            let (store, begun) = (&store, begun.clone());
            scope.spawn(move || {
                let key = format!("/directory-{client}/key");
                loop {
                    let output = store.run(&["put", &key, "value"]);
                    match output.status.code() {
                        // Nobody listens for the later ones.
                        Some(0) => drop(begun.send(())),
                        Some(3) => return,
                        code => panic!("{code:?}: {}", stderr(&output)),
                    }
                }
            });
        }
        drop(begun);
        for _ in 0..20 {
            has_begun.recv().expect("commands succeed");
        }
        store.signal("TERM");
    });
    let (code, errors, _) = store.wait();
    assert_eq!(code, Some(0), "{errors}");
}

#[test]
fn a_stop_that_runs_out_of_time_says_so() {
    let data = TestDirectory::new("stop-late");
    let store = Store::start(data.path(), 1, &[]);
    let mut client = connect(&store);
    // More than the sockets between a store and a client that does not read can hold.
    let value = vec![7; 1 << 20];
    for number in 0..24 {
        let key = format!("/large/{number}");
        client
            .put(NamespaceId::DEFAULT, key.as_bytes(), &value)
            .expect("there is room");
    }
    let (begun, has_begun) = mpsc::channel();
    let (release, is_released) = mpsc::channel::<()>();
    let reader = thread::spawn(move || {
        let range = RangeRequest::subtree(NamespaceId::DEFAULT, b"/large/");
        client.range(&range, |_| {
            // It stops reading at the first row until the store is gone; then the channel is closed.
            let _ = begun.send(());
            let _ = is_released.recv();
        })
    });
    has_begun.recv().expect("rows come");
    store.signal("TERM");
    let (code, errors, took) = store.wait();
    drop(release);
    let read = reader.join().expect("the reader does not panic");
    assert!(read.is_err(), "the range cannot be complete");
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("not finished in time"), "{errors}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_client_that_is_idle_does_not_hold_up_a_stop() {
    let data = TestDirectory::new("stop-idle");
    let store = Store::start(data.path(), 1, &[]);
    let mut client = connect(&store);
    client.ping().expect("the store serves");
    store.signal("TERM");
    let (code, errors, took) = store.wait();
    assert_eq!(code, Some(0), "{errors}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    drop(client);
}

#[test]
fn a_signal_ends_a_start_at_once() {
    let data = TestDirectory::new("stop-start");
    // The store hangs where it reads this file, which has a writer that writes nothing.
    let pipe = data.path().join("node.toml");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo can be started").success());
    let store = Store::spawn(data.path(), free_ports(1), 1, &[]);
    let writer = File::options().write(true).open(&pipe);
    let writer = writer.expect("the store opens its end");
    store.signal("TERM");
    let (code, errors, _) = store.wait();
    drop(writer);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("before it served"), "{errors}");
}
