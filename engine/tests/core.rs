//! What a core promises to those who drive it.

mod counts;
mod harness;
mod limits;
mod replication;
mod slices;
mod snapshots;
mod space;
mod structured;

use harness::{Answer, TestNode, config, start};
use metastore_engine::{
    ConnectionId, Happened, Input, LogHistory, Request, RequestError, RequestId, StartError,
    WaitingWork,
};
use metastore_statemachine::{
    Command, Direction, GetQuery, NamespaceId, OutcomeCode, Projection, RangeQuery, Revision,
    Scope, ShardList,
};

const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;

pub(crate) fn done(revision: u64) -> Answer {
    Answer::Outcome(OutcomeCode::Done, Revision(revision), None)
}

fn get(key: &[u8]) -> Request<'_> {
    Request::Get(GetQuery {
        namespace: NAMESPACE,
        key,
        at: None,
    })
}

fn get_three(keys: &[u8]) -> Request<'_> {
    Request::GetMany {
        namespace: NAMESPACE,
        at: None,
        count: 3,
        keys,
    }
}

fn subtree(prefix: &[u8]) -> Request<'_> {
    let query = RangeQuery {
        namespace: NAMESPACE,
        prefix,
        start: &[],
        end: &[],
        scope: Scope::Subtree,
        delimiter: None,
        direction: Direction::Forward,
        projection: Projection::KeysAndValues,
        at: None,
        limit: 0,
    };
    Request::Range {
        query,
        shards: ShardList::ALL,
        chunk_bytes: 4096,
    }
}

fn pair(key: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (key.into(), value.into())
}

#[test]
fn a_put_is_answered_only_after_its_record_is_durable() {
    let mut node = TestNode::new(1, 1);
    node.command(0, 1, &Command::put(NAMESPACE, b"/a", b"1"));
    node.turn();
    assert_eq!(node.writes_in_flight(0), 1);
    assert!(node.take_answers().is_empty());
    node.complete_write(0);
    node.turn();
    assert_eq!(node.take_answers(), [(1, done(1))]);
}

#[test]
fn commands_that_arrive_during_a_write_share_the_next_one() {
    let mut node = TestNode::new(1, 1);
    node.command(0, 0, &Command::put(NAMESPACE, b"/a", b"0"));
    node.turn();
    let writes_before = node.cores[0].core.status().log.durable_writes;
    for request in 1..=100 {
        node.command(0, request, &Command::put(NAMESPACE, b"/a", b"1"));
        node.turn();
        assert_eq!(node.writes_in_flight(0), 1, "one write at a time");
    }
    node.settle();
    assert_eq!(node.take_answers().len(), 101);
    assert_eq!(
        node.cores[0].core.status().log.durable_writes - writes_before,
        2
    );
}

#[test]
fn commands_of_several_shards_that_arrive_during_a_write_share_the_next_one() {
    let mut node = TestNode::new(1, 2);
    let status = |node: &TestNode| node.cores[0].core.status();
    let entries = |node: &TestNode| -> Vec<u64> {
        let replicas = status(node).replicas;
        replicas.iter().map(|replica| replica.last.0).collect()
    };
    // "/a/" lies in the second half of the slots, "/a/b/" in the first.
    let (second, first) = (b"/a/1", b"/a/b/1");
    let writes_before = status(&node).log.durable_writes;
    let entries_before = entries(&node);
    node.command(0, 0, &Command::put(NAMESPACE, second, b"0"));
    node.turn();
    for request in 1..=100 {
        let key: &[u8] = if request % 2 == 0 { first } else { second };
        node.command(0, request, &Command::put(NAMESPACE, key, b"1"));
        node.turn();
        assert_eq!(node.writes_in_flight(0), 1, "one write at a time");
    }
    node.settle();
    assert_eq!(node.take_answers().len(), 101);
    assert_eq!(status(&node).log.durable_writes - writes_before, 2);
    let grown: Vec<u64> = entries(&node)
        .iter()
        .zip(entries_before)
        .map(|(after, before)| after - before)
        .collect();
    assert_eq!(grown, [1, 2], "one entry for each write");
}

