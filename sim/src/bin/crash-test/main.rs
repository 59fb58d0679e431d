//! Kills real servers, again and again, and checks what their clients were told against what is there after.
//!
//! Unlike the simulator it needs real time and threads, and its seed decides only what is asked and when about the
//! server is killed: the same seed does not give the same run.

mod load;
mod rounds;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::rounds::{CrashTest, Options};

/// Kills a server under load, starts it again, and checks that it kept what it promised.
#[derive(Debug, Parser)]
#[command(name = "crash-test", version)]
struct Arguments {
    /// How often the server is killed at least.
    #[arg(long, default_value_t = 200)]
    rounds: u64,
    /// Seed of what clients ask and of when the server is killed; drawn from the time when it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// The server's program.
    #[arg(long, default_value = "target/release/metastore")]
    server: PathBuf,
    /// A directory for the data, on a real disk. What this program puts there it removes, unless a check failed.
    #[arg(long, default_value = "target/crash-test")]
    directory: PathBuf,
    /// Connections that write at the same time.
    #[arg(long, default_value_t = 8)]
    connections: u64,
    /// Mutations that must be acknowledged before a server under load is killed.
    #[arg(long, default_value_t = 1_000)]
    acknowledged: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(seed_of_now);
    println!("crash-test, seed {seed}");
    let mut test = CrashTest::new(Options {
        seed,
        rounds: arguments.rounds,
        server: arguments.server,
        directory: arguments.directory,
        connections: arguments.connections,
        acknowledged_min: arguments.acknowledged,
    });
    let ran = test.run();
    println!("{}", test.report());
    match ran {
        Ok(()) => {
            println!("no promise was broken");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}\nreplay: scripts/crash-test --seed {seed}");
            ExitCode::FAILURE
        }
    }
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
