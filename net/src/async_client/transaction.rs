//! Interactive transactions: read, think, write, and commit if nothing that was read has changed.

mod buffer;
mod commit;

use crate::async_client::Client;
use crate::async_client::backoff::Backoff;
use crate::async_client::error::Error;
use crate::async_client::placement::Route;
use crate::owned::OwnedRow;
use crate::range::ShardRevision;
use crate::read::ReadPosition;
use crate::wire_error::{ErrorCode, WireError};
use buffer::{OwnedRange, ReadSet, WriteBuffer};
use commit::CommitAnswer;
use metastore_statemachine::{CommandKind, Direction, Revision, Scope};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How a transaction is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionOptions {
    /// How long all attempts together may take.
    pub deadline: Duration,
    /// How often it is tried before its conflict is reported.
    pub attempts_max: u32,
}

/// A transaction that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed<T> {
    /// What the transaction's function returned.
    pub value: T,
    /// The revision that its writes took; none when it wrote nothing.
    pub revision: Option<Revision>,
    /// The revision at which it read; none when it read nothing.
    pub read_revision: Option<Revision>,
    /// How often it was tried.
    pub attempts: u32,
}

/// A key with its value, as a transaction sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// A transaction under way; copies are the same transaction. See [`Client::transaction`].
///
/// All reads show one revision, that of the first, with the transaction's own writes over it. Writes are kept here until
/// the commit. Everything must belong to one shard: with the default namespace's rule, to one directory.
#[derive(Debug, Clone)]
pub struct Transaction {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    deadline: Instant,
    /// Where the first read was answered. Held while that one is under way: the others must be read at its revision.
    position: tokio::sync::Mutex<Option<ReadPosition>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    reads: ReadSet,
    writes: WriteBuffer,
    /// A key of the transaction and its shard, as far as this client can place keys.
    home: Option<(Vec<u8>, u32)>,
    /// Why this attempt cannot be committed any more.
    restart: Option<Error>,
}

/// What a transaction reads.
enum Ask<'a> {
    Key(&'a [u8]),
    Range {
        range: &'a TransactionRange<'a>,
        limit: u64,
    },
}

impl<'a> Ask<'a> {
    /// What an error calls it.
    fn label(&self) -> &'a [u8] {
        match self {
            Ask::Key(key) => key,
            Ask::Range { range, .. } => range.prefix,
        }
    }
}

impl Client {
    /// Runs a transaction: calls `body`, commits what it wrote if nothing that it read has changed, and otherwise calls
    /// it again. Committed transactions are serializable: each is as if it had run alone at its revision.
    ///
    /// `body` may be called many times and should do nothing else that matters. When it fails, nothing is written and
    /// its error is returned. A commit whose answer is lost is [`Error::OutcomeUnknown`], as any write.
    ///
    /// ```no_run
    /// # use metastore_net::async_client::{Client, Error};
    /// # async fn example(client: Client) -> Result<(), Error> {
    /// let moved = client
    ///     .transaction(|tx| async move {
    ///         let Some(record) = tx.get("/jobs/waiting-7").await? else {
    ///             return Ok(false);
    ///         };
    ///         tx.delete("/jobs/waiting-7");
    ///         tx.put("/jobs/running-7", record);
    ///         Ok::<bool, Error>(true)
    ///     })
    ///     .await?;
    /// println!("moved: {} at {:?}", moved.value, moved.revision);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The body's own, or [`Error::TransactionConflict`] when others were faster too often.
    pub async fn transaction<T, E, F, R>(&self, body: F) -> Result<Committed<T>, E>
    where
        E: From<Error>,
        F: FnMut(Transaction) -> R,
        R: Future<Output = Result<T, E>>,
    {
        let settings = self.shared.settings();
        let options = TransactionOptions {
            deadline: settings.deadline,
            attempts_max: settings.transaction_attempts_max,
        };
        self.transaction_with(options, body).await
    }

