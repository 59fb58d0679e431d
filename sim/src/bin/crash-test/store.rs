//! One store through all lives of its servers: its data, its clients, and what they saw.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use metastore_net::RangeRequest;
use metastore_net::blocking::{Client, ClientError};
use metastore_sim::operation::NAMESPACE;
use metastore_sim::oracle::{AttemptEnd, FoundRow, History};
use metastore_sim::random::Random;
use metastore_sim::workload::ValueSizes;
use metastore_statemachine::OutcomeCode;

use crate::failure::Cause;
use crate::load::{Clock, LoadClient, Seen};
use crate::promise::{Answer, Asked, Broken};
use crate::report::LoadReport;
use crate::server::{Server, ServerError};
use crate::stopwatch::Stopwatch;

/// Where a store is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// For its data.
    pub(crate) data: PathBuf,
    /// What its server prints, on a disk that nobody fills.
    pub(crate) output: PathBuf,
}

/// A store, its clients and what they know of it.
pub(crate) struct Store {
    place: Place,
    clients: Vec<LoadClient>,
    /// Asks on behalf of the checks, while the others load.
    prober: LoadClient,
    history: History,
}

/// A server under load, until it is killed.
pub(crate) struct Life<'a> {
    pub(crate) server: &'a mut Server,
    acknowledged: &'a AtomicU64,
    clock: &'a Clock,
    prober: &'a mut LoadClient,
    connection: Option<Client>,
    seen: Seen,
}

/// How a life ended.
pub(crate) struct Ended {
    /// What came of the part that decided when to kill the server.
    result: Result<(), Cause>,
    /// Whether the server ran until it was killed.
    killed: Result<(), ServerError>,
    /// Requests that a server that ran did not answer.
    hung: u64,
}

