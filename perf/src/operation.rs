//! What one operation of the load is, how its request is made, and whether its answer is right.

use std::collections::VecDeque;

use metastore_net::{ErrorCode, Happened, WireError};
use metastore_statemachine::{OutcomeCode, Revision};
use serde::{Deserialize, Serialize};

use crate::key_leaders::KeyLeaders;
use crate::keys::{Key, KeySpace, ValuePool};
use crate::protocol::{FoundRow, Page, Puts, Reply, Request};
use crate::random::Random;
use crate::routes::Routes;
use crate::zipfian::Zipfian;

/// The seed of all load: two runs ask for the same keys in the same order.
const SEED: u64 = 0x006d_6574_6173_746f;

/// Most rows of a list: one page of a directory.
const LIST_ROWS_MAX: u64 = 100;

/// Reads whose revisions are kept for the compare-and-swap that will follow.
const READS_KEPT_MAX: usize = 64;

/// What is asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Nothing: the cost of a socket and a turn of the server.
    Ping,
    /// Sets a loaded key to a new value.
    Put(KeySpace),
    /// Reads a loaded key linearizably.
    Get(KeySpace),
    /// Sets a loaded key to a new value if nobody has changed it since this client has read it. That somebody has is
    /// an answer as good as any other.
    CompareAndSwap(KeySpace),
    /// Reads a page of a loaded key's directory, from the key on.
    List(KeySpace),
    /// Sets so many different loaded keys to new values, in one request.
    Batch(KeySpace, u32),
}

/// What is asked for in which shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    /// One and the same.
    Only(Operation),
    /// What clients of metadata ask: 80 % get, 15 % put, 4 % compare-and-swap, 1 % list.
    Metadata(KeySpace),
}

/// The name of an operation, in whichever keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OperationKind {
    Ping,
    Get,
    Put,
    CompareAndSwap,
    List,
    Batch,
}

/// A request that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) operation: Operation,
    /// The key's number, that of the first one of a batch, 0 where there is none.
    number: u64,
    /// What a compare-and-swap expects.
    revision: Revision,
    /// Rows of a list that have arrived.
    rows: u64,
    /// The lane to whoever leads the key, where that matters.
    pub(crate) lane: u16,
}

/// How an operation ended that did what it was measured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Done,
    /// A compare-and-swap came too late.
    Conflict,
    /// More of the answer follows.
    Unfinished,
}

/// Why an operation did not do what it was measured for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The store answered with an error.
    #[error("the store answered: {0}")]
    Refused(WireError),
    /// So did redis.
    #[error("redis answered: {message}")]
    Redis {
        /// Its words.
        message: String,
    },
    /// So did etcd.
    #[error("etcd answered with gRPC status {status}: {message}")]
    Etcd {
        /// A code of gRPC.
        status: u32,
        /// Its words.
        message: String,
    },
    /// Etcd answered, and not as gRPC does.
    #[error("etcd answered with HTTP status {status}")]
    EtcdHttp {
        /// A code of HTTP.
        status: u32,
    },
    /// Etcd broke off in the middle of an answer, or before it.
    #[error("etcd gave up a call: {message}")]
    EtcdStream {
        /// What is known of it.
        message: String,
    },
    /// A put did not take effect.
    #[error("a put ended as {0:?}")]
    Outcome(OutcomeCode),
    /// A get did not find a loaded key, or a list does not begin with it.
    #[error("a loaded key is absent")]
    Absent,
    /// A get found something else than what was loaded.
    #[error("a value has {found_bytes} bytes instead of {expected_bytes}")]
    ValueLength {
        /// What was loaded.
        expected_bytes: usize,
        /// What was found.
        found_bytes: usize,
    },
    /// A batch did not put what it should.
    #[error("a batch of {expected} puts was answered for {found}")]
    BatchCount {
        /// How many puts were asked for.
        expected: u64,
        /// How many were answered.
        found: u64,
    },
    /// A value is not the one that was stored.
    #[error("a value is not what was stored")]
    OtherValue,
    /// A directory does not list what was stored in it.
    #[error("a directory lists {found} entries instead of {expected}")]
    EntryCount {
        /// What was stored.
        expected: u64,
        /// What was listed.
        found: u64,
    },
    /// The answer is of another kind than the question.
    #[error("the answer does not fit the question")]
    Mismatch,
}

/// Makes requests without allocating.
#[derive(Debug)]
pub(crate) struct RequestMaker {
    zipfian: Zipfian,
    random: Random,
    values: ValuePool,
    /// Number and revision of keys that were read lately, the newest last.
    reads: VecDeque<(u64, Revision)>,
    /// The key of the request that is made.
    key: Key,
    batch: BatchKeys,
    /// Of a cluster.
    leaders: Option<KeyLeaders>,
}

