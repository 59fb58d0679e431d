//! The page of a comparison that was stored.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct PageArguments {
    /// The comparison, as `compare --json` has written it.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// Write the page to this file; `-` is the standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: PathBuf,
}
