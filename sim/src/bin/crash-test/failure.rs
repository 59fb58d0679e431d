//! Why a test ended early.

use metastore_net::blocking::ClientError;
use metastore_sim::Violation;
use thiserror::Error;

use crate::promise::Broken;
use crate::server::ServerError;
use crate::small_disk::DiskError;

/// What went wrong in a round, and where the data is kept.
#[derive(Debug, Error)]
#[error("round {round}: {cause}; the data is kept in {kept}")]
pub(crate) struct Failure {
    /// The round.
    pub(crate) round: u64,
    /// What went wrong.
    pub(crate) cause: Cause,
    /// Where the data is.
    pub(crate) kept: String,
}

/// What went wrong.
#[derive(Debug, Error)]
pub(crate) enum Cause {
    /// What clients were told and what is there do not agree.
    #[error("violation: {0}")]
    Violation(#[from] Violation),
    /// A promise about full disks was broken.
    #[error("violation: {0}")]
    Broken(#[from] Broken),
    /// The server does not run.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A server that runs does not let everything be read.
    #[error("reading everything: {0}")]
    Audit(Box<ClientError>),
    /// A server took nothing that was sent to it.
    #[error("only {acknowledged} mutations were acknowledged in {seconds} s")]
    Idle {
        /// How many.
        acknowledged: u64,
        /// In how long.
        seconds: u64,
    },
    /// The disk that others fill does not do what it should.
    #[error("the small disk: {0}")]
    Disk(#[from] DiskError),
    /// The directory of this test.
    #[error("{directory}: {source}")]
    Directory {
        /// Which one.
        directory: String,
        /// What the system said.
        source: std::io::Error,
    },
}
