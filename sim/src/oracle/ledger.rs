//! What the disk holds for certain, and every answer held against it.
//!
//! It looks at the bytes on their way to the disk and asks the disk itself what is durable. The log gives one order to
//! everything that happened in a shard, so no order has to be searched for: an answer is right if its command stands
//! in a durable record, ended there as the answer says, and stands behind everything that was answered before the
//! command was sent.

mod record;
mod shard;

use std::collections::{BTreeMap, VecDeque};

use metastore_engine::{LogIndex, ReplicaId, ReplicaStatus, ShardId};
use metastore_net::blocking::OwnedOutcome;
use metastore_statemachine::{Batch, Command, Direction, Outcome, Parameters, Revision, Row};
use metastore_wal::SegmentSequence;
use metastore_wal::format::Mark;

pub use self::record::{RecordPlace, Survivors};
use self::record::{SubmittedRecord, WrittenEntry};
pub(crate) use self::shard::decompress;
use self::shard::{Account, AppliedCommand, ShardLedger, hash_of, is_same_row};
use super::model::{Model, ModelRow};
use crate::disk::{Disk, FileName};
use crate::operation::RangeOf;
use crate::violation::{Violation, readable};

/// How far clients have seen a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    position: u64,
    revision: Revision,
}

/// What clients had seen when a request was sent: its answer must not lie before it.
#[derive(Clone, Debug, Default)]
pub struct Floor(BTreeMap<ShardId, Seen>);

impl Floor {
    fn of(&self, shard: ShardId) -> Seen {
        self.0.get(&shard).copied().unwrap_or_default()
    }
}

/// Everything durable, in order.
#[derive(Debug)]
pub struct Ledger {
    shards: BTreeMap<ShardId, ShardLedger>,
    seen: Floor,
    submitted: VecDeque<SubmittedRecord>,
    /// No record or mark that was ever written says that anything before this segment is needed.
    oldest_named: SegmentSequence,
    /// What the last recovery cut away. It may come back as long as that cut is not durable, which it is with the
    /// first record after it; nothing is answered before.
    uncut: Vec<WrittenEntry>,
    durable: Vec<RecordPlace>,
    applied: BTreeMap<Vec<u8>, Vec<AppliedCommand>>,
    accounts: BTreeMap<Vec<u8>, Account>,
}

impl Ledger {
    /// The ledger of shards in which nothing has happened.
    #[must_use]
    pub fn new(replicas: &[(ReplicaId, ShardId)], parameters: Parameters) -> Ledger {
        let shards = replicas
            .iter()
            .map(|&(replica, shard)| (shard, ShardLedger::new(replica, parameters)));
        Ledger {
            shards: shards.collect(),
            seen: Floor::default(),
            submitted: VecDeque::new(),
            oldest_named: SegmentSequence(0),
            uncut: Vec::new(),
            durable: Vec::new(),
            applied: BTreeMap::new(),
            accounts: BTreeMap::new(),
        }
    }

    // ---- The disk ----

    /// A record leaves for the disk.
    pub fn on_record_submitted(&mut self, file: FileName, offset: u64, bytes: &[u8]) {
        let record = SubmittedRecord::parse(file, offset, bytes);
        self.oldest_named = self.oldest_named.max(record.oldest_live_segment);
        self.submitted.push_back(record);
    }

    /// A mark leaves for the disk.
    pub fn on_mark_submitted(&mut self, bytes: &[u8]) {
        let mark = Mark::decode(bytes).expect("the log writes marks");
        self.oldest_named = self.oldest_named.max(mark.oldest_live_segment);
    }

    /// Something on the disk has changed: records may be durable now. A record counts once all before it count.
    ///
    /// # Errors
    /// A durable record contradicts an earlier one.
    pub fn advance(&mut self, disk: &Disk) -> Result<(), Violation> {
        while let Some(record) = self.submitted.front() {
            let RecordPlace { file, offset, .. } = record.place;
            if !disk.is_durable(file, offset, &record.bytes) {
                break;
            }
            let record = self.submitted.pop_front().expect("it has a front");
            self.durable.push(record.place);
            self.uncut.clear();
            for entry in record.entries {
                self.apply(entry)?;
            }
        }
        Ok(())
    }

    /// Where the durable records are that a recovery must not do without, in order: those of released segments are not
    /// needed, and the newest ones are not yet called durable by any other.
    pub fn indispensable_records(&self) -> impl Iterator<Item = &RecordPlace> {
        let watermark = self.durable.last().map(|newest| newest.watermark);
        self.durable.iter().filter(move |record| {
            record.segment >= self.oldest_named && Some(record.sequence) <= watermark
        })
    }

