//! Nothing is queued without bound, and one greedy caller does not break the others.

use crate::fake::{Fake, Trouble};
use metastore_net::async_client::{Client, ClientSettings, Error};
use metastore_net::{ConnectionLimits, Happened, ServerLimits};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn operations_wait_for_room_within_their_deadline() {
    let fake = Fake::start().await;
    let settings = ClientSettings {
        request_bytes_max: 4096,
        ..ClientSettings::default()
    };
    let client = Client::connect([&fake.address], settings).await.unwrap();
    let value = vec![b'x'; 3000];
    fake.trouble([Trouble::Slow(Duration::from_millis(600))]);
    let first = tokio::spawn(client.put("/a", &value).into_future());
    while fake.requests() == 0 {
        tokio::task::yield_now().await;
    }
    let error = client
        .put("/b", &value)
        .deadline(Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
    assert_eq!(fake.requests(), 1, "the second never left");
    first.await.unwrap().unwrap();
    client.put("/b", &value).await.unwrap();
    let error = client.put("/c", &vec![0; 5000]).await.unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit: 4096, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_frame_that_the_server_would_not_take_never_leaves() {
    let limits = ConnectionLimits {
        announced: ServerLimits {
            frame_bytes: 8192,
            ..ServerLimits::default()
        },
        ..ConnectionLimits::default()
    };
    let fake = Fake::start_with(limits, Arc::default()).await;
    let client = Client::connect([&fake.address], ClientSettings::default())
        .await
        .unwrap();
    let error = client.put("/k", &vec![0; 9000]).await.unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit: 8192, .. }),
        "{error}"
    );
    assert_eq!(error.happened(), Happened::NotDone);
    client.put("/k", "v").await.unwrap();
    let connections = fake
        .state
        .connections
        .load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(connections, 1, "the connection lived on");
}

#[tokio::test]
async fn a_range_that_nobody_reads_delays_nobody() {
    let fake = Fake::start().await;
    let settings = ClientSettings {
        ranges_max: 1,
        ..ClientSettings::default()
    };
    let client = Client::connect([&fake.address], settings).await.unwrap();
    let value = vec![b'x'; 100_000];
    for index in 0..200 {
        client.put(&format!("/big/{index}"), &value).await.unwrap();
    }
    let mut stream = client.range("/big/").stream().await.unwrap();
    assert!(stream.next().await.unwrap().is_some());
    // 20 MB do not fit into the sockets: the server is stuck with the range, and nobody else is.
    for _ in 0..10 {
        client.get("/big/1").await.unwrap();
    }
    let deadline = Duration::from_millis(50);
    let error = client
        .range("/big/")
        .deadline(deadline)
        .stream()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
    drop(stream);
    let few = client.range("/big/10").collect().await.unwrap();
    assert_eq!(few.rows.len(), 11);
}

#[tokio::test]
async fn a_collected_range_has_a_limit() {
    let fake = Fake::start().await;
    let settings = ClientSettings {
        collect_bytes_max: 10_000,
        ..ClientSettings::default()
    };
    let client = Client::connect([&fake.address], settings).await.unwrap();
    for index in 0..20 {
        client
            .put(&format!("/r/{index}"), &vec![0; 1000])
            .await
            .unwrap();
    }
    let error = client.range("/r/").collect().await.unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit: 10_000, .. }),
        "{error}"
    );
    let one = client.range("/r/19").collect().await.unwrap();
    assert_eq!(one.rows.len(), 1);
}

#[tokio::test]
async fn a_setting_that_cannot_be_is_named() {
    let settings = ClientSettings {
        ranges_max: 0,
        ..ClientSettings::default()
    };
    let error = Client::connect(["127.0.0.1:1"], settings)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("ranges_max"), "{error}");
}

#[tokio::test]
async fn a_call_that_is_dropped_before_it_leaves_is_never_sent() {
    let fake = Fake::start().await;
    let settings = ClientSettings {
        in_flight_max: 1,
        ..ClientSettings::default()
    };
    let client = Client::connect([&fake.address], settings).await.unwrap();
    fake.trouble([Trouble::Slow(Duration::from_millis(100))]);
    let slow = tokio::spawn(client.put("/a", "1").into_future());
    while fake.requests() == 0 {
        tokio::task::yield_now().await;
    }
    let dropped = tokio::spawn(client.put("/b", "2").into_future());
    tokio::task::yield_now().await;
    dropped.abort();
    slow.await.unwrap().unwrap();
    client.put("/c", "3").await.unwrap();
    assert_eq!(fake.value("/b"), None);
    assert_eq!(fake.requests(), 2);
}
