//! Changing the state, command by command.

use super::decide::{Context, Decision, decide};
use super::hash::StateHash;
use super::history::{ChangePosition, Entry};
use super::key_map::Head;
use super::record::Record;
use super::{Namespace, RECLAIM_ENTRIES_PER_COMMAND, StateMachine};
use crate::batch::{Batch, BatchError};
use crate::command::{Command, CommandError, CommandKind};
use crate::ids::{NamespaceId, Revision, ShardTime};
use crate::outcome::{Outcome, OutcomeCode};

/// Why a batch cannot be applied. The replica must halt: the state may hold a part of the batch, and going on would
/// diverge from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The batch is malformed, or a command in it is.
    #[error("malformed batch: {0}")]
    Batch(#[from] BatchError),
    /// A command breaks a rule that the edge checks.
    #[error("command {position}: {error}")]
    Command {
        /// Position of the command in the batch, from 0.
        position: u32,
        /// The rule.
        error: CommandError,
    },
    /// The leader stamped an earlier time than the batch before.
    #[error("the shard's time went back from {from} to {to}")]
    TimeWentBack {
        /// The time of the last batch.
        from: ShardTime,
        /// The time of this one.
        to: ShardTime,
    },
}

/// Changes that one command lets grow too old at most. Age can run out for many changes at once, after a pause; the
/// other limits are overstepped by one command's worth, and what is let go is freed after [`COMMANDS_PER_RECLAIM`] commands.
/// A command that makes many changes lets as many go.
const AGED_ENTRIES_PER_COMMAND: u64 = 64;

/// Changes that one command passes over because their namespace was compacted beyond them.
const COMPACTED_ENTRIES_PER_COMMAND: u64 = 1024;

/// Commands of a batch after which what they may free is freed: together it costs less.
const COMMANDS_PER_RECLAIM: u32 = 16;

/// Entries that a command frees for each that it adds, so that freeing catches up after a pin is gone.
const RECLAIM_ENTRIES_PER_CHANGE: u64 = 2;

/// Bytes of history that a command adds for each entry it frees beyond the usual: entries are seldom larger, so
/// freeing keeps up with large values.
const RECLAIM_BYTES_PER_ENTRY: u64 = 256;

impl StateMachine {
    /// Applies a batch in order and hands each command's outcome to `on_outcome` as it is decided.
    ///
    /// # Errors
    /// Any [`ApplyError`]; the replica must halt.
    pub fn apply(
        &mut self,
        batch: &Batch<'_>,
        on_outcome: &mut impl FnMut(Outcome<'_>),
    ) -> Result<(), ApplyError> {
        if batch.shard_time < self.shard_time {
            return Err(ApplyError::TimeWentBack {
                from: self.shard_time,
                to: batch.shard_time,
            });
        }
        self.shard_time = batch.shard_time;
        self.hash.add(batch.shard_time.0);
        self.hash.add(batch.term);
        self.break_aged_pins();
        let mut entries_to_free = 0;
        for (position, command) in (0..).zip(batch.commands()) {
            let command = command?;
            command
                .check_rules()
                .map_err(|error| ApplyError::Command { position, error })?;
            let held_bytes = self.history.held_bytes();
            let first_change = self.history.next();
            if command.kind.has_structure() {
                self.apply_structured(&command, on_outcome)
                    .map_err(|error| ApplyError::Command { position, error })?;
            } else {
                self.apply_command(&command, on_outcome);
            }
            let added_bytes = self.history.held_bytes() - held_bytes;
            let changes = self.history.next().0 - first_change.0;
            self.raise_floor(changes);
            let entries = RECLAIM_ENTRIES_PER_COMMAND.max(changes * RECLAIM_ENTRIES_PER_CHANGE);
            entries_to_free += (entries + added_bytes / RECLAIM_BYTES_PER_ENTRY) as usize;
            if (position + 1) % COMMANDS_PER_RECLAIM == 0 {
                self.reclaim(std::mem::take(&mut entries_to_free));
            }
        }
        self.reclaim(entries_to_free);
        self.break_heavy_pins();
        self.hash.add(self.history.floor().0);
        Ok(())
    }

    /// Passes over revisions in every namespace: changes that were lost had some of them, and neither may another change
    /// get the same, nor a read at one of them see a state that never had it. What happened before is forgotten, as by a
    /// compaction, so reads at older revisions are refused.
    ///
    /// # Panics
    /// When revisions run out.
    pub fn pass_revisions(&mut self, count: u64) {
        // All that was ever written here may have been lost.
        self.namespaces
            .entry(NamespaceId::DEFAULT)
            .or_insert_with(Namespace::new);
        for namespace in self.namespaces.values_mut() {
            let revision = namespace.revision.0.checked_add(count);
            namespace.revision = Revision(revision.expect("revisions do not run out"));
            namespace.oldest = namespace.revision;
        }
        self.hash.add(count);
    }

    fn apply_command(&mut self, command: &Command<'_>, on_outcome: &mut impl FnMut(Outcome<'_>)) {
        let namespace = self
            .namespaces
            .entry(command.namespace)
            .or_insert_with(Namespace::new);
        let head = namespace.keys.get_mut(command.key);
        let current = head.as_deref().and_then(Head::live).map(Record::row);
        let context = Context {
            parameters: &self.parameters,
            revision: namespace.revision,
        };
        let (after, number) = match decide(command, current, &context, &mut self.scratch) {
            Decision::Set { after, number } => (Some(after), number),
            Decision::Remove => (None, None),
            Decision::Keep {
                code,
                revision,
                number,
            } => {
                let previous = current.filter(|_| command.is_previous_wanted());
                let outcome = Outcome {
                    code,
                    revision,
                    number,
                    previous,
                    detail: None,
                };
                self.hash.add_outcome(command, &outcome);
                on_outcome(outcome);
                return;
            }
        };
        let revision = namespace.revision.next();
        namespace.revision = revision;
        let link = self
            .history
            .link_to(head.as_deref().map_or(ChangePosition(0), Head::position));
        let (before, inserted) = supplant(head, after.as_ref(), self.history.next());
        if let Some(head) = inserted {
            namespace.keys.insert(head);
        }
        let previous = before
            .as_ref()
            .map(Record::row)
            .filter(|_| command.is_previous_wanted());
        let outcome = Outcome {
            code: OutcomeCode::Done,
            revision,
            number,
            previous,
            detail: None,
        };
        self.hash
            .add_bytes(after.as_ref().map_or(command.key, Record::bytes));
        self.hash.add_outcome(command, &outcome);
        on_outcome(outcome);
        self.add_to_history(Entry {
            namespace: command.namespace,
            kind: command.kind,
            revision,
            time: self.shard_time,
            after,
            before,
            link,
            bytes_before: 0,
        });
    }

