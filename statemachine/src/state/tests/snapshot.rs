//! Exporting and importing, case by case. The random runs are with the model.

use super::*;
use crate::SectionTag;
use crate::row::ROW_BASE_BYTES;
use crate::snapshot::ImportError;
use crate::state::{ExportLimits, ExportProgress, SnapshotExport, SnapshotImport};

mod damage;

/// Bytes of sections, in the order in which they were exported.
pub(super) type Sections = Vec<(SectionTag, Vec<u8>)>;

pub(super) const WHOLE: SliceLimit = SliceLimit {
    rows: u64::MAX,
    bytes: u64::MAX,
    visits: u64::MAX,
};

/// Applies a batch and returns the outcomes as they go over the wire.
pub(super) fn apply(machine: &mut StateMachine, sealed: &[u8]) -> Vec<u8> {
    let mut outcomes = Vec::new();
    machine
        .apply(&Batch::decode(sealed).unwrap(), &mut |outcome| {
            outcome.encode_into(&mut outcomes);
        })
        .unwrap();
    outcomes
}

pub(super) fn append(sections: &mut Sections, section: SectionTag, bytes: &[u8]) {
    match sections.last_mut() {
        Some((last, gathered)) if *last == section => gathered.extend_from_slice(bytes),
        Some(_) | None => sections.push((section, bytes.to_vec())),
    }
}

/// One slice; `false` when the export was finished before.
pub(super) fn export_some(
    machine: &mut StateMachine,
    export: &mut SnapshotExport,
    slice: SliceLimit,
    sections: &mut Sections,
) -> bool {
    let mut out = Vec::new();
    match machine.export_slice(export, slice, &mut out).unwrap() {
        ExportProgress::More { section } => {
            append(sections, section, &out);
            true
        }
        ExportProgress::Finished => {
            assert_eq!(out, b"");
            false
        }
    }
}

/// Exports in one go.
pub(super) fn export_all(machine: &mut StateMachine, slice: SliceLimit) -> Sections {
    let mut sections = Vec::new();
    let mut export = machine.begin_export();
    while export_some(machine, &mut export, slice, &mut sections) {}
    machine.end_export(export);
    sections
}

/// Imports, with every section cut into pieces of `cut_bytes`.
pub(super) fn import(sections: &Sections, cut_bytes: usize) -> Result<StateMachine, ImportError> {
    let mut import = SnapshotImport::new(Parameters::default());
    for (section, bytes) in sections {
        for piece in bytes.chunks(cut_bytes) {
            import.section(*section, piece)?;
        }
    }
    import.finish()
}

/// Everything that can be asked of two states is answered alike.
pub(super) fn assert_same(left: &mut StateMachine, right: &mut StateMachine) {
    assert_eq!(left.parameters, right.parameters);
    assert_eq!(left.shard_time(), right.shard_time());
    assert_eq!(left.state_hash(), right.state_hash());
    assert_eq!(left.key_count(), right.key_count());
    assert_eq!(left.next_change(), right.next_change());
    for position in 0..=left.next_change().0 {
        let position = ChangePosition(position);
        assert_eq!(left.change(position), right.change(position));
    }
    for namespace in [1, 2, 3].map(NamespaceId) {
        assert_eq!(left.revision(namespace), right.revision(namespace));
        assert_eq!(
            left.oldest_revision(namespace),
            right.oldest_revision(namespace)
        );
        for at in
            left.oldest_revision(namespace).0.saturating_sub(1)..=left.revision(namespace).0 + 1
        {
            let at = Some(Revision(at));
            assert_eq!(rows(left, namespace, at), rows(right, namespace, at));
        }
        assert_eq!(rows(left, namespace, None), rows(right, namespace, None));
    }
    // With nothing left that waits to be freed, they take the same memory for the same things.
    for machine in [&mut *left, &mut *right] {
        machine.reclaim(usize::MAX);
    }
    assert_eq!(left.live_bytes, right.live_bytes);
    assert_eq!(left.memory().history_bytes, right.memory().history_bytes);
    assert_eq!(
        left.memory().unanswering_bytes,
        right.memory().unanswering_bytes
    );
    let tombstones = |machine: &StateMachine| -> usize {
        let namespaces = machine.namespaces.values();
        namespaces
            .map(|namespace| {
                let heads = namespace.keys.forward_from(b"");
                heads.filter(|head| head.is_tombstone()).count()
            })
            .sum()
    };
    assert_eq!(tombstones(left), tombstones(right));
}

