//! Runs the fuzz targets of every package but the program's own, which are run by its tests.

use std::process::ExitCode;

use clap::Parser;
use metastore_fuzzer::{Arguments, memory, run, targets};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

fn main() -> ExitCode {
    match run(&targets::all(), &Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
