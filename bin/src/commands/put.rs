//! `metastore put`: set a key to a value.

use std::io::Write;

use metastore_net::blocking::OwnedOutcome;
use metastore_statemachine::{Command, NamespaceId, OutcomeCode, Revision};
use serde_json::json;

use super::{CommandError, Exit, client, json, tell};
use crate::arguments::{Format, PutArguments, bytes_of};

/// Prints the revision, after the previous value if that was asked for.
pub(super) fn run(arguments: &PutArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let command = command_of(arguments);
    let outcome = client::ask(&arguments.client, |client| client.command(&command))?;
    let exit = match outcome.code {
        OutcomeCode::Done => Exit::Done,
        OutcomeCode::Absent
        | OutcomeCode::Conflict
        | OutcomeCode::NotANumber
        | OutcomeCode::Overflow
        | OutcomeCode::TooLarge
        | OutcomeCode::Compacted
        | OutcomeCode::FutureRevision
        | OutcomeCode::OverBudget => Exit::Negative,
    };
    match arguments.client.format() {
        Format::Json => {
            let mut answer = json!({
                "done": exit == Exit::Done,
                "revision": outcome.revision.0,
            });
            if arguments.previous {
                answer["previous"] = json!(outcome.previous.as_ref().map(json::owned_row));
            }
            json::print(out, &answer)?;
        }
        Format::People if exit == Exit::Done => {
            print_done(&outcome, out).map_err(CommandError::Output)?;
        }
        Format::People => {}
    }
    if exit != Exit::Done {
        tell(&refusal(arguments, &outcome));
    }
    Ok(exit)
}

fn command_of(arguments: &PutArguments) -> Command<'_> {
    let key = arguments.key.as_bytes();
    let mut command = Command::put(NamespaceId::DEFAULT, key, bytes_of(&arguments.value));
    if arguments.if_absent {
        command = command.with_if_absent();
    }
    if let Some(revision) = arguments.if_revision {
        command = command.with_expected_revision(Revision(revision));
    }
    if arguments.previous {
        command = command.with_return_previous();
    }
    command
}

fn print_done(outcome: &OwnedOutcome, out: &mut dyn Write) -> std::io::Result<()> {
    if let Some(previous) = &outcome.previous {
        out.write_all(&previous.value)?;
        writeln!(out)?;
    }
    writeln!(out, "{}", outcome.revision)
}

fn refusal(arguments: &PutArguments, outcome: &OwnedOutcome) -> String {
    let found = outcome.revision;
    if outcome.code != OutcomeCode::Conflict {
        return format!("not done: {:?}", outcome.code);
    }
    match arguments.if_revision {
        Some(_) if found == Revision(0) => "not done: the key does not exist".to_owned(),
        Some(0) | None => format!("not done: the key exists, at revision {found}"),
        Some(expected) => format!("not done: the key is at revision {found}, not {expected}"),
    }
}
