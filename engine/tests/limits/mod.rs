//! What a core promises when memory is short, or its log cannot keep up.

use metastore_engine::{
    Account, ConnectionId, Input, LoadRoom, MemoryRoom, Request, RequestError, RequestId,
};
use metastore_statemachine::{Command, OutcomeCode, ShardList};

use crate::harness::{Answer, TestNode, config};
use crate::{NAMESPACE, get, subtree};

fn is_overloaded(answer: &Answer) -> bool {
    matches!(answer, Answer::Error(RequestError::Overloaded { .. }))
}

fn is_done(answer: &Answer) -> bool {
    matches!(answer, Answer::Outcome(OutcomeCode::Done, ..))
}

/// A command of a connection, and its answer if there is one at once.
fn ask(node: &mut TestNode, connection: u64, request: u64, command: &Command<'_>) {
    let mut bytes = Vec::new();
    command.encode_into(&mut bytes);
    node.step(
        0,
        Input::Request {
            connection: ConnectionId(connection),
            request: RequestId(request),
            deadline_ms: 60_000,
            body: Request::Command {
                command: *command,
                bytes: &bytes,
            },
        },
    );
}

fn set_room(node: &mut TestNode, room: MemoryRoom) {
    for core in 0..node.cores.len() {
        node.step(core, Input::Memory(room));
    }
}

#[test]
fn when_memory_is_short_only_what_frees_it_is_taken() {
    let mut node = TestNode::new(2, 4);
    for file in 0..8 {
        assert!(is_done(&node.put(&format!("/d{file}/f"), "v")));
    }
    let short = MemoryRoom {
        load: LoadRoom::Short,
        ..MemoryRoom::UNLIMITED
    };
    set_room(&mut node, short);
    for file in 0..8 {
        let key = format!("/d{file}/f");
        node.request(0, file, get(key.as_bytes()));
        node.command(
            0,
            100 + file,
            &Command::put(NAMESPACE, key.as_bytes(), b"w"),
        );
        node.command(0, 200 + file, &Command::delete(NAMESPACE, key.as_bytes()));
    }
    node.settle();
    for (request, answer) in node.take_answers() {
        match request {
            200.. => assert!(is_done(&answer), "delete {request}: {answer:?}"),
            _ => assert!(is_overloaded(&answer), "{request}: {answer:?}"),
        }
    }
    set_room(&mut node, MemoryRoom::UNLIMITED);
    assert!(is_done(&node.put("/d1/f", "again")));
}

#[test]
fn a_full_state_is_told_with_its_numbers_and_each_command_of_a_batch_for_itself() {
    let mut node = TestNode::new(1, 1);
    assert!(is_done(&node.put("/a", "v")));
    let full = MemoryRoom {
        load: LoadRoom::Ample,
        state_bytes_max: 1_000,
        state_bytes: 990,
    };
    set_room(&mut node, full);
    let mut commands = Vec::new();
    Command::put(NAMESPACE, b"/b", b"v").encode_into(&mut commands);
    Command::delete(NAMESPACE, b"/a").encode_into(&mut commands);
    node.request(
        0,
        1,
        Request::Batch {
            count: 2,
            commands: &commands,
        },
    );
    node.request(0, 2, get(b"/a"));
    node.settle();
    let answers = node.take_answers();
    let Some((1, Answer::Batch(items))) = answers.iter().find(|(request, _)| *request == 1) else {
        panic!("{answers:?}");
    };
    let refused = RequestError::QuotaExceeded {
        limit_bytes: 1_000,
        used_bytes: 990,
    };
    assert_eq!(items[0], Answer::Error(refused));
    assert!(is_done(&items[1]));
    assert!(matches!(
        &answers[..],
        [.., (2, Answer::Rows(_))] | [(2, Answer::Rows(_)), ..]
    ));
}

