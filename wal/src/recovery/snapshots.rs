//! Which snapshot each replica begins with: known before anything is replayed, so that a reader loads it first and
//! passes over the entries that it covers.

use std::collections::BTreeMap;

use super::decision::Plan;
use super::scan::{FileReader, FoundRecord, Scan};
use super::{RecoveredSnapshot, SegmentSource};
use crate::format::{RecordBody, RecordKind, SubHeaderKind};
use crate::ids::{LogIndex, ReplicaId};
use crate::replica::SnapshotPoint;

/// The newest snapshot of every replica that the surviving records leave, lowest replica first.
///
/// The checkpoint of the oldest segment tells of snapshots whose own records were released; after it each record with
/// a snapshot counts. Later checkpoints repeat what the records said, and the replay holds them to it.
pub(super) fn newest<S: SegmentSource>(
    source: &mut S,
    scan: &Scan,
    plan: &Plan,
) -> Result<Vec<RecoveredSnapshot>, S::Error> {
    let mut newest = BTreeMap::new();
    let mut has_base = false;
    for found in plan.surviving.iter().map(|&index| &scan.records[index]) {
        let is_base = found.header.kind == RecordKind::Checkpoint && !has_base;
        has_base |= is_base;
        if is_base || found.moves_snapshots {
            note(source, scan, found, &mut newest)?;
        }
    }
    Ok(newest.into_values().collect())
}

fn note<S: SegmentSource>(
    source: &mut S,
    scan: &Scan,
    found: &FoundRecord,
    newest: &mut BTreeMap<ReplicaId, RecoveredSnapshot>,
) -> Result<(), S::Error> {
    let file = scan
        .file(found.file)
        .expect("a record lies in a file of the scan");
    let length = found.header.record_bytes as usize;
    let bytes = FileReader::of_scanned(source, scan, file).bytes_exactly(found.offset, length)?;
    let Ok(body) = RecordBody::decode(&found.header, &bytes) else {
        // It was intact a moment ago. The replay reads it again and refuses what it then finds.
        return Ok(());
    };
    for (sub_header, payload) in body.parts() {
        let replica = sub_header.replica;
        let names_one = match sub_header.kind {
            SubHeaderKind::Snapshot => true,
            SubHeaderKind::Checkpoint => sub_header.snapshot_index > LogIndex(0),
            SubHeaderKind::Tombstone => {
                newest.remove(&replica);
                false
            }
            SubHeaderKind::Append | SubHeaderKind::Rewrite => false,
        };
        if names_one {
            let snapshot = SnapshotPoint {
                index: sub_header.snapshot_index,
                term: sub_header.snapshot_term,
                members: bytes::Bytes::copy_from_slice(payload),
            };
            newest.insert(
                replica,
                RecoveredSnapshot {
                    replica,
                    shard: sub_header.shard,
                    snapshot,
                },
            );
        }
    }
    Ok(())
}
