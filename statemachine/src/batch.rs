//! The payload of one raft entry: a header and commands.

use crate::command::{Command, CommandError};
use crate::generated;
use crate::ids::ShardTime;
use crate::wire::{Reader, Short, length_u32, length_usize};

/// Length of the header before the commands.
pub const BATCH_HEADER_BYTES: usize = size_of::<generated::BatchHeader>();

const VERSION: u16 = 1;
/// Where the codec lies in the header.
const CODEC_BYTES: std::ops::Range<usize> = 2..4;

/// The commands of one raft entry, with the time at which they are applied.
///
/// ```text
///      0        2        4                 8
///    0 | version| codec  |      count      |   version 1; codec: of everything after the header; commands
///    8 |             shard time            |   milliseconds; never decreases; the only clock that apply sees
///   16 |               term                |   of the leader that sealed the batch
///   24 |   body length   |    reserved     |   body length: of the commands before compression; reserved: 0
///   32 |  the commands, back to back  ...  |
/// ```
///
/// Little-endian. Compression happens between [`BatchBuilder::seal`] and the proposal and is not done here: whoever
/// compresses writes the sealed header, the compressed commands, and calls [`Batch::set_codec`]; whoever applies
/// decompresses [`Batch::body`] and calls [`Batch::with_body`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    /// How `body` is compressed.
    pub codec: Codec,
    /// Number of commands.
    pub count: u32,
    /// The shard's time from this batch on.
    pub shard_time: ShardTime,
    /// Term of the leader that sealed the batch.
    pub term: u64,
    /// Length of the commands before compression.
    pub body_bytes: usize,
    /// The commands, as `codec` says.
    pub body: &'a [u8],
}

/// How the commands of a batch are compressed.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Not at all.
    None = 0,
    /// As one raw snappy block.
    Snappy = 1,
}

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end inside the header.
    #[error("the batch needs {needed} bytes, there are {available}")]
    Truncated {
        /// Bytes that the header needs.
        needed: usize,
        /// Bytes present.
        available: usize,
    },
    /// The batch is from a later version.
    #[error("unknown batch version {version}")]
    UnknownVersion {
        /// The version found.
        version: u16,
    },
    /// The codec is from a later version.
    #[error("unknown batch codec {codec}")]
    UnknownCodec {
        /// The number found.
        codec: u16,
    },
    /// The reserved bytes are not zero.
    #[error("the reserved bytes of the batch hold {reserved:#x}")]
    ReservedNotZero {
        /// What they hold.
        reserved: u32,
    },
    /// The commands do not have the length that the header says.
    #[error("the commands have {actual} bytes, the header says {announced}")]
    BodyLength {
        /// Length in the header.
        announced: usize,
        /// Length found.
        actual: usize,
    },
    /// A command is malformed.
    #[error("command {position}: {error}")]
    Command {
        /// Position of the command in the batch, from 0.
        position: u32,
        /// What is wrong with it.
        error: CommandError,
    },
    /// The commands are followed by something else.
    #[error("{count} bytes follow the last command")]
    TrailingBytes {
        /// Bytes too many.
        count: usize,
    },
    /// The commands were asked for before they were decompressed.
    #[error("the commands are compressed with {codec:?}")]
    StillCompressed {
        /// How.
        codec: Codec,
    },
}

