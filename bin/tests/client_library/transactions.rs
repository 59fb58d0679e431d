//! Interactive transactions of many clients at once, through a killed and restarted store, are as if each had run alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metastore_net::ErrorCode;
use metastore_net::async_client::{Client, ClientSettings, Committed, Error, Transaction};
use tokio::task::JoinSet;

use crate::harness::{Store, TestDirectory};
use crate::history::{Ended, Observed, Read, State, check};

const DIRECTORY: &str = "/bank/";
const ACCOUNTS: u64 = 8;
const BALANCE: i64 = 100;
const CLIENTS: u64 = 6;
const TRANSACTIONS: u64 = 40;

fn settings() -> ClientSettings {
    ClientSettings {
        deadline: Duration::from_secs(20),
        backoff_min: Duration::from_millis(1),
        transaction_attempts_max: 1000,
        ..ClientSettings::default()
    }
}

async fn connect(store: &Store) -> Client {
    let address = format!("127.0.0.1:{}", store.port);
    Client::connect([address], settings())
        .await
        .expect("the store serves")
}

fn account(number: u64) -> String {
    format!("{DIRECTORY}account-{}", number % ACCOUNTS)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("the test writes text")
}

/// A transaction that notes what it reads and writes.
struct Noted {
    transaction: Transaction,
    reads: Vec<Read>,
    writes: Vec<(String, Option<String>)>,
}

impl Noted {
    async fn get(&mut self, key: &str) -> Result<Option<String>, Error> {
        let value = self.transaction.get(key).await?.map(text);
        self.reads.push(Read::Key(key.to_owned(), value.clone()));
        Ok(value)
    }

    async fn range(&mut self, prefix: &str) -> Result<Vec<(String, String)>, Error> {
        let entries = self.transaction.range(prefix).children().collect().await?;
        let rows: Vec<(String, String)> = entries
            .into_iter()
            .map(|entry| (text(entry.key), text(entry.value)))
            .collect();
        self.reads
            .push(Read::Range(prefix.to_owned(), rows.clone()));
        Ok(rows)
    }

    fn put(&mut self, key: &str, value: &str) {
        self.transaction.put(key, value);
        self.writes.push((key.to_owned(), Some(value.to_owned())));
    }

    fn delete(&mut self, key: &str) {
        self.transaction.delete(key);
        self.writes.push((key.to_owned(), None));
    }
}

/// Moves money between two accounts, if the first has it.
async fn transfer(noted: &mut Noted, seed: u64) -> Result<(), Error> {
    let (from, to) = (account(seed), account(seed / 7 + 1));
    if from == to {
        return Ok(());
    }
    let amount = i64::try_from(seed % 30).expect("small") + 1;
    let balance = |value: Option<String>| -> i64 {
        value.map_or(0, |text| text.parse().expect("a balance is a number"))
    };
    let (source, target) = (
        balance(noted.get(&from).await?),
        balance(noted.get(&to).await?),
    );
    if source >= amount {
        noted.put(&from, &(source - amount).to_string());
        noted.put(&to, &(target + amount).to_string());
    }
    Ok(())
}

/// Sums all accounts.
async fn audit(noted: &mut Noted) -> Result<(), Error> {
    let rows = noted.range(&format!("{DIRECTORY}account-")).await?;
    let sum: i64 = rows
        .iter()
        .map(|(_, value)| value.parse::<i64>().expect("a balance is a number"))
        .sum();
    let expected = i64::try_from(ACCOUNTS).expect("few") * BALANCE;
    assert_eq!(sum, expected, "a transaction saw half of a transfer");
    Ok(())
}

/// Goes off duty if somebody else is on, otherwise goes on: without transactions both would go off at once.
async fn duty(noted: &mut Noted, seed: u64) -> Result<(), Error> {
    let rows = noted.range(&format!("{DIRECTORY}duty-")).await?;
    assert!(!rows.is_empty(), "nobody is on duty");
    let me = format!("{DIRECTORY}duty-{}", seed % 3);
    if rows.iter().any(|(key, _)| *key == me) {
        if rows.len() > 1 {
            noted.delete(&me);
        }
    } else {
        noted.put(&me, "on");
    }
    Ok(())
}

/// Takes the next free number: without transactions two would take the same.
async fn ticket(noted: &mut Noted) -> Result<(), Error> {
    let taken = noted.range(&format!("{DIRECTORY}ticket-")).await?.len();
    noted.put(&format!("{DIRECTORY}ticket-{taken:04}"), "taken");
    Ok(())
}

