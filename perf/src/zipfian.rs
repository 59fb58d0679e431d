//! Which key is asked for: few keys often, most of them rarely.

/// A Zipfian distribution over ranks 0 (the most frequent) to `count` - 1, drawn in constant time as by Gray et al.,
/// "Quickly Generating Billion-Record Synthetic Databases" (SIGMOD 1994), which YCSB uses too.
///
/// Ranks are neighbours in frequency only; whoever turns them into keys scatters them.
#[derive(Debug, Clone)]
pub(crate) struct Zipfian {
    count: u64,
    alpha: f64,
    zeta: f64,
    eta: f64,
    second_rank_end: f64,
}

/// The exponent of the literature's benchmarks.
pub(crate) const THETA: f64 = 0.99;

impl Zipfian {
    /// The distribution over `count` ranks. Its cost grows with `count`: a sum over all ranks.
    pub(crate) fn new(count: u64) -> Zipfian {
        assert!(count >= 2, "a choice needs two ranks");
        let zeta = zeta(count);
        let zeta_of_two = 1.0 + 0.5_f64.powf(THETA);
        Zipfian {
            count,
            alpha: 1.0 / (1.0 - THETA),
            zeta,
            eta: (1.0 - (2.0 / count as f64).powf(1.0 - THETA)) / (1.0 - zeta_of_two / zeta),
            second_rank_end: zeta_of_two,
        }
    }

    /// How many ranks there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The rank that belongs to `unit`, a number in [0, 1).
    pub(crate) fn rank(&self, unit: f64) -> u64 {
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < self.second_rank_end {
            return 1;
        }
        let rank = self.count as f64 * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count - 1)
    }
}

/// The sum of all ranks' weights.
fn zeta(count: u64) -> f64 {
    (1..=count).map(|rank| (rank as f64).powf(-THETA)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const COUNT: u64 = 10_000;
    const DRAWS: usize = 1_000_000;

    fn drawn_counts() -> Vec<u64> {
        let zipfian = Zipfian::new(COUNT);
        let mut random = Random::new(42);
        let mut counts = vec![0; COUNT as usize];
        for _ in 0..DRAWS {
            counts[zipfian.rank(random.next_unit()) as usize] += 1;
        }
        counts
    }

    #[test]
    fn ranks_come_as_often_as_the_law_says() {
        let counts = drawn_counts();
        let zeta = zeta(COUNT);
        // The first two ranks are exact, the rest an approximation: it is held to within a fifth over groups.
        let share = |ranks: std::ops::Range<u64>| {
            let drawn: u64 = counts[ranks.start as usize..ranks.end as usize]
                .iter()
                .sum();
            let law: f64 = ranks.map(|rank| ((rank + 1) as f64).powf(-THETA)).sum();
            (drawn as f64 / DRAWS as f64) / (law / zeta)
        };
        assert!((share(0..1) - 1.0).abs() < 0.02, "{}", share(0..1));
        assert!((share(1..2) - 1.0).abs() < 0.02, "{}", share(1..2));
        for group in [2..10, 10..100, 100..1_000, 1_000..COUNT] {
            let ratio = share(group.clone());
            assert!((ratio - 1.0).abs() < 0.2, "{group:?}: {ratio}");
        }
    }

    #[test]
    fn every_rank_is_in_range_and_the_ends_are_reached() {
        let zipfian = Zipfian::new(COUNT);
        assert_eq!(zipfian.rank(0.0), 0);
        assert_eq!(zipfian.rank(1.0 - f64::EPSILON), COUNT - 1);
        let two = Zipfian::new(2);
        let mut random = Random::new(1);
        assert!((0..1_000).all(|_| two.rank(random.next_unit()) < 2));
    }
}
