//! The frame: the 32 bytes in front of every message, in both directions.
//!
//! ```text
//!        0        1        2        3        4        5        6        7
//!   0 | magic "MST1"                      | version         | kind            |
//!   8 | flags                             | body length in bytes              |
//!  16 | request id                                                            |
//!  24 | deadline in ms                    | crc32                             |
//!  32 | body ...
//! ```
//!
//! All numbers are little-endian. The crc32 (IEEE) covers the first 28 bytes and the body, so a damaged header is
//! never trusted for more than its length, and that length is checked against a limit before anything is allocated.

use crate::generated::layout::FrameBase;

/// Bytes in front of every body.
pub const FRAME_HEADER_BYTES: usize = 32;

/// The first four bytes of every frame, `MST1`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"MST1");

/// The version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// The default limit of a whole frame: a value of the greatest size with its key, doubled for an answer that carries
/// the previous value, and room for the fixed parts.
pub const FRAME_BYTES_MAX_DEFAULT: usize = 4 * 1024 * 1024;

/// Where the checksum lies; everything before it is covered by it.
pub(crate) const CRC_OFFSET: usize = 28;

/// Where the body's length lies.
pub(crate) const BODY_LENGTH_OFFSET: usize = 12;

/// Where the request's id lies.
pub(crate) const REQUEST_ID_OFFSET: usize = 16;

const _: () = assert!(size_of::<FrameBase>() == FRAME_HEADER_BYTES);

/// Matches a response to its request. Chosen by the client, echoed by the server; 0 stands for the connection itself
/// and is never the id of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The id of what concerns the connection and no request.
    pub const CONNECTION: RequestId = RequestId(0);
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What a frame asks for or answers. A number is never given to another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum FrameKind {
    /// The first exchange on every connection.
    Hello = 1,
    /// Nothing, answered with nothing.
    Ping = 2,
    /// One key.
    Get = 3,
    /// Several keys of one shard at one revision.
    GetMany = 4,
    /// One command.
    Command = 5,
    /// Independent commands with an answer each.
    Batch = 6,
    /// A stream of rows.
    Range = 7,
    /// Ends a running range early.
    Cancel = 8,
    /// What the core that answers is doing.
    Status = 9,
    /// Which core serves which slots.
    ShardMap = 10,
    /// How many rows a range has.
    Count = 11,
    /// What an operator asks of the replicas of a shard.
    Admin = 12,
}

impl FrameKind {
    /// The kind of this number, if this version knows it.
    pub fn from_u16(number: u16) -> Option<FrameKind> {
        Some(match number {
            1 => FrameKind::Hello,
            2 => FrameKind::Ping,
            3 => FrameKind::Get,
            4 => FrameKind::GetMany,
            5 => FrameKind::Command,
            6 => FrameKind::Batch,
            7 => FrameKind::Range,
            8 => FrameKind::Cancel,
            9 => FrameKind::Status,
            10 => FrameKind::ShardMap,
            11 => FrameKind::Count,
            12 => FrameKind::Admin,
            _ => return None,
        })
    }

    /// The number on the wire.
    pub fn as_u16(self) -> u16 {
        self as u16
    }
}

/// Bits that say how to read a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FrameFlags(u32);

impl FrameFlags {
    /// No flag: a request.
    pub const NONE: FrameFlags = FrameFlags(0);
    /// The frame answers a request.
    pub const RESPONSE: FrameFlags = FrameFlags(1);
    /// Another frame with the same id follows.
    pub const MORE: FrameFlags = FrameFlags(2);
    /// The body is an error.
    pub const ERROR: FrameFlags = FrameFlags(4);

    const KNOWN: u32 = 7;

    /// Both sets of flags.
    #[must_use]
    pub const fn with(self, other: FrameFlags) -> FrameFlags {
        FrameFlags(self.0 | other.0)
    }

    /// The flags as they stand on the wire.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every flag of `other` is set.
    pub const fn has(self, other: FrameFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a frame's header says, once its magic, version and checksum have been found right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// A [`FrameKind`], or a number that a newer peer uses.
    pub kind: u16,
    /// How to read the body.
    pub flags: FrameFlags,
    /// Length of the body.
    pub body_bytes: u32,
    /// Which request this is or answers.
    pub request_id: RequestId,
    /// In a request: milliseconds left when it was sent, 0 for the server's default. In a response 0.
    pub deadline_ms: u32,
}

/// One whole frame, borrowed from the bytes it was cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The header.
    pub header: FrameHeader,
    /// The body, `header.body_bytes` long.
    pub body: &'a [u8],
    /// Bytes of the input that this frame took.
    pub consumed_bytes: usize,
}

