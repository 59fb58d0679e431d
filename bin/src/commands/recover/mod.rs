//! `metastore recover`: a cluster goes on that has lost most of the voters of some shards for good.
//!
//! ```text
//!   on each node that is left:  report  ──┐
//!                                         ├──> plan: which copy of each shard is the best ──> apply, on each of them
//!   on each node that is left:  report  ──┘
//! ```
//!
//! What was acknowledged and is on none of these nodes is lost, which nobody can find out. It does **not** bring back a
//! shard of which there is no copy, and decides nothing by itself: a person says which nodes are lost.

mod apply;
mod choice;
mod copies;
mod error;
mod plan;
mod report;
mod writer;

use std::io::Write;

use super::{CommandError, Exit};
use crate::arguments::{RecoverArguments, RecoverStep};
pub(crate) use error::RecoverError;

pub(super) fn run(arguments: &RecoverArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    match &arguments.step {
        RecoverStep::Report(arguments) => report::run(arguments, out),
        RecoverStep::Plan(arguments) => plan::run(arguments, out),
        RecoverStep::Apply(arguments) => apply::run(arguments, out),
    }
}
