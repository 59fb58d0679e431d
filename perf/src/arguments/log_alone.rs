//! The command line of the log alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use metastore_wal::device::FlushMethod;

use super::own_measurement::{StrictArguments, Strictness};
use super::{BaselineUse, parse_count};

#[derive(Debug, Args)]
pub(crate) struct LogArguments {
    /// A directory on the disk in question. The log lies in it for the time of the measurement.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Points of 1 s, 3 rounds: a first impression, not a result.
    #[arg(long)]
    quick: bool,
    /// Measured seconds of a point; a round has three for each batch.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: Option<u64>,
    /// Number of rounds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: Option<u32>,
    /// Commands in one write, a point each.
    #[arg(long = "batch", value_name = "N", value_delimiter = ',', default_values_t = [1, 16, 64, 256, 1_024], value_parser = parse_batch)]
    pub(crate) batches: Vec<usize>,
    /// How writes are made durable, of the log and of fio.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) flush: FlushChoice,
    /// The baseline [default: the one of the source tree that this program was built from].
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write the baseline instead of comparing with it.
    #[arg(long)]
    write_baseline: bool,
    #[command(flatten)]
    strict: StrictArguments,
    /// Write everything as JSON to this file; `-` is the standard output, and the tables then go to standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// How writes are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum FlushChoice {
    /// As a store would choose when its data is formatted there.
    #[default]
    Probe,
    Dsync,
    WriteThenSync,
}

/// Who says where the baseline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BaselineChoice {
    /// The command line.
    Named,
    /// Nobody.
    Usual,
}

impl FlushChoice {
    /// The method, if it need not be probed.
    pub(crate) fn method(self) -> Option<FlushMethod> {
        match self {
            FlushChoice::Probe => None,
            FlushChoice::Dsync => Some(FlushMethod::Dsync),
            FlushChoice::WriteThenSync => Some(FlushMethod::WriteThenSync),
        }
    }
}

impl LogArguments {
    /// How long a point takes.
    pub(crate) fn measured(&self) -> Duration {
        let usual = if self.quick { 1 } else { 3 };
        Duration::from_secs(self.seconds.unwrap_or(usual))
    }

    /// How many rounds there are.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 })
    }

    /// What is done with the baseline.
    pub(crate) fn baseline_use(&self) -> BaselineUse {
        match self.write_baseline {
            true => BaselineUse::Write,
            false => BaselineUse::Compare,
        }
    }

    /// Where the baseline is, and who says so.
    pub(crate) fn baseline(&self) -> (PathBuf, BaselineChoice) {
        match &self.baseline {
            Some(path) => (path.clone(), BaselineChoice::Named),
            None => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("baselines/log.json");
                (path, BaselineChoice::Usual)
            }
        }
    }

    /// Whether a missed target is a failure.
    pub(crate) fn strictness(&self) -> Strictness {
        self.strict.strictness()
    }
}

/// More commands are not in one batch of a server.
const BATCH_MAX: usize = 1_024;

fn parse_batch(text: &str) -> Result<usize, super::ArgumentError> {
    match parse_count(text) {
        Ok(count) if count <= BATCH_MAX => Ok(count),
        _ => Err(super::ArgumentError::Batch { max: BATCH_MAX }),
    }
}