impl RequestMaker {
    /// Requests about keys 0 to `keys` - 1 of their space.
    pub(crate) fn new(keys: u64) -> RequestMaker {
        let mut random = Random::new(SEED);
        RequestMaker {
            zipfian: Zipfian::new(keys),
            values: ValuePool::new(&mut random),
            random,
            reads: VecDeque::with_capacity(READS_KEPT_MAX),
            key: Key::default(),
            batch: BatchKeys::default(),
            leaders: None,
        }
    }

    /// From now on requests about a space say which lane leads to whoever leads their key, and a batch holds keys of one
    /// lane only. Without routes all of that is nothing.
    pub(crate) fn follow(&mut self, routes: Option<&Routes>, space: Option<KeySpace>) {
        let keys = self.key_count();
        self.leaders = routes.zip(space).map(|(routes, space)| {
            let former = self.leaders.take();
            let same = former.filter(|former| former.is_of(routes, space));
            same.unwrap_or_else(|| KeyLeaders::new(routes, space, keys))
        });
    }

    /// Names the lane of each shard.
    pub(crate) fn set_lanes(&mut self, lanes: &[u16]) {
        if let Some(leaders) = &mut self.leaders {
            leaders.set_lanes(lanes);
        }
    }

    /// The shard that an operation is about, the first one where it is about no key.
    pub(crate) fn shard_of(&self, asked: &Asked) -> usize {
        let leaders = self.leaders.as_ref();
        leaders.map_or(0, |leaders| leaders.shard(asked.number))
    }

    /// How many keys a batch may hold at most: those that one lane leads to.
    pub(crate) fn batch_keys_max(&self) -> usize {
        let all = usize::try_from(self.key_count()).unwrap_or(usize::MAX);
        self.leaders.as_ref().map_or(all, KeyLeaders::fewest_keys)
    }

    /// How many keys are asked for.
    pub(crate) fn key_count(&self) -> u64 {
        self.zipfian.count()
    }

    /// The next value of the pool.
    pub(crate) fn next_value(&mut self, value_bytes: usize) -> &[u8] {
        self.values.next(value_bytes)
    }

    /// From now on another system is asked, of which nothing has been read.
    pub(crate) fn forget_reads(&mut self) {
        self.reads.clear();
    }

    /// The next request.
    pub(crate) fn next_request(&mut self, mix: Mix) -> (Request<'_>, Asked) {
        match mix.choose(&mut self.random) {
            Operation::CompareAndSwap(space) => match self.reads.pop_back() {
                Some((number, revision)) => {
                    let operation = Operation::CompareAndSwap(space);
                    let asked = Asked {
                        revision,
                        ..self.asked(operation, number)
                    };
                    (self.request(&asked), asked)
                }
                // It begins with a read, and none has been answered.
                None => self.next_of(Operation::Get(space)),
            },
            operation @ (Operation::Ping
            | Operation::Put(_)
            | Operation::Get(_)
            | Operation::List(_)
            | Operation::Batch(..)) => self.next_of(operation),
        }
    }

    /// An operation on the next key.
    fn next_of(&mut self, operation: Operation) -> (Request<'_>, Asked) {
        let number = match operation {
            Operation::Ping => 0,
            Operation::Put(_)
            | Operation::Get(_)
            | Operation::CompareAndSwap(_)
            | Operation::List(_)
            | Operation::Batch(..) => self.next_number(),
        };
        let asked = self.asked(operation, number);
        (self.request(&asked), asked)
    }

    /// The same operation on the same key once more, to whoever leads that by now. A batch may hold other keys.
    pub(crate) fn again(&mut self, asked: &Asked) -> (Request<'_>, Asked) {
        let asked = Asked {
            revision: asked.revision,
            ..self.asked(asked.operation, asked.number)
        };
        (self.request(&asked), asked)
    }

    fn asked(&self, operation: Operation, number: u64) -> Asked {
        let lane = self.leaders.as_ref().map(|leaders| leaders.lane(number));
        Asked {
            lane: lane.unwrap_or(0),
            ..Asked::new(operation, number)
        }
    }

