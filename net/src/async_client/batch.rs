//! Independent writes, many in one frame.

use crate::async_client::Client;
use crate::async_client::call::{Call, Effect, answer_of};
use crate::async_client::decide::{Verdict, decide};
use crate::async_client::error::{Error, Failure, Fault};
use crate::async_client::placement::Route;
use crate::async_client::settings::RetryUnknown;
use crate::async_client::shared::{Shared, failed};
use crate::async_client::write::{check_outcome, plain_command};
use crate::body::length_u32;
use crate::frame::FrameKind;
use crate::owned::OwnedOutcome;
use crate::wire_error::{Happened, WireError};
use metastore_statemachine::{Command, CommandKind};
use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Independent writes of any keys, to be `.await`ed. Made by [`Client::batch`].
///
/// Each write is atomic by itself and has an answer of its own. Those of one shard are applied in the order in which
/// they were added; when a part of them fails as a whole, the later ones of that shard are [`Error::Skipped`]. A write
/// that the server refuses by itself does not keep the others from being applied.
#[derive(Debug, Clone)]
#[must_use = "nothing is written until it is awaited"]
pub struct Batch<'c> {
    client: &'c Client,
    /// All commands, back to back.
    bytes: Vec<u8>,
    items: Vec<(Route, Range<usize>)>,
    retry_unknown: RetryUnknown,
    deadline: Duration,
}

/// The answers to a batch, in the order in which the writes were added. A condition that did not hold is
/// [`Error::Conflict`].
pub type BatchAnswer = Vec<Result<OwnedOutcome, Error>>;

/// A batch under way. It owns what it needs and may be moved to another task.
pub type BatchOperation = Pin<Box<dyn Future<Output = BatchAnswer> + Send>>;

impl<'c> Batch<'c> {
    pub(super) fn new(client: &'c Client) -> Batch<'c> {
        let settings = client.shared.settings();
        Batch {
            bytes: Vec::new(),
            items: Vec::new(),
            retry_unknown: settings.retry_unknown,
            deadline: settings.deadline,
            client,
        }
    }

    /// Sets a key to a value.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Batch<'c> {
        self.plain(CommandKind::Put, key.as_ref(), value.as_ref())
    }

    /// Removes a key.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Batch<'c> {
        self.plain(CommandKind::Delete, key.as_ref(), &[])
    }

    /// Adds to a counter.
    pub fn add(&mut self, key: impl AsRef<[u8]>, operand: i64) -> &mut Batch<'c> {
        self.plain(CommandKind::AddI64, key.as_ref(), &operand.to_le_bytes())
    }

    fn plain(&mut self, kind: CommandKind, key: &[u8], value: &[u8]) -> &mut Batch<'c> {
        self.command(&plain_command(kind, self.client.namespace, key, value))
    }

    /// Any command, with conditions if wished.
    pub fn command(&mut self, command: &Command<'_>) -> &mut Batch<'c> {
        let namespaces = &self.client.shared.settings().namespaces;
        let route = Route::of_key(namespaces, command.namespace, command.key);
        let start = self.bytes.len();
        command.encode_into(&mut self.bytes);
        self.items.push((route, start..self.bytes.len()));
        self
    }

    /// How many writes were added.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none was added.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What to do when the answer to a frame is missing.
    pub fn retry_unknown(&mut self, retry: RetryUnknown) -> &mut Batch<'c> {
        self.retry_unknown = retry;
        self
    }

    /// How long all of it may take, retries included.
    pub fn deadline(&mut self, deadline: Duration) -> &mut Batch<'c> {
        self.deadline = deadline;
        self
    }

    /// The frames of each shard, in the order in which they must go.
    fn parts(&self) -> Vec<Vec<Part>> {
        let settings = self.client.shared.settings();
        let placement = self.client.shared.placement();
        let mut by_shard: BTreeMap<Option<u32>, Vec<Part>> = BTreeMap::new();
        for (position, (route, range)) in self.items.iter().enumerate() {
            let shard = match (route, &placement) {
                (Route::Slot(slot), Some(map)) => map.leader(*slot).map(|(shard, _)| shard),
                (Route::Any, _) | (_, None) => None,
            };
            let parts = by_shard.entry(shard).or_default();
            let bytes = &self.bytes[range.clone()];
            let has_room = parts.last().is_some_and(|part| {
                part.positions.len() < settings.batch_commands_max
                    && part.commands.len() + bytes.len() <= settings.batch_bytes_max
            });
            if !has_room {
                parts.push(Part::new(*route));
            }
            let part = parts.last_mut().expect("one was pushed");
            part.push(position, bytes);
        }
        by_shard.into_values().collect()
    }
}

