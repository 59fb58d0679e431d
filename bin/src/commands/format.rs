//! `metastore format`: makes a data directory ready for use.

use std::io::Write;

use super::{CommandError, Exit, config};
use crate::arguments::FormatArguments;
use crate::node::{self, FormatPolicy, NodeOptions, Oversubscription};

pub(super) fn run(arguments: &FormatArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let configuration = config::load(&arguments.config)?;
    let options = NodeOptions {
        format: FormatPolicy::Anew,
        ..configuration.node_options(Oversubscription::Refuse)
    };
    let node = node::format(&options)?;
    writeln!(
        out,
        "formatted {} for {} cores and {} shards, cluster {:032x}",
        options.data.display(),
        node.cores,
        node.replicas.len(),
        node.cluster.0
    )
    .map_err(CommandError::Output)?;
    Ok(Exit::Done)
}