    /// The request of an operation on its key.
    fn request(&mut self, asked: &Asked) -> Request<'_> {
        if let Some(space) = asked.operation.key_space() {
            space.write_key(asked.number, &mut self.key);
        }
        match asked.operation {
            Operation::Ping => Request::Ping,
            Operation::Put(space) => Request::Put {
                key: &self.key,
                value: self.values.next(space.value_bytes),
            },
            Operation::Get(_) => Request::Get { key: &self.key },
            Operation::CompareAndSwap(space) => Request::CompareAndSwap {
                key: &self.key,
                value: self.values.next(space.value_bytes),
                revision: asked.revision,
            },
            Operation::List(_) => Request::List(Page {
                directory: self.key.directory(),
                from: &self.key,
                rows_max: LIST_ROWS_MAX,
            }),
            Operation::Batch(space, commands) => self.batch(space, commands, asked),
        }
    }

    /// A batch whose first key is that of `asked`, with keys of the same lane.
    fn batch(&mut self, space: KeySpace, commands: u32, asked: &Asked) -> Request<'_> {
        self.batch.begin(self.zipfian.count());
        let leaders = self.leaders.as_ref();
        let is_led = |number| leaders.is_none_or(|leaders| leaders.lane(number) == asked.lane);
        self.batch.add(space, asked.number, is_led);
        for _ in 1..commands {
            let wanted = self.zipfian.rank(self.random.next_unit());
            self.batch.add(space, wanted, is_led);
        }
        let keys = self.batch.end();
        let count = commands as usize;
        let values = self.values.next(space.value_bytes * count);
        Request::Batch(Puts::new(count, keys, values))
    }

    fn next_number(&mut self) -> u64 {
        self.zipfian.rank(self.random.next_unit())
    }

    /// Takes a reply, or one part of it, and says whether the operation did what it was measured for.
    pub(crate) fn judge(
        &mut self,
        asked: &mut Asked,
        reply: &Reply<'_>,
    ) -> Result<Ending, Failure> {
        if let Reply::Row(Some(row)) = reply {
            if self.reads.len() == READS_KEPT_MAX {
                self.reads.pop_front();
            }
            self.reads.push_back((asked.number, row.revision));
        }
        asked.judge(reply)
    }
}

/// The keys of a batch, each of which occurs once.
#[derive(Debug, Default)]
struct BatchKeys {
    /// One after the other.
    bytes: Vec<u8>,
    /// Their numbers.
    numbers: Vec<u64>,
    /// A bit for each number of the space, set for those in the batch.
    taken: Vec<u64>,
    number_end: u64,
}

impl BatchKeys {
    /// A batch without keys, whose numbers will be below `number_end`.
    fn begin(&mut self, number_end: u64) {
        self.bytes.clear();
        self.number_end = number_end;
        let words = usize::try_from(number_end.div_ceil(64)).expect("the bits fit the memory");
        self.taken.resize(words, 0);
    }

    /// Adds the key that is wanted, or the next in rank that is allowed and that the batch has not got.
    fn add(&mut self, space: KeySpace, wanted: u64, is_allowed: impl Fn(u64) -> bool) {
        let mut number = wanted;
        let mut passed = 0;
        loop {
            let word = &mut self.taken[(number / 64) as usize];
            let bit = 1 << (number % 64);
            if *word & bit == 0 && is_allowed(number) {
                *word |= bit;
                break;
            }
            passed += 1;
            assert!(
                passed < self.number_end,
                "a batch has no more commands than there are keys"
            );
            number = (number + 1) % self.number_end;
        }
        self.numbers.push(number);
        space.append_key(number, &mut self.bytes);
    }

    /// The keys, all of which may occur again in the next batch.
    fn end(&mut self) -> &[u8] {
        for number in self.numbers.drain(..) {
            self.taken[(number / 64) as usize] = 0;
        }
        &self.bytes
    }
}

impl Mix {
    fn choose(self, random: &mut Random) -> Operation {
        match self {
            Mix::Only(operation) => operation,
            Mix::Metadata(space) => match (random.next_unit() * 100.0) as u32 {
                0..80 => Operation::Get(space),
                80..95 => Operation::Put(space),
                95..99 => Operation::CompareAndSwap(space),
                _ => Operation::List(space),
            },
        }
    }

    /// Which operations occur in it.
    pub(crate) fn kinds(self) -> &'static [OperationKind] {
        match self {
            Mix::Only(Operation::Ping) => &[OperationKind::Ping],
            Mix::Only(Operation::Get(_)) => &[OperationKind::Get],
            Mix::Only(Operation::Put(_)) => &[OperationKind::Put],
            Mix::Only(Operation::CompareAndSwap(_)) => {
                &[OperationKind::Get, OperationKind::CompareAndSwap]
            }
            Mix::Only(Operation::List(_)) => &[OperationKind::List],
            Mix::Only(Operation::Batch(..)) => &[OperationKind::Batch],
            Mix::Metadata(_) => &[
                OperationKind::Get,
                OperationKind::Put,
                OperationKind::CompareAndSwap,
                OperationKind::List,
            ],
        }
    }

    /// The keys that must be loaded before.
    pub(crate) fn key_space(self) -> Option<KeySpace> {
        match self {
            Mix::Only(operation) => operation.key_space(),
            Mix::Metadata(space) => Some(space),
        }
    }

    /// What one request counts for.
    pub(crate) fn commands_per_request(self) -> u64 {
        if let Mix::Only(Operation::Batch(_, commands)) = self {
            u64::from(commands)
        } else {
            1
        }
    }
}