    /// [`Client::transaction`] with options of its own.
    ///
    /// # Errors
    /// As there.
    pub async fn transaction_with<T, E, F, R>(
        &self,
        options: TransactionOptions,
        mut body: F,
    ) -> Result<Committed<T>, E>
    where
        E: From<Error>,
        F: FnMut(Transaction) -> R,
        R: Future<Output = Result<T, E>>,
    {
        let deadline = Instant::now() + options.deadline;
        let settings = self.shared.settings();
        let mut backoff = Backoff::new(settings.backoff_min, settings.backoff_max);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let transaction = Transaction::new(self, deadline);
            let result = body(transaction.clone()).await;
            let conflict = match transaction.take_restart() {
                // Whatever the body made of it, what it saw was not one state.
                Some(conflict) => conflict,
                None => {
                    let value = result?;
                    match transaction.commit(attempts).await {
                        Ok(answer) => return Ok(answer.with(value, attempts)),
                        Err(conflict) if is_conflict(&conflict) => conflict,
                        Err(error) => return Err(error.into()),
                    }
                }
            };
            let pause = backoff.next();
            if attempts >= options.attempts_max || Instant::now() + pause >= deadline {
                return Err(conflict.into());
            }
            sleep(pause).await;
        }
    }
}

/// The revision that the server's error names.
fn revision_of(error: &Error) -> Revision {
    if let Error::Server(error) = error {
        error.revision
    } else {
        Revision(0)
    }
}

/// Whether another attempt of the transaction may end better.
fn is_conflict(error: &Error) -> bool {
    matches!(
        error,
        Error::TransactionConflict { .. } | Error::Compacted { .. } | Error::FutureRevision { .. }
    )
}

