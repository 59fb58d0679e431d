//! Start, load, kill, start again, check.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use metastore_net::RangeRequest;
use metastore_net::blocking::{Client, ClientError};
use metastore_sim::Violation;
use metastore_sim::operation::NAMESPACE;
use metastore_sim::oracle::{FoundRow, History};
use metastore_sim::random::Random;
use metastore_sim::workload::ValueSizes;
use metastore_statemachine::OutcomeCode;
use thiserror::Error;

use crate::load::{Clock, LoadClient, Seen};
use crate::server::{SEGMENT_BYTES, Server, ServerError};

/// What to do.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) rounds: u64,
    pub(crate) server: PathBuf,
    pub(crate) directory: PathBuf,
    pub(crate) connections: u64,
    pub(crate) acknowledged_min: u64,
}

/// Why a test ended early.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The server broke a promise.
    #[error("violation in round {round}: {violation}; the data is kept in {directory}")]
    Violation {
        /// The round.
        round: u64,
        /// What it broke.
        violation: Violation,
        /// Where the data is.
        directory: String,
    },
    /// The server does not run.
    #[error("round {round}: {source}")]
    Server {
        /// The round.
        round: u64,
        /// Why.
        source: ServerError,
    },
    /// A server that runs does not let everything be read.
    #[error("round {round}: reading everything: {source}")]
    Audit {
        /// The round.
        round: u64,
        /// Why.
        source: Box<ClientError>,
    },
    /// A server took nothing that was sent to it.
    #[error("round {round}: only {acknowledged} mutations were acknowledged in {seconds} s")]
    Idle {
        /// The round.
        round: u64,
        /// How many.
        acknowledged: u64,
        /// In how long.
        seconds: u64,
    },
    /// The disk of this test fails.
    #[error("removing {directory}: {source}")]
    Remove {
        /// What was to be removed.
        directory: String,
        /// Why it was not.
        source: std::io::Error,
    },
}

/// When a server is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kill {
    /// Under load, when enough has been acknowledged.
    Load,
    /// While it starts: before or after it answers, while segments are being prepared.
    Preparation,
    /// About when its log begins another segment.
    Rotation,
    /// While it recovers, three times in a row.
    Recovery,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Report {
    kills: BTreeMap<Kill, u64>,
    acknowledged: u64,
    compounds_done: u64,
    unknown: u64,
    refused: u64,
    sightings: u64,
    rows: u64,
    checks: u64,
}

/// A test through all its rounds.
pub(crate) struct CrashTest {
    options: Options,
    random: Random,
    clients: Vec<LoadClient>,
    clock: Clock,
    history: History,
    report: Report,
}

/// Rounds over one directory: the log of a server grows with each, and so does the time that a start takes.
const ROUNDS_PER_DIRECTORY: u64 = 20;
/// How long a server may take to acknowledge what a round needs.
const LOAD_SECONDS_MAX: u64 = 60;
/// How long to wait between two looks at a server under load.
const LOOK_AGAIN: Duration = Duration::from_micros(500);

impl CrashTest {
    pub(crate) fn new(options: Options) -> CrashTest {
        CrashTest {
            random: Random::new(options.seed),
            options,
            clients: Vec::new(),
            clock: Clock::default(),
            history: History::default(),
            report: Report::default(),
        }
    }

    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// Runs all rounds.
    pub(crate) fn run(&mut self) -> Result<(), Failure> {
        let mut round = 0;
        while round < self.options.rounds {
            let directory = self.options.directory.join(format!("from-{round}"));
            self.remove(&directory)?;
            self.begin_directory();
            let end = (round + ROUNDS_PER_DIRECTORY).min(self.options.rounds);
            while round < end {
                self.run_round(round, &directory)?;
                round += 1;
            }
            self.remove(&directory)?;
        }
        Ok(())
    }