impl Failure {
    /// Whether nothing was done because another node leads the shard; then perhaps the store names that one.
    pub(crate) fn redirect(&self) -> Option<&str> {
        let Failure::Refused(error) = self else {
            return None;
        };
        let is_elsewhere = error.code == ErrorCode::NotLeader;
        (is_elsewhere && error.happened == Happened::NotDone).then_some(&error.hint)
    }
}

impl Failure {
    /// Whether the same may be done a little later, perhaps by somebody else.
    pub(crate) fn may_pass(&self) -> bool {
        let is_busy = |error: &WireError| {
            error.code == ErrorCode::Overloaded && error.happened == Happened::NotDone
        };
        self.redirect().is_some() || matches!(self, Failure::Refused(error) if is_busy(error))
    }
}

impl OperationKind {
    /// The name for people.
    pub(crate) fn words(self) -> &'static str {
        match self {
            OperationKind::Ping => "ping",
            OperationKind::Get => "get",
            OperationKind::Put => "put",
            OperationKind::CompareAndSwap => "cas",
            OperationKind::List => "list",
            OperationKind::Batch => "batch",
        }
    }
}

impl Operation {
    /// Its name.
    pub(crate) fn kind(self) -> OperationKind {
        match self {
            Operation::Ping => OperationKind::Ping,
            Operation::Get(_) => OperationKind::Get,
            Operation::Put(_) => OperationKind::Put,
            Operation::CompareAndSwap(_) => OperationKind::CompareAndSwap,
            Operation::List(_) => OperationKind::List,
            Operation::Batch(..) => OperationKind::Batch,
        }
    }

    /// The keys that it is about.
    fn key_space(self) -> Option<KeySpace> {
        match self {
            Operation::Ping => None,
            Operation::Put(space)
            | Operation::Get(space)
            | Operation::CompareAndSwap(space)
            | Operation::List(space)
            | Operation::Batch(space, _) => Some(space),
        }
    }
}

impl Asked {
    fn new(operation: Operation, number: u64) -> Asked {
        Asked {
            operation,
            number,
            revision: Revision(0),
            rows: 0,
            lane: 0,
        }
    }

    /// Whether a reply says that the operation did what it was measured for.
    fn judge(&mut self, reply: &Reply<'_>) -> Result<Ending, Failure> {
        if let Reply::Failed(failure) = reply {
            return Err(failure.clone());
        }
        match (self.operation, reply) {
            (Operation::Ping, Reply::Pong)
            | (Operation::Put(_) | Operation::CompareAndSwap(_), Reply::Done) => Ok(Ending::Done),
            (Operation::CompareAndSwap(_), Reply::Conflict) => Ok(Ending::Conflict),
            (Operation::Put(_), Reply::Conflict) => Err(Failure::Outcome(OutcomeCode::Conflict)),
            (Operation::Batch(_, commands), Reply::Batch { done }) => {
                judge_batch(u64::from(commands), *done)
            }
            (Operation::Get(space), Reply::Row(row)) => judge_row(space, row.as_ref()),
            (Operation::List(space), Reply::Rows(part)) => {
                let is_first = self.rows == 0;
                self.rows += part.count;
                let key = part.first_key.filter(|_| is_first);
                if key.is_some_and(|found| *found != *space.key(self.number)) {
                    return Err(Failure::Absent);
                }
                match (part.is_last, self.rows) {
                    (false, _) => Ok(Ending::Unfinished),
                    (true, 0) => Err(Failure::Absent),
                    (true, _) => Ok(Ending::Done),
                }
            }
            _ => Err(Failure::Mismatch),
        }
    }
}

fn judge_row(space: KeySpace, row: Option<&FoundRow<'_>>) -> Result<Ending, Failure> {
    let found_bytes = row.ok_or(Failure::Absent)?.value.len();
    if found_bytes == space.value_bytes {
        return Ok(Ending::Done);
    }
    Err(Failure::ValueLength {
        expected_bytes: space.value_bytes,
        found_bytes,
    })
}

fn judge_batch(expected: u64, found: u64) -> Result<Ending, Failure> {
    if found == expected {
        return Ok(Ending::Done);
    }
    Err(Failure::BatchCount { expected, found })
}

/// Whether a put took effect.
pub(crate) fn judge_outcome(code: OutcomeCode) -> Result<(), Failure> {
    if code == OutcomeCode::Done {
        Ok(())
    } else {
        Err(Failure::Outcome(code))
    }
}

#[cfg(test)]
mod tests;
