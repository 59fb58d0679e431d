//! Writes with structure, each one command: transactions that are known beforehand, commits, range deletes, compaction.

use crate::async_client::Client;
use crate::async_client::call::{Answered, Call, Effect, answer_of};
use crate::async_client::deletion::delete_parts;
use crate::async_client::error::{Error, Fault};
use crate::async_client::placement::Route;
use crate::async_client::settings::RetryUnknown;
use crate::async_client::write::{check_outcome, plain_command};
use crate::async_client::{Operation, boxed};
use crate::frame::FrameKind;
use crate::owned::{OwnedDetail, OwnedOutcome, OwnedTxnResult};
use metastore_statemachine::{
    Branch, CommandKind, Commit, KeyRange, OutcomeCode, Revision, Scope, ShardRevision, Structured,
    Txn,
};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What a transaction came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnAnswer {
    /// Which list was done: `then` if every compare held.
    pub branch: Branch,
    /// The revision that its writes took; the current one if it wrote nothing.
    pub revision: Revision,
    /// One result an operation of that list.
    pub results: Vec<OwnedTxnResult>,
}

/// A commit was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitDone {
    /// The revision that it took.
    pub revision: Revision,
}

/// The keys of a range are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedRange {
    /// How many there were.
    pub count: u64,
    /// What each shard took; empty when it was one shard.
    pub revisions: Vec<ShardRevision>,
    /// The revision that the last part took, if it was one shard.
    pub revision: Revision,
}

/// History was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactDone {
    /// The current revision.
    pub revision: Revision,
}

/// A write with structure, to be `.await`ed. `T` is its answer: [`TxnAnswer`], [`CommitDone`], [`DeletedRange`] or
/// [`CompactDone`].
#[derive(Debug, Clone)]
#[must_use = "nothing is written until it is awaited"]
pub struct StructuredWrite<'c, T> {
    client: &'c Client,
    structured: Structured<'c>,
    key: &'c [u8],
    retry_unknown: RetryUnknown,
    deadline: Duration,
    answer: PhantomData<fn() -> T>,
}

/// For commands that are not routed by their key, which may not be empty all the same.
const ANY_KEY: &[u8] = b"\0";

impl Client {
    /// A transaction that is known beforehand: compares, then one of two lists of operations, all at one revision or not
    /// at all. Everything that it names must belong to one shard.
    pub fn txn<'c>(&'c self, txn: Txn<'c>) -> StructuredWrite<'c, TxnAnswer> {
        StructuredWrite::new(self, Structured::Txn(txn), None)
    }

    /// Applies mutations if nothing of what was read has changed since: what [`Client::transaction`] ends with, for those
    /// who keep the reads themselves. [`Error::TransactionConflict`] when something has.
    pub fn commit<'c>(&'c self, commit: Commit<'c>) -> StructuredWrite<'c, CommitDone> {
        StructuredWrite::new(self, Structured::Commit(commit), None)
    }

    /// Deletes every key that begins with a prefix, in slices: it is not atomic, and one that ends early can be sent
    /// again. Keys that others put until it returns may be deleted as well, wherever they lie in the range.
    pub fn delete_range<'c>(
        &'c self,
        prefix: &'c (impl AsRef<[u8]> + ?Sized),
    ) -> StructuredWrite<'c, DeletedRange> {
        let range = KeyRange::subtree(prefix.as_ref());
        StructuredWrite::new(self, Structured::DeleteRange(range), None)
    }

    /// Forgets what happened before a revision in the shard of a key.
    pub fn compact<'c>(
        &'c self,
        key: &'c (impl AsRef<[u8]> + ?Sized),
        revision: Revision,
    ) -> StructuredWrite<'c, CompactDone> {
        StructuredWrite::new(self, Structured::Compact(revision), Some(key.as_ref()))
    }
}

impl<'c, T> StructuredWrite<'c, T> {
    fn new(
        client: &'c Client,
        structured: Structured<'c>,
        key: Option<&'c [u8]>,
    ) -> StructuredWrite<'c, T> {
        let settings = client.shared.settings();
        StructuredWrite {
            key: key.or_else(|| structured.first_named()).unwrap_or(ANY_KEY),
            structured,
            retry_unknown: settings.retry_unknown,
            deadline: settings.deadline,
            client,
            answer: PhantomData,
        }
    }

    /// What to do when an answer is missing.
    pub fn retry_unknown(mut self, retry: RetryUnknown) -> StructuredWrite<'c, T> {
        self.retry_unknown = retry;
        self
    }

    /// How long it may take, retries included.
    pub fn deadline(mut self, deadline: Duration) -> StructuredWrite<'c, T> {
        self.deadline = deadline;
        self
    }

    fn start(self) -> impl Future<Output = Result<Answered, Error>> + Send + use<T> {
        let client = self.client;
        let value = self.structured.encode();
        let command = plain_command(self.structured.kind(), client.namespace, self.key, &value);
        let mut body = Vec::new();
        command.encode_into(&mut body);
        let namespaces = &client.shared.settings().namespaces;
        let route = Route::of_key(namespaces, client.namespace, self.key);
        let call = Call {
            kind: FrameKind::Command,
            body,
            effect: Effect::Write(self.retry_unknown),
            route,
        };
        client.run(call, self.deadline)
    }
}

