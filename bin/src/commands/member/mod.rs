//! `metastore member`: the nodes of a cluster that runs, and on which of them replicas live.

mod add;
mod drive;
mod farewell;
mod forget;
mod list;
mod promote;
mod remove;
mod replace;
mod report;

use std::io::Write;

use super::{CommandError, Exit};
use crate::arguments::MemberCommand;

pub(super) fn run(command: &MemberCommand, out: &mut dyn Write) -> Result<Exit, CommandError> {
    match command {
        MemberCommand::List(arguments) => list::run(arguments, out),
        MemberCommand::Add(arguments) => add::run(arguments, out),
        MemberCommand::Replace(arguments) => replace::run(arguments, out),
        MemberCommand::Promote(arguments) => promote::run(arguments, out),
        MemberCommand::Remove(arguments) => remove::run(arguments, out),
        MemberCommand::Forget(arguments) => forget::run(arguments, out),
    }
}
