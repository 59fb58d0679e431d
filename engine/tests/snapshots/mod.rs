//! What a core promises about snapshots: the log shrinks, and nothing is lost, whenever it stops and whatever fails.

use std::collections::BTreeMap;

use metastore_engine::{
    Account, CoreConfig, Input, LogHistory, LogIndex, RequestError, ShardId, SnapshotId,
    StartError, Term, Time,
};
use metastore_statemachine::{Command, OutcomeCode};

use crate::harness::{self, Answer, Files, TestCore, TestNode, config};
use crate::{NAMESPACE, subtree};

/// A core with `shards` shards whose snapshots are due after `entries` entries, in small writes.
fn config_with(shards: u32, entries: Option<u64>) -> CoreConfig {
    let mut config = config(0, 1, shards);
    let snapshots = &mut config.settings.snapshots;
    snapshots.entries = entries;
    snapshots.write_bytes = 4096;
    config
}

fn node(shards: u32, entries: Option<u64>) -> TestNode {
    TestNode::with(1, |_| config_with(shards, entries))
}

/// The core that starts from what the files hold; what it does first is done.
fn restarted(shards: u32, files: &Files) -> TestNode {
    restarted_with(config_with(shards, None), files)
}

fn restarted_with(config: CoreConfig, files: &Files) -> TestNode {
    let (now, history) = (Time(5_000_000_000), LogHistory::HasServed);
    let core = harness::start(config, files.clone(), now, history).expect("it starts");
    let mut node = TestNode {
        cores: vec![core],
        now,
        answers: Vec::new(),
        sent: Vec::new(),
        members: Vec::new(),
        holds_slices: false,
        holds_snapshots: false,
    };
    node.settle();
    node
}

/// What says that two states are the same: hash and number of keys of each shard.
fn hashes(core: &TestCore) -> Vec<(ShardId, u64, u64)> {
    let status = core.core.status();
    let replicas = status.replicas.iter();
    replicas
        .map(|replica| (replica.shard, replica.state_hash, replica.keys))
        .collect()
}

fn snapshots_taken(node: &TestNode) -> u64 {
    node.cores[0].core.status().counters.snapshots
}

/// Lets ticks pass until a snapshot was taken and everything is at rest.
fn await_snapshot(node: &mut TestNode) {
    let before = snapshots_taken(node);
    for _ in 0..10 {
        node.pass_ms(50);
        node.settle();
        if snapshots_taken(node) > before {
            // The mark that covers its record, and then the older file goes.
            node.pass_ms(50);
            node.settle();
            return;
        }
    }
    panic!("no snapshot is taken: {:?}", node.cores[0].core.status());
}

fn files(node: &TestNode) -> &Files {
    &node.cores[0].files
}

fn put_some(node: &mut TestNode, round: u32, count: u32) {
    for number in 0..count {
        let answer = node.put(&format!("/d/{}", number % 7), &format!("{round}-{number}"));
        assert!(
            matches!(answer, Answer::Outcome(OutcomeCode::Done, ..)),
            "{answer:?}"
        );
    }
}

/// Letters that do not compress well.
fn noise(seed: u32, length: usize) -> String {
    let mut state = u64::from(seed) + 1;
    let mut letter = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'A' + (state >> 59) as u8)
    };
    (0..length).map(|_| letter()).collect()
}

fn put_noise(node: &mut TestNode, count: u32) {
    for number in 0..count {
        node.put(&format!("/noise/{number}"), &noise(number, 3_000));
    }
}

#[test]
fn a_core_starts_from_its_newest_snapshot_and_the_log_behind_it() {
    let mut node = node(2, Some(5));
    for round in 0..4 {
        put_some(&mut node, round, 10);
        await_snapshot(&mut node);
        put_some(&mut node, round, 3);
        let expected = hashes(&node.cores[0]);
        let mut again = restarted(2, files(&node));
        assert_eq!(hashes(&again.cores[0]), expected, "round {round}");
        // It goes on from there.
        assert!(matches!(
            again.put("/d/0", "more"),
            Answer::Outcome(OutcomeCode::Done, ..)
        ));
    }
    // Of each shard the newest, and nothing half done.
    let named = &files(&node).snapshots.named;
    let mut shards: Vec<ShardId> = named.keys().map(|snapshot| snapshot.shard).collect();
    shards.dedup();
    assert_eq!(shards.len(), named.len(), "{named:?}");
    assert!(files(&node).snapshots.unnamed.is_empty());
}

#[test]
fn nothing_new_makes_no_snapshot() {
    let mut node = node(1, Some(1));
    put_some(&mut node, 0, 1);
    await_snapshot(&mut node);
    let taken = snapshots_taken(&node);
    for _ in 0..20 {
        node.pass_ms(60_000);
        node.settle();
    }
    assert_eq!(snapshots_taken(&node), taken);
}