impl<'c> StructuredWrite<'c, DeletedRange> {
    fn range(
        mut self,
        change: impl FnOnce(&mut KeyRange<'c>),
    ) -> StructuredWrite<'c, DeletedRange> {
        if let Structured::DeleteRange(range) = &mut self.structured {
            change(range);
        }
        self
    }

    /// Only the entries of the directory: keys without a `/` behind the prefix.
    pub fn children(self) -> StructuredWrite<'c, DeletedRange> {
        self.range(|range| range.scope = Scope::Children { separator: b'/' })
    }

    /// Begins at this key, itself included.
    pub fn start_at(
        self,
        key: &'c (impl AsRef<[u8]> + ?Sized),
    ) -> StructuredWrite<'c, DeletedRange> {
        self.range(|range| range.start = key.as_ref())
    }

    /// Ends before this key.
    pub fn end(self, key: &'c (impl AsRef<[u8]> + ?Sized)) -> StructuredWrite<'c, DeletedRange> {
        self.range(|range| range.end = key.as_ref())
    }
}

impl IntoFuture for StructuredWrite<'_, TxnAnswer> {
    type Output = Result<TxnAnswer, Error>;
    type IntoFuture = Operation<TxnAnswer>;

    fn into_future(self) -> Operation<TxnAnswer> {
        let answered = self.start();
        boxed(async move {
            let outcome = outcome_of(answered.await?)?;
            let Some(OwnedDetail::Txn(txn)) = outcome.detail else {
                return Err(unreadable("the answer lacks the transaction's results"));
            };
            Ok(TxnAnswer {
                branch: txn.branch,
                revision: outcome.revision,
                results: txn.results,
            })
        })
    }
}

impl IntoFuture for StructuredWrite<'_, CommitDone> {
    type Output = Result<CommitDone, Error>;
    type IntoFuture = Operation<CommitDone>;

    fn into_future(self) -> Operation<CommitDone> {
        let answered = self.start();
        boxed(async move {
            let revision = check_commit(answered.await?, 1)?;
            Ok(CommitDone { revision })
        })
    }
}

impl IntoFuture for StructuredWrite<'_, DeletedRange> {
    type Output = Result<DeletedRange, Error>;
    type IntoFuture = Operation<DeletedRange>;

    fn into_future(self) -> Operation<DeletedRange> {
        let Structured::DeleteRange(range) = &self.structured else {
            unreachable!("only ranges to delete are answered so");
        };
        let client = self.client;
        let namespace = client.namespace;
        let namespaces = &client.shared.settings().namespaces;
        let route = Route::of_range(namespaces, namespace, range.prefix, range.scope);
        // One call for each shard where they are led from several nodes; else one for all.
        let apart = match route {
            Route::Any => client.shared.shards_apart(),
            Route::Slot(_) => None,
        };
        let call_of = |shards: &[u32], route| {
            let value = range.encode_delete(shards);
            let command = plain_command(CommandKind::DeleteRange, namespace, self.key, &value);
            let mut body = Vec::new();
            command.encode_into(&mut body);
            Call {
                kind: FrameKind::Command,
                body,
                effect: Effect::Write(self.retry_unknown),
                route,
            }
        };
        let calls: BTreeMap<u32, Call> = match apart {
            Some(shards) => shards
                .into_iter()
                .map(|(shard, slot)| (shard, call_of(&[shard], Route::Slot(slot))))
                .collect(),
            None => BTreeMap::from([(0, call_of(&[], route))]),
        };
        let shared = Arc::clone(&client.shared);
        let deadline = Instant::now() + self.deadline;
        boxed(async move { delete_parts(shared, calls, deadline).await })
    }
}

impl IntoFuture for StructuredWrite<'_, CompactDone> {
    type Output = Result<CompactDone, Error>;
    type IntoFuture = Operation<CompactDone>;

    fn into_future(self) -> Operation<CompactDone> {
        let answered = self.start();
        boxed(async move {
            let revision = outcome_of(answered.await?)?.revision;
            Ok(CompactDone { revision })
        })
    }
}

fn outcome_of(answered: Answered) -> Result<OwnedOutcome, Error> {
    let outcome = answer_of!(answered.answer, Command);
    check_outcome(outcome, answered.before)
}

/// The revision that a commit took.
pub(super) fn check_commit(answered: Answered, attempts: u32) -> Result<Revision, Error> {
    let outcome = answer_of!(answered.answer, Command);
    if outcome.code != OutcomeCode::Conflict || answered.before.is_some() {
        return Ok(check_outcome(outcome, answered.before)?.revision);
    }
    let key = match outcome.detail {
        Some(OwnedDetail::ConflictKey(key) | OwnedDetail::ConflictPrefix(key)) => key,
        Some(
            OwnedDetail::Txn(_)
            | OwnedDetail::ResumeAfter(_)
            | OwnedDetail::FailedStep(_)
            | OwnedDetail::ShardRevisions(_),
        )
        | None => Vec::new(),
    };
    Err(Error::TransactionConflict {
        key,
        revision: outcome.revision,
        attempts,
    })
}

fn unreadable(what: &'static str) -> Error {
    Error::OutcomeUnknown {
        cause: Box::new(Fault::Unreadable { what }),
    }
}
