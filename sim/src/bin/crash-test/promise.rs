//! What a store promises while its disk is full, and the judgement on one answer.

use metastore_net::blocking::{ClientError, OwnedOutcome};
use metastore_net::{ErrorCode, Happened, WireError};
use metastore_statemachine::OutcomeCode;
use thiserror::Error;

/// What was asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A put without a condition.
    Put,
    /// A delete without a condition.
    Delete,
    /// A read of one key.
    Read,
}

/// What came back.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A mutation has an outcome.
    Outcome(OwnedOutcome),
    /// A read has found what is there, or that nothing is.
    Found,
    /// The server says no.
    Refused(Box<WireError>),
    /// Nothing: the connection is of no further use.
    Lost(Box<ClientError>),
}

impl Answer {
    /// The answer that an error is.
    pub(crate) fn failed(error: ClientError) -> Answer {
        match error {
            ClientError::Server(error) => Answer::Refused(Box::new(error)),
            error @ (ClientError::Connect { .. }
            | ClientError::OutcomeUnknown { .. }
            | ClientError::Connection(_)) => Answer::Lost(Box::new(error)),
        }
    }
}

/// A promise about full disks that was broken.
#[derive(Debug, Error)]
pub(crate) enum Broken {
    /// What would fill the disk further was taken.
    #[error(
        "a put was taken with {free_bytes} bytes free, and never more than {recent_bytes} shortly before"
    )]
    Taken {
        /// What was free then.
        free_bytes: u64,
        /// What was free in the last second, at most.
        recent_bytes: u64,
    },
    /// A refusal does not say that it is the disk.
    #[error("a put on a full disk was refused, but not because of the disk: {0}")]
    WrongRefusal(Box<WireError>),
    /// A refusal does not say that nothing was done.
    #[error("a put was refused because of the disk, and may have been done: {0}")]
    UnclearRefusal(Box<WireError>),
    /// What passes on a full disk did not.
    #[error("a {asked:?} on a full disk was refused: {error}")]
    Kept {
        /// What it was.
        asked: Asked,
        /// Why.
        error: Box<WireError>,
    },
    /// An outcome that what was asked cannot have.
    #[error("a {asked:?} without a condition ended {code:?}")]
    WrongOutcome {
        /// What it was.
        asked: Asked,
        /// How it ended.
        code: OutcomeCode,
    },
    /// No answer, from a server that runs.
    #[error("a {asked:?} was not answered: {error}")]
    NotAnswered {
        /// What it was.
        asked: Asked,
        /// How the connection ended.
        error: Box<ClientError>,
    },
    /// The answer was again and again that there is no room at present.
    #[error("a {asked:?} was put off for {seconds} s")]
    PutOff {
        /// What it was.
        asked: Asked,
        /// For how long.
        seconds: u64,
    },
    /// The disk is full and the store has not seen it.
    #[error("puts were still taken {seconds} s after the disk was full")]
    NotNoticed {
        /// After how long.
        seconds: u64,
    },
    /// The disk has room and the store has not seen it.
    #[error("puts are still refused {seconds} s after there was room again: {error}")]
    StillRefused {
        /// After how long.
        seconds: u64,
        /// The last refusal.
        error: Box<WireError>,
    },
    /// Clients waited in vain.
    #[error("{requests} requests of clients were not answered by a server that ran")]
    Hung {
        /// How many.
        requests: u64,
    },
}

/// What one answer on a full disk shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The disk keeps a put from being done, and the answer says so.
    Refusal,
    /// What passes on a full disk did.
    Passed,
    /// A put was taken: right only if the store has made room itself.
    Taken,
    /// The answer says to ask again.
    PutOff,
}

/// Judges an answer of a store whose disk is full, and that has had the time to see it.
pub(crate) fn judge(asked: Asked, answer: Answer) -> Result<Shown, Broken> {
    match answer {
        Answer::Lost(error) => Err(Broken::NotAnswered { asked, error }),
        Answer::Found => Ok(Shown::Passed),
        Answer::Outcome(outcome) => match (asked, outcome.code) {
            (Asked::Put, OutcomeCode::Done) => Ok(Shown::Taken),
            (Asked::Delete, OutcomeCode::Done | OutcomeCode::Absent) => Ok(Shown::Passed),
            (_, code) => Err(Broken::WrongOutcome { asked, code }),
        },
        Answer::Refused(error) if error.code == ErrorCode::Overloaded => Ok(Shown::PutOff),
        Answer::Refused(error) => match asked {
            Asked::Put if !is_of_the_disk(&error) => Err(Broken::WrongRefusal(error)),
            Asked::Put if error.happened != Happened::NotDone => Err(Broken::UnclearRefusal(error)),
            Asked::Put => Ok(Shown::Refusal),
            // The segment is at its end, and another is free only when the log has been released behind a snapshot.
            Asked::Delete if is_of_the_disk(&error) => Ok(Shown::PutOff),
            Asked::Delete | Asked::Read => Err(Broken::Kept { asked, error }),
        },
    }
}

