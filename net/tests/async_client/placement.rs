//! Which core is asked.

use crate::fake::{self, Fake, Trouble};
use metastore_net::async_client::{Client, ClientSettings, Error, ReadFrom};
use metastore_net::{ErrorCode, WireError};
use metastore_statemachine::{NamespaceId, NamespaceRule, SLOT_COUNT, slot_of};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A directory whose keys belong to the first or the second half of the slots.
fn directory_in_half(half: usize) -> String {
    let rule = NamespaceRule::Directory { separator: b'/' };
    (0..)
        .map(|index| format!("/{index}/"))
        .find(|name| {
            let slot = slot_of(NamespaceId::DEFAULT, rule.routing_part(name.as_bytes()));
            usize::from(slot.0) * 2 / SLOT_COUNT == half
        })
        .unwrap()
}

async fn two_cores() -> (Fake, Fake, Client) {
    let first = Fake::start().await;
    let second = Fake::start_beside(&first).await;
    let addresses = [first.address.as_str(), second.address.as_str()];
    first.set_map(1, &addresses);
    second.set_map(1, &addresses);
    let client = Client::connect([&first.address], ClientSettings::default())
        .await
        .unwrap();
    (first, second, client)
}

#[tokio::test]
async fn requests_go_straight_to_the_core_that_leads() {
    let (first, second, client) = two_cores().await;
    let (left, right) = (directory_in_half(0), directory_in_half(1));
    for index in 0..10 {
        client.put(&format!("{left}{index}"), "x").await.unwrap();
        client.get(&format!("{right}{index}")).await.unwrap();
    }
    assert_eq!((first.requests(), second.requests()), (10, 10));
    client.range(&right).children().collect().await.unwrap();
    assert_eq!(second.requests(), 11);
    let mut batch = client.batch();
    for index in 0..10 {
        batch.put(format!("{left}{index}"), "y");
        batch.put(format!("{right}{index}"), "y");
    }
    assert!(batch.await.iter().all(Result::is_ok));
    assert_eq!((first.requests(), second.requests()), (11, 12));
}

#[tokio::test]
async fn a_hint_is_followed_and_a_stale_map_is_asked_for_again() {
    let (first, second, client) = two_cores().await;
    let left = format!("{}k", directory_in_half(0));
    let not_leader = WireError {
        hint: second.address.clone(),
        ..WireError::new(ErrorCode::NotLeader)
    };
    first.trouble([Trouble::Refuse(not_leader)]);
    client.put(&left, "x").await.unwrap();
    assert_eq!((first.requests(), second.requests()), (1, 1));
    // From now on the second core leads everything.
    first.set_map(2, &[&second.address]);
    second.set_map(2, &[&second.address]);
    let stale = WireError {
        epoch: 2,
        ..WireError::new(ErrorCode::StaleMap)
    };
    first.trouble([Trouble::Refuse(stale)]);
    client.put(&left, "y").await.unwrap();
    client.put(&left, "z").await.unwrap();
    assert_eq!((first.requests(), second.requests()), (2, 3));
}

#[tokio::test]
async fn a_wrong_map_costs_a_detour_and_nothing_else() {
    let first = Fake::start().await;
    let gone = Fake::start().await;
    let address = gone.address.clone();
    drop(gone);
    first.set_map(1, &[&address, "not an address"]);
    let client = Client::connect([&first.address], ClientSettings::default())
        .await
        .unwrap();
    for half in [0, 1] {
        let key = format!("{}k", directory_in_half(half));
        client.put(&key, "x").await.unwrap();
        assert_eq!(first.value(&key).unwrap(), b"x");
        assert_eq!(client.range(&key).collect().await.unwrap().rows.len(), 1);
    }
}

#[tokio::test]
async fn a_read_is_tried_at_another_core_when_its_own_is_gone() {
    let (first, second, client) = two_cores().await;
    let right = format!("{}k", directory_in_half(1));
    client.put(&right, "x").await.unwrap();
    assert_eq!(second.requests(), 1);
    drop(second);
    let read = client.get(&right).await.unwrap();
    assert_eq!(read.row.unwrap().value, b"x");
    assert!(first.requests() >= 1);
}

/// Three replicas of one shard, the first of which leads, and a client that is told of the first.
async fn three_replicas(read_from: ReadFrom) -> ([Fake; 3], Client) {
    let leader = Fake::start().await;
    let followers = [
        Fake::start_beside(&leader).await,
        Fake::start_beside(&leader).await,
    ];
    let mut map = fake::map(1, &[&leader.address]);
    map.shards[0].followers = followers.iter().map(|one| one.address.clone()).collect();
    let [second, third] = followers;
    let replicas = [leader, second, third];
    for replica in &replicas {
        *replica.state.map.lock().unwrap() = map.clone();
    }
    let settings = ClientSettings {
        read_from,
        ..ClientSettings::default()
    };
    let client = Client::connect([&replicas[0].address], settings).await;
    (replicas, client.unwrap())
}