#[test]
fn a_read_sees_every_write_that_was_answered_and_none_that_is_not_durable() {
    let mut node = TestNode::new(1, 1);
    assert_eq!(node.put("/a", "old"), done(1));
    node.command(0, 1, &Command::put(NAMESPACE, b"/a", b"new"));
    node.request(0, 2, get(b"/a"));
    node.turn();
    assert_eq!(
        node.take_answers(),
        [(2, Answer::Rows(vec![pair("/a", "old")]))]
    );
    node.settle();
    node.request(0, 3, get(b"/a"));
    node.turn();
    let answers = node.take_answers();
    assert_eq!(
        answers,
        [(1, done(2)), (3, Answer::Rows(vec![pair("/a", "new")]))]
    );
}

#[test]
fn a_command_for_another_core_takes_one_hop_and_comes_back() {
    let mut node = TestNode::new(2, 2);
    for request in 0..50 {
        let key = format!("/directory-{request}/file");
        node.command(0, request, &Command::put(NAMESPACE, key.as_bytes(), b"v"));
    }
    node.settle();
    let answers = node.take_answers();
    assert_eq!(answers.len(), 50);
    assert!(
        answers
            .iter()
            .all(|(_, answer)| matches!(answer, Answer::Outcome(OutcomeCode::Done, ..)))
    );
    let forwarded = node.cores[0].core.status().counters.forwarded;
    assert!(
        (1..50).contains(&forwarded),
        "{forwarded} of 50 were for the other core"
    );
    let keys = |core: usize| node.cores[core].core.status().replicas[0].keys;
    assert_eq!(keys(1), forwarded);
    assert_eq!(keys(0), 50 - forwarded);
}

#[test]
fn the_answers_to_a_batch_come_together_in_its_order() {
    let mut node = TestNode::new(2, 4);
    node.put("/x/taken", "1");
    let mut commands = Vec::new();
    for index in 0..20 {
        let key = format!("/d{index}/f");
        Command::put(NAMESPACE, key.as_bytes(), b"v").encode_into(&mut commands);
    }
    Command::put(NAMESPACE, b"/x/taken", b"2")
        .with_if_absent()
        .encode_into(&mut commands);
    Command::put(NamespaceId(99), b"/x", b"2").encode_into(&mut commands);
    node.request(
        0,
        7,
        Request::Batch {
            count: 22,
            commands: &commands,
        },
    );
    node.settle();
    let answers = node.take_answers();
    let [(7, Answer::Batch(items))] = &answers[..] else {
        panic!("one answer to the batch: {answers:?}");
    };
    assert_eq!(items.len(), 22);
    assert!(
        items[..20]
            .iter()
            .all(|item| matches!(item, Answer::Outcome(OutcomeCode::Done, ..)))
    );
    assert_eq!(
        items[20],
        Answer::Outcome(OutcomeCode::Conflict, Revision(1), None)
    );
    assert_eq!(
        items[21],
        Answer::Error(RequestError::UnknownNamespace(NamespaceId(99)))
    );
}

#[test]
fn an_empty_batch_is_answered() {
    let mut node = TestNode::new(1, 1);
    node.request(
        0,
        1,
        Request::Batch {
            count: 0,
            commands: &[],
        },
    );
    node.turn();
    assert_eq!(node.take_answers(), [(1, Answer::Batch(vec![]))]);
}

#[test]
fn several_keys_are_read_at_once_from_one_shard_only() {
    let mut node = TestNode::new(1, 2);
    node.put("/a/1", "x");
    node.put("/a/3", "z");
    let list = |names: &[&str]| {
        let mut keys = Vec::new();
        for name in names {
            keys.extend_from_slice(&u32::try_from(name.len()).expect("short").to_le_bytes());
            keys.extend_from_slice(name.as_bytes());
        }
        keys
    };
    node.request(0, 1, get_three(&list(&["/a/1", "/a/2", "/a/3"])));
    // The shards of these directories differ: /a/ and /a/b/ are in different halves of the slots.
    node.request(0, 2, get_three(&list(&["/a/1", "/a/b/1", "/a/3"])));
    node.turn();
    let mut answers = node.take_answers();
    answers.sort_by_key(|(request, _)| *request);
    assert_eq!(
        answers[0],
        (1, Answer::Rows(vec![pair("/a/1", "x"), pair("/a/3", "z")]))
    );
    let keys = vec![b"/a/b/1".to_vec()];
    assert_eq!(
        answers[1],
        (2, Answer::Error(RequestError::CrossShard { keys }))
    );
}

