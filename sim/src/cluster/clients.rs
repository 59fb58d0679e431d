//! Clients of a cluster: each asks for one thing at a time, goes to another node when it is sent away, and never asks
//! again for what may have happened.

use std::collections::BTreeMap;

use metastore_engine::{ConnectionId, NodeId, PeerCore, ShardId, ShardMap, Time};
use metastore_net::RequestId;
use metastore_net::blocking::OwnedRow;
use metastore_statemachine::{Command, OutcomeCode, Revision, Scope};

use super::link::ClientEnd;
use super::shape::shard_of;
use crate::checkers::linearizability::{Action, End};
use crate::operation::{Change, Operation};
use crate::oracle::Moment;
use crate::workload::{Known, directory_of};

/// How requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterTally {
    /// Operations that were answered.
    pub succeeded: u64,
    /// Operations that were certainly not done, however often they were tried.
    pub failed: u64,
    /// Operations that may have changed something, of which nobody knows.
    pub unknown: u64,
    /// Tries that were answered "not here" or "not now", and were repeated.
    pub retries: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Commands on several keys that were done, of those that succeeded.
    pub compounds: u64,
    /// Commands on several keys that found a condition of theirs broken.
    pub compounds_refused: u64,
    /// Batches, of those that succeeded.
    pub batches: u64,
    /// Ranges and counts, of those that succeeded.
    pub ranges: u64,
    /// Reads in the past, of those that succeeded.
    pub past_reads: u64,
    /// Reads that a follower answered.
    pub follower_reads: u64,
}

/// What a client is waiting for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What it asked for.
    pub operation: Operation,
    /// The shard that it is about, `None` when there are several.
    pub shard: Option<ShardId>,
    /// Its commands as they are sent.
    pub(super) commands: Vec<Vec<u8>>,
    /// The rows of a range so far. Whoever asks again begins without any.
    pub rows: Vec<OwnedRow>,
    /// How often it was tried.
    pub(super) tries: u32,
    /// Names the present try, so that what was meant for an earlier one is told apart.
    pub(super) number: u64,
    pub(super) sent: Moment,
    /// The connection and request of the present try; `None` between two tries.
    pub(super) under_way: Option<(ConnectionId, RequestId)>,
    pub(super) began: Time,
    /// Operations on its shard that began later and were answered.
    pub(super) overtaken: u64,
}

/// A client.
pub(super) struct Client {
    pub(super) links: BTreeMap<PeerCore, ClientEnd>,
    /// Where each shard was led from when it last answered.
    pub(super) leaders: BTreeMap<ShardId, NodeId>,
    pub(super) known: Known,
    pub(super) asked: Option<Asked>,
    pub(super) next_number: u64,
}

/// What one shard saw of an operation, and how it ended there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The shard.
    pub shard: ShardId,
    /// What it was asked for.
    pub action: Action,
    /// How it ended.
    pub end: End,
}

impl Asked {
    /// What a client begins to ask for at `now`.
    #[must_use]
    pub fn new(operation: Operation, map: &ShardMap, now: Time) -> Asked {
        let commands: Vec<Vec<u8>> = operation.changes().iter().map(Change::encoded).collect();
        let shard = match &operation {
            Operation::Mutate(_) | Operation::Compound(_) | Operation::Batch(_) => {
                let (first, _) = Command::decode(&commands[0]).expect("clients send commands");
                Some(shard_of(map, first.key))
            }
            Operation::Get { key, .. } => Some(shard_of(map, key)),
            Operation::GetMany { keys, .. } => Some(shard_of(map, &keys[0])),
            Operation::Range(range) | Operation::Count(range) => match range.scope {
                Scope::Children { .. } => Some(shard_of(map, &range.prefix)),
                Scope::Subtree => None,
            },
            Operation::Audit | Operation::Status => {
                unreachable!("clients of a cluster do not ask for it")
            }
        };
        Asked {
            operation,
            shard,
            commands,
            rows: Vec::new(),
            tries: 0,
            number: 0,
            sent: Moment(0),
            under_way: None,
            began: now,
            overtaken: 0,
        }
    }

    /// Whether it may change anything.
    #[must_use]
    pub fn is_mutation(&self) -> bool {
        !self.commands.is_empty()
    }

