//! The protocol of the store of this repository.

use metastore_net::{
    BatchReply, ClientConnection, ClientOptions, Consistency, GetRequest, HelloRequest,
    RangeRequest, Response,
};
use metastore_statemachine::{
    Command, Direction, GetQuery, NamespaceId, OutcomeCode, Projection, RangeQuery, Scope,
    ShardList,
};

use super::{CallId, FoundRow, Page, Reply, Request, RowsPart, TalkError};
use crate::operation::Failure;

/// One end of a connection, which says hello by itself.
#[derive(Debug)]
pub(crate) struct Connection {
    connection: ClientConnection,
    is_ready: bool,
}

impl Connection {
    pub(super) fn new() -> Connection {
        let mut connection = ClientConnection::new(&ClientOptions::default());
        connection.hello(&HelloRequest::new("metastore-perf", None));
        Connection {
            connection,
            is_ready: false,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    pub(super) fn submit(&mut self, request: &Request<'_>) -> CallId {
        let connection = &mut self.connection;
        let id = match *request {
            Request::Ping => connection.ping(),
            Request::Put { key, value } => connection.put(NamespaceId::DEFAULT, key, value),
            Request::Get { key } => connection.get(&GetRequest {
                query: GetQuery {
                    namespace: NamespaceId::DEFAULT,
                    key,
                    at: None,
                },
                consistency: Consistency::Linearizable,
            }),
            Request::CompareAndSwap {
                key,
                value,
                revision,
            } => {
                let command = Command::put(NamespaceId::DEFAULT, key, value);
                connection.command(&command.with_expected_revision(revision))
            }
            Request::List(page) => connection.range(&range_of(&page)),
            Request::Batch(puts) => {
                let commands: Vec<Command<'_>> = puts
                    .iter()
                    .map(|(key, value)| Command::put(NamespaceId::DEFAULT, key, value))
                    .collect();
                connection.batch(&commands)
            }
            Request::WriteNoKey => panic!("the store is not asked for {request:?}"),
        };
        CallId(id.0)
    }

    pub(super) fn outbound(&mut self) -> &mut Vec<u8> {
        self.connection.outbound()
    }

    pub(super) fn on_bytes(
        &mut self,
        bytes: &[u8],
        mut on_reply: impl FnMut(CallId, &Reply<'_>),
    ) -> Result<(), TalkError> {
        let is_ready = &mut self.is_ready;
        let mut refusal = None;
        self.connection.on_bytes(bytes, |id, response| {
            if *is_ready {
                on_reply(CallId(id.0), &reply_of(&response));
            } else if let Response::Error(error) = response {
                refusal = Some(Failure::Refused(error));
            } else if matches!(response, Response::Hello(_)) {
                *is_ready = true;
            } else {
                refusal = Some(Failure::Mismatch);
            }
        })?;
        refusal.map_or(Ok(()), |failure| Err(TalkError::Greeting(failure)))
    }
}

fn range_of<'a>(page: &Page<'a>) -> RangeRequest<'a> {
    RangeRequest {
        query: RangeQuery {
            prefix: page.directory,
            start: page.from,
            scope: Scope::Children { separator: b'/' },
            direction: Direction::Forward,
            projection: Projection::KeysAndValues,
            limit: page.rows_max,
            ..RangeRequest::subtree(NamespaceId::DEFAULT, &[]).query
        },
        chunk_bytes: 0,
        shards: ShardList::ALL,
    }
}

fn reply_of<'a>(response: &Response<'a>) -> Reply<'a> {
    match response {
        Response::Pong => Reply::Pong,
        Response::Command(outcome) => reply_of_outcome(outcome.code),
        Response::Get(reply) => Reply::Row(reply.row.map(|row| FoundRow {
            value: row.value,
            revision: row.mod_revision,
        })),
        Response::Range(chunk) => Reply::Rows(RowsPart {
            count: u64::from(chunk.count),
            first_key: chunk.rows().next().map(|row| row.key),
            is_last: chunk.is_last,
        }),
        Response::Batch(reply) => reply_of_batch(reply),
        Response::Error(error) => Reply::Failed(Failure::Refused(error.clone())),
        Response::Hello(_)
        | Response::GetMany(_)
        | Response::Count(_)
        | Response::Cancelled
        | Response::Status(_)
        | Response::ShardMap(_)
        | Response::Admin(_) => Reply::Failed(Failure::Mismatch),
    }
}

fn reply_of_outcome<'a>(code: OutcomeCode) -> Reply<'a> {
    if code == OutcomeCode::Done {
        Reply::Done
    } else if code == OutcomeCode::Conflict {
        Reply::Conflict
    } else {
        Reply::Failed(Failure::Outcome(code))
    }
}

/// The first command that did not take effect speaks for the batch.
fn reply_of_batch<'a>(batch: &BatchReply<'a>) -> Reply<'a> {
    for item in batch.items() {
        match item {
            Ok(outcome) if outcome.code == OutcomeCode::Done => {}
            Ok(outcome) => return Reply::Failed(Failure::Outcome(outcome.code)),
            Err(error) => return Reply::Failed(Failure::Refused(error)),
        }
    }
    Reply::Batch {
        done: u64::from(batch.count),
    }
}
