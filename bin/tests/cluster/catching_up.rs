//! A node that was away.

use std::time::{Duration, Instant};

use metastore_net::ErrorCode;
use metastore_net::async_client::Error;

use crate::nodes::{Nodes, PATIENCE};

const KEYS: u32 = 48;

async fn fill(nodes: &Nodes, round: u32, value_bytes: usize) {
    let client = nodes.client_of(&[1, 2]).await;
    for key in 0..KEYS {
        // What cannot be compressed takes its room in the log.
        let mut state = u64::from(round) << 32 | u64::from(key) | 1;
        let value: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(value_bytes)
        .collect();
        let key = format!("/d{key}/large");
        let began = Instant::now();
        // While the log is full of what a snapshot has still to release, nothing is written.
        while let Err(error) = client.put(&key, &value).await {
            let is_full =
                matches!(&error, Error::Server(error) if error.code == ErrorCode::ReadOnly);
            assert!(is_full && began.elapsed() < PATIENCE, "{key}: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_follower_that_was_away_is_sent_the_log_that_it_lacks() {
    let mut nodes = Nodes::start("cluster-log", 1, 3, &[]);
    fill(&nodes, 0, 100).await;
    nodes.stop(3);
    nodes.await_leaders();
    // More than leaders keep in memory, and less than makes them give up the log.
    fill(&nodes, 1, 256 << 10).await;
    nodes.launch(3);
    nodes.await_some(|nodes| nodes.replicas(3));
    nodes.await_agreement();
    assert_eq!(nodes.counter(3, "snapshots_fetched"), 0);
}

#[tokio::test]
async fn a_follower_that_was_away_for_longer_is_sent_a_snapshot() {
    let small = ["--wal-budget", "64MiB"];
    let mut nodes = Nodes::start("cluster-snapshot", 1, 3, &small);
    fill(&nodes, 0, 100).await;
    nodes.stop(3);
    nodes.await_leaders();
    for round in 1..8 {
        fill(&nodes, round, 512 << 10).await;
    }
    nodes.launch(3);
    nodes.await_some(|nodes| nodes.replicas(3));
    nodes.await_agreement();
    assert!(nodes.counter(3, "snapshots_fetched") > 0);
    // It goes on like any other.
    fill(&nodes, 9, 1_000).await;
    nodes.await_agreement();
}
