//! Writes of one key.

use crate::async_client::Client;
use crate::async_client::call::{Answered, Effect, answer_of};
use crate::async_client::error::{Error, Fault};
use crate::async_client::settings::RetryUnknown;
use crate::async_client::{Operation, boxed};
use crate::frame::FrameKind;
use crate::owned::{OwnedOutcome, OwnedRow};
use metastore_statemachine::{
    Command, CommandFlags, CommandKind, NamespaceId, OutcomeCode, Revision,
};
use std::marker::PhantomData;
use std::time::Duration;

/// A key was set or extended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The revision that the write took.
    pub revision: Revision,
    /// The row as the write found it, if that was asked for and the key existed.
    pub previous: Option<OwnedRow>,
}

/// A counter was changed, or found to be beyond the operand already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The counter's value now.
    pub value: i64,
    /// The counter's revision now.
    pub revision: Revision,
    /// The row as the write found it, if that was asked for and the key existed.
    pub previous: Option<OwnedRow>,
}

/// A key is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// Whether it was there. With [`RetryUnknown::Yes`] it may also be that an earlier attempt removed it.
    pub existed: bool,
    /// The revision that the removal took; without one, the current revision.
    pub revision: Revision,
    /// The row as it was, if that was asked for and the key existed.
    pub previous: Option<OwnedRow>,
}

/// A write of one key, to be `.await`ed. `T` is its answer: [`Written`], [`Counted`] or [`Deleted`].
#[derive(Debug, Clone)]
#[must_use = "nothing is written until it is awaited"]
pub struct Write<'a, T> {
    client: &'a Client,
    kind: CommandKind,
    key: &'a [u8],
    value: Value<'a>,
    condition: Condition,
    is_previous_wanted: bool,
    lease: Option<u64>,
    retry_unknown: RetryUnknown,
    deadline: Duration,
    answer: PhantomData<fn() -> T>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Bytes(&'a [u8]),
    Number(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    None,
    Absent,
    Revision(Revision),
}

impl<'a, T> Write<'a, T> {
    pub(super) fn new(
        client: &'a Client,
        kind: CommandKind,
        key: &'a [u8],
        value: Value<'a>,
    ) -> Write<'a, T> {
        let settings = client.shared.settings();
        Write {
            retry_unknown: settings.retry_unknown,
            deadline: settings.deadline,
            client,
            kind,
            key,
            value,
            condition: Condition::None,
            is_previous_wanted: false,
            lease: None,
            answer: PhantomData,
        }
    }

    /// Only if the key was last changed at this revision; [`Error::Conflict`] otherwise. 0 means that it must be absent.
    ///
    /// A write that names a revision above 0 can be applied once at most, so the client may send it again when an
    /// answer is missing.
    pub fn expected_revision(mut self, revision: Revision) -> Write<'a, T> {
        self.condition = Condition::Revision(revision);
        self
    }

    /// Answers with the row as the write finds it.
    pub fn return_previous(mut self) -> Write<'a, T> {
        self.is_previous_wanted = true;
        self
    }

    /// What to do when an answer is missing.
    pub fn retry_unknown(mut self, retry: RetryUnknown) -> Write<'a, T> {
        self.retry_unknown = retry;
        self
    }

    /// How long it may take, retries included.
    pub fn deadline(mut self, deadline: Duration) -> Write<'a, T> {
        self.deadline = deadline;
        self
    }

    fn effect(&self) -> Effect {
        match self.condition {
            Condition::Revision(revision) if revision > Revision(0) => Effect::WriteOnce,
            Condition::None | Condition::Absent | Condition::Revision(_) => {
                Effect::Write(self.retry_unknown)
            }
        }
    }

    fn start(self) -> impl Future<Output = Result<OwnedOutcome, Error>> + Send + use<T> {
        let operand;
        let value = match self.value {
            Value::Bytes(bytes) => bytes,
            Value::Number(number) => {
                operand = number.to_le_bytes();
                &operand[..]
            }
        };
        let bare = plain_command(self.kind, self.client.namespace, self.key, value);
        let mut command = match self.condition {
            Condition::None => bare,
            Condition::Absent => bare.with_if_absent(),
            Condition::Revision(revision) => bare.with_expected_revision(revision),
        };
        if self.is_previous_wanted {
            command = command.with_return_previous();
        }
        if let Some(lease) = self.lease {
            command = command.with_lease(lease);
        }
        let effect = self.effect();
        let call = self
            .client
            .call_on_key(FrameKind::Command, self.key, effect, |body| {
                command.encode_into(body);
            });
        let answered = self.client.run(call, self.deadline);
        async move { check(answered.await?) }
    }
}

