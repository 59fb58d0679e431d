//! The state of one shard: keys, their recent past, and the readers that hold it.

mod apply;
mod decide;
mod draft;
mod export;
mod hash;
mod history;
mod import;
mod kept;
mod key_map;
mod key_walk;
mod measured_tree;
mod pins;
mod read;
mod record;
mod region;
mod structured;
mod unread;
mod walk;

use std::collections::BTreeMap;

pub use apply::ApplyError;
pub use export::{ExportLimits, ExportProgress, SnapshotExport};
use hash::StateHash;
pub use history::ChangePosition;
use history::History;
pub use import::SnapshotImport;
use kept::Kept;
use key_map::KeyMap;
pub(crate) use measured_tree::MeasuredTree;
use pins::Pins;
pub use pins::{Pin, PinLimits};
pub use read::{Change, SliceEnd, SliceLimit};
use unread::Unread;

use crate::ids::{NamespaceId, Revision, ShardTime};
use crate::query::{RangeQuery, ReadError};

/// Applies committed batches and answers reads.
///
/// Its methods, by kind:
///
/// - driven by the log, deterministic: [`apply`](StateMachine::apply), [`pass_revisions`](StateMachine::pass_revisions);
/// - reads of the present and the past: [`get`](StateMachine::get), [`range`](StateMachine::range),
///   [`change`](StateMachine::change);
/// - holding the past while reading on: [`pin`](StateMachine::pin), [`pin_at`](StateMachine::pin_at),
///   [`pin_range`](StateMachine::pin_range), [`pass`](StateMachine::pass), [`unpin`](StateMachine::unpin),
///   [`reclaim`](StateMachine::reclaim);
/// - copying everything out while the state moves on: [`begin_export`](StateMachine::begin_export),
///   [`export_slice`](StateMachine::export_slice), [`end_export`](StateMachine::end_export);
/// - numbers: [`revision`](StateMachine::revision), [`oldest_revision`](StateMachine::oldest_revision),
///   [`shard_time`](StateMachine::shard_time), [`key_count`](StateMachine::key_count),
///   [`memory`](StateMachine::memory), [`state_hash`](StateMachine::state_hash).
///
/// Two things move apart from each other. The **floor** of the history, below which reads at a revision are refused,
/// moves by the log alone and is the same on every replica. **Freeing** what lies below the floor is spread over later
/// commands and changes no answer: versions that a pin has still to read are kept until it has passed them.
#[derive(Debug)]
pub struct StateMachine {
    parameters: Parameters,
    shard_time: ShardTime,
    namespaces: BTreeMap<NamespaceId, Namespace>,
    history: History,
    pins: Pins,
    kept: Kept,
    hash: StateHash,
    key_count: u64,
    /// Bytes of the live versions' records.
    live_bytes: u64,
    /// Where records are put together before they are allocated in their length.
    scratch: Vec<u8>,
    /// Commands with structure that were applied since it was made or loaded.
    structured_count: u64,
}

/// How far the history reaches and what values may grow to. It is part of the replicated state: replicas with
/// different parameters diverge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Changes of the shard that reads can go back.
    pub history_revisions_max: u64,
    /// Shard time that reads can go back.
    pub history_age_ms_max: u64,
    /// Bytes that the history may take.
    pub history_bytes_max: u64,
    /// Longest value that an append may make.
    pub value_bytes_max: usize,
    /// Keys and changes that one transaction or commit may look at, and pieces of 16 KiB of versions that it may make:
    /// what bounds the time and the memory it takes.
    pub txn_visits_max: u64,
    /// Bytes of results that one transaction may answer with.
    pub txn_answer_bytes_max: usize,
    /// Keys that one `delete_range` deletes before it says where to go on.
    pub sweep_keys_max: u64,
    /// Keys that one `delete_range` looks at, deleted or not.
    pub sweep_visits_max: u64,
}

/// Where the memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Live keys and values, and the map over them.
    pub state_bytes: u64,
    /// Older versions and the list of changes, whether they still answer reads or wait to be freed.
    pub history_bytes: u64,
    /// The part of `history_bytes` that answers no read at a revision: kept for pins, or about to be freed.
    pub unanswering_bytes: u64,
    /// Pins alive.
    pub pin_count: usize,
}

/// One keyspace.
#[derive(Debug)]
struct Namespace {
    keys: KeyMap,
    /// Revision of the last change.
    revision: Revision,
    /// Reads at it or above are answered: the revision of the last change below the history's floor, or the one that the
    /// namespace was compacted to.
    oldest: Revision,
    /// Changes at or above the history's floor.
    answering_count: u64,
}

