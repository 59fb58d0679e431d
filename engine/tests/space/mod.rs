//! What a core takes when there is little room.

use metastore_engine::{DiskSpace, Input, LogHistory, RequestError};
use metastore_statemachine::{Command, OutcomeCode};

use super::harness::{Answer, TestNode, config, start};
use super::{NAMESPACE, get, pair};

fn answers_to(node: &mut TestNode, command: &Command<'_>) -> Vec<(u64, Answer)> {
    node.command(0, 7, command);
    node.settle();
    node.take_answers()
}

fn is_done(answers: &[(u64, Answer)]) -> bool {
    matches!(answers, [(7, Answer::Outcome(OutcomeCode::Done, _, _))])
}

const LOW: DiskSpace = DiskSpace::Low {
    free_bytes: 5,
    low_bytes: 10,
};

#[test]
fn a_low_disk_takes_deletes_and_answers_reads_and_goes_on_when_there_is_room() {
    let mut node = TestNode::new(1, 1);
    node.put("/a", "1");
    node.put("/b", "2");
    node.step(0, Input::DiskSpace(LOW));
    assert!(!node.cores[0].core.status().accepts_writes);
    let put = Command::put(NAMESPACE, b"/c", b"3");
    assert_eq!(
        answers_to(&mut node, &put),
        [(
            7,
            Answer::Error(RequestError::DiskLow {
                free_bytes: 5,
                low_bytes: 10
            })
        )]
    );
    node.request(0, 1, get(b"/a"));
    node.turn();
    assert_eq!(
        node.take_answers(),
        [(1, Answer::Rows(vec![pair("/a", "1")]))]
    );
    let delete = Command::delete(NAMESPACE, b"/a");
    assert!(is_done(&answers_to(&mut node, &delete)));
    node.step(0, Input::DiskSpace(DiskSpace::Enough));
    assert!(is_done(&answers_to(&mut node, &put)));
}

/// A batch is independent commands: those that give space back pass, each of the others is refused.
#[test]
fn in_a_batch_each_command_is_judged_alone() {
    let mut node = TestNode::new(1, 1);
    node.put("/a", "1");
    node.step(0, Input::DiskSpace(LOW));
    let mut commands = Vec::new();
    Command::delete(NAMESPACE, b"/a").encode_into(&mut commands);
    Command::put(NAMESPACE, b"/b", b"2").encode_into(&mut commands);
    node.request(
        0,
        3,
        metastore_engine::Request::Batch {
            count: 2,
            commands: &commands,
        },
    );
    node.settle();
    let answers = node.take_answers();
    let text = format!("{answers:?}");
    assert!(text.contains("Done") && text.contains("DiskLow"), "{text}");
}

#[test]
fn a_log_at_its_budget_still_takes_deletes() {
    let mut node = TestNode::new(1, 1);
    // The snapshot that would make room does not come forward.
    node.holds_snapshots = true;
    let value = vec![0xA5; 15 << 10];
    let mut keys = 0_u32;
    loop {
        let key = format!("/{keys}");
        let answers = answers_to(&mut node, &Command::put(NAMESPACE, key.as_bytes(), &value));
        if let [(7, Answer::Error(error))] = &answers[..] {
            assert!(
                matches!(
                    error,
                    RequestError::LogBudget { .. } | RequestError::Overloaded { .. }
                ),
                "{error}"
            );
            break;
        }
        keys += 1;
        assert!(keys < 5_000, "the log has a budget");
    }
    assert!(is_done(&answers_to(
        &mut node,
        &Command::delete(NAMESPACE, b"/0")
    )));
    // What was taken is there after a restart.
    let files = node.cores[0].files.clone();
    node.cores[0] =
        start(config(0, 1, 1), files, node.now, LogHistory::HasServed).expect("it recovers");
    node.settle();
    node.request(0, 1, get(b"/0"));
    node.turn();
    assert_eq!(node.take_answers(), [(1, Answer::Rows(Vec::new()))]);
}

/// The log of a store whose disk runs full may be what fills it: its segments are given back, to the disk and not to be
/// used again.
#[test]
fn a_log_on_a_low_disk_is_released_and_its_files_are_removed() {
    let mut node = TestNode::new(1, 1);
    let value = vec![0xA5; 15 << 10];
    for number in 0..1_100 {
        let key = format!("/{}", number % 3);
        assert!(is_done(&answers_to(
            &mut node,
            &Command::put(NAMESPACE, key.as_bytes(), &value)
        )));
    }
    let log_before = node.cores[0].core.status().log;
    assert!(log_before.segments_live >= 4, "{log_before:?}");
    assert_eq!(node.cores[0].core.status().counters.snapshots, 0);
    node.step(0, Input::DiskSpace(LOW));
    for _ in 0..4 {
        node.pass_ms(50);
        node.settle();
        node.step(0, Input::DiskSpace(LOW));
    }
    node.settle();
    let status = node.cores[0].core.status();
    assert_eq!(status.counters.snapshots, 1, "one is enough");
    assert!(status.log.segments_live <= 2, "{:?}", status.log);
    assert!(status.log.files <= 3, "{:?}", status.log);
}
