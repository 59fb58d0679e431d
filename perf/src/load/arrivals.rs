//! When operations of an open loop are meant to start.

use crate::random::Random;

/// The seed of all arrivals: two runs at one rate have the same pattern.
const SEED: u64 = 0x0061_7272_6976_616c;

/// Starts of a Poisson process: gaps are independent and exponentially distributed, as those of many clients who know
/// nothing of each other.
#[derive(Debug)]
pub(super) struct Arrivals {
    random: Random,
    mean_gap_ns: f64,
    /// Kept as a fraction, so that rounding does not shift the rate.
    next_ns: f64,
}

impl Arrivals {
    /// Starts at `operations_per_second` on average, the first one gap after time 0.
    pub(super) fn new(operations_per_second: f64) -> Arrivals {
        assert!(operations_per_second > 0.0, "a rate is above zero");
        let mut arrivals = Arrivals {
            random: Random::new(SEED),
            mean_gap_ns: 1e9 / operations_per_second,
            next_ns: 0.0,
        };
        arrivals.advance();
        arrivals
    }

    /// The next start if it is before `end_ns`.
    pub(super) fn next_until(&mut self, end_ns: u64) -> Option<u64> {
        let start_ns = self.next_ns as u64;
        if start_ns >= end_ns {
            return None;
        }
        self.advance();
        Some(start_ns)
    }

    /// The next start, whenever it is.
    pub(super) fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    fn advance(&mut self) {
        // 1 - unit is above zero, where the logarithm exists.
        self.next_ns -= (1.0 - self.random.next_unit()).ln() * self.mean_gap_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_however_often_it_is_asked() {
        let mut arrivals = Arrivals::new(10_000.0);
        let mut starts = Vec::new();
        for now_us in 0..10_000_000_u64 / 7 {
            while let Some(start_ns) = arrivals.next_until(now_us * 7_000) {
                assert!(start_ns < now_us * 7_000, "nothing starts in the future");
                starts.push(start_ns);
            }
        }
        // 100,000 arrivals in ten seconds, with a standard deviation of about 316.
        assert!(
            (98_500..101_500).contains(&starts.len()),
            "{}",
            starts.len()
        );
        assert!(starts.is_sorted());
    }

    #[test]
    fn gaps_are_exponential() {
        let mut arrivals = Arrivals::new(1_000.0);
        let starts: Vec<u64> = (0..50_000)
            .map(|_| arrivals.next_until(u64::MAX).expect("there is no end"))
            .collect();
        let gaps: Vec<u64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let share_below = |limit_ns: u64| {
            gaps.iter().filter(|&&gap| gap < limit_ns).count() as f64 / gaps.len() as f64
        };
        for limit_ms in [0.1, 1.0, 3.0] {
            let expected = 1.0 - f64::exp(-limit_ms);
            let found = share_below((limit_ms * 1e6) as u64);
            assert!(
                (found - expected).abs() < 0.01,
                "{limit_ms} ms: {found} instead of {expected}"
            );
        }
    }
}