    /// A recovery found `survivors`: all that was durable, and what else survived of what was on its way.
    ///
    /// # Errors
    /// Something is lost, changed or invented.
    pub fn on_recovered(&mut self, survivors: Survivors) -> Result<(), Violation> {
        for ledger in self.shards.values() {
            let found = survivors.entries.get(&ledger.replica);
            let covered = survivors.covered.get(&ledger.replica).copied();
            for (&index, &(term, hash)) in &ledger.entries {
                match found.and_then(|found| found.get(&index)) {
                    Some(entry) if (entry.term, hash_of(&entry.data)) == (term, hash) => {}
                    Some(_) => {
                        let replica = ledger.replica;
                        return Err(Violation::EntryChanged { replica, index });
                    }
                    // A snapshot holds what came of it; whether rightly, the comparison of the states tells.
                    None if Some(index) <= covered => {}
                    None => {
                        return Err(Violation::EntriesLost {
                            replica: ledger.replica,
                            found: LogIndex(index.0 - 1),
                            durable: ledger.last_index(),
                        });
                    }
                }
            }
        }
        let on_their_way = std::mem::take(&mut self.submitted)
            .into_iter()
            .flat_map(|record| record.entries);
        self.uncut.extend(on_their_way);
        let survived = survivors.entries.into_values();
        for entry in survived.flatten().map(|(_, entry)| entry) {
            let is_known = self
                .shards
                .get(&entry.shard)
                .is_some_and(|ledger| ledger.entries.contains_key(&entry.index));
            if is_known {
                continue;
            }
            let Some(found) = self.uncut.iter().position(|known| *known == entry) else {
                return Err(Violation::EntryInvented {
                    replica: entry.replica,
                    index: entry.index,
                });
            };
            self.uncut.swap_remove(found);
            self.apply(entry)?;
        }
        for ledger in self.shards.values() {
            let covered = survivors.covered.get(&ledger.replica).copied();
            // Every replica begins with a snapshot of nothing, before any entry.
            let durable = ledger.last_index().max(LogIndex(1));
            if let Some(index) = covered.filter(|&index| index > durable) {
                return Err(Violation::SnapshotInvented {
                    replica: ledger.replica,
                    index,
                    durable,
                });
            }
        }
        Ok(())
    }

    fn apply(&mut self, entry: WrittenEntry) -> Result<(), Violation> {
        let WrittenEntry {
            replica,
            shard,
            index,
            term,
            data,
        } = entry;
        let ledger = self
            .shards
            .get_mut(&shard)
            .filter(|ledger| ledger.replica == replica)
            .ok_or(Violation::EntryInvented { replica, index })?;
        let is_next = ledger.entries.is_empty() || index == ledger.last_index().next();
        if !is_next {
            return Err(Violation::EntryChanged { replica, index });
        }
        ledger.entries.insert(index, (term, hash_of(&data)));
        if data.is_empty() {
            return Ok(());
        }
        let body = decompress(&data);
        let batch = Batch::decode(&data)
            .and_then(|batch| batch.with_body(&body))
            .expect("the core proposes batches");
        ledger
            .state
            .apply(&batch, &mut |_| {})
            .expect("the core proposes what can be applied");
        let mut rest = body.as_slice();
        while !rest.is_empty() {
            let (command, length) = Command::decode(rest).expect("a batch holds commands");
            let (bytes, after) = rest.split_at(length);
            rest = after;
            let applied = ledger.apply(shard, &command);
            self.applied
                .entry(bytes.to_vec())
                .or_default()
                .push(applied);
            let account = self.accounts.entry(bytes.to_vec()).or_default();
            account.in_log += 1;
            account.check(&command)?;
        }
        Ok(())
    }

    // ---- Clients ----

    /// A request is sent now: what its answer must not lie before.
    #[must_use]
    pub fn floor(&self) -> Floor {
        self.seen.clone()
    }

    /// A mutation is sent.
    pub fn on_sent(&mut self, command: &[u8]) {
        self.accounts.entry(command.to_vec()).or_default().sent += 1;
    }

    /// A mutation was answered with "certainly not done".
    ///
    /// # Errors
    /// It was done.
    pub fn on_refused(&mut self, command: &[u8]) -> Result<(), Violation> {
        let account = self.accounts.entry(command.to_vec()).or_default();
        account.refused += 1;
        account.check(&decoded(command))
    }

    /// A mutation was answered with an outcome.
    ///
    /// # Errors
    /// The answer does not follow from what is durable.
    pub fn on_acknowledged(
        &mut self,
        command: &[u8],
        floor: &Floor,
        outcome: &Outcome<'_>,
    ) -> Result<(), Violation> {
        let (kind, key) = {
            let command = decoded(command);
            (command.kind, readable(command.key))
        };
        let answered = OwnedOutcome::from(*outcome);
        let candidates = self.applied.entry(command.to_vec()).or_default();
        let open = || candidates.iter().filter(|applied| !applied.is_answered);
        let Some(first) = open().next() else {
            return Err(Violation::AcknowledgedBeforeDurable { kind, key });
        };
        if !open().any(|applied| applied.fits(&answered)) {
            return Err(Violation::WrongOutcome {
                kind,
                key,
                answered: format!("{outcome:?}"),
                expected: format!("{:?}", first.outcome),
            });
        }
        let chosen = candidates.iter_mut().find(|applied| {
            !applied.is_answered
                && applied.fits(&answered)
                && applied.position > floor.of(applied.shard).position
        });
        let Some(chosen) = chosen else {
            return Err(Violation::OrderBroken { kind, key });
        };
        chosen.is_answered = true;
        let seen = self.seen.0.entry(chosen.shard).or_default();
        seen.position = seen.position.max(chosen.position);
        seen.revision = seen.revision.max(chosen.revision_after);
        Ok(())
    }

