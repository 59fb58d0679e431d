//! Random histories with crashes in them, against a model: nothing durable is lost, nothing is invented.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::buffer::LogBuffer;
use crate::format::{
    BLOCK_BYTES, BodyFault, RecordEncoder, RecordFields, RecordKind, Standing, SubHeader,
    SubHeaderKind,
};
use crate::recovery::{DamageKind, Decision, Recovered, RecoveryError};
use crate::testing::{Disk, IDENTITY, Machine, Model, ModelReplica, SEAL};
use crate::{
    Entry, EntryKind, FileNumber, HardState, LogIndex, LogOptions, Part, PartBody, Position,
    RecordSequence, RecoveryEpoch, ReplicaId, SegmentSequence, ShardId, Term,
};

/// What is torn off or mixed up when power is lost: the unit that a device writes at once.
const SECTOR_BYTES: usize = 512;

/// One step of a history. The numbers are interpreted by what the model holds.
#[derive(Clone, Debug)]
enum Step {
    Append {
        replica: u8,
        back: u8,
        entries: Vec<u16>,
        new_term: bool,
    },
    HardState {
        replica: u8,
        new_term: bool,
    },
    OwnSnapshot {
        replica: u8,
        index: u8,
    },
    ReceivedSnapshot {
        replica: u8,
        ahead: u8,
    },
    Tombstone {
        replica: u8,
    },
    GiveUp {
        replica: u8,
        index: u8,
    },
    Rewrite,
    Collect,
    Complete {
        pending: u8,
    },
    Settle,
    Idle,
    Crash {
        seed: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let entries = prop::collection::vec(0..6000_u16, 0..5);
    let step = prop_oneof![
        8 => (any::<u8>(), 0..4_u8, entries, prop::bool::weighted(0.2))
            .prop_map(|(replica, back, entries, new_term)| Step::Append { replica, back, entries, new_term }),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(replica, new_term)| Step::HardState { replica, new_term }),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(replica, index)| Step::OwnSnapshot { replica, index }),
        1 => (any::<u8>(), 0..6_u8).prop_map(|(replica, ahead)| Step::ReceivedSnapshot { replica, ahead }),
        1 => any::<u8>().prop_map(|replica| Step::Tombstone { replica }),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(replica, index)| Step::GiveUp { replica, index }),
        3 => Just(Step::Rewrite),
        6 => Just(Step::Collect),
        6 => any::<u8>().prop_map(|pending| Step::Complete { pending }),
        4 => Just(Step::Settle),
        2 => Just(Step::Idle),
        3 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
    ];
    prop::collection::vec(step, 1..80)
}

/// A log, and every state that it may be found in.
struct History {
    options: LogOptions,
    machine: Machine,
    /// What the log holds once everything staged is durable.
    newest: Model,
    /// The states after each staged part and each prefix of it, with the newest position that is complete in it.
    states: Vec<(Position, Model)>,
    next_replica: u64,
    crashes: u64,
}

impl History {
    fn new(writes_in_flight_max: usize) -> Self {
        let options = LogOptions {
            segment_bytes: 8 * BLOCK_BYTES as u64,
            record_bytes_max: 3 * BLOCK_BYTES,
            budget_bytes: 96 * BLOCK_BYTES as u64,
            spare_segments: 2,
            writes_in_flight_max,
            ..LogOptions::new(IDENTITY, SEAL)
        };
        let machine = Machine::fresh(options.clone());
        let states = vec![(Position(0), Model::default())];
        Self {
            options,
            machine,
            newest: Model::default(),
            states,
            next_replica: 1,
            crashes: 0,
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Append {
                replica,
                back,
                entries,
                new_term,
            } => self.append(*replica, *back, entries, *new_term),
            Step::HardState { replica, new_term } => self.append(*replica, 0, &[], *new_term),
            Step::OwnSnapshot { replica, index } => self.own_snapshot(*replica, *index),
            Step::ReceivedSnapshot { replica, ahead } => self.received_snapshot(*replica, *ahead),
            Step::Tombstone { replica } => self.tombstone(*replica),
            Step::GiveUp { replica, index } => self.give_up(*replica, *index),
            Step::Rewrite => self.rewrite(),
            Step::Collect => self.machine.collect(),
            Step::Complete { pending } => {
                let count = self.machine.pending.len();
                if count > 0 {
                    self.machine.complete(usize::from(*pending) % count);
                }
            }
            Step::Settle => self.machine.settle(),
            Step::Idle => {
                self.machine.log.on_idle();
                self.machine.collect();
            }
            Step::Crash { seed } => self.crash(*seed),
        }
    }

