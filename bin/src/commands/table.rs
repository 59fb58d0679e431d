//! Tables for people.

use std::io::{self, Write};

/// Rows of cells, printed in columns. Numbers stand at the right, everything else at the left.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const COUNT: usize>(titles: [&str; COUNT]) -> Table {
        let titles = titles.map(str::to_owned);
        Table {
            rows: vec![titles.into()],
        }
    }

    /// Adds a row with as many cells as there are titles.
    pub(super) fn row<const COUNT: usize>(&mut self, cells: [String; COUNT]) {
        assert_eq!(COUNT, self.rows[0].len(), "a cell for each title");
        self.rows.push(cells.into());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = 0..self.rows[0].len();
        let widths: Vec<usize> = columns.clone().map(|column| self.width(column)).collect();
        let numeric: Vec<bool> = columns.map(|column| self.is_numeric(column)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let padding = " ".repeat(widths[column] - cell.chars().count());
                let (left, right) = if numeric[column] {
                    (padding.as_str(), "")
                } else {
                    ("", padding.as_str())
                };
                line.extend([left, cell, right, "  "]);
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn width(&self, column: usize) -> usize {
        let lengths = self.rows.iter().map(|row| row[column].chars().count());
        lengths.max().unwrap_or(0)
    }

    fn is_numeric(&self, column: usize) -> bool {
        let starts_with_digit = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit());
        !self.is_empty()
            && self.rows[1..]
                .iter()
                .all(|row| starts_with_digit(&row[column]) && !row[column].contains(':'))
    }
}

/// A number of bytes with three significant digits or so.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A duration with a unit that fits.
pub(super) fn duration_ns(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    if nanoseconds < 1000 {
        format!("{nanoseconds} ns")
    } else if nanoseconds < 1_000_000 {
        format!("{:.1} us", value / 1e3)
    } else if nanoseconds < 1_000_000_000 {
        format!("{:.2} ms", value / 1e6)
    } else {
        format!("{:.2} s", value / 1e9)
    }
}

/// How long something has lasted, to the second.
pub(super) fn uptime(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let clock = format!("{hours:02}:{minutes:02}:{:02}", seconds % 60);
    if days == 0 {
        clock
    } else {
        format!("{days} d {clock}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["core", "address", "x"]);
        table.row(["0".into(), "127.0.0.1:7400".into(), "Ü".into()]);
        table.row(["10".into(), "[::1]:1".into(), "long".into()]);
        let mut out = Vec::new();
        table.print(&mut out).expect("memory takes it");
        let expected =
            "core  address         x\n   0  127.0.0.1:7400  Ü\n  10  [::1]:1         long\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn quantities_have_units_that_fit() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(64 << 20), "64.0 MiB");
        assert_eq!(size(u64::MAX), "16384.0 PiB");
        assert_eq!(duration_ns(999), "999 ns");
        assert_eq!(duration_ns(1500), "1.5 us");
        assert_eq!(duration_ns(2_340_000), "2.34 ms");
        assert_eq!(duration_ns(5_000_000_000), "5.00 s");
        assert_eq!(uptime(3_723_999), "01:02:03");
        assert_eq!(uptime(86_400_000 * 3), "3 d 00:00:00");
    }
}