#[test]
fn a_log_that_nears_its_budget_makes_room_by_itself() {
    // No snapshot is due by number or length: only the budget asks for any.
    const SEGMENT_BYTES: u64 = 256 << 10;
    let small = || {
        let mut config = config_with(2, None);
        config.log.segment_bytes = SEGMENT_BYTES;
        config.log.budget_bytes = 8 * SEGMENT_BYTES;
        config
    };
    let mut node = TestNode::with(1, |_| small());
    let value = noise(1, 12 << 10);
    let mut done = 0;
    let mut files_max = 0;
    while node.cores[0].core.status().log.record_bytes < 20 * 8 * SEGMENT_BYTES {
        for request in 0..20_u64 {
            let key = format!("/d/{request}");
            let put = Command::put(NAMESPACE, key.as_bytes(), value.as_bytes());
            node.command(0, request, &put);
        }
        node.settle();
        for (_, answer) in node.take_answers() {
            if matches!(answer, Answer::Outcome(OutcomeCode::Done, ..)) {
                done += 1;
                continue;
            }
            let is_refused = matches!(
                answer,
                Answer::Error(RequestError::LogBudget { .. } | RequestError::Overloaded { .. })
            );
            assert!(is_refused, "{answer:?}");
        }
        node.pass_ms(1);
        node.settle();
        files_max = files_max.max(files(&node).segments.len());
    }
    assert!(done > 2_500, "{done} puts of 12 KiB");
    assert!(files_max <= 8, "{files_max} segments");
    assert!(snapshots_taken(&node) >= 10);
    let expected = hashes(&node.cores[0]);
    let again = restarted_with(small(), files(&node));
    assert_eq!(hashes(&again.cores[0]), expected);
}

/// Two directories in different shards of two.
fn directories(node: &mut TestNode) -> [String; 2] {
    let mut found: BTreeMap<u64, String> = BTreeMap::new();
    for number in 0..100 {
        let directory = format!("/{number}/");
        let before: Vec<_> = hashes(&node.cores[0]);
        node.put(&format!("{directory}x"), "1");
        let after = hashes(&node.cores[0]);
        let changed = (0..2).find(|&shard| before[shard] != after[shard]);
        found.insert(changed.expect("it went somewhere") as u64, directory);
        if found.len() == 2 {
            return [found[&0].clone(), found[&1].clone()];
        }
    }
    panic!("a hundred directories are in one shard");
}

#[test]
fn an_idle_shard_writes_its_few_entries_again_and_does_not_hold_the_log() {
    let mut node = node(2, None);
    let [idle, busy] = directories(&mut node);
    let value = "v".repeat(12 << 10);
    node.put(&format!("{idle}kept"), "for ever");
    for number in 0..3_000 {
        node.put(&format!("{busy}{}", number % 10), &value);
    }
    let status = node.cores[0].core.status();
    assert!(status.counters.rewrites >= 2, "{:?}", status.counters);
    assert!(files(&node).segments.len() <= 8);
    let named = &files(&node).snapshots.named;
    assert!(
        named.keys().all(|snapshot| snapshot.shard == ShardId(1)),
        "the idle shard needs no snapshot: {:?}",
        named.keys()
    );
    let expected = hashes(&node.cores[0]);
    let mut again = restarted(2, files(&node));
    assert_eq!(hashes(&again.cores[0]), expected);
    again.request(0, 1, subtree(idle.as_bytes()));
    again.settle();
    let answers = again.take_answers();
    let [(_, Answer::Chunk(rows, _))] = &answers[..] else {
        panic!("{answers:?}");
    };
    let kept = (format!("{idle}kept").into_bytes(), b"for ever".to_vec());
    assert!(rows.contains(&kept), "{rows:?}");
}

/// A crash after any single step of taking snapshots: each state of the files is a start of its own, and none lacks
/// anything that was acknowledged or holds what was not.
#[test]
fn a_start_from_the_files_of_any_moment_finds_everything() {
    let mut node = node(1, Some(4));
    let mut starts = 0;
    let mut acknowledged = 0_i64;
    for _ in 0..60 {
        node.command(
            0,
            1,
            &Command::add_i64(NAMESPACE, b"/count", &1_i64.to_le_bytes()),
        );
        node.pass_ms(50);
        loop {
            node.turn();
            for (_, answer) in node.take_answers() {
                if let Answer::Outcome(OutcomeCode::Done, _, Some(number)) = answer {
                    acknowledged = number;
                }
            }
            let mut again = restarted(1, files(&node));
            again.command(
                0,
                1,
                &Command::add_i64(NAMESPACE, b"/count", &0_i64.to_le_bytes()),
            );
            again.settle();
            let Answer::Outcome(OutcomeCode::Done, _, Some(found)) = again.take_answers()[0].1
            else {
                panic!("a counter is answered");
            };
            assert!(
                (acknowledged..=acknowledged + 1).contains(&found),
                "{acknowledged} acknowledged, {found} found"
            );
            starts += 1;
            let wrote = node.complete_write(0);
            if !wrote && !node.complete_snapshot_work(0) {
                break;
            }
        }
    }
    assert!(snapshots_taken(&node) >= 5 && starts > 150, "{starts}");
}

