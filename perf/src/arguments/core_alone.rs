//! The command line of the core alone.

use std::path::{Path, PathBuf};

use clap::Args;

use super::parse_count;

#[derive(Debug, Args)]
pub(crate) struct CoreArguments {
    /// Puts that arrive in one turn, a scenario each.
    #[arg(long = "batch", value_name = "N", value_delimiter = ',', default_values_t = [1, 16, 256], value_parser = parse_count)]
    pub(crate) batches: Vec<usize>,
    /// Replicas of the shard, on as many cores; what all of them do is counted. A scenario each.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1], value_parser = clap::value_parser!(u32).range(1..=7))]
    pub(crate) replicas: Vec<u32>,
    /// Measured puts of a scenario, rounded up to whole turns.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) puts: u64,
    /// Count instructions under valgrind's callgrind, by function, and compare them with the baseline: exit with 4 when
    /// a scenario takes 5 % more.
    #[arg(long)]
    callgrind: bool,
    /// The baseline [default: the one of the source tree that this program was built from].
    #[arg(long, value_name = "FILE", requires = "callgrind")]
    baseline: Option<PathBuf>,
    /// Write the baseline instead of comparing with it.
    #[arg(long, requires = "callgrind")]
    write_baseline: bool,
    /// How many functions to list.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "callgrind", value_parser = parse_count)]
    pub(crate) functions: usize,
    /// Write everything as JSON to this file; `-` is the standard output, and the tables then go to standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// What is done with the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BaselineUse {
    Compare,
    Write,
}

impl CoreArguments {
    /// What is done with the baseline, where instructions are counted at all.
    pub(crate) fn baseline_use(&self) -> Option<BaselineUse> {
        let use_of_it = match self.write_baseline {
            true => BaselineUse::Write,
            false => BaselineUse::Compare,
        };
        self.callgrind.then_some(use_of_it)
    }

    /// Where the baseline is. Each architecture has its own: its instructions are others.
    pub(crate) fn baseline(&self) -> PathBuf {
        let usual = || {
            let name = format!("core-{}.json", std::env::consts::ARCH);
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("baselines")
                .join(name)
        };
        self.baseline.clone().unwrap_or_else(usual)
    }
}