impl Transaction {
    fn new(client: &Client, deadline: Instant) -> Transaction {
        Transaction {
            inner: Arc::new(Inner {
                client: client.clone(),
                deadline,
                position: tokio::sync::Mutex::new(None),
                state: Mutex::new(State::default()),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn take_restart(&self) -> Option<Error> {
        self.state().restart.take()
    }

    // Writes.

    /// Sets a key to a value.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.write(CommandKind::Put, key.as_ref(), value.as_ref());
    }

    /// Removes a key, if it is there.
    pub fn delete(&self, key: impl AsRef<[u8]>) {
        self.write(CommandKind::Delete, key.as_ref(), &[]);
    }

    /// Adds to a counter without reading it: two transactions that only add do not conflict.
    pub fn add(&self, key: impl AsRef<[u8]>, operand: i64) {
        self.write(CommandKind::AddI64, key.as_ref(), &operand.to_le_bytes());
    }

    /// Puts bytes behind a value without reading it.
    pub fn append(&self, key: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) {
        self.write(CommandKind::Append, key.as_ref(), bytes.as_ref());
    }

    fn write(&self, kind: CommandKind, key: &[u8], value: &[u8]) {
        self.state().writes.push(kind, key, value);
    }

    // Reads.

    /// The value of a key, `None` when it is absent.
    ///
    /// # Errors
    /// When it cannot be read. After a conflict the transaction is run again whatever its body does with the error.
    pub async fn get(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Result<Option<Vec<u8>>, Error> {
        let key = key.as_ref();
        let known = self.state().writes.known(key);
        if let Some(value) = known {
            return Ok(value);
        }
        self.settle(key)?;
        self.state().reads.add_key(key)?;
        let rows = self.read(&Ask::Key(key)).await?;
        let value = rows.into_iter().next().map(|row| row.value);
        self.state().writes.over(key, value)
    }

    /// The keys that begin with a prefix, in order.
    pub fn range<'a>(&self, prefix: &'a (impl AsRef<[u8]> + ?Sized)) -> TransactionRange<'a> {
        TransactionRange {
            transaction: self.clone(),
            prefix: prefix.as_ref(),
            start: &[],
            end: &[],
            scope: Scope::Subtree,
            direction: Direction::Forward,
            limit: 0,
        }
    }

    /// Reads at the transaction's revision; the first read finds it.
    async fn read(&self, ask: &Ask<'_>) -> Result<Vec<OwnedRow>, Error> {
        let mut first = self.inner.position.lock().await;
        let Some(expected) = *first else {
            let (position, rows) = self.ask_at(ask, None).await?;
            *first = Some(position);
            return Ok(rows);
        };
        drop(first);
        // Revision 0, before the first change, cannot be asked for: the newest must still be it.
        let at = (expected.revision > Revision(0)).then_some(expected.revision);
        let asked = self.ask_at(ask, at).await;
        let (position, rows) = asked.map_err(|error| self.note_conflict(error))?;
        if position.shard != expected.shard {
            return Err(self.cross_shard(ask.label()));
        }
        if position.revision != expected.revision {
            return Err(self.note_conflict(Error::TransactionConflict {
                key: ask.label().to_vec(),
                revision: position.revision,
                attempts: 0,
            }));
        }
        Ok(rows)
    }

    async fn ask_at(
        &self,
        ask: &Ask<'_>,
        at: Option<Revision>,
    ) -> Result<(ReadPosition, Vec<OwnedRow>), Error> {
        let deadline = self.inner.deadline;
        let left = deadline.saturating_duration_since(Instant::now());
        match ask {
            Ask::Key(key) => {
                let mut get = self.inner.client.get(*key).deadline(left);
                if let Some(revision) = at {
                    get = get.at(revision);
                }
                let answer = get.await?;
                Ok((answer.position, answer.row.into_iter().collect()))
            }
            Ask::Range { range, limit } => range.fetch(at, left, *limit).await,
        }
    }

    /// An error after which the transaction must be run again is remembered, in case its body swallows it.
    fn note_conflict(&self, error: Error) -> Error {
        let conflict = match error.code() {
            Some(ErrorCode::Compacted) => Error::Compacted {
                oldest: revision_of(&error),
            },
            Some(ErrorCode::FutureRevision) => Error::FutureRevision {
                current: revision_of(&error),
            },
            Some(_) | None => error,
        };
        if is_conflict(&conflict) {
            self.state().restart = Some(conflict.clone());
        }
        conflict
    }

    /// The transaction belongs to the shard of the first key that it reads. A revision means nothing in another, so
    /// this must be known before one is asked for it.
    fn settle(&self, key: &[u8]) -> Result<(), Error> {
        let client = &self.inner.client;
        let namespaces = &client.shared.settings().namespaces;
        match Route::of_key(namespaces, client.namespace, key) {
            Route::Slot(slot) => self.settle_in(slot, key),
            Route::Any => Ok(()),
        }
    }

    fn settle_in(&self, slot: metastore_statemachine::Slot, key: &[u8]) -> Result<(), Error> {
        let Some(placement) = self.inner.client.shared.placement() else {
            return Ok(());
        };
        let Some((shard, _)) = placement.leader(slot) else {
            return Ok(());
        };
        let mut state = self.state();
        let (_, home) = state.home.get_or_insert_with(|| (key.to_vec(), shard));
        let is_home = *home == shard;
        drop(state);
        if is_home {
            Ok(())
        } else {
            Err(self.cross_shard(key))
        }
    }

    fn cross_shard(&self, key: &[u8]) -> Error {
        let home = self.state().home.as_ref().map(|(key, _)| key.clone());
        let mut error = WireError::new(ErrorCode::CrossShard);
        error.keys = home.into_iter().chain([key.to_vec()]).collect();
        Error::Server(Box::new(error))
    }
}

/// A range read within a transaction. Made by [`Transaction::range`].
#[derive(Debug, Clone)]
#[must_use = "a range is read by `collect`"]
pub struct TransactionRange<'a> {
    transaction: Transaction,
    prefix: &'a [u8],
    start: &'a [u8],
    end: &'a [u8],
    scope: Scope,
    direction: Direction,
    limit: usize,
}

impl<'a> TransactionRange<'a> {
    /// Only the entries of the directory: keys without a `/` behind the prefix.
    pub fn children(mut self) -> TransactionRange<'a> {
        self.scope = Scope::Children { separator: b'/' };
        self
    }

