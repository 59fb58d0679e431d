//! The newest part of a replica's log in memory, as raft reads it, and what was read back for a follower that lags.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use metastore_wal::ReplicaId;
use raft::eraftpb::{Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::membership::Membership;
use crate::peer::encode_offer;

/// What an entry costs in memory beyond its data; also keeps entries without data from being free.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// A run of entries of one term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TermRun {
    first_index: u64,
    term: u64,
}

/// Entries that raft asked for and that are not in memory.
#[derive(Debug)]
pub(super) struct MissingEntries {
    /// The first of them.
    pub(super) first_index: u64,
    /// What raft is told when they are there.
    pub(super) context: GetEntriesContext,
}

/// What was read back is given up, oldest first, beyond so many bytes.
const READ_BACK_BYTES_MAX: usize = 8 << 20;
/// Requests of raft that are noted at most; it asks again.
const MISSING_MAX: usize = 64;

/// The log as raft sees it: everything above the applied index, the terms of all of it, and what came before as a
/// snapshot's index and term.
///
/// ```text
///   snapshot   | only in the log on disk        | entries in memory                   |
///   index,term | terms known through the runs   | ... applied | committed | appended  | last_index
/// ```
///
/// Invariant: every entry above the applied index is in memory, so only reads for a slow follower, which raft can wait
/// for, may find one missing. What they miss is noted, is read back from the log, and is kept until others need the room.
#[derive(Debug)]
pub(crate) struct EntryTail {
    snapshot_index: u64,
    snapshot_term: u64,
    /// Length of the snapshot's file; 0 while there is none, and for the one with which every replica begins.
    snapshot_file_bytes: u64,
    /// Who belongs to the group as of the snapshot.
    snapshot_members: Membership,
    /// raft asked for a newer snapshot than there is.
    is_snapshot_wanted: Cell<bool>,
    runs: Vec<TermRun>,
    entries: VecDeque<Entry>,
    entries_bytes: usize,
    entries_bytes_max: usize,
    last_index: u64,
    /// Entries that were read back, each run without a hole; newest last.
    read_back: VecDeque<Vec<Entry>>,
    read_back_bytes: usize,
    /// What raft asked for and did not get.
    missing: RefCell<Vec<MissingEntries>>,
    /// Entries below this index cannot be read back: who needs them needs a snapshot.
    unreadable_below: u64,
    hard_state: HardState,
    members: Membership,
}

impl EntryTail {
    /// A log that begins behind a snapshot.
    pub(crate) fn after_snapshot(
        snapshot_index: u64,
        snapshot_term: u64,
        members: Membership,
        entries_bytes_max: usize,
    ) -> EntryTail {
        let mut hard_state = HardState::default();
        hard_state.set_term(snapshot_term);
        hard_state.set_commit(snapshot_index);
        EntryTail {
            snapshot_index,
            snapshot_term,
            snapshot_file_bytes: 0,
            snapshot_members: members.clone(),
            is_snapshot_wanted: Cell::new(false),
            runs: Vec::new(),
            entries: VecDeque::new(),
            entries_bytes: 0,
            entries_bytes_max,
            last_index: snapshot_index,
            read_back: VecDeque::new(),
            read_back_bytes: 0,
            missing: RefCell::new(Vec::new()),
            unreadable_below: 0,
            hard_state,
            members,
        }
    }

    /// Index and term of the snapshot behind which it begins.
    pub(crate) fn snapshot(&self) -> (u64, u64) {
        (self.snapshot_index, self.snapshot_term)
    }

    /// The snapshot has a file of so many bytes, which may be offered to others.
    pub(crate) fn set_snapshot_file(&mut self, bytes: u64) {
        self.snapshot_file_bytes = bytes;
    }

    /// The newest snapshot as raft offers it, if it has a file.
    pub(super) fn offer(&self) -> Option<Snapshot> {
        (self.snapshot_file_bytes > 0).then(|| self.to_snapshot())
    }