#[test]
fn a_range_over_all_shards_comes_in_order_and_one_chunk_at_a_time() {
    let mut node = TestNode::new(2, 4);
    let mut expected = Vec::new();
    for directory in 0..20 {
        for file in 0..20 {
            let (key, value) = (format!("/d{directory:02}/f{file:02}"), "v".repeat(50));
            node.command(
                0,
                0,
                &Command::put(NAMESPACE, key.as_bytes(), value.as_bytes()),
            );
            expected.push(pair(&key, &value));
        }
    }
    node.settle();
    node.take_answers();
    node.request(1, 9, subtree(b"/"));
    let mut rows = Vec::new();
    for _ in 0..1_000 {
        node.settle();
        let mut answers = node.take_answers();
        assert_eq!(
            answers.len(),
            1,
            "one chunk until the connection has drained"
        );
        let Answer::Chunk(chunk, is_last) = answers.remove(0).1 else {
            panic!("a range is answered with chunks");
        };
        rows.extend(chunk);
        if is_last {
            break;
        }
        // A change behind the pin is not seen.
        node.command(0, 0, &Command::put(NAMESPACE, b"/d19/f19", b"changed"));
        node.settle();
        node.take_answers();
        node.step(
            1,
            Input::ConnectionDrained {
                connection: ConnectionId(1),
            },
        );
    }
    assert_eq!(rows, expected);
}

#[test]
fn a_cancelled_range_is_over() {
    let mut node = TestNode::new(1, 1);
    for file in 0..200 {
        let key = format!("/d/{file}");
        node.command(0, 0, &Command::put(NAMESPACE, key.as_bytes(), &[7; 100]));
    }
    node.settle();
    node.take_answers();
    node.request(0, 1, subtree(b"/"));
    node.turn();
    assert!(matches!(
        node.take_answers()[..],
        [(1, Answer::Chunk(_, false))]
    ));
    node.request(0, 2, Request::Cancel(RequestId(1)));
    node.turn();
    let answers = node.take_answers();
    assert_eq!(
        answers,
        [
            (1, Answer::Error(RequestError::Cancelled)),
            (2, Answer::Other)
        ]
    );
    node.step(
        0,
        Input::ConnectionDrained {
            connection: ConnectionId(1),
        },
    );
    node.turn();
    assert!(node.take_answers().is_empty());
}

#[test]
fn a_deadline_says_whether_the_command_may_have_happened() {
    let mut node = TestNode::new(1, 1);
    let mut bytes = Vec::new();
    let command = Command::put(NAMESPACE, b"/a", b"1");
    command.encode_into(&mut bytes);
    let body = Request::Command {
        command,
        bytes: &bytes,
    };
    node.request_within(0, 1, 10, body);
    node.turn();
    // The first is on its way to the disk; the second waits for the next record.
    node.request_within(0, 2, 10, body);
    node.request_within(0, 3, 5_000, body);
    node.turn();
    node.pass_ms(60);
    node.turn();
    let deadline = |happened| Answer::Error(RequestError::Deadline { happened });
    let mut answers = node.take_answers();
    answers.sort_by_key(|(request, _)| *request);
    let expected = [
        (1, deadline(Happened::Unknown)),
        (2, deadline(Happened::NotDone)),
    ];
    assert_eq!(answers, expected);
    node.settle();
    assert_eq!(
        node.take_answers(),
        [(3, done(2))],
        "the second was never proposed"
    );
}

#[test]
fn what_was_answered_is_there_after_a_crash() {
    let mut node = TestNode::new(1, 3);
    for number in 0..30 {
        node.put(&format!("/d{number}/f"), &number.to_string());
    }
    let hashes = |test: &harness::TestCore| -> Vec<(u64, u64)> {
        test.core
            .status()
            .replicas
            .iter()
            .map(|replica| (replica.keys, replica.state_hash))
            .collect()
    };
    let before = hashes(&node.cores[0]);
    // Not completed before the crash: never acknowledged, so it may be gone.
    node.command(0, 1, &Command::put(NAMESPACE, b"/lost", b"1"));
    node.turn();
    let files = node.cores[0].files.clone();
    node.cores[0] =
        start(config(0, 1, 3), files, node.now, LogHistory::HasServed).expect("it recovers");
    node.settle();
    assert_eq!(hashes(&node.cores[0]), before);
    node.request(0, 2, get(b"/d7/f"));
    node.turn();
    let answers = node.take_answers();
    assert_eq!(
        answers.last(),
        Some(&(2, Answer::Rows(vec![pair("/d7/f", "7")])))
    );
}