/// Entries freed for each command: more than one, so that freeing catches up after a pin is gone.
const RECLAIM_ENTRIES_PER_COMMAND: u64 = 16;

/// Entries whose versions are fetched from memory together before they are freed, one by one: each has been left alone
/// since it was replaced, so that nothing of it is in a cache, and fetching one takes as long as fetching many.
const FREED_TOGETHER: usize = 16;

/// Versions looked at at once when a range has passed them. More wait for [`StateMachine::reclaim`].
const PASSED_VERSIONS_MAX: usize = 512;

impl StateMachine {
    /// An empty shard.
    #[must_use]
    pub fn new(parameters: Parameters) -> StateMachine {
        StateMachine {
            parameters,
            shard_time: ShardTime(0),
            namespaces: BTreeMap::new(),
            history: History::new(),
            pins: Pins::new(PinLimits::default()),
            kept: Kept::default(),
            hash: StateHash::new(),
            key_count: 0,
            live_bytes: 0,
            scratch: Vec::new(),
            structured_count: 0,
        }
    }

    /// Revision of the namespace's last change; 0 if it has none.
    #[must_use]
    pub fn revision(&self, namespace: NamespaceId) -> Revision {
        self.namespaces
            .get(&namespace)
            .map_or(Revision(0), |namespace| namespace.revision)
    }

    /// The oldest revision of the namespace at which reads are answered.
    #[must_use]
    pub fn oldest_revision(&self, namespace: NamespaceId) -> Revision {
        self.namespaces
            .get(&namespace)
            .map_or(Revision(0), |namespace| namespace.oldest)
    }

    /// The time stamped on the last batch.
    #[must_use]
    pub fn shard_time(&self) -> ShardTime {
        self.shard_time
    }

    /// Number of live keys in all namespaces.
    #[must_use]
    pub fn key_count(&self) -> u64 {
        self.key_count
    }

    /// Commands with structure that this replica has applied since it was made or loaded: each may take as long as
    /// thousands of others, and who applies many does something else in between.
    #[must_use]
    pub fn structured_count(&self) -> u64 {
        self.structured_count
    }

    /// Where the memory is.
    #[must_use]
    pub fn memory(&self) -> MemoryUse {
        let node_bytes: u64 = self
            .namespaces
            .values()
            .map(|namespace| namespace.keys.node_bytes())
            .sum();
        let history_bytes = self.history.held_bytes() + self.kept.bytes();
        MemoryUse {
            state_bytes: self.live_bytes
                + self.key_count * record::RECORD_OVERHEAD_BYTES
                + node_bytes,
            history_bytes,
            unanswering_bytes: self.unanswering_bytes(),
            pin_count: self.pins.count(),
        }
    }

