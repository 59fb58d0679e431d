//! Everyday operations, and what they become on the wire.

use crate::fake::Fake;
use metastore_net::async_client::{Client, ClientSettings, Error};
use metastore_statemachine::Revision;

#[tokio::test]
async fn keys_are_written_read_and_removed() {
    let fake = Fake::start().await;
    let client = Client::connect([&fake.address], ClientSettings::default())
        .await
        .unwrap();
    let written = client.put("/a/b", "one").await.unwrap();
    assert_eq!(written.revision, Revision(1));
    let read = client.get("/a/b").await.unwrap();
    assert_eq!(read.row.unwrap().value, b"one");
    let swapped = client
        .put("/a/b", "two")
        .expected_revision(Revision(1))
        .await
        .unwrap();
    assert_eq!(swapped.revision, Revision(2));
    let refused = client
        .put("/a/b", "three")
        .expected_revision(Revision(1))
        .await;
    assert!(
        matches!(refused, Err(Error::Conflict { revision }) if revision == Revision(2)),
        "{refused:?}"
    );
    assert_eq!(client.add("/a/n", 5).await.unwrap().value, 5);
    assert_eq!(client.add("/a/n", -7).await.unwrap().value, -2);
    let many = client.get_many(["/a/b", "/a/none"]).await.unwrap();
    let values: Vec<_> = many
        .rows
        .into_iter()
        .map(|row| row.map(|row| row.value))
        .collect();
    assert_eq!(values, [Some(b"two".to_vec()), None]);
    assert!(client.delete("/a/b").await.unwrap().existed);
    assert_eq!(client.get("/a/b").await.unwrap().row, None);
    client.ping().await.unwrap();
}

#[tokio::test]
async fn a_batch_is_split_into_frames_and_answered_in_order() {
    let fake = Fake::start().await;
    let settings = ClientSettings {
        batch_commands_max: 10,
        ..ClientSettings::default()
    };
    let client = Client::connect([&fake.address], settings).await.unwrap();
    let mut batch = client.batch();
    for index in 0..25 {
        batch.put(format!("/d/{index}"), index.to_string());
    }
    batch.put("/d/0", "again").add("/d/n", 3).delete("/d/24");
    let answers = batch.await;
    assert_eq!(answers.len(), 28);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(answers[26].as_ref().unwrap().number, Some(3));
    let revisions: Vec<u64> = answers
        .iter()
        .map(|one| one.as_ref().unwrap().revision.0)
        .collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
    assert_eq!(fake.value("/d/0").unwrap(), b"again");
    assert_eq!(fake.requests(), 3);
    assert!(client.batch().await.is_empty());
}

#[tokio::test]
async fn a_range_streams_its_rows_and_uses_its_connection_again() {
    let fake = Fake::start().await;
    let client = Client::connect([&fake.address], ClientSettings::default())
        .await
        .unwrap();
    for index in 10..45 {
        client.put(&format!("/r/{index}"), "x").await.unwrap();
    }
    for _ in 0..3 {
        let mut stream = client.range("/r/").children().stream().await.unwrap();
        let mut count = 0;
        while let Some(row) = stream.next().await.unwrap() {
            assert_eq!(row.key, format!("/r/{}", count + 10).into_bytes());
            count += 1;
        }
        assert_eq!(count, 35);
        assert_eq!(stream.revisions()[0].revision, Revision(35));
        assert_eq!(stream.next().await.unwrap(), None);
    }
    let all = client.range("/r/").collect().await.unwrap();
    assert_eq!(all.rows.len(), 35);
    let connections = fake
        .state
        .connections
        .load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(connections, 2, "one for operations, one for ranges");
}

#[tokio::test]
async fn many_operations_share_one_connection() {
    let fake = Fake::start().await;
    let settings = ClientSettings {
        queue_requests_max: 8,
        in_flight_max: 16,
        ..ClientSettings::default()
    };
    let client = Client::connect([&fake.address], settings).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..500 {
        let put = client.put(&format!("/p/{index}"), "x").into_future();
        tasks.spawn(put);
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap().unwrap();
    }
    assert_eq!(fake.applied(), 500);
    let connections = fake
        .state
        .connections
        .load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(connections, 1);
}
