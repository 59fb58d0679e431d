//! What one operation of the load is, and how its request is made.

use metastore_net::{ClientConnection, Consistency, GetRequest, RequestId, Response, WireError};
use metastore_statemachine::{Command, GetQuery, NamespaceId, OutcomeCode};

use crate::keys::{KeySpace, ValuePool};
use crate::random::Random;
use crate::zipfian::Zipfian;

/// The seed of all load: two runs ask for the same keys in the same order.
const SEED: u64 = 0x006d_6574_6173_746f;

/// What is asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Nothing: the cost of a socket and a turn of the server.
    Ping,
    /// Sets a loaded key to a new value.
    Put(KeySpace),
    /// Reads a loaded key linearizably.
    Get(KeySpace),
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
    /// A get did not find a loaded key.
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
}

impl RequestMaker {
    /// Requests about keys 0 to `keys` - 1 of their space.
    pub(crate) fn new(keys: u64) -> RequestMaker {
        let mut random = Random::new(SEED);
        RequestMaker {
            zipfian: Zipfian::new(keys),
            values: ValuePool::new(&mut random),
            random,
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
        operation: Operation,
        connection: &mut ClientConnection,
    ) -> RequestId {
        match operation {
            Operation::Ping => connection.ping(),
            Operation::Put(space) => {
                let key = space.key(self.zipfian.rank(self.random.next_unit()));
                let value = self.values.next(space.value_bytes);
                connection.command(&Command::put(NamespaceId::DEFAULT, &key, value))
            }
            Operation::Get(space) => {
                let key = space.key(self.zipfian.rank(self.random.next_unit()));
                connection.get(&GetRequest {
                    query: GetQuery {
                        namespace: NamespaceId::DEFAULT,
                        key: &key,
                        at: None,
                    },
                    consistency: Consistency::Linearizable,
                })
            }
        }
    }
}

impl Operation {
    /// Whether an answer says that the operation did what it was measured for.
    pub(crate) fn judge(self, response: Response<'_>) -> Result<(), Failure> {
        if let Response::Error(error) = response {
            return Err(Failure::Refused(error));
        }
        match self {
            Operation::Ping => matches!(response, Response::Pong)
                .then_some(())
                .ok_or(Failure::Mismatch),
            Operation::Put(_) => {
                let Response::Command(outcome) = response else {
                    return Err(Failure::Mismatch);
                };
                judge_outcome(outcome.code)
            }
            Operation::Get(space) => {
                let Response::Get(reply) = response else {
                    return Err(Failure::Mismatch);
                };
                let found_bytes = reply.row.ok_or(Failure::Absent)?.value.len();
                if found_bytes == space.value_bytes {
                    return Ok(());
                }
                Err(Failure::ValueLength {
                    expected_bytes: space.value_bytes,
                    found_bytes,
                })
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
