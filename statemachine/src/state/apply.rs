//! Changing the state, command by command.

use super::history::{ChangePosition, Entry};
use super::key_map::Head;
use super::record::Record;
use super::{Namespace, Parameters, RECLAIM_ENTRIES_PER_COMMAND, StateMachine};
use crate::batch::{Batch, BatchError};
use crate::command::{Command, CommandError, CommandKind};
use crate::ids::{Revision, ShardTime};
use crate::outcome::{Outcome, OutcomeCode};
use crate::row::Row;

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

/// What a command comes to, before it is done.
enum Decision {
    /// The key gets a version, which has been put together.
    Set { after: Record, number: Option<i64> },
    /// The key goes.
    Remove,
    /// Nothing changes.
    Keep {
        code: OutcomeCode,
        revision: Revision,
        number: Option<i64>,
    },
}

/// What a decision is made from, beside the command and the key.
struct Context<'a> {
    parameters: &'a Parameters,
    /// Revision of the namespace's last change.
    revision: Revision,
}

/// Changes that one command lets grow too old at most. Age can run out for many changes at once, after a pause; the
/// other limits are overstepped by one command's worth.
const AGED_ENTRIES_PER_COMMAND: usize = 64;

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
        self.pins.break_aged(self.shard_time);
        for (position, command) in (0..).zip(batch.commands()) {
            let command = command?;
            command
                .check_rules()
                .map_err(|error| ApplyError::Command { position, error })?;
            let held_bytes = self.history.held_bytes();
            self.apply_command(&command, on_outcome);
            let added_bytes = self.history.held_bytes() - held_bytes;
            self.raise_floor();
            let extra_entries = added_bytes / RECLAIM_BYTES_PER_ENTRY;
            self.reclaim(RECLAIM_ENTRIES_PER_COMMAND + extra_entries as usize);
        }
        self.pins.break_heavy(self.memory_unanswering_bytes());
        self.hash.add(self.history.floor().0);
        Ok(())
    }

    fn apply_command(&mut self, command: &Command<'_>, on_outcome: &mut impl FnMut(Outcome<'_>)) {
        let position = self.history.next();
        let namespace = self
            .namespaces
            .entry(command.namespace)
            .or_insert_with(Namespace::new);
        let head = namespace.keys.get_mut(command.key);
        let current = head.as_deref().and_then(Head::live);
        let context = Context {
            parameters: &self.parameters,
            revision: namespace.revision,
        };
        let (after, number) = match decide(
            command,
            current.map(Record::row),
            &context,
            &mut self.scratch,
        ) {
            Decision::Keep {
                code,
                revision,
                number,
            } => {
                let previous = current
                    .map(Record::row)
                    .filter(|_| command.is_previous_wanted());
                let outcome = Outcome {
                    code,
                    revision,
                    number,
                    previous,
                };
                self.hash.add(u64::from(command.namespace.0));
                self.hash.add_outcome(&outcome);
                on_outcome(outcome);
                return;
            }
            Decision::Set { after, number } => (Some(after), number),
            Decision::Remove => (None, None),
        };

        // The key's head.
        let before_position = head.as_deref().map_or(ChangePosition(0), Head::position);
        let before = match (head, &after) {
            (Some(head), Some(after)) => head.replace(after.clone(), position),
            (Some(head), None) => Some(head.bury(position)),
            (None, Some(after)) => {
                namespace.keys.insert(Head::new(after.clone(), position));
                None
            }
            (None, None) => panic!("an absent key is not removed"),
        };
        namespace.revision = namespace.revision.next();
        let revision = namespace.revision;

        // The accounts.
        self.key_count += u64::from(after.is_some());
        self.key_count -= u64::from(before.is_some());
        self.live_bytes += after.as_ref().map_or(0, Record::bytes_len);
        self.live_bytes -= before.as_ref().map_or(0, Record::bytes_len);
        self.hash.add(u64::from(command.namespace.0));
        self.hash
            .add_bytes(after.as_ref().map_or(command.key, Record::bytes));

        let previous = before
            .as_ref()
            .map(Record::row)
            .filter(|_| command.is_previous_wanted());
        let outcome = Outcome {
            code: OutcomeCode::Done,
            revision,
            number,
            previous,
        };
        self.hash.add_outcome(&outcome);
        on_outcome(outcome);
        self.history.push(Entry {
            namespace: command.namespace,
            kind: command.kind,
            revision,
            time: self.shard_time,
            after,
            before,
            before_position,
        });
    }

    /// Lets go of what the history no longer has to answer. Deterministic: nothing but the log and the parameters
    /// decides.
    fn raise_floor(&mut self) {
        let mut aged_entries = 0;
        while let Some(oldest) = self.history.oldest_answering() {
            let is_over = self.history.answering_count() > self.parameters.history_revisions_max
                || self.history.answering_bytes() > self.parameters.history_bytes_max;
            let is_aged = self.shard_time.0 - oldest.time.0 > self.parameters.history_age_ms_max;
            if !is_over && (!is_aged || aged_entries == AGED_ENTRIES_PER_COMMAND) {
                return;
            }
            aged_entries += usize::from(!is_over);
            let (id, revision) = (oldest.namespace, oldest.revision);
            let Some(namespace) = self.namespaces.get_mut(&id) else {
                panic!("the history names a namespace that does not exist");
            };
            namespace.oldest = revision;
            self.history.raise_floor();
        }
    }

    fn memory_unanswering_bytes(&self) -> u64 {
        self.history.held_bytes() - self.history.answering_bytes()
    }
}

