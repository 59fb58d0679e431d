//! The differences, as they are found.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::difference::{Difference, Verdict};
use super::progress::{Amount, Progress, rate_per_s};
use crate::arguments::Format;
use crate::commands::text::Escaped;
use crate::commands::{CommandError, Exit, json, tell};

/// How many differences are named; the rest is counted.
const NAMED_MAX: u64 = 1000;

/// Names differences, and counts them.
pub(super) struct Report<'o> {
    out: &'o mut dyn Write,
    format: Format,
    progress: Progress,
    /// Entries read back, and the bytes of their keys and values.
    pub(super) amount: Amount,
    pub(super) directories: u64,
    differences: u64,
    /// Entries found missing: an entry can be missed when it is read back and again when its directory is listed.
    missing: BTreeSet<PathBuf>,
    settled: u64,
}

impl<'o> Report<'o> {
    pub(super) fn new(format: Format, out: &'o mut dyn Write) -> Report<'o> {
        Report {
            out,
            format,
            progress: Progress::new(),
            amount: Amount::default(),
            directories: 0,
            differences: 0,
            missing: BTreeSet::new(),
            settled: 0,
        }
    }

    /// Takes note of what a second look showed.
    pub(super) fn verdict(&mut self, path: &Path, verdict: &Verdict) -> Result<(), CommandError> {
        match verdict {
            Verdict::Differs(difference) => self.difference(path, difference, difference.kind()),
            Verdict::Changed(difference) => self.difference(path, difference, "changed"),
            Verdict::Settled => {
                self.settled += 1;
                if self.settled <= NAMED_MAX {
                    self.progress.clear();
                    let path = Escaped(path.as_os_str().as_encoded_bytes());
                    tell(&format_args!(
                        "{path} changed during the comparison and is right now"
                    ));
                }
                Ok(())
            }
        }
    }

    fn difference(
        &mut self,
        path: &Path,
        difference: &Difference,
        kind: &str,
    ) -> Result<(), CommandError> {
        if *difference == Difference::Missing && !self.missing.insert(path.to_owned()) {
            return Ok(());
        }
        self.differences += 1;
        if self.differences > NAMED_MAX {
            return Ok(());
        }
        self.progress.clear();
        let path = path.as_os_str().as_encoded_bytes();
        let written = if self.format == Format::Json {
            let mut document = difference.json();
            document["path"] = json::bytes(path);
            document["difference"] = json!(kind);
            writeln!(self.out, "{document}")
        } else {
            writeln!(self.out, "{kind} {}: {difference}", Escaped(path))
        };
        written.map_err(CommandError::Output)
    }

    /// Tells how far it is, now and then.
    pub(super) fn progress(&mut self) {
        self.progress.tell(self.amount);
    }

    /// The last lines: the very last one says how many differences there are.
    pub(super) fn finish(mut self, mounts_passed: u64) -> Result<Exit, CommandError> {
        self.progress.clear();
        let written = if self.format == Format::Json {
            let elapsed = self.progress.elapsed();
            let answer = json!({
                "differences": self.differences,
                "entries": self.amount.entries,
                "bytes": self.amount.bytes,
                "directories": self.directories,
                "seconds": elapsed.as_secs_f64(),
                "entries_per_s": rate_per_s(self.amount.entries, elapsed),
                "settled": self.settled,
                "mounts_not_entered": mounts_passed,
            });
            writeln!(self.out, "{answer}")
        } else {
            self.print_for_people(mounts_passed)
        };
        written.map_err(CommandError::Output)?;
        Ok(if self.differences == 0 {
            Exit::Done
        } else {
            Exit::Negative
        })
    }

    fn print_for_people(&mut self, mounts_passed: u64) -> io::Result<()> {
        if let Some(unnamed @ 1..) = self.differences.checked_sub(NAMED_MAX) {
            writeln!(self.out, "{unnamed} more differences not named")?;
        }
        if mounts_passed > 0 {
            writeln!(self.out, "{mounts_passed} other file systems not entered")?;
        }
        writeln!(self.out, "{} directories listed", self.directories)?;
        writeln!(self.out, "{}", self.progress.summary(self.amount))?;
        writeln!(self.out, "{} differences", self.differences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first is `/a` alone.
    fn suffix(number: u64) -> String {
        match number {
            0 => String::new(),
            number => number.to_string(),
        }
    }

    fn report(format: Format, differences: u64) -> (Exit, String) {
        let mut out = Vec::new();
        let mut report = Report::new(format, &mut out);
        for number in 0..differences {
            let verdict = Verdict::Differs(Difference::Missing);
            report
                .verdict(Path::new(&format!("/a{}", suffix(number))), &verdict)
                .expect("memory takes it");
        }
        let exit = report.finish(0).expect("memory takes it");
        (exit, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn the_last_line_counts_the_differences() {
        let (exit, text) = report(Format::People, 0);
        assert_eq!(
            (exit, text.lines().last()),
            (Exit::Done, Some("0 differences"))
        );
        let (exit, text) = report(Format::People, 1);
        assert_eq!(
            (exit, text.lines().last()),
            (Exit::Negative, Some("1 differences"))
        );
        assert_eq!(
            text.lines().next(),
            Some("missing /a: in the tree, not in the store")
        );
    }

    #[test]
    fn beyond_a_limit_differences_are_counted_only() {
        let (_, text) = report(Format::People, NAMED_MAX + 7);
        assert_eq!(text.matches("missing /a").count() as u64, NAMED_MAX);
        assert!(text.contains("\n7 more differences not named\n"));
        assert!(text.ends_with("\n1007 differences\n"));
    }

    #[test]
    fn programs_are_told_the_same() {
        let (exit, text) = report(Format::Json, 1);
        assert_eq!(exit, Exit::Negative);
        let documents: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(documents[0], json!({"path": "/a", "difference": "missing"}));
        assert_eq!(documents[1]["differences"], 1);
    }

    #[test]
    fn what_settled_is_no_difference_and_what_changed_is_one() {
        let mut out = Vec::new();
        let mut report = Report::new(Format::People, &mut out);
        let path = Path::new("/a");
        report
            .verdict(path, &Verdict::Settled)
            .expect("memory takes it");
        let changed = Verdict::Changed(Difference::Extra);
        report.verdict(path, &changed).expect("memory takes it");
        assert_eq!(report.finish(0).expect("memory takes it"), Exit::Negative);
        let text = String::from_utf8(out).expect("text");
        assert!(
            text.starts_with("changed /a: in the store, not in the tree\n"),
            "{text}"
        );
        assert!(text.ends_with("\n1 differences\n"), "{text}");
    }
}
