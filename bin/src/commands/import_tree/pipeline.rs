//! Puts on their way: gathered into batches, several of them in flight, tried again while the server has no room.

use metastore_net::blocking::{Client, ClientError};
use metastore_net::{ErrorCode, RequestId, Response, ServerLimits, WireError};
use metastore_statemachine::{Command, NamespaceId, OutcomeCode};

use super::TreeError;
use super::patience::{Patience, is_passing};

/// Enough to make a round trip cheap, little enough for the server to interleave with others.
const BATCH_COMMANDS: usize = 256;
const BATCH_BYTES: usize = 128 << 10;
/// Batches without an answer: while one is written durably, the next ones are on their way.
const BATCHES_IN_FLIGHT: usize = 8;

/// Stores keys, and knows at the end that all of them are stored.
///
/// A put that may or may not have happened is sent again: it puts the same value.
pub(super) struct Pipeline<'c> {
    client: &'c mut Client,
    limits: ServerLimits,
    patience: Patience,
    open: Batch,
    in_flight: Vec<(RequestId, Batch)>,
    /// Keys that were stored.
    pub(super) stored: u64,
}

#[derive(Debug, Default)]
struct Batch {
    puts: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

/// How the server answered a batch.
#[derive(Debug)]
enum Answer {
    Stored,
    /// The first error of those that are worth another attempt.
    Later(WireError),
    /// A key that will never be stored, and why.
    Refused(Vec<u8>, WireError),
}

impl<'c> Pipeline<'c> {
    pub(super) fn new(client: &'c mut Client, patience: Patience) -> Pipeline<'c> {
        let limits = client.server().limits;
        Pipeline {
            client,
            limits,
            patience,
            open: Batch::default(),
            in_flight: Vec::new(),
            stored: 0,
        }
    }

    /// Whether the server takes keys of this length.
    pub(super) fn has_room_for(&self, key: &[u8]) -> bool {
        key.len() <= self.limits.key_bytes as usize
    }

    /// Puts a key, sooner or later.
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), TreeError> {
        let commands_max = BATCH_COMMANDS.min(self.limits.batch_commands as usize);
        self.open.bytes += key.len() + value.len();
        self.open.puts.push((key, value));
        if self.open.puts.len() >= commands_max || self.open.bytes >= BATCH_BYTES {
            self.send()?;
        }
        Ok(())
    }

