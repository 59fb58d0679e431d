//! The `metastore` program: the server and the commands that talk to it.
//!
//! This package joins the other crates to a command line, to sockets and to files. It does **not** decide about
//! consensus or durability, and the client commands know no more of a server than the protocol says.

// A core that writes to a standard error which nobody reads waits for ever: messages go through `log`.
#![deny(clippy::print_stderr)]

mod admin;
mod allocator;
mod arguments;
mod commands;
mod config;
#[cfg(test)]
mod fuzz;
mod log;
mod node;
mod quantity;
#[cfg(test)]
mod test_directory;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;

fn main() -> ExitCode {
    allocator::set_up();
    let exit = match Arguments::try_parse() {
        Ok(arguments) => commands::run(&arguments.command),
        Err(error) => commands::report_usage(&error),
    };
    exit.into()
}
