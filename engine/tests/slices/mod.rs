//! What a core promises about background work: it comes in slices, and only when the driver says so.

use metastore_engine::{ConnectionId, Input, Request, RequestId, SliceKind};
use metastore_statemachine::Command;

use crate::harness::{Answer, TestNode, config};
use crate::{NAMESPACE, pair, subtree};

/// A node of one core and as many shards whose slices read `rows` rows each.
fn node(shards: u32, rows: u64) -> TestNode {
    TestNode::with(1, |core| {
        let mut config = config(core, 1, shards);
        config.settings.slice_rows_max = rows;
        config
    })
}

fn put_many(node: &mut TestNode, count: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
    let key = |file| format!("/d/{file:03}");
    for file in 0..count {
        node.command(0, 0, &Command::put(NAMESPACE, key(file).as_bytes(), b"v"));
    }
    node.settle();
    node.take_answers();
    (0..count).map(|file| pair(&key(file), "v")).collect()
}

#[test]
fn a_range_is_read_in_slices_and_writes_between_them_are_not_seen() {
    let mut node = node(1, 10);
    let expected = put_many(&mut node, 35);
    node.holds_slices = true;
    node.request(0, 1, subtree(b"/d/"));
    node.settle();
    assert!(node.cores[0].core.has_slice());
    assert!(node.take_answers().is_empty(), "a turn reads no range");
    for slice in 0..4 {
        assert!(node.take_answers().is_empty(), "slice {slice} has no rest");
        let now = node.now;
        assert_eq!(node.cores[0].run_slice(now), Some(SliceKind::Range));
        node.command(0, 2, &Command::put(NAMESPACE, b"/d/034", b"later"));
        node.command(0, 3, &Command::delete(NAMESPACE, b"/d/033"));
        node.settle();
        node.answers
            .retain(|(_, request, _)| *request == RequestId(1));
    }
    let now = node.now;
    assert_eq!(node.cores[0].run_slice(now), None);
    assert_eq!(node.take_answers(), [(1, Answer::Chunk(expected, true))]);
    let status = node.cores[0].core.status();
    let range = status.slices[SliceKind::Range as usize];
    assert_eq!((range.name, range.count), ("slice range", 4));
}

#[test]
fn ranges_take_turns_slice_by_slice() {
    let mut node = node(1, 10);
    put_many(&mut node, 40);
    node.holds_slices = true;
    node.request(0, 1, subtree(b"/d/"));
    node.settle();
    let now = node.now;
    node.cores[0].run_slice(now);
    // It has a fourth of the keys to read, and does not wait until the first has read all of them.
    node.request(0, 2, subtree(b"/d/00"));
    node.settle();
    for _ in 0..2 {
        node.cores[0].run_slice(now);
        node.settle();
    }
    let answered = node.take_answers();
    assert!(
        matches!(answered[..], [(2, Answer::Chunk(_, true))]),
        "{answered:?}"
    );
}

#[test]
fn replicas_take_turns() {
    let mut node = node(2, 1);
    for directory in 0..16 {
        for file in 0..4 {
            let key = format!("/d{directory}/f{file}");
            node.command(0, 0, &Command::put(NAMESPACE, key.as_bytes(), b"v"));
        }
    }
    node.settle();
    node.take_answers();
    node.request(0, 1, subtree(b"/"));
    node.settle();
    let answers = node.take_answers();
    assert!(
        matches!(&answers[..], [(1, Answer::Chunk(rows, true))] if rows.len() == 64),
        "{answers:?}"
    );
}

#[test]
fn a_range_that_was_closed_leaves_no_slice_behind() {
    let mut node = node(1, 10);
    put_many(&mut node, 40);
    node.holds_slices = true;
    for request in 1..4 {
        node.request(0, request, subtree(b"/d/"));
    }
    node.settle();
    node.request(0, 9, Request::Cancel(RequestId(2)));
    node.settle();
    let connection = ConnectionId(1);
    node.step(0, Input::ConnectionClosed { connection });
    node.settle();
    assert!(!node.cores[0].core.has_slice());
    assert_eq!(node.cores[0].core.status().waiting.range_parts, 0);
}

#[test]
fn what_a_pin_held_is_freed_in_slices_when_it_is_gone() {
    let mut node = TestNode::with(1, |core| {
        let mut config = config(core, 1, 1);
        config.parameters.history_revisions_max = 1;
        config.settings.slice_reclaims_max = 10;
        config
    });
    put_many(&mut node, 100);
    node.holds_slices = true;
    node.request(0, 1, subtree(b"/d/"));
    node.settle();
    put_many(&mut node, 100);
    let held = |node: &TestNode| node.cores[0].core.status().replicas[0].history_bytes;
    let held_by_pin = held(&node);
    let connection = ConnectionId(1);
    node.step(0, Input::ConnectionClosed { connection });
    node.settle();
    assert_eq!(held(&node), held_by_pin, "a turn frees nothing by itself");
    let now = node.now;
    let mut slices = 0;
    while let Some(kind) = node.cores[0].run_slice(now) {
        assert_eq!(kind, SliceKind::Reclaim);
        slices += 1;
    }
    assert!(slices >= 9, "{slices} slices for 100 versions");
    assert!(held(&node) < held_by_pin / 20);
}
