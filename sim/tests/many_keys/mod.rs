//! Single stories of clusters whose clients ask for more than one key: transactions, commits, batches, ranges, the past.
//! The checkers look on, and at the end everything that clients saw must have an order.

use metastore_sim::checkers::linearizability::{End, Operation as Seen};
use metastore_sim::network::{Partition, Site};
use metastore_sim::operation::{
    Commit, Compound, Condition, DirectoryRange, Mutation, Operation, PreviousRow, RangeOf, Step,
    Txn,
};
use metastore_statemachine::{CommandKind, OutcomeCode, Revision, Scope};

use crate::story::{ELECTION_MS, NODES, SHARD, Story, config};

fn directory(story: &Story) -> Vec<u8> {
    let key = story.key();
    key[..key.len() - 1].to_vec()
}

fn put(story: &Story, name: &str, value: &str) -> Mutation {
    Mutation {
        kind: CommandKind::Put,
        key: [directory(story).as_slice(), name.as_bytes()].concat(),
        value: value.as_bytes().to_vec(),
        condition: Condition::Always,
        previous: PreviousRow::NotWanted,
    }
}

/// Puts to two keys, or nothing.
fn both(story: &Story, value: &str) -> Operation {
    let steps = ["one", "other"].map(|name| Step::Mutation(put(story, name, value)));
    Operation::Compound(Compound::Txn(Txn {
        compares: Vec::new(),
        then: steps.to_vec(),
        otherwise: Vec::new(),
    }))
}

fn everything(story: &Story) -> RangeOf {
    RangeOf {
        prefix: directory(story),
        scope: Scope::Children { separator: b'/' },
        chunk_bytes: 256,
        ..RangeOf::everything()
    }
}

/// Asks until it is answered, and tells what the shard saw of it.
fn ask(story: &mut Story, client: usize, operation: &Operation) -> Seen {
    let before = story.cluster.tally().succeeded;
    for _ in 0..3 {
        if !story.cluster.is_asking(client) {
            story.cluster.ask(client, operation.clone());
        }
        story.run_ms(ELECTION_MS);
        if story.cluster.tally().succeeded > before {
            let history = story.cluster.observer.history(SHARD);
            return history.operations().last().expect("one is there").clone();
        }
    }
    panic!("it is answered");
}

/// The values of all keys, by key.
fn values(story: &mut Story, client: usize) -> Vec<Vec<u8>> {
    let range = Operation::Range(everything(story));
    let End::Listed { rows, .. } = ask(story, client, &range).end else {
        panic!("a range is listed");
    };
    rows.into_iter().map(|row| row.value).collect()
}

fn code(seen: &Seen) -> OutcomeCode {
    let End::Outcome { outcome, .. } = &seen.end else {
        panic!("a command has an outcome: {seen:?}");
    };
    outcome.code
}

/// The newest revision of the shard.
fn revision(story: &mut Story) -> Revision {
    let get = Operation::Get {
        key: story.key(),
        at: None,
    };
    let End::Rows { revision, .. } = ask(story, 0, &get).end else {
        panic!("a read finds rows");
    };
    revision
}

#[test]
fn a_transaction_is_whole_after_all_nodes_lost_their_power() {
    let mut story = Story::begin(config());
    let txn = both(&story, "whole");
    assert_eq!(code(&ask(&mut story, 0, &txn)), OutcomeCode::Done);
    NODES.iter().for_each(|&node| story.crash(node));
    NODES.iter().for_each(|&node| story.start(node));
    let found = values(&mut story, 1);
    assert_eq!(found.iter().filter(|value| *value == b"whole").count(), 2);
    story.end();
}

#[test]
fn a_transaction_under_way_when_its_leader_is_lost_is_whole_or_was_not() {
    let mut story = Story::begin(config());
    for round in 0..8 {
        let leader = story.await_leader();
        let txn = both(&story, &format!("{round}"));
        story.cluster.ask(0, txn);
        story.run_us(40 * (round + 1));
        story.crash(leader);
        story.run_ms(2 * ELECTION_MS);
        let found = values(&mut story, 1);
        let names = found.len();
        let pair: Vec<&Vec<u8>> = found.iter().skip(names.saturating_sub(2)).collect();
        assert!(names < 3 || pair[0] == pair[1], "{pair:?}");
        story.start(leader);
        story.run_ms(ELECTION_MS);
    }
    story.end();
}

#[test]
fn a_commit_is_refused_when_another_client_changed_what_it_had_read() {
    let mut story = Story::begin(config());
    let read_revision = revision(&mut story);
    let commit = Operation::Compound(Compound::Commit(Commit {
        read_revision,
        read_keys: Vec::new(),
        read_ranges: vec![DirectoryRange::all(&directory(&story))],
        mutations: vec![put(&story, "sum", "of what was read")],
    }));
    let intruder = Operation::Mutate(put(&story, "new", "in the range"));
    ask(&mut story, 1, &intruder);
    let leader = story.await_leader();
    story.crash(leader);
    assert_eq!(code(&ask(&mut story, 0, &commit)), OutcomeCode::Conflict);
    story.start(leader);
    story.end();
}

#[test]
fn a_range_is_one_revision_however_many_chunks_it_comes_in() {
    let mut story = Story::begin(config());
    let named = |story: &Story, round: &str| -> Vec<Mutation> {
        let names = 0..30;
        names
            .map(|number| put(story, &format!("k{number:02}"), &round.repeat(60)))
            .collect()
    };
    let batch = Operation::Batch(named(&story, "a"));
    ask(&mut story, 0, &batch);
    let range = Operation::Range(everything(&story));
    let batch = Operation::Batch(named(&story, "b"));
    story.cluster.ask(1, range);
    story.run_us(300);
    story.cluster.ask(0, batch);
    story.run_ms(ELECTION_MS);
    let history = story.cluster.observer.history(SHARD).operations();
    let listed = history.iter().find_map(|seen| {
        let End::Listed { rows, .. } = &seen.end else {
            return None;
        };
        Some(rows)
    });
    let rows = listed.expect("the range was answered").iter();
    let of_first = rows.filter(|row| row.value.starts_with(b"a"));
    assert_eq!(of_first.count(), 30);
    story.end();
}

