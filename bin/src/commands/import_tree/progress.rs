//! Signs of life during a long command, on the standard error.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a terminal's line is written again.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(200);
/// How often a line is added to anything else, such as a job's log.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// What has been done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// A line that tells how far a command is.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    told: Instant,
    is_terminal: bool,
    has_line: bool,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let now = Instant::now();
        Progress {
            began: now,
            told: now,
            is_terminal: io::stderr().is_terminal(),
            has_line: false,
        }
    }

    /// Tells how far it is, now and then.
    pub(super) fn tell(&mut self, amount: Amount) {
        let interval = if self.is_terminal {
            TERMINAL_INTERVAL
        } else {
            LOG_INTERVAL
        };
        if self.told.elapsed() < interval {
            return;
        }
        self.told = Instant::now();
        let text = self.summary(amount);
        // Progress that nobody can see is no reason to stop.
        let _ = if self.is_terminal {
            self.has_line = true;
            write!(io::stderr(), "\r\x1b[K{text}")
        } else {
            writeln!(io::stderr(), "{text}")
        };
    }

    /// Makes room for something else on a terminal.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.has_line) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// `12 entries, 3456 bytes, 0.123 s, 97 entries/s`
    pub(super) fn summary(&self, amount: Amount) -> String {
        summary(amount, self.elapsed())
    }
}

/// How much was done in how long.
fn summary(amount: Amount, elapsed: Duration) -> String {
    let Amount { entries, bytes } = amount;
    let seconds = elapsed.as_secs_f64();
    let rate = rate_per_s(entries, elapsed);
    format!("{entries} entries, {bytes} bytes, {seconds:.3} s, {rate:.0} entries/s")
}

/// Entries a second.
pub(super) fn rate_per_s(entries: u64, elapsed: Duration) -> f64 {
    entries as f64 / elapsed.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_how_much_and_how_fast() {
        let amount = Amount {
            entries: 1000,
            bytes: 123_456,
        };
        assert_eq!(
            summary(amount, Duration::from_millis(500)),
            "1000 entries, 123456 bytes, 0.500 s, 2000 entries/s"
        );
        // Nothing in no time is no division by zero.
        assert!(rate_per_s(0, Duration::ZERO).is_finite());
    }
}
