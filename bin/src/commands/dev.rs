//! `metastore dev`: one node for development.

use super::{Exit, tell};
use crate::arguments::DevArguments;

/// Runs the node until it is told to stop.
pub(crate) fn run(arguments: &DevArguments) -> Exit {
    tell(&format_args!("not built in this branch: {arguments:?}"));
    Exit::Unavailable
}
