//! A range that is deleted: where its shards are led from several nodes, each shard's part is a call of its own.
//!
//! A part whose leader changes in the middle is sent to the next one from its beginning: what was deleted is told and
//! counted, and what somebody has put there meanwhile is deleted, too, because the deletion has not returned.

use crate::async_client::backoff::Backoff;
use crate::async_client::call::{Call, CallResult, answer_of};
use crate::async_client::error::{Error, Fault};
use crate::async_client::shared::Shared;
use crate::async_client::structured::DeletedRange;
use crate::async_client::write::check_outcome;
use crate::owned::OwnedDetail;
use crate::wire_error::{ErrorCode, Happened, WireError};
use metastore_statemachine::Revision;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};

/// Sends each part's call until the part is over or the deadline has passed.
pub(super) async fn delete_parts(
    shared: Arc<Shared>,
    parts: BTreeMap<u32, Call>,
    deadline: Instant,
) -> Result<DeletedRange, Error> {
    let settings = shared.settings();
    let mut backoff = Backoff::new(settings.backoff_min, settings.backoff_max);
    let is_one = parts.len() == 1;
    let mut left: Vec<u32> = parts.keys().copied().collect();
    let mut deleted = DeletedRange {
        count: 0,
        revisions: Vec::new(),
        revision: Revision(0),
    };
    let mut failed: Option<Error> = None;
    while !left.is_empty() {
        let calls = left.drain(..).map(|part| (part, parts[&part].clone()));
        let mut cut_short = None;
        for (part, result) in shared.call_all(calls.collect(), deadline).await {
            match Part::of(result) {
                Part::Done(done) => {
                    deleted.count += done.count;
                    deleted.revisions.extend(done.revisions);
                    deleted.revision = done.revision;
                }
                Part::CutShort { count, error } => {
                    deleted.count += count;
                    left.push(part);
                    cut_short = Some(error);
                }
                Part::Failed(error) => {
                    // What may have happened counts for more than what certainly did not.
                    if failed.is_none() || error.happened() == Happened::Unknown {
                        failed = Some(error);
                    }
                }
            }
        }
        let resume_at = Instant::now() + backoff.next();
        if let Some(error) = cut_short {
            if failed.is_some() || resume_at >= deadline {
                failed.get_or_insert(error);
                break;
            }
            sleep_until(resume_at).await;
        }
    }
    if let Some(error) = failed {
        return Err(match error.happened() {
            Happened::NotDone if deleted.count > 0 => in_part(error),
            Happened::NotDone | Happened::Unknown => error,
        });
    }
    deleted.revisions.sort_unstable_by_key(|place| place.shard);
    if !is_one {
        deleted.revision = Revision(0);
    }
    Ok(deleted)
}

/// What became of a part.
enum Part {
    Done(DeletedRange),
    /// So many keys are gone, and whoever leads now takes the rest.
    CutShort {
        count: u64,
        error: Error,
    },
    Failed(Error),
}

impl Part {
    fn of(result: CallResult) -> Part {
        let outcome = result.and_then(|answered| {
            let outcome = answer_of!(answered.answer, Command);
            check_outcome(outcome, answered.before)
        });
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                return match cut_short(&error) {
                    Some(count) => Part::CutShort { count, error },
                    None => Part::Failed(error),
                };
            }
        };
        let count = outcome.number.and_then(|count| u64::try_from(count).ok());
        let Some(count) = count else {
            let what = "the answer lacks the count of keys";
            return Part::Failed(unknown(Fault::Unreadable { what }));
        };
        let revisions = match outcome.detail {
            Some(OwnedDetail::ShardRevisions(revisions)) => revisions,
            Some(
                OwnedDetail::Txn(_)
                | OwnedDetail::ResumeAfter(_)
                | OwnedDetail::ConflictKey(_)
                | OwnedDetail::ConflictPrefix(_)
                | OwnedDetail::FailedStep(_),
            )
            | None => Vec::new(),
        };
        Part::Done(DeletedRange {
            count,
            revisions,
            revision: outcome.revision,
        })
    }
}

/// How many keys a part deleted that ended because its shard is led elsewhere: the slice that met this was not done.
fn cut_short(error: &Error) -> Option<u64> {
    let Error::OutcomeUnknown { cause } = error else {
        return None;
    };
    match &**cause {
        Fault::Server(WireError {
            code: ErrorCode::NotLeader | ErrorCode::ShuttingDown,
            actual,
            ..
        }) => Some(*actual),
        Fault::Server(_)
        | Fault::Connect { .. }
        | Fault::Io(_)
        | Fault::Closed
        | Fault::Silent { .. }
        | Fault::Protocol(_)
        | Fault::Late
        | Fault::TooLarge { .. }
        | Fault::Unreadable { .. }
        | Fault::Ambiguous { .. } => None,
    }
}

/// Some keys are gone, and then it failed.
fn in_part(error: Error) -> Error {
    if let Error::Server(error) = error {
        unknown(Fault::Server(*error))
    } else if let Error::Deadline { last: Some(last) } = error {
        unknown(*last)
    } else {
        unknown(Fault::Late)
    }
}

fn unknown(cause: Fault) -> Error {
    Error::OutcomeUnknown {
        cause: Box::new(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_goes_on_where_its_shard_is_led_elsewhere_and_nowhere_else() {
        let error = |code| {
            let error = WireError {
                actual: 7,
                happened: Happened::Unknown,
                ..WireError::new(code)
            };
            unknown(Fault::Server(error))
        };
        assert_eq!(cut_short(&error(ErrorCode::NotLeader)), Some(7));
        assert_eq!(cut_short(&error(ErrorCode::ShuttingDown)), Some(7));
        assert_eq!(cut_short(&error(ErrorCode::Deadline)), None);
        assert_eq!(cut_short(&error(ErrorCode::Unavailable)), None);
        assert_eq!(cut_short(&unknown(Fault::Closed)), None);
        let refused = Error::Server(Box::new(WireError::new(ErrorCode::NotLeader)));
        assert_eq!(cut_short(&refused), None);
        assert_eq!(in_part(refused).happened(), Happened::Unknown);
    }
}
