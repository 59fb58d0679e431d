//! The client library: asynchronous, on tokio.
//!
//! A [`Client`] knows which core leads which keys, keeps one pipelined connection to each, and tries again what failed
//! where that is safe. It is cheap to clone and made to be shared.
//!
//! ```no_run
//! use metastore_net::async_client::{Client, ClientSettings};
//!
//! # async fn example() -> Result<(), metastore_net::async_client::Error> {
//! let client = Client::connect(["127.0.0.1:7400"], ClientSettings::default()).await?;
//!
//! // Operations are built, then awaited.
//! let written = client.put("/jobs/1", "waiting").if_absent().await?;
//! let read = client.get("/jobs/1").await?;
//! let row = read.row.expect("nobody deletes jobs");
//! assert_eq!(row.mod_revision, written.revision);
//!
//! // Compare and swap: only if nobody else was faster.
//! client
//!     .put("/jobs/1", "running")
//!     .expected_revision(row.mod_revision)
//!     .await?;
//!
//! // A directory, row by row; who reads slowly slows the server down and nobody else.
//! let mut jobs = client.range("/jobs/").children().stream().await?;
//! while let Some(job) = jobs.next().await? {
//!     println!("{} is {}", job.key.escape_ascii(), job.value.escape_ascii());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Transactions
//!
//! [`Client::transaction`] runs a function that reads and writes, and commits what it wrote if nothing that it read has
//! changed; otherwise it runs it again. Committed transactions are serializable. All that one touches must belong to one
//! shard, which with the default namespace means one directory; keys of several are refused with `CrossShard`, by name.
//! [`Client::txn`] is for a transaction that is known beforehand and needs one round trip.
//!
//! # Who is asked
//!
//! Writes go to whoever leads. So do reads, unless [`read_from`](ClientSettings::read_from) says [`ReadFrom::Any`]: then
//! all replicas of a shard are asked in turn. A node that gives no sign of life is left out for a while.
//!
//! # When something fails
//!
//! Every operation has a deadline, five seconds unless it or the settings say otherwise. It travels with the request, and
//! is kept here too. Until then:
//!
//! - What certainly did not happen is tried again: no connection, an overloaded server, a shard that moved, a request
//!   that had not left when its connection broke.
//! - Reads are tried again whatever happened.
//! - **A write that was sent and not answered is not sent again.** It may have happened, or may yet:
//!   [`Error::OutcomeUnknown`]. Look, and decide. A write that names the revision it changes
//!   ([`expected_revision`](Write::expected_revision)) cannot be applied twice, so the client sends that one again; and
//!   [`RetryUnknown::Yes`] asks it to do so with any write.
//!
//! [`Error::happened`] tells for each error whether the operation may have had its effect.
//!
//! # Limits
//!
//! Nothing is queued without bound. When the requests of a client hold as many bytes as
//! [`request_bytes_max`](ClientSettings::request_bytes_max) allows, or a connection's queue is full, operations wait for
//! room within their deadline. Every open range has a connection of its own, at most
//! [`ranges_max`](ClientSettings::ranges_max).
//!
//! # What it does not do
//!
//! It keeps no cache, opens no session, watches nothing and holds no locks. No read is answered with less than what was
//! acknowledged before it was asked, by whichever replica.

mod backoff;
mod batch;
mod call;
mod decide;
mod deletion;
mod error;
mod journey;
mod lane;
mod link;
mod placement;
mod range;
mod read;
mod settings;
mod shared;
mod streams;
mod structured;
mod suspects;
mod transaction;
mod wire;
mod write;

pub use crate::count::CountReply;
pub use crate::owned::{
    GetAnswer, GetManyAnswer, OwnedDetail, OwnedOutcome, OwnedRow, OwnedTxn, OwnedTxnResult,
};
pub use batch::{Batch, BatchAnswer, BatchOperation};
pub use error::{Error, Fault};
pub use range::{Range, RangeAnswer, RangeStream};
pub use read::{Get, GetMany};
pub use settings::{ClientSettings, ReadFrom, RetryUnknown};
pub use structured::{CommitDone, CompactDone, DeletedRange, StructuredWrite, TxnAnswer};
pub use transaction::{Committed, Entry, Transaction, TransactionOptions, TransactionRange};
pub use write::{Counted, Deleted, Write, Written};

use crate::frame::FrameKind;
use crate::shard_map::ShardMapReply;
use crate::status::StatusReply;
use call::{Call, CallResult, Effect, answer_of};
use metastore_statemachine::{CommandKind, NamespaceId};
use placement::Route;
use shared::Shared;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use write::Value;

/// An operation under way. It owns what it needs and may be moved to another task.
pub type Operation<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

fn boxed<T>(future: impl Future<Output = Result<T, Error>> + Send + 'static) -> Operation<T> {
    Box::pin(future)
}

/// A client of one store, in one namespace. Copies share connections.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    namespace: NamespaceId,
}

