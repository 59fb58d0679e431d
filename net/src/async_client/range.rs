//! Ranges: rows in order, as fast as they are read.

use crate::async_client::Client;
use crate::async_client::call::{Call, Effect, answer_of};
use crate::async_client::error::{Error, Failure, Fault};
use crate::async_client::journey::Journey;
use crate::async_client::lane::Lane;
use crate::async_client::placement::Route;
use crate::async_client::shared::{Shared, failed};
use crate::count::{CountReply, CountRequest};
use crate::frame::FrameKind;
use crate::owned::OwnedRow;
use crate::range::{RangeRequest, ShardRevision};
use crate::share::NodeShare;
use metastore_statemachine::{Direction, Projection, RangeQuery, Revision, Scope, ShardList};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

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
        let mut journey = self.client.shared.journey();
        self.open(&mut journey, deadline).await
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
        let mut journey = shared.journey();
        loop {
            let mut stream = self.open(&mut journey, deadline).await?;
            let failure = match stream.gather(deadline).await? {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            shared
                .after_failure(&mut journey, Effect::Read, failure, deadline)
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
        let shared = &self.client.shared;
        let deadline = Instant::now() + self.deadline;
        let shards = match (self.route(), query.at) {
            (Route::Any, None) => shared.shards_apart(),
            (Route::Any, Some(_)) | (Route::Slot(_), _) => None,
        };
        let Some(shards) = shards else {
            let call = count_call(query, ShardList::ALL, self.route());
            let answered = shared.call(call, deadline).await?;
            return Ok(answer_of!(answered.answer, Count));
        };
        if query.delimiter.is_some() {
            // Several shards may have the same common prefix.
            return self.keys_only().count_rows(deadline).await;
        }
        let calls = shards.into_iter().map(|(shard, slot)| {
            let named = shard.to_le_bytes();
            let named = ShardList::new(&named).expect("one id");
            (shard, count_call(query, named, Route::Slot(slot)))
        });
        let mut reply = CountReply {
            count: 0,
            revisions: Vec::new(),
        };
        for answered in shared.call_all(calls.collect(), deadline).await {
            let (_, answered) = answered;
            let part = answer_of!(answered?.answer, Count);
            reply.count += part.count;
            reply.revisions.extend(part.revisions);
        }
        reply.revisions.sort_unstable_by_key(|place| place.shard);
        Ok(reply)
    }

    /// Counts rows as they come, without keeping them.
    async fn count_rows(self, deadline: Instant) -> Result<CountReply, Error> {
        let range = self.limit(0);
        let shared = &range.client.shared;
        let mut journey = shared.journey();
        loop {
            let mut stream = range.open(&mut journey, deadline).await?;
            let mut count = 0;
            let failure = loop {
                match stream.pull(Wait::WhileAlive, deadline).await {
                    Ok(Some(_)) => count += 1,
                    Ok(None) => {
                        stream.settle_revisions();
                        let revisions = stream.revisions;
                        return Ok(CountReply { count, revisions });
                    }
                    Err(failure) => break failure,
                }
            };
            shared
                .after_failure(&mut journey, Effect::Read, failure, deadline)
                .await?;
        }
    }

    fn route(&self) -> Route {
        let query = &self.request.query;
        let namespaces = &self.client.shared.settings().namespaces;
        Route::of_range(namespaces, query.namespace, query.prefix, query.scope)
    }

    /// Goes on with `journey`, so that whoever has answered in part and no further counts as asked in vain.
    async fn open(&self, journey: &mut Journey, deadline: Instant) -> Result<RangeStream, Error> {
        let shared = &self.client.shared;
        let Some(permit) = shared.streams.permit(deadline).await else {
            return Err(Error::Deadline { last: None });
        };
        let lanes = loop {
            let Some(shares) = self.shares(journey) else {
                return Err(Error::Unreachable { last: None });
            };
            let failure = match self.open_lanes(shares, journey, deadline).await {
                Ok(lanes) => break lanes,
                Err(failure) => failure,
            };
            shared
                .after_failure(journey, Effect::Read, failure, deadline)
                .await?;
        };
        let query = &self.request.query;
        Ok(RangeStream {
            shared: Arc::clone(shared),
            _permit: permit,
            lanes,
            direction: query.direction,
            rows_left: (query.limit > 0).then_some(query.limit),
            revisions: Vec::new(),
            patience: self.deadline,
            broken: None,
        })
    }

    /// Who is asked, and for which shards, all where none are named; `None` when there is nobody.
    fn shares(&self, journey: &mut Journey) -> Option<Vec<NodeShare>> {
        let shared = &self.client.shared;
        let route = self.route();
        let is_of_one_shard = matches!(route, Route::Slot(_)) || self.request.query.at.is_some();
        if !is_of_one_shard && let Some(shares) = shared.share_out(journey) {
            return Some(shares);
        }
        let address = shared.choose_address(route, Effect::Read, journey)?;
        Some(vec![NodeShare {
            address,
            shards: Vec::new(),
        }])
    }

    async fn open_lanes(
        &self,
        shares: Vec<NodeShare>,
        journey: &mut Journey,
        deadline: Instant,
    ) -> Result<Vec<Lane>, Failure> {
        let shared = &self.client.shared;
        let mut lanes = Vec::with_capacity(shares.len());
        for NodeShare { address, shards } in shares {
            let named: Vec<u8> = shards.iter().flat_map(|id| id.to_le_bytes()).collect();
            let request = RangeRequest {
                shards: ShardList::new(&named).expect("a share ascends"),
                ..self.request
            };
            let mut body = Vec::new();
            request.encode_into(&mut body);
            let means = (&shared.streams, &*shared.dialing);
            let opened = Lane::open(address.clone(), &body, means, deadline);
            let lane = shared.while_alive(&address, opened, deadline).await;
            journey.note_asked(&address);
            lanes.push(lane?);
        }
        Ok(lanes)
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
    /// What each node that is asked has sent; one where it has all of the range.
    lanes: Vec<Lane>,
    direction: Direction,
    /// Of a limited range: how many rows are still wanted.
    rows_left: Option<u64>,
    revisions: Vec<ShardRevision>,
    patience: Duration,
    /// Why nothing more comes, although the range has not ended.
    broken: Option<Fault>,
}

/// How rows are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Until the deadline: what has been read is of use.
    Patiently,
    /// While there are signs of life: it can be read again elsewhere.
    WhileAlive,
}