#[test]
fn a_log_that_cannot_keep_up_refuses_whoever_asks_for_most() {
    const QUIET: u64 = 1;
    const GREEDY: u64 = 2;
    let mut node = TestNode::with(1, |core| {
        let mut config = config(core, 1, 1);
        // One record holds a batch or two, so that a queue stands.
        config.settings.batch.commands_max = 10;
        config.settings.batch.bytes_max = 4 << 10;
        config.settings.command_bytes_max = 4 << 10;
        config.log.record_bytes_max = 72 << 10;
        config.log.segment_bytes = 4 << 20;
        config.log.budget_bytes = 64 << 20;
        config
    });
    let value = [7; 2_000];
    let mut refused = [0_u32; 3];
    for interval in 0..60_u64 {
        for number in 0..200 {
            let key = format!("/{number}");
            ask(
                &mut node,
                GREEDY,
                interval,
                &Command::put(NAMESPACE, key.as_bytes(), &value),
            );
            if number % 50 == 0 {
                ask(
                    &mut node,
                    QUIET,
                    interval,
                    &Command::put(NAMESPACE, b"/quiet", b"v"),
                );
            }
        }
        ask(
            &mut node,
            GREEDY,
            1_000_000,
            &Command::delete(NAMESPACE, b"/absent"),
        );
        node.turn();
        node.pass_ms(100);
        node.turn();
        // A slow disk: one write each 100 ms.
        node.complete_write(0);
        node.turn();
        for (connection, request, answer) in std::mem::take(&mut node.answers) {
            if is_overloaded(&answer) {
                assert_ne!(request.0, 1_000_000, "deletes are taken");
                refused[usize::try_from(connection.0).unwrap()] += 1;
            }
        }
    }
    assert_eq!(refused[1], 0, "who asks for little is never refused");
    assert!(refused[2] > 1_000, "{refused:?}");
    let status = node.cores[0].core.status();
    assert!(status.admission.is_refusing);
    assert!(
        status.waiting.command_bytes < 2 << 20,
        "the queue is bounded"
    );
    // The load goes away, and so do the quotas.
    node.settle();
    for _ in 0..40 {
        node.pass_ms(100);
        node.settle();
    }
    assert!(!node.cores[0].core.status().admission.is_refusing);
    node.answers.clear();
    assert!(is_done(&node.put("/after", "v")));
}

#[test]
fn the_chunk_of_a_range_has_an_account_while_slices_fill_it() {
    let mut node = TestNode::new(1, 1);
    for file in 0..20 {
        assert!(is_done(
            &node.put(&format!("/d/{file}"), &"v".repeat(10_000))
        ));
    }
    let Request::Range { query, .. } = subtree(b"/d/") else {
        unreachable!("a subtree is asked for with a range");
    };
    node.holds_slices = true;
    let chunk_bytes = 256 << 10;
    node.request(
        0,
        1,
        Request::Range {
            query,
            shards: ShardList::ALL,
            chunk_bytes,
        },
    );
    node.turn();
    assert_eq!(node.cores[0].core.memory().get(Account::Replies), 0);
    let now = node.now;
    assert!(node.cores[0].run_slice(now).is_some());
    let filled = node.cores[0].core.memory().get(Account::Replies);
    assert!(filled > 10_000, "{filled}");
    node.holds_slices = false;
    node.settle();
    assert_eq!(node.cores[0].core.memory().get(Account::Replies), 0);
}

/// Each shard sends a chunk ahead, and nobody takes the merged one.
#[test]
fn a_range_that_nobody_reads_holds_little_however_many_shards_it_has() {
    let mut node = TestNode::new(1, 16);
    for directory in 0..400 {
        let key = format!("/d{directory}/f");
        assert!(is_done(&node.put(&key, &"v".repeat(15_000))));
    }
    let Request::Range { query, .. } = subtree(b"/d") else {
        unreachable!("a subtree is asked for with a range");
    };
    let chunk_bytes = 256 << 10;
    node.request(
        0,
        1,
        Request::Range {
            query,
            shards: ShardList::ALL,
            chunk_bytes,
        },
    );
    node.settle();
    let mut rows = 0;
    loop {
        let held = node.cores[0].core.memory().get(Account::Replies);
        assert!(held <= 3 << 19, "{held}");
        let answers = node.take_answers();
        let [(1, Answer::Chunk(chunk, is_last))] = answers.as_slice() else {
            panic!("{answers:?}");
        };
        rows += chunk.len();
        if *is_last {
            break;
        }
        let connection = ConnectionId(1);
        node.step(0, Input::ConnectionDrained { connection });
        node.settle();
    }
    assert_eq!(rows, 400);
}

#[test]
fn accounts_follow_what_a_core_holds() {
    let mut node = TestNode::new(1, 2);
    let empty = node.cores[0].core.memory();
    assert!(empty.get(Account::Log) > 0);
    for number in 0..20 {
        let key = format!("/d{number}/f");
        node.command(
            0,
            number,
            &Command::put(NAMESPACE, key.as_bytes(), &[7; 5_000]),
        );
    }
    let open = node.cores[0].core.memory();
    assert!(open.get(Account::OpenBatches) + open.get(Account::Tail) > 20 * 5_000 / 8);
    node.settle();
    let applied = node.cores[0].core.memory();
    assert_eq!(applied.get(Account::OpenBatches), 0);
    assert!(applied.get(Account::State) - empty.get(Account::State) > 20 * 5_000);
    let mut commands = Vec::new();
    for _ in 0..10 {
        Command::delete(NAMESPACE, b"/absent").encode_into(&mut commands);
    }
    let batch = Request::Batch {
        count: 10,
        commands: &commands,
    };
    node.request(0, 100, batch);
    assert!(node.cores[0].core.memory().get(Account::Replies) > 0);
    node.settle();
    assert_eq!(node.cores[0].core.memory().get(Account::Replies), 0);
}
