//! `metastore add`: add to a counter.

use std::io::Write;

use metastore_statemachine::{Command, NamespaceId, OutcomeCode};
use serde_json::json;

use super::{CommandError, Exit, client, json, tell};
use crate::arguments::{AddArguments, Format};

/// Prints the counter's new number.
pub(super) fn run(arguments: &AddArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let operand = arguments.number.to_le_bytes();
    let command = Command::add_i64(NamespaceId::DEFAULT, arguments.key.as_bytes(), &operand);
    let outcome = client::ask(&arguments.client, |client| client.command(&command))?;
    let refusal = match outcome.code {
        OutcomeCode::Done => None,
        OutcomeCode::NotANumber => Some("not done: the value is not a counter of eight bytes"),
        OutcomeCode::Overflow => Some("not done: the sum does not fit 64 bits"),
        OutcomeCode::Absent
        | OutcomeCode::Conflict
        | OutcomeCode::TooLarge
        | OutcomeCode::Compacted
        | OutcomeCode::FutureRevision
        | OutcomeCode::OverBudget => Some("not done"),
    };
    if arguments.client.format() == Format::Json {
        let answer = json!({
            "done": refusal.is_none(),
            "number": outcome.number,
            "revision": outcome.revision.0,
        });
        json::print(out, &answer)?;
    } else if let Some(number) = outcome.number.filter(|_| refusal.is_none()) {
        writeln!(out, "{number}").map_err(CommandError::Output)?;
    }
    let Some(refusal) = refusal else {
        return Ok(Exit::Done);
    };
    tell(&refusal);
    Ok(Exit::Negative)
}
