//! One message as a line: text for people, JSON for programs.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};
use std::time::SystemTime;

use super::timestamp::Timestamp;
use crate::config::LogFormat;

/// How important a message is, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Level {
    /// Somebody must do something.
    Error = 1,
    /// Somebody should know.
    Warn,
    /// What the node does.
    Info,
    /// How it does it.
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// A named value that a message carries.
pub(crate) type Field<'a> = (&'a str, FieldValue<'a>);

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FieldValue<'a> {
    Number(u64),
    Signed(i64),
    Text(Cow<'a, str>),
}

impl From<u64> for FieldValue<'_> {
    fn from(number: u64) -> Self {
        FieldValue::Number(number)
    }
}

impl From<u16> for FieldValue<'_> {
    fn from(number: u16) -> Self {
        FieldValue::Number(u64::from(number))
    }
}

impl From<usize> for FieldValue<'_> {
    fn from(number: usize) -> Self {
        FieldValue::Number(number as u64)
    }
}

impl<'a> From<&'a str> for FieldValue<'a> {
    fn from(text: &'a str) -> Self {
        FieldValue::Text(Cow::Borrowed(text))
    }
}

impl From<String> for FieldValue<'_> {
    fn from(text: String) -> Self {
        FieldValue::Text(Cow::Owned(text))
    }
}

/// A field of whatever can be shown.
pub(crate) fn text(value: &dyn Display) -> FieldValue<'static> {
    FieldValue::Text(Cow::Owned(value.to_string()))
}

/// A message before it is a line.
pub(super) struct Message<'a> {
    pub(super) time: SystemTime,
    pub(super) level: Level,
    pub(super) words: &'a str,
    pub(super) fields: &'a [Field<'a>],
    /// Messages of the same place that were not written since its last one.
    pub(super) suppressed: u64,
}

/// A line is not longer than this, so that the queue is bounded in bytes too.
pub(super) const LINE_BYTES_MAX: usize = 8 << 10;
/// Of a text in a message, so that what follows it still fits.
const TEXT_BYTES_MAX: usize = 2 << 10;

impl Message<'_> {
    /// The message with its end of line.
    pub(super) fn format(&self, format: LogFormat) -> String {
        let mut line = match format {
            LogFormat::Text => self.text_line(),
            LogFormat::Json => self.json_line(),
        };
        line.push('\n');
        line
    }

    fn text_line(&self) -> String {
        let time = Timestamp(self.time);
        let level = self.level.name().to_uppercase();
        let mut line = format!("{time} {level:<5} {}", Plain(cut(self.words)));
        for (name, value) in self.all_fields() {
            let field = match &value {
                FieldValue::Number(number) => format!(" {name}={number}"),
                FieldValue::Signed(number) => format!(" {name}={number}"),
                FieldValue::Text(text) if is_plain_word(text) => format!(" {name}={text}"),
                FieldValue::Text(text) => format!(" {name}={}", json_string(cut(text))),
            };
            push_if_short(&mut line, &field);
        }
        line
    }

    fn json_line(&self) -> String {
        let mut line = format!(
            "{{\"time\":\"{}\",\"level\":\"{}\",\"message\":{}",
            Timestamp(self.time),
            self.level.name(),
            json_string(cut(self.words))
        );
        for (name, value) in self.all_fields() {
            let name = json_string(name);
            let field = match &value {
                FieldValue::Number(number) => format!(",{name}:{number}"),
                FieldValue::Signed(number) => format!(",{name}:{number}"),
                FieldValue::Text(text) => format!(",{name}:{}", json_string(cut(text))),
            };
            push_if_short(&mut line, &field);
        }
        line.push('}');
        line
    }

    fn all_fields(&self) -> impl Iterator<Item = Field<'_>> {
        let suppressed = ("suppressed", FieldValue::Number(self.suppressed));
        let fields = self.fields.iter().cloned();
        fields.chain((self.suppressed > 0).then_some(suppressed))
    }
}

/// A field is written whole or not at all: half of one would no longer be JSON.
fn push_if_short(line: &mut String, field: &str) {
    if line.len() + field.len() + 2 <= LINE_BYTES_MAX {
        line.push_str(field);
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// Whether a text can stand behind its name without quotation marks.
fn is_plain_word(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"=\\".contains(&byte);
    !text.is_empty() && text.len() < 100 && text.bytes().all(is_plain)
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Words without what could begin another line or move a terminal's cursor.
struct Plain<'a>(&'a str);

impl Display for Plain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character.is_control() {
                true => formatter.write_char(' ')?,
                false => formatter.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn message<'a>(words: &'a str, fields: &'a [Field<'a>]) -> Message<'a> {
        Message {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            level: Level::Warn,
            words,
            fields,
            suppressed: 0,
        }
    }

    #[test]
    fn people_read_words_and_fields() {
        let fields = [
            ("core", FieldValue::from(3_u16)),
            ("path", "/srv/core-3".into()),
            ("error", "No space left on \"device\"\n".into()),
            ("offset", FieldValue::Signed(-1)),
        ];
        assert_eq!(
            message("no room\nhere", &fields).format(LogFormat::Text),
            "2023-11-14T22:13:20.123Z WARN  no room here core=3 path=/srv/core-3 error=\"No space left on \\\"device\\\"\\n\" offset=-1\n"
        );
    }

    #[test]
    fn programs_read_one_object_a_line() {
        let fields = [
            ("core", FieldValue::from(3_u16)),
            ("error", "a \"b\"\n\u{1b}".into()),
        ];
        let mut message = message("words", &fields);
        message.suppressed = 7;
        let line = message.format(LogFormat::Json);
        assert_eq!(line.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["level"], "warn");
        assert_eq!(value["time"], "2023-11-14T22:13:20.123Z");
        assert_eq!(value["core"], 3);
        assert_eq!(value["error"], "a \"b\"\n\u{1b}");
        assert_eq!(value["suppressed"], 7);
    }

    #[test]
    fn a_line_has_a_limit_and_stays_whole() {
        let long = "ü\n".repeat(100_000);
        let fields: Vec<Field<'_>> = (0..9).map(|_| ("text", long.as_str().into())).collect();
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = message(&long, &fields).format(format);
            assert!(line.len() <= LINE_BYTES_MAX, "{}", line.len());
            assert_eq!(line.lines().count(), 1);
        }
        let line = message(&long, &fields).format(LogFormat::Json);
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
    }
}
