//! What a node does at its limits: memory, descriptors, and clients that mean harm.

mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::{Store, TestDirectory, free_ports, metastore, refused, stderr};
use metastore_net::blocking::{Client, ClientError};
use metastore_net::{ClientConnection, ClientOptions, ErrorCode, HelloRequest};
use metastore_statemachine::{Command, NamespaceId, OutcomeCode};

const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;
const PATIENCE: Duration = Duration::from_secs(30);

fn try_connect(port: u16) -> Result<Client, ClientError> {
    Client::connect(format!("127.0.0.1:{port}"), PATIENCE)
}

fn connect(store: &Store) -> Client {
    try_connect(store.port).expect("the store serves")
}

/// A number of the first core's status.
fn counter(client: &mut Client, name: &str) -> u64 {
    let status = client.status().expect("the store answers");
    let found = status.counters.iter().find(|counter| counter.name == name);
    found
        .unwrap_or_else(|| panic!("no counter {name}: {:?}", status.counters))
        .value
}

fn wait_until(what: &str, mut is_there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_there() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn descriptors(store: &Store) -> usize {
    fs::read_dir(format!("/proc/{}/fd", store.process_id()))
        .expect("the store runs")
        .count()
}

/// Its descriptors once those of the first log segments do not change any more.
fn settled_descriptors(store: &Store) -> usize {
    let mut last = descriptors(store);
    let mut unchanged = 0;
    wait_until("the store comes to rest", || {
        let now = descriptors(store);
        unchanged = if now == last { unchanged + 1 } else { 0 };
        last = now;
        unchanged == 25
    });
    last
}

/// A connection that has said hello and does nothing more.
fn idle(store: &Store) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", store.port)).expect("the store listens");
    let mut connection = ClientConnection::new(&ClientOptions::default());
    connection.hello(&HelloRequest::new("idle", None));
    stream
        .write_all(connection.outbound())
        .expect("a short hello");
    let mut buffer = [0; 4096];
    while connection.pending_count() > 0 {
        let count = stream.read(&mut buffer).expect("an answer");
        assert!(count > 0, "the store closed the connection");
        connection
            .on_bytes(&buffer[..count], |_, _| ())
            .expect("an answer to the hello");
    }
    stream
}

#[test]
fn a_connection_is_one_descriptor_and_is_given_back_with_its_memory() {
    let data = TestDirectory::new("descriptors");
    let store = Store::start(data.path(), 1, &[]);
    let mut client = connect(&store);
    let before = settled_descriptors(&store);
    let connections: Vec<TcpStream> = (0..300).map(|_| idle(&store)).collect();
    assert_eq!(descriptors(&store), before + 300);
    wait_until("they are in the books", || {
        counter(&mut client, "memory_connections_bytes") >= 300 * 1024
    });
    drop(connections);
    wait_until("all descriptors are back", || descriptors(&store) == before);
    wait_until("and their memory", || {
        counter(&mut client, "memory_connections_bytes") < 10 * 1024
    });
}

#[test]
fn beside_abusers_a_client_is_answered_and_nothing_is_left_behind() {
    let data = TestDirectory::new("abusers");
    let store = Store::start(data.path(), 1, &[]);
    let mut client = connect(&store);
    let before = settled_descriptors(&store);
    let mut abusers = Vec::new();
    for round in 0..20_u8 {
        let mut silent = TcpStream::connect(("127.0.0.1", store.port)).expect("it listens");
        silent.write_all(&[b'x'; 200]).expect("a few bytes");
        abusers.push(silent);
        let mut half = idle(&store);
        let mut connection = ClientConnection::new(&ClientOptions::default());
        connection.put(NAMESPACE, b"/half", &[7; 500_000]);
        half.write_all(&connection.outbound()[..400_000])
            .expect("most of a frame");
        abusers.push(half);
        let outcome = client.put(NAMESPACE, b"/good", &[round]).expect("a put");
        assert_eq!(outcome.code, OutcomeCode::Done);
    }
    wait_until("half frames are in the books", || {
        counter(&mut client, "memory_inbound_bytes") >= 20 * 400_000
    });
    drop(abusers);
    // A log segment or two may have been added meanwhile.
    wait_until("all descriptors are back", || {
        descriptors(&store) <= before + 4
    });
    wait_until("and their memory", || {
        counter(&mut client, "memory_inbound_bytes") == 0
    });
}