    /// What is known of its commands when nobody will ever say what became of them.
    #[must_use]
    pub fn unknown_parts(&self, map: &ShardMap) -> Vec<Part> {
        let ends = self.commands.iter().map(|_| Some(End::Unknown));
        self.command_parts(map, ends)
    }

    /// Each of its commands, as a part of its own.
    pub(super) fn command_parts(
        &self,
        map: &ShardMap,
        ends: impl Iterator<Item = Option<End>>,
    ) -> Vec<Part> {
        let changes = self.operation.changes();
        let commands = changes.iter().zip(&self.commands).zip(ends);
        let parts = commands.filter_map(|((change, bytes), end)| {
            let (command, _) = Command::decode(bytes).expect("clients send commands");
            let action = match change {
                Change::Mutation(mutation) => Action::Mutate((*mutation).clone()),
                Change::Compound(compound) => Action::Compound((*compound).clone()),
            };
            Some(Part {
                shard: shard_of(map, command.key),
                action,
                end: end?,
            })
        });
        parts.collect()
    }
}

impl Client {
    pub(super) fn new() -> Client {
        Client {
            links: BTreeMap::new(),
            leaders: BTreeMap::new(),
            known: Known::new(),
            asked: None,
            next_number: 0,
        }
    }

    /// Forgets a connection; true when it was there.
    pub(super) fn drop_link(&mut self, id: ConnectionId) -> bool {
        let before = self.links.len();
        self.links.retain(|_, link| link.id != id);
        self.links.len() < before
    }
}

/// Remembers the revisions that an answer told.
pub fn learn(known: &mut Known, part: &Part) {
    match (&part.action, &part.end) {
        (Action::Mutate(mutation), End::Outcome { outcome, .. }) => {
            if matches!(outcome.code, OutcomeCode::Done | OutcomeCode::Conflict) {
                known.insert(mutation.key.clone(), outcome.revision);
            }
        }
        (Action::Read { keys, at: None }, End::Rows { revision, rows, .. }) => {
            for (key, row) in keys.iter().zip(rows) {
                let of_key = row.as_ref().map_or(Revision(0), |row| row.mod_revision);
                known.insert(key.clone(), of_key);
            }
            let directory = directory_of(&keys[0]).to_vec();
            known.insert(directory, *revision);
        }
        (Action::Range { range, .. }, End::Listed { revision, rows, .. }) if range.at.is_none() => {
            for row in rows.iter().filter(|row| row.version > 0) {
                known.insert(row.key.clone(), row.mod_revision);
                let directory = directory_of(&row.key).to_vec();
                known.insert(directory, *revision);
            }
        }
        (
            Action::Mutate(_)
            | Action::Compound(_)
            | Action::Read { .. }
            | Action::Range { .. }
            | Action::Count(_),
            _,
        ) => {}
    }
}

impl ClusterTally {
    /// Counts an operation that was answered.
    pub(super) fn add_answered(&mut self, asked: &Asked, parts: &[Part]) {
        self.succeeded += 1;
        match &asked.operation {
            Operation::Compound(_) => {
                let is_done = parts.iter().any(|part| {
                    matches!(&part.end, End::Outcome { outcome, .. } if outcome.code == OutcomeCode::Done)
                });
                self.compounds += u64::from(is_done);
                self.compounds_refused += u64::from(!is_done);
            }
            Operation::Batch(_) => self.batches += 1,
            Operation::Range(range) | Operation::Count(range) => {
                self.ranges += 1;
                self.past_reads += u64::from(range.at.is_some());
            }
            Operation::Get { at, .. } | Operation::GetMany { at, .. } => {
                self.past_reads += u64::from(at.is_some());
            }
            Operation::Mutate(_) | Operation::Audit | Operation::Status => {}
        }
    }

    /// Adds what clients of another cluster did.
    pub(super) fn add(&mut self, other: &ClusterTally) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.retries += other.retries;
        self.connections += other.connections;
        self.compounds += other.compounds;
        self.compounds_refused += other.compounds_refused;
        self.batches += other.batches;
        self.ranges += other.ranges;
        self.past_reads += other.past_reads;
        self.follower_reads += other.follower_reads;
    }
}
