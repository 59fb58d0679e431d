//! Independent commands in one frame, each with an answer of its own; and the single command.
//!
//! ```text
//!              0        1        2        3        4        5        6        7
//! command  0 | one command, nothing else
//! reply    0 | one outcome, nothing else
//!
//! batch    0 | count                             | commands, back to back ...
//! reply    0 | count                             | then per command, in the order of the request:
//!            | error code      | zero            | length in bytes                   |
//!            | error code 0: an outcome; otherwise an error's table ...
//! ```
//!
//! A batch that is malformed anywhere is refused as a whole before anything of it is done, because behind a
//! malformed command the next one cannot be found.

use crate::body::{Body, length_u32};
use crate::body_error::BodyError;
use crate::generated::layout::BatchItem;
use crate::request::RequestLimits;
use crate::wire_error::WireError;
use metastore_statemachine::{Command, CommandKind, Outcome};

const _: () = assert!(size_of::<BatchItem>() == 8);

/// A command that has passed [`Command::check`], with the bytes it stays until apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedCommand<'a> {
    /// The command's bytes, nothing before and nothing behind.
    pub bytes: &'a [u8],
    /// What they say.
    pub command: Command<'a>,
}

impl<'a> CheckedCommand<'a> {
    pub(crate) fn decode(
        bytes: &'a [u8],
        limits: &RequestLimits,
    ) -> Result<CheckedCommand<'a>, BodyError> {
        let command = Command::check_only(bytes, &limits.command)
            .map_err(|error| BodyError::Command { position: 0, error })?;
        Ok(CheckedCommand { bytes, command })
    }
}

/// Several commands.
#[derive(Debug, Clone, Copy)]
pub struct BatchRequest<'a> {
    /// How many commands.
    pub count: u32,
    /// The commands, checked.
    commands: &'a [u8],
}

impl<'a> BatchRequest<'a> {
    /// The commands in order.
    pub fn commands(&self) -> impl Iterator<Item = CheckedCommand<'a>> + use<'a> {
        let mut rest = self.commands;
        (0..self.count).map(move |_| {
            let (command, length) = Command::decode(rest).expect("commands were checked by decode");
            let (bytes, next) = rest.split_at(length);
            rest = next;
            CheckedCommand { bytes, command }
        })
    }

    /// The commands as they came in, checked and back to back.
    pub fn bytes(&self) -> &'a [u8] {
        self.commands
    }

    pub(crate) fn encode_into(out: &mut Vec<u8>, commands: &[Command<'_>]) {
        out.extend_from_slice(&length_u32(commands.len()).to_le_bytes());
        for command in commands {
            command.encode_into(out);
        }
    }

    pub(crate) fn decode(
        bytes: &'a [u8],
        limits: &RequestLimits,
    ) -> Result<BatchRequest<'a>, BodyError> {
        let mut body = Body::new(bytes);
        let count = body.take_u32()?;
        if count as usize > limits.batch_commands_max {
            return Err(BodyError::TooMany {
                limit: limits.batch_commands_max,
                actual: count as usize,
            });
        }
        let commands = body.rest();
        for position in 0..count as usize {
            let (command, length) = Command::check(body.rest(), &limits.command)
                .map_err(|error| BodyError::Command { position, error })?;
            if command.kind == CommandKind::DeleteRange {
                return Err(BodyError::NotInBatch { position });
            }
            body.skip(length);
        }
        body.finish()?;
        Ok(BatchRequest { count, commands })
    }
}

/// The answer to one command of a batch.
pub type BatchResult<'a> = Result<Outcome<'a>, WireError>;

/// The answer to a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchReply<'a> {
    /// How many commands were answered: all of the request's.
    pub count: u32,
    /// The items, checked.
    items: &'a [u8],
}

impl<'a> BatchReply<'a> {
    /// The answers in the order of the commands.
    pub fn items(&self) -> impl Iterator<Item = BatchResult<'a>> + use<'a> {
        let mut body = Body::new(self.items);
        (0..self.count).map(move |_| take_item(&mut body).expect("items were checked by decode"))
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<BatchReply<'a>, BodyError> {
        let mut body = Body::new(bytes);
        let count = body.take_u32()?;
        let items = body.rest();
        for _ in 0..count {
            let _checked = take_item(&mut body)?;
        }
        body.finish()?;
        Ok(BatchReply { count, items })
    }
}

fn take_item<'a>(body: &mut Body<'a>) -> Result<BatchResult<'a>, BodyError> {
    let base = BatchItem(body.take_array()?);
    if base.zero_16() != 0 {
        return Err(BodyError::ReservedNotZero);
    }
    let bytes = body.take(base.length() as usize)?;
    if base.error_code() == 0 {
        return Ok(Ok(read_outcome(bytes)?));
    }
    let error = WireError::decode(bytes)?;
    if error.code.as_u16() != base.error_code() {
        return Err(BodyError::FieldValue {
            field: "error_code",
            found: u64::from(base.error_code()),
        });
    }
    Ok(Err(error))
}

/// An outcome that fills `bytes`.
pub(crate) fn read_outcome(bytes: &[u8]) -> Result<Outcome<'_>, BodyError> {
    let (outcome, length) = Outcome::decode(bytes).map_err(BodyError::Outcome)?;
    if length < bytes.len() {
        return Err(BodyError::Trailing {
            bytes: bytes.len() - length,
        });
    }
    Ok(outcome)
}

/// Writes the answer to a batch, one item after the other in the order of the commands.
#[derive(Debug)]
pub struct BatchReplyWriter<'a> {
    out: &'a mut Vec<u8>,
    count: u32,
}

impl<'a> BatchReplyWriter<'a> {
    /// Runs `write`, which must answer every command of the request.
    pub(crate) fn encode_into(out: &'a mut Vec<u8>, write: impl FnOnce(&mut BatchReplyWriter<'_>)) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        let mut writer = BatchReplyWriter { out, count: 0 };
        write(&mut writer);
        let count = writer.count.to_le_bytes();
        out[start..start + 4].copy_from_slice(&count);
    }

    /// The next command was applied.
    pub fn outcome(&mut self, outcome: &Outcome<'_>) {
        self.item(0, |out| outcome.encode_into(out));
    }

    /// The next command was applied; its outcome was encoded elsewhere.
    pub fn outcome_bytes(&mut self, outcome: &[u8]) {
        self.item(0, |out| out.extend_from_slice(outcome));
    }

    /// The next command failed.
    pub fn error(&mut self, error: &WireError) {
        self.item(error.code.as_u16(), |out| error.encode_into(out));
    }

    fn item(&mut self, error_code: u16, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        self.out
            .extend_from_slice(&BatchItem::new(error_code, 0, 0).0);
        let body_start = self.out.len();
        write(self.out);
        let length = length_u32(self.out.len() - body_start);
        self.out[start..body_start].copy_from_slice(&BatchItem::new(error_code, 0, length).0);
        self.count += 1;
    }
}
