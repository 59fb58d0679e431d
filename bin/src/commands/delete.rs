//! `metastore delete`: remove a key, or every key with a prefix.

use std::io::Write;

use metastore_net::ShardRevision;
use metastore_net::blocking::OwnedDetail;
use metastore_statemachine::{KeyRange, NamespaceId, OutcomeCode};
use serde_json::json;

use super::text::Escaped;
use super::{CommandError, Exit, client, json, spread, tell};
use crate::arguments::{DeleteArguments, Format};

/// Prints the revision of the removal, or how many keys were removed.
pub(super) fn run(arguments: &DeleteArguments, out: &mut dyn Write) -> Result<Exit, CommandError> {
    match (&arguments.key, &arguments.prefix) {
        (Some(key), _) => delete_key(arguments, key.as_bytes(), out),
        (None, Some(prefix)) => delete_range(arguments, prefix.as_bytes(), out),
        (None, None) => unreachable!("the command line has one of them"),
    }
}

fn delete_key(
    arguments: &DeleteArguments,
    key: &[u8],
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let outcome = client::ask(&arguments.client, |client| {
        client.delete(NamespaceId::DEFAULT, key)
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
    tell(&format_args!("no such key: {}", Escaped(key)));
    Ok(Exit::Negative)
}

fn delete_range(
    arguments: &DeleteArguments,
    prefix: &[u8],
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let range = if arguments.children {
        KeyRange::children(prefix, b'/')
    } else {
        KeyRange::subtree(prefix)
    };
    // Where several nodes lead the shards none of them can delete all of it.
    let apart = spread::shards_apart(&arguments.client, range.prefix, range.scope)?;
    let parts = apart.map_or_else(
        || vec![Vec::new()],
        |shards| shards.into_iter().map(|shard| vec![shard]).collect(),
    );
    let mut deleted = 0;
    let mut places: Vec<ShardRevision> = Vec::new();
    for shards in parts {
        let outcome = client::ask(&arguments.client, |client| {
            client.delete_range_in(NamespaceId::DEFAULT, range, &shards)
        })?;
        deleted += outcome.number.unwrap_or(0);
        if let Some(OwnedDetail::ShardRevisions(revisions)) = outcome.detail {
            places.extend(revisions);
        }
    }
    if arguments.client.format() == Format::Json {
        let revisions: Vec<_> = places
            .iter()
            .map(|place| json!({ "shard": place.shard, "revision": place.revision.0 }))
            .collect();
        json::print(out, &json!({ "deleted": deleted, "revisions": revisions }))?;
    } else {
        writeln!(out, "{deleted}").map_err(CommandError::Output)?;
    }
    Ok(Exit::Done)
}
