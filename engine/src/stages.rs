//! Where the time of a command goes: one histogram a stage.

use hdrhistogram::Histogram;

/// A stage of a command's way through the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// From the arrival of a batch's first command to its proposal.
    Queue,
    /// From the proposal to the start of the log write that carries it.
    Propose,
    /// From the start of the log write to its completion.
    Flush,
    /// From the completion of the write to the commit.
    Commit,
    /// From the commit to the end of the apply.
    Apply,
    /// From the end of the apply until the driver has handed the replies to the sockets.
    Reply,
}

impl Stage {
    /// All stages, in the order in which a command passes them.
    pub const ALL: [Stage; 6] = [
        Stage::Queue,
        Stage::Propose,
        Stage::Flush,
        Stage::Commit,
        Stage::Apply,
        Stage::Reply,
    ];

    /// The name in status reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Queue => "queue",
            Stage::Propose => "propose",
            Stage::Flush => "flush",
            Stage::Commit => "commit",
            Stage::Apply => "apply",
            Stage::Reply => "reply",
        }
    }
}

/// What a histogram says, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageSummary {
    /// What it is about, as in status reports: [`Stage::name`], [`SliceKind::name`](crate::SliceKind::name).
    pub name: &'static str,
    /// Commands, or slices, recorded.
    pub count: u64,
    /// Half of them took at most this.
    pub p50_ns: u64,
    /// 99 % of them took at most this.
    pub p99_ns: u64,
    /// 99.9 % of them took at most this.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The mean.
    pub mean_ns: u64,
    /// All times together.
    pub sum_ns: u64,
    /// How many took at most each of [`BUCKET_BOUNDS_NS`] and more than the bound before it.
    pub buckets: [u64; BUCKETS],
}

/// How many bounds there are.
pub const BUCKETS: usize = 21;
/// The shortest bound is 2 to this power: about 8 microseconds.
const SHORTEST_BOUND_LOG2: u32 = 13;

/// The bounds of histograms in which cores can be added up: each is twice the one before it, up to about 8.6 seconds.
/// Quantiles of two cores cannot be put together; counts can.
pub const BUCKET_BOUNDS_NS: [u64; BUCKETS] = {
    let mut bounds = [0; BUCKETS];
    let mut index = 0;
    while index < BUCKETS {
        bounds[index] = 1 << (SHORTEST_BOUND_LOG2 as usize + index);
        index += 1;
    }
    bounds
};

/// The bucket of a time, `None` for one that is longer than every bound.
fn bucket_of(nanos: u64) -> Option<usize> {
    // The power of two that is not below the time.
    let log2 = u64::BITS - nanos.saturating_sub(1).leading_zeros();
    let bucket = log2.saturating_sub(SHORTEST_BOUND_LOG2) as usize;
    (bucket < BUCKETS).then_some(bucket)
}

/// One histogram a stage. Commands of a batch are recorded together, with the times of the batch.
#[derive(Debug, Clone, Default)]
pub struct Stages {
    histograms: Summaries<{ Stage::ALL.len() }>,
}

/// `N` histograms of times.
#[derive(Debug, Clone)]
pub(crate) struct Summaries<const N: usize> {
    histograms: [Histogram<u64>; N],
    sums_ns: [u64; N],
    buckets: [[u64; BUCKETS]; N],
}

/// A minute: what takes longer is recorded as a minute.
const LONGEST_NS: u64 = 60_000_000_000;

impl<const N: usize> Default for Summaries<N> {
    fn default() -> Self {
        Summaries {
            histograms: std::array::from_fn(|_| {
                Histogram::new_with_max(LONGEST_NS, 2).expect("constant bounds are valid")
            }),
            sums_ns: [0; N],
            buckets: [[0; BUCKETS]; N],
        }
    }
}

impl Stages {
    /// Records that `commands` commands spent `nanos` in `stage`.
    pub fn record(&mut self, stage: Stage, nanos: u64, commands: u64) {
        self.histograms.record(stage as usize, nanos, commands);
    }

    /// What each stage's histogram says.
    #[must_use]
    pub fn summaries(&self) -> Vec<StageSummary> {
        self.histograms.summaries(Stage::ALL.map(Stage::name))
    }
}

impl<const N: usize> Summaries<N> {
    /// Records that `count` took `nanos` each.
    pub(crate) fn record(&mut self, position: usize, nanos: u64, count: u64) {
        self.histograms[position].saturating_record_n(nanos.max(1), count);
        let sum = &mut self.sums_ns[position];
        *sum = sum.saturating_add(nanos.saturating_mul(count));
        if let Some(bucket) = bucket_of(nanos) {
            self.buckets[position][bucket] += count;
        }
    }

    /// What each histogram says.
    pub(crate) fn summaries(&self, names: [&'static str; N]) -> Vec<StageSummary> {
        names
            .into_iter()
            .zip(&self.histograms)
            .zip(self.sums_ns.iter().zip(&self.buckets))
            .map(|((name, histogram), (&sum_ns, &buckets))| StageSummary {
                name,
                count: histogram.len(),
                p50_ns: histogram.value_at_quantile(0.5),
                p99_ns: histogram.value_at_quantile(0.99),
                p999_ns: histogram.value_at_quantile(0.999),
                max_ns: histogram.max(),
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a mean lies between 0 and a minute"
                )]
                mean_ns: histogram.mean() as u64,
                sum_ns,
                buckets,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_reports_what_it_recorded() {
        let mut stages = Stages::default();
        stages.record(Stage::Flush, 80_000, 64);
        stages.record(Stage::Flush, 2 * LONGEST_NS, 1);
        let flush = stages.summaries()[Stage::Flush as usize];
        assert_eq!(flush.name, Stage::Flush.name());
        assert_eq!(flush.count, 65);
        assert!(
            (79_000..=81_000).contains(&flush.p50_ns),
            "{}",
            flush.p50_ns
        );
        assert!(flush.max_ns >= LONGEST_NS);
        assert_eq!(stages.summaries()[Stage::Queue as usize].count, 0);
    }

    #[test]
    fn a_time_is_in_the_bucket_of_the_first_bound_that_is_not_below_it() {
        for (bucket, bound) in BUCKET_BOUNDS_NS.into_iter().enumerate() {
            assert_eq!(bucket_of(bound), Some(bucket));
            let next = bucket + 1;
            assert_eq!(bucket_of(bound + 1), (next < BUCKETS).then_some(next));
        }
        assert_eq!(bucket_of(0), Some(0));
        assert_eq!(bucket_of(u64::MAX), None);
        let mut stages = Stages::default();
        stages.record(Stage::Apply, 8_193, 3);
        stages.record(Stage::Apply, 60_000_000_000, 1);
        let apply = stages.summaries()[Stage::Apply as usize];
        assert_eq!((apply.buckets[0], apply.buckets[1]), (0, 3));
        assert_eq!(
            apply.buckets.iter().sum::<u64>(),
            3,
            "the long one is in none"
        );
        assert_eq!(apply.sum_ns, 60_000_024_579);
    }
}