pub(super) fn rows(
    machine: &StateMachine,
    namespace: NamespaceId,
    at: Option<Revision>,
) -> Result<Vec<Vec<u8>>, ReadError> {
    let query = RangeQuery {
        namespace,
        prefix: b"",
        start: b"",
        end: b"",
        scope: Scope::Subtree,
        delimiter: None,
        direction: Direction::Forward,
        projection: Projection::KeysAndValues,
        at,
        limit: 0,
    };
    let mut rows = Vec::new();
    machine.range(&query, None, None, WHOLE, &mut |row| {
        let mut bytes = Vec::new();
        row.encode_into(&mut bytes);
        rows.push(bytes);
    })?;
    Ok(rows)
}

#[test]
fn an_empty_state_is_a_snapshot_too() {
    let sections = export_all(&mut StateMachine::new(Parameters::default()), WHOLE);
    let mut loaded = import(&sections, 1).unwrap();
    assert_same(&mut loaded, &mut StateMachine::new(Parameters::default()));
}

/// A driver is told to free some in each of its idle turns: it would never rest.
#[test]
fn nothing_is_to_be_freed_while_an_export_holds_all_that_was_forgotten() {
    let mut machine = StateMachine::new(Parameters {
        history_revisions_max: 1,
        ..Parameters::default()
    });
    let put = |machine: &mut StateMachine, number: u64| {
        let value = number.to_le_bytes();
        let put = Command::put(NamespaceId::DEFAULT, b"/a", &value);
        apply(machine, &sealed(&[put], ShardTime(number)));
    };
    put(&mut machine, 1);
    let export = machine.begin_export();
    for number in 2..10 {
        put(&mut machine, number);
    }
    assert!(!machine.has_reclaimable());
    assert_eq!(machine.reclaim(100), 0);
    machine.end_export(export);
    assert!(machine.has_reclaimable());
    assert!(machine.reclaim(100) > 0);
    assert!(!machine.has_reclaimable());
}

/// One namespace is compacted and the other is not: changes stay below what is answered, and transactions and range
/// deletes are among them.
#[test]
fn a_state_that_was_compacted_in_part_is_exported_as_it_is() {
    use crate::structured::{KeyRange, Operation, Structured, Txn};
    let mut shard = Shard::new();
    let apply = |shard: &mut Shard, structured: &Structured<'_>| {
        let value = structured.encode();
        let key = structured.first_named().unwrap_or(b"k");
        shard.apply(&[Command::structured(
            structured.kind(),
            NAMESPACE,
            key,
            &value,
        )]);
    };
    for number in 0..6_u8 {
        shard.put(&[b'd', number], b"1");
        shard.apply(&[Command::put(NamespaceId(9), b"other", b"v")]);
    }
    let put = |key| Operation::Mutation(Command::put(NAMESPACE, key, b"2"));
    let then = vec![put(b"d\x01"), put(b"d\x01"), put(b"e")];
    apply(
        &mut shard,
        &Structured::Txn(Txn {
            then,
            ..Txn::default()
        }),
    );
    let range = KeyRange {
        end: b"d\x03",
        ..KeyRange::subtree(b"d")
    };
    apply(&mut shard, &Structured::DeleteRange(range));
    apply(&mut shard, &Structured::Compact(Revision(4)));
    assert_eq!(shard.machine.oldest_revision(NAMESPACE), Revision(4));
    assert_eq!(shard.machine.oldest_revision(NamespaceId(9)), Revision(0));
    let sections = export_all(&mut shard.machine, WHOLE);
    let mut loaded = import(&sections, 1).unwrap();
    assert_same(&mut loaded, &mut shard.machine);
    let mut other = Shard {
        machine: loaded,
        time: shard.time,
    };
    for shard in [&mut shard, &mut other] {
        apply(shard, &Structured::Compact(Revision(6)));
        shard.apply(&[Command::put(NamespaceId(9), b"other", b"v")]);
    }
    assert_same(&mut other.machine, &mut shard.machine);
}

