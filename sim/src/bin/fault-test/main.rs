//! Breaks clusters of real nodes, again and again, and judges what their clients were told as the simulator does.
//!
//! A round is a seed: a fresh cluster of processes on loopback, clients that ask for what the simulator's clients ask for,
//! proxies between all of them, and some seconds in which things go wrong. Then nothing is wrong any more, everybody must
//! be answered soon, everything is read, the nodes end, and their logs and the history are judged.
//!
//! Unlike in the simulator a seed decides only what is asked and what goes wrong about when: the same seed does not give
//! the same run. Clocks cannot be changed here; the simulator does that.

mod addresses;
mod agreement;
mod clients;
mod disks;
mod failure;
mod formatted;
mod guard;
mod judge;
mod link;
mod nemesis;
mod nodes;
mod plan;
mod proxy;
mod report;
#[path = "../shared/room.rs"]
mod room;
mod round;
mod rounds;
#[path = "../shared/small_disk.rs"]
mod small_disk;
mod standstill;
#[path = "../shared/stopwatch.rs"]
mod stopwatch;
mod weather;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::guard::Guard;
use crate::rounds::{Options, Rounds, RoundsError};

/// Breaks clusters of real nodes, and checks that they kept what they promised.
#[derive(Debug, Parser)]
#[command(name = "fault-test", version)]
struct Arguments {
    /// How many rounds; one that was run before, as `--out` says, counts.
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// The seed of the first round; the others follow. Drawn from the time when it is not given.
    #[arg(long)]
    from: Option<u64>,
    /// After so many minutes no other round begins.
    #[arg(long)]
    minutes: Option<u64>,
    /// One line of JSON for each round is appended here; started again, rounds go on behind them.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Kinds of faults, with commas between them; all that are possible when it is not given.
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// A bug of the bank that the server is to have, which must be built so that it can: some round must find it.
    #[arg(long)]
    mutant: Option<String>,
    /// The server's program.
    #[arg(long, default_value = "target/release/metastore")]
    server: PathBuf,
    /// A directory for the data, on a real disk. What this program puts there it removes, unless a check failed.
    #[arg(long, default_value = "target/fault-test")]
    directory: PathBuf,
    /// Set by the program itself: it runs where its mounts are nobody else's, and ends with its standard input.
    #[arg(long, hide = true)]
    inside: bool,
    /// Set by the program itself: it thaws what others froze.
    #[arg(long, hide = true)]
    guard: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.guard {
        return guard::watch(&arguments.directory);
    }
    if arguments.inside {
        room::end_with_outside(Vec::new());
        return run(arguments, None);
    }
    match room::run_inside(|holder| Guard::start(holder, &arguments.directory)) {
        Ok(code) => code,
        Err(error) => run(arguments, Some(error.to_string())),
    }
}

/// Runs rounds. Without a room of their own nodes have no disks of their own.
fn run(arguments: Arguments, no_disks: Option<String>) -> ExitCode {
    if no_disks.is_none() {
        guard::await_ready(&arguments.directory);
    }
    let mutant = arguments.mutant.clone();
    let options = Options {
        no_disks,
        mutant: arguments.mutant,
        rounds: arguments.rounds,
        from: arguments.from,
        minutes: arguments.minutes,
        out: arguments.out,
        kinds: arguments.faults,
        server: arguments.server,
        directory: arguments.directory,
    };
    let mut rounds = match Rounds::new(options) {
        Ok(rounds) => rounds,
        Err(error) => {
            eprintln!("fault-test: {error}");
            return ExitCode::from(2);
        }
    };
    let ran = rounds.run();
    if let Some(mutant) = mutant {
        println!("{}", rounds.summary());
        return match ran {
            Err(RoundsError::Failed { failure, .. }) => {
                println!("found {mutant}: {failure}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                println!("{error}");
                ExitCode::FAILURE
            }
            Ok(()) => {
                println!("{mutant} was not found");
                ExitCode::FAILURE
            }
        };
    }
    match ran {
        Ok(()) => {
            println!("{}", rounds.summary());
            println!("no promise was broken");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}", rounds.summary());
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}
