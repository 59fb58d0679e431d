//! Runs simulated nodes and clusters through faults.

#[cfg(feature = "bug-bank")]
mod bug_bank;
mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use metastore_sim::oracle::Checkers;
use metastore_sim::power_loss::{self, PowerLoss};

use self::commands::PlantedMutant;

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
        #[command(flatten)]
        mutant: PlantedMutant,
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
    /// Plants every bug of the bank, one after the other, and sees that each is found.
    #[cfg(feature = "bug-bank")]
    Mutants(bug_bank::MutantsArguments),
    /// Names the bugs that can be planted.
    #[cfg(feature = "bug-bank")]
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
            let _planted = mutant.plant();
            let run = PowerLoss {
                seed,
                crashes,
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
        #[cfg(feature = "bug-bank")]
        Command::Mutants(arguments) => bug_bank::hunt_all(&arguments),
        #[cfg(feature = "bug-bank")]
        Command::ListMutants => {
            for mutant in metastore_bugs::Mutant::ALL {
                println!("{mutant}");
            }
            ExitCode::SUCCESS
        }
    }
}
