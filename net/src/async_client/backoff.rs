//! Pauses between attempts: twice as long each time, up to a limit, with jitter, so that many clients that met the same
//! fault do not come back at the same moment.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The pauses of one operation or one address.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Backoff {
        // The standard library seeds its hashers at random: enough for jitter, and no dependency.
        Backoff::seeded(min, max, RandomState::new().hash_one(0))
    }

    fn seeded(min: Duration, max: Duration, seed: u64) -> Backoff {
        Backoff {
            min,
            max,
            next: min,
            random: seed,
        }
    }

    /// The next pause: between half of the present one and all of it.
    pub(super) fn next(&mut self) -> Duration {
        let whole = self.next.min(self.max);
        self.next = whole.saturating_mul(2).min(self.max);
        // The top 53 bits make a fraction from 0 to 1.
        let fraction = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        whole.mul_f64(0.5 + fraction / 2.0)
    }

    /// What was met is over.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_differ() {
        let (min, max) = (Duration::from_millis(10), Duration::from_millis(100));
        let mut seen = Vec::new();
        for seed in 0..50 {
            let mut backoff = Backoff::seeded(min, max, seed);
            for whole_ms in [10, 20, 40, 80, 100, 100] {
                let pause = backoff.next();
                let whole = Duration::from_millis(whole_ms);
                assert!(pause >= whole / 2 && pause <= whole, "{pause:?}");
                seen.push(pause);
            }
            backoff.reset();
            assert!(backoff.next() <= min);
        }
        seen.sort();
        seen.dedup();
        assert!(seen.len() > 250, "{} different pauses", seen.len());
    }
}
