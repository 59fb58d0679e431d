//! Each promise, broken by hand.

use super::*;
use metastore_engine::LogIndex;
use metastore_statemachine::{BatchBuilder, NamespaceId, Revision, ShardTime};

const SHARD: ShardId = ShardId(0);

fn three_voters() -> Replication {
    let voters = (1..=3)
        .map(|id| (ReplicaId(u64::from(id)), NodeId(id)))
        .collect();
    Replication::new(BTreeMap::from([(SHARD, voters)]))
}

fn entry(term: u64, data: &[u8]) -> EntrySeen {
    EntrySeen {
        term: Term(term),
        // What is in these entries does not matter.
        kind: EntryKind::ConfChange,
        data: data.to_vec(),
    }
}

fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: ReplicaId(vote),
        commit: LogIndex(commit),
    }
}

fn append(replica: u64, hard_state: HardState, first: u64, entries: &[EntrySeen]) -> PartSeen {
    PartSeen {
        replica: ReplicaId(replica),
        shard: SHARD,
        hard_state,
        body: PartBodySeen::Append(LogIndex(first), entries.to_vec()),
    }
}

fn status(replica: u64, role: Role, term: u64, applied: u64, state_hash: u64) -> ReplicaStatus {
    ReplicaStatus {
        shard: SHARD,
        replica: ReplicaId(replica),
        role,
        leader: None,
        term: Term(term),
        committed: LogIndex(applied),
        applied: LogIndex(applied),
        last: LogIndex(applied),
        keys: 0,
        revision: Revision(0),
        state_bytes: 0,
        history_bytes: 0,
        state_hash,
        states_compared: 0,
        quarantine: None,
        repairs: 0,
        applied_commands: 0,
        messages_dropped: 0,
        members: metastore_engine::MembersStatus::default(),
        is_asleep: false,
    }
}

#[test]
fn one_leader_a_term() {
    let mut checker = three_voters();
    let leader = |replica, term| status(replica, Role::Leader, term, 1, 0);
    checker.on_status(&leader(1, 5)).unwrap();
    checker.on_status(&leader(1, 5)).unwrap();
    checker.on_status(&leader(2, 6)).unwrap();
    checker
        .on_status(&status(2, Role::Follower, 5, 1, 0))
        .unwrap();
    let broken = checker.on_status(&leader(3, 5)).unwrap_err();
    assert!(
        matches!(broken, ClusterViolation::TwoLeaders { .. }),
        "{broken}"
    );
}

#[test]
fn one_vote_a_term_also_after_a_restart() {
    let mut checker = three_voters();
    let voted = append(1, hard_state(5, 2, 0), 1, &[]);
    checker.on_durable(&voted).unwrap();
    checker
        .on_durable(&append(1, hard_state(6, 3, 0), 1, &[]))
        .unwrap();
    let other = append(1, hard_state(6, 2, 0), 1, &[]);
    let broken = checker.on_durable(&other).unwrap_err();
    assert!(
        matches!(broken, ClusterViolation::VotedTwice { .. }),
        "{broken}"
    );
}

#[test]
fn terms_and_commits_do_not_go_back() {
    let durable = |hard_state| append(1, hard_state, 1, &[]);
    let mut checker = three_voters();
    checker.on_durable(&durable(hard_state(5, 0, 7))).unwrap();
    let broken = checker.on_durable(&durable(hard_state(4, 0, 7)));
    assert!(matches!(broken, Err(ClusterViolation::TermWentBack { .. })));
    let mut checker = three_voters();
    checker.on_durable(&durable(hard_state(5, 0, 7))).unwrap();
    let broken = checker.on_durable(&durable(hard_state(5, 0, 6)));
    assert!(matches!(
        broken,
        Err(ClusterViolation::CommitWentBack { .. })
    ));
    let mut checker = three_voters();
    let follower = |applied| status(1, Role::Follower, 5, applied, applied);
    checker.on_status(&follower(7)).unwrap();
    let broken = checker.on_status(&follower(6));
    assert!(matches!(
        broken,
        Err(ClusterViolation::CommitWentBack { .. })
    ));
}

#[test]
fn logs_with_the_same_term_at_an_index_are_the_same_up_to_it() {
    let hs = hard_state(2, 0, 0);
    let mut checker = three_voters();
    let of_one = append(1, hs, 1, &[entry(1, b"a"), entry(2, b"b")]);
    checker.on_written(&of_one).unwrap();
    checker
        .on_written(&append(2, hs, 1, &[entry(1, b"a"), entry(2, b"b")]))
        .unwrap();
    // Another term at the same index is how logs differ until one is put right.
    checker
        .on_written(&append(3, hs, 1, &[entry(2, b"x")]))
        .unwrap();
    let broken = checker.on_written(&append(3, hs, 2, &[entry(2, b"other")]));
    assert!(matches!(broken, Err(ClusterViolation::LogsDiffer { .. })));
    let broken = checker.on_written(&append(3, hs, 2, &[entry(2, b"b")]));
    assert!(matches!(broken, Err(ClusterViolation::LogsDiffer { .. })));
}

