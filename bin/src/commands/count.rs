//! `metastore count`: how many keys begin with a prefix.

use std::io::Write;

use metastore_net::blocking::ClientError;
use metastore_net::{CountReply, CountRequest, RangeRequest};
use metastore_statemachine::{NamespaceId, Projection, RangeQuery, Revision, Scope, ShardList};
use serde_json::json;

use super::spread::Rows;
use super::{CommandError, Exit, client, json, list, spread};
use crate::arguments::{CountArguments, Format, bytes_of};

/// Prints the number; in JSON with the revisions at which it was counted.
pub(super) fn run(arguments: &CountArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    let reply = count(arguments)?;
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

fn count(arguments: &CountArguments) -> Result<CountReply, ClientError> {
    let request = request_of(arguments);
    let query = &request.query;
    let apart = match query.at {
        Some(_) => None,
        None => spread::shards_apart(&arguments.client, query.prefix, query.scope)?,
    };
    let Some(shards) = apart else {
        return client::ask(&arguments.client, |client| client.count(&request));
    };
    let mut reply = CountReply {
        count: 0,
        revisions: Vec::new(),
    };
    if query.delimiter.is_some() {
        // Several shards may have the same common prefix.
        let range = RangeRequest {
            query: RangeQuery {
                projection: Projection::KeysOnly,
                ..*query
            },
            chunk_bytes: 0,
            shards: ShardList::ALL,
        };
        let mut rows = Rows::open(&arguments.client, &range)?;
        while rows.next()?.is_some() {
            reply.count += 1;
        }
        reply.revisions = rows.revisions();
        return Ok(reply);
    }
    for shard in shards {
        let named = shard.to_le_bytes();
        let of_shard = CountRequest {
            shards: ShardList::new(&named).expect("one id"),
            ..request
        };
        let part = client::ask(&arguments.client, |client| client.count(&of_shard))?;
        reply.count += part.count;
        reply.revisions.extend(part.revisions);
    }
    Ok(reply)
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
        shards: ShardList::ALL,
    }
}
