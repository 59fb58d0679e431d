//! What becomes of load that is refused for the moment, and of load when a node is lost, in a run that is told to survive
//! that.
//!
//! A request without an answer is treated as a careful client would:
//!
//! | what is known | of a read | of a write |
//! |---|---|---|
//! | another node leads | sent there | sent there |
//! | refused for the moment, not done | sent again after the pause that was asked for | the same |
//! | its connection was lost, or it may have happened | sent again to whoever leads | its outcome is unknown |
//!
//! What is sent again waits from its first intended start. A write of unknown outcome is never repeated, because it might
//! then happen twice. It is no answer either: it counts for no rate, and its latency is the time until the outcome was
//! known to be unknown, which is the least that its client has waited. Leaving it out would hide the waits of those who
//! fared worst.
//!
//! It does **not** tell writes that never left this process from those that did: all that were on a lost connection are
//! of unknown outcome.

use std::net::SocketAddr;
use std::time::Duration;

use metastore_net::{ErrorCode, Happened, WireError};
use serde::Serialize;

use super::fleet::{Redirected, Wait};
use super::link::Answer;
use super::{Books, Driver, LoadError, nanoseconds};
use crate::operation::{Failure, Operation};
use crate::protocol::{Reply, SessionError};
use crate::routes::resolve;

/// The shortest pause before a request is sent again that was refused for the moment.
const PUT_OFF_MIN: Duration = Duration::from_millis(1);

/// The longest such pause, whatever the store asks for: a leader of a moment ago knows nothing of the next one.
const PUT_OFF_MAX: Duration = Duration::from_millis(100);

/// Reads of a connection whose end was seen, at most: what the socket holds is read in fewer.
const DRAINS_MAX: usize = 64;

/// What was put off, and in a run that survives lost nodes what was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Losses {
    /// Connections whose other end was gone.
    pub(crate) connections: u64,
    /// Commands that write and of which nobody knows whether they happened.
    pub(crate) unknown: u64,
    /// Times that a request was refused for the moment, and sent again after a pause.
    pub(crate) put_off: u64,
}

/// What an answer means for its request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is answered, well or not, or in part.
    Answered,
    /// It must be sent once more to whoever leads, perhaps there.
    Elsewhere { hint: Option<SocketAddr> },
    /// It must be sent once more, and not before a pause.
    Later { pause_ns: u64 },
    /// It is a write that may have happened.
    Unknown,
}

impl Fate {
    /// What follows from an answer, in a run that survives lost nodes or in one that does not.
    pub(super) fn of(answer: &Answer<'_>, survives_lost_nodes: bool) -> Fate {
        let Reply::Failed(failure) = answer.reply else {
            return Fate::Answered;
        };
        if let Some(hint) = failure.redirect() {
            return Fate::Elsewhere {
                hint: resolve(hint).ok(),
            };
        }
        if let Failure::Refused(error) = failure {
            return Fate::of_error(error, answer.sent.asked.operation, survives_lost_nodes);
        }
        Fate::Answered
    }

    fn of_error(error: &WireError, operation: Operation, survives_lost_nodes: bool) -> Fate {
        if error.happened == Happened::Unknown {
            return match is_read(operation) {
                // Nothing was lost that would explain it.
                _ if !survives_lost_nodes => Fate::Answered,
                true => Fate::Elsewhere { hint: None },
                false => Fate::Unknown,
            };
        }
        // A shard that is between two leaders says one or the other.
        if matches!(error.code, ErrorCode::Overloaded | ErrorCode::Unavailable) {
            let pause = Duration::from_millis(u64::from(error.retry_after_ms));
            let pause = pause.clamp(PUT_OFF_MIN, PUT_OFF_MAX);
            return Fate::Later {
                pause_ns: nanoseconds(pause),
            };
        }
        Fate::Answered
    }
}

/// Whether an operation may be done twice without anybody noticing.
fn is_read(operation: Operation) -> bool {
    match operation {
        Operation::Ping | Operation::Get(_) | Operation::List(_) => true,
        Operation::Put(_) | Operation::CompareAndSwap(_) | Operation::Batch(..) => false,
    }
}

impl Driver<'_> {
    /// Goes on without a connection whose other end is gone, where the run survives that. Any other error ends the run.
    pub(super) fn outlive(
        &mut self,
        place: usize,
        result: Result<(), SessionError>,
    ) -> Result<(), LoadError> {
        match result {
            Err(error) if self.plan.survives_lost_nodes && error.is_loss() => self.lose(place),
            result => Ok(result?),
        }
    }

    /// Gives up the connections of which the last poll said that nothing more will come: what is read in one go may leave
    /// their end unseen.
    pub(super) fn outlive_closing(&mut self) -> Result<(), LoadError> {
        for position in 0..self.closing.len() {
            let place = self.closing[position];
            if self.plan.survives_lost_nodes && !self.links[place].is_lost() {
                self.lose(place)?;
            }
        }
        Ok(())
    }

    /// Takes the answers that came before the end of a connection. The rest of its reads will be sent to whoever leads;
    /// of its writes nobody knows.
    fn lose(&mut self, place: usize) -> Result<(), LoadError> {
        for _ in 0..DRAINS_MAX {
            match self.receive_answers(place) {
                Ok(()) => {}
                Err(error) if error.is_loss() => break,
                Err(error) => return Err(error.into()),
            }
        }
        let now_ns = self.now_ns();
        let Driver {
            plan,
            requests,
            poll,
            links,
            window,
            result,
            fleet,
            ..
        } = self;
        let fleet = fleet.as_mut().expect("the load goes to a cluster");
        let mut books = Books::new(plan, window, requests, result);
        books.result.losses.connections += 1;
        let mut unknown = 0;
        for sent in links[place].abandon(poll.registry()) {
            if is_read(sent.asked.operation) {
                books.result.redirected += 1;
                fleet
                    .redirected
                    .push(Redirected::of(&sent, Wait::ForLeader { hint: None }));
            } else {
                books.note_unknown(&sent, now_ns);
                unknown += 1;
            }
        }
        fleet.note_answered(unknown, now_ns);
        fleet.note_lost(place);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