#[test]
fn what_is_committed_stays() {
    let mut checker = three_voters();
    let entries = [entry(1, b"a"), entry(1, b"b")];
    checker
        .on_written(&append(1, hard_state(1, 0, 2), 1, &entries))
        .unwrap();
    checker
        .on_written(&append(2, hard_state(2, 0, 1), 1, &entries[..1]))
        .unwrap();
    // It replaces what another replica has committed, and does not know that yet.
    let other = append(2, hard_state(2, 0, 1), 2, &[entry(2, b"x")]);
    checker.on_written(&other).unwrap();
    // In memory it may be right again before its log is.
    checker
        .on_status(&status(2, Role::Follower, 2, 2, 0))
        .unwrap();
    let broken = checker.on_written(&append(2, hard_state(2, 0, 2), 3, &[]));
    assert!(matches!(
        broken,
        Err(ClusterViolation::CommittedEntryChanged { .. })
    ));
    // Nor may a replica replace what it has called committed itself.
    let broken = checker.on_written(&append(1, hard_state(2, 0, 2), 2, &[entry(2, b"x")]));
    assert!(matches!(
        broken,
        Err(ClusterViolation::CommittedEntryChanged { .. })
    ));
}

#[test]
fn equal_states_at_equal_indexes() {
    let mut checker = three_voters();
    checker
        .on_status(&status(1, Role::Leader, 1, 7, 100))
        .unwrap();
    checker
        .on_status(&status(2, Role::Follower, 1, 7, 100))
        .unwrap();
    checker
        .on_status(&status(2, Role::Follower, 1, 8, 101))
        .unwrap();
    assert_eq!(checker.states_compared(), 1);
    let broken = checker.on_status(&status(3, Role::Follower, 1, 8, 102));
    assert!(matches!(broken, Err(ClusterViolation::StatesDiffer { .. })));
}

#[test]
fn a_recovered_log_holds_what_it_calls_committed() {
    let mut checker = three_voters();
    let part = append(1, hard_state(1, 0, 2), 1, &[entry(1, b"a")]);
    let mut found = LogView::new();
    super::super::log_view::apply(&mut found, &part);
    let broken = checker.on_recovered(&found);
    assert!(matches!(
        broken,
        Err(ClusterViolation::CommitBeyondLog { .. })
    ));
}

/// An entry with one command, as the core proposes it, and the command.
fn batch_of_one() -> (EntrySeen, Vec<u8>) {
    let mut command = Vec::new();
    Command::put(NamespaceId::DEFAULT, b"/d/k", b"v").encode_into(&mut command);
    let mut batch = BatchBuilder::new();
    batch.push(&command);
    let data = batch.seal(ShardTime(1), 1);
    let entry = EntrySeen {
        kind: EntryKind::Normal,
        ..entry(1, &data)
    };
    (entry, command)
}

/// The leader's own record has not left, and one follower still has what an older leader sent.
#[test]
fn what_a_leader_has_applied_and_others_have_written_is_in_the_log_of_the_shard() {
    let (newest, command) = batch_of_one();
    let newest = EntrySeen {
        term: Term(2),
        ..newest
    };
    let mut checker = three_voters();
    let wrote = |replica, entry| append(replica, hard_state(2, 0, 0), 2, &[entry]);
    checker.on_written(&wrote(2, newest)).unwrap();
    checker.on_written(&wrote(3, entry(1, b"old"))).unwrap();
    checker
        .on_status(&status(1, Role::Leader, 2, 2, 7))
        .unwrap();
    assert_eq!(checker.log_of(SHARD).unwrap().0, [command]);
}

#[test]
fn acknowledged_means_durable_on_a_quorum() {
    let (entry, command) = batch_of_one();
    let mut checker = three_voters();
    let mut logs = vec![LogView::new(), LogView::new(), LogView::new()];
    let part = |replica| {
        append(
            replica,
            hard_state(1, 0, 0),
            1,
            std::slice::from_ref(&entry),
        )
    };
    let acknowledge = |checker: &Replication, logs: &[LogView]| {
        checker.on_acknowledged(SHARD, &command, logs.iter())
    };
    let never_written = acknowledge(&checker, &logs).unwrap_err();
    assert_eq!(
        never_written,
        ClusterViolation::NotOnQuorum {
            shard: SHARD,
            quorum: 2,
            holders: 0
        }
    );
    for replica in 1..=3 {
        checker.on_written(&part(replica)).unwrap();
    }
    super::super::log_view::apply(&mut logs[0], &part(1));
    assert!(acknowledge(&checker, &logs).is_err(), "one of three");
    super::super::log_view::apply(&mut logs[2], &part(3));
    acknowledge(&checker, &logs).unwrap();
    let before_decay = std::mem::take(&mut logs[2]);
    assert!(acknowledge(&checker, &logs).is_err(), "one has lost it");
    logs.push(before_decay);
    acknowledge(&checker, &logs).expect("to decay, which keeps it out of the group");
    logs.swap_remove(2);
    // Two are not enough when one of them has replaced it.
    let replaced = append(3, hard_state(2, 0, 0), 1, &[self::entry(2, b"x")]);
    super::super::log_view::apply(&mut logs[2], &replaced);
    assert!(acknowledge(&checker, &logs).is_err(), "it was replaced");
}
