//! Snapshots of a store that runs: the log stays within its budget, and a start finds everything, whenever the process
//! was killed.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use metastore_net::ErrorCode;
use metastore_net::blocking::{Client, ClientError};
use metastore_statemachine::NamespaceId;

use harness::{Store, TestDirectory, free_ports, metastore, refused, stderr, stdout};

const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;
const PATIENCE: Duration = Duration::from_secs(30);
/// Snapshots are taken all the time.
const ALWAYS: [&str; 2] = ["--set", "snapshot.log_bytes=4KiB"];

fn connect(store: &Store) -> Client {
    let address = format!("127.0.0.1:{}", store.port);
    Client::connect(address, PATIENCE).expect("the store serves")
}

/// Every file below the directories of the shards.
fn snapshot_files(data: &Path) -> Vec<PathBuf> {
    let is_shard = |path: &PathBuf| {
        let name = path.file_name().expect("an entry has a name");
        name.to_string_lossy().starts_with("shard-")
    };
    let entries = |directory: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).expect("it can be read");
        entries
            .map(|entry| entry.expect("it can be read").path())
            .collect()
    };
    let shards = entries(data).into_iter().filter(is_shard);
    let mut files: Vec<PathBuf> = shards.flat_map(|shard| entries(&shard)).collect();
    files.sort();
    files
}

fn await_snapshot(data: &Path) -> PathBuf {
    let began = Instant::now();
    loop {
        let is_complete = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "snap");
        if let Some(path) = snapshot_files(data).into_iter().find(is_complete) {
            return path;
        }
        assert!(began.elapsed() < PATIENCE, "no snapshot is taken");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Clients that count, each its own key, until the store is gone.
struct Counters {
    acknowledged: Arc<Vec<AtomicU64>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

fn counter_key(client: usize) -> String {
    format!("/counters-{client}/value")
}

impl Counters {
    fn start(store: &Store, begin: &[u64]) -> Counters {
        let acknowledged: Vec<AtomicU64> = begin.iter().map(|&from| AtomicU64::new(from)).collect();
        let acknowledged = Arc::new(acknowledged);
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = (0..begin.len()).map(|client| {
            let mut connection = connect(store);
            let (acknowledged, is_over) = (Arc::clone(&acknowledged), Arc::clone(&is_over));
            thread::spawn(move || {
                let key = counter_key(client);
                while !is_over.load(Ordering::Relaxed) {
                    let next = acknowledged[client].load(Ordering::Relaxed) + 1;
                    let mut value = vec![0xA5; 500];
                    value.extend_from_slice(&next.to_le_bytes());
                    if connection.put(NAMESPACE, key.as_bytes(), &value).is_err() {
                        return;
                    }
                    acknowledged[client].store(next, Ordering::Relaxed);
                }
            })
        });
        let threads = threads.collect();
        Counters {
            acknowledged,
            is_over,
            threads,
        }
    }

    /// Waits for the clients; what was acknowledged to each.
    fn end(self) -> Vec<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client does not panic");
        }
        let numbers = self.acknowledged.iter();
        numbers
            .map(|number| number.load(Ordering::Relaxed))
            .collect()
    }
}

fn number_of(client: &mut Client, key: &str) -> u64 {
    let found = client
        .get(NAMESPACE, key.as_bytes())
        .expect("it is answered");
    found.row.map_or(0, |row| {
        let (_, number) = row.value.split_at(500);
        u64::from_le_bytes(number.try_into().expect("eight bytes"))
    })
}

#[test]
fn a_store_that_is_killed_while_it_takes_snapshots_loses_nothing() {
    let data = TestDirectory::new("snapshot-kill");
    let mut acknowledged = vec![0; 6];
    let mut snapshots_seen = 0;
    for round in 0..12_u64 {
        let store = Store::start(data.path(), 2, &[&ALWAYS[..], &["--shards", "3"]].concat());
        let mut client = connect(&store);
        for (number, known) in acknowledged.iter_mut().enumerate() {
            let found = number_of(&mut client, &counter_key(number));
            assert!(
                (*known..=*known + 1).contains(&found),
                "round {round}, client {number}: {known} acknowledged, {found} found"
            );
            *known = found;
        }
        let counters = Counters::start(&store, &acknowledged);
        thread::sleep(Duration::from_millis(100 + round * 37 % 300));
        snapshots_seen += usize::from(!snapshot_files(data.path()).is_empty());
        store.kill();
        acknowledged = counters.end();
    }
    assert!(
        acknowledged.iter().all(|&number| number > 10),
        "{acknowledged:?}"
    );
    assert!(snapshots_seen >= 6, "{snapshots_seen}");
    // A stop leaves one file for each shard at most, and nothing half done.
    let store = Store::start(data.path(), 2, &ALWAYS);
    store.signal("TERM");
    let (code, errors, _) = store.wait();
    assert_eq!(code, Some(0), "{errors}");
    let files = snapshot_files(data.path());
    assert!(
        files
            .iter()
            .all(|path| path.extension().is_some_and(|suffix| suffix == "snap"))
    );
    assert!(files.len() <= 3 + 3, "{files:?}");
    let verified = verify(data.path());
    assert_eq!(verified.status.code(), Some(0), "{}", stdout(&verified));
}

fn verify(data: &Path) -> std::process::Output {
    metastore()
        .args(["wal", "verify", "--data"])
        .arg(data)
        .output()
        .expect("the program can be started")
}

