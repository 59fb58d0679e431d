//! The protocol of etcd: gRPC over HTTP/2, many calls side by side on one connection.
//!
//! The `h2` crate speaks HTTP/2. It is made for a runtime; here it is polled by hand, between two buffers in memory, by
//! whoever has the socket. Messages are written and read by [`message`], since the published clients of etcd need a
//! compiler for protobuf when they are built.

mod call;
mod message;
mod pipe;
mod wakers;

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};

use super::{CallId, FoundRow, Reply, Request, RowsPart};
use crate::operation::Failure;
use call::{Answering, Called, Outgoing, only_message};
use pipe::{FarEnd, Pipe};
use wakers::{CallNote, Note, Woken};

pub(crate) use message::MessageError;

/// What the server may send ahead on one stream and on all of them.
const WINDOW_BYTES: u32 = 16 << 20;

/// No call is opened before the server has said how many may be.
const STREAMS_BEFORE_GREETING: usize = 0;

/// The bytes that came are not those of an etcd.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EtcdError {
    #[error("etcd and this client do not understand each other: {0}")]
    Http2(#[from] h2::Error),
    #[error("etcd has ended the connection")]
    Ended,
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pipe: Pipe,
    outbound: Vec<u8>,
    http: h2::client::Connection<FarEnd, Bytes>,
    /// Set when `http` is to be polled.
    http_note: Arc<Note>,
    http_waker: Waker,
    requests: SendRequest<Bytes>,
    /// By the numbers of their ids.
    calls: Vec<Call>,
    /// Calls that are answered and may be used again.
    free: Vec<usize>,
    /// Calls that the server does not admit yet, the first to be sent first.
    waiting: VecDeque<(usize, Bytes)>,
    woken: Arc<Woken>,
    /// Calls to be polled, for reuse.
    polled: Vec<usize>,
    /// Why nothing more can be said or heard.
    ended: Option<EtcdError>,
}

/// A place for one call after the other.
#[derive(Debug)]
struct Call {
    called: Called,
    /// `None` while it waits, and when it is answered.
    answering: Option<Answering>,
    note: CallNote,
}

impl Connection {
    pub(super) fn new() -> Connection {
        let pipe = Pipe::default();
        let http_note = Arc::new(Note::default());
        let http_waker = Waker::from(Arc::clone(&http_note));
        let mut builder = Builder::new();
        builder
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .initial_max_send_streams(STREAMS_BEFORE_GREETING)
            .enable_push(false);
        let handshake = pin!(builder.handshake(pipe.far_end()));
        let Poll::Ready(Ok((requests, http))) =
            handshake.poll(&mut Context::from_waker(&http_waker))
        else {
            unreachable!("a greeting is written into memory and awaits nothing");
        };
        let mut connection = Connection {
            pipe,
            outbound: Vec::new(),
            http,
            http_note,
            http_waker,
            requests,
            calls: Vec::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            woken: Arc::new(Woken::default()),
            polled: Vec::new(),
            ended: None,
        };
        connection.poll_http();
        connection
    }

    pub(super) fn is_ready(&self) -> bool {
        self.http.max_concurrent_send_streams() > STREAMS_BEFORE_GREETING
    }

    pub(super) fn submit(&mut self, request: &Request<'_>) -> CallId {
        let Outgoing { called, body } = Outgoing::new(request);
        let number = self.free.pop().unwrap_or_else(|| {
            let number = self.calls.len();
            self.calls.push(Call {
                called,
                answering: None,
                note: self.woken.note(number),
            });
            number
        });
        self.calls[number].called = called;
        self.waiting.push_back((number, body));
        self.open_waiting();
        CallId(number as u64)
    }

    pub(super) fn outbound(&mut self) -> &mut Vec<u8> {
        if self.http_note.take() {
            self.poll_http();
        }
        self.pipe.take_written(&mut self.outbound);
        &mut self.outbound
    }

