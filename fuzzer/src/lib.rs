//! Runs every decoder of the project on millions of mutated inputs, and says how far they came.
//!
//! ```text
//!   corpus ──> Mutator ──> mend checksums ──> Target::run ──> accepted or refused
//!                 │                               │
//!      (seed, number of the execution)     panic, hang, memory ──> Failure: input and how to replay it
//! ```
//!
//! Everything follows from the seed: the input of an execution is a function of target, seed and number, so a run can be
//! cut into pieces, continued, and each of its executions repeated alone.
//!
//! What it does **not** do: it watches no coverage and keeps no input that it finds; the corpus is what is committed. It
//! knows no format: what makes an input of a target right is said beside the decoder, in the `fuzz` module of its
//! package.

pub mod arguments;
pub mod corpus;
mod failure;
pub mod memory;
mod mutator;
mod random;
mod report;
mod run;
mod target;
pub mod targets;

pub use arguments::Arguments;
pub use failure::{Failure, Reason};
pub use mutator::Mutator;
pub use random::Random;
pub use report::{Line, Table};
pub use run::{Piece, run_piece};
pub use target::Target;

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Instant;

/// How many executions are one line of the record.
const PIECE_EXECUTIONS: u64 = 1_000_000;

/// Runs what the arguments ask for and prints a table.
///
/// # Errors
/// Any [`Failure`]; the first one ends the run.
pub fn run(targets: &[Target], arguments: &Arguments) -> Result<(), Failure> {
    let chosen: Vec<&Target> = targets
        .iter()
        .filter(|target| arguments.chooses(&target.name))
        .collect();
    if chosen.is_empty() {
        return Err(Failure::no_target(arguments));
    }
    if arguments.list {
        for target in chosen {
            println!("{}", target.name);
        }
        return Ok(());
    }
    if let Some(path) = &arguments.input {
        return replay(&chosen, &corpus::read_file(path)?);
    }
    if let Some(number) = arguments.at {
        let piece = Piece {
            seed: arguments.seed,
            from: number,
            executions: 1,
        };
        for target in chosen {
            let mut mutator = Mutator::new(target, arguments.seed);
            let input = mutator.input(number);
            println!("{}, input of {} bytes:", target.name, input.len());
            println!("{}", failure::hex_whole(input));
            run_piece(target, piece)?;
        }
        return Ok(());
    }
    let mut table = Table::new(arguments.recorded()?);
    for target in chosen {
        run_target(target, arguments, &mut table)?;
        table.print_row(&target.name);
    }
    Ok(())
}

/// Runs one file through targets.
fn replay(targets: &[&Target], input: &[u8]) -> Result<(), Failure> {
    for target in targets {
        let verdict = match run::run_input(target, input)? {
            true => "accepted",
            false => "refused",
        };
        println!("{}: {verdict}", target.name);
    }
    Ok(())
}

/// Runs a target in pieces, each recorded when it is done.
fn run_target(target: &Target, arguments: &Arguments, table: &mut Table) -> Result<(), Failure> {
    let started = Instant::now();
    let mut from = table.executions(&target.name, arguments);
    while from < arguments.executions {
        if let Some(seconds) = arguments.seconds
            && started.elapsed().as_secs() >= seconds
        {
            break;
        }
        let piece = Piece {
            seed: arguments.seed,
            from,
            executions: PIECE_EXECUTIONS.min(arguments.executions - from),
        };
        let line = Line::of(target, arguments, piece, &run_piece(target, piece)?);
        if let Some(path) = &arguments.record {
            let unwritten = |source| Failure::file(path, source);
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(unwritten)?;
            let mut text = serde_json::to_string(&line).expect("a line is plain data");
            text.push('\n');
            file.write_all(text.as_bytes()).map_err(unwritten)?;
        }
        table.push(line);
        from += piece.executions;
    }
    Ok(())
}
