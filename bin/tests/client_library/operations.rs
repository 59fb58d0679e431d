//! Everyday operations against the real thing.

use metastore_net::ErrorCode;
use metastore_net::async_client::{Client, ClientSettings, Error, OwnedTxnResult};
use metastore_statemachine::{
    Branch, Command, Commit, Compare, Existence, KeyRange, NamespaceId, Operation, Revision, Txn,
};

use crate::harness::{Store, TestDirectory};

async fn start(name: &str) -> (TestDirectory, Store, Client) {
    let directory = TestDirectory::new(name);
    let store = Store::start(&directory.path().join("data"), 2, &["--shards", "4"]);
    let address = format!("127.0.0.1:{}", store.port);
    let client = Client::connect([address], ClientSettings::default())
        .await
        .expect("the store serves");
    (directory, store, client)
}

#[tokio::test]
async fn every_operation_is_understood() {
    let (_directory, _store, client) = start("library-operations").await;
    let first = client.put("/a/k", "one").if_absent().await.expect("absent");
    let exists = client.put("/a/k", "x").if_absent().await;
    assert!(
        matches!(exists, Err(Error::Conflict { revision }) if revision == first.revision),
        "{exists:?}"
    );
    let second = client
        .put("/a/k", "two")
        .expected_revision(first.revision)
        .return_previous()
        .await
        .expect("nobody was faster");
    assert_eq!(second.previous.expect("asked for").value, b"one");
    let old = client.get("/a/k").at(first.revision).await.expect("kept");
    assert_eq!(old.row.expect("it was there").value, b"one");
    client.append("/a/k", " extra").await.expect("it serves");
    let many = client
        .get_many(["/a/k", "/a/none"])
        .await
        .expect("one shard");
    let rows: Vec<_> = many.rows.iter().map(Option::is_some).collect();
    assert_eq!(rows, [true, false]);
    assert_eq!(client.add("/a/n", 5).await.expect("it serves").value, 5);
    assert_eq!(client.max("/a/n", 3).await.expect("it serves").value, 5);
    assert_eq!(client.min("/a/n", 3).await.expect("it serves").value, 3);
    let text = client.add("/a/k", 1).await;
    assert!(matches!(text, Err(Error::NotANumber)), "{text:?}");
    let deleted = client
        .delete("/a/k")
        .return_previous()
        .await
        .expect("it serves");
    assert_eq!(deleted.previous.expect("it was there").value, b"two extra");
    assert!(!client.delete("/a/k").await.expect("it serves").existed);
    client.ping().await.expect("it serves");
    assert!(
        !client
            .status()
            .await
            .expect("it serves")
            .replicas
            .is_empty()
    );
    assert_eq!(client.shard_map().await.expect("it serves").shards.len(), 4);
    let future = client.get("/a/n").at(Revision(1_000_000)).await;
    assert!(future.is_err(), "{future:?}");
}

#[tokio::test]
async fn batches_and_ranges_span_shards() {
    let (_directory, _store, client) = start("library-batches").await;
    let mut batch = client.batch();
    for index in 0..3_000 {
        batch.put(format!("/{}/{index:04}", index % 20), "value");
    }
    let answers = batch.await;
    assert!(answers.iter().all(Result::is_ok));
    let mut stream = client
        .range("/")
        .keys_only()
        .stream()
        .await
        .expect("it serves");
    let mut keys = Vec::new();
    while let Some(row) = stream.next().await.expect("it serves") {
        keys.push(row.key);
    }
    assert_eq!(keys.len(), 3_000);
    assert!(keys.is_sorted());
    assert_eq!(stream.revisions().len(), 4);
    let one = client
        .range("/7/")
        .children()
        .collect()
        .await
        .expect("it serves");
    assert_eq!((one.rows.len(), one.revisions.len()), (150, 1));
    let directories = client
        .range("/")
        .delimiter(b'/')
        .collect()
        .await
        .expect("it serves");
    assert_eq!(directories.rows.len(), 20);
    assert_eq!(directories.rows[0].key, b"/0/");
    assert_eq!(directories.rows[0].version, 0);
    let counted = client.range("/").limit(7).count().await;
    assert_eq!(counted.expect("it serves").count, 3_000);
    let counted = client.range("/7/").children().count().await;
    let counted = counted.expect("it serves");
    assert_eq!((counted.count, counted.revisions.len()), (150, 1));
    let counted = client.range("/").delimiter(b'/').count().await;
    assert_eq!(counted.expect("it serves").count, 20);
}

#[tokio::test]
async fn transactions_known_beforehand_take_one_round_trip() {
    let (_directory, _store, client) = start("library-txn").await;
    let put = Command::put(NamespaceId::DEFAULT, b"/d/lock", b"me");
    let acquire = || Txn {
        compares: vec![Compare::existence(b"/d/lock", Existence::Absent)],
        then: vec![Operation::Mutation(put)],
        otherwise: vec![Operation::Get(b"/d/lock")],
    };
    let first = client.txn(acquire()).await.expect("it serves");
    assert_eq!(first.branch, Branch::Then);
    let second = client.txn(acquire()).await.expect("it serves");
    assert_eq!(second.branch, Branch::Otherwise);
    let [OwnedTxnResult::Get(Some(row))] = second.results.as_slice() else {
        panic!("{second:?}");
    };
    assert_eq!(
        (row.value.as_slice(), row.mod_revision),
        (&b"me"[..], first.revision)
    );
    // Somebody adds to a range that was read.
    let commit = || Commit {
        read_revision: first.revision,
        read_ranges: vec![KeyRange::children(b"/d/", b'/')],
        mutations: vec![Command::put(NamespaceId::DEFAULT, b"/d/x", b"x")],
        ..Commit::default()
    };
    client.commit(commit()).await.expect("nothing has changed");
    let conflict = client.commit(commit()).await;
    assert!(
        matches!(&conflict, Err(Error::TransactionConflict { key, .. }) if key == b"/d/"),
        "{conflict:?}"
    );
}

#[tokio::test]
async fn ranges_are_deleted_and_history_is_forgotten() {
    let (_directory, _store, client) = start("library-delete-range").await;
    let mut batch = client.batch();
    for index in 0..2_000 {
        batch.put(format!("/{}/{index:04}", index % 8), "value");
    }
    assert!(batch.await.iter().all(Result::is_ok));
    let one = client
        .delete_range("/3/")
        .children()
        .await
        .expect("it serves");
    assert_eq!(one.count, 250);
    let all = client.delete_range("/").await.expect("it serves");
    assert_eq!(all.count, 1_750);
    let left = client.range("/").collect().await.expect("it serves");
    assert_eq!(left.rows, []);

    let before = client.put("/d/k", "1").await.expect("it serves").revision;
    let after = client.put("/d/k", "2").await.expect("it serves").revision;
    client.compact("/d/k", after).await.expect("it serves");
    let gone = client
        .get("/d/k")
        .at(before)
        .await
        .expect_err("it was forgotten");
    assert_eq!(gone.code(), Some(ErrorCode::Compacted));
    let kept = client
        .get("/d/k")
        .at(after)
        .await
        .expect("it is the newest");
    assert_eq!(kept.row.expect("it is there").value, b"2");
}