impl<'a> Write<'a, Written> {
    /// Only if the key is absent; [`Error::Conflict`] otherwise.
    pub fn if_absent(mut self) -> Write<'a, Written> {
        self.condition = Condition::Absent;
        self
    }

    /// Hangs the key on a lease. Reserved: the store answers `Unsupported` in this version.
    pub fn lease(mut self, lease: u64) -> Write<'a, Written> {
        self.lease = Some(lease);
        self
    }
}

fn check(answered: Answered) -> Result<OwnedOutcome, Error> {
    let outcome = answer_of!(answered.answer, Command);
    check_outcome(outcome, answered.before)
}

/// An outcome that changed something or found nothing to do; every other is an error. `before` is set when an earlier
/// sending may have been applied.
pub(super) fn check_outcome(
    outcome: OwnedOutcome,
    before: Option<Fault>,
) -> Result<OwnedOutcome, Error> {
    let failed = match outcome.code {
        OutcomeCode::Done | OutcomeCode::Absent => return Ok(outcome),
        OutcomeCode::Conflict => Error::Conflict {
            revision: outcome.revision,
        },
        OutcomeCode::NotANumber => Error::NotANumber,
        OutcomeCode::Overflow => Error::Overflow,
        OutcomeCode::TooLarge => Error::ValueTooLarge,
        OutcomeCode::Compacted => Error::Compacted {
            oldest: outcome.revision,
        },
        OutcomeCode::FutureRevision => Error::FutureRevision {
            current: outcome.revision,
        },
        OutcomeCode::OverBudget => Error::OverBudget,
    };
    // This attempt changed nothing, but the one before may have, and this one may have failed because of it.
    Err(match before {
        Some(before) => Error::OutcomeUnknown {
            cause: Box::new(Fault::Ambiguous {
                revision: outcome.revision,
                before: Box::new(before),
            }),
        },
        None => failed,
    })
}

/// A command without conditions.
pub(super) fn plain_command<'b>(
    kind: CommandKind,
    namespace: NamespaceId,
    key: &'b [u8],
    value: &'b [u8],
) -> Command<'b> {
    Command {
        kind,
        flags: CommandFlags::NONE,
        namespace,
        key,
        value,
        lease: None,
        expected_revision: None,
        session: None,
    }
}

impl IntoFuture for Write<'_, Written> {
    type Output = Result<Written, Error>;
    type IntoFuture = Operation<Written>;

    fn into_future(self) -> Operation<Written> {
        let outcome = self.start();
        boxed(async move {
            let OwnedOutcome {
                revision, previous, ..
            } = outcome.await?;
            Ok(Written { revision, previous })
        })
    }
}

impl IntoFuture for Write<'_, Counted> {
    type Output = Result<Counted, Error>;
    type IntoFuture = Operation<Counted>;

    fn into_future(self) -> Operation<Counted> {
        let outcome = self.start();
        boxed(async move {
            let outcome = outcome.await?;
            let Some(value) = outcome.number else {
                let what = "the answer lacks the counter's value";
                return Err(Error::OutcomeUnknown {
                    cause: Box::new(Fault::Unreadable { what }),
                });
            };
            Ok(Counted {
                value,
                revision: outcome.revision,
                previous: outcome.previous,
            })
        })
    }
}

impl IntoFuture for Write<'_, Deleted> {
    type Output = Result<Deleted, Error>;
    type IntoFuture = Operation<Deleted>;

    fn into_future(self) -> Operation<Deleted> {
        let outcome = self.start();
        boxed(async move {
            let outcome = outcome.await?;
            Ok(Deleted {
                existed: outcome.code == OutcomeCode::Done,
                revision: outcome.revision,
                previous: outcome.previous,
            })
        })
    }
}
