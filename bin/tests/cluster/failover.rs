//! Nodes that end under load, unasked and asked.

use std::time::Duration;

use crate::load::Writers;
use crate::nodes::Nodes;

/// How long writes may stand still when a leader is killed, on a machine that is busy with other tests.
const GAP_MAX: Duration = Duration::from_secs(5);

#[tokio::test]
async fn killed_leaders_cost_a_pause_and_nothing_that_was_acknowledged() {
    let mut nodes = Nodes::start("cluster-kill", 1, 3, &[]);
    let client = nodes.client().await;
    let writers = Writers::start(&client);
    for shard in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let leader = nodes.await_some(|nodes| nodes.leader(shard));
        nodes.kill(leader);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let next = nodes.await_some(|nodes| nodes.leader(shard));
        assert_ne!(next, leader);
        nodes.launch(leader);
        nodes.await_leaders();
    }
    let written = writers.stop().await;
    assert!(written.failed.is_empty(), "{:?}", written.failed);
    assert!(written.longest_gap < GAP_MAX, "{:?}", written.longest_gap);
    written.check(&nodes.client().await).await;
    nodes.await_agreement();
}

#[tokio::test]
async fn nodes_are_restarted_one_after_the_other_and_no_request_fails() {
    let mut nodes = Nodes::start("cluster-rolling", 1, 3, &[]);
    let client = nodes.client().await;
    let writers = Writers::start(&client);
    for node in 1..=3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        nodes.stop(node);
        tokio::time::sleep(Duration::from_millis(500)).await;
        nodes.launch(node);
        nodes.await_leaders();
        nodes.await_some(|nodes| nodes.replicas(node));
    }
    let written = writers.stop().await;
    assert!(written.failed.is_empty(), "{:?}", written.failed);
    assert!(written.unknown.is_empty(), "{:?}", written.unknown);
    assert!(written.longest_gap < GAP_MAX, "{:?}", written.longest_gap);
    written.check(&nodes.client().await).await;
    nodes.await_agreement();
}