/// A small state with a past: a key from below the floor, one that was deleted and one that was made since.
fn small() -> Shard {
    let mut shard = Shard::with(Parameters {
        history_revisions_max: 3,
        ..Parameters::default()
    });
    shard.put(b"/a", b"1");
    shard.put(b"/b", b"22");
    shard.time = ShardTime(0x1234);
    shard.put(b"/c", b"333");
    shard.delete(b"/b");
    shard.put(b"/a", b"4444");
    shard
}

#[test]
fn the_items_are_the_bytes_of_the_format() {
    let mut shard = small();
    let hash = shard.machine.state_hash();
    let sections = export_all(&mut shard.machine, WHOLE);
    let mut counters = Vec::new();
    // Time, hash, floor, next; namespaces, live keys, their bytes; parameters.
    let words = [
        0x1234,
        hash,
        3,
        6,
        1,
        2,
        46 + 45,
        3,
        300_000,
        64 << 20,
        1536 << 10,
        4096,
        3584 << 10,
        512,
        2048,
    ];
    for word in words {
        counters.extend_from_slice(&u64::to_le_bytes(word));
    }
    let namespaces = [
        1, 0, 0, 0, 0, 0, 0, 0, // namespace
        5, 0, 0, 0, 0, 0, 0, 0, // revision
        2, 0, 0, 0, 0, 0, 0, 0, // oldest
    ];
    let keys = [
        &[1, 0, 0, 0][..], // namespace
        &row_bytes(b"/a", b"1", 1, 1),
        &[1, 0, 0, 0],
        &row_bytes(b"/b", b"22", 2, 2),
    ];
    let change = |kind: u8, flags: u8, revision: u8| {
        [
            [1, 0, 0, 0, kind, 0, flags, 0],
            [revision, 0, 0, 0, 0, 0, 0, 0],
            [0x34, 0x12, 0, 0, 0, 0, 0, 0],
        ]
        .concat()
    };
    let history = [
        &change(1, 0, 3)[..],
        &row_bytes(b"/c", b"333", 3, 3),
        &change(2, 1, 4),
        &[2, 0, 0, 0, b'/', b'b'],
        &change(1, 0, 5),
        &row_bytes(b"/a", b"4444", 1, 5),
    ];
    let expected = vec![
        (SectionTag::COUNTERS, counters),
        (SectionTag::NAMESPACES, namespaces.to_vec()),
        (SectionTag::KEYS, keys.concat()),
        (SectionTag::HISTORY, history.concat()),
    ];
    assert_eq!(sections, expected);
    assert_same(&mut import(&sections, 7).unwrap(), &mut shard.machine);
}

fn row_bytes(key: &[u8], value: &[u8], create_revision: u64, mod_revision: u64) -> Vec<u8> {
    let row = Row {
        key,
        value,
        create_revision: Revision(create_revision),
        mod_revision: Revision(mod_revision),
        version: if create_revision == mod_revision {
            1
        } else {
            2
        },
        lease: 0,
    };
    let mut bytes = Vec::new();
    row.encode_into(&mut bytes);
    bytes
}

/// A state of so many keys of 1,000 bytes, all of them below the floor but the last.
fn with_keys(count: u8) -> Shard {
    let mut shard = Shard::with(Parameters {
        history_revisions_max: 1,
        ..Parameters::default()
    });
    for key in 0..count {
        shard.put(&[key], &[key; 1000]);
    }
    shard.machine.reclaim(usize::MAX);
    shard
}

const ONE: SliceLimit = SliceLimit {
    rows: 1,
    bytes: 1,
    visits: 1,
};

#[test]
fn an_export_takes_no_notice_of_what_happens_meanwhile() {
    let mut shard = small();
    let before = export_all(&mut shard.machine, WHOLE);
    let mut export = shard.machine.begin_export();
    let mut sections = Vec::new();
    while export_some(&mut shard.machine, &mut export, ONE, &mut sections) {
        for key in [b"/a", b"/b", b"/c", b"/d"] {
            shard.put(key, b"new");
            shard.delete(key);
        }
        shard.machine.reclaim(usize::MAX);
    }
    assert_eq!(sections, before);
    shard.machine.end_export(export);
}