    /// Makes a change that was decided before, at a revision that the namespace has taken.
    pub(super) fn change_key(&mut self, id: NamespaceId, revision: Revision, change: KeyChange) {
        let Some(namespace) = self.namespaces.get_mut(&id) else {
            panic!("a change was decided in a namespace that does not exist");
        };
        let KeyChange { kind, key, after } = change;
        let head = namespace.keys.get_mut(&key);
        let link = self
            .history
            .link_to(head.as_deref().map_or(ChangePosition(0), Head::position));
        let (before, inserted) = supplant(head, after.as_ref(), self.history.next());
        if let Some(head) = inserted {
            namespace.keys.insert(head);
        }
        self.hash
            .add_bytes(after.as_ref().map_or(key.as_slice(), Record::bytes));
        self.add_to_history(Entry {
            namespace: id,
            kind,
            revision,
            time: self.shard_time,
            after,
            before,
            link,
            bytes_before: 0,
        });
    }

    pub(super) fn add_to_history(&mut self, entry: Entry) {
        if let Some(namespace) = self.namespaces.get_mut(&entry.namespace) {
            namespace.answering_count += 1;
        }
        self.key_count += u64::from(entry.after.is_some());
        self.key_count -= u64::from(entry.before.is_some());
        self.live_bytes += entry.after.as_ref().map_or(0, Record::bytes_len);
        self.live_bytes -= entry.before.as_ref().map_or(0, Record::bytes_len);
        self.history.push(entry);
    }

    /// Lets go of what the history no longer has to answer. Deterministic: nothing but the log and the parameters
    /// decides.
    fn raise_floor(&mut self, changes: u64) {
        let aged_max = AGED_ENTRIES_PER_COMMAND.max(2 * changes);
        let (mut aged, mut compacted) = (0, 0);
        while let Some(oldest) = self.history.oldest_answering() {
            let (id, revision) = (oldest.namespace, oldest.revision);
            let is_over = self.history.answering_count() > self.parameters.history_revisions_max
                || self.history.answering_bytes() > self.parameters.history_bytes_max;
            let is_aged = self.shard_time.0 - oldest.time.0 > self.parameters.history_age_ms_max;
            let Some(namespace) = self.namespaces.get_mut(&id) else {
                panic!("the history names a namespace that does not exist");
            };
            // Compacted beyond it, or a part of a transaction whose first changes are gone: no read asks for it.
            let is_compacted = revision <= namespace.oldest;
            match (is_over, is_compacted, is_aged) {
                (true, _, _) => {}
                (_, true, _) if compacted < COMPACTED_ENTRIES_PER_COMMAND => compacted += 1,
                (_, _, true) if aged < aged_max => aged += 1,
                _ => return,
            }
            namespace.oldest = namespace.oldest.max(revision);
            namespace.answering_count -= 1;
            self.history.raise_floor();
        }
    }
}

/// A change that was decided and is not made yet.
#[derive(Debug)]
pub(super) struct KeyChange {
    /// The command that makes it.
    pub(super) kind: CommandKind,
    pub(super) key: Vec<u8>,
    /// `None` where it removes the key.
    pub(super) after: Option<Record>,
}

/// Puts a version, or a tombstone, where a key's head is. Returns what was live before, and the head of a key that the
/// map does not have yet.
fn supplant(
    head: Option<&mut Head>,
    after: Option<&Record>,
    position: ChangePosition,
) -> (Option<Record>, Option<Head>) {
    match (head, after) {
        (Some(head), Some(after)) => (head.replace(after.clone(), position), None),
        (Some(head), None) => (Some(head.bury(position)), None),
        (None, Some(after)) => (None, Some(Head::new(after.clone(), position))),
        (None, None) => panic!("an absent key is not removed"),
    }
}

impl StateHash {
    pub(super) fn add_outcome(&mut self, command: &Command<'_>, outcome: &Outcome<'_>) {
        let what = (u64::from(command.namespace.0) << 32) | ((command.kind as u64) << 16);
        self.add(what | outcome.code as u64);
        self.add(outcome.revision.0);
        self.add(outcome.number.map_or(0, i64::cast_unsigned));
    }
}
