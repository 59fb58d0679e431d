//! The command line of idle shards.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct IdleArguments {
    /// Shards, of which every node has a replica; a row each.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 1_000], value_parser = clap::value_parser!(u32).range(1..=4_000))]
    pub(crate) shards: Vec<u32>,
    /// Seconds of virtual time.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) seconds: u64,
    /// Write everything as JSON to this file; `-` is the standard output, and the tables then go to standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}
