//! What to do when an attempt has failed: one table.
//!
//! | | what is known | of what | then |
//! |---|---|---|---|
//! | A | not done, may pass | anything | again, after a pause |
//! | B | not done, somebody else leads | anything | again, where the error says, with a newer map |
//! | C | not done, will stay so | anything | fail |
//! | D | not done, the connection failed | anything | again, elsewhere |
//! | E | unknown | a read | again: a read has no effect |
//! | F | unknown | a write that names the revision it changes | again: it cannot be applied twice |
//! | G | unknown | a write, and the caller said so | again |
//! | H | unknown | any other write | the outcome is unknown |
//!
//! H is why this table exists: without a session the store cannot tell a repetition from a second write, so a library
//! that repeats one can apply it twice, and, worse, apply it after somebody else's write that came between.

use crate::async_client::call::Effect;
use crate::async_client::error::{Failure, Fault};
use crate::async_client::settings::RetryUnknown;
use crate::wire_error::{ErrorCode, Happened};
use std::time::Duration;

/// What follows a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Try again.
    Again(Again),
    /// The operation has failed and had no effect.
    Fail,
    /// The operation may have had its effect.
    Unknown,
}

/// How to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Again {
    /// After a pause, at least this long.
    Later {
        /// The server's wish.
        pause_min: Duration,
    },
    /// With a newer map, at this address if one is named.
    ElsewhereLed {
        /// `host:port`, or empty.
        hint: String,
    },
    /// At another address.
    Elsewhere,
}

/// Decides by the table.
pub(super) fn decide(effect: Effect, failure: &Failure) -> Verdict {
    if failure.happened == Happened::Unknown {
        return match effect {
            // E, F, G
            Effect::Read | Effect::WriteOnce | Effect::Write(RetryUnknown::Yes) => {
                let again = if let Fault::Server(error) = &failure.fault {
                    Again::Later {
                        pause_min: retry_after(error.retry_after_ms),
                    }
                } else {
                    Again::Elsewhere
                };
                Verdict::Again(again)
            }
            // H
            Effect::Write(RetryUnknown::No) => Verdict::Unknown,
        };
    }
    let Fault::Server(error) = &failure.fault else {
        return match failure.fault {
            Fault::TooLarge { .. }
            | Fault::Late
            | Fault::Unreadable { .. }
            | Fault::Ambiguous { .. } => Verdict::Fail, // C
            Fault::Connect { .. }
            | Fault::Io(_)
            | Fault::Closed
            | Fault::Silent { .. }
            | Fault::Protocol(_)
            | Fault::Server(_) => Verdict::Again(Again::Elsewhere), // D
        };
    };
    match error.code {
        // A
        ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::LockedBy => {
            Verdict::Again(Again::Later {
                pause_min: retry_after(error.retry_after_ms),
            })
        }
        // B
        ErrorCode::NotLeader | ErrorCode::StaleMap => Verdict::Again(Again::ElsewhereLed {
            hint: error.hint.clone(),
        }),
        // D
        ErrorCode::ShuttingDown => Verdict::Again(Again::Elsewhere),
        // C
        ErrorCode::BadRequest
        | ErrorCode::Unsupported
        | ErrorCode::HelloRequired
        | ErrorCode::WrongCluster
        | ErrorCode::TooLarge
        | ErrorCode::QuotaExceeded
        | ErrorCode::CrossShard
        | ErrorCode::Conflict
        | ErrorCode::Compacted
        | ErrorCode::FutureRevision
        | ErrorCode::SessionExpired
        | ErrorCode::SequenceTooOld
        | ErrorCode::NewEpoch
        | ErrorCode::Deadline
        | ErrorCode::ReadOnly
        | ErrorCode::Cancelled
        | ErrorCode::Internal
        | ErrorCode::BadFrame
        | ErrorCode::NamespaceUnknown
        | ErrorCode::PinLost
        | ErrorCode::Other(_) => Verdict::Fail,
    }
}

fn retry_after(retry_after_ms: u32) -> Duration {
    Duration::from_millis(u64::from(retry_after_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire_error::WireError;

    const EFFECTS: [Effect; 4] = [
        Effect::Read,
        Effect::WriteOnce,
        Effect::Write(RetryUnknown::No),
        Effect::Write(RetryUnknown::Yes),
    ];

    /// Every code of this version, and one of a later.
    fn codes() -> impl Iterator<Item = ErrorCode> {
        (1..=27).map(ErrorCode::from_u16)
    }

    #[test]
    fn a_write_of_unknown_outcome_is_never_repeated_unasked() {
        let unknown = |fault| Failure {
            fault,
            happened: Happened::Unknown,
        };
        let faults = [
            Fault::Closed,
            Fault::Late,
            Fault::Io(std::sync::Arc::new(
                std::io::ErrorKind::ConnectionReset.into(),
            )),
            Fault::Silent {
                silence: Duration::from_secs(1),
            },
            Fault::Protocol(crate::client::ProtocolError::NotAResponse),
        ];
        let answers = codes().map(|code| Fault::Server(WireError::new(code).outcome_unknown()));
        for fault in faults.into_iter().chain(answers) {
            let failure = unknown(fault);
            for effect in EFFECTS {
                let verdict = decide(effect, &failure);
                if effect == Effect::Write(RetryUnknown::No) {
                    assert_eq!(verdict, Verdict::Unknown, "{failure:?}");
                } else {
                    assert!(matches!(verdict, Verdict::Again(_)), "{failure:?}");
                }
            }
        }
    }

    #[test]
    fn what_certainly_did_not_happen_is_tried_again_where_that_may_help() {
        for effect in EFFECTS {
            for code in codes() {
                let error = WireError {
                    retry_after_ms: 30,
                    hint: "b:2".to_owned(),
                    ..WireError::new(code)
                };
                let expected = match code.as_u16() {
                    5 | 6 => Verdict::Again(Again::ElsewhereLed {
                        hint: "b:2".to_owned(),
                    }),
                    7 | 8 | 13 => Verdict::Again(Again::Later {
                        pause_min: Duration::from_millis(30),
                    }),
                    22 => Verdict::Again(Again::Elsewhere),
                    _ => Verdict::Fail,
                };
                assert_eq!(
                    decide(effect, &Failure::server(error)),
                    expected,
                    "{code:?}"
                );
            }
            let lost = Failure::not_done(Fault::Closed);
            assert_eq!(decide(effect, &lost), Verdict::Again(Again::Elsewhere));
            let late = Failure::not_done(Fault::Late);
            assert_eq!(decide(effect, &late), Verdict::Fail);
        }
    }
}
