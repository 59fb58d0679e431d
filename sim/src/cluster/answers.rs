//! What an answer means for what a client asked for.

use metastore_engine::{NodeId, ShardId, ShardMap};
use metastore_net::blocking::{OwnedOutcome, OwnedRow};
use metastore_net::{ErrorCode, Happened, RangeChunk, Response, WireError};
use metastore_statemachine::{Direction, Outcome, Row};

use super::clients::{Asked, Part};
use super::shape::shard_of;
use crate::checkers::linearizability::{Action, End};
use crate::operation::{Operation, RangeOf};
use crate::oracle::{FoundRow, Moment};

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It is done: what each shard saw of it.
    Ended(Vec<Part>),
    /// It certainly was not done: try again.
    NotDone,
    /// The node does not lead the shard; it may know which one does.
    Elsewhere(Option<NodeId>),
    /// It may have been done.
    Unknown,
    /// There is more to come.
    More,
}

/// What one command of a batch came to.
enum Item {
    Outcome(OwnedOutcome),
    Error(WireError),
}

/// What a response says.
///
/// # Errors
/// It names what no server may answer.
pub fn meaning_of(
    asked: &mut Asked,
    response: &Response<'_>,
    map: &ShardMap,
    at: Moment,
) -> Result<Meaning, &'static str> {
    Ok(match (response, &asked.operation) {
        (Response::Error(error), _) => return of_error(asked, error, at),
        (Response::Command(outcome), Operation::Mutate(_) | Operation::Compound(_)) => {
            let outcome = owned(outcome);
            let end = Some(End::Outcome { at, outcome });
            Meaning::Ended(asked.command_parts(map, std::iter::once(end)))
        }
        (Response::Batch(batch), Operation::Batch(mutations)) => {
            let items = batch.items().map(|item| match item {
                Ok(outcome) => Item::Outcome(owned(&outcome)),
                Err(error) => Item::Error(error),
            });
            let items: Vec<Item> = items.collect();
            if items.len() != mutations.len() {
                return Err("a batch is answered item by item");
            }
            of_batch(asked, items, map, at)
        }
        (Response::Get(get), Operation::Get { .. }) => Meaning::Ended(vec![of_rows(
            asked,
            (ShardId(get.position.shard), get.position.revision),
            vec![get.row.as_ref().map(FoundRow::of)],
            at,
        )]),
        (Response::GetMany(many), Operation::GetMany { keys, .. }) => {
            let rows = many
                .rows()
                .map(|row: Option<Row<'_>>| row.as_ref().map(FoundRow::of));
            let rows: Vec<_> = rows.collect();
            if rows.len() != keys.len() {
                return Err("each key is found or not");
            }
            let position = (ShardId(many.position.shard), many.position.revision);
            Meaning::Ended(vec![of_rows(asked, position, rows, at)])
        }
        (Response::Range(chunk), Operation::Range(range)) => {
            let range = range.clone();
            return of_chunk(asked, chunk, &range, map, at);
        }
        (Response::Count(counted), Operation::Count(range)) => {
            let [position] = counted.revisions.as_slice() else {
                return Err("a directory lies in one shard");
            };
            Meaning::Ended(vec![Part {
                shard: ShardId(position.shard),
                action: Action::Count(range.clone()),
                end: End::Counted {
                    at,
                    revision: position.revision,
                    count: counted.count,
                },
            }])
        }
        (
            Response::Hello(_)
            | Response::Pong
            | Response::Command(_)
            | Response::Batch(_)
            | Response::Get(_)
            | Response::GetMany(_)
            | Response::Range(_)
            | Response::Count(_)
            | Response::Cancelled
            | Response::Status(_)
            | Response::ShardMap(_)
            | Response::Admin(_),
            _,
        ) => return Err("nobody asked for it"),
    })
}

fn owned(outcome: &Outcome<'_>) -> OwnedOutcome {
    OwnedOutcome::from(*outcome)
}

fn of_rows(
    asked: &Asked,
    (shard, revision): (ShardId, metastore_statemachine::Revision),
    rows: Vec<Option<FoundRow>>,
    at: Moment,
) -> Part {
    Part {
        shard,
        action: read_of(&asked.operation),
        end: End::Rows { at, revision, rows },
    }
}