#[test]
fn a_log_that_lost_a_replica_is_not_mistaken_for_a_new_one() {
    let refused = start(
        config(0, 1, 1),
        harness::Files::default(),
        TestNode::new(1, 1).now,
        LogHistory::HasServed,
    );
    assert!(matches!(
        refused.err(),
        Some(StartError::MissingReplica { .. })
    ));
}

#[test]
fn draining_finishes_what_was_accepted_and_refuses_the_rest() {
    let mut node = TestNode::new(1, 1);
    node.command(0, 1, &Command::put(NAMESPACE, b"/a", b"1"));
    node.turn();
    node.step(0, Input::Drain);
    node.command(0, 2, &Command::put(NAMESPACE, b"/a", b"2"));
    node.turn();
    assert!(!node.cores[0].core.is_drained());
    assert_eq!(
        node.take_answers(),
        [(2, Answer::Error(RequestError::ShuttingDown))]
    );
    node.settle();
    assert_eq!(node.take_answers(), [(1, done(1))]);
    assert!(node.cores[0].core.is_drained());
    let log = node.cores[0].core.status().log;
    assert!(log.marks > 0, "the mark covers the last record");
}

#[test]
fn a_mark_follows_when_the_log_is_idle() {
    let mut node = TestNode::new(1, 1);
    node.put("/a", "1");
    let marks = node.cores[0].core.status().log.marks;
    let deadline = node.cores[0].core.next_deadline().expect("a mark is due");
    assert!(
        deadline <= node.now.plus_ms(10),
        "within 10 ms of the last write"
    );
    node.now = deadline;
    node.step(0, Input::Tick);
    node.turn();
    let next = node.cores[0].core.next_deadline().expect("a tick is due");
    assert!(next > node.now, "a mark on its way needs no alarm");
    node.settle();
    assert_eq!(node.cores[0].core.status().log.marks, marks + 1);
}

#[test]
fn a_full_log_refuses_writes_answers_reads_and_goes_on_when_a_snapshot_made_room() {
    let mut node = TestNode::new(1, 1);
    // Otherwise a snapshot makes room before that.
    node.holds_snapshots = true;
    node.put("/first", "1");
    let value = vec![0xA5; 15 << 10];
    let mut refused = None;
    for request in 0..2_000 {
        node.command(0, request, &Command::put(NAMESPACE, b"/a", &value));
        node.settle();
        if let [(_, Answer::Error(error))] = &node.take_answers()[..] {
            refused = Some(error.clone());
            break;
        }
    }
    let refused = refused.expect("8 MiB are full after 2,000 puts of 15 KiB");
    assert!(
        matches!(
            refused,
            RequestError::LogBudget {
                budget_bytes: 8_388_608,
                ..
            }
        ),
        "{refused}"
    );
    node.request(0, 1, get(b"/first"));
    node.turn();
    assert_eq!(
        node.take_answers(),
        [(1, Answer::Rows(vec![pair("/first", "1")]))]
    );
    // It starts again, and a snapshot makes room, here as there.
    let files = node.cores[0].files.clone();
    let mut again = TestNode {
        cores: vec![
            start(config(0, 1, 1), files, node.now, LogHistory::HasServed).expect("it recovers"),
        ],
        now: node.now,
        answers: Vec::new(),
        sent: Vec::new(),
        members: Vec::new(),
        holds_slices: false,
        holds_snapshots: false,
    };
    node.holds_snapshots = false;
    for node in [&mut again, &mut node] {
        node.settle();
        assert!(node.cores[0].core.is_serving());
        assert!(matches!(
            node.put("/a", "1"),
            Answer::Outcome(OutcomeCode::Done, ..)
        ));
    }
}

#[test]
fn too_much_waiting_work_is_refused_and_the_rest_goes_on() {
    let mut node = TestNode::with(1, |core| {
        let mut config = config(core, 1, 1);
        config.settings.raft.uncommitted_bytes_max = 8 << 20;
        config
    });
    // What compresses away does not wait.
    let mut state = 1_u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    let value: Vec<u8> = (0..15 << 10).map(|_| noise()).collect();
    for request in 0..600 {
        node.command(0, request, &Command::put(NAMESPACE, b"/a", &value));
    }
    node.turn();
    let answers = node.take_answers();
    assert!(!answers.is_empty());
    assert!(
        answers
            .iter()
            .all(|(_, answer)| matches!(answer, Answer::Error(RequestError::Overloaded { .. })))
    );
}

