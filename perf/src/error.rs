//! Why a command ends without a result.

use std::io;

use crate::floor::FloorError;
use crate::goals::NodeError;
use crate::measurement::MeasurementError;
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
    RangeStream(#[from] RangeStreamError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("cannot write the report: {source}")]
    Output { source: io::Error },
    #[error("cannot write the report as JSON: {source}")]
    Json { source: serde_json::Error },
}

/// Whether a command's numbers can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All of them.
    Valid,
    /// At least one measurement is not what it should be.
    Invalid,
}
