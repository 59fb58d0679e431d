//! Bytes as people read them: one line, no control characters, and nothing lost.
//!
//! Text stays as it is. A backslash, control characters and whatever is not UTF-8 are escaped as `\\`, `\n`, `\r`, `\t`
//! and `\xNN`, so that the bytes can be told from it.

use std::fmt::{self, Write};

/// Shows bytes escaped.
pub(super) struct Escaped<'a>(pub(super) &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\\' => formatter.write_str("\\\\")?,
                    '\n' => formatter.write_str("\\n")?,
                    '\r' => formatter.write_str("\\r")?,
                    '\t' => formatter.write_str("\\t")?,
                    _ if character.is_control() => {
                        let mut bytes = [0; 4];
                        escape_bytes(formatter, character.encode_utf8(&mut bytes).as_bytes())?;
                    }
                    _ => formatter.write_char(character)?,
                }
            }
            escape_bytes(formatter, chunk.invalid())?;
        }
        Ok(())
    }
}

fn escape_bytes(formatter: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes
        .iter()
        .try_for_each(|byte| write!(formatter, "\\x{byte:02x}"))
}

/// The bytes that were escaped, `None` when the text is not what [`Escaped`] writes.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..position]);
        let escape = &rest[position + 1..];
        let (byte, length) = match escape.bytes().next()? {
            b'\\' => (b'\\', 1),
            b'n' => (b'\n', 1),
            b'r' => (b'\r', 1),
            b't' => (b'\t', 1),
            b'x' => (u8::from_str_radix(escape.get(1..3)?, 16).ok()?, 3),
            _ => return None,
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_readable_and_the_rest_is_escaped() {
        let shown = |bytes: &[u8]| Escaped(bytes).to_string();
        assert_eq!(shown("/a b/ü".as_bytes()), "/a b/ü");
        assert_eq!(shown(b"a\\b\tc\nd\re"), r"a\\b\tc\nd\re");
        assert_eq!(shown(b"\x00\x1b[2J\x7f"), r"\x00\x1b[2J\x7f");
        assert_eq!(shown(b"\xff/\xc3"), r"\xff/\xc3");
        // A control character outside ASCII could move a terminal's cursor too.
        assert_eq!(shown("\u{9b}".as_bytes()), r"\xc2\x9b");
    }

    #[test]
    fn every_pair_of_bytes_survives_the_round_trip() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let bytes = [first, second];
                assert_eq!(unescape(&Escaped(&bytes).to_string()), Some(bytes.to_vec()));
            }
        }
    }

    #[test]
    fn what_was_never_escaped_is_refused() {
        for text in ["\\", "\\q", "\\x", "\\x1", "\\xzz", "\\x\u{fc}"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }
}