/// How long a request of the checks may take: so short that nobody would call it a hang.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    /// A store that does not exist yet: nobody knows anything of it.
    pub(crate) fn new(place: Place, connections: u64, random: &mut Random) -> Store {
        let values = ValueSizes {
            long_per_mille: 200,
            long_bytes_max: 16 << 10,
        };
        let mut client = |number| LoadClient::new(number, random.fork(), values);
        Store {
            place,
            clients: (1..=connections).map(&mut client).collect(),
            prober: client(connections + 1),
            history: History::default(),
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Starts a server over the data.
    pub(crate) fn start(&self, program: &Path) -> Result<Server, ServerError> {
        Server::start(program, &self.place.data, &self.place.output)
    }

    /// Loads a server, while `decide` waits for the moment to kill it.
    pub(crate) fn live(
        &mut self,
        clock: &Clock,
        report: &mut LoadReport,
        mut server: Server,
        decide: impl FnOnce(&mut Life<'_>) -> Result<(), Cause>,
    ) -> Ended {
        let acknowledged = AtomicU64::new(0);
        let is_over = AtomicBool::new(false);
        let address = server.address.clone();
        let (clients, prober) = (&mut self.clients, &mut self.prober);
        let (result, killed, seen) = std::thread::scope(|scope| {
            let threads: Vec<_> = clients
                .iter_mut()
                .map(|client| {
                    let (address, acknowledged, is_over) = (&address, &acknowledged, &is_over);
                    scope.spawn(move || {
                        let is_over = || is_over.load(Ordering::Relaxed);
                        client.run(address, clock, acknowledged, &is_over)
                    })
                })
                .collect();
            let mut life = Life {
                server: &mut server,
                acknowledged: &acknowledged,
                clock,
                prober,
                connection: None,
                seen: Seen::default(),
            };
            let result = decide(&mut life);
            let mut seen = vec![life.seen];
            let killed = server.kill();
            is_over.store(true, Ordering::Relaxed);
            let threads = threads.into_iter();
            seen.extend(threads.map(|thread| thread.join().expect("a client does not panic")));
            (result, killed, seen)
        });
        let hung = seen.iter().map(|seen| seen.hung).sum();
        seen.into_iter().for_each(|seen| self.note(seen, report));
        Ended {
            result,
            killed,
            hung,
        }
    }

    fn note(&mut self, seen: Seen, report: &mut LoadReport) {
        report.refused += seen.refused;
        report.sightings += seen.sightings.len() as u64;
        for attempt in seen.attempts {
            match attempt.end {
                AttemptEnd::Answered { .. } => report.acknowledged += 1,
                AttemptEnd::Unknown => report.unknown += 1,
            }
            self.history.add_attempt(attempt);
        }
        for tried in seen.compounds {
            match &tried.answered {
                Some((outcome, at)) => {
                    report.acknowledged += 1;
                    report.compounds_done += u64::from(outcome.code == OutcomeCode::Done);
                    self.history
                        .add_compound(&tried.compound, outcome, (tried.sent, *at));
                }
                None => {
                    report.unknown += 1;
                    self.history
                        .add_unknown_compound(&tried.compound, tried.sent);
                }
            }
        }
        for (key, sighting) in seen.sightings {
            self.history.add_sighting(&key, sighting);
        }
    }

    /// Holds everything that a server has, which nobody has asked for anything since it started, against what clients
    /// were told.
    pub(crate) fn audit(
        &mut self,
        client: &mut Client,
        report: &mut LoadReport,
    ) -> Result<(), Cause> {
        let rows = read_all(client).map_err(Cause::Audit)?;
        self.check(rows, report)
    }

    fn check(
        &mut self,
        rows: BTreeMap<Vec<u8>, FoundRow>,
        report: &mut LoadReport,
    ) -> Result<(), Cause> {
        report.checks += 1;
        report.rows += rows.len() as u64;
        Ok(self.history.check(rows)?)
    }
}

fn read_all(client: &mut Client) -> Result<BTreeMap<Vec<u8>, FoundRow>, Box<ClientError>> {
    let mut rows = BTreeMap::new();
    client.range(&RangeRequest::subtree(NAMESPACE, b""), |row| {
        rows.insert(row.key.to_vec(), FoundRow::of(&row));
    })?;
    Ok(rows)
}

impl Ended {
    /// A server that ended by itself is the reason of what was seen after it.
    pub(crate) fn into_result(self) -> Result<(), Cause> {
        self.killed?;
        self.result?;
        match self.hung {
            0 => Ok(()),
            requests => Err(Broken::Hung { requests }.into()),
        }
    }
}

/// How long a server may take until a moment comes that is waited for.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long to wait between two looks at a server under load.
const LOOK_AGAIN: Duration = Duration::from_micros(500);

impl Life<'_> {
    /// Looks at the server again and again; false when it takes too long.
    pub(crate) fn wait_until(
        &mut self,
        mut is_there: impl FnMut() -> bool,
    ) -> Result<bool, ServerError> {
        let waiting = Stopwatch::start();
        while waiting.passed() < WAIT_MAX {
            if is_there() {
                return Ok(true);
            }
            self.server.check()?;
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(false)
    }

    /// Mutations that were answered to the clients that load.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until that many mutations have been answered in this life; false when it takes too long.
    pub(crate) fn wait_for_acknowledged(&mut self, wanted: u64) -> Result<bool, ServerError> {
        let acknowledged = self.acknowledged;
        self.wait_until(|| acknowledged.load(Ordering::Relaxed) >= wanted)
    }

    /// Asks the server one thing, beside the load.
    pub(crate) fn ask(&mut self, asked: Asked) -> Answer {
        let mut client = match self.connection.take() {
            Some(client) => client,
            None => match Client::connect(&self.server.address, PROBE_TIMEOUT) {
                Ok(client) => client,
                Err(error) => return Answer::failed(error),
            },
        };
        let answer = self
            .prober
            .probe(&mut client, self.clock, asked, &mut self.seen);
        if !matches!(answer, Answer::Lost(_)) {
            self.connection = Some(client);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use metastore_sim::operation::Mutation;
    use metastore_sim::oracle::{Attempt, Moment};
    use metastore_sim::workload::Workload;
    use metastore_statemachine::Revision;

    use super::*;

    fn store() -> (Store, Mutation) {
        let place = Place {
            data: PathBuf::new(),
            output: PathBuf::new(),
        };
        let values = ValueSizes {
            long_per_mille: 0,
            long_bytes_max: 0,
        };
        let put = Workload::new(Random::new(1), values).draw_put();
        (Store::new(place, 1, &mut Random::new(1)), put)
    }

    fn row(value: &[u8]) -> FoundRow {
        FoundRow {
            value: value.to_vec(),
            create_revision: Revision(1),
            mod_revision: Revision(1),
            version: 1,
        }
    }

    /// What a client saw that was told that the put is done.
    fn acknowledged(put: &Mutation) -> Seen {
        let end = AttemptEnd::Answered {
            code: OutcomeCode::Done,
            revision: Revision(1),
            number: None,
            at: Moment(2),
        };
        let attempt = Attempt {
            mutation: put.clone(),
            sent: Moment(1),
            end,
        };
        Seen {
            attempts: vec![attempt],
            ..Seen::default()
        }
    }

    /// Lets one client see this, reads these rows after it, and judges.
    fn judge(seen: Option<Seen>, rows: Vec<(Vec<u8>, FoundRow)>) -> Result<(), Cause> {
        let (mut store, _) = store();
        let mut report = LoadReport::default();
        seen.into_iter()
            .for_each(|seen| store.note(seen, &mut report));
        store.check(rows.into_iter().collect(), &mut report)
    }

    #[test]
    fn a_put_that_was_acknowledged_and_is_lost_is_reported() {
        let (_, put) = store();
        let there = vec![(put.key.clone(), row(&put.value))];
        judge(Some(acknowledged(&put)), there).expect("it is there");
        let lost = judge(Some(acknowledged(&put)), Vec::new());
        assert!(matches!(lost, Err(Cause::Violation(_))), "{lost:?}");
    }

    #[test]
    fn a_put_that_was_refused_and_is_there_is_reported() {
        let (_, put) = store();
        let seen = Seen {
            refused: 1,
            ..Seen::default()
        };
        let invented = judge(Some(seen), vec![(put.key.clone(), row(&put.value))]);
        assert!(matches!(invented, Err(Cause::Violation(_))), "{invented:?}");
    }

    #[test]
    fn a_server_that_ends_or_hangs_is_reported() {
        let ended = |killed, hung| Ended {
            result: Ok(()),
            killed,
            hung,
        };
        let hung = ended(Ok(()), 1).into_result();
        assert!(matches!(
            hung,
            Err(Cause::Broken(Broken::Hung { requests: 1 }))
        ));
        let crash = ServerError::Ended {
            status: "signal: 6".to_owned(),
            said: String::new(),
        };
        let crashed = ended(Err(crash), 1).into_result();
        assert!(matches!(crashed, Err(Cause::Server(_))), "{crashed:?}");
    }
}