impl<'a> Batch<'a> {
    /// Reads a raft entry's payload. Looks at the header only; the commands are checked as they are iterated.
    ///
    /// # Errors
    /// Every [`BatchError`] that concerns the header or the length of an uncompressed body.
    pub fn decode(bytes: &'a [u8]) -> Result<Batch<'a>, BatchError> {
        let mut reader = Reader::new(bytes);
        let header = generated::BatchHeader(reader.take_array()?);
        if header.version() != VERSION {
            return Err(BatchError::UnknownVersion {
                version: header.version(),
            });
        }
        let Some(codec) = Codec::from_number(header.codec()) else {
            return Err(BatchError::UnknownCodec {
                codec: header.codec(),
            });
        };
        if header.reserved() != 0 {
            return Err(BatchError::ReservedNotZero {
                reserved: header.reserved(),
            });
        }
        let batch = Batch {
            codec,
            count: header.count(),
            shard_time: ShardTime(header.shard_time_ms()),
            term: header.term(),
            body_bytes: length_usize(header.body_length()),
            body: &bytes[BATCH_HEADER_BYTES..],
        };
        match codec {
            Codec::None => batch.with_body(batch.body),
            Codec::Snappy => Ok(batch),
        }
    }

    /// The same batch over its decompressed commands.
    ///
    /// # Errors
    /// [`BatchError::BodyLength`] when `body` is not as long as the header says.
    pub fn with_body<'b>(&self, body: &'b [u8]) -> Result<Batch<'b>, BatchError> {
        if body.len() != self.body_bytes {
            return Err(BatchError::BodyLength {
                announced: self.body_bytes,
                actual: body.len(),
            });
        }
        Ok(Batch {
            codec: Codec::None,
            count: self.count,
            shard_time: self.shard_time,
            term: self.term,
            body_bytes: self.body_bytes,
            body,
        })
    }

    /// Writes into the header of a sealed batch that what follows it is now compressed with `codec`.
    ///
    /// # Panics
    /// When `sealed` is shorter than a header.
    pub fn set_codec(sealed: &mut [u8], codec: Codec) {
        assert!(sealed.len() >= BATCH_HEADER_BYTES, "not a sealed batch");
        sealed[CODEC_BYTES].copy_from_slice(&(codec as u16).to_le_bytes());
    }

    /// The commands in order, each decoded as it is reached. After an error nothing follows. That the bytes hold
    /// exactly `count` commands is part of what is checked.
    #[must_use]
    pub fn commands(&self) -> Commands<'a> {
        Commands {
            batch: *self,
            position: 0,
            offset: 0,
            failed: false,
        }
    }
}

/// Iterator over the commands of a batch; see [`Batch::commands`].
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    batch: Batch<'a>,
    position: u32,
    offset: usize,
    failed: bool,
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<Command<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.decode_next().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

impl<'a> Commands<'a> {
    fn decode_next(&mut self) -> Result<Option<Command<'a>>, BatchError> {
        if self.batch.codec != Codec::None {
            return Err(BatchError::StillCompressed {
                codec: self.batch.codec,
            });
        }
        let rest = &self.batch.body[self.offset..];
        if self.position == self.batch.count {
            return match rest.len() {
                0 => Ok(None),
                count => Err(BatchError::TrailingBytes { count }),
            };
        }
        let position = self.position;
        let (command, length) =
            Command::decode(rest).map_err(|error| BatchError::Command { position, error })?;
        self.position += 1;
        self.offset += length;
        Ok(Some(command))
    }
}

/// Gathers commands into the payload of one raft entry, copying each once.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Room for the header, then the commands: sealing writes the header in place.
    bytes: Vec<u8>,
    count: u32,
}

impl BatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new() -> BatchBuilder {
        BatchBuilder {
            bytes: vec![0; BATCH_HEADER_BYTES],
            count: 0,
        }
    }

    /// Whether it holds no command.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of commands.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Length of the batch if it were sealed now, header included.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// The commands so far, back to back.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[BATCH_HEADER_BYTES..]
    }

    /// Adds the bytes of exactly one command, which [`Command::check`] has accepted.
    pub fn push(&mut self, command: &[u8]) {
        debug_assert_eq!(
            Command::decode(command).map(|(_, length)| length),
            Ok(command.len())
        );
        self.bytes.extend_from_slice(command);
        self.count += 1;
    }

    /// Hands out the batch, uncompressed, and begins an empty one.
    ///
    /// # Panics
    /// When the batch is empty: an entry without commands would be taken for a leader's first, empty one.
    pub fn seal(&mut self, time: ShardTime, term: u64) -> Vec<u8> {
        assert!(!self.is_empty(), "an empty batch is never proposed");
        let body_bytes = self.bytes.len() - BATCH_HEADER_BYTES;
        let header = generated::BatchHeader::new(
            VERSION,
            Codec::None as u16,
            self.count,
            time.0,
            term,
            length_u32(body_bytes),
            0,
        );
        self.bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header.0);
        // The next batch will be about as long: growing to it step by step would copy it several times.
        let mut next = Vec::with_capacity(self.bytes.len());
        next.resize(BATCH_HEADER_BYTES, 0);
        self.count = 0;
        std::mem::replace(&mut self.bytes, next)
    }

    /// Forgets the commands and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(BATCH_HEADER_BYTES);
        self.count = 0;
    }
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::new()
    }
}

impl Codec {
    fn from_number(number: u16) -> Option<Codec> {
        match number {
            0 => Some(Codec::None),
            1 => Some(Codec::Snappy),
            _ => None,
        }
    }
}

impl From<Short> for BatchError {
    fn from(short: Short) -> BatchError {
        BatchError::Truncated {
            needed: short.needed,
            available: short.available,
        }
    }
}

#[cfg(test)]
mod tests;
