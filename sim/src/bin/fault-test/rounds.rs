//! Many rounds, one after the other, with a line of JSON for each.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use crate::disks;
use crate::failure::Failure;
use crate::guard;
use crate::plan::FaultKind;
use crate::report::Summary;
use crate::round::{self, Setting};
use crate::standstill::Standstill;
use crate::stopwatch::Stopwatch;

/// What to do.
#[derive(Debug)]
pub(crate) struct Options {
    /// Why nodes have no disks of their own; `None` where they can.
    pub(crate) no_disks: Option<String>,
    pub(crate) rounds: u64,
    pub(crate) from: Option<u64>,
    pub(crate) minutes: Option<u64>,
    pub(crate) out: Option<PathBuf>,
    pub(crate) kinds: Vec<String>,
    /// A bug that the server is to have.
    pub(crate) mutant: Option<String>,
    pub(crate) server: PathBuf,
    pub(crate) directory: PathBuf,
}

/// Why there are no more rounds.
#[derive(Debug, Error)]
pub(crate) enum RoundsError {
    /// A round is a failure.
    #[error("{failure}\nat {commit}; again: scripts/fault-test --rounds 1 --from {seed}{kinds}")]
    Failed {
        /// What went wrong.
        failure: Box<Failure>,
        /// Of which the program is.
        commit: String,
        /// The round.
        seed: u64,
        /// The option that names the kinds of faults, if there was one.
        kinds: String,
    },
    /// There is no such kind of fault.
    #[error("there is no kind of fault named {name:?}; there are {}", all_kinds())]
    NoKind {
        /// What was asked for.
        name: String,
    },
    /// Most of what clients asked for over all rounds was not done: too little was tested.
    #[error("of the operations of {rounds} rounds only {percent} % succeeded")]
    Idle {
        /// How many rounds.
        rounds: u64,
        /// How many operations did, in a hundred.
        percent: u64,
    },
    /// This process does not get the time that it needs.
    #[error(
        "this process stood still in each of {TRIES_MAX} tries: the machine is too busy, or stops it"
    )]
    Disturbed,
    /// The file of results.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A line of it.
    #[error("{path}, line {line}: {source}")]
    Line {
        /// Which file.
        path: String,
        /// Which line.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Rounds, and what came of them.
pub(crate) struct Rounds {
    options: Options,
    possible: Vec<FaultKind>,
    commit: String,
    summary: Summary,
    first: u64,
    /// The next block of addresses.
    addresses: u64,
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    Done,
    /// This process stood still for so long that nothing can be said about time.
    Disturbed,
}

/// How often a round is tried that is disturbed.
const TRIES_MAX: u32 = 20;

/// How many operations of all rounds must succeed, in a hundred, once there are so many rounds that one does not decide.
const SUCCEEDED_PERCENT_MIN: u64 = 60;
const ROUNDS_JUDGED_MIN: u64 = 4;

fn all_kinds() -> String {
    FaultKind::ALL.map(FaultKind::name).join(", ")
}

impl Rounds {
    /// Looks at what there is already.
    pub(crate) fn new(options: Options) -> Result<Rounds, RoundsError> {
        let kind = |name: &String| {
            let found = FaultKind::ALL.into_iter().find(|kind| kind.name() == name);
            found.ok_or_else(|| RoundsError::NoKind { name: name.clone() })
        };
        let possible = match options.kinds.is_empty() {
            true => FaultKind::ALL.to_vec(),
            false => options.kinds.iter().map(kind).collect::<Result<_, _>>()?,
        };
        let (possible, skipped) = sort_out(possible, &options);
        let mut summary = match &options.out {
            None => Summary::default(),
            Some(path) => read(path)?,
        };
        summary.skipped = skipped;
        let first = summary
            .next_seed()
            .or(options.from)
            .unwrap_or_else(seed_of_now);
        Ok(Rounds {
            options,
            possible,
            commit: commit(),
            summary,
            first,
            addresses: 0,
        })
    }

    /// What came of all rounds so far.
    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Runs those that are missing.
    pub(crate) fn run(&mut self) -> Result<(), RoundsError> {
        let running = Stopwatch::start();
        let longest = self
            .options
            .minutes
            .map(|minutes| Duration::from_secs(60 * minutes));
        let missing = self.options.rounds.saturating_sub(self.summary.rounds);
        println!(
            "fault-test at {}: {missing} rounds from seed {}",
            self.commit, self.first
        );
        for number in 0..missing {
            if longest.is_some_and(|longest| running.passed() >= longest) {
                break;
            }
            self.run_round(number)?;
        }
        check_succeeded(&self.summary)
    }

    /// Runs a round, again if this process stood still meanwhile.
    fn run_round(&mut self, number: u64) -> Result<(), RoundsError> {
        for _ in 0..TRIES_MAX {
            if self.try_round(number)? == Tried::Done {
                return Ok(());
            }
            self.summary.disturbed += 1;
        }
        Err(RoundsError::Disturbed)
    }

    fn try_round(&mut self, number: u64) -> Result<Tried, RoundsError> {
        let seed = self.first + number;
        let directory = self.options.directory.join(format!("seed-{seed}"));
        remove(&directory).map_err(|source| file_error(&directory, source))?;
        let setting = Setting {
            program: &self.options.server,
            mutant: self.options.mutant.as_deref(),
            directory: directory.clone(),
            notes: guard::notes(&self.options.directory),
            seed,
            number: self.addresses,
            possible: &self.possible,
        };
        self.addresses += 1;
        let taking = Stopwatch::start();
        let standstill = Standstill::watch();
        match round::run(&setting) {
            Ok(_) if standstill.was_too_long() => Ok(Tried::Disturbed),
            Err(cause) if cause.is_about_time() && standstill.was_too_long() => {
                Ok(Tried::Disturbed)
            }
            Ok(mut report) => {
                report.took = taking.passed();
                let line = report.document(&self.commit);
                self.summary.add(&line);
                self.append(&line)?;
                remove(&directory).map_err(|source| file_error(&directory, source))?;
                Ok(Tried::Done)
            }
            Err(cause) => {
                let failure = Box::new(Failure {
                    seed,
                    cause,
                    kept: directory.display().to_string(),
                });
                let kinds = match self.options.kinds.is_empty() {
                    true => String::new(),
                    false => format!(" --faults {}", self.options.kinds.join(",")),
                };
                Err(RoundsError::Failed {
                    failure,
                    commit: self.commit.clone(),
                    seed,
                    kinds,
                })
            }
        }
    }

    fn append(&self, line: &Value) -> Result<(), RoundsError> {
        println!("{line}");
        let Some(path) = &self.options.out else {
            return Ok(());
        };
        let file = File::options().create(true).append(true).open(path);
        let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        written.map_err(|source| file_error(path, source))
    }
}

/// So much of all rounds must have succeeded that they are worth something.
fn check_succeeded(summary: &Summary) -> Result<(), RoundsError> {
    let percent = summary.succeeded_percent();
    if summary.rounds >= ROUNDS_JUDGED_MIN && percent < SUCCEEDED_PERCENT_MIN {
        return Err(RoundsError::Idle {
            rounds: summary.rounds,
            percent,
        });
    }
    Ok(())
}

fn file_error(path: &std::path::Path, source: io::Error) -> RoundsError {
    RoundsError::File {
        path: path.display().to_string(),
        source,
    }
}

/// Kinds of faults that are possible here, and why others are not.
fn sort_out(kinds: Vec<FaultKind>, options: &Options) -> (Vec<FaultKind>, Vec<String>) {
    let no_guard =
        (!disks::can_freeze(&options.directory)).then(|| "fsfreeze is not possible".to_owned());
    let (mut possible, mut skipped) = (Vec::new(), Vec::new());
    for kind in kinds {
        let of_disks = options.no_disks.as_ref().filter(|_| kind.needs_disk());
        let of_guard = no_guard.as_ref().filter(|_| kind.needs_guard());
        match of_disks.or(of_guard) {
            None => possible.push(kind),
            Some(why) => skipped.push(format!("{kind}: {why}")),
        }
    }
    (possible, skipped)
}

/// The rounds of earlier runs. A last line that was cut short is left out.
fn read(path: &std::path::Path) -> Result<Summary, RoundsError> {
    let mut summary = Summary::default();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(summary),
        Err(source) => return Err(file_error(path, source)),
    };
    for (number, line) in text.lines().enumerate() {
        let line = serde_json::from_str(line).map_err(|source| RoundsError::Line {
            path: path.display().to_string(),
            line: number + 1,
            source,
        })?;
        summary.add(&line);
    }
    Ok(summary)
}

/// Removes a directory with what is in it, if it is there.
fn remove(path: &std::path::Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The commit of the sources that this program is run among.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=10"]);
    let output = git.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let said = output.ok().filter(|output| output.status.success());
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.unwrap_or_else(|| "an unknown commit".to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a seed that nobody chose is different each time"
)]
fn seed_of_now() -> u64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Of rounds in which so many operations succeeded and failed.
    fn summary(ended: &[(u64, u64)]) -> Summary {
        let mut summary = Summary::default();
        for &(succeeded, failed) in ended {
            summary.add(&json!({ "succeeded": succeeded, "failed": failed }));
        }
        summary
    }

    #[test]
    fn a_round_in_which_little_was_possible_counts_and_many_do_not() {
        let (good, bad) = ((600, 10), (250, 400));
        assert!(check_succeeded(&summary(&[good, good, good, bad])).is_ok());
        assert!(
            check_succeeded(&summary(&[bad])).is_ok(),
            "one decides nothing"
        );
        let refused = check_succeeded(&summary(&[bad, bad, good, bad]));
        let Err(RoundsError::Idle { rounds, percent }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((rounds, percent), (4, 52));
    }
}