#[test]
fn a_status_reports_stages_and_replicas() {
    let mut node = TestNode::new(1, 2);
    node.put("/a", "1");
    let status = node.cores[0].core.status();
    assert!(status.is_serving);
    assert_eq!(status.replicas.len(), 2);
    assert!(
        status.stages.iter().all(|stage| stage.count == 1),
        "{:?}",
        status.stages
    );
    node.request(0, 5, Request::Status);
    node.turn();
    assert_eq!(node.take_answers(), [(5, Answer::Other)]);
}

#[test]
fn a_batch_that_compresses_is_applied_like_any_other() {
    let mut node = TestNode::new(1, 1);
    let value = vec![0; 14 << 10];
    node.command(0, 1, &Command::put(NAMESPACE, b"/zeros", &value));
    node.settle();
    assert_eq!(node.take_answers(), [(1, done(1))]);
    assert!(node.cores[0].core.status().log.entry_bytes < 4 << 10);
    let files = node.cores[0].files.clone();
    node.cores[0] =
        start(config(0, 1, 1), files, node.now, LogHistory::HasServed).expect("it recovers");
    node.settle();
    node.request(0, 2, get(b"/zeros"));
    node.turn();
    assert_eq!(
        node.take_answers(),
        [(2, Answer::Rows(vec![(b"/zeros".to_vec(), value)]))]
    );
}

#[test]
fn reads_without_writes_leave_nothing_behind() {
    let mut node = TestNode::new(1, 1);
    node.put("/a", "1");
    for request in 0..10_000 {
        node.request(0, request, get(b"/a"));
        node.turn();
    }
    assert_eq!(node.take_answers().len(), 10_000);
    let waiting = node.cores[0].core.status().waiting;
    assert_eq!(waiting, WaitingWork::default());
    assert_eq!(node.put("/a", "2"), done(2));
    assert_eq!(node.cores[0].core.status().waiting, WaitingWork::default());
}

#[test]
fn a_shards_batch_does_not_wait_for_another_shards_commands() {
    let mut node = TestNode::new(1, 2);
    // "/a/" lies in the second half of the slots, "/a/b/" in the first.
    node.command(0, 1, &Command::put(NAMESPACE, b"/a/1", b"x"));
    node.turn();
    node.command(0, 2, &Command::put(NAMESPACE, b"/a/1", b"y"));
    node.command(0, 3, &Command::put(NAMESPACE, b"/a/b/1", b"z"));
    node.turn();
    // No time passes, nobody asks for anything more.
    node.settle();
    let mut answered: Vec<u64> = node
        .take_answers()
        .into_iter()
        .map(|(request, _)| request)
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3]);
}

#[test]
fn answers_larger_than_a_frame_are_refused_and_large_turns_are_divided() {
    let mut node = TestNode::new(1, 1);
    let value = "v".repeat(15 << 10);
    node.put("/big", &value);
    let mut keys = Vec::new();
    for _ in 0..1_024 {
        keys.extend_from_slice(&4_u32.to_le_bytes());
        keys.extend_from_slice(b"/big");
    }
    let many = |count| Request::GetMany {
        namespace: NAMESPACE,
        at: None,
        count,
        keys: &keys[..count as usize * 8],
    };
    node.request(0, 1, many(1_024));
    node.turn();
    let answers = node.take_answers();
    assert!(
        matches!(
            answers[..],
            [(1, Answer::Error(RequestError::AnswerTooLarge { .. }))]
        ),
        "1,024 rows of 15 KiB are no answer"
    );
    // Answers of 3 MiB each: one turn holds some of them, the next ones the rest.
    for request in 0..20 {
        node.request(0, request, many(200));
    }
    node.turn();
    let answers = node.take_answers();
    assert_eq!(answers.len(), 20);
    let is_whole = |answer: &Answer| matches!(answer, Answer::Rows(rows) if rows.len() == 200);
    assert!(answers.iter().all(|(_, answer)| is_whole(answer)));
    assert!(node.cores[0].core.status().counters.turns > 4);
}

