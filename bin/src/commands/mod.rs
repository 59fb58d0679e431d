//! What the program does for each command: one file a command, results to the standard output, everything else to the
//! standard error, and an exit code that says how it went.

mod add;
mod client;
mod cluster;
mod compact;
mod config;
mod count;
mod delete;
mod dev_cluster;
mod error;
mod exit;
mod format;
mod get;
mod import_tree;
mod json;
mod list;
mod member;
mod operator;
mod put;
mod recover;
mod serve;
mod shard;
mod snapshot;
mod spread;
mod status;
mod status_json;
mod table;
mod text;
pub(crate) mod txn;
mod wal;

use std::io::{self, BufWriter, Write};

use crate::arguments::{Command, MemberCommand, RecoverArguments, RecoverStep, ShardCommand};
pub(crate) use error::CommandError;
pub(crate) use exit::Exit;

/// Does what was asked for, and reports what went wrong.
pub(crate) fn run(command: &Command) -> Exit {
    // A server has no answer but its messages.
    if let Command::Dev(arguments) = command {
        return serve::run_dev(arguments);
    }
    if let Command::Serve(arguments) = command {
        return serve::run(arguments);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let result = answer(command, &mut out);
    let flushed = out.flush().map_err(CommandError::Output);
    let error = match (result, flushed) {
        (Ok(exit), Ok(())) => return exit,
        // The command has its result, and whoever closed the pipe has seen enough of it.
        (Ok(exit), Err(error)) if error.is_reader_gone() => return exit,
        (Ok(_), Err(error)) | (Err(error), _) => error,
    };
    if !error.is_reader_gone() {
        tell(&error);
    }
    match error {
        CommandError::Output(_) => exit_without_output(command, &error),
        CommandError::Client(_)
        | CommandError::Wal(_)
        | CommandError::Snapshot(_)
        | CommandError::Tree(_)
        | CommandError::Txn(_)
        | CommandError::Config(_)
        | CommandError::Cluster(_)
        | CommandError::Start(_)
        | CommandError::Operator(_)
        | CommandError::Recover(_) => error.exit(),
    }
}

/// How a command ends whose answer could not be written. Only a listing may be cut short as if it were complete, as by
/// `head`; a change may have been made, and a comparison that was not finished found nothing out.
fn exit_without_output(command: &Command, error: &CommandError) -> Exit {
    match command {
        Command::Put(_)
        | Command::Delete(_)
        | Command::Add(_)
        | Command::Txn(_)
        | Command::Compact(_)
        | Command::Format(_)
        | Command::Recover(RecoverArguments {
            step: RecoverStep::Apply(_),
            ..
        })
        | Command::Member(
            MemberCommand::Add(_)
            | MemberCommand::Replace(_)
            | MemberCommand::Promote(_)
            | MemberCommand::Remove(_)
            | MemberCommand::Forget(_),
        )
        | Command::Shard(ShardCommand::TransferLeader(_)) => Exit::OutcomeUnknown,
        Command::ImportTree(arguments) if !arguments.verify_only => Exit::OutcomeUnknown,
        Command::Get(_)
        | Command::List(_)
        | Command::Count(_)
        | Command::Status(_)
        | Command::Member(MemberCommand::List(_))
        | Command::Shard(ShardCommand::List(_))
        | Command::Config(_)
            if error.is_reader_gone() =>
        {
            Exit::Done
        }
        Command::Get(_)
        | Command::List(_)
        | Command::Count(_)
        | Command::Status(_)
        | Command::Member(MemberCommand::List(_))
        | Command::Shard(ShardCommand::List(_))
        | Command::Recover(_)
        | Command::Wal(_)
        | Command::Snapshot(_)
        | Command::ImportTree(_)
        | Command::Cluster(_)
        | Command::Config(_)
        | Command::Serve(_)
        | Command::Dev(_) => Exit::Unavailable,
    }
}

fn answer(command: &Command, out: &mut dyn Write) -> Result<Exit, CommandError> {
    match command {
        Command::Dev(_) | Command::Serve(_) => unreachable!("servers are run before"),
        Command::Format(arguments) => format::run(arguments, out),
        Command::Cluster(command) => cluster::run(command, out),
        Command::Config(arguments) => config::run(arguments, out),
        Command::Put(arguments) => put::run(arguments, out),
        Command::Get(arguments) => get::run(arguments, out),
        Command::Delete(arguments) => delete::run(arguments, out),
        Command::Add(arguments) => add::run(arguments, out),
        Command::Txn(arguments) => txn::run(arguments, out),
        Command::Compact(arguments) => compact::run(arguments, out),
        Command::List(arguments) => list::run(arguments, out),
        Command::Count(arguments) => count::run(arguments, out),
        Command::Status(arguments) => status::run(arguments, out),
        Command::Member(command) => member::run(command, out),
        Command::Shard(command) => shard::run(command, out),
        Command::Recover(arguments) => recover::run(arguments, out),
        Command::Wal(command) => wal::run(command, out),
        Command::Snapshot(command) => snapshot::run(command, out),
        Command::ImportTree(arguments) => import_tree::run(arguments, out),
    }
}

/// Shows help or says what is wrong with the command line.
pub(crate) fn report_usage(error: &clap::Error) -> Exit {
    // Nobody is left to hear that the terminal is gone.
    let _ = error.print();
    if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Done
    }
}

/// Says something to the user beside the answer. A closed standard error is no reason to stop.
pub(crate) fn tell(message: &dyn std::fmt::Display) {
    let _ = writeln!(io::stderr(), "metastore: {message}");
}