    /// A hash of everything applied so far. Replicas that applied the same batches have the same one.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        self.hash.value()
    }

    /// Sets what pins may hold; the defaults are those of [`PinLimits`].
    pub fn set_pin_limits(&mut self, limits: PinLimits) {
        self.pins.set_limits(limits);
    }

    /// Fixes the present state for a reader that goes on later. Take the namespace's [`StateMachine::revision`] in
    /// the same turn to know which revision it reads at.
    #[must_use = "a pin that is not given back holds memory until it is too old"]
    pub fn pin(&mut self) -> Pin {
        self.add_pin(self.history.next(), None, Unread::everything())
    }

    /// Fixes the state as it was at a revision of a namespace that the history still answers.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] and [`ReadError::Future`].
    pub fn pin_at(&mut self, namespace: NamespaceId, revision: Revision) -> Result<Pin, ReadError> {
        self.check_answered(namespace, revision)?;
        let bound = self.history.first_above(namespace, revision);
        Ok(self.add_pin(bound, Some((namespace, revision)), Unread::everything()))
    }

    /// Fixes what a range reads, now or at the revision that it names. Tell with [`StateMachine::pass`] how far the
    /// range has come: what it has passed is kept no longer.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] and [`ReadError::Future`].
    pub fn pin_range(&mut self, query: &RangeQuery<'_>) -> Result<Pin, ReadError> {
        let unread = Unread::of(query);
        let Some(revision) = query.at else {
            return Ok(self.add_pin(self.history.next(), None, unread));
        };
        self.check_answered(query.namespace, revision)?;
        let bound = self.history.first_above(query.namespace, revision);
        Ok(self.add_pin(bound, Some((query.namespace, revision)), unread))
    }

    /// The range of a pin from [`StateMachine::pin_range`] has come to where a slice says that the next goes on.
    ///
    /// # Panics
    /// When the pin was not made for a range.
    pub fn pass(&mut self, pin: &Pin, resume_after: &[u8]) {
        if let Some(unread) = self.pins.unread_mut(pin) {
            self.kept.sweep_later(unread.pass(resume_after));
            self.kept.sweep(&self.pins, PASSED_VERSIONS_MAX);
        }
    }

    /// Gives a pin back.
    pub fn unpin(&mut self, pin: Pin) {
        if let Some(unread) = self.pins.remove(&pin) {
            self.kept.sweep_later(unread);
        }
    }

    fn add_pin(
        &mut self,
        bound: ChangePosition,
        at: Option<(NamespaceId, Revision)>,
        unread: Unread,
    ) -> Pin {
        while let Some(unread) = self.pins.break_for_room() {
            self.kept.sweep_later(unread);
        }
        self.pins.add(bound, at, unread, self.shard_time)
    }

    /// Breaks pins that are too old.
    fn break_aged_pins(&mut self) {
        while let Some(unread) = self.pins.break_aged(self.shard_time) {
            self.kept.sweep_later(unread);
        }
        while let Some(unread) = self.pins.break_aged_export(self.shard_time) {
            self.kept.sweep_later(unread);
        }
    }

    /// Breaks the pin that reaches back farthest, if too much is kept for pins. While something of a broken pin may
    /// still be there, nobody knows what the others hold.
    fn break_heavy_pins(&mut self) {
        if self.kept.bytes() > self.pins.bytes_max()
            && !self.kept.wants_sweep()
            && let Some(unread) = self.pins.break_farthest()
        {
            self.kept.sweep_later(unread);
        }
    }

    /// Frees up to `entries_max` forgotten changes, or versions kept for pins that are gone, and returns how many it
    /// looked at. Commands free some each; this is for idle times.
    pub fn reclaim(&mut self, entries_max: usize) -> usize {
        let hold = self.pins.first_change_to_gather();
        for freed in 0..entries_max {
            if freed.is_multiple_of(FREED_TOGETHER) {
                self.history
                    .touch_front(FREED_TOGETHER.min(entries_max - freed));
            }
            let Some((position, entry)) = self.history.free_front(hold) else {
                return freed + self.kept.sweep(&self.pins, entries_max - freed);
            };
            if entry.after.is_none() {
                self.forget_tombstone(&entry, position);
            }
            let changes = (entry.previous(), position);
            if let Some(record) = entry.before
                && self.pins.want(changes, entry.namespace, record.key())
            {
                self.kept.add(entry.namespace, record, changes);
            }
        }
        entries_max
    }

    /// Whether [`StateMachine::reclaim`] has something to free.
    #[must_use]
    pub fn has_reclaimable(&self) -> bool {
        let hold = self.pins.first_change_to_gather();
        self.history.has_freeable(hold) || self.kept.wants_sweep()
    }

    /// Bytes of the history that answer no read at a revision.
    fn unanswering_bytes(&self) -> u64 {
        self.history.held_bytes() - self.history.answering_bytes() + self.kept.bytes()
    }

    /// Takes a deleted key out of the map, unless it was changed since.
    fn forget_tombstone(&mut self, entry: &history::Entry, position: ChangePosition) {
        let Some(namespace) = self.namespaces.get_mut(&entry.namespace) else {
            panic!("the history names a namespace that does not exist");
        };
        let is_newest = namespace
            .keys
            .get(entry.key())
            .is_some_and(|head| head.position() == position);
        if is_newest {
            namespace.keys.remove(entry.key());
        }
    }
}

impl Namespace {
    fn new() -> Namespace {
        Namespace {
            keys: KeyMap::new(),
            revision: Revision(0),
            oldest: Revision(0),
            answering_count: 0,
        }
    }
}

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters {
            history_revisions_max: 100_000,
            history_age_ms_max: 300_000,
            history_bytes_max: 64 * 1024 * 1024,
            value_bytes_max: 1536 * 1024,
            txn_visits_max: 4096,
            txn_answer_bytes_max: 3584 * 1024,
            sweep_keys_max: 512,
            sweep_visits_max: 2048,
        }
    }
}

#[cfg(test)]
mod tests;
