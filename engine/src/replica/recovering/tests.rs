use metastore_statemachine::{BatchBuilder, Command, GetQuery, NamespaceId};
use metastore_wal::{ClusterId, CoreId, Holder, Identity, LogOptions, LogStart, NodeId, SealKey};

use super::*;
use crate::copies::{Force, REVISIONS_PASSED, TermRun};
use crate::ids::BootNonce;
use crate::membership::{Fate, Step};
use crate::peer::PeerCore;
use crate::router::{Namespaces, ShardLocation, ShardMap};
use crate::settings::Settings;

const HARD_STATE: HardState = HardState {
    term: Term(1),
    vote: ReplicaId(1),
    commit: LogIndex(1),
};

fn recovering() -> RecoveringReplica {
    let home = PeerCore {
        node: NodeId(1),
        core: CoreId(0),
    };
    let member = Member {
        replica: ReplicaId(1),
        home,
    };
    let snapshot = SnapshotPoint {
        index: LogIndex(INITIAL_INDEX),
        term: Term(INITIAL_TERM),
        members: Membership::of_voters(&[member]).encode(),
    };
    let (id, shard) = (ReplicaId(1), ShardId(0));
    RecoveringReplica::new(id, shard, &snapshot, Parameters::default(), 1 << 20)
        .expect("members are readable")
}

fn entries(count: usize) -> std::vec::IntoIter<EntryRef<'static>> {
    let entry = EntryRef {
        term: Term(1),
        kind: EntryKind::Normal,
        data: &[],
    };
    vec![entry; count].into_iter()
}

/// Entries after a hole came first; what was written again to fill it repeats them.
#[test]
fn entries_that_fill_a_hole_may_repeat_what_came_before_them() {
    for (first, count) in [(2, 3), (2, 4), (2, 6), (2, 8), (1, 9)] {
        let mut replica = recovering();
        let ahead = replica.on_append(HARD_STATE, LogIndex(5), entries(3));
        assert_eq!(ahead, Ok(()));
        assert_eq!(replica.tail.last(), 1);
        assert!(replica.check_end().is_err(), "there is a hole");
        let filled = replica.on_rewrite(HARD_STATE, LogIndex(first), entries(count));
        assert_eq!(filled, Ok(()));
        assert_eq!(replica.check_end(), Ok(()), "{first} {count}");
        let last = (first + count as u64 - 1).max(7);
        assert_eq!(replica.tail.last(), last);
    }
}

fn member(replica: u64) -> Member {
    Member {
        replica: ReplicaId(replica),
        home: PeerCore {
            node: NodeId(u32::try_from(replica).expect("small")),
            core: CoreId(0),
        },
    }
}

/// Replica 1 of three.
fn one_of_three() -> RecoveringReplica {
    let snapshot = SnapshotPoint {
        index: LogIndex(INITIAL_INDEX),
        term: Term(INITIAL_TERM),
        members: Membership::of_voters(&[member(1), member(2), member(3)]).encode(),
    };
    let (id, shard) = (ReplicaId(1), ShardId(0));
    RecoveringReplica::new(id, shard, &snapshot, Parameters::default(), 1 << 20)
        .expect("members are readable")
}

/// A batch that puts one key.
fn put(key: &str) -> (EntryKind, Vec<u8>) {
    let mut command = Vec::new();
    Command::put(NamespaceId::DEFAULT, key.as_bytes(), b"v").encode_into(&mut command);
    let mut builder = BatchBuilder::new();
    builder.push(&command);
    (EntryKind::Normal, builder.seal(ShardTime(10), 1))
}

/// What a leader says of its state as of an entry: nothing that could be true.
fn word(index: u64) -> (EntryKind, Vec<u8>) {
    let fields = [1_u64, index, 0x0BAD];
    let bytes = fields.iter().flat_map(|field| field.to_le_bytes());
    (EntryKind::StateCheck, bytes.collect())
}

fn change(step: Step, fates: &[(Member, Fate)]) -> (EntryKind, Vec<u8>) {
    let fates = fates.to_vec();
    let change = MembershipChange { step, fates };
    (EntryKind::ConfChange, change.encode().to_vec())
}