#[tokio::test]
async fn reads_are_spread_when_asked_and_writes_are_not() {
    let (replicas, client) = three_replicas(ReadFrom::Any).await;
    for _ in 0..10 {
        client.put("/d/k", "x").await.unwrap();
    }
    assert_eq!(replicas[0].requests(), 10);
    for _ in 0..150 {
        client.get("/d/k").await.unwrap();
        client.range("/d/").children().collect().await.unwrap();
    }
    // Chance keeps within five standard deviations of a third.
    for (replica, before) in replicas.iter().zip([10, 0, 0]) {
        let reads = replica.requests() - before;
        assert!((60..=140).contains(&reads), "{reads} reads");
    }
    let (replicas, client) = three_replicas(ReadFrom::Leader).await;
    for _ in 0..10 {
        client.get("/d/k").await.unwrap();
    }
    assert_eq!(replicas[0].requests(), 10);
}

#[tokio::test]
async fn reads_go_elsewhere_when_a_node_falls_silent_and_it_is_left_out() {
    for read_from in [ReadFrom::Leader, ReadFrom::Any] {
        let (replicas, client) = three_replicas(read_from).await;
        client.put("/d/k", "x").await.unwrap();
        // Every connection to it, and none of them ends.
        replicas[0].state.is_still.store(true, Ordering::SeqCst);
        let began = Instant::now();
        for _ in 0..30 {
            let read = client.get("/d/k").await.unwrap();
            assert_eq!(read.row.unwrap().value, b"x");
            let rows = client.range("/d/").collect().await.unwrap().rows;
            assert_eq!(rows.len(), 1);
        }
        // Each time that somebody finds out costs twice the patience; nobody else waits.
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_while_there_are_signs_of_life() {
    let (replicas, client) = three_replicas(ReadFrom::Leader).await;
    // A connection of its own answers nothing meanwhile; the one for requests does.
    replicas[0].trouble([Trouble::Slow(Duration::from_millis(900))]);
    let rows = client.range("/d/").children().collect().await.unwrap().rows;
    assert!(rows.is_empty());
    assert_eq!(replicas[1].requests() + replicas[2].requests(), 0);
}

#[tokio::test]
async fn two_that_name_each_other_are_not_asked_in_a_loop() {
    let (first, second, client) = two_cores().await;
    for (one, other) in [(&first, &second), (&second, &first)] {
        let not_leader = WireError {
            hint: other.address.clone(),
            ..WireError::new(ErrorCode::NotLeader)
        };
        one.trouble(std::iter::repeat_n(Trouble::Refuse(not_leader), 1_000_000));
    }
    let deadline = Duration::from_millis(300);
    let error = client.put("/k", "v").deadline(deadline).await.unwrap_err();
    // The time may be over while somebody is being asked.
    let is_late = matches!(error, Error::Deadline { .. } | Error::OutcomeUnknown { .. });
    assert!(is_late, "{error}");
    let asked = first.requests() + second.requests();
    assert!((3..=16).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_seed_that_is_silent_holds_nobody_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().map(|at| (silent, at.to_string()));
    let (_listener, silent) = silent.unwrap();
    let fake = Fake::start().await;
    let began = Instant::now();
    let client = Client::connect([&silent, &fake.address], ClientSettings::default()).await;
    client.unwrap().put("/k", "v").await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{began:?}");
}

#[tokio::test]
async fn a_store_that_keeps_saying_stale_is_not_asked_for_its_map_in_a_loop() {
    let fake = Fake::start().await;
    let client = Client::connect([&fake.address], ClientSettings::default())
        .await
        .unwrap();
    let stale = Trouble::Refuse(WireError::new(ErrorCode::StaleMap));
    fake.trouble(std::iter::repeat_n(stale, 1_000_000));
    let deadline = Duration::from_millis(300);
    let error = client.put("/k", "v").deadline(deadline).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
    let asked = fake.state.map_requests.load(Ordering::SeqCst);
    assert!((2..=8).contains(&asked), "{asked}");
    assert!(fake.requests() < 100, "{}", fake.requests());
}

#[tokio::test]
async fn who_cannot_be_reached_is_named() {
    let gone = Fake::start().await;
    let address = gone.address.clone();
    drop(gone);
    let error = Client::connect([&address], ClientSettings::default())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&address), "{error}");
    let fake = Fake::start().await;
    let settings = ClientSettings {
        cluster_id: Some(78),
        ..ClientSettings::default()
    };
    let error = Client::connect([&fake.address], settings)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another cluster"), "{error}");
}

#[tokio::test]
async fn an_address_that_was_given_to_another_store_is_not_written_to() {
    let fake = Fake::start().await;
    let client = Client::connect([&fake.address], ClientSettings::default())
        .await
        .unwrap();
    client.put("/k", "v").await.unwrap();
    fake.state.cluster.store(78, Ordering::SeqCst);
    fake.trouble([Trouble::CutBefore]);
    let error = client.get("/k").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::WrongCluster), "{error}");
    let error = client.put("/k", "w").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::WrongCluster), "{error}");
    assert_eq!(fake.applied(), 1);
}
