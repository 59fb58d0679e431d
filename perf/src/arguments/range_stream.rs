//! Measurements of ranges and of the map below them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::parse_process;
use crate::process::ProcessId;

#[derive(Debug, Args)]
pub(crate) struct MapArguments {
    /// Keys in each map.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    pub(crate) keys: u64,
    /// Write everything as JSON to this file; `-` is the standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// How fast a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reader {
    /// As fast as it comes.
    Free,
    /// No faster than its keys are changed, so that it lasts until all of them are.
    WithWriters,
}

#[derive(Debug, Args)]
pub(crate) struct RangeStreamArguments {
    /// Any core of the store.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7400")]
    pub(crate) connect: String,
    /// Keys of the directory.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=7_000_000))]
    pub(crate) keys: u64,
    /// How fast the stream is read.
    #[arg(long, value_enum, default_value_t = Reader::Free)]
    pub(crate) reader: Reader,
    /// The store's process; otherwise the one that listens at the address, if it is on this machine.
    #[arg(long, value_name = "PID", value_parser = parse_process)]
    pub(crate) server_pid: Option<ProcessId>,
    /// Write everything as JSON to this file; `-` is the standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}