    pub(super) fn on_bytes(
        &mut self,
        bytes: &[u8],
        mut on_reply: impl FnMut(CallId, &Reply<'_>),
    ) -> Result<(), EtcdError> {
        self.pipe.push(bytes);
        let mut is_due = true;
        while is_due {
            self.poll_http();
            self.open_waiting();
            self.poll_calls(&mut on_reply)?;
            is_due = self.http_note.take();
        }
        self.ended.take().map_or(Ok(()), Err)
    }

    /// Lets HTTP/2 read and write what it can.
    fn poll_http(&mut self) {
        if self.ended.is_some() {
            return;
        }
        let mut context = Context::from_waker(&self.http_waker);
        self.ended = match Pin::new(&mut self.http).poll(&mut context) {
            Poll::Pending => None,
            Poll::Ready(Ok(())) => Some(EtcdError::Ended),
            Poll::Ready(Err(error)) => Some(error.into()),
        };
    }

    /// Sends the calls that the server admits.
    fn open_waiting(&mut self) {
        while self.ended.is_none() && !self.waiting.is_empty() {
            let mut context = Context::from_waker(&self.http_waker);
            match self.requests.poll_ready(&mut context) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.ended = Some(error.into());
                    return;
                }
            }
            let (number, body) = self.waiting.pop_front().expect("one is there");
            let call = &mut self.calls[number];
            let request = call.called.http_request();
            let sent = self.requests.send_request(request, false);
            let sent = sent.and_then(|(response, mut stream)| {
                stream.send_data(body, true)?;
                Ok(response)
            });
            match sent {
                Ok(response) => {
                    call.answering = Some(Answering::Awaited(response));
                    // The first poll leaves the waker with the stream.
                    call.note.waker.wake_by_ref();
                }
                Err(error) => self.ended = Some(error.into()),
            }
        }
    }

    /// Hands out the replies of the calls that have got further.
    fn poll_calls(
        &mut self,
        on_reply: &mut impl FnMut(CallId, &Reply<'_>),
    ) -> Result<(), EtcdError> {
        let mut polled = std::mem::take(&mut self.polled);
        self.woken.take(&mut polled);
        for number in polled.drain(..) {
            let call = &mut self.calls[number];
            call.note.rearm();
            let Some(answering) = &mut call.answering else {
                // It was answered, and its stream has told it once more.
                continue;
            };
            let mut context = Context::from_waker(&call.note.waker);
            let Poll::Ready(answer) = answering.poll_message(&mut context) else {
                continue;
            };
            call.answering = None;
            let called = call.called;
            self.free.push(number);
            let id = CallId(number as u64);
            match answer {
                Ok(body) => on_reply(id, &reply_of(called, &body)?),
                Err(failure) => on_reply(id, &Reply::Failed(failure)),
            }
        }
        self.polled = polled;
        Ok(())
    }
}

fn reply_of(called: Called, body: &[u8]) -> Result<Reply<'_>, MessageError> {
    let Some(message) = only_message(body) else {
        return Ok(Reply::Failed(Failure::Mismatch));
    };
    Ok(match called {
        Called::Put | Called::LeaseGrant => {
            message::check_message(message)?;
            Reply::Done
        }
        Called::Get => Reply::Row(message::read_range(message)?.first.map(|row| FoundRow {
            value: row.value,
            revision: row.mod_revision,
        })),
        Called::List => {
            let range = message::read_range(message)?;
            Reply::Rows(RowsPart {
                count: range.rows,
                first_key: range.first.map(|row| row.key),
                is_last: true,
            })
        }
        Called::Swap => {
            if message::read_txn(message)?.succeeded {
                Reply::Done
            } else {
                Reply::Conflict
            }
        }
        Called::Batch => {
            let txn = message::read_txn(message)?;
            if !txn.succeeded {
                return Ok(Reply::Failed(Failure::Mismatch));
            }
            Reply::Batch {
                done: txn.operations,
            }
        }
    })
}

#[cfg(test)]
mod tests;