    fn remove(&self, directory: &Path) -> Result<(), Failure> {
        match fs::remove_dir_all(directory) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Failure::Remove {
                directory: directory.display().to_string(),
                source,
            }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Another directory is another store: nobody knows anything of it.
    fn begin_directory(&mut self) {
        self.history = History::default();
        let values = ValueSizes {
            long_per_mille: 200,
            long_bytes_max: 16 << 10,
        };
        self.clients = (1..=self.options.connections)
            .map(|number| LoadClient::new(number, self.random.fork(), values))
            .collect();
    }

    /// Every fifth kill comes at a delicate moment.
    fn choose_kill(round: u64) -> Kill {
        match (round % 5, round / 5 % 3) {
            (4, 0) => Kill::Preparation,
            (4, 1) => Kill::Rotation,
            (4, _) => Kill::Recovery,
            _ => Kill::Load,
        }
    }

    fn run_round(&mut self, round: u64, directory: &Path) -> Result<(), Failure> {
        let failed = |source| Failure::Server { round, source };
        let kill = Self::choose_kill(round);
        let repetitions = if kill == Kill::Recovery { 3 } else { 1 };
        for _ in 0..repetitions {
            let server = Server::start(&self.options.server, directory).map_err(failed)?;
            *self.report.kills.entry(kill).or_default() += 1;
            self.load_and_kill(round, kill, server)?;
        }
        let mut server = Server::start(&self.options.server, directory).map_err(failed)?;
        let mut client = server.connect().map_err(failed)?;
        let rows = read_all(&mut client).map_err(|source| Failure::Audit { round, source })?;
        self.report.checks += 1;
        self.report.rows += rows.len() as u64;
        self.history
            .check(rows)
            .map_err(|violation| Failure::Violation {
                round,
                violation,
                directory: directory.display().to_string(),
            })?;
        server.kill().map_err(failed)
    }

    fn load_and_kill(&mut self, round: u64, kill: Kill, server: Server) -> Result<(), Failure> {
        let failed = |source| Failure::Server { round, source };
        let acknowledged = AtomicU64::new(0);
        let is_over = AtomicBool::new(false);
        let mut waiter = Waiter {
            random: self.random.fork(),
            acknowledged: &acknowledged,
            acknowledged_min: self.options.acknowledged_min,
            server,
        };
        let (clock, address) = (&self.clock, waiter.server.address.clone());
        let clients = &mut self.clients;
        let (waited, seen) = std::thread::scope(|scope| {
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
            let waited = waiter.wait(kill);
            let killed = waiter.server.kill();
            is_over.store(true, Ordering::Relaxed);
            let seen: Vec<Seen> = threads
                .into_iter()
                .map(|thread| thread.join().expect("a client does not panic"))
                .collect();
            (
                waited.and_then(|is_enough| killed.map(|()| is_enough)),
                seen,
            )
        });
        seen.into_iter().for_each(|seen| self.note(seen));
        let acknowledged = acknowledged.into_inner();
        if waited.map_err(failed)? {
            return Ok(());
        }
        Err(Failure::Idle {
            round,
            acknowledged,
            seconds: LOAD_SECONDS_MAX,
        })
    }

    fn note(&mut self, seen: Seen) {
        self.report.refused += seen.refused;
        self.report.sightings += seen.sightings.len() as u64;
        for attempt in seen.attempts {
            match attempt.end {
                metastore_sim::oracle::AttemptEnd::Answered { .. } => {
                    self.report.acknowledged += 1;
                }
                metastore_sim::oracle::AttemptEnd::Unknown => self.report.unknown += 1,
            }
            self.history.add_attempt(attempt);
        }
        for tried in seen.compounds {
            match &tried.answered {
                Some((outcome, at)) => {
                    self.report.acknowledged += 1;
                    self.report.compounds_done += u64::from(outcome.code == OutcomeCode::Done);
                    self.history
                        .add_compound(&tried.compound, outcome, (tried.sent, *at));
                }
                None => {
                    self.report.unknown += 1;
                    self.history
                        .add_unknown_compound(&tried.compound, tried.sent);
                }
            }
        }
        for (key, sighting) in seen.sightings {
            self.history.add_sighting(&key, sighting);
        }
    }
}

/// Waits for the moment of a kill.
struct Waiter<'a> {
    random: Random,
    acknowledged: &'a AtomicU64,
    acknowledged_min: u64,
    server: Server,
}

impl Waiter<'_> {
    /// Whether the moment came.
    fn wait(&mut self, kill: Kill) -> Result<bool, ServerError> {
        match kill {
            Kill::Load => {
                let wanted = self.acknowledged_min + self.random.below(self.acknowledged_min + 1);
                let acknowledged = self.acknowledged;
                let is_enough =
                    self.wait_until(&mut |_| Ok(acknowledged.load(Ordering::Relaxed) >= wanted))?;
                self.sleep_up_to_us(3_000);
                Ok(is_enough)
            }
            Kill::Preparation => {
                self.sleep_up_to_us(150_000);
                Ok(true)
            }
            Kill::Recovery => {
                self.sleep_up_to_us(20_000);
                Ok(true)
            }
            Kill::Rotation => {
                let mut client = self.server.connect()?;
                // A start begins a segment, so what was written since is where the log stands in it.
                let margin_bytes = self.random.below(256 << 10);
                let is_near = self.wait_until(&mut |_| {
                    let written_bytes = client.status().map(|status| status.log.record_bytes);
                    Ok(written_bytes.is_ok_and(|bytes| bytes + margin_bytes >= SEGMENT_BYTES))
                })?;
                self.sleep_up_to_us(5_000);
                Ok(is_near)
            }
        }
    }

    fn sleep_up_to_us(&mut self, microseconds: u64) {
        std::thread::sleep(Duration::from_micros(self.random.below(microseconds)));
    }

    /// Looks again and again; false when it takes too long.
    fn wait_until(
        &mut self,
        is_there: &mut dyn FnMut(&mut Server) -> Result<bool, ServerError>,
    ) -> Result<bool, ServerError> {
        let looks_max = u128::from(LOAD_SECONDS_MAX) * 1_000_000 / LOOK_AGAIN.as_micros();
        for _ in 0..looks_max {
            if is_there(&mut self.server)? {
                return Ok(true);
            }
            self.server.check()?;
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(false)
    }
}

/// Everything that the server holds.
fn read_all(client: &mut Client) -> Result<BTreeMap<Vec<u8>, FoundRow>, Box<ClientError>> {
    let mut rows = BTreeMap::new();
    client.range(&RangeRequest::subtree(NAMESPACE, b""), |row| {
        rows.insert(row.key.to_vec(), FoundRow::of(&row));
    })?;
    Ok(rows)
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kills: u64 = self.kills.values().sum();
        let of = |kill| self.kills.get(&kill).copied().unwrap_or(0);
        writeln!(
            formatter,
            "{} kills: {} under load, {} while preparing, {} about a rotation, {} while recovering; {} after a check",
            kills + self.checks,
            of(Kill::Load),
            of(Kill::Preparation),
            of(Kill::Rotation),
            of(Kill::Recovery),
            self.checks
        )?;
        write!(
            formatter,
            "{} commands acknowledged, {} of them with structure and done; {} unknown, {} refused; {} reads; {} checks over {} rows",
            self.acknowledged,
            self.compounds_done,
            self.unknown,
            self.refused,
            self.sightings,
            self.checks,
            self.rows
        )
    }
}
