//! What can be used of a log in spite of its damages, and which replicas lost something.
//!
//! It does **not** mend anything: a replica that lost entries needs a snapshot of another. It tells only those apart whose
//! promises are known from those whose are not.
//!
//! A record names its replicas in sub-headers with checksums of their own, and each of those the replica's record before
//! it. So a hole is noticed by the first record of a replica behind it, and a replica that has none there may have lost its
//! newest record, unless a later checkpoint, which names all of them, says how it stands.

use std::collections::BTreeMap;

use super::decision::Plan;
use super::replay::Replayed;
use super::scan::{FileReader, FoundRecord, Scan};
use super::{
    Concerned, Damage, DamageKind, RecoveredReplica, RecoveredSnapshot, RecoveryError, ReplayEvent,
    SegmentSource,
};
use crate::format::{Entries, RecordBody, RecordKind, Standing, SubHeader, SubHeaderKind};
use crate::ids::{LogIndex, RecordSequence, ReplicaId};
use crate::log::placement::{Change, RecordPlace};
use crate::replica::{ReplicaState, SnapshotPoint};

/// What is known of a replica on the way through the records.
#[derive(Debug)]
struct Known {
    state: ReplicaState,
    /// Whether its beginning was seen, or a checkpoint that tells of it.
    is_based: bool,
    /// Whether its snapshot is known with its members.
    has_snapshot: bool,
    /// The newest record that says how it stands.
    told_at: RecordSequence,
}

/// The first way through the usable records.
struct Salvage {
    known: BTreeMap<ReplicaId, Known>,
    replayed: Replayed,
}

/// Reads the usable records once, finds out how every replica stands, then hands out what those hold that are whole.
pub(super) fn salvage<S: SegmentSource>(
    source: &mut S,
    scan: &Scan,
    plan: &Plan,
    on_event: &mut dyn FnMut(ReplayEvent<'_>),
) -> Result<Replayed, RecoveryError<S::Error>> {
    let mut salvage = Salvage {
        known: BTreeMap::new(),
        replayed: Replayed::default(),
    };
    for_each_record(source, scan, plan, |found, bytes| match RecordBody::decode(
        &found.header,
        bytes,
    ) {
        Ok(body) if found.header.kind == RecordKind::Checkpoint => {
            salvage.on_checkpoint(found, &body)
        }
        Ok(body) => salvage.on_parts(found, &body),
        Err(_damaged) => {
            salvage.on_damaged(found, bytes);
            Ok(())
        }
    })?;
    salvage.settle(plan);
    let replayed = salvage.replayed;
    let snapshots: Vec<RecoveredSnapshot> = whole(&replayed)
        .filter(|state| state.snapshot.index > LogIndex(0))
        .map(|state| RecoveredSnapshot {
            replica: state.replica,
            shard: state.shard,
            snapshot: state.snapshot.clone(),
        })
        .collect();
    on_event(ReplayEvent::Snapshots {
        snapshots: &snapshots,
    });
    for_each_record(source, scan, plan, |found, bytes| {
        match RecordBody::decode(&found.header, bytes) {
            Ok(body) => tell(&replayed, found, &body, on_event),
            Err(_damaged) => tell_promises(&replayed, found, bytes, on_event),
        }
        Ok(())
    })?;
    Ok(replayed)
}

fn whole(replayed: &Replayed) -> impl Iterator<Item = &ReplicaState> {
    let states = replayed.replicas.values();
    states.filter(|state| state.standing == Standing::Whole)
}

fn for_each_record<S: SegmentSource>(
    source: &mut S,
    scan: &Scan,
    plan: &Plan,
    mut on_record: impl FnMut(&FoundRecord, &[u8]) -> Result<(), Damage>,
) -> Result<(), RecoveryError<S::Error>> {
    let mut records = plan
        .salvage
        .records
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
            on_record(found, bytes).map_err(|finding| RecoveryError::Corrupt {
                findings: vec![finding],
            })?;
        }
    }
    Ok(())
}