    /// An existing replica.
    fn pick(&self, choice: u8) -> Option<ReplicaId> {
        let mut known = self.newest.replicas.keys();
        known
            .nth(usize::from(choice) % self.newest.replicas.len().max(1))
            .copied()
    }

    /// An existing replica, or a new one while there are few.
    fn pick_or_create(&mut self, choice: u8) -> ReplicaId {
        let known = self.newest.replicas.keys().nth(usize::from(choice) % 4);
        known.copied().unwrap_or_else(|| {
            let replica = ReplicaId(self.next_replica);
            self.next_replica += 1;
            self.newest
                .replicas
                .insert(replica, ModelReplica::default());
            replica
        })
    }

    fn stage(&mut self, replica: ReplicaId, hard_state: HardState, body: PartBody) {
        let shard = ShardId(u32::try_from(replica.0).unwrap() + 100);
        let position = self.machine.log.stage(Part {
            replica,
            shard,
            hard_state,
            body,
        });
        self.states.push((position, self.newest.clone()));
    }

    fn append(&mut self, choice: u8, back: u8, lengths: &[u16], new_term: bool) {
        let replica = self.pick_or_create(choice);
        let state = self.newest.replicas.get_mut(&replica).unwrap();
        let before = state.hard_state;
        let term = Term(before.term.0.max(1) + u64::from(new_term));
        let vote = if term == before.term {
            before.vote
        } else {
            ReplicaId(term.0 % 3)
        };
        let last = last_index(state);
        let first = (last + 1)
            .saturating_sub(u64::from(back))
            .max(before.commit.0 + 1);
        let entries: Vec<Entry> = (0_u64..)
            .zip(lengths)
            .map(|(offset, &length)| {
                let fill = (replica.0 * 31 + term.0 * 7 + first + offset) as u8;
                let kind = if length % 7 == 0 {
                    EntryKind::ConfChange
                } else {
                    EntryKind::Normal
                };
                Entry {
                    term,
                    kind,
                    data: Bytes::from(vec![fill; usize::from(length)]),
                }
            })
            .collect();
        let last_after = if entries.is_empty() {
            last
        } else {
            first + entries.len() as u64 - 1
        };
        let commit = LogIndex(before.commit.0 + (last_after - before.commit.0) / 2);
        let hard_state = HardState { term, vote, commit };
        // A part may reach the disk in pieces: each prefix is a state that a crash may leave.
        let complete = Position(self.states.last().unwrap().0.0);
        if !entries.is_empty() {
            state.entries.split_off(&first);
        }
        for (index, entry) in (first..).zip(&entries) {
            let state = self.newest.replicas.get_mut(&replica).unwrap();
            state.entries.insert(index, entry.clone());
            state.hard_state = HardState {
                commit: LogIndex(commit.0.min(index).max(before.commit.0)),
                ..hard_state
            };
            self.states.push((complete, self.newest.clone()));
        }
        self.newest.replicas.get_mut(&replica).unwrap().hard_state = hard_state;
        self.stage(
            replica,
            hard_state,
            PartBody::Append {
                first_index: LogIndex(first),
                entries,
            },
        );
    }

    fn own_snapshot(&mut self, choice: u8, index: u8) {
        let Some(replica) = self.pick(choice) else {
            return;
        };
        let state = self.newest.replicas.get_mut(&replica).unwrap();
        let committed = state.hard_state.commit.0 - state.snapshot.0.0;
        if committed == 0 {
            return;
        }
        let index = state.snapshot.0.0 + 1 + u64::from(index) % committed;
        let term = state.entries[&index].term;
        self.take_snapshot(replica, index, term);
    }

