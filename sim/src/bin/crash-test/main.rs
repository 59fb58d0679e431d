//! Kills real servers, again and again, and checks what their clients were told against what is there after.
//!
//! In some rounds somebody else fills the disk. They need root, a loop device and the tools `unshare`, `mkfs.ext4` and
//! `mount`, and are skipped, and counted, without.
//!
//! Unlike the simulator it needs real time and threads, and its seed decides only what is asked and when about the
//! server is killed: the same seed does not give the same run.

mod failure;
mod full_disk;
mod load;
mod promise;
mod report;
#[path = "../shared/room.rs"]
mod room;
mod rounds;
mod server;
mod siege;
#[path = "../shared/small_disk.rs"]
mod small_disk;
#[path = "../shared/stopwatch.rs"]
mod stopwatch;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::rounds::{CrashTest, Options};
use crate::small_disk::SmallDisk;

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
    /// How many rounds in a thousand have a full disk.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u64).range(..=1000))]
    full_disk_per_mille: u64,
    /// Set by the program itself: it runs where its mounts are nobody else's, and ends with its standard input.
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.inside {
        let directory = &arguments.directory;
        room::end_with_outside(vec![small_disk::image_path(directory)]);
        let disk = SmallDisk::mount(directory).map_err(|error| error.to_string());
        return run(arguments, disk);
    }
    match room::run_inside(|_| ()) {
        Ok(code) => {
            // Inside it was busy. What is in the way of removing it says so the next time it is used.
            let _kept = std::fs::remove_dir(small_disk::mount_path(&arguments.directory));
            code
        }
        Err(error) => run(arguments, Err(error.to_string())),
    }
}

fn run(arguments: Arguments, disk: Result<SmallDisk, String>) -> ExitCode {
    let seed = arguments.seed.unwrap_or_else(seed_of_now);
    println!("crash-test, seed {seed}");
    if let Err(why) = &disk {
        println!("rounds with a full disk are skipped: {why}");
    }
    let options = Options {
        seed,
        rounds: arguments.rounds,
        server: arguments.server,
        directory: arguments.directory,
        connections: arguments.connections,
        acknowledged_min: arguments.acknowledged,
        full_disk_per_mille: arguments.full_disk_per_mille,
    };
    let mut test = CrashTest::new(options, disk);
    let ran = test.run();
    println!("{}", test.report());
    match ran {
        Ok(()) => {
            let skipped = test.report().full_disk.skipped;
            println!("no promise was broken, {skipped} rounds skipped");
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