    fn to_snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            data: encode_offer(self.snapshot_file_bytes, &self.snapshot_members),
            ..Snapshot::default()
        };
        let metadata = snapshot.mut_metadata();
        metadata.index = self.snapshot_index;
        metadata.term = self.snapshot_term;
        metadata.set_conf_state(self.snapshot_members.conf_state().clone());
        snapshot
    }

    /// Whether a follower needs a newer snapshot than there is.
    pub(crate) fn is_snapshot_wanted(&self) -> bool {
        self.is_snapshot_wanted.get()
    }

    /// A snapshot that another replica took has the place of everything that was here.
    pub(crate) fn restore(&mut self, index: u64, term: u64, members: Membership, file_bytes: u64) {
        assert!(
            index > self.snapshot_index,
            "snapshots of a replica do not go back"
        );
        let hard_state = self.hard_state.clone();
        let entries_bytes_max = self.entries_bytes_max;
        *self = EntryTail::after_snapshot(index, term, members, entries_bytes_max);
        self.snapshot_file_bytes = file_bytes;
        self.hard_state = hard_state;
    }

    pub(crate) fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    pub(crate) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub(crate) fn members(&self) -> &Membership {
        &self.members
    }

    /// Who belonged to the group as of the snapshot.
    pub(crate) fn snapshot_members(&self) -> &Membership {
        &self.snapshot_members
    }

    /// A change of members is applied.
    pub(crate) fn set_members(&mut self, members: Membership) {
        self.members = members;
    }

    /// Bytes of the entries in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.entries_bytes + self.read_back_bytes
    }

    /// What raft asked for since the last time and did not get.
    pub(super) fn take_missing(&mut self) -> Vec<MissingEntries> {
        self.missing.take()
    }

    /// Whether raft asked for something that it did not get.
    pub(super) fn has_missing(&self) -> bool {
        !self.missing.borrow().is_empty()
    }

    /// Keeps entries that were read back, a run without a hole.
    pub(super) fn keep_read_back(&mut self, entries: Vec<Entry>) {
        self.read_back_bytes += entries.iter().map(entry_bytes).sum::<usize>();
        self.read_back.push_back(entries);
        while self.read_back_bytes > READ_BACK_BYTES_MAX && self.read_back.len() > 1 {
            let oldest = self.read_back.pop_front().expect("there are several");
            self.read_back_bytes -= oldest.iter().map(entry_bytes).sum::<usize>();
        }
    }

    /// Entries up to `index` cannot be read back from the log.
    pub(super) fn give_up_reading(&mut self, index: u64) {
        self.unreadable_below = self.unreadable_below.max(index + 1);
    }

    /// The entries from `low` on that were read back, up to `high`.
    fn read_back_from(&self, low: u64, high: u64) -> Option<&[Entry]> {
        self.read_back.iter().rev().find_map(|run| {
            let first = run.first()?.index;
            let skipped = usize::try_from(low.checked_sub(first)?).ok()?;
            let wanted = usize::try_from(high - low).ok()?;
            let rest = run.get(skipped..)?;
            (!rest.is_empty()).then(|| &rest[..wanted.min(rest.len())])
        })
    }

    /// Index of the last entry.
    pub(crate) fn last(&self) -> u64 {
        self.last_index
    }

    /// The entry at `index`, when it is in memory.
    pub(crate) fn entry(&self, index: u64) -> Option<&Entry> {
        let first = self.first_in_memory();
        if index < first {
            return None;
        }
        self.entries
            .get(usize::try_from(index - first).expect("a count of entries in memory"))
    }

    /// Appends an entry; entries from its index on that are there already are dropped first.
    pub(crate) fn append(&mut self, entry: Entry) {
        if entry.index <= self.last_index {
            self.truncate_from(entry.index);
        }
        assert_eq!(entry.index, self.last_index + 1, "a log has no holes");
        if self.runs.last().is_none_or(|run| run.term != entry.term) {
            self.runs.push(TermRun {
                first_index: entry.index,
                term: entry.term,
            });
        }
        self.last_index = entry.index;
        self.entries_bytes += entry_bytes(&entry);
        self.entries.push_back(entry);
    }

    /// Forgets the entries behind `index`, if there are any.
    pub(crate) fn truncate_behind(&mut self, index: u64) {
        if index < self.last_index {
            self.truncate_from(index + 1);
        }
    }

    /// A durable snapshot covers everything up to `index`, which is applied: what comes before it is forgotten.
    pub(crate) fn compact(&mut self, index: u64, term: u64, members: Membership, file_bytes: u64) {
        assert!(
            self.snapshot_index <= index && index <= self.last_index,
            "a snapshot covers entries of the log, and snapshots do not go back"
        );
        assert_eq!(
            self.term(index).ok(),
            Some(term),
            "the snapshot is of this log"
        );
        self.snapshot_index = index;
        self.snapshot_term = term;
        self.snapshot_members = members;
        self.snapshot_file_bytes = file_bytes;
        self.is_snapshot_wanted.set(false);
        let kept = self
            .runs
            .partition_point(|run| run.first_index <= index + 1);
        self.runs.drain(..kept.saturating_sub(1));
        match self.runs.first_mut() {
            Some(run) if index < self.last_index => {
                run.first_index = run.first_index.max(index + 1);
            }
            _ => self.runs.clear(),
        }
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.index <= index)
        {
            let dropped = self.entries.pop_front().expect("the front was just seen");
            self.entries_bytes -= entry_bytes(&dropped);
        }
        self.read_back
            .retain(|run| run.last().is_some_and(|last| last.index > index));
        let kept = self.read_back.iter().flatten().map(entry_bytes);
        self.read_back_bytes = kept.sum();
    }

    /// The entries from `first` to `last`, when all of them are in memory and they and what follows them take no more
    /// than `bytes_max`.
    pub(crate) fn few_entries(
        &self,
        first: u64,
        last: u64,
        bytes_max: usize,
    ) -> Option<impl Iterator<Item = &Entry>> {
        if first < self.first_in_memory() || last < first || last > self.last_index {
            return None;
        }
        let position = |index: u64| {
            usize::try_from(index - self.first_in_memory()).expect("a count in memory")
        };
        let bytes: usize = self.entries.range(position(first)..).map(entry_bytes).sum();
        let entries = self.entries.range(position(first)..=position(last));
        (bytes <= bytes_max).then_some(entries)
    }

    fn truncate_from(&mut self, index: u64) {
        assert!(
            index >= self.first_in_memory() && index > self.snapshot_index,
            "entries that were applied are never truncated"
        );
        while self.last_index >= index {
            let dropped = self.entries.pop_back().expect("it is in memory");
            self.entries_bytes -= entry_bytes(&dropped);
            self.last_index -= 1;
        }
        self.runs.retain(|run| run.first_index < index);
    }

    /// Tells that everything up to `applied` is applied: beyond the byte budget, the oldest of it leaves the memory.
    pub(crate) fn release_applied(&mut self, applied: u64) {
        while self.entries_bytes > self.entries_bytes_max {
            match self.entries.front() {
                Some(entry) if entry.index <= applied => {
                    self.entries_bytes -= entry_bytes(entry);
                    self.entries.pop_front();
                }
                _ => return,
            }
        }
    }

    /// The first entry that is in memory with everything after it.
    pub(super) fn first_in_memory(&self) -> u64 {
        self.last_index + 1 - self.entries.len() as u64
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_OVERHEAD_BYTES
}

