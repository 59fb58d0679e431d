//! What one operation of the load is, how its request is made, and whether its answer is right.

use std::collections::VecDeque;

use metastore_net::{
    ClientConnection, Consistency, GetRequest, RangeRequest, RequestId, Response, WireError,
};
use metastore_statemachine::{
    Command, Direction, GetQuery, NamespaceId, OutcomeCode, Projection, RangeQuery, Revision, Scope,
};
use serde::{Deserialize, Serialize};

use crate::keys::{KeySpace, ValuePool};
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

    /// Appends one request to what the connection will send.
    pub(crate) fn submit(
        &mut self,
        mix: Mix,
        connection: &mut ClientConnection,
    ) -> (RequestId, Asked) {
        match mix.choose(&mut self.random) {
            Operation::Ping => (connection.ping(), Asked::new(Operation::Ping, 0)),
            Operation::Put(space) => {
                let number = self.next_number();
                let value = self.values.next(space.value_bytes);
                let key = space.key(number);
                let command = Command::put(NamespaceId::DEFAULT, &key, value);
                let asked = Asked::new(Operation::Put(space), number);
                (connection.command(&command), asked)
            }
            Operation::Get(space) => self.submit_get(space, connection),
            Operation::CompareAndSwap(space) => match self.reads.pop_back() {
                Some((number, revision)) => {
                    let value = self.values.next(space.value_bytes);
                    let key = space.key(number);
                    let command = Command::put(NamespaceId::DEFAULT, &key, value)
                        .with_expected_revision(revision);
                    let asked = Asked::new(Operation::CompareAndSwap(space), number);
                    (connection.command(&command), asked)
                }
                // It begins with a read, and none has been answered.
                None => self.submit_get(space, connection),
            },
            Operation::List(space) => {
                let number = self.next_number();
                let key = space.key(number);
                let range = RangeRequest {
                    query: RangeQuery {
                        prefix: key.directory(),
                        start: &key,
                        scope: Scope::Children { separator: b'/' },
                        direction: Direction::Forward,
                        projection: Projection::KeysAndValues,
                        limit: LIST_ROWS_MAX,
                        ..RangeRequest::subtree(NamespaceId::DEFAULT, &[]).query
                    },
                    chunk_bytes: 0,
                };
                let asked = Asked::new(Operation::List(space), number);
                (connection.range(&range), asked)
            }
        }
    }

    fn submit_get(
        &mut self,
        space: KeySpace,
        connection: &mut ClientConnection,
    ) -> (RequestId, Asked) {
        let number = self.next_number();
        let id = connection.get(&GetRequest {
            query: GetQuery {
                namespace: NamespaceId::DEFAULT,
                key: &space.key(number),
                at: None,
            },
            consistency: Consistency::Linearizable,
        });
        (id, Asked::new(Operation::Get(space), number))
    }

    fn next_number(&mut self) -> u64 {
        self.zipfian.rank(self.random.next_unit())
    }

    /// Takes an answer, or one part of it, and says whether the operation did what it was measured for.
    pub(crate) fn judge(
        &mut self,
        asked: &mut Asked,
        response: &Response<'_>,
    ) -> Result<Ending, Failure> {
        if let Response::Get(reply) = response
            && let Some(row) = reply.row
        {
            if self.reads.len() == READS_KEPT_MAX {
                self.reads.pop_front();
            }
            self.reads.push_back((asked.number, row.mod_revision));
        }
        asked.judge(response)
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
                | Operation::List(space),
            )
            | Mix::Metadata(space) => Some(space),
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

    /// Whether an answer says that the operation did what it was measured for.
    fn judge(&mut self, response: &Response<'_>) -> Result<Ending, Failure> {
        if let Response::Error(error) = response {
            return Err(Failure::Refused(error.clone()));
        }
        match self.operation {
            Operation::Ping => matches!(response, Response::Pong)
                .then_some(Ending::Done)
                .ok_or(Failure::Mismatch),
            Operation::Put(_) => {
                let Response::Command(outcome) = response else {
                    return Err(Failure::Mismatch);
                };
                judge_outcome(outcome.code).map(|()| Ending::Done)
            }
            Operation::CompareAndSwap(_) => {
                let Response::Command(outcome) = response else {
                    return Err(Failure::Mismatch);
                };
                if outcome.code == OutcomeCode::Conflict {
                    return Ok(Ending::Conflict);
                }
                judge_outcome(outcome.code).map(|()| Ending::Done)
            }
            Operation::Get(space) => {
                let Response::Get(reply) = response else {
                    return Err(Failure::Mismatch);
                };
                let found_bytes = reply.row.ok_or(Failure::Absent)?.value.len();
                if found_bytes == space.value_bytes {
                    return Ok(Ending::Done);
                }
                Err(Failure::ValueLength {
                    expected_bytes: space.value_bytes,
                    found_bytes,
                })
            }
            Operation::List(space) => {
                let Response::Range(chunk) = response else {
                    return Err(Failure::Mismatch);
                };
                let key = space.key(self.number);
                let first = chunk.rows().next();
                if self.rows == 0 && first.is_some_and(|row| *row.key != *key) {
                    return Err(Failure::Absent);
                }
                self.rows += u64::from(chunk.count);
                match (chunk.is_last, self.rows) {
                    (false, _) => Ok(Ending::Unfinished),
                    (true, 0) => Err(Failure::Absent),
                    (true, _) => Ok(Ending::Done),
                }
            }
        }
    }
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
    use metastore_net::ClientOptions;

    #[test]
    fn a_mix_has_its_shares() {
        let mut requests = RequestMaker::new(1_000);
        let mut connection = ClientConnection::new(&ClientOptions::default());
        let mix = Mix::Metadata(KeySpace::LONG);
        let mut counts = [0_u32; 4];
        for _ in 0..20_000 {
            // As if a read had just been answered.
            requests.reads.push_back((0, Revision(1)));
            let (_, asked) = requests.submit(mix, &mut connection);
            let kind = asked.operation.kind();
            let position = mix.kinds().iter().position(|&found| found == kind);
            counts[position.unwrap()] += 1;
            connection.outbound().clear();
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
        let mut connection = ClientConnection::new(&ClientOptions::default());
        let swap = Mix::Only(Operation::CompareAndSwap(KeySpace::LONG));
        let (_, asked) = requests.submit(swap, &mut connection);
        assert_eq!(asked.operation, Operation::Get(KeySpace::LONG));
        requests.reads.push_back((7, Revision(3)));
        let (_, asked) = requests.submit(swap, &mut connection);
        assert_eq!(asked.operation, Operation::CompareAndSwap(KeySpace::LONG));
        assert_eq!(asked.number, 7);
    }
}
