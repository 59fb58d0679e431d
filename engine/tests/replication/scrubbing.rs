//! Cores read their logs again, and what has decayed is covered by snapshots before it is needed.

use super::cluster::TestCluster;

/// A cluster whose logs have several segments.
fn written() -> TestCluster {
    let mut cluster = TestCluster::with(3, 1, |config| {
        config.settings.scrub_bytes_per_second = Some(1 << 30);
        config.settings.batch.compress_bytes_min = None;
        config.log.budget_bytes = 64 << 20;
    });
    cluster.elect(1);
    for request in 0..150 {
        let key = format!("/{request}");
        cluster.put(1, request, &key, &"v".repeat(12_000));
        cluster.settle();
    }
    cluster
}

fn pass_time(cluster: &mut TestCluster, ticks: u32) {
    for _ in 0..ticks {
        for node in cluster.numbers() {
            cluster.tick(node);
        }
        cluster.settle();
    }
}

#[test]
fn complete_segments_are_read_again_and_found_to_be_what_was_written() {
    let mut cluster = written();
    assert!(cluster.node(2).cores[0].core.status().log.segments_live >= 2);
    pass_time(&mut cluster, 40);
    let counters = cluster.counters(2);
    assert!(counters.segments_scrubbed >= 2, "{counters:?}");
    assert_eq!(counters.scrub_findings, 0);
    assert_eq!(counters.snapshots, 0);
}

/// A bit flips in a segment behind which others follow: memory still holds what it damages, so a snapshot covers it, and
/// the segment is given up. A start that would have been refused finds nothing wrong.
#[test]
fn what_has_decayed_is_covered_by_a_snapshot() {
    let mut cluster = written();
    let files = &mut cluster.node(2).cores[0].files;
    let (_, oldest) = files
        .segments
        .first_key_value()
        .expect("there are segments");
    let at = oldest
        .iter()
        .position(|&byte| byte == b'v')
        .expect("a value");
    let number = *files
        .segments
        .first_key_value()
        .expect("there are segments")
        .0;
    files.segments.get_mut(&number).expect("it is there")[at] ^= 1;
    pass_time(&mut cluster, 60);
    let counters = cluster.counters(2);
    assert!(counters.scrub_findings >= 1, "{counters:?}");
    assert!(counters.snapshots >= 1, "{counters:?}");
    assert_eq!(cluster.counters(1).snapshots, 0, "nothing is wrong there");
    let before = cluster.status(2);
    cluster.crash(2);
    cluster.start(2);
    pass_time(&mut cluster, 3);
    let after = cluster.status(2);
    assert_eq!(
        (after.quarantine, after.state_hash),
        (None, before.state_hash)
    );
}
