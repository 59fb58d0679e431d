//! Why a cluster is not recovered.

use std::path::PathBuf;

use super::choice::ChoiceError;
use crate::commands::Exit;
use crate::commands::error::exit_of_start;
use crate::commands::wal::Refusal;
use crate::node::StartError;

/// Why a step of a recovery is not taken. Unless it says otherwise nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    /// The data cannot be opened or changed.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A node that is alone has no other voters.
    #[error("{} is the data of a node that is alone: it has no voters to lose", data.display())]
    Alone {
        /// The data.
        data: PathBuf,
    },
    /// Nothing was ever acknowledged by it.
    #[error(
        "{} was formatted and never served: it holds nothing that could be recovered",
        data.display()
    )]
    NeverServed {
        /// The data.
        data: PathBuf,
    },
    /// The log of a core cannot be read.
    #[error(
        "core {core}: {refusal}; `metastore wal verify --data {}` says more; nothing was changed",
        data.display()
    )]
    Log {
        /// The core.
        core: u16,
        /// The data.
        data: PathBuf,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// A report or a plan cannot be read.
    #[error("{}: {cause}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The plan cannot be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The reports do not lead to a plan.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// The plan is not for this data.
    #[error("the plan is not for {}: {why}; nothing was changed", data.display())]
    OtherData {
        /// The data.
        data: PathBuf,
        /// What differs.
        why: String,
    },
    /// Something has happened since the report.
    #[error(
        "shard {shard}: {why}: the data has changed since its report; stop all nodes, then make new reports and a new plan; nothing was changed"
    )]
    Changed {
        /// The shard.
        shard: u32,
        /// What differs.
        why: String,
    },
}

impl RecoverError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            RecoverError::Start(error) => exit_of_start(error),
            RecoverError::Alone { .. } | RecoverError::Document { .. } => Exit::Usage,
            RecoverError::Write { .. } => Exit::Unavailable,
            RecoverError::NeverServed { .. }
            | RecoverError::Log { .. }
            | RecoverError::Choice(_)
            | RecoverError::OtherData { .. }
            | RecoverError::Changed { .. } => Exit::Negative,
        }
    }
}