/// One transaction, with its mark if it writes anything.
async fn run(client: &Client, id: u64, seed: u64) -> Observed {
    let notes = Arc::new(Mutex::new(Observed {
        id,
        ..Observed::default()
    }));
    let inside = Arc::clone(&notes);
    let result = client
        .transaction(|transaction| {
            let notes = Arc::clone(&inside);
            async move {
                let mut noted = Noted {
                    transaction,
                    reads: Vec::new(),
                    writes: Vec::new(),
                };
                match seed % 8 {
                    0..3 => transfer(&mut noted, seed / 8).await?,
                    3 => audit(&mut noted).await?,
                    4 | 5 => duty(&mut noted, seed / 8).await?,
                    _ => ticket(&mut noted).await?,
                }
                if !noted.writes.is_empty() {
                    let mark = format!("{DIRECTORY}mark-{id}");
                    noted.transaction.put(mark, "");
                }
                let mut notes = notes.lock().expect("no panic inside");
                notes.reads = noted.reads;
                notes.writes = noted.writes;
                Ok(())
            }
        })
        .await;
    let mut observed = notes.lock().expect("no panic inside").clone();
    observed.ended = ended(id, result);
    observed
}

fn ended(id: u64, result: Result<Committed<()>, Error>) -> Ended {
    match result {
        Ok(Committed {
            revision: Some(revision),
            ..
        }) => Ended::Committed(revision.0),
        Ok(Committed {
            read_revision: Some(revision),
            ..
        }) => Ended::Read(revision.0),
        // It neither read nor wrote: there is nothing to check.
        Ok(_) => Ended::Failed,
        Err(Error::OutcomeUnknown { .. }) => Ended::Unknown,
        Err(
            Error::TransactionConflict { .. } | Error::Deadline { .. } | Error::Interrupted { .. },
        ) => Ended::Failed,
        Err(error) => panic!("transaction {id}: {error}"),
    }
}

async fn prepare(client: &Client) -> (u64, State) {
    let mut initial = State::new();
    for number in 0..ACCOUNTS {
        initial.insert(account(number), BALANCE.to_string());
    }
    initial.insert(format!("{DIRECTORY}duty-0"), "on".to_owned());
    let done = client
        .transaction(|transaction| {
            for (key, value) in &initial {
                transaction.put(key, value);
            }
            async { Ok::<(), Error>(()) }
        })
        .await
        .expect("an empty store takes it");
    (done.revision.expect("it wrote").0, initial)
}