/// What a read asks of its shard.
fn read_of(operation: &Operation) -> Action {
    match operation {
        Operation::Get { key, at } => Action::Read {
            keys: vec![key.clone()],
            at: *at,
        },
        Operation::GetMany { keys, at } => Action::Read {
            keys: keys.clone(),
            at: *at,
        },
        Operation::Range(range) => Action::Range {
            range: range.clone(),
            until: None,
        },
        Operation::Count(range) => Action::Count(range.clone()),
        Operation::Mutate(_)
        | Operation::Compound(_)
        | Operation::Batch(_)
        | Operation::Audit
        | Operation::Status => unreachable!("it is no read"),
    }
}

/// A batch of which nothing was done is tried again; of another one each command has an end of its own.
fn of_batch(asked: &Asked, items: Vec<Item>, map: &ShardMap, at: Moment) -> Meaning {
    let not_done = |item: &Item| match item {
        Item::Outcome(_) => None,
        Item::Error(error) => (error.happened == Happened::NotDone).then(|| of_not_done(error)),
    };
    if items.iter().all(|item| not_done(item).is_some()) {
        return not_done(&items[0]).expect("none was done");
    }
    let ends = items.into_iter().map(|item| match item {
        Item::Outcome(outcome) => Some(End::Outcome { at, outcome }),
        Item::Error(error) if error.happened == Happened::NotDone => None,
        Item::Error(_) => Some(End::Unknown),
    });
    Meaning::Ended(asked.command_parts(map, ends))
}

/// Gathers the rows of a range; with its last chunk each shard's part of them is one look at it.
fn of_chunk(
    asked: &mut Asked,
    chunk: &RangeChunk<'_>,
    range: &RangeOf,
    map: &ShardMap,
    at: Moment,
) -> Result<Meaning, &'static str> {
    for row in chunk.rows() {
        let row = OwnedRow::from(row);
        let is_in_order = asked.rows.last().is_none_or(|last| match range.direction {
            Direction::Forward => last.key < row.key,
            Direction::Reverse => last.key > row.key,
        });
        if !is_in_order {
            return Err("the rows of a range are in order");
        }
        asked.rows.push(row);
    }
    if !chunk.is_last {
        return Ok(Meaning::More);
    }
    let rows = std::mem::take(&mut asked.rows);
    let is_full = range.limit > 0 && rows.len() as u64 >= range.limit;
    if is_full && rows.len() as u64 > range.limit {
        return Err("a range has no more rows than its limit");
    }
    let until = rows.last().filter(|_| is_full).map(|row| row.key.clone());
    let mut parts: Vec<Part> = Vec::new();
    for position in chunk.revisions() {
        parts.push(Part {
            shard: ShardId(position.shard),
            action: Action::Range {
                range: range.clone(),
                until: until.clone(),
            },
            end: End::Listed {
                at,
                revision: position.revision,
                rows: Vec::new(),
            },
        });
    }
    for row in rows {
        let shard = shard_of(map, &row.key);
        let part = parts.iter_mut().find(|part| part.shard == shard);
        let Some(End::Listed { rows, .. }) = part.map(|part| &mut part.end) else {
            return Err("each row is of a shard whose revision is told");
        };
        rows.push(row);
    }
    Ok(Meaning::Ended(parts))
}

fn of_error(asked: &mut Asked, error: &WireError, at: Moment) -> Result<Meaning, &'static str> {
    let end = match (error.happened, error.code) {
        (Happened::Unknown, _) => return Ok(Meaning::Unknown),
        (Happened::NotDone, ErrorCode::Compacted) => End::Compacted {
            at,
            oldest: error.revision,
        },
        (Happened::NotDone, ErrorCode::FutureRevision) => End::Future {
            at,
            current: error.revision,
        },
        (Happened::NotDone, ErrorCode::CrossShard | ErrorCode::NamespaceUnknown) => {
            return Err("what clients ask for lies in one shard, or may lie in several");
        }
        (Happened::NotDone, _) => return Ok(of_not_done(error)),
    };
    match (asked.shard, asked.is_mutation()) {
        (Some(shard), false) => Ok(Meaning::Ended(vec![Part {
            shard,
            action: read_of(&asked.operation),
            end,
        }])),
        (Some(_) | None, _) => Err("only a read in the past of one shard can fail like this"),
    }
}

fn of_not_done(error: &WireError) -> Meaning {
    match error.code == ErrorCode::NotLeader {
        true => Meaning::Elsewhere(error.hint.parse().ok().map(NodeId)),
        false => Meaning::NotDone,
    }
}
