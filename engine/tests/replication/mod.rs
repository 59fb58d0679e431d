//! Groups of several voters: what their replicas say to each other, and when.

pub(crate) mod cluster;
mod script;

use std::path::Path;

use cluster::TestCluster;

use crate::done;
use crate::harness::Answer;

/// Every script leads to what it says.
#[test]
fn scripts_lead_to_what_they_say() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts"));
    let mut scripts: Vec<_> = std::fs::read_dir(folder)
        .expect("the scripts are in the repository")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    for path in scripts {
        script::run(&path);
    }
}

#[test]
fn a_put_is_on_every_node_once_it_is_answered_and_all_is_quiet() {
    let mut cluster = TestCluster::new(3, 1);
    cluster.elect(1);
    cluster.put(1, 1, "/a", "1");
    cluster.settle();
    assert_eq!(cluster.take_answers(1), [(1, done(1))]);
    let states: Vec<_> = (1..=3)
        .map(|node| {
            let status = cluster.status(node);
            (status.applied, status.state_hash, status.keys)
        })
        .collect();
    assert_eq!(states, vec![states[0]; 3]);
    assert_eq!(states[0].2, 1);
}

#[test]
fn a_request_on_a_follower_says_where_the_leader_lives() {
    let mut cluster = TestCluster::new(3, 1);
    cluster.elect(2);
    cluster.put(1, 1, "/a", "1");
    let answers = cluster.take_answers(1);
    let [(1, Answer::Error(metastore_engine::RequestError::NotLeader { leader, .. }))] =
        &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert_eq!(leader.map(|leader| leader.node.0), Some(2));
}