fn append(replica: &mut RecoveringReplica, commit: u64, first: u64, told: &[(EntryKind, Vec<u8>)]) {
    let hard_state = HardState {
        term: Term(4),
        vote: ReplicaId(2),
        commit: LogIndex(commit),
    };
    let entries = told.iter().map(|(kind, data)| EntryRef {
        term: Term(1),
        kind: *kind,
        data,
    });
    let taken = replica.on_append(hard_state, LogIndex(first), entries);
    assert_eq!(taken, Ok(()));
}

/// The copy is made the only one, as the log has it from then on.
fn force(replica: &mut RecoveringReplica, passed_behind: u64, recovery: u128) {
    let copy = replica.describe().expect("it is whole");
    assert_eq!((copy.fault, copy.forced_last), (None, None));
    let force = Force {
        shard: ShardId(0),
        voter: member(1),
        last_index: copy.last_index,
        passed_behind: LogIndex(passed_behind),
        term: Term(copy.term.0 + 1),
        newest: ReplicaId(4),
        epoch: 1,
        recovery,
    };
    let part = force.to_part();
    let PartBody::Append {
        first_index,
        entries,
    } = part.body
    else {
        panic!("an entry is appended");
    };
    let written: Vec<_> = entries
        .iter()
        .map(|entry| EntryRef {
            term: entry.term,
            kind: entry.kind,
            data: &entry.data,
        })
        .collect();
    let taken = replica.on_append(part.hard_state, first_index, written.into_iter());
    assert_eq!(taken, Ok(()));
    assert_eq!(replica.check_end(), Ok(()));
    assert!(!replica.has_peers(), "the others are gone");
    let after = replica.describe().expect("it is whole");
    let last = copy.last_index.next();
    assert_eq!((after.committed, after.last_index), (last, last));
    assert_eq!(after.forced_last, Some(recovery));
    assert_eq!((after.fault, after.groups[0].voters.len()), (None, 1));
}

/// At which revision a key was put.
fn revision_of(replica: &RecoveringReplica, key: &str) -> u64 {
    let state = replica.state.as_ref().expect("it began empty");
    let query = GetQuery {
        namespace: NamespaceId::DEFAULT,
        key: key.as_bytes(),
        at: None,
    };
    let row = state.get(&query).expect("it is of now");
    row.expect("it was put").mod_revision.0
}

/// Three entries are known to be committed and more are not when the other voters are lost. What these had there may
/// have been something else, so nothing here is given its revisions; and no word of a leader holds of what it becomes.
#[test]
fn a_copy_that_is_left_alone_goes_on_with_all_that_it_holds() {
    let mut replica = one_of_three();
    let told = [
        put("/2"),
        put("/3"),
        put("/4"),
        put("/5"),
        word(0),
        put("/7"),
        word(6),
        put("/9"),
        word(8),
    ];
    append(&mut replica, 4, 2, &told);
    let copy = replica.describe().expect("it is whole");
    assert_eq!((copy.term, copy.last_term), (Term(4), Term(1)));
    assert_eq!(
        (copy.committed, copy.last_index),
        (LogIndex(4), LogIndex(10))
    );
    assert_eq!((copy.groups.len(), copy.groups[0].voters.len()), (1, 3));
    let (first_index, term) = (LogIndex(4), Term(1));
    assert_eq!(copy.runs, [TermRun { first_index, term }]);
    force(&mut replica, 4, 77);
    for (key, revision) in [
        ("/2", 1),
        ("/3", 2),
        ("/4", 3),
        ("/5", REVISIONS_PASSED + 4),
        ("/7", REVISIONS_PASSED + 5),
        ("/9", REVISIONS_PASSED + 6),
    ] {
        assert_eq!(revision_of(&replica, key), revision, "{key}");
    }
}

