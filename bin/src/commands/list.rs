//! `metastore list`: print the keys that begin with a prefix.

use std::io::{self, Write};

use metastore_net::{RangeRequest, ShardRevision};
use metastore_statemachine::{Direction, NamespaceId, Projection, Revision, Row, Scope};
use serde_json::{Value, json};

use super::spread::Rows;
use super::text::Escaped;
use super::{CommandError, Exit, json};
use crate::arguments::{Format, ListArguments, bytes_of};

/// Prints one key a line, a tab and its value, or a common prefix alone; in JSON one row or prefix a line and at the end
/// the revisions they were read at.
pub(super) fn run(arguments: &ListArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let format = arguments.client.format();
    let mut rows = Rows::open(&arguments.client, &request_of(arguments))?;
    // Whoever has closed the pipe waits for nothing: the first row that cannot be printed is the last.
    while let Some(row) = rows.next()? {
        let row = Row {
            key: &row.key,
            value: &row.value,
            create_revision: row.create_revision,
            mod_revision: row.mod_revision,
            version: row.version,
            lease: row.lease,
        };
        print_row(arguments, format, &row, out).map_err(CommandError::Output)?;
    }
    if format == Format::Json {
        let revisions = self::revisions(&rows.revisions());
        json::print(out, &json!({ "revisions": revisions }))?;
    }
    Ok(Exit::Done)
}

/// The revisions at which shards were read.
pub(super) fn revisions(revisions: &[ShardRevision]) -> Value {
    let read = |read: &ShardRevision| json!({ "shard": read.shard, "revision": read.revision.0 });
    revisions.iter().map(read).collect()
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
