//! The file: TOML, every value with the line on which it stands.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::kind::Written;

/// No configuration is as long as this.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One key as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// With its sections, joined by dots.
    pub(super) name: String,
    pub(super) written: Written,
    /// The value as it stands in the file.
    pub(super) source: String,
    pub(super) line: usize,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLong {
            path: path.to_owned(),
            limit_bytes: FILE_BYTES_MAX,
        });
    }
    read_text(path, &text)
}

/// What stands in a file of this text.
pub(super) fn read_text(path: &Path, text: &str) -> Result<Vec<Line>, ConfigError> {
    parse(text).map_err(|(line, cause)| ConfigError::Syntax {
        origin: Origin::File {
            path: path.to_owned(),
            line,
        },
        cause,
    })
}

/// Every value of a text, or the line on which it stops being TOML, and why.
fn parse(text: &str) -> Result<Vec<Line>, (usize, String)> {
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        (line_at(text, offset), error.message().to_owned())
    })?;
    let mut lines = Vec::new();
    collect(text, "", table.get_ref(), &mut lines);
    lines.sort_by_key(|line| line.line);
    Ok(lines)
}

fn collect(text: &str, prefix: &str, table: &DeTable<'_>, lines: &mut Vec<Line>) {
    for (key, value) in table {
        // A dot in a quoted key is not one between sections, and no key has such a name.
        let own = key.get_ref().replace('.', "\\.");
        let name = format!("{prefix}{own}");
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => {
                collect(text, &format!("{name}."), inner, lines);
            }
            // A section without keys says nothing; its name is checked with a key that cannot be.
            DeValue::Table(_) => {
                lines.push(line(text, format!("{name}."), key.span().start, value))
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => lines.push(line(text, name, key.span().start, value)),
        }
    }
}

fn line(text: &str, name: String, offset: usize, value: &Spanned<DeValue<'_>>) -> Line {
    let written = match value.get_ref() {
        DeValue::String(text) => Written::Text(text.clone().into_owned()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Written::Integer(number.to_string()),
            // It is out of every bound, and stays as it was written.
            Err(_) => Written::Integer(integer.as_str().to_owned()),
        },
        other @ (DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_)) => Written::Other(other.type_str()),
    };
    Line {
        name,
        written,
        source: text.get(value.span()).unwrap_or_default().to_owned(),
        line: line_at(text, offset),
    }
}

/// The number of the line that holds an offset, counted from 1.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let text = "data = \"d\"\n\n[wal]\n# a comment\nbudget = \"8GiB\"\nspare_segments = 0x4\n\n[raft]\n";
        let lines = parse(text).expect("this is TOML");
        let found: Vec<_> = lines
            .iter()
            .map(|line| (line.name.as_str(), line.line))
            .collect();
        assert_eq!(
            found,
            [
                ("data", 1),
                ("wal.budget", 5),
                ("wal.spare_segments", 6),
                ("raft.", 8),
            ]
        );
        assert_eq!(lines[1].source, "\"8GiB\"");
        assert_eq!(lines[2].source, "0x4");
        assert_eq!(lines[2].written, Written::Integer("4".to_owned()));
    }

    #[test]
    fn what_is_not_toml_is_named_by_its_line() {
        let (line, cause) = parse("a = 1\nb = \n").expect_err("b has no value");
        assert_eq!(line, 2, "{cause}");
        let (line, _) = parse("[wal]\nx = 1\nx = 2\n").expect_err("x is there twice");
        assert_eq!(line, 3);
    }

    #[test]
    fn a_dot_in_quotation_marks_does_not_make_a_section() {
        let lines = parse("\"wal.budget\" = \"1GiB\"\n").expect("this is TOML");
        assert_eq!(lines[0].name, "wal\\.budget");
    }
}
