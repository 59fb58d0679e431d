//! How long something usually takes, and how much that varies.

/// A smoothed time and its mean deviation, as RFC 6298 keeps them for the round trips of TCP.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Estimate {
    /// `None` before the first sample.
    known: Option<(u64, u64)>,
}

/// A sample above this says nothing about the network: the process stood still.
const SAMPLE_NS_MAX: u64 = 60_000_000_000;

impl Estimate {
    /// It took so long this time.
    pub(super) fn take(&mut self, sample_ns: u64) {
        let sample = sample_ns.min(SAMPLE_NS_MAX);
        self.known = Some(match self.known {
            None => (sample, sample / 2),
            Some((smoothed, deviation)) => {
                let apart = smoothed.abs_diff(sample);
                let deviation = deviation - deviation / 4 + apart / 4;
                (smoothed - smoothed / 8 + sample / 8, deviation)
            }
        });
    }

    /// What it takes at most, but for rare exceptions.
    pub(super) fn high_ns(self) -> Option<u64> {
        let (smoothed, deviation) = self.known?;
        Some(smoothed + 4 * deviation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_settles_on_what_is_steady_and_widens_with_what_is_not() {
        let mut estimate = Estimate::default();
        assert_eq!(estimate.high_ns(), None);
        for _ in 0..100 {
            estimate.take(1_000_000);
        }
        let steady = estimate.high_ns().expect("there are samples");
        assert!((990_000..1_010_000).contains(&steady), "{steady}");
        for number in 0..100 {
            estimate.take(number % 2 * 2_000_000);
        }
        let wide = estimate.high_ns().expect("there are samples");
        assert!(wide > 4_000_000, "{wide}");
        // A process that stood still for an hour does not fill the number.
        estimate.take(u64::MAX);
        assert!(estimate.high_ns().expect("there are samples") < 10 * SAMPLE_NS_MAX);
    }
}
