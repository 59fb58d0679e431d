//! Why a history is refused.

use metastore_statemachine::Revision;
use thiserror::Error;

use crate::oracle::Moment;

/// Why no order explains what clients saw.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotLinearizable {
    /// Two changes say that they made the same revision.
    #[error("two changes made revision {revision}")]
    SameRevision {
        /// The revision.
        revision: Revision,
    },
    /// A change says that it made revision 0, which is that of a shard in which nothing has happened.
    #[error("a change made revision 0: {what}")]
    ZeroRevision {
        /// The change.
        what: String,
    },
    /// An answered change stands not where its answer says in the log, or nowhere.
    #[error("the log holds something else at revision {revision} than what was answered: {what}")]
    NotInLog {
        /// The revision of the answer.
        revision: Revision,
        /// The change.
        what: String,
    },
    /// The log holds a change that nobody asked for, or that was certainly not done, or one twice.
    #[error("nobody may have made revision {revision} of the log: {what}")]
    Invented {
        /// The revision.
        revision: Revision,
        /// The command.
        what: String,
    },
    /// Something stands before what had been answered when it was sent.
    #[error(
        "something sent at {sent} stands at revision {revision}, behind it stands revision {newer}, answered at {answered}",
        sent = sent.0, answered = answered.0
    )]
    BackInTime {
        /// When the earlier one was sent.
        sent: Moment,
        /// Its revision.
        revision: Revision,
        /// The revision of the later one.
        newer: Revision,
        /// When the later one was answered.
        answered: Moment,
    },
    /// What was answered does not follow from what was there.
    #[error("at revision {revision}: {what}")]
    Unexplained {
        /// Where the explanation ends.
        revision: Revision,
        /// What could not be explained.
        what: String,
    },
    /// At no moment between sending and answer was the shard as an answer says.
    #[error("at no time between {sent} and {at} could this be answered: {what}", sent = sent.0, at = at.0)]
    WithoutPlace {
        /// When it was sent.
        sent: Moment,
        /// When it was answered.
        at: Moment,
        /// What was asked and answered.
        what: String,
    },
}
