//! `metastore list`: print the keys that begin with a prefix.

use std::io::{self, Write};

use metastore_net::blocking::{Client, ClientError};
use metastore_net::{RangeRequest, Response, ShardRevision};
use metastore_statemachine::{Direction, NamespaceId, Projection, Revision, Row, Scope};
use serde_json::{Value, json};

use super::text::Escaped;
use super::{CommandError, Exit, client, json};
use crate::arguments::{Format, ListArguments, bytes_of};

/// Prints one key a line, a tab and its value, or a common prefix alone; in JSON one row or prefix a line and at the end
/// the revisions they were read at.
pub(super) fn run(arguments: &ListArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let mut client = client::connect(&arguments.client)?;
    let format = arguments.client.format();
    let print = |row: &Row<'_>| print_row(arguments, format, row, out);
    let revisions = stream(&mut client, &request_of(arguments), print)?;
    if format == Format::Json {
        let revisions = self::revisions(&revisions);
        json::print(out, &json!({ "revisions": revisions }))?;
    }
    Ok(Exit::Done)
}

/// The revisions at which shards were read.
pub(super) fn revisions(revisions: &[ShardRevision]) -> Value {
    let read = |read: &ShardRevision| json!({ "shard": read.shard, "revision": read.revision.0 });
    revisions.iter().map(read).collect()
}

/// Reads a range and stops at the first row that cannot be printed: who has closed the pipe waits for nothing.
fn stream(
    client: &mut Client,
    range: &RangeRequest<'_>,
    mut print: impl FnMut(&Row<'_>) -> io::Result<()>,
) -> Result<Vec<ShardRevision>, CommandError> {
    let mut revisions = Vec::new();
    let mut printed = Ok(());
    let mut refused = None;
    client.submit(|connection| connection.range(range));
    while client.pending_count() > 0 {
        client.next_responses(|_, response| {
            if let Response::Range(chunk) = response {
                if printed.is_ok() {
                    printed = chunk.rows().try_for_each(|row| print(&row));
                }
                revisions.extend(chunk.revisions());
            } else if let Response::Error(error) = response {
                refused = Some(error);
            }
        })?;
        std::mem::replace(&mut printed, Ok(())).map_err(CommandError::Output)?;
    }
    match refused {
        Some(error) => Err(ClientError::Server(error).into()),
        None => Ok(revisions),
    }
}

fn request_of(arguments: &ListArguments) -> RangeRequest<'_> {
    let mut request = RangeRequest::subtree(NamespaceId::DEFAULT, bytes_of(&arguments.prefix));
    if arguments.children {
        request.query.scope = Scope::Children { separator: b'/' };
    }
    if arguments.reverse {
        request.query.direction = Direction::Reverse;
    }
    if arguments.keys_only {
        request.query.projection = Projection::KeysOnly;
    }
    request.query.delimiter = arguments.delimiter;
    request.query.at = arguments.at.map(Revision);
    request.query.limit = arguments.limit.unwrap_or(0);
    request
}

fn print_row(
    arguments: &ListArguments,
    format: Format,
    row: &Row<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        Format::Json if row.is_common_prefix() => {
            writeln!(out, "{}", json!({ "prefix": json::bytes(row.key) }))
        }
        Format::Json => {
            let mut document = json::row(row);
            if arguments.keys_only
                && let Some(fields) = document.as_object_mut()
            {
                fields.remove("value");
            }
            writeln!(out, "{document}")
        }
        Format::People if arguments.keys_only || row.is_common_prefix() => {
            writeln!(out, "{}", Escaped(row.key))
        }
        Format::People => writeln!(out, "{}\t{}", Escaped(row.key), Escaped(row.value)),
    }
}