impl Client {
    /// Asks the given addresses, `host:port` of any cores, for the map of the store. It must be called, and the client
    /// used, on a tokio runtime with time and network.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when none answers; each is asked once.
    pub async fn connect<A: Into<String>>(
        seeds: impl IntoIterator<Item = A>,
        settings: ClientSettings,
    ) -> Result<Client, Error> {
        if let Some((name, rule)) = settings.fault() {
            return Err(Error::Setting { name, rule });
        }
        let seeds = seeds.into_iter().map(Into::into).collect();
        let deadline = Instant::now() + settings.deadline;
        let client = Client {
            shared: Arc::new(Shared::new(seeds, settings)),
            namespace: NamespaceId::DEFAULT,
        };
        let asked = client.shared.ask_for_map(deadline).await;
        asked.map_err(|last| Error::Unreachable {
            last: last.map(Box::new),
        })?;
        Ok(client)
    }

    /// The same client in another namespace.
    pub fn namespace(&self, namespace: NamespaceId) -> Client {
        Client {
            shared: Arc::clone(&self.shared),
            namespace,
        }
    }

    // Reads.

    /// Reads one key.
    pub fn get<'a>(&'a self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Get<'a> {
        Get::new(self, key.as_ref())
    }

    /// Reads several keys of one shard at one revision. With the default namespace's rule, keys of one directory are of
    /// one shard; others may be refused with `CrossShard`.
    pub fn get_many<'a, K: AsRef<[u8]> + ?Sized + 'a>(
        &'a self,
        keys: impl IntoIterator<Item = &'a K>,
    ) -> GetMany<'a> {
        GetMany::new(self, keys.into_iter().map(AsRef::as_ref).collect())
    }

    /// Reads the keys that begin with a prefix, in order.
    pub fn range<'a>(&'a self, prefix: &'a (impl AsRef<[u8]> + ?Sized)) -> Range<'a> {
        Range::new(self, prefix.as_ref())
    }

    // Writes.

    /// Sets a key to a value.
    pub fn put<'a>(
        &'a self,
        key: &'a (impl AsRef<[u8]> + ?Sized),
        value: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> Write<'a, Written> {
        let value = Value::Bytes(value.as_ref());
        Write::new(self, CommandKind::Put, key.as_ref(), value)
    }

    /// Removes a key.
    pub fn delete<'a>(&'a self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Write<'a, Deleted> {
        Write::new(self, CommandKind::Delete, key.as_ref(), Value::Bytes(&[]))
    }

    /// Puts bytes behind a value; an absent one counts as empty.
    pub fn append<'a>(
        &'a self,
        key: &'a (impl AsRef<[u8]> + ?Sized),
        bytes: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> Write<'a, Written> {
        let value = Value::Bytes(bytes.as_ref());
        Write::new(self, CommandKind::Append, key.as_ref(), value)
    }

    /// Adds to a counter; an absent one becomes the operand.
    pub fn add<'a>(
        &'a self,
        key: &'a (impl AsRef<[u8]> + ?Sized),
        operand: i64,
    ) -> Write<'a, Counted> {
        self.counter(CommandKind::AddI64, key.as_ref(), operand)
    }

    /// Raises a counter to at least the operand; an absent one becomes the operand.
    pub fn max<'a>(
        &'a self,
        key: &'a (impl AsRef<[u8]> + ?Sized),
        operand: i64,
    ) -> Write<'a, Counted> {
        self.counter(CommandKind::MaxI64, key.as_ref(), operand)
    }

    /// Lowers a counter to at most the operand; an absent one becomes the operand.
    pub fn min<'a>(
        &'a self,
        key: &'a (impl AsRef<[u8]> + ?Sized),
        operand: i64,
    ) -> Write<'a, Counted> {
        self.counter(CommandKind::MinI64, key.as_ref(), operand)
    }

    fn counter<'a>(&'a self, kind: CommandKind, key: &'a [u8], operand: i64) -> Write<'a, Counted> {
        Write::new(self, kind, key, Value::Number(operand))
    }

    /// Independent writes, many in one frame.
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(self)
    }

    // The store.

    /// Asks some core for a sign of life.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ping(&self) -> Result<(), Error> {
        read::ask(self, FrameKind::Ping).await.map(drop)
    }

    /// Asks some core what it is doing.
    ///
    /// # Errors
    /// Nothing has happened whatever the error.
    pub async fn status(&self) -> Result<StatusReply, Error> {
        let answer = read::ask(self, FrameKind::Status).await?;
        Ok(answer_of!(answer, Status))
    }

    /// Asks which core leads which slots.
    ///
    /// # Errors
    /// Nothing has happened whatever the error.
    pub async fn shard_map(&self) -> Result<ShardMapReply, Error> {
        let answer = read::ask(self, FrameKind::ShardMap).await?;
        Ok(answer_of!(answer, ShardMap))
    }

    // Calls.

    /// A request that is best sent to the core that leads a key.
    fn call_on_key(
        &self,
        kind: FrameKind,
        key: &[u8],
        effect: Effect,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Call {
        let mut body = Vec::new();
        encode(&mut body);
        let namespaces = &self.shared.settings().namespaces;
        Call {
            kind,
            body,
            effect,
            route: Route::of_key(namespaces, self.namespace, key),
        }
    }

    /// Starts the clock; the rest happens when the future is polled.
    fn run(
        &self,
        call: Call,
        deadline: Duration,
    ) -> impl Future<Output = CallResult> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        let deadline = Instant::now() + deadline;
        async move { shared.call(call, deadline).await }
    }
}