#[test]
fn a_store_goes_on_when_its_log_has_reached_the_budget() {
    let data = TestDirectory::new("snapshot-budget");
    let budget = ["--wal-budget", "40MiB"];
    let store = Store::start(data.path(), 1, &budget);
    let mut client = connect(&store);
    // Letters that do not compress, so that the log is as long as what is written.
    let mut state = 1_u64;
    let mut value = vec![0; 256 << 10];
    let mut refused = 0;
    for number in 0..800_u64 {
        for byte in &mut value {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        let key = format!("/d/{}", number % 16);
        let began = Instant::now();
        loop {
            match client.put(NAMESPACE, key.as_bytes(), &value) {
                Ok(_) => break,
                Err(ClientError::Server(error))
                    if matches!(error.code, ErrorCode::ReadOnly | ErrorCode::Overloaded) =>
                {
                    refused += 1;
                    assert!(
                        began.elapsed() < PATIENCE,
                        "the store does not go on: {error}"
                    );
                    thread::sleep(Duration::from_millis(20));
                }
                Err(error) => panic!("put {number}: {error}"),
            }
        }
    }
    let log_bytes: u64 = fs::read_dir(data.path().join("core-0"))
        .expect("it can be read")
        .map(|entry| {
            entry
                .expect("it can be read")
                .metadata()
                .expect("it has some")
                .len()
        })
        .sum();
    assert!(
        log_bytes <= (40 << 20) + 8192,
        "{log_bytes} bytes, {refused} refusals"
    );
    store.kill();
    let store = Store::start(data.path(), 1, &budget);
    let list = store.run(&["list", "/d/", "--keys-only"]);
    let rows = stdout(&list).lines().count();
    assert_eq!(rows, 16);
}

#[test]
fn a_start_without_the_snapshot_that_the_log_names_is_refused_and_says_why() {
    let data = TestDirectory::new("snapshot-damaged");
    let store = Store::start(data.path(), 1, &ALWAYS);
    for number in 0..40 {
        let value = format!("{number}").repeat(200);
        let output = store.run(&["put", &format!("/d/{number}"), &value]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    await_snapshot(data.path());
    store.signal("TERM");
    assert_eq!(store.wait().0, Some(0));
    let path = await_snapshot(data.path());
    let intact = fs::read(&path).expect("it can be read");
    let check = |what: &str| {
        let (code, errors) = refused(data.path(), free_ports(1), &[]);
        assert_eq!(code, Some(3), "{errors}");
        let verified = verify(data.path());
        assert_eq!(verified.status.code(), Some(1), "{}", stdout(&verified));
        for text in [errors, stdout(&verified)] {
            assert!(text.contains(&path.display().to_string()), "{text}");
            assert!(text.contains(what), "{text}");
            assert!(text.contains("put the file back"), "{text}");
        }
    };
    fs::remove_file(&path).expect("it can be removed");
    check("missing");
    let middle = intact.len() / 2;
    let mut damaged = intact.clone();
    damaged[middle] ^= 1;
    fs::write(&path, &damaged).expect("it can be written");
    check("section");
    check("offset");
    fs::write(&path, &intact[..middle]).expect("it can be written");
    check("ends after");
    fs::write(&path, &intact).expect("it can be written");
    let store = Store::start(data.path(), 1, &[]);
    let output = store.run(&["get", "/d/39"]);
    assert_eq!(
        stdout(&output).lines().last(),
        Some("39".repeat(200).as_str())
    );
}

#[test]
fn a_start_removes_what_no_record_names() {
    let data = TestDirectory::new("snapshot-strays");
    let store = Store::start(data.path(), 1, &ALWAYS);
    store.run(&["put", "/a", "1"]);
    store.kill();
    let directory = data.path().join("shard-0000");
    for name in ["snap-9-9.snap.tmp", "snap-9-9.snap"] {
        fs::write(directory.join(name), "x").expect("it can be written");
    }
    let store = Store::start(data.path(), 1, &[]);
    assert_eq!(stdout(&store.run(&["get", "/a"])).lines().last(), Some("1"));
    let strays = |path: &PathBuf| path.display().to_string().contains("snap-9-9");
    assert!(!snapshot_files(data.path()).iter().any(strays));
}

#[test]
fn a_snapshot_that_cannot_be_written_stops_nobody() {
    let data = TestDirectory::new("snapshot-fails");
    let store = Store::start(data.path(), 1, &ALWAYS);
    // Where the directory was is a file: nothing can be created below it.
    let directory = data.path().join("shard-0000");
    let began = Instant::now();
    while fs::remove_dir_all(&directory).is_err() {
        assert!(began.elapsed() < PATIENCE, "a file comes whenever one goes");
    }
    fs::write(&directory, "in the way").expect("it can be written");
    for number in 0..40 {
        let value = format!("{number}").repeat(200);
        let output = store.run(&["put", &format!("/d/{number}"), &value]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    thread::sleep(Duration::from_millis(200));
    // When it is gone, the snapshots come by themselves.
    fs::remove_file(&directory).expect("it can be removed");
    fs::create_dir(&directory).expect("it can be made");
    await_snapshot(data.path());
    store.signal("TERM");
    let (code, errors, _) = store.wait();
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("tried again later"), "{errors}");
}
