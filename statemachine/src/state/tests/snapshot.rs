//! Exporting and importing, case by case. The random runs are with the model.

use super::*;
use crate::SectionTag;
use crate::snapshot::ImportError;
use crate::state::{ExportProgress, SnapshotExport, SnapshotImport};

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
    machine: &StateMachine,
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