    /// Begins at this key, itself included.
    pub fn start(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> TransactionRange<'a> {
        self.start = key.as_ref();
        self
    }

    /// Ends before this key.
    pub fn end(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> TransactionRange<'a> {
        self.end = key.as_ref();
        self
    }

    /// Descending keys.
    pub fn reverse(mut self) -> TransactionRange<'a> {
        self.direction = Direction::Reverse;
        self
    }

    /// At most this many entries; 0 for all. What lies behind the last one does not become part of what was read.
    pub fn limit(mut self, entries: usize) -> TransactionRange<'a> {
        self.limit = entries;
        self
    }

    /// Reads the entries. That nothing else lies in the range is part of what was read: a key that somebody adds to it
    /// is a conflict.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub async fn collect(self) -> Result<Vec<Entry>, Error> {
        let transaction = &self.transaction;
        self.settle()?;
        let asked = OwnedRange {
            prefix: self.prefix.to_vec(),
            start: self.start.to_vec(),
            end: self.end.to_vec(),
            scope: self.scope,
        };
        // Own deletes take rows away from those that were asked for.
        let own = transaction.state().writes.count_in(&asked);
        let fetched_max = match self.limit {
            0 => 0,
            limit => limit + own,
        };
        let ask = Ask::Range {
            range: &self,
            limit: fetched_max as u64,
        };
        let rows = transaction.read(&ask).await?;
        let is_cut = fetched_max > 0 && rows.len() == fetched_max;
        let seen = match rows.last() {
            Some(last) if is_cut => asked.up_to(&last.key, self.direction),
            Some(_) | None => asked,
        };
        let mut state = transaction.state();
        state.reads.add_range(seen.clone())?;
        let mut entries = state.writes.over_range(&seen, rows, self.direction)?;
        if self.limit > 0 {
            entries.truncate(self.limit);
        }
        Ok(entries)
    }

    async fn fetch(
        &self,
        at: Option<Revision>,
        left: Duration,
        limit: u64,
    ) -> Result<(ReadPosition, Vec<OwnedRow>), Error> {
        let client = &self.transaction.inner.client;
        let mut range = client
            .range(self.prefix)
            .start(self.start)
            .end(self.end)
            .limit(limit)
            .deadline(left);
        if let Scope::Children { separator } = self.scope {
            range = range.children_by(separator);
        }
        if self.direction == Direction::Reverse {
            range = range.reverse();
        }
        if let Some(revision) = at {
            range = range.at(revision);
        }
        let answer = range.collect().await?;
        let &[ShardRevision { shard, revision }] = answer.revisions.as_slice() else {
            return Err(self.transaction.cross_shard(self.prefix));
        };
        Ok((ReadPosition { shard, revision }, answer.rows))
    }

    /// As [`Transaction::settle`]; a range over several shards cannot be read at a revision of one.
    fn settle(&self) -> Result<(), Error> {
        let client = &self.transaction.inner.client;
        let namespaces = &client.shared.settings().namespaces;
        match Route::of_range(namespaces, client.namespace, self.prefix, self.scope) {
            Route::Slot(slot) => self.transaction.settle_in(slot, self.prefix),
            Route::Any if namespaces.rule(client.namespace).is_none() => Ok(()),
            Route::Any => {
                let placement = client.shared.placement();
                if placement.is_some_and(|map| map.shard_count() > 1) {
                    Err(self.transaction.cross_shard(self.prefix))
                } else {
                    Ok(())
                }
            }
        }
    }
}

impl CommitAnswer {
    fn with<T>(self, value: T, attempts: u32) -> Committed<T> {
        Committed {
            value,
            revision: self.revision,
            read_revision: self.read_revision,
            attempts,
        }
    }
}
