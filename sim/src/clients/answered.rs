//! An answer, taken apart and handed to the checkers.

use std::collections::BTreeMap;

use metastore_engine::{BatchItem, ChunkEnd, Happened, Reply, RequestError, ShardId};
use metastore_statemachine::{Outcome, OutcomeCode, Revision, Row};

use super::{Pending, Tally};
use crate::operation::{Change, Operation};
use crate::oracle::{FoundRow, Oracle, ReadRow};
use crate::violation::Violation;
use crate::workload::{Known, directory_of};

/// What is wrong with an answer.
pub(super) enum Fault {
    Violation(Violation),
    Form(&'static str),
}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Fault {
        Fault::Violation(violation)
    }
}

/// An answer with everything it is held against.
pub(super) struct Answered<'a> {
    pub(super) pending: &'a mut Pending,
    pub(super) known: &'a mut Known,
    pub(super) tally: &'a mut Tally,
    pub(super) oracle: &'a mut Oracle,
}

impl Answered<'_> {
    /// Whether the request is over.
    pub(super) fn check(mut self, reply: &Reply, arena: &[u8]) -> Result<bool, Fault> {
        match reply {
            Reply::Error(error) => self.on_error(error)?,
            Reply::Outcome(span) => {
                let operation = &self.pending.operation;
                if !matches!(operation, Operation::Mutate(_) | Operation::Compound(_)) {
                    return Err(Fault::Form("an outcome answers one mutation"));
                }
                self.on_outcome(0, span.of(arena))?;
            }
            Reply::Batch(items) => {
                if items.len() != self.pending.commands.len() {
                    return Err(Fault::Form("a batch is answered item by item"));
                }
                for (index, item) in items.iter().enumerate() {
                    match item {
                        BatchItem::Outcome(span) => self.on_outcome(index, span.of(arena))?,
                        BatchItem::Error(error) => self.on_mutation_error(index, error)?,
                    }
                }
            }
            Reply::Rows {
                shard,
                revision,
                found,
                rows,
                ..
            } => self.on_rows((*shard, *revision), found.of(arena), rows.of(arena))?,
            Reply::Chunk { count, rows, end } => {
                self.pending.rows.extend_from_slice(rows.of(arena));
                self.pending.row_count += u64::from(*count);
                let ChunkEnd::Last(revisions) = end else {
                    return Ok(false);
                };
                self.on_range(revisions)?;
            }
            Reply::Status(status) => {
                if self.pending.operation != Operation::Status {
                    return Err(Fault::Form("a status answers a status"));
                }
                if let Some(ledger) = &self.oracle.ledger {
                    ledger.check_states(&status.replicas)?;
                }
            }
            Reply::Count { .. } => return Err(Fault::Form("nothing was counted")),
            Reply::Cancelled => return Err(Fault::Form("nothing was cancelled")),
        }
        Ok(true)
    }

    fn on_error(&mut self, error: &RequestError) -> Result<(), Fault> {
        for index in 0..self.pending.commands.len() {
            self.on_mutation_error(index, error)?;
        }
        Ok(())
    }

    fn on_mutation_error(&mut self, index: usize, error: &RequestError) -> Result<(), Fault> {
        match error {
            RequestError::LogBudget { .. } | RequestError::DiskLow { .. } => {
                self.tally.refused_by_budget += 1
            }
            RequestError::Overloaded { .. } => self.tally.refused_by_load += 1,
            RequestError::Deadline {
                happened: Happened::NotDone,
            } => self.tally.deadlines_not_done += 1,
            RequestError::Deadline {
                happened: Happened::Unknown,
            } => self.tally.deadlines_unknown += 1,
            RequestError::UnknownNamespace(_)
            | RequestError::NotLeader { .. }
            | RequestError::Unavailable { .. }
            | RequestError::TooLarge { .. }
            | RequestError::AnswerTooLarge { .. }
            | RequestError::CrossShard { .. }
            | RequestError::DeletedInPart { .. }
            | RequestError::Compacted { .. }
            | RequestError::FutureRevision { .. }
            | RequestError::RangeExpired
            | RequestError::QuotaExceeded { .. }
            | RequestError::Cancelled
            | RequestError::ShuttingDown => {}
        }
        match error.happened() {
            Happened::NotDone => {
                self.tally.refused += 1;
                let command = &self.pending.commands[index];
                self.oracle.on_refused(command)?;
            }
            Happened::Unknown => {
                self.tally.unknown += 1;
                let change = self.pending.operation.changes()[index];
                self.oracle.on_unknown(change, &self.pending.sent);
            }
        }
        Ok(())
    }

    fn on_outcome(&mut self, index: usize, bytes: &[u8]) -> Result<(), Fault> {
        let Ok((outcome, length)) = Outcome::decode(bytes) else {
            return Err(Fault::Form("an outcome can be decoded"));
        };
        if length != bytes.len() {
            return Err(Fault::Form("an outcome stands alone"));
        }
        self.tally.acknowledged += 1;
        let change = self.pending.operation.changes()[index];
        let command = self.pending.commands[index].as_slice();
        self.oracle
            .on_acknowledged((change, command), &self.pending.sent, &outcome)?;
        match change {
            Change::Mutation(mutation) => {
                if matches!(outcome.code, OutcomeCode::Done | OutcomeCode::Conflict) {
                    self.known.insert(mutation.key.clone(), outcome.revision);
                }
            }
            Change::Compound(_) if outcome.code == OutcomeCode::Done => {
                self.tally.compounds_done += 1;
            }
            Change::Compound(_) => self.tally.compounds_failed += 1,
        }
        Ok(())
    }

    fn on_rows(
        &mut self,
        position: (ShardId, Revision),
        found: &[u8],
        mut rows: &[u8],
    ) -> Result<(), Fault> {
        let (keys, at) = match &self.pending.operation {
            Operation::Get { key, at } => (std::slice::from_ref(key), *at),
            Operation::GetMany { keys, at } => (keys.as_slice(), *at),
            Operation::Mutate(_)
            | Operation::Compound(_)
            | Operation::Batch(_)
            | Operation::Range(_)
            | Operation::Count(_)
            | Operation::Audit
            | Operation::Status => return Err(Fault::Form("rows answer reads of keys")),
        };
        if keys.len() != found.len() {
            return Err(Fault::Form("each key is found or not"));
        }
        self.tally.reads += 1;
        if at.is_none() {
            let directory = directory_of(&keys[0]).to_vec();
            self.known.insert(directory, position.1);
        }
        let mut read = Vec::new();
        for (key, &is_found) in keys.iter().zip(found) {
            let mut row = None;
            if is_found == 1 {
                let Ok((decoded, length)) = Row::decode(rows) else {
                    return Err(Fault::Form("a row can be decoded"));
                };
                rows = &rows[length..];
                self.known.insert(key.clone(), decoded.mod_revision);
                row = Some(decoded);
            }
            read.push(ReadRow { key, row });
        }
        if !rows.is_empty() {
            return Err(Fault::Form("there are as many rows as keys found"));
        }
        self.oracle
            .on_read(position, at, &self.pending.sent, &read)?;
        Ok(())
    }

    /// The last chunk of a range is there.
    fn on_range(&mut self, revisions: &[(ShardId, Revision)]) -> Result<(), Fault> {
        let Some(range) = self.pending.operation.range() else {
            return Err(Fault::Form("a chunk answers a range"));
        };
        self.tally.ranges += 1;
        let mut rest = self.pending.rows.as_slice();
        let rows = (rest, self.pending.row_count);
        self.oracle
            .on_range(&range, revisions, rows, &self.pending.sent)?;
        if self.pending.operation == Operation::Audit {
            let mut found = BTreeMap::new();
            while !rest.is_empty() {
                let Ok((row, length)) = Row::decode(rest) else {
                    return Err(Fault::Form("a row can be decoded"));
                };
                found.insert(row.key.to_vec(), FoundRow::of(&row));
                rest = &rest[length..];
            }
            self.tally.audits += 1;
            self.oracle.on_audit(found)?;
        }
        Ok(())
    }
}
