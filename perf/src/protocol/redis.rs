//! The protocol of redis, RESP version 2: requests are arrays of strings, answers come in the order of the requests.
//!
//! A batch is one `MSET`, which redis carries out as one command.

mod resp;

use std::collections::VecDeque;
use std::io::Write;

use metastore_statemachine::Revision;

use super::{CallId, FoundRow, Puts, Reply, Request};
use crate::operation::Failure;
use resp::{Value, cut_value};

pub(crate) use resp::RespError;

/// One end of a connection. Nothing needs to be said first.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    outbound: Vec<u8>,
    /// The beginning of an answer whose end has not arrived.
    inbound: Vec<u8>,
    /// What is not answered, the next to be answered first.
    awaited: VecDeque<Awaited>,
    next_id: u64,
}

#[derive(Debug, Clone, Copy)]
struct Awaited {
    id: CallId,
    kind: AwaitedKind,
}

#[derive(Debug, Clone, Copy)]
enum AwaitedKind {
    Ping,
    Put,
    Get,
    Batch { commands: u64 },
}

impl Connection {
    pub(super) fn new() -> Connection {
        Connection::default()
    }

    pub(super) fn submit(&mut self, request: &Request<'_>) -> CallId {
        let out = &mut self.outbound;
        let kind = match *request {
            Request::Ping => {
                append_command(out, &[b"PING"]);
                AwaitedKind::Ping
            }
            Request::Put { key, value } => {
                append_command(out, &[b"SET", key, value]);
                AwaitedKind::Put
            }
            Request::Get { key } => {
                append_command(out, &[b"GET", key]);
                AwaitedKind::Get
            }
            Request::Batch(puts) => {
                append_batch(out, &puts);
                let commands = puts.count() as u64;
                AwaitedKind::Batch { commands }
            }
            Request::CompareAndSwap { .. } | Request::List(_) | Request::WriteNoKey => {
                panic!("redis is not asked for what it lacks: {request:?}")
            }
        };
        let id = CallId(self.next_id);
        self.next_id += 1;
        self.awaited.push_back(Awaited { id, kind });
        id
    }

    pub(super) fn outbound(&mut self) -> &mut Vec<u8> {
        &mut self.outbound
    }

    pub(super) fn on_bytes(
        &mut self,
        bytes: &[u8],
        mut on_reply: impl FnMut(CallId, &Reply<'_>),
    ) -> Result<(), RespError> {
        if self.inbound.is_empty() {
            let consumed_bytes = deliver(&mut self.awaited, bytes, &mut on_reply)?;
            self.inbound.extend_from_slice(&bytes[consumed_bytes..]);
            return Ok(());
        }
        self.inbound.extend_from_slice(bytes);
        let consumed_bytes = deliver(&mut self.awaited, &self.inbound, &mut on_reply)?;
        self.inbound.drain(..consumed_bytes);
        Ok(())
    }
}

/// Matches answers to requests as far as they are complete. Gives the bytes of these.
fn deliver(
    awaited: &mut VecDeque<Awaited>,
    bytes: &[u8],
    on_reply: &mut impl FnMut(CallId, &Reply<'_>),
) -> Result<usize, RespError> {
    let mut consumed_bytes = 0;
    while let Some((value, value_bytes)) = cut_value(&bytes[consumed_bytes..])? {
        consumed_bytes += value_bytes;
        let Awaited { id, kind } = awaited.pop_front().ok_or(RespError::NotAsked)?;
        on_reply(id, &reply_of(kind, &value));
    }
    Ok(consumed_bytes)
}

fn reply_of<'a>(kind: AwaitedKind, value: &Value<'a>) -> Reply<'a> {
    match (kind, value) {
        (_, Value::Error(text)) => Reply::Failed(Failure::Redis {
            message: String::from_utf8_lossy(text).into_owned(),
        }),
        (AwaitedKind::Ping, Value::Simple(b"PONG")) => Reply::Pong,
        (AwaitedKind::Put, Value::Simple(b"OK")) => Reply::Done,
        (AwaitedKind::Batch { commands }, Value::Simple(b"OK")) => Reply::Batch { done: commands },
        (AwaitedKind::Get, Value::Bulk(value)) => Reply::Row(Some(FoundRow {
            value,
            revision: Revision(0),
        })),
        (AwaitedKind::Get, Value::Null) => Reply::Row(None),
        (_, Value::Simple(_) | Value::Integer(_) | Value::Bulk(_) | Value::Null) => {
            Reply::Failed(Failure::Mismatch)
        }
    }
}

fn append_batch(out: &mut Vec<u8>, puts: &Puts<'_>) {
    append_length(out, b'*', 1 + 2 * puts.count());
    append_bulk(out, b"MSET");
    for (key, value) in puts.iter() {
        append_bulk(out, key);
        append_bulk(out, value);
    }
}

fn append_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    append_length(out, b'*', words.len());
    for word in words {
        append_bulk(out, word);
    }
}

fn append_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    append_length(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn append_length(out: &mut Vec<u8>, mark: u8, length: usize) {
    out.push(mark);
    write!(out, "{length}\r\n").expect("memory takes whatever is written");
}

#[cfg(test)]
mod tests;
