//! Simulated clients: what they have asked, what they are answered, and who checks it.

mod answered;

use std::collections::BTreeMap;

use metastore_engine::{ConnectionId, Input, Reply, Request, RequestId};
use metastore_statemachine::{Command, GetQuery, ShardList};

use self::answered::{Answered, Fault};
use crate::operation::{Change, NAMESPACE, Operation};
use crate::oracle::{Oracle, Sent};
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
    /// Transactions and commits among them that were done.
    pub compounds_done: u64,
    /// Those that ran into something.
    pub compounds_failed: u64,
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
        let commands: Vec<Vec<u8>> = operation.changes().iter().map(Change::encoded).collect();
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
            for change in pending.operation.changes() {
                self.tally.unknown += 1;
                oracle.on_unknown(change, &pending.sent);
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
            Operation::Mutate(_) | Operation::Compound(_) => {
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
            Operation::GetMany { keys, at } => {
                let mut list = Vec::new();
                for key in keys {
                    let length = u32::try_from(key.len()).expect("a short key");
                    list.extend_from_slice(&length.to_le_bytes());
                    list.extend_from_slice(key);
                }
                deliver(Request::GetMany {
                    namespace: NAMESPACE,
                    at: *at,
                    count: u32::try_from(keys.len()).expect("a few keys"),
                    keys: &list,
                });
            }
            Operation::Range(_) | Operation::Audit => {
                let range = self.operation.range().expect("it reads a range");
                deliver(Request::Range {
                    query: range.query(),
                    shards: ShardList::ALL,
                    chunk_bytes: range.chunk_bytes,
                });
            }
            Operation::Count(range) => deliver(Request::Count {
                query: range.query(),
                shards: ShardList::ALL,
            }),
            Operation::Status => deliver(Request::Status),
        }
    }
}
