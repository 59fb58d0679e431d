//! One operation as it travels: a request that can be sent again, and its answer.

use crate::async_client::error::{Error, Failure, Fault};
use crate::async_client::placement::Route;
use crate::async_client::settings::RetryUnknown;
use crate::count::CountReply;
use crate::frame::FrameKind;
use crate::owned::{GetAnswer, GetManyAnswer, OwnedOutcome};
use crate::response::Response;
use crate::shard_map::ShardMapReply;
use crate::status::StatusReply;
use crate::wire_error::WireError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A request with its body encoded.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) kind: FrameKind,
    pub(super) body: Vec<u8>,
    pub(super) effect: Effect,
    pub(super) route: Route,
}

impl Call {
    /// A question that any core answers, without a body.
    pub(super) fn question(kind: FrameKind) -> Call {
        Call {
            kind,
            body: Vec::new(),
            effect: Effect::Read,
            route: Route::Any,
        }
    }

    pub(super) fn ping() -> Call {
        Call::question(FrameKind::Ping)
    }

    pub(super) fn shard_map() -> Call {
        Call::question(FrameKind::ShardMap)
    }
}

/// What doing a request twice would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing changes.
    Read,
    /// It may change something.
    Write(RetryUnknown),
    /// It names the revision that it changes. Revisions never come again, so of all its sendings one at most is
    /// applied, however late.
    WriteOnce,
}

/// An answer with bytes of its own.
#[derive(Debug)]
pub(super) enum Answer {
    Pong,
    Get(GetAnswer),
    GetMany(GetManyAnswer),
    Command(OwnedOutcome),
    Batch(Vec<Result<OwnedOutcome, WireError>>),
    Count(CountReply),
    Status(StatusReply),
    ShardMap(ShardMapReply),
}

impl Answer {
    /// What a response says; `None` for those that are no answer to a call.
    pub(super) fn read(response: Response<'_>) -> Option<Result<Answer, Failure>> {
        Some(Ok(match response {
            Response::Pong => Answer::Pong,
            Response::Get(reply) => Answer::Get(reply.into()),
            Response::GetMany(reply) => Answer::GetMany(reply.into()),
            Response::Command(outcome) => Answer::Command(outcome.into()),
            Response::Batch(reply) => {
                let items = reply.items().map(|item| item.map(OwnedOutcome::from));
                Answer::Batch(items.collect())
            }
            Response::Status(status) => Answer::Status(status),
            Response::ShardMap(map) => Answer::ShardMap(map),
            Response::Error(error) => return Some(Err(Failure::server(error))),
            Response::Count(count) => Answer::Count(count),
            Response::Hello(_) | Response::Range(_) | Response::Cancelled | Response::Admin(_) => {
                return None;
            }
        }))
    }
}

/// One sending of a call, on its way to a connection.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) call: Arc<Call>,
    pub(super) deadline: Instant,
    pub(super) claim: Arc<Claim>,
    pub(super) answer: oneshot::Sender<Result<Answer, Failure>>,
}

impl Attempt {
    /// Ends the attempt. Nobody may be listening any more.
    pub(super) fn finish(self, result: Result<Answer, Failure>) {
        let _ = self.answer.send(result);
    }
}

/// Who has the say about an attempt: the connection that writes it, or the caller who gives it up before. It is decided
/// once, so that the caller knows whether it may have left.
///
/// ```text
/// Queued -- try_write --> Written
///    |
///    +-- try_abandon --> Abandoned
/// ```
#[derive(Debug, Default)]
pub(super) struct Claim(AtomicU8);

const QUEUED: u8 = 0;
const WRITTEN: u8 = 1;
const ABANDONED: u8 = 2;

impl Claim {
    /// The connection is about to write it. False when the caller has given up.
    pub(super) fn try_write(&self) -> bool {
        self.decide(WRITTEN)
    }

    /// The caller gives up. False when it may have left.
    pub(super) fn try_abandon(&self) -> bool {
        self.decide(ABANDONED)
    }

    fn decide(&self, state: u8) -> bool {
        let decided = self
            .0
            .compare_exchange(QUEUED, state, Ordering::AcqRel, Ordering::Acquire);
        decided.is_ok()
    }
}

/// An operation's answer, with what went wrong before it.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) answer: Answer,
    /// Set when an earlier sending may have been applied too.
    pub(super) before: Option<Fault>,
}

/// The content of one kind of answer.
macro_rules! answer_of {
    ($answered:expr, $kind:ident) => {
        if let $crate::async_client::call::Answer::$kind(content) = $answered {
            content
        } else {
            unreachable!("the connection matches the kind of each answer to its request")
        }
    };
}
pub(super) use answer_of;

pub(super) type CallResult = Result<Answered, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_decided_once() {
        let claim = Claim::default();
        assert!(claim.try_write());
        assert!(!claim.try_abandon());
        assert!(!claim.try_write());
        let claim = Claim::default();
        assert!(claim.try_abandon());
        assert!(!claim.try_write());
    }
}
