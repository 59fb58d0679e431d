//! Clients of a real server: each asks one thing after the other until the server is gone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metastore_net::Happened;
use metastore_net::WireError;
use metastore_net::blocking::{Client, ClientError, ConnectionFault, OwnedOutcome, OwnedRow};
use metastore_sim::operation::{Compound, Mutation, NAMESPACE, Operation};
use metastore_sim::oracle::{Attempt, AttemptEnd, FoundRow, Moment, Sighting};
use metastore_sim::random::Random;
use metastore_sim::workload::{Known, ValueSizes, Workload, directory_of};
use metastore_statemachine::{Command, CommandKind, OutcomeCode};

use crate::promise::{Answer, Asked};

/// The order of everything that clients send and receive, over all their threads.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    fn now(&self) -> Moment {
        Moment(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// What one client saw in one life of the server.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) compounds: Vec<TriedCompound>,
    pub(crate) sightings: Vec<(Vec<u8>, Sighting)>,
    /// Mutations that were answered with "certainly not done".
    pub(crate) refused: u64,
    /// Requests that were not answered in [`TIMEOUT`] by a server that was not killed.
    pub(crate) hung: u64,
}

/// A command on several keys, and how it ended.
#[derive(Debug)]
pub(crate) struct TriedCompound {
    pub(crate) compound: Compound,
    pub(crate) sent: Moment,
    /// `None` when nobody knows.
    pub(crate) answered: Option<(OwnedOutcome, Moment)>,
}

/// A client through all lives of the server.
pub(crate) struct LoadClient {
    workload: Workload,
    known: Known,
}

/// How long a client waits for an answer: longer than any deadline.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait between two tries to connect.
const CONNECT_AGAIN: Duration = Duration::from_millis(1);
/// Values of each client begin at a multiple of this, so that no two are the same.
const VALUES_PER_CLIENT: u64 = 1 << 32;

/// Whether a client should go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    Alive,
    Gone,
    /// The server is there and does not answer.
    Hung,
}

impl Connection {
    fn after(error: &ClientError) -> Connection {
        match error {
            ClientError::Server(_) => Connection::Alive,
            ClientError::OutcomeUnknown { cause } | ClientError::Connection(cause) => match cause {
                ConnectionFault::Timeout => Connection::Hung,
                ConnectionFault::Io(_) | ConnectionFault::Closed | ConnectionFault::Protocol(_) => {
                    Connection::Gone
                }
            },
            ClientError::Connect { .. } => Connection::Gone,
        }
    }
}

impl LoadClient {
    pub(crate) fn new(number: u64, random: Random, values: ValueSizes) -> LoadClient {
        let workload = Workload::new(random, values).with_first_value(number * VALUES_PER_CLIENT);
        LoadClient {
            workload,
            known: Known::new(),
        }
    }

    /// Asks until the server is gone. `acknowledged` counts over all clients; `is_over` says that nobody will start
    /// the server that cannot be reached.
    pub(crate) fn run(
        &mut self,
        address: &str,
        clock: &Clock,
        acknowledged: &AtomicU64,
        is_over: &dyn Fn() -> bool,
    ) -> Seen {
        let mut seen = Seen::default();
        let mut client = loop {
            match Client::connect(address, TIMEOUT) {
                Ok(client) => break client,
                Err(_) if is_over() => return seen,
                Err(_) => std::thread::sleep(CONNECT_AGAIN),
            }
        };
        loop {
            let operation = self.workload.draw(&self.known);
            let (before, before_compounds) = (seen.attempts.len(), seen.compounds.len());
            let connection = self.ask(&mut client, clock, &operation, &mut seen);
            let answered = seen.attempts[before..]
                .iter()
                .filter(|attempt| attempt.end != AttemptEnd::Unknown)
                .count();
            let compounds = seen.compounds[before_compounds..]
                .iter()
                .filter(|tried| tried.answered.is_some())
                .count();
            acknowledged.fetch_add((answered + compounds) as u64, Ordering::Relaxed);
            match connection {
                Connection::Alive => {}
                Connection::Gone => return seen,
                Connection::Hung => {
                    seen.hung += 1;
                    return seen;
                }
            }
        }
    }

    /// Asks one thing that nothing but the store keeps from being done, and waits for the answer.
    pub(crate) fn probe(
        &mut self,
        client: &mut Client,
        clock: &Clock,
        asked: Asked,
        seen: &mut Seen,
    ) -> Answer {
        let mut mutation = self.workload.draw_put();
        match asked {
            Asked::Put => {}
            Asked::Delete => {
                mutation.kind = CommandKind::Delete;
                mutation.value.clear();
            }
            Asked::Read => return self.get(client, clock, &mutation.key, seen),
        }
        let sent = clock.now();
        match client.command(&mutation.command()) {
            Ok(outcome) => {
                let answers = vec![Ok(outcome.clone())];
                self.note(&[&mutation], answers, sent, clock.now(), seen);
                Answer::Outcome(outcome)
            }
            Err(error) => {
                let (answers, _) = of_error(&error, 1);
                self.note(&[&mutation], answers, sent, clock.now(), seen);
                Answer::failed(error)
            }
        }
    }

