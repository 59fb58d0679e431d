//! `metastore delete`: remove a key.

use std::io::Write;

use metastore_statemachine::{NamespaceId, OutcomeCode};
use serde_json::json;

use super::text::Escaped;
use super::{CommandError, Exit, client, json, tell};
use crate::arguments::{DeleteArguments, Format};

/// Prints the revision of the removal.
pub(super) fn run(arguments: &DeleteArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let key = arguments.key.as_bytes();
    let outcome = client::connect(&arguments.client)?.delete(NamespaceId::DEFAULT, key)?;
    let is_done = outcome.code == OutcomeCode::Done;
    if arguments.client.format() == Format::Json {
        let answer = json!({ "done": is_done, "revision": outcome.revision.0 });
        json::print(out, &answer)?;
    } else if is_done {
        writeln!(out, "{}", outcome.revision).map_err(CommandError::Output)?;
    }
    if is_done {
        return Ok(Exit::Done);
    }
    tell(&format_args!("no such key: {}", Escaped(key)));
    Ok(Exit::Negative)
}
