//! `metastore get`: print the value of a key.

use std::io::Write;

use metastore_net::{Consistency, GetRequest};
use metastore_statemachine::{GetQuery, NamespaceId, Revision};
use serde_json::{Value, json};

use super::text::Escaped;
use super::{CommandError, Exit, client, json, tell};
use crate::arguments::{Format, GetArguments};

/// Prints the value as it is, and a line feed.
pub(super) fn run(arguments: &GetArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let key = arguments.key.as_bytes();
    let request = GetRequest {
        query: GetQuery {
            namespace: NamespaceId::DEFAULT,
            key,
            at: arguments.at.map(Revision),
        },
        consistency: Consistency::Linearizable,
    };
    let answer = client::ask(&arguments.client, |client| client.get_with(&request))?;
    let row = answer.row.as_ref();
    if arguments.client.format() == Format::Json {
        let mut document = row.map_or_else(
            || json!({ "key": json::bytes(key), "value": Value::Null }),
            json::owned_row,
        );
        document["revision"] = json!(answer.position.revision.0);
        document["shard"] = json!(answer.position.shard);
        json::print(out, &document)?;
    } else if let Some(row) = row {
        out.write_all(&row.value)
            .and_then(|()| writeln!(out))
            .map_err(CommandError::Output)?;
    }
    if row.is_some() {
        return Ok(Exit::Done);
    }
    tell(&format_args!("no such key: {}", Escaped(key)));
    Ok(Exit::Negative)
}