    fn received_snapshot(&mut self, choice: u8, ahead: u8) {
        let Some(replica) = self.pick(choice) else {
            return;
        };
        let state = self.newest.replicas.get_mut(&replica).unwrap();
        let index = state.hard_state.commit.0 + 1 + u64::from(ahead);
        // A term of its own: the entries that the replica holds there, if any, are another leader's.
        let term = Term(state.hard_state.term.0 + 1);
        state.hard_state.term = term;
        state.hard_state.vote = ReplicaId(0);
        state.entries.clear();
        self.take_snapshot(replica, index, term);
    }

    fn take_snapshot(&mut self, replica: ReplicaId, index: u64, term: Term) {
        let members = Bytes::from(vec![index as u8; index as usize % 50]);
        let state = self.newest.replicas.get_mut(&replica).unwrap();
        state.snapshot = (LogIndex(index), term);
        state.members = members.clone();
        state.hard_state.commit = state.hard_state.commit.max(LogIndex(index));
        let hard_state = state.hard_state;
        self.stage(
            replica,
            hard_state,
            PartBody::Snapshot {
                index: LogIndex(index),
                term,
                members,
            },
        );
    }

    fn tombstone(&mut self, choice: u8) {
        let Some(replica) = self.pick(choice) else {
            return;
        };
        let state = self.newest.replicas.remove(&replica).unwrap();
        self.stage(replica, state.hard_state, PartBody::Tombstone);
    }

    /// Entries that a durable snapshot covers are not needed any more.
    fn give_up(&mut self, choice: u8, index: u8) {
        let durable = self.machine.durable;
        let state = self
            .states
            .iter()
            .rev()
            .find(|(position, _)| *position <= durable);
        let replicas = &state.unwrap().1.replicas;
        let known: Vec<ReplicaId> = replicas.keys().copied().collect();
        if let Some(&replica) = known.get(usize::from(choice) % known.len().max(1))
            && replicas[&replica].snapshot.0.0 > 0
        {
            let snapshot_index = replicas[&replica].snapshot.0.0;
            let kept = u64::from(index % 4);
            self.machine
                .log
                .set_first_index(replica, LogIndex(snapshot_index.saturating_sub(kept) + 1));
        }
    }

    /// Moves everything out of the oldest segment.
    fn rewrite(&mut self) {
        for holder in self.machine.log.oldest_holders() {
            let Some(state) = self.newest.replicas.get(&holder.replica) else {
                continue;
            };
            let range = holder.first_index.0..=holder.last_index.0;
            let held: BTreeMap<u64, Entry> = state
                .entries
                .range(range)
                .map(|(&index, entry)| (index, entry.clone()))
                .collect();
            // Of what was given up only the newest entries may be left.
            let contiguous: Vec<(u64, Entry)> = held
                .into_iter()
                .rev()
                .scan(None, |expected: &mut Option<u64>, (index, entry)| {
                    let follows = expected.is_none_or(|expected| expected == index);
                    *expected = Some(index - 1);
                    follows.then_some((index, entry))
                })
                .collect();
            let Some(&(first, _)) = contiguous.last() else {
                continue;
            };
            let entries: Vec<Entry> = contiguous
                .into_iter()
                .rev()
                .map(|(_, entry)| entry)
                .collect();
            let hard_state = state.hard_state;
            for _ in 1..entries.len() {
                self.states
                    .push((self.states.last().unwrap().0, self.newest.clone()));
            }
            self.stage(
                holder.replica,
                hard_state,
                PartBody::Rewrite {
                    first_index: LogIndex(first),
                    entries,
                },
            );
        }
    }

