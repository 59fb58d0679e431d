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
}

/// A minute: what takes longer is recorded as a minute.
const LONGEST_NS: u64 = 60_000_000_000;

impl<const N: usize> Default for Summaries<N> {
    fn default() -> Self {
        Summaries {
            histograms: std::array::from_fn(|_| {
                Histogram::new_with_max(LONGEST_NS, 2).expect("constant bounds are valid")
            }),
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
    }

    /// What each histogram says.
    pub(crate) fn summaries(&self, names: [&'static str; N]) -> Vec<StageSummary> {
        names
            .into_iter()
            .zip(&self.histograms)
            .map(|(name, histogram)| StageSummary {
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
}