impl Salvage {
    /// The replica of a part. Where its record before this one is not the last that was seen, it has lost something: what
    /// was committed before that stays, because it is never replaced, and of what follows nobody knows.
    fn meet(&mut self, found: &FoundRecord, head: &SubHeader) -> &mut Known {
        let known = self.known.entry(head.replica).or_insert_with(|| Known {
            state: ReplicaState::new(head.replica, head.shard),
            is_based: head.previous_sequence == RecordSequence(0),
            has_snapshot: false,
            told_at: RecordSequence(0),
        });
        if known.state.previous_sequence != head.previous_sequence {
            let certain = known.state.hard_state.commit;
            known.state.forget_behind(certain);
            self.replayed
                .placements
                .forget_from(head.replica, certain.next());
        }
        known.told_at = found.header.sequence;
        known
    }

    fn on_parts(&mut self, found: &FoundRecord, body: &RecordBody<'_>) -> Result<(), Damage> {
        for (head, payload) in body.parts() {
            self.on_part(found, head, payload)?;
        }
        self.end_record(found, body.parts().map(|(head, _)| head.replica));
        Ok(())
    }

    fn end_record(&mut self, found: &FoundRecord, replicas: impl Iterator<Item = ReplicaId>) {
        for replica in replicas {
            // Only now: all parts of a replica in one record name the record before it.
            if let Some(known) = self.known.get_mut(&replica) {
                known.state.previous_sequence = found.header.sequence;
            }
        }
    }

    fn on_part(
        &mut self,
        found: &FoundRecord,
        head: &SubHeader,
        payload: &[u8],
    ) -> Result<(), Damage> {
        let replica = head.replica;
        let known = self.meet(found, head);
        let state = &mut known.state;
        let goes_back = head.hard_state.term < state.hard_state.term || state.shard != head.shard;
        if goes_back {
            let sequence = found.header.sequence;
            return Err(damage(
                found,
                DamageKind::HoleInReplica { sequence, replica },
                head,
            ));
        }
        let malformed = || {
            let what = DamageKind::Body {
                sequence: found.header.sequence,
                fault: crate::format::BodyFault::Malformed,
            };
            damage(found, what, head)
        };
        let change = match head.kind {
            SubHeaderKind::Append => {
                let entries = Entries::check(payload, head.entry_count).ok_or_else(malformed)?;
                head.entry_range().map(|(first, last)| {
                    state.append(first, entries.map(|entry| entry.term));
                    Change::Append {
                        replica,
                        first,
                        last,
                    }
                })
            }
            SubHeaderKind::Rewrite => {
                let entries = Entries::check(payload, head.entry_count).ok_or_else(malformed)?;
                head.entry_range().map(|(first, last)| {
                    state.rewrite(first, entries.map(|entry| entry.term));
                    Change::Rewrite {
                        replica,
                        first,
                        last,
                    }
                })
            }
            SubHeaderKind::Snapshot => {
                let snapshot = SnapshotPoint {
                    index: head.snapshot_index,
                    term: head.snapshot_term,
                    members: bytes::Bytes::copy_from_slice(payload),
                };
                state.set_snapshot(snapshot, head.first_index, head.last_index);
                state.standing = Standing::Whole;
                known.has_snapshot = true;
                Some(Change::Snapshot {
                    replica,
                    index: head.snapshot_index,
                    first: head.first_index,
                    last: head.last_index,
                })
            }
            SubHeaderKind::Tombstone => Some(Change::Tombstone { replica }),
            SubHeaderKind::Checkpoint => return Err(malformed()),
        };
        state.last_index = head.last_index;
        state.set_hard_state(head.hard_state);
        if let Some(change) = change {
            let place = RecordPlace {
                segment: found.header.segment,
                offset: found.offset,
            };
            self.replayed.placements.apply(place, change);
        }
        if head.kind == SubHeaderKind::Tombstone {
            self.known.remove(&replica);
        }
        Ok(())
    }