    /// Power is lost: of each pending write any sectors may have arrived.
    fn crash(&mut self, seed: u64) {
        let mut random = seed;
        let mut disk = self.machine.disk.clone();
        for pending in &self.machine.pending {
            let bytes = pending.buffer.as_slice();
            let style = next_random(&mut random) % 4;
            let boundary = next_random(&mut random) as usize % (bytes.len() / SECTOR_BYTES + 1);
            let target = disk.target(pending.place, bytes.len());
            for (sector, new) in bytes.chunks(SECTOR_BYTES).enumerate() {
                let arrives = match style {
                    0 => false,
                    1 => true,
                    2 => sector < boundary,
                    _ => next_random(&mut random).is_multiple_of(2),
                };
                if arrives {
                    target[sector * SECTOR_BYTES..][..new.len()].copy_from_slice(new);
                }
            }
        }
        let (recovered, found) = disk.replay().unwrap_or_else(|error| panic!("{error:?}"));
        self.check(&recovered, &found);
        self.crashes += 1;
        self.machine = Machine::start(self.options.clone(), recovered.start.clone(), disk);
        self.newest = found;
        for replica in &recovered.replicas {
            let state = self.newest.replicas.get_mut(&replica.replica).unwrap();
            state
                .entries
                .retain(|&index, _| index >= replica.first_index.0);
            assert_eq!(last_index(state), replica.last_index.0);
            assert!(replica.first_index <= replica.snapshot.index.next());
        }
        self.states = vec![(Position(0), self.newest.clone())];
    }

    /// What was found is one of the states after the newest durable part.
    fn check(&self, recovered: &Recovered, found: &Model) {
        assert_ne!(recovered.decision, Decision::Corrupt);
        let mut possible = self
            .states
            .iter()
            .filter(|(complete, _)| *complete >= self.machine.durable);
        let is_found = possible.any(|(_, state)| is_same(state, found));
        assert!(
            is_found,
            "durable up to {:?}, found {found:?}\nrecovered {recovered:?}",
            self.machine.durable
        );
    }
}

/// Entries that a snapshot covers need not be there; everything else must be the same.
fn is_same(expected: &Model, found: &Model) -> bool {
    let is_same_replica = |(expected, found): (&ModelReplica, &ModelReplica)| {
        let above = |replica: &ModelReplica| -> Vec<(u64, Entry)> {
            let needed = replica.entries.range(replica.snapshot.0.0 + 1..);
            needed
                .map(|(&index, entry)| (index, entry.clone()))
                .collect()
        };
        let covered_agree = found.entries.iter().all(|(index, entry)| {
            expected
                .entries
                .get(index)
                .is_none_or(|expected| expected == entry)
        });
        expected.hard_state == found.hard_state
            && expected.snapshot == found.snapshot
            && expected.members == found.members
            && above(expected) == above(found)
            && covered_agree
    };
    expected.replicas.len() == found.replicas.len()
        && expected.replicas.keys().eq(found.replicas.keys())
        && expected
            .replicas
            .values()
            .zip(found.replicas.values())
            .all(is_same_replica)
}

fn last_index(replica: &ModelReplica) -> u64 {
    replica
        .entries
        .keys()
        .next_back()
        .copied()
        .unwrap_or(0)
        .max(replica.snapshot.0.0)
}

/// A step of a linear congruential generator; its upper bits are good enough to tear a write.
fn next_random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn what_is_found_after_any_crash_is_what_was_written_up_to_some_point_after_the_durable_one() {
    let config = ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let crashes = std::cell::Cell::new(0);
    let outcome = runner.run(&(1..4_usize, steps()), |(writes_in_flight_max, steps)| {
        let mut history = History::new(writes_in_flight_max);
        for step in &steps {
            history.run(step);
        }
        history.crash(steps.len() as u64);
        // What is found once is found again, and the log goes on from there.
        history.machine.settle();
        history.crash(1);
        crashes.set(crashes.get() + history.crashes);
        Ok(())
    });
    outcome.unwrap();
    assert!(crashes.get() > 1000, "{} crashes", crashes.get());
}

/// Numbers at which arithmetic goes wrong, and some that fit the log they are put into.
fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![12 => 0..3_u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => any::<u64>()]
}