    /// A read was answered at `revision` of `shard`; `at` is the revision that it asked for.
    ///
    /// # Errors
    /// It saw too little or too much.
    pub fn on_read(
        &mut self,
        shard: ShardId,
        revision: Revision,
        at: Option<Revision>,
        floor: &Floor,
    ) -> Result<(), Violation> {
        let durable = self.model(shard).revision();
        if revision > durable {
            return Err(Violation::ReadBeforeDurable {
                shard,
                found: revision,
                durable,
            });
        }
        let seen = at.unwrap_or(floor.of(shard).revision);
        if revision < seen || at.is_some() && revision > seen {
            return Err(Violation::ReadWentBack {
                shard,
                found: revision,
                seen,
            });
        }
        if at.is_none() {
            let position = self.shards[&shard].position_of(revision);
            let seen = self.seen.0.entry(shard).or_default();
            seen.position = seen.position.max(position);
            seen.revision = seen.revision.max(revision);
        }
        Ok(())
    }

    /// A read found this of a key.
    ///
    /// # Errors
    /// The log says something else.
    pub fn check_row(
        &self,
        shard: ShardId,
        revision: Revision,
        key: &[u8],
        found: Option<&Row<'_>>,
    ) -> Result<(), Violation> {
        let expected = self.model(shard).row_at(key, revision);
        let is_right = match (found, expected) {
            (Some(row), Some(model)) => row.key == key && is_same_row(row, model),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if is_right {
            return Ok(());
        }
        Err(Violation::WrongRow {
            shard,
            revision,
            key: readable(key),
            found: format!("{found:?}"),
            expected: format!("{expected:?}"),
        })
    }

    /// A range was answered with `rows` and their number, read at `revisions`.
    ///
    /// # Errors
    /// It saw too little or too much, or not what the log holds.
    pub fn check_range(
        &mut self,
        range: &RangeOf,
        revisions: &[(ShardId, Revision)],
        (mut rows, count): (&[u8], u64),
        floor: &Floor,
    ) -> Result<(), Violation> {
        for &(shard, revision) in revisions {
            self.on_read(shard, revision, None, floor)?;
        }
        let expected = self.expected_rows(range, revisions);
        for &(shard, revision, key, row) in &expected {
            let found = Row::decode(rows).ok();
            rows = found.map_or(&[], |(_, length)| &rows[length..]);
            let found = found.map(|(row, _)| row);
            let is_right = found.is_some_and(|found| found.key == key && is_same_row(&found, row));
            if !is_right {
                return Err(Violation::WrongRow {
                    shard,
                    revision,
                    key: readable(key),
                    found: format!("{found:?}"),
                    expected: format!("{row:?}"),
                });
            }
        }
        if count != expected.len() as u64 || !rows.is_empty() {
            return Err(Violation::WrongRange {
                prefix: readable(&range.prefix),
                found: count,
                expected: expected.len() as u64,
            });
        }
        Ok(())
    }

    /// The rows of a range, by key. A shard that is not among `revisions` counts as it is now: it must have none.
    fn expected_rows(
        &self,
        range: &RangeOf,
        revisions: &[(ShardId, Revision)],
    ) -> Vec<(ShardId, Revision, &[u8], &ModelRow)> {
        let mut expected = Vec::new();
        for (&shard, ledger) in &self.shards {
            let pinned = revisions.iter().find(|&&(pinned, _)| pinned == shard);
            let at = pinned.map_or(ledger.model.revision(), |&(_, revision)| revision);
            let matching = ledger
                .model
                .rows_at(at)
                .filter(|(key, _)| range.matches(key));
            expected.extend(matching.map(|(key, row)| (shard, at, key, row)));
        }
        expected.sort_by_key(|&(_, _, key, _)| key);
        if range.direction == Direction::Reverse {
            expected.reverse();
        }
        if range.limit > 0 {
            expected.truncate(usize::try_from(range.limit).expect("a small limit"));
        }
        expected
    }

    /// The model of a shard.
    #[must_use]
    pub fn model(&self, shard: ShardId) -> &Model {
        &self.shards[&shard].model
    }

    /// All shards.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.shards.keys().copied()
    }

    /// Compares the replicas that have applied all that is durable with a state machine that never crashed. Returns
    /// how many could be compared.
    ///
    /// # Errors
    /// They differ.
    pub fn check_states(&self, replicas: &[ReplicaStatus]) -> Result<u64, Violation> {
        let mut compared = 0;
        for status in replicas {
            let ledger = &self.shards[&status.shard];
            if status.applied != ledger.last_index() {
                continue;
            }
            compared += 1;
            if status.state_hash != ledger.state.state_hash() {
                return Err(Violation::StateDiffers {
                    shard: status.shard,
                    applied: status.applied,
                });
            }
        }
        Ok(compared)
    }
}

fn decoded(command: &[u8]) -> Command<'_> {
    Command::decode(command).expect("clients send commands").0
}
