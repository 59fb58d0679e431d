//! Load generator and measurements for a store: what a put, a get and a flush cost, beside what the disk and the
//! socket cost by themselves.
//!
//! It does **not** judge a build by absolute numbers, which say little about another machine: it prints ratios of
//! one run and costs an operation, with the conditions under which they were measured. It checks no answer beyond
//! what makes a measurement void, and it never retries, except what another node of a cluster leads by then, and what a
//! lost node left unanswered where a measurement is about that.
//!
//! Exit codes: 0 measured, 1 measured but at least one measurement is void, 2 usage, 3 not measured, 4 a target is
//! missed or its figure unknown (with `--strict`), or the core takes more instructions than its baseline allows.

#![allow(
    clippy::result_large_err,
    reason = "an error ends the program, and the store's own errors carry data"
)]

mod arguments;
mod baseline_file;
mod compare;
mod conditions;
mod core_alone;
mod error;
#[cfg(test)]
mod fake_cluster;
#[cfg(test)]
mod fake_store;
mod figure;
mod floor;
mod goals;
mod good_clients;
mod key_leaders;
mod keys;
mod kin;
mod latency;
mod load;
mod log_alone;
mod machine_use;
mod map;
mod measurement;
mod measures;
mod node;
mod operation;
mod output;
mod owned_server;
mod peer;
mod pinning;
mod ports;
mod preload;
mod process;
mod protocol;
mod random;
mod range_stream;
mod routes;
mod run;
mod store;
mod system;
#[cfg(test)]
mod test_directory;
mod workload;
mod zipfian;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use error::Verdict;

/// The server's allocator, so that the core alone allocates as it does there.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Each connection is a descriptor; what is missing shows when the first one cannot be opened.
    let _raised = metastore_wal::device::raise_open_files_limit();
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Floor(arguments) => floor::run(&arguments),
        Command::Goals(arguments) => goals::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Page(arguments) => compare::stored::run(&arguments),
        Command::Core(arguments) => core_alone::run(&arguments),
        Command::Idle(arguments) => core_alone::idle::run(&arguments),
        Command::Log(arguments) => log_alone::run(&arguments),
        Command::Map(arguments) => map::run(&arguments),
        Command::RangeStream(arguments) => range_stream::run(&arguments),
    };
    match result {
        Ok(Verdict::Valid) => ExitCode::SUCCESS,
        Ok(Verdict::Invalid) => ExitCode::from(1),
        Ok(Verdict::Missed) => ExitCode::from(4),
        Err(error) => {
            // There is nobody left to tell when standard error is closed too.
            let _told = writeln!(io::stderr(), "metastore-perf: {error}");
            ExitCode::from(3)
        }
    }
}