    /// The body of a record is damaged. Those of its sub-headers that can be read say what was lost.
    fn on_damaged(&mut self, found: &FoundRecord, bytes: &[u8]) {
        let heads = RecordBody::sub_headers_of(&found.header, bytes);
        for head in heads.iter().flatten() {
            if head.kind == SubHeaderKind::Checkpoint {
                self.on_damaged_checkpoint(found, head);
                continue;
            }
            let known = self.meet(found, head);
            let state = &mut known.state;
            match head.kind {
                SubHeaderKind::Append => {
                    if let Some((first, _)) = head.entry_range() {
                        state.forget_behind(LogIndex(first.0 - 1));
                        self.replayed.placements.forget_from(head.replica, first);
                    }
                }
                SubHeaderKind::Snapshot => {
                    known.has_snapshot = false;
                    state.forget_behind(LogIndex(0));
                    self.replayed
                        .placements
                        .forget_from(head.replica, LogIndex(0));
                }
                // The older copies are there still, or they are missed in the end.
                SubHeaderKind::Rewrite => {}
                SubHeaderKind::Tombstone => {
                    self.known.remove(&head.replica);
                    continue;
                }
                SubHeaderKind::Checkpoint => unreachable!("it was treated above"),
            }
            let known = self.known.get_mut(&head.replica);
            let state = &mut known.expect("it was just met").state;
            state.last_index = head.last_index;
            state.set_hard_state(head.hard_state);
        }
        let replicas = heads.iter().flatten().filter_map(|head| {
            let is_part = head.kind != SubHeaderKind::Checkpoint;
            is_part.then_some(head.replica)
        });
        self.end_record(found, replicas);
        if heads.iter().any(Option::is_none)
            || heads.len() != found.header.sub_header_count as usize
        {
            let sequence = found.header.sequence;
            self.replayed.unknown.push((sequence, sequence));
        }
    }

    fn on_damaged_checkpoint(&mut self, found: &FoundRecord, head: &SubHeader) {
        let known = self.known.entry(head.replica).or_insert_with(|| Known {
            state: ReplicaState::from_checkpoint(head, &[]),
            is_based: true,
            has_snapshot: false,
            told_at: RecordSequence(0),
        });
        known.told_at = found.header.sequence;
        if known.state.previous_sequence != head.previous_sequence {
            // It says how the replica stands, and not with which members its snapshot was taken.
            let certain = known.state.hard_state.commit;
            let before =
                std::mem::replace(&mut known.state, ReplicaState::from_checkpoint(head, &[]));
            known.has_snapshot &= before.snapshot.index == head.snapshot_index;
            known.state.keep_terms_of(before, certain);
            self.replayed
                .placements
                .forget_from(head.replica, certain.next());
        }
    }

    fn on_checkpoint(&mut self, found: &FoundRecord, body: &RecordBody<'_>) -> Result<(), Damage> {
        let mut named = Vec::new();
        for (head, members) in body.parts() {
            let replica = head.replica;
            named.push(replica);
            let stated = ReplicaState::from_checkpoint(head, members);
            let Some(known) = self.known.get_mut(&replica) else {
                self.replayed
                    .placements
                    .insert(replica, stated.snapshot.index);
                self.known.insert(
                    replica,
                    Known {
                        state: stated,
                        is_based: true,
                        has_snapshot: true,
                        told_at: found.header.sequence,
                    },
                );
                continue;
            };
            known.told_at = found.header.sequence;
            // It may have given up more entries than its records say.
            known.state.set_first_index(stated.first_index);
            let is_same_record = known.state.previous_sequence == stated.previous_sequence;
            let is_same = known.state.hard_state == stated.hard_state
                && known.state.last_index == stated.last_index;
            if is_same_record && known.is_based && !is_same {
                let sequence = found.header.sequence;
                let what = DamageKind::CheckpointContradicts { sequence, replica };
                return Err(damage(found, what, head));
            }
            let certain = match is_same_record {
                true => known.state.last_index,
                false => known.state.hard_state.commit,
            };
            let before = std::mem::replace(&mut known.state, stated);
            known.state.keep_terms_of(before, certain);
            (known.is_based, known.has_snapshot) = (true, true);
            let placements = &mut self.replayed.placements;
            placements.forget_from(replica, certain.next());
            placements.set_snapshot_index(replica, known.state.snapshot.index);
            if known.state.standing != Standing::Whole {
                placements.forget_from(replica, LogIndex(0));
            }
        }
        // What is not named was removed in the hole.
        let gone: Vec<ReplicaId> = self
            .known
            .keys()
            .filter(|replica| !named.contains(replica))
            .copied()
            .collect();
        for replica in gone {
            self.known.remove(&replica);
            self.replayed.placements.remove(replica);
        }
        Ok(())
    }

