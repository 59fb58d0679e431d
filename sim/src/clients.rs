//! Simulated clients: what they have asked, what they are answered, and who checks it.

use std::collections::BTreeMap;

use metastore_engine::{
    BatchItem, ChunkEnd, ConnectionId, Happened, Input, Reply, Request, RequestError, RequestId,
    ShardId,
};
use metastore_statemachine::{
    Command, GetQuery, Outcome, OutcomeCode, Projection, RangeQuery, Revision, Row,
};

use crate::operation::{NAMESPACE, Operation, RangeOf};
use crate::oracle::{FoundRow, Oracle, ReadRow, Sent};
use crate::violation::Violation;
use crate::workload::Known;

/// A request that waits for its answer.
#[derive(Debug)]
struct Pending {
    operation: Operation,
    /// The bytes of its mutations.
    commands: Vec<Vec<u8>>,
    sent: Sent,
    /// The rows of a range so far, with their number.
    rows: Vec<u8>,
    row_count: u64,
}

#[derive(Debug)]
struct Client {
    connection: ConnectionId,
    next_request: u64,
    pending: BTreeMap<RequestId, Pending>,
    known: Known,
}

/// How requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Mutations that were answered with an outcome.
    pub acknowledged: u64,
    /// Mutations that were refused: certainly not done.
    pub refused: u64,
    /// Mutations of which nobody knows.
    pub unknown: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Ranges that were answered to the end.
    pub ranges: u64,
    /// Those that read everything after a start, to judge all that clients saw.
    pub audits: u64,
    /// Refusals because the log has spent its budget.
    pub refused_by_budget: u64,
    /// Refusals because no segment is prepared, or too much waits.
    pub refused_by_load: u64,
    /// Mutations whose deadline passed before they were proposed.
    pub deadlines_not_done: u64,
    /// Mutations whose deadline passed after they were proposed.
    pub deadlines_unknown: u64,
}

/// What the connection that was answered must do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterAnswer {
    /// The request is done.
    Done,
    /// The chunk has to leave before the next one comes.
    Drain,
    /// The connection is gone, nobody reads the answer.
    Nobody,
}

/// All clients.
#[derive(Debug)]
pub struct Clients {
    clients: Vec<Client>,
    next_connection: u64,
    tally: Tally,
}

