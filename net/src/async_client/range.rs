//! Ranges: rows in order, as fast as they are read.

use crate::async_client::Client;
use crate::async_client::call::{Call, Effect, answer_of};
use crate::async_client::error::{Error, Failure, Fault};
use crate::async_client::link::deadline_ms;
use crate::async_client::placement::Route;
use crate::async_client::shared::{Journey, Shared, failed};
use crate::async_client::wire::Wire;
use crate::count::{CountReply, CountRequest};
use crate::frame::{FRAME_HEADER_BYTES, FrameKind};
use crate::owned::OwnedRow;
use crate::range::{RangeRequest, ShardRevision};
use crate::response::Response;
use metastore_statemachine::{Direction, Projection, RangeQuery, Revision, Scope};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

/// A range to be read. Made by [`Client::range`].
#[derive(Debug, Clone)]
#[must_use = "a range is read by `stream` or `collect`, or counted by `count`"]
pub struct Range<'a> {
    client: &'a Client,
    request: RangeRequest<'a>,
    deadline: Duration,
}

/// Rows and where they were read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeAnswer {
    /// The rows in the order asked for.
    pub rows: Vec<OwnedRow>,
    /// At which revision each shard was read. Over several shards it is not one snapshot.
    pub revisions: Vec<ShardRevision>,
}

impl<'a> Range<'a> {
    pub(super) fn new(client: &'a Client, prefix: &'a [u8]) -> Range<'a> {
        Range {
            request: RangeRequest::subtree(client.namespace, prefix),
            deadline: client.shared.settings().deadline,
            client,
        }
    }

    fn query(mut self, change: impl FnOnce(&mut RangeQuery<'a>)) -> Range<'a> {
        change(&mut self.request.query);
        self
    }

    /// Only the entries of the directory: keys without a `/` behind the prefix.
    pub fn children(self) -> Range<'a> {
        self.children_by(b'/')
    }

    /// Only keys without this separator behind the prefix.
    pub fn children_by(self, separator: u8) -> Range<'a> {
        self.query(|query| query.scope = Scope::Children { separator })
    }

    /// Rolls keys up: those that have this byte behind the prefix become one row for each common prefix, up to and
    /// including the byte, with an empty value and version 0. `/` shows directories beside entries.
    pub fn delimiter(self, delimiter: u8) -> Range<'a> {
        self.query(|query| query.delimiter = Some(delimiter))
    }

    /// Begins at this key, itself included.
    pub fn start(self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Range<'a> {
        self.query(|query| query.start = key.as_ref())
    }

    /// Ends before this key.
    pub fn end(self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Range<'a> {
        self.query(|query| query.end = key.as_ref())
    }

    /// Descending keys.
    pub fn reverse(self) -> Range<'a> {
        self.query(|query| query.direction = Direction::Reverse)
    }

    /// Rows without values.
    pub fn keys_only(self) -> Range<'a> {
        self.query(|query| query.projection = Projection::KeysOnly)
    }

    /// Reads at a revision, which only makes sense within one shard.
    pub fn at(self, revision: Revision) -> Range<'a> {
        self.query(|query| query.at = Some(revision))
    }

    /// At most this many rows; 0 for all.
    pub fn limit(self, rows: u64) -> Range<'a> {
        self.query(|query| query.limit = rows)
    }

    /// About how many bytes of rows come at a time; the server decides by itself for 0.
    pub fn chunk_bytes(mut self, bytes: u32) -> Range<'a> {
        self.request.chunk_bytes = bytes;
        self
    }

    /// How long [`collect`](Self::collect) may take, and how long a stream waits for what comes next.
    pub fn deadline(mut self, deadline: Duration) -> Range<'a> {
        self.deadline = deadline;
        self
    }

    /// Begins to read, and waits for the first rows.
    ///
    /// # Errors
    /// Nothing has happened whatever the error.
    pub async fn stream(self) -> Result<RangeStream, Error> {
        let deadline = Instant::now() + self.deadline;
        self.open(deadline).await
    }

    /// Reads all rows. Broken off, it begins again while the deadline allows.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when they are more than
    /// [`collect_bytes_max`](crate::async_client::ClientSettings::collect_bytes_max); nothing has happened whatever the
    /// error.
    pub async fn collect(self) -> Result<RangeAnswer, Error> {
        let deadline = Instant::now() + self.deadline;
        let shared = &self.client.shared;
        let mut journey = Journey::new(shared.settings());
        loop {
            let mut stream = self.open(deadline).await?;
            let failure = match stream.gather(deadline).await? {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            journey = shared
                .after_failure(journey, Effect::Read, failure, deadline)
                .await?;
        }
    }

    /// Counts the rows, on the server. A limit and an order mean nothing to it.
    ///
    /// # Errors
    /// Nothing has happened whatever the error.
    pub async fn count(self) -> Result<CountReply, Error> {
        let query = RangeQuery {
            limit: 0,
            ..self.request.query
        };
        let mut body = Vec::new();
        CountRequest { query }.encode_into(&mut body);
        let call = Call {
            kind: FrameKind::Count,
            body,
            effect: Effect::Read,
            route: self.route(),
        };
        let answered = self.client.run(call, self.deadline).await?;
        Ok(answer_of!(answered.answer, Count))
    }

    fn route(&self) -> Route {
        let query = &self.request.query;
        let namespaces = &self.client.shared.settings().namespaces;
        Route::of_range(namespaces, query.namespace, query.prefix, query.scope)
    }

    async fn open(&self, deadline: Instant) -> Result<RangeStream, Error> {
        let shared = &self.client.shared;
        let route = self.route();
        let mut body = Vec::new();
        self.request.encode_into(&mut body);
        let Some(permit) = shared.streams.permit(deadline).await else {
            return Err(Error::Deadline { last: None });
        };
        let mut stream = RangeStream {
            shared: Arc::clone(shared),
            _permit: permit,
            wire: None,
            address: String::new(),
            rows: VecDeque::new(),
            revisions: Vec::new(),
            patience: self.deadline,
            broken: None,
        };
        let mut journey = Journey::new(shared.settings());
        loop {
            let Some(address) = shared.choose_address(route, &mut journey) else {
                return Err(Error::Unreachable { last: None });
            };
            let Err(failure) = stream.begin(address, &body, deadline).await else {
                return Ok(stream);
            };
            stream.wire = None;
            journey = shared
                .after_failure(journey, Effect::Read, failure, deadline)
                .await?;
        }
    }
}

