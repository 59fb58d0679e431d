//! Why a command ends without a result.

use std::io;
use std::path::PathBuf;

use crate::arguments::Strictness;
use crate::compare::stored::StoredError;
use crate::compare::{JournalError, TreeError};
use crate::core_alone::CoreAloneError;
use crate::figure::Figure;
use crate::floor::FloorError;
use crate::log_alone::LogAloneError;
use crate::measurement::MeasurementError;
use crate::measures::TracerError;
use crate::node::NodeError;
use crate::peer::PeerError;
use crate::preload::LoadingError;
use crate::range_stream::RangeStreamError;
use crate::store::StoreError;

/// Why a command ends without a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PerfError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Loading(#[from] LoadingError),
    #[error(transparent)]
    Measurement(#[from] MeasurementError),
    #[error(transparent)]
    Floor(#[from] FloorError),
    #[error(transparent)]
    Stored(#[from] StoredError),
    #[error(transparent)]
    RangeStream(#[from] RangeStreamError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Tracer(#[from] TracerError),
    #[error(transparent)]
    LogAlone(#[from] LogAloneError),
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(
        "there is no store at {program}: build it with `cargo build --release -p metastore`, or name it with \
         --metastore"
    )]
    NoStore { program: PathBuf },
    #[error(transparent)]
    CoreAlone(#[from] CoreAloneError),
    #[error("{what} is measured with one node")]
    NotReplicated { what: &'static str },
    #[error("{what} is measured with several nodes: --nodes 3")]
    NeedsCluster { what: &'static str },
    #[error("{what} is measured with one shard, whose leader is killed: leave --shards out")]
    OneShard { what: &'static str },
    #[error("the store could not be prepared: {failure}")]
    Preparation { failure: String },
    #[error(
        "the store does not count its allocations: build it with `cargo build --release -p metastore --features \
         count-allocations`"
    )]
    NotCounting,
    #[error("the store's data cannot be looked at: {0}")]
    Data(#[from] io::Error),
    #[error("connections for the measurement cannot be made: {0}")]
    Connections(io::Error),
    #[error("connections are cut by `ss`, of the package iproute2, which cannot be started: {0}")]
    NoSs(io::Error),
    #[error("signals are sent by `sh`, which cannot be started: {0}")]
    NoShell(io::Error),
    #[error("cannot write the report: {source}")]
    Output { source: io::Error },
    #[error("cannot write the report as JSON: {source}")]
    Json { source: serde_json::Error },
}

/// Whether a command's numbers can be used, the best news first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// All of them.
    Valid,
    /// At least one measurement is not what it should be.
    Invalid,
    /// A target is missed, or could not be measured, where that was asked to count.
    Missed,
}

impl Verdict {
    /// The verdict over figures that stand on a number of rounds. Without rounds no target is known to be met.
    pub(crate) fn of(figures: &[Figure], rounds: usize, strictness: Strictness) -> Verdict {
        let is_missed = rounds == 0 || figures.iter().any(Figure::is_missed);
        match strictness {
            Strictness::Strict if is_missed => Verdict::Missed,
            Strictness::Strict | Strictness::Lenient if rounds == 0 => Verdict::Invalid,
            Strictness::Strict | Strictness::Lenient => Verdict::Valid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Target;
    use crate::latency::Spread;

    #[test]
    fn a_missed_target_counts_only_where_that_was_asked_for() {
        let missed = Figure::new("figure", Target::AtMost(1.0), Spread::of([2.0]));
        let met = Figure::new("figure", Target::AtMost(1.0), Spread::of([0.5]));
        let of = |figure: &Figure, rounds, strictness| {
            Verdict::of(std::slice::from_ref(figure), rounds, strictness)
        };
        assert_eq!(of(&missed, 1, Strictness::Lenient), Verdict::Valid);
        assert_eq!(of(&missed, 1, Strictness::Strict), Verdict::Missed);
        assert_eq!(of(&met, 1, Strictness::Strict), Verdict::Valid);
        assert_eq!(of(&met, 0, Strictness::Strict), Verdict::Missed);
        assert_eq!(of(&met, 0, Strictness::Lenient), Verdict::Invalid);
    }
}
