//! One connection's part of a range: the rows of the shards that one node is asked for.

use crate::async_client::error::{Failure, Fault};
use crate::async_client::link::deadline_ms;
use crate::async_client::streams::Streams;
use crate::async_client::wire::{Dialing, Wire};
use crate::frame::{FRAME_HEADER_BYTES, FrameKind};
use crate::owned::OwnedRow;
use crate::range::ShardRevision;
use crate::response::Response;
use std::collections::VecDeque;
use tokio::time::{Instant, timeout_at};

/// The rows of some shards as they arrive. Nothing is read ahead but what the socket holds.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) address: String,
    /// There until the last chunk has come.
    wire: Option<Wire>,
    pub(super) rows: VecDeque<OwnedRow>,
    /// Empty until the last chunk has come.
    pub(super) revisions: Vec<ShardRevision>,
}

impl Lane {
    /// Sends the request and waits for the first rows.
    pub(super) async fn open(
        address: String,
        body: &[u8],
        (streams, dialing): (&Streams, &Dialing),
        deadline: Instant,
    ) -> Result<Lane, Failure> {
        let mut wire = streams.take(&address, dialing, deadline).await?;
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
        let mut lane = Lane {
            address,
            wire: Some(wire),
            rows: VecDeque::new(),
            revisions: Vec::new(),
        };
        lane.advance(streams, deadline).await?;
        Ok(lane)
    }

    /// Waits until there are rows or the part has ended. It may be dropped while it waits, and nothing is lost.
    pub(super) async fn advance(
        &mut self,
        streams: &Streams,
        deadline: Instant,
    ) -> Result<(), Failure> {
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
                    streams.give_back(&self.address, wire);
                }
                Err(failure) => {
                    self.wire = None;
                    return Err(failure);
                }
            }
        }
        Ok(())
    }
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