/// The rows of a range as they arrive.
///
/// Nothing is read ahead but what the socket holds: whoever pauses makes the server pause. A range that pauses for half a
/// minute is given up by the server. Dropping the stream ends the range.
#[derive(Debug)]
pub struct RangeStream {
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
    /// There until the last chunk has come.
    wire: Option<Wire>,
    address: String,
    rows: VecDeque<OwnedRow>,
    revisions: Vec<ShardRevision>,
    patience: Duration,
    /// Why nothing more comes, although the range has not ended.
    broken: Option<Fault>,
}

impl RangeStream {
    /// The next row; `None` after the last. It may be dropped while it waits, and nothing is lost.
    ///
    /// # Errors
    /// [`Error::Interrupted`]: the rows before are right, but there may have been more. Nothing but it comes from then on.
    pub async fn next(&mut self) -> Result<Option<OwnedRow>, Error> {
        if let Some(row) = self.rows.pop_front() {
            return Ok(Some(row));
        }
        if self.broken.is_none() {
            let deadline = Instant::now() + self.patience;
            if let Err(failure) = self.advance(deadline).await {
                self.broken = Some(failure.fault);
            }
        }
        match &self.broken {
            Some(fault) => Err(Error::Interrupted {
                cause: Box::new(fault.clone()),
            }),
            None => Ok(self.rows.pop_front()),
        }
    }

    /// At which revision each shard was read. Empty until the last row has come.
    pub fn revisions(&self) -> &[ShardRevision] {
        &self.revisions
    }