/// As many of the entries as `bytes_max` allows. One is always given, however large, or raft would make no progress.
fn within<'a>(bytes_max: Option<u64>, entries: impl Iterator<Item = &'a Entry>) -> Vec<Entry> {
    let bytes_max = bytes_max.unwrap_or(u64::MAX);
    let mut bytes = 0;
    let mut taken = Vec::new();
    for entry in entries {
        bytes += entry_bytes(entry) as u64;
        if bytes > bytes_max && !taken.is_empty() {
            break;
        }
        taken.push(entry.clone());
    }
    taken
}

impl Storage for EntryTail {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard_state.clone(),
            self.members.conf_state().clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.snapshot_index {
            return Err(StorageError::Compacted.into());
        }
        assert!(
            high <= self.last_index + 1,
            "raft asks for entries that exist"
        );
        let first = self.first_in_memory();
        if low < first {
            assert!(
                context.can_async(),
                "entries above the applied index are in memory"
            );
            if let Some(run) = self.read_back_from(low, high) {
                return Ok(within(max_size.into(), run.iter()));
            }
            if low < self.unreadable_below {
                // raft sends a snapshot then.
                return Err(StorageError::Compacted.into());
            }
            let mut missing = self.missing.borrow_mut();
            if missing.len() < MISSING_MAX {
                missing.push(MissingEntries {
                    first_index: low,
                    context,
                });
            }
            return Err(StorageError::LogTemporarilyUnavailable.into());
        }
        let position = |index: u64| usize::try_from(index - first).expect("a count in memory");
        let entries = self.entries.range(position(low)..position(high));
        Ok(within(max_size.into(), entries))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.snapshot_index {
            return Ok(self.snapshot_term);
        }
        if index < self.snapshot_index {
            return Err(StorageError::Compacted.into());
        }
        if index > self.last_index {
            return Err(StorageError::Unavailable.into());
        }
        let run = self.runs.partition_point(|run| run.first_index <= index);
        Ok(self.runs[run - 1].term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.snapshot_index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last_index)
    }

    /// The newest snapshot, as an offer: its file is fetched by whoever needs it. One that leads to entries that cannot
    /// be read any more is of no use, nor is one for a replica that joined after it: it does not take what does not know it.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let is_useful = self.snapshot_file_bytes > 0
            && self.snapshot_index >= request_index
            && self.snapshot_index + 1 >= self.unreadable_below
            && self.snapshot_members.home_of(ReplicaId(to)).is_some();
        if !is_useful {
            self.is_snapshot_wanted.set(true);
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        Ok(self.to_snapshot())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64, bytes: usize) -> Entry {
        let mut entry = Entry::default();
        entry.set_index(index);
        entry.set_term(term);
        entry.set_data(vec![7; bytes].into());
        entry
    }

    fn tail(bytes_max: usize) -> EntryTail {
        EntryTail::after_snapshot(1, 1, Membership::of_voters(&[]), bytes_max)
    }

    fn indexes(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.index).collect()
    }

    fn synchronous() -> GetEntriesContext {
        GetEntriesContext::empty(false)
    }

    #[test]
    fn terms_are_known_from_the_snapshot_on() {
        let mut tail = tail(0);
        for (index, term) in [(2, 1), (3, 2), (4, 2), (5, 4)] {
            tail.append(entry(index, term, 10));
        }
        tail.release_applied(5);
        let terms: Vec<u64> = (1..=5)
            .map(|index| tail.term(index).expect("known"))
            .collect();
        assert_eq!(terms, [1, 1, 2, 2, 4]);
        assert!(tail.term(0).is_err());
        assert!(tail.term(6).is_err());
    }

    #[test]
    fn appending_at_an_index_that_exists_drops_what_follows() {
        let mut tail = tail(1 << 20);
        for index in 2..=6 {
            tail.append(entry(index, 1, 10));
        }
        tail.append(entry(4, 3, 10));
        assert_eq!(tail.last(), 4);
        assert_eq!(tail.term(4).expect("known"), 3);
        assert_eq!(tail.term(3).expect("known"), 1);
        let all = tail.entries(2, 5, None, synchronous()).expect("in memory");
        assert_eq!(indexes(&all), [2, 3, 4]);
    }

    #[test]
    fn a_size_limit_still_gives_one_entry() {
        let mut tail = tail(1 << 20);
        for index in 2..=4 {
            tail.append(entry(index, 1, 1000));
        }
        let one = tail
            .entries(2, 5, Some(1), synchronous())
            .expect("in memory");
        assert_eq!(indexes(&one), [2]);
        let two = tail
            .entries(2, 5, Some(2200), synchronous())
            .expect("in memory");
        assert_eq!(indexes(&two), [2, 3]);
    }

    fn terms(tail: &EntryTail, indexes: std::ops::RangeInclusive<u64>) -> Vec<Option<u64>> {
        indexes.map(|index| tail.term(index).ok()).collect()
    }

    /// Every log of six entries with a term that begins at each of them or not, compacted at every index, knows what
    /// it knew before of what is left, and goes on.
    #[test]
    fn a_compacted_log_knows_the_terms_from_its_snapshot_on() {
        for begins in 0..1_u64 << 6 {
            for snapshot_index in 1..=7 {
                let mut tail = tail(1 << 20);
                let mut term = 1;
                for index in 2..=7 {
                    term += begins >> (index - 2) & 1;
                    tail.append(entry(index, term, 10));
                }
                let before = terms(&tail, snapshot_index..=7);
                let at_snapshot = tail.term(snapshot_index).expect("known");
                tail.compact(snapshot_index, at_snapshot, Membership::of_voters(&[]), 1);
                assert_eq!(terms(&tail, snapshot_index..=7), before);
                assert!(tail.term(snapshot_index - 1).is_err());
                assert_eq!(tail.first_index().expect("known"), snapshot_index + 1);
                assert_eq!(tail.snapshot(), (snapshot_index, at_snapshot));
                if snapshot_index < 7 {
                    let left = tail.entries(snapshot_index + 1, 8, None, synchronous());
                    let expected: Vec<u64> = (snapshot_index + 1..=7).collect();
                    assert_eq!(indexes(&left.expect("in memory")), expected);
                }
                tail.append(entry(8, term, 10));
                tail.append(entry(9, term + 1, 10));
                assert_eq!(terms(&tail, 8..=9), [Some(term), Some(term + 1)]);
                let kept: usize = tail.entries.iter().map(entry_bytes).sum();
                assert_eq!(tail.entries_bytes, kept);
            }
        }
    }

    #[test]
    fn a_log_is_compacted_again_and_again() {
        let mut tail = tail(0);
        for index in 2..=20 {
            tail.append(entry(index, 1 + index / 3, 10));
            tail.release_applied(index);
            if index % 4 == 0 {
                let term = tail.term(index - 1).expect("known");
                tail.compact(index - 1, term, Membership::of_voters(&[]), 1);
                let snapshot = index - 1;
                let expected: Vec<_> = (snapshot..=index).map(|at| Some(1 + at / 3)).collect();
                assert_eq!(terms(&tail, snapshot..=index), expected);
                assert!(tail.runs.len() <= 1, "{:?}", tail.runs);
            }
        }
    }

    #[test]
    fn few_entries_are_those_in_memory_that_are_small_with_what_follows() {
        let mut tail = tail(3 * (10 + ENTRY_OVERHEAD_BYTES));
        for index in 2..=6 {
            tail.append(entry(index, 1, 10));
        }
        tail.release_applied(6);
        let few = |first, last, bytes_max| {
            let entries = tail.few_entries(first, last, bytes_max)?;
            Some(entries.map(|entry| entry.index).collect::<Vec<_>>())
        };
        assert_eq!(few(4, 5, 1_000), Some(vec![4, 5]));
        assert_eq!(few(4, 5, 200), None, "they and what follows are larger");
        assert_eq!(few(3, 5, 1_000), None, "not all are in memory");
        assert_eq!(few(6, 7, 1_000), None, "there is no entry 7");
    }

    #[test]
    fn only_applied_entries_leave_the_memory() {
        let mut tail = tail(0);
        for index in 2..=5 {
            tail.append(entry(index, 1, 10));
        }
        tail.release_applied(3);
        assert!(tail.entry(3).is_none());
        assert!(tail.entry(4).is_some());
        let asynchronous = GetEntriesContext::empty(true);
        let missing = tail.entries(2, 5, None, asynchronous);
        assert!(matches!(
            missing,
            Err(raft::Error::Store(StorageError::LogTemporarilyUnavailable))
        ));
        assert_eq!(
            indexes(&tail.entries(4, 6, None, synchronous()).expect("in memory")),
            [4, 5]
        );
    }
}
