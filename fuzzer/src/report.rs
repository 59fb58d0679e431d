//! What is recorded and printed.

use serde::{Deserialize, Serialize};

use crate::arguments::Arguments;
use crate::run::{Outcome, Piece};
use crate::target::Target;

/// One piece of a run, as it is recorded: a line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The target.
    pub target: String,
    /// Which code ran.
    pub revision: String,
    /// The seed.
    pub seed: u64,
    /// The first execution.
    pub from: u64,
    /// How many.
    pub executions: u64,
    /// How many inputs were accepted.
    pub accepted: u64,
    /// How many inputs it began with.
    pub corpus_inputs: u64,
    /// Their length together.
    pub corpus_bytes: u64,
    /// The longest execution.
    pub longest_ns: u64,
    /// The most memory that an execution held.
    pub memory_bytes: u64,
    /// What it may hold.
    pub memory_bytes_max: u64,
    /// How long the piece took.
    pub elapsed_ns: u64,
}

impl Line {
    /// The line of a piece that is done.
    #[must_use]
    pub fn of(target: &Target, arguments: &Arguments, piece: Piece, outcome: &Outcome) -> Line {
        Line {
            target: target.name.clone(),
            revision: arguments.revision.clone(),
            seed: piece.seed,
            from: piece.from,
            executions: piece.executions,
            accepted: outcome.accepted,
            corpus_inputs: target.corpus.len() as u64,
            corpus_bytes: target.corpus.iter().map(|input| input.len() as u64).sum(),
            longest_ns: outcome.longest_ns,
            memory_bytes: outcome.memory_bytes as u64,
            memory_bytes_max: target.memory_bytes_max as u64,
            elapsed_ns: u64::try_from(outcome.elapsed.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

/// All lines that count, and the table made of them.
#[derive(Debug)]
pub struct Table {
    lines: Vec<Line>,
    has_head: bool,
}

impl Table {
    /// Begins with what earlier runs recorded.
    #[must_use]
    pub fn new(recorded: Vec<Line>) -> Table {
        Table {
            lines: recorded,
            has_head: false,
        }
    }

    /// Adds a piece.
    pub fn push(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// How many executions of a target are done, without a gap from the first on.
    #[must_use]
    pub fn executions(&self, target: &str, arguments: &Arguments) -> u64 {
        let mut done = 0;
        while let Some(line) = self
            .lines
            .iter()
            .find(|line| line.target == target && line.seed == arguments.seed && line.from == done)
        {
            done += line.executions;
        }
        done
    }

    /// Prints the row of a target, and the head before the first.
    pub fn print_row(&mut self, target: &str) {
        if !self.has_head {
            self.has_head = true;
            println!(
                "{:<28} {:>7} {:>8} {:>11} {:>11} {:>7} {:>9} {:>9} {:>10} {:>10}",
                "target",
                "corpus",
                "bytes",
                "executions",
                "accepted",
                "",
                "per s",
                "longest",
                "memory",
                "limit"
            );
        }
        if let Some(row) = self.row(target) {
            println!("{row}");
        }
    }

    fn row(&self, target: &str) -> Option<String> {
        let lines = || self.lines.iter().filter(|line| line.target == target);
        let first = lines().next()?;
        let sum = |of: fn(&Line) -> u64| lines().map(of).sum::<u64>();
        let most = |of: fn(&Line) -> u64| lines().map(of).max().unwrap_or(0);
        let executions = sum(|line| line.executions);
        let accepted = sum(|line| line.accepted);
        let seconds = sum(|line| line.elapsed_ns) as f64 / 1e9;
        Some(format!(
            "{:<28} {:>7} {:>8} {:>11} {:>11} {:>6.2}% {:>9.0} {:>6.0} us {:>10} {:>10}",
            target,
            first.corpus_inputs,
            first.corpus_bytes,
            executions,
            accepted,
            accepted as f64 * 100.0 / executions as f64,
            executions as f64 / seconds,
            most(|line| line.longest_ns) as f64 / 1e3,
            most(|line| line.memory_bytes),
            first.memory_bytes_max,
        ))
    }
}
