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

/// Shared between a core, which knows whether its log is behind, and the thread that prepares a segment for it.
#[derive(Clone, Debug, Default)]
pub struct PauseSwitch(Arc<AtomicBool>);

impl PauseSwitch {
    /// Preparation waits before its next write.
    pub fn pause(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Preparation goes on.
    pub fn resume(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether preparation waits.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Limits the rate of a preparation. It sleeps: for threads that may block.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    bytes_per_second_max: Option<u64>,
    pause: PauseSwitch,
}

impl Pace {
    /// As fast as the disk allows: at start, when nothing else is written.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// At most `bytes_per_second_max`, and slower while `pause` says so. 0 counts as 1.
    #[must_use]
    pub fn limited(bytes_per_second_max: u64, pause: PauseSwitch) -> Self {
        Self {
            bytes_per_second_max: Some(bytes_per_second_max.max(1)),
            pause,
        }
    }

    /// Waits until the next write may begin: `written_bytes` have been written since `began`.
    pub(super) fn wait(&self, written_bytes: u64, began: Instant) {
        let ahead = self.ahead(written_bytes, began.elapsed());
        if !ahead.is_zero() {
            thread::sleep(ahead);
        }
        let paused = Instant::now();
        while self.pause.is_paused() && paused.elapsed() < PAUSE_MAX {
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
        let pace = Pace::limited(64 * MIB, PauseSwitch::default());
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
        let pause = PauseSwitch::default();
        let pace = Pace::limited(u64::MAX, pause.clone());
        pause.pause();
        let began = Instant::now();
        pace.wait(0, began);
        assert!(began.elapsed() >= PAUSE_MAX);
        pause.resume();
        assert!(!pause.is_paused());
    }
}
