//! How fast a segment is filled with zeros: preparing the next one must not slow down the present one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often a paused preparation looks whether it may go on.
const PAUSE_STEP: Duration = Duration::from_millis(1);

/// The longest pause before one write. A log that has run out of spares waits for the preparation, which must then
/// arrive even if nobody ends the pause.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Shared between a core, which knows how its log stands, and the threads that write for it in the background.
#[derive(Clone, Debug, Default)]
pub struct Switch(Arc<AtomicBool>);

impl Switch {
    /// Turns it on or off.
    pub fn set(&self, is_on: bool) {
        self.0.store(is_on, Ordering::Relaxed);
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Limits the rate of a preparation. It sleeps: for threads that may block.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    bytes_per_second_max: Option<u64>,
    pause: Switch,
    hurry: Switch,
}

impl Pace {
    /// As fast as the disk allows: at start, when nothing else is written.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// At most `bytes_per_second_max`, and slower while `pause` is on. 0 counts as 1.
    #[must_use]
    pub fn limited(bytes_per_second_max: u64, pause: Switch) -> Self {
        Self {
            bytes_per_second_max: Some(bytes_per_second_max.max(1)),
            pause,
            hurry: Switch::default(),
        }
    }

    /// As it was, but as fast as the disk allows while `hurry` is on: a log that waits for what is written here is
    /// behind because of that.
    #[must_use]
    pub fn hurried_by(self, hurry: Switch) -> Self {
        Self { hurry, ..self }
    }

    /// Waits until the next write may begin: `written_bytes` have been written since `began`.
    pub(super) fn wait(&self, written_bytes: u64, began: Instant) {
        while !self.hurry.is_on() {
            let ahead = self.ahead(written_bytes, began.elapsed());
            if ahead.is_zero() {
                break;
            }
            thread::sleep(ahead.min(PAUSE_MAX));
        }
        let paused = Instant::now();
        while self.pause.is_on() && !self.hurry.is_on() && paused.elapsed() < PAUSE_MAX {
            thread::sleep(PAUSE_STEP);
        }
    }

    /// By how much it is behind its rate.
    pub(super) fn behind(&self, written_bytes: u64, elapsed: Duration) -> Duration {
        elapsed.saturating_sub(self.due(written_bytes))
    }

    /// By how much the preparation is ahead of its rate.
    fn ahead(&self, written_bytes: u64, elapsed: Duration) -> Duration {
        self.due(written_bytes).saturating_sub(elapsed)
    }

    /// How long so many bytes take at the rate.
    fn due(&self, written_bytes: u64) -> Duration {
        let Some(rate) = self.bytes_per_second_max else {
            return Duration::ZERO;
        };
        let due_us = u128::from(written_bytes) * 1_000_000 / u128::from(rate);
        Duration::from_micros(u64::try_from(due_us).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn it_waits_for_what_it_is_ahead() {
        let pace = Pace::limited(64 * MIB, Switch::default());
        assert_eq!(
            pace.ahead(32 * MIB, Duration::from_millis(100)),
            Duration::from_millis(400)
        );
        assert_eq!(
            pace.ahead(32 * MIB, Duration::from_millis(700)),
            Duration::ZERO
        );
        assert_eq!(
            Pace::unlimited().ahead(u64::MAX, Duration::ZERO),
            Duration::ZERO
        );
    }

    #[test]
    fn a_pause_that_nobody_ends_only_slows() {
        let pause = Switch::default();
        let pace = Pace::limited(u64::MAX, pause.clone());
        pause.set(true);
        let began = Instant::now();
        pace.wait(0, began);
        assert!(began.elapsed() >= PAUSE_MAX);
    }

    #[test]
    fn what_is_urgent_neither_keeps_to_a_rate_nor_pauses() {
        let (pause, hurry) = (Switch::default(), Switch::default());
        let pace = Pace::limited(1, pause.clone()).hurried_by(hurry.clone());
        pause.set(true);
        hurry.set(true);
        let began = Instant::now();
        pace.wait(1 << 30, began);
        assert!(began.elapsed() < PAUSE_MAX);
        // It becomes urgent while it waits.
        hurry.set(false);
        let later = thread::spawn(move || {
            thread::sleep(2 * PAUSE_MAX);
            hurry.set(true);
        });
        pace.wait(1 << 30, began);
        assert!(began.elapsed() >= 2 * PAUSE_MAX);
        later.join().unwrap();
    }
}
