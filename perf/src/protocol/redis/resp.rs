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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every answer and its bytes.
    const GOLDEN: [(&[u8], Value<'_>); 8] = [
        (b"+OK\r\n", Value::Simple(b"OK")),
        (b"+\r\n", Value::Simple(b"")),
        (
            b"-OOM command not allowed\r\n",
            Value::Error(b"OOM command not allowed"),
        ),
        (b":-42\r\n", Value::Integer(-42)),
        (b"$5\r\nva\r\ne\r\n", Value::Bulk(b"va\r\ne")),
        (b"$0\r\n\r\n", Value::Bulk(b"")),
        (b"$-1\r\n", Value::Null),
        (b"$12\r\n0123456789ab\r\n", Value::Bulk(b"0123456789ab")),
    ];

    #[test]
    fn every_answer_is_cut_where_it_ends_and_not_before() {
        for (bytes, value) in GOLDEN {
            assert_eq!(cut_value(bytes), Ok(Some((value, bytes.len()))));
            for end in 0..bytes.len() {
                assert_eq!(cut_value(&bytes[..end]), Ok(None), "{bytes:?} to {end}");
            }
            let more = [bytes, b"+OK\r\n"].concat();
            assert_eq!(cut_value(&more), Ok(Some((value, bytes.len()))));
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let refused = |bytes: &[u8]| cut_value(bytes).unwrap_err();
        assert_eq!(refused(b"*1\r\n"), RespError::Kind { found: b'*' });
        assert_eq!(refused(b"\0"), RespError::Kind { found: 0 });
        for number in ["", "x", "1x", "99999999999999999999"] {
            let text = number.to_owned();
            let line = format!(":{number}\r\n");
            assert_eq!(refused(line.as_bytes()), RespError::Number { text });
        }
        for length in [-2, i64::MIN, BULK_BYTES_MAX as i64 + 1, i64::MAX] {
            let line = format!("${length}\r\n");
            assert_eq!(refused(line.as_bytes()), RespError::Length { length });
        }
        assert_eq!(refused(b"$1\r\nabc"), RespError::Unterminated);
        let mut line = vec![b'+'];
        line.resize(1 + LINE_BYTES_MAX + 1, b'x');
        assert_eq!(cut_value(&line), Ok(None), "it may still end in time");
        line.push(b'x');
        assert_eq!(refused(&line), RespError::LongLine);
    }
}