    fn ask(
        &mut self,
        client: &mut Client,
        clock: &Clock,
        operation: &Operation,
        seen: &mut Seen,
    ) -> Connection {
        match operation {
            Operation::Mutate(mutation) => {
                let sent = clock.now();
                let bytes = mutation.encoded();
                let answer = client.command(&decoded(&bytes));
                let (answers, connection) = match answer {
                    Ok(outcome) => (vec![Ok(outcome)], Connection::Alive),
                    Err(error) => of_error(&error, 1),
                };
                self.note(&[mutation], answers, sent, clock.now(), seen);
                connection
            }
            Operation::Compound(compound) => {
                let sent = clock.now();
                let bytes = compound.encoded();
                let answer = client.command(&decoded(&bytes));
                let (answered, connection) = match answer {
                    Ok(outcome) => (Some((outcome, clock.now())), Connection::Alive),
                    Err(error) => {
                        let (ends, connection) = of_error(&error, 1);
                        if matches!(ends[..], [Err(NotDone::Certainly)]) {
                            seen.refused += 1;
                            return connection;
                        }
                        (None, connection)
                    }
                };
                seen.compounds.push(TriedCompound {
                    compound: compound.clone(),
                    sent,
                    answered,
                });
                connection
            }
            Operation::Batch(mutations) => {
                let sent = clock.now();
                let bytes: Vec<Vec<u8>> = mutations.iter().map(Mutation::encoded).collect();
                let commands: Vec<Command<'_>> = bytes.iter().map(|bytes| decoded(bytes)).collect();
                let (answers, connection) = match client.batch(&commands) {
                    Ok(answers) => {
                        let items = answers
                            .into_iter()
                            .map(|item| item.map_err(|error| NotDone::of(&error)));
                        (items.collect(), Connection::Alive)
                    }
                    Err(error) => of_error(&error, mutations.len()),
                };
                let mutations: Vec<&Mutation> = mutations.iter().collect();
                self.note(&mutations, answers, sent, clock.now(), seen);
                connection
            }
            Operation::Get { key, .. } => self.read(client, clock, key, seen),
            Operation::GetMany { keys, .. } => self.read(client, clock, &keys[0], seen),
            Operation::Range(_) | Operation::Count(_) | Operation::Audit | Operation::Status => {
                match client.ping() {
                    Ok(()) => Connection::Alive,
                    Err(error) => Connection::after(&error),
                }
            }
        }
    }

    fn read(
        &mut self,
        client: &mut Client,
        clock: &Clock,
        key: &[u8],
        seen: &mut Seen,
    ) -> Connection {
        match self.get(client, clock, key, seen) {
            Answer::Lost(error) => Connection::after(&error),
            Answer::Outcome(_) | Answer::Found | Answer::Refused(_) => Connection::Alive,
        }
    }

    fn get(&mut self, client: &mut Client, clock: &Clock, key: &[u8], seen: &mut Seen) -> Answer {
        let sent = clock.now();
        match client.get(NAMESPACE, key) {
            Ok(answer) => {
                let directory = directory_of(key).to_vec();
                self.known.insert(directory, answer.position.revision);
                let row = answer.row.as_ref().map(found);
                if let Some(row) = &row {
                    self.known.insert(key.to_vec(), row.mod_revision);
                }
                let answered = clock.now();
                let sighting = Sighting {
                    sent,
                    answered,
                    row,
                };
                seen.sightings.push((key.to_vec(), sighting));
                Answer::Found
            }
            Err(error) => Answer::failed(error),
        }
    }

    fn note(
        &mut self,
        mutations: &[&Mutation],
        answers: Vec<Result<OwnedOutcome, NotDone>>,
        sent: Moment,
        at: Moment,
        seen: &mut Seen,
    ) {
        assert_eq!(mutations.len(), answers.len(), "each mutation is answered");
        for (&mutation, answer) in mutations.iter().zip(answers) {
            let end = match answer {
                Ok(outcome) => {
                    if outcome.code == OutcomeCode::Done {
                        self.known.insert(mutation.key.clone(), outcome.revision);
                    }
                    AttemptEnd::Answered {
                        code: outcome.code,
                        revision: outcome.revision,
                        number: outcome.number,
                        at,
                    }
                }
                Err(NotDone::Certainly) => {
                    seen.refused += 1;
                    continue;
                }
                Err(NotDone::Perhaps) => AttemptEnd::Unknown,
            };
            seen.attempts.push(Attempt {
                mutation: mutation.clone(),
                sent,
                end,
            });
        }
    }
}

/// A mutation without an outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NotDone {
    Certainly,
    Perhaps,
}

impl NotDone {
    fn of(error: &WireError) -> NotDone {
        match error.happened {
            Happened::NotDone => NotDone::Certainly,
            Happened::Unknown => NotDone::Perhaps,
        }
    }
}

/// What an error says about each of `count` mutations, and about the connection.
fn of_error(error: &ClientError, count: usize) -> (Vec<Result<OwnedOutcome, NotDone>>, Connection) {
    let end = match error {
        ClientError::Server(error) => NotDone::of(error),
        ClientError::OutcomeUnknown { .. } => NotDone::Perhaps,
        ClientError::Connect { .. } | ClientError::Connection(_) => NotDone::Certainly,
    };
    let answers = (0..count).map(|_| Err(end)).collect();
    (answers, Connection::after(error))
}

fn decoded(bytes: &[u8]) -> Command<'_> {
    Command::decode(bytes).expect("clients send commands").0
}

/// A row as the checkers know it.
pub(crate) fn found(row: &OwnedRow) -> FoundRow {
    FoundRow {
        value: row.value.clone(),
        create_revision: row.create_revision,
        mod_revision: row.mod_revision,
        version: row.version,
    }
}