prop_compose! {
    fn any_sub_header()(
        kind in prop_oneof![
            Just(SubHeaderKind::Append), Just(SubHeaderKind::Rewrite), Just(SubHeaderKind::Snapshot),
            Just(SubHeaderKind::Tombstone), Just(SubHeaderKind::Checkpoint),
        ],
        (replica, shard) in prop_oneof![Just((1, 101)), Just((2, 102)), (edge(), any::<u32>())],
        (entry_count, payload_bytes) in prop_oneof![Just((0, 0)), Just((1, 17)), (any::<u32>(), 0..40_u32)],
        (term, vote, commit) in (edge(), edge(), edge()),
        (first, last, previous) in (edge(), edge(), edge()),
        (snapshot_index, snapshot_term) in (edge(), edge()),
    ) -> SubHeader {
        SubHeader {
            standing: Standing::Whole,
            kind,
            replica: ReplicaId(replica),
            shard: ShardId(shard),
            entry_count,
            hard_state: HardState { term: Term(term), vote: ReplicaId(vote), commit: LogIndex(commit) },
            first_index: LogIndex(first),
            last_index: LogIndex(last),
            payload_bytes,
            previous_sequence: RecordSequence(previous),
            snapshot_index: LogIndex(snapshot_index),
            snapshot_term: Term(snapshot_term),
        }
    }
}

/// A record with right checksums and senseless contents, as a faulty program would write it: recovery says what it
/// thinks of it, and does not stop the process.
#[test]
fn no_contents_make_recovery_panic() {
    let config = ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let malformed = std::cell::Cell::new(0);
    let others = std::cell::Cell::new(0);
    let records = prop::collection::vec(
        (prop::collection::vec(any_sub_header(), 0..3), any::<bool>()),
        1..4,
    );
    let outcome = runner.run(
        &(records, any::<bool>()),
        |(records, begins_with_checkpoint)| {
            let mut disk = Disk::new();
            let mut bytes = Vec::new();
            let mut previous_digest = 0;
            for (sequence, (sub_headers, is_checkpoint)) in (1..).zip(&records) {
                let is_checkpoint = if sequence == 1 {
                    begins_with_checkpoint
                } else {
                    *is_checkpoint
                };
                let fields = RecordFields {
                    seal: SEAL,
                    identity: IDENTITY,
                    kind: if is_checkpoint {
                        RecordKind::Checkpoint
                    } else {
                        RecordKind::Parts
                    },
                    segment: SegmentSequence(1),
                    sequence: RecordSequence(sequence),
                    oldest_live_segment: SegmentSequence(1),
                    epoch: RecoveryEpoch(1),
                    cut: RecordSequence(0),
                    watermark: RecordSequence(sequence - 1),
                    previous_digest,
                };
                let buffer = LogBuffer::new(0, 2 * BLOCK_BYTES);
                let mut encoder = RecordEncoder::new(buffer, fields, sub_headers);
                for sub_header in sub_headers {
                    // One entry of one byte, and zeros beyond it, which are entries too.
                    let mut payload = [0; 40];
                    payload[8] = 1;
                    encoder.push_bytes(&payload[..sub_header.payload_bytes as usize]);
                }
                let (buffer, digest) = encoder.finish();
                previous_digest = digest;
                bytes.extend_from_slice(buffer.as_slice());
            }
            disk.files.insert(FileNumber(1), bytes);
            match disk.recover() {
                Err(RecoveryError::Corrupt { findings })
                    if matches!(
                        findings[0].what,
                        DamageKind::Body {
                            fault: BodyFault::Malformed,
                            ..
                        }
                    ) =>
                {
                    malformed.set(malformed.get() + 1);
                }
                Ok(_)
                | Err(RecoveryError::Corrupt { .. } | RecoveryError::CommitAboveLast { .. }) => {
                    others.set(others.get() + 1);
                }
                Err(error) => panic!("{error:?}"),
            }
            Ok(())
        },
    );
    outcome.unwrap();
    let (malformed, others) = (malformed.get(), others.get());
    assert!(
        malformed > 500 && others > 500,
        "{malformed} make no sense by themselves, {others} do"
    );
}
