//! Runs simulated nodes and clusters through faults.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use metastore_sim::Mutant;
use metastore_sim::oracle::Checkers;
use metastore_sim::power_loss::{self, PowerLoss};

/// Runs simulated nodes and clusters through faults. Everything follows from the seed.
#[derive(Debug, Parser)]
#[command(name = "metastore-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs clusters, one for each seed, through faults and back to rest.
    Run(commands::RunArguments),
    /// Runs the cluster of one seed once more.
    Replay(commands::ReplayArguments),
    /// Crashes nodes under load and checks what clients were told against what survives.
    PowerLoss {
        /// How many crashes at least.
        #[arg(long, default_value_t = 1_000)]
        crashes: u64,
        /// Seed of the first world.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// A bug to plant; the run must find it and fail.
        #[arg(long)]
        mutant: Option<Mutant>,
    },
    /// Prints a hash over everything that goes into cores and comes out: two processes print the same.
    Trace {
        /// How many inputs.
        #[arg(long, default_value_t = 100_000)]
        inputs: u64,
        /// Seed of the first world.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Names the bugs that can be planted.
    ListMutants,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => commands::run(&arguments),
        Command::Replay(arguments) => commands::replay(&arguments),
        Command::PowerLoss {
            crashes,
            seed,
            mutant,
        } => {
            let run = PowerLoss {
                seed,
                crashes,
                mutant,
                checkers: Checkers::All,
            };
            println!("power-loss, seed {seed}");
            match run.run() {
                Ok(summary) => {
                    println!("{summary}\nno promise was broken");
                    ExitCode::SUCCESS
                }
                Err(failure) => {
                    println!("{failure}");
                    ExitCode::FAILURE
                }
            }
        }
        Command::Trace { inputs, seed } => match power_loss::trace(seed, inputs) {
            Ok(trace) => {
                println!("trace, seed {seed}: {trace:?}");
                ExitCode::SUCCESS
            }
            Err(failure) => {
                println!("{failure}");
                ExitCode::FAILURE
            }
        },
        Command::ListMutants => {
            for mutant in Mutant::all() {
                println!("{mutant}");
            }
            ExitCode::SUCCESS
        }
    }
}