/// What goes into one frame.
#[derive(Debug)]
struct Part {
    route: Route,
    /// Where its commands stand in the whole batch.
    positions: Vec<usize>,
    commands: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Part {
    fn new(route: Route) -> Part {
        Part {
            route,
            positions: Vec::new(),
            commands: Vec::new(),
            ends: Vec::new(),
        }
    }

    fn push(&mut self, position: usize, command: &[u8]) {
        self.positions.push(position);
        self.commands.extend_from_slice(command);
        self.ends.push(self.commands.len());
    }

    /// The frame of all commands but so many.
    fn call(&self, skipped: usize, effect: Effect) -> Call {
        let start = skipped.checked_sub(1).map_or(0, |last| self.ends[last]);
        let count = self.positions.len() - skipped;
        let mut body = length_u32(count).to_le_bytes().to_vec();
        body.extend_from_slice(&self.commands[start..]);
        Call {
            kind: FrameKind::Batch,
            body,
            effect,
            route: self.route,
        }
    }

    /// Sends the commands, and those at the end again that certainly were not carried out and may be. One before a
    /// command that was carried out is not sent again: they would change places.
    async fn run(
        self,
        shared: &Arc<Shared>,
        effect: Effect,
        deadline: Instant,
        answers: &mut Vec<(usize, Result<OwnedOutcome, Error>)>,
    ) -> Result<(), ()> {
        let mut journey = shared.journey();
        let mut answered_count = 0;
        while answered_count < self.positions.len() {
            let left = &self.positions[answered_count..];
            let call = self.call(answered_count, effect);
            let answered = match shared.call_on(&mut journey, call, deadline).await {
                Ok(answered) => answered,
                Err(error) => {
                    answers.extend(left.iter().map(|at| (*at, Err(error.clone()))));
                    return Err(());
                }
            };
            let items = answer_of!(answered.answer, Batch);
            let is_decided = |item: &Result<_, WireError>| match item {
                Ok(_) => true,
                Err(error) => !may_pass(effect, error),
            };
            let decided = items
                .iter()
                .rposition(is_decided)
                .map_or(0, |last| last + 1);
            let undone = items.get(decided).cloned();
            let mut outcomes = left.iter().zip(items).map(|(position, item)| {
                let outcome = item_outcome(item, answered.before.clone());
                (*position, outcome)
            });
            answers.extend(outcomes.by_ref().take(decided));
            answered_count += decided;
            let Some(Err(error)) = undone else {
                return Ok(());
            };
            let failure = Failure::server(error);
            let after = shared.after_failure(&mut journey, effect, failure, deadline);
            if after.await.is_err() {
                answers.extend(outcomes);
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Whether a command was not carried out, and may be if it is sent again.
fn may_pass(effect: Effect, error: &WireError) -> bool {
    let failure = Failure::server(error.clone());
    error.happened == Happened::NotDone && matches!(decide(effect, &failure), Verdict::Again(_))
}

fn item_outcome(
    item: Result<OwnedOutcome, WireError>,
    before: Option<Fault>,
) -> Result<OwnedOutcome, Error> {
    match item {
        Ok(outcome) => check_outcome(outcome, before),
        Err(error) if error.happened == Happened::Unknown => {
            let cause = Box::new(Fault::Server(error));
            Err(Error::OutcomeUnknown { cause })
        }
        // It was not done this time; nobody knows of the time before.
        Err(error) => Err(match before {
            Some(cause) => Error::OutcomeUnknown {
                cause: Box::new(cause),
            },
            None => failed(Fault::Server(error)),
        }),
    }
}

impl IntoFuture for &Batch<'_> {
    type Output = BatchAnswer;
    type IntoFuture = BatchOperation;

    fn into_future(self) -> BatchOperation {
        let shared = Arc::clone(&self.client.shared);
        let deadline = Instant::now() + self.deadline;
        let effect = Effect::Write(self.retry_unknown);
        let count = self.items.len();
        let parts = self.parts();
        Box::pin(async move {
            let mut running = JoinSet::new();
            for shard in parts {
                running.spawn(run_shard(Arc::clone(&shared), shard, effect, deadline));
            }
            let mut answers: BatchAnswer = Vec::new();
            // A command that the server did not answer, although it answered its frame.
            answers.resize(count, Err(unanswered()));
            for (position, answer) in running.join_all().await.into_iter().flatten() {
                answers[position] = answer;
            }
            answers
        })
    }
}

impl IntoFuture for Batch<'_> {
    type Output = BatchAnswer;
    type IntoFuture = BatchOperation;

    fn into_future(self) -> BatchOperation {
        (&self).into_future()
    }
}

fn unanswered() -> Error {
    let what = "the answer to a batch lacks commands";
    Error::OutcomeUnknown {
        cause: Box::new(Fault::Unreadable { what }),
    }
}

/// The frames of one shard, one after the other, so that its commands keep their order.
async fn run_shard(
    shared: Arc<Shared>,
    parts: Vec<Part>,
    effect: Effect,
    deadline: Instant,
) -> Vec<(usize, Result<OwnedOutcome, Error>)> {
    let mut answers = Vec::new();
    let mut parts = parts.into_iter();
    for part in parts.by_ref() {
        if part
            .run(&shared, effect, deadline, &mut answers)
            .await
            .is_err()
        {
            break;
        }
    }
    let skipped = parts.flat_map(|part| part.positions);
    answers.extend(skipped.map(|position| (position, Err(Error::Skipped))));
    answers
}