impl super::StateHash {
    fn add_outcome(&mut self, outcome: &Outcome<'_>) {
        self.add(outcome.code as u64);
        self.add(outcome.revision.0);
        self.add(outcome.number.map_or(0, i64::cast_unsigned));
    }
}

/// What the command comes to on the key as it is.
fn decide(
    command: &Command<'_>,
    current: Option<Row<'_>>,
    context: &Context<'_>,
    scratch: &mut Vec<u8>,
) -> Decision {
    let mod_revision = current.map_or(Revision(0), |row| row.mod_revision);
    let is_unexpected = command
        .expected_revision
        .is_some_and(|expected| expected != mod_revision);
    if is_unexpected || (command.is_absence_required() && current.is_some()) {
        return Decision::Keep {
            code: OutcomeCode::Conflict,
            revision: mod_revision,
            number: None,
        };
    }
    match command.kind {
        CommandKind::Put => {
            let lease = command.lease.unwrap_or(0);
            let row = next_version(command, current, context);
            let after = Record::build(
                &Row {
                    value: command.value,
                    lease,
                    ..row
                },
                &[],
                scratch,
            );
            Decision::Set {
                after,
                number: None,
            }
        }
        CommandKind::Delete => match current {
            Some(_) => Decision::Remove,
            None => context.refuse(OutcomeCode::Absent),
        },
        CommandKind::Append => {
            let row = next_version(command, current, context);
            if row.value.len() + command.value.len() > context.parameters.value_bytes_max {
                return context.refuse(OutcomeCode::TooLarge);
            }
            Decision::Set {
                after: Record::build(&row, command.value, scratch),
                number: None,
            }
        }
        CommandKind::AddI64 | CommandKind::MaxI64 | CommandKind::MinI64 => {
            decide_counter(command, current, context, scratch)
        }
    }
}

fn decide_counter(
    command: &Command<'_>,
    current: Option<Row<'_>>,
    context: &Context<'_>,
    scratch: &mut Vec<u8>,
) -> Decision {
    let Some(operand) = number_of(command.value) else {
        panic!("the operand was checked");
    };
    let number = match current {
        None => operand,
        Some(row) => {
            let Some(number) = number_of(row.value) else {
                return context.refuse(OutcomeCode::NotANumber);
            };
            let next = match command.kind {
                CommandKind::MaxI64 => Some(number.max(operand)),
                CommandKind::MinI64 => Some(number.min(operand)),
                CommandKind::AddI64
                | CommandKind::Put
                | CommandKind::Delete
                | CommandKind::Append => number.checked_add(operand),
            };
            let Some(next) = next else {
                return context.refuse(OutcomeCode::Overflow);
            };
            if next == number && command.kind != CommandKind::AddI64 {
                let revision = row.mod_revision;
                return Decision::Keep {
                    code: OutcomeCode::Done,
                    revision,
                    number: Some(number),
                };
            }
            next
        }
    };
    let row = next_version(command, current, context);
    let value = number.to_le_bytes();
    let after = Record::build(
        &Row {
            value: &value,
            ..row
        },
        &[],
        scratch,
    );
    Decision::Set {
        after,
        number: Some(number),
    }
}

/// The row that the key gets, with the value and lease that it has.
fn next_version<'a>(
    command: &Command<'a>,
    current: Option<Row<'a>>,
    context: &Context<'_>,
) -> Row<'a> {
    let revision = context.revision.next();
    match current {
        Some(row) => Row {
            mod_revision: revision,
            version: row.version + 1,
            ..row
        },
        None => Row {
            key: command.key,
            value: &[],
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        },
    }
}

impl Context<'_> {
    /// Nothing changes, and the answer names the namespace's revision.
    fn refuse(&self, code: OutcomeCode) -> Decision {
        Decision::Keep {
            code,
            revision: self.revision,
            number: None,
        }
    }
}

/// A counter's value.
fn number_of(value: &[u8]) -> Option<i64> {
    value.try_into().ok().map(i64::from_le_bytes)
}
