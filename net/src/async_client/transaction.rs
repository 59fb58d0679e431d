//! Interactive transactions: read, think, write, and commit if nothing that was read has changed.

mod buffer;
mod commit;
mod range;

use crate::async_client::Client;
use crate::async_client::backoff::Backoff;
use crate::async_client::error::Error;
use crate::async_client::placement::Route;
use crate::owned::OwnedRow;
use crate::read::ReadPosition;
use crate::wire_error::{ErrorCode, WireError};
use buffer::{ReadSet, WriteBuffer};
use commit::CommitAnswer;
use metastore_statemachine::{CommandKind, Revision};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub use range::TransactionRange;

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
            Ask::Range { range, .. } => range.prefix(),
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
        TransactionRange::new(self.clone(), prefix.as_ref())
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