impl RangeStream {
    /// The next row; `None` after the last. It may be dropped while it waits, and nothing is lost.
    ///
    /// # Errors
    /// [`Error::Interrupted`]: the rows before are right, but there may have been more. Nothing but it comes from then on.
    pub async fn next(&mut self) -> Result<Option<OwnedRow>, Error> {
        let interrupted = |fault: &Fault| Error::Interrupted {
            cause: Box::new(fault.clone()),
        };
        if let Some(fault) = &self.broken {
            return Err(interrupted(fault));
        }
        let deadline = Instant::now() + self.patience;
        match self.pull(Wait::Patiently, deadline).await {
            Ok(None) => {
                self.settle_revisions();
                Ok(None)
            }
            Ok(row) => Ok(row),
            Err(Failure { fault, .. }) => {
                let error = interrupted(&fault);
                self.broken = Some(fault);
                Err(error)
            }
        }
    }

    /// At which revision each shard was read. Empty until the last row has come.
    pub fn revisions(&self) -> &[ShardRevision] {
        &self.revisions
    }

    /// The next row in the order asked for, once every part shows its own.
    async fn pull(&mut self, wait: Wait, deadline: Instant) -> Result<Option<OwnedRow>, Failure> {
        if self.rows_left == Some(0) {
            return Ok(None);
        }
        for lane in &mut self.lanes {
            if !lane.rows.is_empty() {
                continue;
            }
            let address = lane.address.clone();
            let advanced = lane.advance(&self.shared.streams, deadline);
            match wait {
                Wait::Patiently => advanced.await?,
                Wait::WhileAlive => {
                    let alive = self.shared.while_alive(&address, advanced, deadline);
                    alive.await?;
                }
            }
        }
        let Some(chosen) = self.choose_lane() else {
            return Ok(None);
        };
        let row = self.lanes[chosen].rows.pop_front();
        let row = row.expect("the chosen lane has a row");
        if row.is_common_prefix() {
            // Others have it too, and all of them show it.
            for lane in &mut self.lanes {
                if lane.rows.front().is_some_and(|other| other.key == row.key) {
                    lane.rows.pop_front();
                }
            }
        }
        if let Some(left) = &mut self.rows_left {
            *left -= 1;
        }
        Ok(Some(row))
    }

    /// The lane with the next row.
    fn choose_lane(&self) -> Option<usize> {
        let mut chosen: Option<(usize, &[u8])> = None;
        for (index, lane) in self.lanes.iter().enumerate() {
            let Some(row) = lane.rows.front() else {
                continue;
            };
            let comes_first = chosen.is_none_or(|(_, key)| match self.direction {
                Direction::Forward => row.key.as_slice() < key,
                Direction::Reverse => row.key.as_slice() > key,
            });
            if comes_first {
                chosen = Some((index, &row.key));
            }
        }
        chosen.map(|(index, _)| index)
    }

    /// At which revisions everything was read, once all has come.
    fn settle_revisions(&mut self) {
        let lanes = self.lanes.iter_mut();
        self.revisions = lanes.flat_map(|lane| lane.revisions.drain(..)).collect();
        self.revisions.sort_unstable_by_key(|place| place.shard);
    }

    /// All rows that are left. The inner error is one after which the range may be read again from its beginning.
    async fn gather(&mut self, deadline: Instant) -> Result<Result<RangeAnswer, Failure>, Error> {
        let limit = self.shared.settings().collect_bytes_max;
        let mut answer = RangeAnswer::default();
        let mut bytes = 0;
        loop {
            let row = match self.pull(Wait::WhileAlive, deadline).await {
                Ok(Some(row)) => row,
                Ok(None) => break,
                // A place lost in between is found again from the beginning.
                Err(failure) if is_place_lost(&failure.fault) => {
                    return Ok(Err(Failure::not_done(Fault::Closed)));
                }
                Err(failure) => return Ok(Err(failure)),
            };
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
        self.settle_revisions();
        answer.revisions.append(&mut self.revisions);
        Ok(Ok(answer))
    }
}

fn count_call(query: RangeQuery<'_>, shards: ShardList<'_>, route: Route) -> Call {
    let mut body = Vec::new();
    CountRequest { query, shards }.encode_into(&mut body);
    Call {
        kind: FrameKind::Count,
        body,
        effect: Effect::Read,
        route,
    }
}

fn is_place_lost(fault: &Fault) -> bool {
    matches!(failed(fault.clone()), Error::Server(error) if error.code == crate::wire_error::ErrorCode::PinLost)
}
