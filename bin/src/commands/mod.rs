//! What the program does for each command: one file a command, results to the standard output, everything else to the
//! standard error, and an exit code that says how it went.

mod add;
mod client;
mod delete;
mod dev;
mod error;
mod exit;
mod get;
mod import_tree;
mod json;
mod list;
mod put;
mod status;
mod status_json;
mod table;
mod text;
mod wal;

use std::io::{self, BufWriter, Write};

use crate::arguments::Command;
pub(crate) use error::CommandError;
pub(crate) use exit::Exit;

/// Does what was asked for, and reports what went wrong.
pub(crate) fn run(command: &Command) -> Exit {
    if let Command::Dev(arguments) = command {
        return dev::run(arguments);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let result = answer(command, &mut out)
        .and_then(|exit| out.flush().map(|()| exit).map_err(CommandError::Output));
    match result {
        Ok(exit) => exit,
        Err(error) => {
            // What was printed before the error is still an answer; a second error says nothing new.
            let _ = out.flush();
            if !error.is_reader_gone() {
                tell(&error);
            }
            error.exit()
        }
    }
}

fn answer(command: &Command, out: &mut dyn Write) -> Result<Exit, CommandError> {
    match command {
        Command::Dev(arguments) => Ok(dev::run(arguments)),
        Command::Put(arguments) => put::run(arguments, out),
        Command::Get(arguments) => get::run(arguments, out),
        Command::Delete(arguments) => delete::run(arguments, out),
        Command::Add(arguments) => add::run(arguments, out),
        Command::List(arguments) => list::run(arguments, out),
        Command::Status(arguments) => status::run(arguments, out),
        Command::Wal(command) => wal::run(command, out),
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