impl Clients {
    /// `count` clients, each with a connection.
    #[must_use]
    pub fn new(count: usize) -> Clients {
        let clients = (1..=count as u64).map(|number| Client {
            connection: ConnectionId(number),
            next_request: 1,
            pending: BTreeMap::new(),
            known: Known::new(),
        });
        Clients {
            clients: clients.collect(),
            next_connection: count as u64 + 1,
            tally: Tally::default(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.clients.len()
    }

    /// How requests ended.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How many requests of a client wait.
    #[must_use]
    pub fn pending(&self, client: usize) -> usize {
        self.clients[client].pending.len()
    }

    /// How many requests wait.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.clients.iter().map(|client| client.pending.len()).sum()
    }

    /// What a client knows.
    #[must_use]
    pub fn known(&self, client: usize) -> &Known {
        &self.clients[client].known
    }

    /// Sends a request: `deliver` gets it as the core does.
    pub fn send(
        &mut self,
        client: usize,
        operation: Operation,
        deadline_ms: u32,
        oracle: &mut Oracle,
        deliver: &mut dyn FnMut(Input<'_>),
    ) {
        let client = &mut self.clients[client];
        let request = RequestId(client.next_request);
        client.next_request += 1;
        let commands: Vec<Vec<u8>> = operation
            .mutations()
            .iter()
            .map(|mutation| mutation.encoded())
            .collect();
        let pending = Pending {
            sent: oracle.on_sent(&commands),
            commands,
            operation,
            rows: Vec::new(),
            row_count: 0,
        };
        let connection = client.connection;
        pending.deliver(&mut |body| {
            deliver(Input::Request {
                connection,
                request,
                deadline_ms,
                body,
            });
        });
        client.pending.insert(request, pending);
    }

    /// A client's connection breaks; it makes another. Returns the one that broke.
    pub fn reconnect(&mut self, client: usize, oracle: &mut Oracle) -> ConnectionId {
        let client = &mut self.clients[client];
        for pending in std::mem::take(&mut client.pending).into_values() {
            for mutation in pending.operation.mutations() {
                self.tally.unknown += 1;
                oracle.on_unknown(mutation, &pending.sent);
            }
        }
        let broken = client.connection;
        client.connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        broken
    }

    /// The node is gone: so is every connection.
    pub fn on_crash(&mut self, oracle: &mut Oracle) {
        for client in 0..self.clients.len() {
            self.reconnect(client, oracle);
        }
    }

    /// A request is answered.
    ///
    /// # Errors
    /// The answer is wrong.
    pub fn on_answer(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
        reply: &Reply,
        arena: &[u8],
        oracle: &mut Oracle,
    ) -> Result<AfterAnswer, Violation> {
        let found = self
            .clients
            .iter_mut()
            .find(|client| client.connection == connection);
        let Some(client) = found else {
            return Ok(AfterAnswer::Nobody);
        };
        let Some(mut pending) = client.pending.remove(&request) else {
            return Err(Violation::AnswerWithoutRequest {
                connection: connection.0,
                request: request.0,
            });
        };
        let answered = Answered {
            pending: &mut pending,
            known: &mut client.known,
            tally: &mut self.tally,
            oracle,
        };
        let is_over = answered.check(reply, arena).map_err(|fault| match fault {
            Fault::Violation(violation) => violation,
            Fault::Form(what) => Violation::BadAnswer {
                connection: connection.0,
                request: request.0,
                what,
            },
        })?;
        if is_over {
            return Ok(AfterAnswer::Done);
        }
        client.pending.insert(request, pending);
        Ok(AfterAnswer::Drain)
    }
}

impl Pending {
    fn deliver(&self, deliver: &mut dyn FnMut(Request<'_>)) {
        match &self.operation {
            Operation::Mutate(_) => {
                let bytes = &self.commands[0];
                let (command, _) = Command::decode(bytes).expect("clients send commands");
                deliver(Request::Command { command, bytes });
            }
            Operation::Batch(mutations) => deliver(Request::Batch {
                count: u32::try_from(mutations.len()).expect("a small batch"),
                commands: &self.commands.concat(),
            }),
            Operation::Get { key, at } => deliver(Request::Get(GetQuery {
                namespace: NAMESPACE,
                key,
                at: *at,
            })),
            Operation::GetMany { keys } => {
                let mut list = Vec::new();
                for key in keys {
                    let length = u32::try_from(key.len()).expect("a short key");
                    list.extend_from_slice(&length.to_le_bytes());
                    list.extend_from_slice(key);
                }
                deliver(Request::GetMany {
                    namespace: NAMESPACE,
                    at: None,
                    count: u32::try_from(keys.len()).expect("a few keys"),
                    keys: &list,
                });
            }
            Operation::Range(_) | Operation::Audit => {
                let range = self.operation.range().expect("it reads a range");
                deliver(Request::Range {
                    query: query_of(&range),
                    chunk_bytes: range.chunk_bytes,
                });
            }
            Operation::Status => deliver(Request::Status),
        }
    }
}

fn query_of(range: &RangeOf) -> RangeQuery<'_> {
    RangeQuery {
        namespace: NAMESPACE,
        prefix: &range.prefix,
        start: &[],
        end: &[],
        scope: range.scope,
        direction: range.direction,
        projection: Projection::KeysAndValues,
        at: None,
        limit: range.limit,
    }
}

/// What is wrong with an answer.
enum Fault {
    Violation(Violation),
    Form(&'static str),
}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Fault {
        Fault::Violation(violation)
    }
}

/// An answer with everything it is held against.
struct Answered<'a> {
    pending: &'a mut Pending,
    known: &'a mut Known,
    tally: &'a mut Tally,
    oracle: &'a mut Oracle,
}

impl Answered<'_> {
    /// Whether the request is over.
    fn check(mut self, reply: &Reply, arena: &[u8]) -> Result<bool, Fault> {
        match reply {
            Reply::Error(error) => self.on_error(error)?,
            Reply::Outcome(span) => {
                if !matches!(self.pending.operation, Operation::Mutate(_)) {
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
            RequestError::LogBudget { .. } => self.tally.refused_by_budget += 1,
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
            | RequestError::CrossShard
            | RequestError::Compacted { .. }
            | RequestError::FutureRevision { .. }
            | RequestError::RangeExpired
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
                let mutation = &self.pending.operation.mutations()[index];
                self.oracle.on_unknown(mutation, &self.pending.sent);
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
        let mutation = &self.pending.operation.mutations()[index];
        let command = self.pending.commands[index].as_slice();
        self.oracle
            .on_acknowledged((mutation, command), &self.pending.sent, &outcome)?;
        if matches!(outcome.code, OutcomeCode::Done | OutcomeCode::Conflict) {
            self.known.insert(mutation.key.clone(), outcome.revision);
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
            Operation::GetMany { keys } => (keys.as_slice(), None),
            Operation::Mutate(_)
            | Operation::Batch(_)
            | Operation::Range(_)
            | Operation::Audit
            | Operation::Status => return Err(Fault::Form("rows answer reads of keys")),
        };
        if keys.len() != found.len() {
            return Err(Fault::Form("each key is found or not"));
        }
        self.tally.reads += 1;
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