/// Whether an error is the one of a disk that is nearly full, with what is free of it and what should be.
pub(crate) fn is_of_the_disk(error: &WireError) -> bool {
    error.code == ErrorCode::ReadOnly
        && error.actual < error.limit
        && error.message.contains("bytes of disk are free")
}

#[cfg(test)]
mod tests {
    use metastore_net::blocking::ConnectionFault;
    use metastore_statemachine::Revision;

    use super::*;

    fn outcome(code: OutcomeCode) -> Answer {
        Answer::Outcome(OwnedOutcome {
            code,
            revision: Revision(1),
            number: None,
            previous: None,
            detail: None,
        })
    }

    fn refused(error: WireError) -> Answer {
        Answer::Refused(Box::new(error))
    }

    fn disk_error() -> WireError {
        WireError {
            limit: 1000,
            actual: 7,
            ..WireError::new(ErrorCode::ReadOnly)
        }
        .with_message("7 bytes of disk are free, less than 1000: only deletes and compaction")
    }

    #[test]
    fn a_store_that_keeps_its_promises_passes() {
        let seen = |asked, answer| judge(asked, answer).expect("no promise is broken");
        assert_eq!(seen(Asked::Put, refused(disk_error())), Shown::Refusal);
        assert_eq!(seen(Asked::Read, Answer::Found), Shown::Passed);
        let codes = [OutcomeCode::Done, OutcomeCode::Absent];
        assert!(codes.map(|code| seen(Asked::Delete, outcome(code))) == [Shown::Passed; 2]);
        assert_eq!(seen(Asked::Put, outcome(OutcomeCode::Done)), Shown::Taken);
        let busy = || refused(WireError::new(ErrorCode::Overloaded));
        assert_eq!(seen(Asked::Delete, refused(disk_error())), Shown::PutOff);
        let all = [Asked::Put, Asked::Delete, Asked::Read];
        assert_eq!(all.map(|asked| seen(asked, busy())), [Shown::PutOff; 3]);
    }

    #[test]
    fn what_passes_on_a_full_disk_and_is_refused_is_reported() {
        let internal = || refused(WireError::new(ErrorCode::Internal));
        for (asked, answer) in [
            (Asked::Read, refused(disk_error())),
            (Asked::Read, internal()),
            (Asked::Delete, internal()),
        ] {
            let broken = judge(asked, answer);
            assert!(matches!(broken, Err(Broken::Kept { .. })), "{broken:?}");
        }
        let broken = judge(Asked::Delete, outcome(OutcomeCode::Conflict));
        assert!(matches!(broken, Err(Broken::WrongOutcome { .. })));
    }

    #[test]
    fn a_refusal_that_is_not_the_disks_own_is_reported() {
        let log_budget = WireError {
            message: "the log has used 7 of its budget of 1000 bytes: no more writes".to_owned(),
            ..disk_error()
        };
        let internal = WireError::new(ErrorCode::Internal);
        for error in [log_budget, internal] {
            let broken = judge(Asked::Put, refused(error));
            assert!(matches!(broken, Err(Broken::WrongRefusal(_))), "{broken:?}");
        }
        let broken = judge(Asked::Put, refused(disk_error().outcome_unknown()));
        assert!(matches!(broken, Err(Broken::UnclearRefusal(_))));
    }

    #[test]
    fn a_server_that_does_not_answer_is_reported() {
        for asked in [Asked::Put, Asked::Delete, Asked::Read] {
            let cause = ConnectionFault::Timeout;
            let answer = Answer::failed(ClientError::OutcomeUnknown { cause });
            let broken = judge(asked, answer);
            assert!(matches!(broken, Err(Broken::NotAnswered { .. })));
        }
    }
}
