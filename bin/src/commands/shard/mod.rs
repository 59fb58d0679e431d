//! `metastore shard`: the shards of a cluster that runs, and who leads them.

mod list;
mod transfer_leader;

use std::io::Write;

use super::{CommandError, Exit};
use crate::arguments::ShardCommand;

pub(super) fn run(command: &ShardCommand, out: &mut dyn Write) -> Result<Exit, CommandError> {
    match command {
        ShardCommand::List(arguments) => list::run(arguments, out),
        ShardCommand::TransferLeader(arguments) => transfer_leader::run(arguments, out),
    }
}
