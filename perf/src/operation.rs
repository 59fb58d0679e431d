//! What one operation of the load is, how its request is made, and whether its answer is right.

use std::collections::VecDeque;

use metastore_net::WireError;
use metastore_statemachine::{OutcomeCode, Revision};
use serde::{Deserialize, Serialize};

use crate::keys::{Key, KeySpace, ValuePool};
use crate::protocol::{FoundRow, Page, Puts, Reply, Request};
use crate::random::Random;
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
    /// The key's number, 0 where there is none.
    number: u64,
    /// Rows of a list that have arrived.
    rows: u64,
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
        }
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
            Operation::Ping => (Request::Ping, Asked::new(Operation::Ping, 0)),
            Operation::Put(space) => {
                let number = self.next_number();
                space.write_key(number, &mut self.key);
                let request = Request::Put {
                    key: &self.key,
                    value: self.values.next(space.value_bytes),
                };
                (request, Asked::new(Operation::Put(space), number))
            }
            Operation::Get(space) => self.next_get(space),
            Operation::CompareAndSwap(space) => match self.reads.pop_back() {
                Some((number, revision)) => {
                    space.write_key(number, &mut self.key);
                    let request = Request::CompareAndSwap {
                        key: &self.key,
                        value: self.values.next(space.value_bytes),
                        revision,
                    };
                    let asked = Asked::new(Operation::CompareAndSwap(space), number);
                    (request, asked)
                }
                // It begins with a read, and none has been answered.
                None => self.next_get(space),
            },
            Operation::List(space) => {
                let number = self.next_number();
                space.write_key(number, &mut self.key);
                let page = Page {
                    directory: self.key.directory(),
                    from: &self.key,
                    rows_max: LIST_ROWS_MAX,
                };
                let asked = Asked::new(Operation::List(space), number);
                (Request::List(page), asked)
            }
            Operation::Batch(space, commands) => self.next_batch(space, commands),
        }
    }

    fn next_get(&mut self, space: KeySpace) -> (Request<'_>, Asked) {
        let number = self.next_number();
        space.write_key(number, &mut self.key);
        let request = Request::Get { key: &self.key };
        (request, Asked::new(Operation::Get(space), number))
    }

    fn next_batch(&mut self, space: KeySpace, commands: u32) -> (Request<'_>, Asked) {
        self.batch.begin(self.zipfian.count());
        for _ in 0..commands {
            let wanted = self.zipfian.rank(self.random.next_unit());
            self.batch.add(space, wanted);
        }
        let keys = self.batch.end();
        let count = commands as usize;
        let values = self.values.next(space.value_bytes * count);
        let asked = Asked::new(Operation::Batch(space, commands), 0);
        (Request::Batch(Puts::new(count, keys, values)), asked)
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

    /// Adds the key that is wanted, or the next in rank that the batch has not got.
    fn add(&mut self, space: KeySpace, wanted: u64) {
        assert!(
            (self.numbers.len() as u64) < self.number_end,
            "a batch has no more commands than there are keys"
        );
        let mut number = wanted;
        loop {
            let word = &mut self.taken[(number / 64) as usize];
            let bit = 1 << (number % 64);
            if *word & bit == 0 {
                *word |= bit;
                break;
            }
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
            Mix::Only(Operation::Ping) => None,
            Mix::Only(
                Operation::Put(space)
                | Operation::Get(space)
                | Operation::CompareAndSwap(space)
                | Operation::List(space)
                | Operation::Batch(space, _),
            )
            | Mix::Metadata(space) => Some(space),
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
}

impl Asked {
    fn new(operation: Operation, number: u64) -> Asked {
        Asked {
            operation,
            number,
            rows: 0,
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
mod tests {
    use super::*;
    use crate::protocol::RowsPart;
    use std::collections::BTreeSet;

    #[test]
    fn a_mix_has_its_shares() {
        let mut requests = RequestMaker::new(1_000);
        let mix = Mix::Metadata(KeySpace::LONG);
        let mut counts = [0_u32; 4];
        for _ in 0..20_000 {
            // As if a read had just been answered.
            requests.reads.push_back((0, Revision(1)));
            let (_, asked) = requests.next_request(mix);
            let kind = asked.operation.kind();
            let position = mix.kinds().iter().position(|&found| found == kind);
            counts[position.unwrap()] += 1;
        }
        let expected = [16_000, 3_000, 800, 200];
        for (found, expected) in counts.into_iter().zip(expected) {
            // Four standard deviations of the middle ones.
            assert!(found.abs_diff(expected) <= 230, "{counts:?}");
        }
    }

    #[test]
    fn a_swap_without_a_read_is_a_read() {
        let mut requests = RequestMaker::new(1_000);
        let swap = Mix::Only(Operation::CompareAndSwap(KeySpace::LONG));
        let (_, asked) = requests.next_request(swap);
        assert_eq!(asked.operation, Operation::Get(KeySpace::LONG));
        requests.reads.push_back((7, Revision(3)));
        let (_, asked) = requests.next_request(swap);
        assert_eq!(asked.operation, Operation::CompareAndSwap(KeySpace::LONG));
        assert_eq!(asked.number, 7);
    }

    #[test]
    fn no_key_is_twice_in_a_batch_and_the_frequent_ones_are_in_most() {
        let space = KeySpace::BATCHED;
        let mix = Mix::Only(Operation::Batch(space, 64));
        let mut requests = RequestMaker::new(1_000);
        let mut with_first = 0;
        let mut with_last = 0;
        for _ in 0..1_000 {
            let (request, asked) = requests.next_request(mix);
            assert_eq!(asked.operation, Operation::Batch(space, 64));
            let Request::Batch(puts) = request else {
                panic!("{request:?}");
            };
            let keys: BTreeSet<&[u8]> = puts.iter().map(|(key, _)| key).collect();
            assert_eq!(keys.len(), 64);
            let values: BTreeSet<&[u8]> = puts.iter().map(|(_, value)| value).collect();
            assert_eq!(values.len(), 64);
            assert!(puts.iter().all(|(_, value)| value.len() == 64));
            with_first += u32::from(keys.contains(&*space.key(0)));
            with_last += u32::from(keys.contains(&*space.key(999)));
        }
        // An eighth of all draws fall on the first key, and one in 8,000 on the last.
        assert!(with_first > 980, "{with_first}");
        assert!(with_last < 60, "{with_last}");
    }

    #[test]
    fn a_batch_may_hold_every_key() {
        let mix = Mix::Only(Operation::Batch(KeySpace::BATCHED, 100));
        let mut requests = RequestMaker::new(100);
        for _ in 0..10 {
            let (request, _) = requests.next_request(mix);
            let Request::Batch(puts) = request else {
                panic!("{request:?}");
            };
            let keys: BTreeSet<&[u8]> = puts.iter().map(|(key, _)| key).collect();
            assert_eq!(keys.len(), 100);
        }
    }

    #[test]
    fn a_reply_counts_only_if_it_is_what_was_asked_for() {
        let space = KeySpace::LONG;
        let judged = |operation, reply: &Reply<'_>| Asked::new(operation, 7).judge(reply);
        let row = |value| {
            let revision = Revision(1);
            Reply::Row(Some(FoundRow { value, revision }))
        };
        let get = Operation::Get(space);
        assert_eq!(judged(get, &row(&[0; 128])), Ok(Ending::Done));
        let short = Failure::ValueLength {
            expected_bytes: 128,
            found_bytes: 3,
        };
        assert_eq!(judged(get, &row(b"abc")), Err(short));
        assert_eq!(judged(get, &Reply::Row(None)), Err(Failure::Absent));
        assert_eq!(judged(get, &Reply::Done), Err(Failure::Mismatch));

        let swap = Operation::CompareAndSwap(space);
        assert_eq!(judged(swap, &Reply::Conflict), Ok(Ending::Conflict));
        let refused = Failure::Outcome(OutcomeCode::Conflict);
        let put = judged(Operation::Put(space), &Reply::Conflict);
        assert_eq!(put, Err(refused));

        let batch = Operation::Batch(space, 64);
        assert_eq!(judged(batch, &Reply::Batch { done: 64 }), Ok(Ending::Done));
        let fewer = Failure::BatchCount {
            expected: 64,
            found: 63,
        };
        assert_eq!(judged(batch, &Reply::Batch { done: 63 }), Err(fewer));
        assert_eq!(judged(batch, &Reply::Done), Err(Failure::Mismatch));
    }

    #[test]
    fn a_list_ends_with_its_last_part_and_begins_with_its_key() {
        let space = KeySpace::LONG;
        let key = space.key(7);
        let other = space.key(8);
        let part = |count, first_key, is_last| {
            Reply::Rows(RowsPart {
                count,
                first_key,
                is_last,
            })
        };
        let mut asked = Asked::new(Operation::List(space), 7);
        let more = asked.judge(&part(1, Some(&key), false));
        assert_eq!(more, Ok(Ending::Unfinished));
        let end = asked.judge(&part(1, Some(&other), true));
        assert_eq!(end, Ok(Ending::Done), "only the first row is the key");
        for wrong in [part(1, Some(&other), true), part(0, None, true)] {
            let mut asked = Asked::new(Operation::List(space), 7);
            assert_eq!(asked.judge(&wrong), Err(Failure::Absent));
        }
    }
}