    /// How each replica stands in the end.
    fn settle(&mut self, plan: &Plan) {
        let unknown = plan.salvage.unknown.iter().chain(&self.replayed.unknown);
        let unknown_last = unknown.map(|&(_, last)| last).max();
        for (replica, known) in std::mem::take(&mut self.known) {
            let Known { mut state, .. } = known;
            let held_from = self
                .replayed
                .placements
                .first_contiguous(replica, state.last_index);
            // One that waits to join has none, and nothing else either.
            let is_joining = (state.snapshot.index, state.last_index) == (LogIndex(0), LogIndex(0));
            let has_all = known.is_based
                && (known.has_snapshot || is_joining)
                && held_from <= state.snapshot.index.next()
                && state.hard_state.commit <= state.last_index;
            let may_have_promised = unknown_last.is_some_and(|last| known.told_at <= last);
            state.standing = match state.standing {
                _ if may_have_promised => Standing::Lost,
                Standing::Whole if has_all => Standing::Whole,
                Standing::Whole | Standing::Damaged => Standing::Damaged,
                Standing::Lost => Standing::Lost,
            };
            if state.standing == Standing::Whole {
                state.set_first_index(held_from);
                self.replayed
                    .placements
                    .set_first_index(replica, state.first_index);
            } else {
                // Nothing of it is of use: what it holds is replaced as a whole, or never.
                self.replayed.placements.forget_from(replica, LogIndex(0));
            }
            self.replayed.replicas.insert(replica, state);
        }
    }
}

/// Hands out the promises in a damaged record of replicas that have all the same whatever it held.
fn tell_promises(
    replayed: &Replayed,
    found: &FoundRecord,
    bytes: &[u8],
    on_event: &mut dyn FnMut(ReplayEvent<'_>),
) {
    for head in RecordBody::sub_headers_of(&found.header, bytes)
        .iter()
        .flatten()
        .filter(|head| is_whole(replayed, head.replica))
    {
        let has_promises = match head.kind {
            SubHeaderKind::Append | SubHeaderKind::Rewrite | SubHeaderKind::Snapshot => true,
            SubHeaderKind::Tombstone | SubHeaderKind::Checkpoint => false,
        };
        if has_promises {
            on_event(ReplayEvent::Append {
                replica: head.replica,
                shard: head.shard,
                hard_state: head.hard_state,
                first_index: head.last_index.next(),
                entries: Entries::check(&[], 0).expect("nothing is no entry"),
            });
        }
    }
}

fn is_whole(replayed: &Replayed, replica: ReplicaId) -> bool {
    let state = replayed.replicas.get(&replica);
    state.is_some_and(|state| state.standing == Standing::Whole)
}

/// Hands out what a record says of replicas that are whole.
fn tell(
    replayed: &Replayed,
    found: &FoundRecord,
    body: &RecordBody<'_>,
    on_event: &mut dyn FnMut(ReplayEvent<'_>),
) {
    if found.header.kind == RecordKind::Checkpoint {
        let heads = body
            .parts()
            .filter(|(head, _)| is_whole(replayed, head.replica));
        let replicas: Vec<RecoveredReplica> = heads
            .map(|(head, members)| {
                super::replay::recovered(&ReplicaState::from_checkpoint(head, members))
            })
            .collect();
        on_event(ReplayEvent::Checkpoint {
            segment: found.header.segment,
            replicas: &replicas,
        });
        return;
    }
    for (head, payload) in body
        .parts()
        .filter(|(head, _)| is_whole(replayed, head.replica))
    {
        let SubHeader {
            replica,
            shard,
            hard_state,
            first_index,
            last_index,
            ..
        } = *head;
        let entries = || {
            let entries = Entries::check(payload, head.entry_count);
            entries.expect("the first way through found them")
        };
        on_event(match head.kind {
            SubHeaderKind::Append => ReplayEvent::Append {
                replica,
                shard,
                hard_state,
                first_index,
                entries: entries(),
            },
            SubHeaderKind::Rewrite => ReplayEvent::Rewrite {
                replica,
                shard,
                hard_state,
                first_index,
                entries: entries(),
            },
            SubHeaderKind::Snapshot => ReplayEvent::Snapshot {
                replica,
                shard,
                hard_state,
                index: head.snapshot_index,
                term: head.snapshot_term,
                members: payload,
                first_index,
                last_index,
            },
            SubHeaderKind::Tombstone => ReplayEvent::Tombstone { replica, shard },
            SubHeaderKind::Checkpoint => continue,
        });
    }
}

fn damage(found: &FoundRecord, what: DamageKind, head: &SubHeader) -> Damage {
    Damage {
        file: Some(found.file),
        offset: found.offset,
        what,
        concerned: Concerned::Shards(vec![head.shard]),
    }
}
