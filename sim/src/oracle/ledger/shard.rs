//! One shard of the ledger: what its log comes to.

use std::collections::BTreeMap;

use metastore_engine::{LogIndex, ReplicaId, ShardId, Term};
use metastore_net::blocking::OwnedOutcome;
use metastore_statemachine::{Batch, Codec, Command, Parameters, Revision, Row, StateMachine};

use super::super::model::{Model, ModelOutcome, ModelRow};
use crate::violation::{Violation, readable};

/// Everything durable of a shard, applied.
#[derive(Debug)]
pub(super) struct ShardLedger {
    pub(super) replica: ReplicaId,
    pub(super) entries: BTreeMap<LogIndex, (Term, u64)>,
    pub(super) commands: u64,
    /// The position of the change that took each revision, from revision 1 on.
    pub(super) changes: Vec<u64>,
    pub(super) model: Model,
    pub(super) state: StateMachine,
}

/// A command of the log.
#[derive(Debug)]
pub(super) struct AppliedCommand {
    pub(super) shard: ShardId,
    /// Its place among all commands of the shard.
    pub(super) position: u64,
    pub(super) revision_after: Revision,
    pub(super) outcome: ModelOutcome,
    pub(super) is_answered: bool,
}

/// How often a command was sent, refused, and written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    pub(super) sent: u64,
    pub(super) refused: u64,
    pub(super) in_log: u64,
}

impl ShardLedger {
    pub(super) fn new(replica: ReplicaId, parameters: Parameters) -> ShardLedger {
        ShardLedger {
            replica,
            entries: BTreeMap::new(),
            commands: 0,
            changes: Vec::new(),
            model: Model::default(),
            state: StateMachine::new(parameters),
        }
    }

    pub(super) fn last_index(&self) -> LogIndex {
        self.entries
            .last_key_value()
            .map_or(LogIndex(0), |(&index, _)| index)
    }

    pub(super) fn position_of(&self, revision: Revision) -> u64 {
        match usize::try_from(revision.0) {
            Ok(number @ 1..) => self.changes[number - 1],
            Ok(0) | Err(_) => 0,
        }
    }

    pub(super) fn apply(&mut self, shard: ShardId, command: &Command<'_>) -> AppliedCommand {
        let before = self.model.revision();
        let outcome = self.model.apply(command);
        self.commands += 1;
        if self.model.revision() > before {
            self.changes.push(self.commands);
        }
        AppliedCommand {
            shard,
            position: self.commands,
            revision_after: self.model.revision(),
            outcome,
            is_answered: false,
        }
    }
}

impl AppliedCommand {
    pub(super) fn fits(&self, answered: &OwnedOutcome) -> bool {
        self.outcome.is(answered, self.shard)
    }
}

impl Account {
    pub(super) fn check(&self, command: &Command<'_>) -> Result<(), Violation> {
        if self.in_log + self.refused <= self.sent {
            return Ok(());
        }
        Err(Violation::RefusedAndDone {
            key: readable(command.key),
            sent: self.sent,
            refused: self.refused,
            in_log: self.in_log,
        })
    }
}

pub(super) fn is_same_row(row: &Row<'_>, model: &ModelRow) -> bool {
    (
        row.value,
        row.create_revision,
        row.mod_revision,
        row.version,
    ) == (
        model.value.as_slice(),
        model.create_revision,
        model.mod_revision,
        model.version,
    )
}

pub(super) fn hash_of(data: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(data)
}

/// The commands in an entry, decompressed.
pub(crate) fn decompress(data: &[u8]) -> Vec<u8> {
    let batch = Batch::decode(data).expect("the core proposes batches");
    match batch.codec {
        Codec::None => batch.body.to_vec(),
        Codec::Snappy => snap::raw::Decoder::new()
            .decompress_vec(batch.body)
            .expect("the core compresses what can be decompressed"),
    }
}