    /// Waits until everything is stored.
    pub(super) fn finish(&mut self) -> Result<(), TreeError> {
        if !self.open.puts.is_empty() {
            self.send()?;
        }
        while !self.in_flight.is_empty() {
            self.receive()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), TreeError> {
        while self.in_flight.len() >= BATCHES_IN_FLIGHT {
            self.receive()?;
        }
        let batch = std::mem::take(&mut self.open);
        self.submit(batch);
        Ok(())
    }

    fn submit(&mut self, batch: Batch) {
        let commands: Vec<Command<'_>> = batch
            .puts
            .iter()
            .map(|(key, value)| Command::put(NamespaceId::DEFAULT, key, value))
            .collect();
        let id = self.client.submit(|connection| connection.batch(&commands));
        self.in_flight.push((id, batch));
    }

    /// Waits for answers, and sends again what found no room.
    fn receive(&mut self) -> Result<(), TreeError> {
        let mut answered = Vec::new();
        let in_flight = &mut self.in_flight;
        let result = self.client.next_responses(|id, response| {
            let position = in_flight.iter().position(|(sent, _)| *sent == id);
            let position = position.expect("the connection answers only what was sent");
            let (_, batch) = in_flight.swap_remove(position);
            let answer = judge(&batch, &response);
            answered.push((batch, answer));
        });
        result.map_err(|error| TreeError::Connection(as_unknown(error)))?;
        for (batch, answer) in answered {
            match answer {
                Answer::Stored => {
                    self.stored += batch.puts.len() as u64;
                    self.patience.on_success();
                }
                Answer::Later(error) => self.try_later(batch, error)?,
                Answer::Refused(key, error) => return Err(TreeError::Refused { key, error }),
            }
        }
        Ok(())
    }

    fn try_later(&mut self, mut batch: Batch, error: WireError) -> Result<(), TreeError> {
        if !self.patience.wait(&error) {
            let key = batch.puts.swap_remove(0).0;
            return Err(TreeError::Refused { key, error });
        }
        self.submit(batch);
        Ok(())
    }
}

/// Puts were under way when the connection failed.
fn as_unknown(error: ClientError) -> ClientError {
    match error {
        ClientError::Connection(cause) => ClientError::OutcomeUnknown { cause },
        ClientError::Connect { .. }
        | ClientError::Server(_)
        | ClientError::OutcomeUnknown { .. } => error,
    }
}

fn judge(batch: &Batch, response: &Response<'_>) -> Answer {
    let mut later = None;
    let mut on_error = |key: &[u8], error: WireError| {
        if is_passing(&error) {
            later.get_or_insert(error);
            None
        } else {
            Some(Answer::Refused(key.to_vec(), error))
        }
    };
    let refused = match response {
        Response::Batch(reply) if reply.count as usize != batch.puts.len() => {
            let message = format!("{} answers to {} puts", reply.count, batch.puts.len());
            let error = WireError::new(ErrorCode::Internal).with_message(message);
            Some(Answer::Refused(
                batch.puts[0].0.clone(),
                error.outcome_unknown(),
            ))
        }
        Response::Batch(reply) => batch
            .puts
            .iter()
            .zip(reply.items())
            .find_map(|(put, item)| match item {
                Ok(outcome) if outcome.code == OutcomeCode::Done => None,
                Ok(outcome) => on_error(&put.0, unexpected(outcome.code)),
                Err(error) => on_error(&put.0, error),
            }),
        Response::Error(error) => on_error(&batch.puts[0].0, error.clone()),
        Response::Hello(_)
        | Response::Pong
        | Response::Get(_)
        | Response::GetMany(_)
        | Response::Command(_)
        | Response::Range(_)
        | Response::Cancelled
        | Response::Status(_)
        | Response::ShardMap(_)
        | Response::Admin(_)
        | Response::Count(_) => unreachable!("the connection matches answers to requests"),
    };
    refused.unwrap_or_else(|| later.map_or(Answer::Stored, Answer::Later))
}

/// A put without a condition has no other outcome than done, as far as this version knows.
fn unexpected(code: OutcomeCode) -> WireError {
    WireError::new(ErrorCode::Internal).with_message(format!("unexpected outcome {code:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_net::{
        BatchReplyWriter, FRAME_BYTES_MAX_DEFAULT, append_batch, append_error, cut_frame,
    };
    use metastore_net::{FrameKind, Happened};
    use metastore_statemachine::{Outcome, Revision};

    fn batch() -> Batch {
        let put = |key: &[u8]| (key.to_vec(), b"v".to_vec());
        Batch {
            puts: vec![put(b"a"), put(b"b"), put(b"c")],
            ..Batch::default()
        }
    }

    fn outcome(code: OutcomeCode) -> Outcome<'static> {
        Outcome {
            code,
            revision: Revision(1),
            number: None,
            previous: None,
            detail: None,
        }
    }

    /// What is made of an answer with these bytes.
    fn judge_frame(frame: &[u8]) -> Answer {
        let frame = cut_frame(frame, FRAME_BYTES_MAX_DEFAULT)
            .expect("a frame")
            .expect("a whole one");
        let response = Response::decode(&frame.header, frame.body).expect("a response");
        judge(&batch(), &response)
    }

    fn judge_items(write: impl FnOnce(&mut BatchReplyWriter<'_>)) -> Answer {
        let mut bytes = Vec::new();
        append_batch(&mut bytes, RequestId(1), write);
        judge_frame(&bytes)
    }

    #[test]
    fn a_batch_is_stored_when_every_put_is_done() {
        let answer = judge_items(|items| {
            for _ in 0..3 {
                items.outcome(&outcome(OutcomeCode::Done));
            }
        });
        assert!(matches!(answer, Answer::Stored), "{answer:?}");
    }

    #[test]
    fn one_put_without_room_sends_the_batch_again() {
        let answer = judge_items(|items| {
            items.outcome(&outcome(OutcomeCode::Done));
            items.error(&WireError::new(ErrorCode::Overloaded));
            items.outcome(&outcome(OutcomeCode::Done));
        });
        let Answer::Later(error) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(error.code, ErrorCode::Overloaded);
    }

    #[test]
    fn a_put_that_is_refused_for_good_is_named() {
        let answer = judge_items(|items| {
            items.error(&WireError::new(ErrorCode::Overloaded));
            items.outcome(&outcome(OutcomeCode::Done));
            items.outcome(&outcome(OutcomeCode::TooLarge));
        });
        let Answer::Refused(key, error) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(
            (key.as_slice(), error.code),
            (&b"c"[..], ErrorCode::Internal)
        );
    }

    #[test]
    fn a_batch_that_may_have_happened_is_sent_again() {
        let mut error = WireError::new(ErrorCode::Deadline);
        error.happened = Happened::Unknown;
        let mut bytes = Vec::new();
        append_error(&mut bytes, FrameKind::Batch, RequestId(1), &error);
        assert!(matches!(judge_frame(&bytes), Answer::Later(found) if found == error));
    }
}