/// Where nothing that was acknowledged can be lost, the revisions that clients were told stay as they are.
#[test]
fn revisions_are_passed_behind_the_entry_that_is_named() {
    let mut replica = one_of_three();
    append(&mut replica, 2, 2, &[put("/2"), put("/3"), put("/4")]);
    force(&mut replica, 4, 77);
    append(&mut replica, 5, 6, &[put("/6")]);
    append(&mut replica, 6, 7, &[put("/7")]);
    // Once more: what the first passed over is not passed again.
    force(&mut replica, 6, 78);
    append(&mut replica, 9, 9, &[put("/9")]);
    for (key, revision) in [
        ("/3", 2),
        ("/4", 3),
        ("/6", REVISIONS_PASSED + 4),
        ("/7", 2 * REVISIONS_PASSED + 5),
        ("/9", 2 * REVISIONS_PASSED + 6),
    ] {
        assert_eq!(revision_of(&replica, key), revision, "{key}");
    }
}

/// Replica 4 takes the place of replica 1, which is left and does not know that this was decided.
#[test]
fn a_copy_that_its_own_undecided_tail_removes_goes_on() {
    let mut replica = one_of_three();
    let told = [
        change(Step::AtOnce, &[(member(4), Fate::Learn)]),
        change(
            Step::EnterJoint,
            &[(member(4), Fate::Vote), (member(1), Fate::Remove)],
        ),
        change(Step::LeaveJoint, &[]),
        put("/5"),
    ];
    append(&mut replica, 3, 2, &told);
    force(&mut replica, 3, 77);
    assert_eq!(revision_of(&replica, "/5"), REVISIONS_PASSED + 1);
}

#[test]
fn what_is_replaced_before_its_hole_is_filled_is_gone() {
    let mut replica = recovering();
    let mut take = |first, count| {
        let taken = replica.on_append(HARD_STATE, LogIndex(first), entries(count));
        assert_eq!(taken, Ok(()));
    };
    take(5, 3);
    take(6, 1);
    let filled = replica.on_rewrite(HARD_STATE, LogIndex(2), entries(3));
    assert_eq!(filled, Ok(()));
    assert_eq!(replica.check_end(), Ok(()));
    assert_eq!(replica.tail.last(), 6);
}

fn config() -> CoreConfig {
    let identity = Identity {
        cluster: ClusterId(7),
        node: NodeId(1),
        core: CoreId(0),
    };
    let location = ShardLocation {
        shard: ShardId(0),
        core: CoreId(0),
    };
    CoreConfig {
        identity,
        cores: 1,
        replicas: vec![(ReplicaId(1), ShardId(0))],
        members: BTreeMap::new(),
        shard_map: ShardMap::split_evenly(vec![location]).expect("a valid map"),
        namespaces: Namespaces::default(),
        settings: Settings::default(),
        log: LogOptions {
            segment_bytes: 1 << 20,
            record_bytes_max: 128 << 10,
            budget_bytes: 8 << 20,
            ..LogOptions::new(identity, SealKey(7))
        },
        parameters: Parameters::default(),
        seed: 1,
        boot: BootNonce(1),
    }
}

/// Entries that are written again come with the commit index of that time. In a replay that would be known before the
/// entry that says behind which of them revisions are passed over.
#[test]
fn nothing_is_written_again_before_a_snapshot_covers_a_force() {
    let config = config();
    for is_forced in [false, true] {
        let buffers = config.log.new_buffers();
        let mut log = Log::new(config.log.clone(), LogStart::empty(), buffers);
        let mut replica = RecoveringReplica::create(
            ReplicaId(1),
            ShardId(0),
            &[member(1), member(2), member(3)],
            Parameters::default(),
            1 << 20,
            &mut log,
        );
        append(&mut replica, 3, 2, &[put("/2"), put("/3")]);
        if is_forced {
            force(&mut replica, 3, 77);
        }
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let started = replica.start(Time::default(), &config, &logger);
        let replica = started.expect("it is whole");
        let holder = Holder {
            replica: ReplicaId(1),
            first_index: LogIndex(2),
            last_index: LogIndex(3),
        };
        let rewritten = replica.rewrite(&mut log, &holder, 1 << 20);
        assert_eq!(rewritten.is_none(), is_forced);
    }
}
