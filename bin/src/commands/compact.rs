//! `metastore compact`: forget what happened before a revision.

use std::io::Write;

use metastore_statemachine::{NamespaceId, OutcomeCode, Revision};
use serde_json::json;

use super::{CommandError, Exit, client, json, tell};
use crate::arguments::{CompactArguments, Format};

/// Prints the shard's newest revision.
pub(super) fn run(arguments: &CompactArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let revision = Revision(arguments.revision);
    let key = arguments.key.as_bytes();
    let outcome = client::ask(&arguments.client, |client| {
        client.compact(NamespaceId::DEFAULT, key, revision)
    })?;
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
    tell(&format_args!(
        "not done: the newest revision is {}",
        outcome.revision
    ));
    Ok(Exit::Negative)
}
