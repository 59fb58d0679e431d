//! Where reports go: text for people, JSON for programs.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::PerfError;

/// Text and JSON of one command. When the JSON goes to the standard output, the text goes to standard error.
#[derive(Debug)]
pub(crate) struct Output {
    json: Option<PathBuf>,
}

impl Output {
    /// JSON goes to a file, to the standard output for `-`, or nowhere.
    pub(crate) fn new(json: Option<PathBuf>) -> Output {
        Output { json }
    }

    /// One line for people.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), PerfError> {
        let result = if self.json_is_on_stdout() {
            writeln!(io::stderr(), "{line}")
        } else {
            writeln!(io::stdout(), "{line}")
        };
        result.map_err(|source| PerfError::Output { source })
    }

    /// A table for people.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), PerfError> {
        for line in table.lines() {
            self.line(&line)?;
        }
        Ok(())
    }

    /// Everything for programs.
    pub(crate) fn json(&mut self, report: &impl Serialize) -> Result<(), PerfError> {
        let Some(path) = &self.json else {
            return Ok(());
        };
        let mut text =
            serde_json::to_vec_pretty(report).map_err(|source| PerfError::Json { source })?;
        text.push(b'\n');
        let result = if self.json_is_on_stdout() {
            io::stdout().write_all(&text)
        } else {
            fs::write(path, &text)
        };
        result.map_err(|source| PerfError::Output { source })
    }

    fn json_is_on_stdout(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }
}

/// A table with the first column to the left and numbers to the right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with its head.
    pub(crate) fn new(head: &[&str]) -> Table {
        Table {
            rows: vec![head.iter().map(|&title| title.to_owned()).collect()],
        }
    }

    /// Adds a row, as long as the head.
    pub(crate) fn row(&mut self, row: Vec<String>) {
        assert_eq!(
            row.len(),
            self.rows[0].len(),
            "a row is as long as the head"
        );
        self.rows.push(row);
    }

    fn lines(&self) -> Vec<String> {
        let width_of = |column: usize| {
            let widths = self.rows.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width_of).collect();
        let line = |row: &Vec<String>| {
            let mut line = format!("{:<width$}", row[0], width = widths[0]);
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                line.push_str(&format!("  {cell:>width$}"));
            }
            line.trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// A number with about three significant digits, thousands separated.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => return grouped(value.round() as i64),
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.01 => 3,
        size if size > 0.0 => 5,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// A whole number, thousands separated.
pub(crate) fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::from(if value < 0 { "-" } else { "" });
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        let cases = [
            (0.0, "0"),
            (0.012_34, "0.012"),
            (0.001_234, "0.00123"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1_234.0, "1,234"),
            (1_234_567.0, "1,234,567"),
            (-1_234.0, "-1,234"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["name", "n"]);
        table.row(vec!["a".to_owned(), "1,000".to_owned()]);
        assert_eq!(table.lines(), ["name      n", "a     1,000"]);
    }
}