#[test]
fn a_range_that_was_begun_at_a_node_that_dies_is_read_elsewhere() {
    let mut story = Story::begin(config());
    let batch = (0..30).map(|number| put(&story, &format!("k{number:02}"), &"x".repeat(100)));
    let batch = Operation::Batch(batch.collect());
    ask(&mut story, 0, &batch);
    for _ in 0..3 {
        let range = Operation::Range(everything(&story));
        story.cluster.ask(1, range);
        story.run_us(400);
        NODES[..2].iter().for_each(|&node| story.crash(node));
        story.run_ms(ELECTION_MS);
        NODES[..2].iter().for_each(|&node| story.start(node));
        story.run_ms(2 * ELECTION_MS);
        assert!(!story.cluster.is_asking(1));
    }
    story.end();
}

#[test]
fn a_follower_answers_with_what_was_written_just_before() {
    // The lead stays where it is.
    let mut config = config();
    config.settings.raft.idle.lead_ticks = None;
    let mut story = Story::begin(config);
    let leader = story.await_leader();
    // The reader reaches everybody but the leader.
    let cuts = [
        (Site::Client(1), Site::Node(leader)),
        (Site::Node(leader), Site::Client(1)),
    ];
    story.cluster.split(Partition::of_links(&cuts));
    for round in 0..5 {
        let write = Operation::Mutate(put(&story, "k", &format!("{round}")));
        ask(&mut story, 0, &write);
        let found = values(&mut story, 1);
        assert!(found.contains(&format!("{round}").into_bytes()));
    }
    assert_eq!(story.await_leader(), leader);
    story.end();
}

#[test]
fn a_batch_over_two_shards_is_answered_item_by_item() {
    let mut story = Story::begin(config());
    let keys = (0..12).map(|number| format!("/d{number}/k").into_bytes());
    let batch = keys.map(|key| Mutation {
        key,
        ..put(&story, "k", "of a batch")
    });
    let batch = Operation::Batch(batch.collect());
    let before = story.cluster.tally().batches;
    ask(&mut story, 0, &batch);
    assert_eq!(story.cluster.tally().batches, before + 1);
    story.end();
}

#[test]
fn what_was_forgotten_is_refused_by_whoever_leads_next() {
    let mut story = Story::begin(config());
    let past = revision(&mut story);
    (0..3).for_each(|_| story.put(0));
    let newest = revision(&mut story);
    let compaction = Operation::Compound(Compound::Compact {
        key: story.key(),
        revision: newest,
    });
    assert_eq!(code(&ask(&mut story, 0, &compaction)), OutcomeCode::Done);
    let leader = story.await_leader();
    story.crash(leader);
    let read = |story: &Story, at| Operation::Get {
        key: story.key(),
        at: Some(at),
    };
    let (old, new) = (read(&story, past), read(&story, newest));
    let refused = ask(&mut story, 1, &old).end;
    assert!(
        matches!(refused, End::Compacted { oldest, .. } if oldest == newest),
        "{refused:?}"
    );
    let found = ask(&mut story, 1, &new).end;
    assert!(matches!(found, End::Rows { .. }), "{found:?}");
    story.start(leader);
    story.end();
}

#[test]
fn a_range_deleted_while_its_leader_is_cut_off_is_gone_as_a_whole_or_untouched() {
    let mut story = Story::begin(config());
    for _ in 0..3 {
        let batch = (0..6).map(|number| put(&story, &format!("k{number}"), "here"));
        let batch = Operation::Batch(batch.collect());
        ask(&mut story, 0, &batch);
        let leader = story.await_leader();
        let range = DirectoryRange::all(&directory(&story));
        let deletion = Operation::Compound(Compound::DeleteRange(range));
        story.cluster.ask(1, deletion);
        story.run_us(250);
        story.isolate(leader, &[1]);
        story.run_ms(2 * ELECTION_MS);
        let found = values(&mut story, 0);
        let here = found.iter().filter(|value| *value == b"here").count();
        assert!(here == 0 || here == 6, "{here} are left");
        story.cluster.heal();
        story.run_ms(ELECTION_MS);
    }
    story.end();
}

#[test]
fn a_client_that_nobody_hears_is_seen_to_wait_while_others_are_served() {
    let mut story = Story::begin(config());
    let from = story.cluster.now();
    let inside = vec![Site::Client(1)];
    let nodes = NODES.into_iter().map(Site::Node);
    let outside = nodes.chain([0, 2, 3].map(Site::Client)).collect();
    story
        .cluster
        .split(Partition::of_groups(&[inside, outside]));
    story.run_ms(1);
    story.ask_get(1);
    let serve = |story: &mut Story, puts: usize| {
        for _ in 0..puts {
            story.ask_put(0, 8);
            story.run_ms(100);
        }
    };
    serve(&mut story, 4);
    assert_eq!(story.cluster.starving(from, 1_000, 5), None);
    serve(&mut story, 8);
    assert_eq!(story.cluster.starving(from, 1_000, 5), Some(1));
    assert_eq!(story.cluster.given_up_since(from), None);
    story.run_ms(ELECTION_MS);
    assert_eq!(story.cluster.given_up_since(from), Some(1));
    story.end();
}