#[test]
fn a_batch_whose_previous_values_find_no_room_says_that_it_was_done() {
    let mut node = TestNode::new(1, 1);
    let value = "v".repeat(15 << 10);
    node.put("/big", &value);
    let mut commands = Vec::new();
    for _ in 0..400 {
        Command::append(NAMESPACE, b"/big", b"x")
            .with_return_previous()
            .encode_into(&mut commands);
    }
    node.request(
        0,
        1,
        Request::Batch {
            count: 400,
            commands: &commands,
        },
    );
    node.settle();
    let mut answers = node.take_answers();
    let Answer::Batch(items) = answers.remove(0).1 else {
        panic!("a batch is answered as one");
    };
    let is_done = |item: &&Answer| matches!(item, Answer::Outcome(OutcomeCode::Done, ..));
    let done = items.iter().filter(is_done).count();
    assert!((1..400).contains(&done), "{done}");
    assert!(items[done..].iter().all(|item| matches!(
        item,
        Answer::Error(RequestError::AnswerTooLarge {
            happened: Happened::Unknown,
            ..
        })
    )));
}

/// The same from another core, whose answers are copied where the batch is gathered; and what has no room leaves an
/// error, of which there may be thousands.
#[test]
fn the_answer_to_a_batch_fits_a_frame_wherever_its_commands_were_done() {
    const FRAME_BYTES: usize = 4 << 20;
    // What an error without keys takes on the wire at most, with its place in the batch.
    const ERROR_BYTES: usize = 256;
    for core in 0..2 {
        let mut node = TestNode::new(2, 2);
        let value = "v".repeat(15 << 10);
        node.put("/big", &value);
        let mut commands = Vec::new();
        let count = 1_024;
        for _ in 0..count {
            Command::append(NAMESPACE, b"/big", b"x")
                .with_return_previous()
                .encode_into(&mut commands);
        }
        node.request(
            core,
            1,
            Request::Batch {
                count,
                commands: &commands,
            },
        );
        node.settle();
        let mut answers = node.take_answers();
        let Answer::Batch(items) = answers.remove(0).1 else {
            panic!("a batch is answered as one");
        };
        let is_done = |item: &&Answer| matches!(item, Answer::Outcome(OutcomeCode::Done, ..));
        let done = items.iter().filter(is_done).count();
        let bytes = done * value.len() + (items.len() - done) * ERROR_BYTES;
        assert!(done > 0 && bytes <= FRAME_BYTES, "{done} of {count}");
        assert!(items[done..].iter().all(|item| matches!(
            item,
            Answer::Error(RequestError::AnswerTooLarge {
                happened: Happened::Unknown,
                ..
            })
        )));
    }
}

#[test]
fn ranges_end_with_their_connection_their_client_or_their_patience() {
    let mut node = TestNode::new(2, 4);
    for file in 0..400 {
        let key = format!("/d{file}/f");
        node.command(0, 0, &Command::put(NAMESPACE, key.as_bytes(), &[7; 100]));
    }
    node.settle();
    node.take_answers();
    let open = |node: &TestNode| -> (usize, usize) {
        node.cores.iter().fold((0, 0), |(ranges, parts), core| {
            let waiting = core.core.status().waiting;
            (ranges + waiting.ranges, parts + waiting.range_parts)
        })
    };
    for request in 0..40 {
        node.request(0, request, subtree(b"/"));
    }
    node.settle();
    assert_eq!(open(&node).0, 32, "a connection has a limit of its own");
    let refused =
        |answer: &Answer| matches!(answer, Answer::Error(RequestError::Overloaded { .. }));
    let answers = node.take_answers();
    assert_eq!(
        answers.iter().filter(|(_, answer)| refused(answer)).count(),
        8
    );
    node.step(
        0,
        Input::ConnectionClosed {
            connection: ConnectionId(1),
        },
    );
    node.settle();
    assert_eq!(open(&node), (0, 0), "nothing outlives its connection");
    node.request(0, 1, subtree(b"/"));
    node.settle();
    node.take_answers();
    assert_eq!(open(&node).0, 1);
    node.pass_ms(31_000);
    node.settle();
    let answers = node.take_answers();
    assert_eq!(answers, [(1, Answer::Error(RequestError::RangeExpired))]);
    assert_eq!(open(&node), (0, 0));
}