/// What the store holds: the marks with their revisions, and everything else.
async fn read_end(client: &Client) -> (BTreeMap<u64, u64>, State) {
    let mut markers = BTreeMap::new();
    let mut state = State::new();
    let all = client.range(DIRECTORY).collect().await.expect("it serves");
    for row in all.rows {
        let key = text(row.key);
        match key.strip_prefix(&format!("{DIRECTORY}mark-")) {
            Some(id) => {
                assert_eq!(row.version, 1, "transaction {id} was applied twice");
                markers.insert(id.parse().expect("a number"), row.mod_revision.0);
            }
            None => {
                state.insert(key, text(row.value));
            }
        }
    }
    (markers, state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_serializable_through_a_restart() {
    let directory = TestDirectory::new("serializable");
    let data = directory.path().join("data");
    let arguments = ["--shards", "4"];
    let store = Store::start(&data, 2, &arguments);
    let port = store.port;
    let first = connect(&store).await;
    let initial = prepare(&first).await;
    let next_id = Arc::new(AtomicU64::new(1));
    let finished = Arc::new(AtomicUsize::new(0));
    let mut running: JoinSet<Vec<Observed>> = JoinSet::new();
    for number in 0..CLIENTS {
        let client = connect(&store).await;
        let (next_id, finished) = (Arc::clone(&next_id), Arc::clone(&finished));
        running.spawn(async move {
            let mut observed = Vec::new();
            let mut seed = number + 1;
            for _ in 0..TRANSACTIONS {
                // A generator of Lehmer's: small, and good enough to mix operations.
                seed = seed * 48_271 % 0x7fff_ffff;
                let id = next_id.fetch_add(1, Ordering::Relaxed);
                observed.push(run(&client, id, seed).await);
                finished.fetch_add(1, Ordering::Relaxed);
            }
            observed
        });
    }
    // Half way the store is killed, with transactions under way.
    let half = usize::try_from(CLIENTS * TRANSACTIONS / 2).expect("small");
    let mut observed: Vec<Observed> = Vec::new();
    while finished.load(Ordering::Relaxed) < half {
        // One that panicked never finishes its part.
        if let Some(joined) = running.try_join_next() {
            observed.extend(joined.expect("a client saw what cannot be"));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    store.kill();
    let _store = Store::start_at(port, &data, 2, &arguments);
    observed.extend(running.join_all().await.into_iter().flatten());
    let (markers, end) = read_end(&first).await;
    check(initial, &observed, &markers, &end).expect("the transactions are serializable");
    let count =
        |wanted: fn(&Ended) -> bool| observed.iter().filter(|one| wanted(&one.ended)).count();
    let committed = count(|ended| matches!(ended, Ended::Committed(_)));
    let read = count(|ended| matches!(ended, Ended::Read(_)));
    assert!(committed > half / 2, "{committed} committed");
    assert!(read > 0, "{read} read");
}

#[tokio::test]
async fn two_who_read_the_same_do_not_both_commit() {
    let directory = TestDirectory::new("conflict");
    let store = Store::start(&directory.path().join("data"), 2, &["--shards", "4"]);
    let client = connect(&store).await;
    client.put("/d/a", "1").await.expect("it serves");
    let attempts = AtomicUsize::new(0);
    let done = client
        .transaction(|tx| {
            let attempt = attempts.fetch_add(1, Ordering::Relaxed);
            let client = client.clone();
            async move {
                let before = tx.get("/d/a").await?.map(text);
                if attempt == 0 {
                    // Somebody else is faster, once.
                    client.put("/d/a", "2").await?;
                }
                tx.put("/d/b", before.clone().unwrap_or_default());
                // Own writes are seen, and nothing newer than the first read is.
                assert_eq!(tx.get("/d/b").await?.map(text), before);
                assert_eq!(tx.get("/d/a").await?.map(text), before);
                Ok::<Option<String>, Error>(before)
            }
        })
        .await
        .expect("the second attempt is alone");
    assert_eq!((done.attempts, done.value.as_deref()), (2, Some("2")));
    let row = client.get("/d/b").await.expect("it serves").row;
    let row = row.expect("it was committed");
    assert_eq!(row.value, b"2");
    assert_eq!(Some(row.mod_revision), done.revision);
}

#[tokio::test]
async fn a_transaction_that_fails_writes_nothing_and_one_over_shards_names_its_keys() {
    let directory = TestDirectory::new("failing");
    let store = Store::start(&directory.path().join("data"), 2, &["--shards", "4"]);
    let client = connect(&store).await;
    let failed = client
        .transaction(|tx| async move {
            tx.put("/d/a", "1");
            Err::<(), Error>(Error::NotANumber)
        })
        .await;
    assert!(matches!(failed, Err(Error::NotANumber)), "{failed:?}");
    assert_eq!(client.get("/d/a").await.expect("it serves").row, None);

    // Directories in different shards, found by writing to them.
    let mut shards = BTreeMap::new();
    for number in 0..100 {
        let key = format!("/dir-{number}/k");
        let read = client.get(&key).await.expect("it serves");
        shards.entry(read.position.shard).or_insert(key);
    }
    let keys: Vec<String> = shards.into_values().take(2).collect();
    let keys: [String; 2] = keys
        .try_into()
        .expect("a hundred directories meet two shards");
    let [one, other] = &keys;
    let crossed = |error: Error| {
        let Error::Server(error) = error else {
            panic!("{error}");
        };
        assert_eq!(error.code, ErrorCode::CrossShard);
        let named: Vec<String> = error.keys.iter().cloned().map(text).collect();
        assert!(keys.iter().any(|key| named.contains(key)), "{named:?}");
    };
    let reading = client
        .transaction(|tx| async move {
            tx.get(one).await?;
            tx.get(other).await?;
            Ok::<(), Error>(())
        })
        .await;
    crossed(reading.expect_err("it reads two shards"));
    let writing = client
        .transaction(|tx| async move {
            tx.put(one, "x");
            tx.put(other, "x");
            Ok::<(), Error>(())
        })
        .await;
    crossed(writing.expect_err("it writes two shards"));
    assert_eq!(client.get(one).await.expect("it serves").row, None);
}