#[test]
fn a_full_state_refuses_growth_and_takes_deletes() {
    static VALUE: [u8; 1 << 20] = [7; 1 << 20];
    let data = TestDirectory::new("full-memory");
    // The smallest budget of one shard leaves 80 MiB to keys and values.
    let arguments = ["--shards", "1", "--memory-budget", "192MiB"];
    let store = Store::start(data.path(), 1, &arguments);
    let mut client = connect(&store);
    let key = |number: u32| format!("/{number:03}").into_bytes();
    let mut stored = 0;
    let refusal = loop {
        assert!(stored < 100, "more than the budget was taken");
        match client.put(NAMESPACE, &key(stored), &VALUE) {
            Ok(_) => stored += 1,
            Err(ClientError::Server(error)) => break error,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(refusal.code, ErrorCode::QuotaExceeded, "{refusal}");
    assert_eq!(refusal.limit, 80 << 20);
    assert!(stored > 60, "{stored} of 80 MiB were stored");
    // Reads are answered, and what is deleted makes room.
    let row = client.get(NAMESPACE, &key(0)).expect("a read");
    assert!(row.row.is_some());
    for number in 0..10 {
        let outcome = client
            .command(&Command::delete(NAMESPACE, &key(number)))
            .expect("a delete");
        assert_eq!(outcome.code, OutcomeCode::Done);
    }
    wait_until("there is room again", || {
        client.put(NAMESPACE, b"/new", &VALUE).is_ok()
    });
    let used = counter(&mut client, "memory_node_granted_bytes");
    assert!(used <= 192 << 20, "{used} bytes");
}

#[test]
fn the_soft_limit_on_open_files_is_raised() {
    let data = TestDirectory::new("soft-limit");
    let port = free_ports(1);
    let script = format!(
        "ulimit -Sn 128; exec {} dev --data {} --port {port} --cores 1 --segment-bytes 8MiB --wal-budget 1GiB --flush dsync",
        env!("CARGO_BIN_EXE_metastore"),
        data.path().display(),
    );
    let mut child = std::process::Command::new("bash")
        .args(["-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("bash can be started");
    wait_until("it serves", || try_connect(port).is_ok());
    let connections: Vec<Client> = (0..300)
        .map(|_| try_connect(port).expect("a connection"))
        .collect();
    drop(connections);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn too_few_descriptors_are_said_clearly() {
    let data = TestDirectory::new("few-descriptors");
    let start = |more: &str| {
        let script = format!(
            "ulimit -n 1000; exec timeout 20 {} dev --data {} --port {} --cores 1 --segment-bytes 8MiB --wal-budget 1GiB --flush dsync {more}",
            env!("CARGO_BIN_EXE_metastore"),
            data.path().display(),
            free_ports(1),
        );
        std::process::Command::new("bash")
            .args(["-c", &script])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bash can be started")
    };
    let output = start("--connections-max 5000")
        .wait_with_output()
        .expect("it ends");
    let words = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{words}");
    assert!(
        words.contains("RLIMIT_NOFILE") && words.contains("--connections-max"),
        "{words}"
    );
    // Without a number it takes as many as it can, and says so.
    let mut child = start("");
    let mut words = String::new();
    BufReader::new(child.stderr.take().expect("it is piped"))
        .read_line(&mut words)
        .expect("a pipe can be read");
    let _ = std::process::Command::new("kill")
        .arg(child.id().to_string())
        .status();
    child.wait().expect("it ends");
    assert!(words.contains("connections to each core"), "{words}");
}

#[test]
fn a_memory_budget_that_cannot_work_is_refused() {
    let data = TestDirectory::new("small-budget");
    let (code, words) = refused(
        data.path(),
        free_ports(1),
        &[
            "--cores",
            "1",
            "--memory-budget",
            "1MiB",
            "--flush",
            "dsync",
        ],
    );
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("--memory-budget"), "{words}");
    let help = metastore()
        .args(["dev", "--help"])
        .output()
        .expect("the program can be started");
    assert!(String::from_utf8_lossy(&help.stdout).contains("--memory-budget"));
}
