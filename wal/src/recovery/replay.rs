//! The second pass: the surviving records again, in order, with their contents.

use std::collections::BTreeMap;

use metastore_bugs::{Mutant, is_planted};

use super::attribution::read_sub_headers;
use super::decision::Plan;
use super::scan::{FileReader, FoundRecord, Scan};
use super::{
    Concerned, Damage, DamageKind, RecoveredReplica, RecoveryError, ReplayEvent, SegmentSource,
};
use crate::format::{
    BodyFault, Entries, RecordBody, RecordKind, Standing, SubHeader, SubHeaderKind,
};
use crate::ids::{LogIndex, RecordSequence, ReplicaId};
use crate::log::placement::{Change, Placements, RecordPlace};
use crate::replica::{ReplicaState, SnapshotPoint};

/// The replicas after the last surviving record.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) replicas: BTreeMap<ReplicaId, ReplicaState>,
    pub(super) placements: Placements,
    /// Records whose sub-headers cannot be read, first and last.
    pub(super) unknown: Vec<(RecordSequence, RecordSequence)>,
    /// Whether the checkpoint of the oldest segment has been read.
    has_base: bool,
}

/// Reads the surviving records again and hands them out.
pub(super) fn replay<S: SegmentSource>(
    source: &mut S,
    scan: &Scan,
    plan: &Plan,
    on_event: &mut dyn FnMut(ReplayEvent<'_>),
) -> Result<Replayed, RecoveryError<S::Error>> {
    let mut replayed = Replayed::default();
    let mut records = plan
        .surviving
        .iter()
        .map(|&index| &scan.records[index])
        .peekable();
    while let Some(first) = records.peek() {
        let file = scan
            .file(first.file)
            .expect("a record lies in a file of the scan");
        let mut reader = FileReader::of_scanned(source, scan, file);
        while let Some(found) = records.next_if(|record| record.file == reader.number()) {
            let bytes = reader
                .bytes(found.offset, found.header.record_bytes as usize)
                .map_err(RecoveryError::Source)?;
            let body = RecordBody::decode(&found.header, bytes);
            replay_record(&mut replayed, found, body, on_event)?;
        }
    }
    if is_planted(Mutant::CommitOfTornRecord) {
        believe_torn_record(source, &mut replayed, (scan, plan), on_event)?;
    }
    check_end(&mut replayed, scan, plan)?;
    Ok(replayed)
}

/// The bug of a start that saves hard states apart from entries: it takes the commit indexes of the first record that is
/// cut off.
fn believe_torn_record<S: SegmentSource>(
    source: &mut S,
    replayed: &mut Replayed,
    (scan, plan): (&Scan, &Plan),
    on_event: &mut dyn FnMut(ReplayEvent<'_>),
) -> Result<(), RecoveryError<S::Error>> {
    let torn = plan.gaps.first().and_then(|gap| gap.found);
    let Some(torn) = torn.map(|index| &scan.records[index]) else {
        return Ok(());
    };
    let sub_headers = read_sub_headers(source, scan, torn).map_err(RecoveryError::Source)?;
    for sub_header in sub_headers.into_iter().flatten() {
        if let Some(state) = replayed.replicas.get_mut(&sub_header.replica) {
            state.hard_state.commit = state.hard_state.commit.max(sub_header.hard_state.commit);
            on_event(ReplayEvent::Append {
                replica: state.replica,
                shard: state.shard,
                hard_state: state.hard_state,
                first_index: state.last_index.next(),
                entries: Entries::check(&[], 0).expect("no entries are well-formed"),
            });
        }
    }
    Ok(())
}

fn replay_record<E>(
    replayed: &mut Replayed,
    found: &FoundRecord,
    body: Result<RecordBody<'_>, BodyFault>,
    on_event: &mut dyn FnMut(ReplayEvent<'_>),
) -> Result<(), RecoveryError<E>> {
    let sequence = found.header.sequence;
    let body = match body {
        Ok(body) => body,
        // It was intact a moment ago: the device does not return the same bytes twice.
        Err(fault) => {
            return Err(corrupt(
                found,
                DamageKind::Body { sequence, fault },
                Vec::new(),
            ));
        }
    };
    if found.header.kind == RecordKind::Checkpoint {
        return replay_checkpoint(replayed, found, &body, on_event);
    }
    for (sub_header, payload) in body.parts() {
        check_committed(replayed, sub_header)?;
        replay_part(replayed, found, sub_header, payload, on_event)
            .map_err(|what| corrupt(found, what, vec![sub_header.shard]))?;
    }
    for (sub_header, _) in body.parts() {
        // Only now: all parts of a replica in one record name the record before it.
        if let Some(state) = replayed.replicas.get_mut(&sub_header.replica) {
            state.previous_sequence = sequence;
        }
    }
    Ok(())
}

/// The first checkpoint is where the replicas come from; each later one must say what the records said.
fn replay_checkpoint<E>(
    replayed: &mut Replayed,
    found: &FoundRecord,
    body: &RecordBody<'_>,
    on_event: &mut dyn FnMut(ReplayEvent<'_>),
) -> Result<(), RecoveryError<E>> {
    let is_first = !std::mem::replace(&mut replayed.has_base, true);
    let mut recorded = BTreeMap::new();
    for (sub_header, members) in body.parts() {
        recorded.insert(
            sub_header.replica,
            ReplicaState::from_checkpoint(sub_header, members),
        );
    }
    for (&replica, state) in &recorded {
        match replayed.replicas.get_mut(&replica) {
            Some(known) => {
                // It may have given up more entries than its records say.
                known.set_first_index(state.first_index);
                if known.checkpoint() != state.checkpoint() || known.snapshot != state.snapshot {
                    let what = DamageKind::CheckpointContradicts {
                        sequence: found.header.sequence,
                        replica,
                    };
                    return Err(corrupt(found, what, vec![state.shard]));
                }
            }
            None if is_first => replayed.placements.insert(replica, state.snapshot.index),
            None => {
                let what = DamageKind::CheckpointContradicts {
                    sequence: found.header.sequence,
                    replica,
                };
                return Err(corrupt(found, what, vec![state.shard]));
            }
        }
    }
    if let Some((&replica, known)) = replayed
        .replicas
        .iter()
        .find(|(replica, _)| !recorded.contains_key(replica))
    {
        let what = DamageKind::CheckpointContradicts {
            sequence: found.header.sequence,
            replica,
        };
        return Err(corrupt(found, what, vec![known.shard]));
    }
    if is_first {
        replayed.replicas = recorded;
    }
    let replicas: Vec<RecoveredReplica> = replayed.replicas.values().map(recovered).collect();
    on_event(ReplayEvent::Checkpoint {
        segment: found.header.segment,
        replicas: &replicas,
    });
    Ok(())
}

/// What a replica has committed is never cut off its log.
fn check_committed<E>(replayed: &Replayed, sub_header: &SubHeader) -> Result<(), RecoveryError<E>> {
    let SubHeader {
        replica,
        shard,
        last_index,
        ..
    } = *sub_header;
    let commit = replayed
        .replicas
        .get(&replica)
        .map_or(LogIndex(0), |state| state.hard_state.commit);
    if commit > last_index {
        return Err(RecoveryError::CommitAboveLast {
            replica,
            shard,
            commit,
            last_index,
        });
    }
    Ok(())
}

fn replay_part(
    replayed: &mut Replayed,
    found: &FoundRecord,
    sub_header: &SubHeader,
    payload: &[u8],
    on_event: &mut dyn FnMut(ReplayEvent<'_>),
) -> Result<(), DamageKind> {
    let sequence = found.header.sequence;
    let SubHeader {
        replica,
        shard,
        hard_state,
        first_index,
        ..
    } = *sub_header;
    let state = replayed
        .replicas
        .entry(replica)
        .or_insert_with(|| ReplicaState::new(replica, shard));
    let follows = state.previous_sequence == sub_header.previous_sequence
        && state.hard_state.term <= hard_state.term
        && state.hard_state.commit <= hard_state.commit;
    if !follows || state.shard != shard {
        return Err(DamageKind::HoleInReplica { sequence, replica });
    }
    let malformed = DamageKind::Body {
        sequence,
        fault: BodyFault::Malformed,
    };
    let mut change = None;
    match sub_header.kind {
        SubHeaderKind::Append => {
            let entries = Entries::check(payload, sub_header.entry_count).ok_or(malformed)?;
            if let Some((first, last)) = sub_header.entry_range() {
                if first <= state.hard_state.commit || first > state.last_index.next() {
                    return Err(DamageKind::HoleInReplica { sequence, replica });
                }
                state.append(first, entries.clone().map(|entry| entry.term));
                change = Some(Change::Append {
                    replica,
                    first,
                    last,
                });
            }
            state.set_hard_state(hard_state);
            on_event(ReplayEvent::Append {
                replica,
                shard,
                hard_state,
                first_index,
                entries,
            });
        }
        SubHeaderKind::Rewrite => {
            let entries = Entries::check(payload, sub_header.entry_count).ok_or(malformed)?;
            if let Some((first, last)) = sub_header.entry_range() {
                state.rewrite(first, entries.clone().map(|entry| entry.term));
                change = Some(Change::Rewrite {
                    replica,
                    first,
                    last,
                });
            }
            state.set_hard_state(hard_state);
            on_event(ReplayEvent::Rewrite {
                replica,
                shard,
                hard_state,
                first_index,
                entries,
            });
        }
        SubHeaderKind::Snapshot => {
            let SubHeader {
                snapshot_index: index,
                snapshot_term: term,
                last_index,
                ..
            } = *sub_header;
            let members = bytes::Bytes::copy_from_slice(payload);
            state.set_snapshot(
                SnapshotPoint {
                    index,
                    term,
                    members,
                },
                first_index,
                last_index,
            );
            state.set_hard_state(hard_state);
            change = Some(Change::Snapshot {
                replica,
                index,
                first: first_index,
                last: last_index,
            });
            on_event(ReplayEvent::Snapshot {
                replica,
                shard,
                hard_state,
                index,
                term,
                members: payload,
                first_index,
                last_index,
            });
        }
        SubHeaderKind::Tombstone => {
            change = Some(Change::Tombstone { replica });
            on_event(ReplayEvent::Tombstone { replica, shard });
        }
        SubHeaderKind::Checkpoint => return Err(malformed),
    }
    if state.last_index != sub_header.last_index {
        return Err(DamageKind::HoleInReplica { sequence, replica });
    }
    if sub_header.kind == SubHeaderKind::Tombstone {
        replayed.replicas.remove(&replica);
    }
    if let Some(change) = change {
        let place = RecordPlace {
            segment: found.header.segment,
            offset: found.offset,
        };
        replayed.placements.apply(place, change);
    }
    Ok(())
}

/// Every entry above a replica's snapshot must have been in a record, and everything committed among them.
fn check_end<E>(replayed: &mut Replayed, scan: &Scan, plan: &Plan) -> Result<(), RecoveryError<E>> {
    let Some(last) = plan.surviving.last().map(|&index| &scan.records[index]) else {
        return Ok(());
    };
    for state in replayed.replicas.values_mut() {
        let ReplicaState {
            replica,
            shard,
            last_index,
            ..
        } = *state;
        assert!(
            state.hard_state.commit <= last_index,
            "no part leaves a replica committed beyond its log"
        );
        let held_from = replayed.placements.first_contiguous(replica, last_index);
        if held_from > state.snapshot.index.next() {
            let what = DamageKind::EntriesMissing {
                replica,
                last: LogIndex(held_from.0 - 1),
            };
            return Err(corrupt(last, what, vec![shard]));
        }
        if state.standing != Standing::Whole {
            let sequence = last.header.sequence;
            return Err(corrupt(
                last,
                DamageKind::WasDamaged { sequence, replica },
                vec![shard],
            ));
        }
        // Entries that were released before a checkpoint could say so.
        state.set_first_index(held_from);
    }
    for (&replica, state) in &replayed.replicas {
        replayed
            .placements
            .set_first_index(replica, state.first_index);
    }
    Ok(())
}

impl Replayed {
    pub(super) fn recovered_replicas(&self) -> Vec<RecoveredReplica> {
        self.replicas.values().map(recovered).collect()
    }
}

pub(super) fn recovered(state: &ReplicaState) -> RecoveredReplica {
    RecoveredReplica {
        replica: state.replica,
        shard: state.shard,
        hard_state: state.hard_state,
        first_index: state.first_index,
        last_index: state.last_index,
        snapshot: state.snapshot.clone(),
        standing: state.standing,
    }
}

fn corrupt<E>(
    found: &FoundRecord,
    what: DamageKind,
    shards: Vec<crate::ids::ShardId>,
) -> RecoveryError<E> {
    let concerned = if shards.is_empty() {
        Concerned::WholeCore {
            proven_intact: Vec::new(),
        }
    } else {
        Concerned::Shards(shards)
    };
    RecoveryError::Corrupt {
        findings: vec![Damage {
            file: Some(found.file),
            offset: found.offset,
            what,
            concerned,
        }],
    }
}