#[test]
fn an_export_holds_an_old_version_of_what_it_has_still_to_read_and_nothing_else() {
    let mut shard = with_keys(100);
    let before = export_all(&mut shard.machine, WHOLE);
    let mut export = shard.machine.begin_export();
    let mut sections = Vec::new();
    let mut held = Vec::new();
    // Counters, and the only change: until it is gathered, the history frees nothing behind it.
    for _ in 0..2 {
        export_some(&mut shard.machine, &mut export, ONE, &mut sections);
    }
    while export_some(&mut shard.machine, &mut export, ONE, &mut sections) {
        for round in 0..3 {
            for key in 0..100 {
                shard.put(&[key], &[round; 1000]);
            }
        }
        shard.machine.reclaim(usize::MAX);
        held.push(shard.machine.memory().unanswering_bytes);
    }
    assert_eq!(sections, before);
    let most = held.iter().copied().max().unwrap();
    assert!(most < 100 * 1200, "{most} bytes: one version of each key");
    let keys_begin = held.iter().position(|bytes| *bytes == most).unwrap();
    assert!(held[keys_begin..].is_sorted_by(|a, b| a >= b), "{held:?}");
    assert_eq!(held.last(), Some(&0));
    shard.machine.end_export(export);
}

#[test]
fn an_export_is_broken_off_at_its_own_limits_and_can_be_begun_anew() {
    let mut shard = with_keys(100);
    shard.machine.set_pin_limits(PinLimits {
        count_max: 2,
        age_ms_max: 10,
        bytes_max: 5_000,
    });
    shard.machine.set_export_limits(ExportLimits {
        age_ms_max: 100,
        bytes_max: 20_000,
    });
    let is_lost = |shard: &mut Shard, export: &mut SnapshotExport| {
        let end = shard.machine.export_slice(export, ONE, &mut Vec::new());
        end == Err(ReadError::PinLost)
    };
    let mut export = shard.machine.begin_export();
    let gathered = (0..3).all(|_| !is_lost(&mut shard, &mut export));
    assert!(gathered, "counters, and the only change");
    for key in 0..10 {
        shard.put(&[key], b"");
    }
    let held_bytes = shard.machine.memory().unanswering_bytes;
    assert!((9_000..20_000).contains(&held_bytes), "{held_bytes}");
    assert!(!is_lost(&mut shard, &mut export), "above the limit of pins");
    for _ in 0..3 {
        let _pin = shard.machine.pin();
    }
    assert_eq!(shard.machine.memory().pin_count, 2);
    assert!(!is_lost(&mut shard, &mut export), "pins make room for pins");
    for key in 10..30 {
        shard.put(&[key], b"");
    }
    assert!(is_lost(&mut shard, &mut export), "above its own limit");
    shard.machine.end_export(export);
    shard.machine.reclaim(usize::MAX);
    shard.put(b"k", b"");
    assert!(shard.machine.memory().unanswering_bytes < 5_000);

    let mut again = shard.machine.begin_export();
    shard.time.0 += 100;
    shard.put(b"k", b"");
    assert!(!is_lost(&mut shard, &mut again));
    shard.time.0 += 1;
    shard.put(b"k", b"");
    assert!(is_lost(&mut shard, &mut again), "too old");
    shard.machine.end_export(again);
    assert_eq!(shard.machine.memory().pin_count, 0);

    let sections = export_all(&mut shard.machine, WHOLE);
    let mut loaded = import(&sections, usize::MAX).unwrap();
    assert_same(&mut loaded, &mut shard.machine);
}

#[test]
fn a_slice_is_as_long_as_its_limit_and_one_item_more_at_most() {
    let mut shard = Shard::new();
    for key in 0..100_u8 {
        shard.put(&[key], &[key; 60]);
    }
    let row = 4 + ROW_BASE_BYTES + 61;
    let limits = [
        (10, u64::MAX, u64::MAX),
        (u64::MAX, 10 * row as u64, u64::MAX),
        (u64::MAX, u64::MAX, 10),
    ];
    for (rows, bytes, visits) in limits {
        let slice = SliceLimit {
            rows,
            bytes,
            visits,
        };
        let mut export = shard.machine.begin_export();
        let mut slices = 0;
        loop {
            let mut out = vec![1];
            let progress = shard
                .machine
                .export_slice(&mut export, slice, &mut out)
                .unwrap();
            assert!(out.len() <= 1 + 11 * (row + 20), "{} bytes", out.len());
            slices += 1;
            if progress == ExportProgress::Finished {
                break;
            }
        }
        assert!((12..=50).contains(&slices), "{slices} slices");
        shard.machine.end_export(export);
    }
}
