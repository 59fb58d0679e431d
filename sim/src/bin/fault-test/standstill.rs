//! Whether this very process stood still: a machine that is suspended, or a harness that is stopped together with its
//! nodes, says nothing about how long nodes take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::stopwatch::Stopwatch;

/// Watches from when it was made until it is dropped.
pub(crate) struct Standstill {
    longest_ms: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Standing still for so long, a round is no measure. Clients wait less for an answer.
const TOO_LONG_MS: u64 = 1_000;

impl Standstill {
    #[expect(
        clippy::disallowed_methods,
        reason = "it looks at real time, and touches nothing that is decided by the seed"
    )]
    pub(crate) fn watch() -> Standstill {
        let longest_ms = Arc::new(AtomicU64::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let (longest, over) = (Arc::clone(&longest_ms), Arc::clone(&is_over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let slept = Stopwatch::start();
                std::thread::sleep(LOOK_EVERY);
                let late = slept.passed().saturating_sub(LOOK_EVERY);
                let late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
                longest.fetch_max(late_ms, Ordering::Relaxed);
            }
        });
        Standstill {
            longest_ms,
            is_over,
        }
    }

    /// Whether it stood still for so long that nothing can be said about time.
    pub(crate) fn was_too_long(&self) -> bool {
        self.longest_ms.load(Ordering::Relaxed) > TOO_LONG_MS
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}