/// Why bytes are not a frame. After any of these the stream has no next frame: the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The peer does not speak this protocol.
    #[error("the frame begins with {found:#010x} instead of \"MST1\"")]
    Magic {
        /// The first four bytes.
        found: u32,
    },
    /// The peer speaks another version of the framing.
    #[error("frame version {found} is not supported, only {PROTOCOL_VERSION}")]
    Version {
        /// The version of the frame.
        found: u16,
    },
    /// The frame is longer than the receiver takes.
    #[error("a frame of {actual} bytes is above the limit of {limit}")]
    TooLarge {
        /// The greatest frame allowed, header included.
        limit: usize,
        /// The frame's length, header included.
        actual: usize,
    },
    /// The frame was damaged on its way.
    #[error("the frame's checksum is {found:#010x}, its bytes give {expected:#010x}")]
    Checksum {
        /// Computed over the bytes received.
        expected: u32,
        /// Carried by the frame.
        found: u32,
    },
    /// A flag that this version does not know.
    #[error("the frame's flags {found:#x} contain unknown ones")]
    Flags {
        /// All flags of the frame.
        found: u32,
    },
}

/// Cuts the first frame off `input`. `None` says that more bytes are needed, which is not an error.
///
/// The length is checked against `frame_bytes_max` as soon as the header is there, so that a caller grows its buffer
/// only for a frame that may come in.
pub fn cut_frame(input: &[u8], frame_bytes_max: usize) -> Result<Option<Frame<'_>>, FrameError> {
    let Some(base) = parse_base(input, frame_bytes_max)? else {
        return Ok(None);
    };
    let consumed_bytes = FRAME_HEADER_BYTES + base.body_length() as usize;
    let Some(body) = input.get(FRAME_HEADER_BYTES..consumed_bytes) else {
        return Ok(None);
    };
    let expected = checksum(&input[..CRC_OFFSET], body);
    if expected != base.crc32() {
        return Err(FrameError::Checksum {
            expected,
            found: base.crc32(),
        });
    }
    if base.flags() & !FrameFlags::KNOWN != 0 {
        return Err(FrameError::Flags {
            found: base.flags(),
        });
    }
    let header = FrameHeader {
        kind: base.kind(),
        flags: FrameFlags(base.flags()),
        body_bytes: base.body_length(),
        request_id: RequestId(base.request_id()),
        deadline_ms: base.deadline_ms(),
    };
    Ok(Some(Frame {
        header,
        body,
        consumed_bytes,
    }))
}

/// Length of the frame that `input` begins with, header included, or `None` while the header is not complete.
pub fn frame_length(input: &[u8], frame_bytes_max: usize) -> Result<Option<usize>, FrameError> {
    let base = parse_base(input, frame_bytes_max)?;
    Ok(base.map(|base| FRAME_HEADER_BYTES + base.body_length() as usize))
}

/// The header's fields with magic, version and length checked; the checksum is not.
fn parse_base(input: &[u8], frame_bytes_max: usize) -> Result<Option<FrameBase>, FrameError> {
    let Some(bytes) = input.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(None);
    };
    let base = FrameBase(*bytes);
    if base.magic() != MAGIC {
        return Err(FrameError::Magic {
            found: base.magic(),
        });
    }
    if base.version() != PROTOCOL_VERSION {
        return Err(FrameError::Version {
            found: base.version(),
        });
    }
    let actual = FRAME_HEADER_BYTES.saturating_add(base.body_length() as usize);
    if actual > frame_bytes_max {
        return Err(FrameError::TooLarge {
            limit: frame_bytes_max,
            actual,
        });
    }
    Ok(Some(base))
}

/// Appends one frame to `out`. `body` appends the body's bytes behind what is there; length and checksum are patched
/// in place afterwards, so the body is never copied.
///
/// # Panics
/// When the body grows beyond `u32::MAX` bytes or `body` shortens the buffer.
pub fn append_frame(
    out: &mut Vec<u8>,
    kind: FrameKind,
    flags: FrameFlags,
    request_id: RequestId,
    deadline_ms: u32,
    body: impl FnOnce(&mut Vec<u8>),
) {
    append_frame_of(out, kind.as_u16(), flags, request_id, deadline_ms, body);
}

/// [`append_frame`] for an answer to a kind that may be unknown here, which is echoed all the same.
pub(crate) fn append_frame_of(
    out: &mut Vec<u8>,
    kind: u16,
    flags: FrameFlags,
    request_id: RequestId,
    deadline_ms: u32,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    let base = FrameBase::new(
        MAGIC,
        PROTOCOL_VERSION,
        kind,
        flags.0,
        0,
        request_id.0,
        deadline_ms,
        0,
    );
    out.extend_from_slice(&base.0);
    body(out);
    let body_start = start + FRAME_HEADER_BYTES;
    assert!(
        out.len() >= body_start,
        "a body must not shorten the buffer"
    );
    let body_bytes = u32::try_from(out.len() - body_start).expect("a body is shorter than 4 GiB");
    let (header, body) = out[start..].split_at_mut(FRAME_HEADER_BYTES);
    header[BODY_LENGTH_OFFSET..BODY_LENGTH_OFFSET + 4].copy_from_slice(&body_bytes.to_le_bytes());
    let crc = checksum(&header[..CRC_OFFSET], body);
    header[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
}

/// The checksum over the covered part of a header and the body behind it.
pub(crate) fn checksum(covered_header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(covered_header);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