/// Whatever step of a snapshot fails, the log and the snapshot before it stand, and it is tried again later.
#[test]
fn a_snapshot_that_fails_is_given_up_and_tried_again_later() {
    for failing in 0..10 {
        let mut node = node(1, Some(4));
        put_some(&mut node, 0, 8);
        await_snapshot(&mut node);
        let before = files(&node).snapshots.named.clone();
        // More than a write holds, so that some come before the last.
        put_noise(&mut node, 60);
        node.pass_ms(50);
        node.turn();
        let taken = snapshots_taken(&node);
        for _ in 0..failing {
            node.complete_snapshot_work(0);
            node.turn();
        }
        if !node.has_snapshot_work(0) {
            // All of its steps had their turn.
            assert!(failing >= 3, "{failing} steps");
            return;
        }
        assert_eq!(snapshots_taken(&node), taken);
        node.fail_snapshot_work(0);
        node.settle();
        let status = node.cores[0].core.status();
        assert_eq!(status.counters.snapshots_failed, 1, "{failing}");
        assert_eq!(files(&node).snapshots.named, before, "{failing}");
        assert!(files(&node).snapshots.unnamed.is_empty(), "{failing}");
        assert_eq!(
            hashes(&restarted(1, files(&node)).cores[0]),
            hashes(&node.cores[0])
        );
        // Not at once, and then by itself.
        node.pass_ms(500);
        node.settle();
        assert_eq!(files(&node).snapshots.named, before, "{failing}");
        node.pass_ms(600);
        await_snapshot(&mut node);
        assert_ne!(files(&node).snapshots.named, before, "{failing}");
        assert_eq!(
            hashes(&restarted(1, files(&node)).cores[0]),
            hashes(&node.cores[0])
        );
    }
    panic!("a snapshot has few steps");
}

#[test]
fn an_older_file_stays_until_no_damage_to_one_record_can_want_it_back() {
    let mut node = node(1, Some(4));
    put_some(&mut node, 0, 8);
    await_snapshot(&mut node);
    let older: Vec<SnapshotId> = files(&node).snapshots.named.keys().copied().collect();
    assert_eq!(older.len(), 1);
    put_some(&mut node, 1, 8);
    let taken = snapshots_taken(&node);
    node.pass_ms(50);
    while snapshots_taken(&node) == taken {
        node.turn();
        let done = node.complete_snapshot_work(0) || node.complete_write(0);
        node.turn();
        assert!(done || snapshots_taken(&node) > taken);
    }
    assert!(files(&node).snapshots.named.contains_key(&older[0]));
    assert!(!node.has_snapshot_work(0), "it is not removed yet");
    node.pass_ms(50);
    node.settle();
    assert!(!files(&node).snapshots.named.contains_key(&older[0]));
}

#[test]
fn a_log_whose_snapshot_is_missing_is_refused() {
    let mut node = node(1, Some(4));
    put_some(&mut node, 0, 8);
    await_snapshot(&mut node);
    let mut files = files(&node).clone();
    files.snapshots.keep_only(&[]);
    let started = harness::start(config_with(1, None), files, Time(9), LogHistory::HasServed);
    let error = started.map(|_| ()).expect_err("there is no state");
    assert!(matches!(error, StartError::Replay { .. }), "{error}");
    assert!(error.to_string().contains("was not loaded"), "{error}");
}

#[test]
fn a_stop_does_not_wait_for_a_snapshot_and_leaves_nothing_half_done() {
    let mut node = node(1, Some(4));
    put_noise(&mut node, 10);
    node.pass_ms(50);
    node.turn();
    assert!(node.has_snapshot_work(0));
    node.step(0, Input::Drain);
    node.settle();
    node.pass_ms(50);
    node.settle();
    assert!(node.cores[0].core.is_drained());
    assert!(files(&node).snapshots.unnamed.is_empty());
    assert!(files(&node).snapshots.named.is_empty());
}

#[test]
fn a_snapshot_names_term_and_index_of_what_it_covers() {
    let mut node = node(1, Some(4));
    put_some(&mut node, 0, 8);
    let applied = node.cores[0].core.status().replicas[0].applied;
    await_snapshot(&mut node);
    let named: Vec<SnapshotId> = files(&node).snapshots.named.keys().copied().collect();
    let expected = SnapshotId {
        shard: ShardId(0),
        term: Term(2),
        index: applied,
    };
    assert_eq!(named, [expected]);
    assert!(applied > LogIndex(8));
}

#[test]
fn what_a_snapshot_takes_of_memory_is_in_its_account_and_given_back() {
    let mut node = node(1, Some(4));
    node.holds_snapshots = true;
    let account = |node: &TestNode| node.cores[0].core.memory().get(Account::Snapshot);
    assert_eq!(account(&node), 0);
    put_some(&mut node, 0, 40);
    node.pass_ms(50);
    node.settle();
    assert!(node.has_snapshot_work(0));
    let writing = account(&node);
    assert!((4096..1 << 20).contains(&writing), "{writing}");
    node.holds_snapshots = false;
    node.settle();
    // Buffers are kept for the next one.
    assert!(account(&node) <= writing);
}
