//! `metastore count`: how many keys begin with a prefix.

use std::io::Write;

use metastore_net::{CountRequest, RangeRequest};
use metastore_statemachine::{NamespaceId, RangeQuery, Revision, Scope};
use serde_json::json;

use super::{CommandError, Exit, client, json, list};
use crate::arguments::{CountArguments, Format, bytes_of};

/// Prints the number; in JSON with the revisions at which it was counted.
pub(super) fn run(arguments: &CountArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let reply = client::ask(&arguments.client, |client| {
        client.count(&request_of(arguments))
    })?;
    if arguments.client.format() == Format::Json {
        let revisions = list::revisions(&reply.revisions);
        json::print(
            out,
            &json!({ "count": reply.count, "revisions": revisions }),
        )?;
    } else {
        writeln!(out, "{}", reply.count).map_err(CommandError::Output)?;
    }
    Ok(Exit::Done)
}

fn request_of(arguments: &CountArguments) -> CountRequest<'_> {
    let subtree = RangeRequest::subtree(NamespaceId::DEFAULT, bytes_of(&arguments.prefix));
    let scope = match arguments.children {
        true => Scope::Children { separator: b'/' },
        false => Scope::Subtree,
    };
    CountRequest {
        query: RangeQuery {
            scope,
            delimiter: arguments.delimiter,
            at: arguments.at.map(Revision),
            ..subtree.query
        },
    }
}