    /// Sends the request and waits for the first rows.
    async fn begin(
        &mut self,
        address: String,
        body: &[u8],
        deadline: Instant,
    ) -> Result<(), Failure> {
        let streams = &self.shared.streams;
        let taken = streams.take(&address, &self.shared.dialing, deadline);
        let mut wire = taken.await?;
        let frame_bytes_max = wire.server.limits.frame_bytes as usize;
        if FRAME_HEADER_BYTES + body.len() > frame_bytes_max {
            return Err(Failure::not_done(Fault::TooLarge {
                limit: frame_bytes_max,
                actual: FRAME_HEADER_BYTES + body.len(),
            }));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        wire.connection.set_deadline_ms(deadline_ms(left));
        wire.connection.encoded(FrameKind::Range, body);
        self.wire = Some(wire);
        self.address = address;
        self.advance(deadline).await
    }

    /// Waits until there are rows or the range has ended.
    async fn advance(&mut self, deadline: Instant) -> Result<(), Failure> {
        while self.rows.is_empty() {
            let Some(wire) = &mut self.wire else {
                return Ok(());
            };
            let step = step(wire, &mut self.rows, &mut self.revisions);
            let ended = match timeout_at(deadline, step).await {
                Ok(ended) => ended,
                Err(_) => Err(Failure::not_done(Fault::Late)),
            };
            match ended {
                Ok(Progress::More) => {}
                Ok(Progress::Complete) => {
                    let wire = self.wire.take().expect("it was there");
                    self.shared.streams.give_back(&self.address, wire);
                }
                Err(failure) => {
                    self.wire = None;
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    /// All rows that are left. The inner error is one after which the range may be read again from its beginning.
    async fn gather(&mut self, deadline: Instant) -> Result<Result<RangeAnswer, Failure>, Error> {
        let limit = self.shared.settings().collect_bytes_max;
        let mut answer = RangeAnswer::default();
        let mut bytes = 0;
        loop {
            while let Some(row) = self.rows.pop_front() {
                bytes += size_of::<OwnedRow>() + row.key.len() + row.value.len();
                if bytes > limit {
                    return Err(Error::TooLarge {
                        what: "the range",
                        limit,
                        actual: bytes,
                    });
                }
                answer.rows.push(row);
            }
            match self.advance(deadline).await {
                Ok(()) if self.rows.is_empty() => break,
                Ok(()) => {}
                // A place lost in between is found again from the beginning.
                Err(failure) if is_place_lost(&failure.fault) => {
                    return Ok(Err(Failure::not_done(Fault::Closed)));
                }
                Err(failure) => return Ok(Err(failure)),
            }
        }
        answer.revisions.append(&mut self.revisions);
        Ok(Ok(answer))
    }
}

fn is_place_lost(fault: &Fault) -> bool {
    matches!(failed(fault.clone()), Error::Server(error) if error.code == crate::wire_error::ErrorCode::PinLost)
}

/// How far a range has come.
enum Progress {
    More,
    Complete,
}

/// Waits for the socket once, and takes what it has.
async fn step(
    wire: &mut Wire,
    rows: &mut VecDeque<OwnedRow>,
    revisions: &mut Vec<ShardRevision>,
) -> Result<Progress, Failure> {
    wire.send().map_err(Failure::not_done)?;
    let waited = if wire.has_outbound() {
        wire.stream.writable().await
    } else {
        wire.stream.readable().await
    };
    waited.map_err(|error| Failure::not_done(error.into()))?;
    let mut ended = None;
    let received = wire.receive(|_, response| match response {
        Response::Range(chunk) => {
            rows.extend(chunk.rows().map(OwnedRow::from));
            if chunk.is_last {
                revisions.extend(chunk.revisions());
                ended = Some(Ok(Progress::Complete));
            }
        }
        Response::Error(error) => ended = Some(Err(Failure::not_done(Fault::Server(error)))),
        Response::Hello(_)
        | Response::Pong
        | Response::Get(_)
        | Response::GetMany(_)
        | Response::Command(_)
        | Response::Batch(_)
        | Response::Count(_)
        | Response::Cancelled
        | Response::Status(_)
        | Response::ShardMap(_)
        | Response::Admin(_) => {
            unreachable!("the connection matches the kind of each answer to its request")
        }
    });
    received.map_err(Failure::not_done)?;
    ended.unwrap_or(Ok(Progress::More))
}
