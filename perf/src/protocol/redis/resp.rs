//! Answers of redis as bytes.
//!
//! ```text
//! +OK\r\n                simple string
//! -ERR what happened\r\n error
//! :42\r\n                integer
//! $5\r\nvalue\r\n        string of so many bytes, whatever they are
//! $-1\r\n                no string
//! ```
//!
//! Arrays are refused: nothing that is asked is answered with one.

/// The longest line without its end: an error's text, or a number.
const LINE_BYTES_MAX: usize = 4096;

/// The longest string: far above any value of the load.
const BULK_BYTES_MAX: usize = 16 << 20;

/// One answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Simple(&'a [u8]),
    Error(&'a [u8]),
    Integer(i64),
    Bulk(&'a [u8]),
    Null,
}

/// The bytes that came are no answers of redis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RespError {
    #[error("an answer of redis begins with the byte {found:#04x}")]
    Kind { found: u8 },
    #[error("a line of redis is longer than {LINE_BYTES_MAX} bytes")]
    LongLine,
    #[error("redis sent {text:?} where a number is needed")]
    Number { text: String },
    #[error("redis announced a string of {length} bytes; at most {BULK_BYTES_MAX} are taken")]
    Length { length: i64 },
    #[error("a string of redis does not end where it should")]
    Unterminated,
    #[error("redis answered what was not asked")]
    NotAsked,
}

/// The first answer and its length in bytes, or `None` while it is incomplete.
pub(super) fn cut_value(bytes: &[u8]) -> Result<Option<(Value<'_>, usize)>, RespError> {
    let Some((&mark, behind_mark)) = bytes.split_first() else {
        return Ok(None);
    };
    if !b"+-:$".contains(&mark) {
        return Err(RespError::Kind { found: mark });
    }
    let Some(line) = cut_line(behind_mark)? else {
        return Ok(None);
    };
    let line_bytes = 1 + line.len() + 2;
    let value = match mark {
        b'+' => Value::Simple(line),
        b'-' => Value::Error(line),
        b':' => Value::Integer(number(line)?),
        _ => return cut_bulk(number(line)?, line_bytes, bytes),
    };
    Ok(Some((value, line_bytes)))
}

/// A string whose own line of `line_bytes` bytes has announced its length.
fn cut_bulk(
    length: i64,
    line_bytes: usize,
    bytes: &[u8],
) -> Result<Option<(Value<'_>, usize)>, RespError> {
    if length == -1 {
        return Ok(Some((Value::Null, line_bytes)));
    }
    let body_bytes = usize::try_from(length)
        .ok()
        .filter(|&body_bytes| body_bytes <= BULK_BYTES_MAX)
        .ok_or(RespError::Length { length })?;
    let end = line_bytes + body_bytes;
    if bytes.len() < end + 2 {
        return Ok(None);
    }
    if &bytes[end..end + 2] != b"\r\n" {
        return Err(RespError::Unterminated);
    }
    Ok(Some((Value::Bulk(&bytes[line_bytes..end]), end + 2)))
}

/// The bytes before the end of the line, or `None` while that is missing.
fn cut_line(bytes: &[u8]) -> Result<Option<&[u8]>, RespError> {
    let searched = &bytes[..bytes.len().min(LINE_BYTES_MAX + 2)];
    if let Some(end) = searched.windows(2).position(|pair| pair == b"\r\n") {
        return Ok(Some(&bytes[..end]));
    }
    if searched.len() == LINE_BYTES_MAX + 2 {
        return Err(RespError::LongLine);
    }
    Ok(None)
}

fn number(line: &[u8]) -> Result<i64, RespError> {
    let text = String::from_utf8_lossy(line);
    text.parse().map_err(|_| RespError::Number {
        text: text.into_owned(),
    })
}
