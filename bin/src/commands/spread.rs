//! Ranges over shards of several nodes, of which none may have all: each node is asked for its share, and what they
//! answer is merged.

use std::collections::VecDeque;
use std::thread;
use std::time::Instant;

use metastore_net::blocking::{Client, ClientError, OwnedRow};
use metastore_net::{
    NodeShare, RangeRequest, Response, ShardMapReply, ShardRevision, WireError, share_out,
};
use metastore_statemachine::{Direction, NamespaceId, Namespaces, Scope, ShardList};

use super::client;
use crate::arguments::ClientArguments;

/// The shards that have slots, where a range touches all of them and several nodes may lead them; `None` where one node
/// takes what is for the whole range.
pub(super) fn shards_apart(
    arguments: &ClientArguments,
    prefix: &[u8],
    scope: Scope,
) -> Result<Option<Vec<u32>>, ClientError> {
    if is_of_one_shard(prefix, scope) {
        return Ok(None);
    }
    let map = client::connect(arguments)?.shard_map()?;
    let shards = map.shards.iter().filter(|place| !place.slots.is_empty());
    let shards = shards.map(|place| place.shard).collect();
    Ok(has_several_nodes(&map).then_some(shards))
}

fn is_of_one_shard(prefix: &[u8], scope: Scope) -> bool {
    let namespaces = Namespaces::default();
    let rule = namespaces.rule(NamespaceId::DEFAULT);
    rule.is_some_and(|rule| rule.shared_routing_part(prefix, scope).is_some())
}

fn has_several_nodes(map: &ShardMapReply) -> bool {
    let mut nodes = map.shards.iter().flat_map(|place| {
        let followers = place.follower_nodes.iter().copied();
        std::iter::once(place.node_id).chain(followers)
    });
    let first = nodes.next();
    nodes.any(|node| Some(node) != first)
}

/// The rows of a range, in order.
pub(super) struct Rows {
    lanes: Vec<Lane>,
    direction: Direction,
    /// Of a limited range: how many rows are still wanted.
    left: Option<u64>,
}

/// What one node sends.
struct Lane {
    client: Client,
    rows: VecDeque<OwnedRow>,
    revisions: Vec<ShardRevision>,
    refused: Option<WireError>,
}

impl Rows {
    /// Asks, and waits for the first rows of each node; again while there is time, if that may help.
    pub(super) fn open(
        arguments: &ClientArguments,
        request: &RangeRequest<'_>,
    ) -> Result<Rows, ClientError> {
        let began = Instant::now();
        let mut silent: Vec<String> = Vec::new();
        loop {
            let error = match Rows::try_open(arguments, request, &mut silent) {
                Ok(rows) => return Ok(rows),
                Err(error) => error,
            };
            let may_help = client::find_again(&error).is_some() || !silent.is_empty();
            if !may_help || began.elapsed() + client::PAUSE >= arguments.timeout {
                return Err(error);
            }
            thread::sleep(client::PAUSE);
        }
    }

    fn try_open(
        arguments: &ClientArguments,
        request: &RangeRequest<'_>,
        silent: &mut Vec<String>,
    ) -> Result<Rows, ClientError> {
        let mut first = client::connect(arguments)?;
        let query = &request.query;
        let mut lanes = Vec::new();
        let shares = match is_of_one_shard(query.prefix, query.scope) || query.at.is_some() {
            true => Vec::new(),
            false => shares(&first.shard_map()?, silent),
        };
        if shares.is_empty() {
            lanes.push(Lane::open(first, request)?);
        }
        for NodeShare { address, shards } in shares {
            let named: Vec<u8> = shards.iter().flat_map(|id| id.to_le_bytes()).collect();
            let request = RangeRequest {
                shards: ShardList::new(&named).expect("a share ascends"),
                ..*request
            };
            let client = client::connect_to(&address, arguments.timeout);
            let lane = client.and_then(|client| Lane::open(client, &request));
            lanes.push(lane.inspect_err(|error| {
                if !matches!(error, ClientError::Server(_)) {
                    silent.push(address);
                }
            })?);
        }
        Ok(Rows {
            lanes,
            direction: query.direction,
            left: (query.limit > 0).then_some(query.limit),
        })
    }

    /// The next row; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<OwnedRow>, ClientError> {
        if self.left == Some(0) {
            return Ok(None);
        }
        for lane in &mut self.lanes {
            lane.advance()?;
        }
        let shown = self.lanes.iter().enumerate();
        let shown = shown.filter_map(|(at, lane)| Some((lane.rows.front()?.key.as_slice(), at)));
        let chosen = match self.direction {
            Direction::Forward => shown.min(),
            Direction::Reverse => shown.max(),
        };
        let Some((_, chosen)) = chosen else {
            return Ok(None);
        };
        let row = self.lanes[chosen].rows.pop_front();
        let row = row.expect("it was seen a moment ago");
        if row.is_common_prefix() {
            // Others have it too, and all of them show it.
            for lane in &mut self.lanes {
                lane.rows
                    .pop_front_if(|other| other.is_common_prefix() && other.key == row.key);
            }
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Ok(Some(row))
    }

    /// At which revisions the shards were read, once the last row has come.
    pub(super) fn revisions(self) -> Vec<ShardRevision> {
        let lanes = self.lanes.into_iter();
        let mut revisions: Vec<_> = lanes.flat_map(|lane| lane.revisions).collect();
        revisions.sort_unstable_by_key(|place| place.shard);
        revisions
    }
}

/// Who is asked for what; nobody by name where there is but one node, or where nobody knows who has some shard: whoever
/// is asked for everything then says so.
fn shares(map: &ShardMapReply, silent: &[String]) -> Vec<NodeShare> {
    let is_silent = |address: &str| silent.iter().any(|one| one == address);
    let shares = has_several_nodes(map).then(|| share_out(map, 0, is_silent));
    shares.flatten().unwrap_or_default()
}

impl Lane {
    fn open(mut client: Client, request: &RangeRequest<'_>) -> Result<Lane, ClientError> {
        client.submit(|connection| connection.range(request));
        let mut lane = Lane {
            client,
            rows: VecDeque::new(),
            revisions: Vec::new(),
            refused: None,
        };
        lane.advance()?;
        Ok(lane)
    }

    /// Waits until there is a row or the end.
    fn advance(&mut self) -> Result<(), ClientError> {
        while self.rows.is_empty() && self.client.pending_count() > 0 {
            let (rows, revisions) = (&mut self.rows, &mut self.revisions);
            let refused = &mut self.refused;
            self.client.next_responses(|_, response| {
                if let Response::Range(chunk) = response {
                    rows.extend(chunk.rows().map(OwnedRow::from));
                    revisions.extend(chunk.revisions());
                } else if let Response::Error(error) = response {
                    *refused = Some(error);
                }
            })?;
        }
        match self.refused.take() {
            Some(error) if self.rows.is_empty() => Err(ClientError::Server(error)),
            later => {
                self.refused = later;
                Ok(())
            }
        }
    }
}
