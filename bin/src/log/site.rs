//! How much one place in the code may say.

use std::sync::atomic::{AtomicU64, Ordering};

/// Messages that one place may write in each second.
const MESSAGES_PER_SECOND_MAX: u64 = 10;
const COUNT_BITS: u32 = 16;
/// The count stops here, far above what is written.
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Messages of all places that were not written since the start.
pub(super) fn suppressed() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

/// One place in the code that says something. Any thread may do so at any time, and none waits for another.
#[derive(Debug)]
pub(crate) struct Site {
    /// The second in which it last spoke, and in the low bits how often.
    window: AtomicU64,
    /// What was not written and not told of.
    suppressed: AtomicU64,
}

impl Site {
    pub(crate) const fn new() -> Site {
        Site {
            window: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Whether a message at this time is written; if so, how many before it were not.
    pub(super) fn admit(&self, now_ms: u64) -> Option<u64> {
        // Counted from 1, so that a place that never spoke is not in its first second.
        let second = now_ms / 1000 + 1;
        let before = self
            .window
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
                let (last, count) = (window >> COUNT_BITS, window & COUNT_MAX);
                Some(if last == second {
                    last << COUNT_BITS | (count + 1).min(COUNT_MAX)
                } else {
                    second << COUNT_BITS | 1
                })
            })
            .expect("there is always a next window");
        let (last, count) = (before >> COUNT_BITS, before & COUNT_MAX);
        if last == second && count >= MESSAGES_PER_SECOND_MAX {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            SUPPRESSED.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.suppressed.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_says_too_much_falls_silent_and_tells_how_often() {
        let site = Site::new();
        let admitted = (0..100).filter(|_| site.admit(500).is_some()).count();
        assert_eq!(admitted, 10);
        assert_eq!(site.admit(999), None);
        assert_eq!(site.admit(1000), Some(91));
        assert_eq!(site.admit(1001), Some(0));
    }

    #[test]
    fn a_count_does_not_run_into_the_second() {
        let site = Site::new();
        for _ in 0..200_000 {
            site.admit(0);
        }
        assert_eq!(site.admit(0), None);
        assert_eq!(site.admit(1000), Some(200_001 - 10));
    }
}
