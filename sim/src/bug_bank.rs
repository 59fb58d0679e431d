//! The command of `metastore-sim` that hunts planted bugs.

use std::process::ExitCode;

use clap::Args;
use metastore_bugs::Mutant;
use metastore_sim::mutants::{Effort, Found, Ground, Hunt, Missed, silence_panics};

use crate::commands::cpu;

/// Which bugs to plant, and how hard to look.
#[derive(Debug, Args)]
pub(crate) struct MutantsArguments {
    /// No more worlds than a few minutes allow; without it up to 10,000 for each bug.
    #[arg(long)]
    quick: bool,
    /// Only this bug.
    #[arg(long)]
    only: Option<Mutant>,
    /// Also says what was broken, and how to see it again.
    #[arg(long)]
    explain: bool,
}

/// Plants one bug after the other and looks for it.
pub(crate) fn hunt_all(arguments: &MutantsArguments) -> ExitCode {
    silence_panics();
    let effort = match arguments.quick {
        true => Effort::Quick,
        false => Effort::Full,
    };
    let all = Mutant::ALL.iter().copied();
    let chosen = all.filter(|&mutant| arguments.only.is_none_or(|only| only == mutant));
    let (mut found, mut missed) = (0, 0);
    for mutant in chosen {
        let before = cpu();
        let ended = Hunt { mutant, effort }.run();
        let seconds = cpu().saturating_sub(before).as_secs_f64();
        match &ended {
            Ok(_) => found += 1,
            Err(_) => missed += 1,
        }
        print(mutant, &ended, seconds);
        if let (true, Ok(found)) = (arguments.explain, &ended) {
            explain(mutant, found);
        }
    }
    println!(
        "{found} of {} planted bugs found, {:.0} s of the processor",
        found + missed,
        cpu().as_secs_f64()
    );
    match missed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn print(mutant: Mutant, ended: &Result<Found, Box<Missed>>, seconds: f64) {
    let (name, recreates) = (mutant.name(), mutant.recreates());
    let end = match ended {
        Ok(found) => format!("found at {found}"),
        Err(missed) => format!("MISSED: {missed}"),
    };
    println!("{name:<34} {recreates:<4} {seconds:>5.1} s  {end}");
}

fn explain(mutant: Mutant, found: &Found) {
    println!("    {}", found.violation);
    let (command, seed) = (Ground::of(mutant).command(), found.seed);
    println!("    metastore-sim {command} --seed {seed} --mutant {mutant}");
}
