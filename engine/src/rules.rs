//! In which order a core does what must have an order, and what it checks before it believes it.

use crate::snapshot::Payload;

/// The orders and checks, complete or with one left out.
///
/// Servers know [`Rules::Complete`] alone. Each of the others is a bug that a simulator plants to prove that it would
/// find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "testing"),
    expect(unreachable_pub, reason = "only a simulator may choose")
)]
pub enum Rules {
    /// All of them.
    #[default]
    Complete,
    /// A snapshot is labelled with the entry before the last one that its state holds: index and state are not taken at
    /// one moment.
    #[cfg(feature = "testing")]
    LabelBehindState,
    /// The log is told of a snapshot as soon as its last bytes are written, and given up before the file has its name.
    #[cfg(feature = "testing")]
    RecordedBeforeNamed,
    /// The file that a snapshot replaces is removed before the log names the new one.
    #[cfg(feature = "testing")]
    RemovedBeforeRecorded,
    /// A chunk of a snapshot is taken for what its header says, whatever its bytes are.
    #[cfg(feature = "testing")]
    ChunkIsNotChecked,
    /// Messages to other nodes leave before what they promise is durable.
    #[cfg(feature = "testing")]
    MessagesLeaveEarly,
    /// Reads are answered by what a replica knows, without asking the others whether it still leads.
    #[cfg(feature = "testing")]
    ReadsWithoutRound,
    /// A start forgets for whom the replica voted.
    #[cfg(feature = "testing")]
    VoteIsForgotten,
}

/// Is in every program that can have a bug planted, so that one can be told from a server's.
#[cfg(feature = "testing")]
#[used]
static MARK: [u8; 35] = *b"metastore: bugs can be planted here";

impl Rules {
    pub(crate) fn labels_behind_state(self) -> bool {
        match self {
            #[cfg(feature = "testing")]
            Rules::LabelBehindState => true,
            #[cfg(feature = "testing")]
            Rules::RecordedBeforeNamed
            | Rules::RemovedBeforeRecorded
            | Rules::ChunkIsNotChecked
            | Rules::MessagesLeaveEarly
            | Rules::ReadsWithoutRound
            | Rules::VoteIsForgotten => false,
            Rules::Complete => false,
        }
    }

    pub(crate) fn records_before_named(self) -> bool {
        match self {
            #[cfg(feature = "testing")]
            Rules::RecordedBeforeNamed => true,
            #[cfg(feature = "testing")]
            Rules::LabelBehindState
            | Rules::RemovedBeforeRecorded
            | Rules::ChunkIsNotChecked
            | Rules::MessagesLeaveEarly
            | Rules::ReadsWithoutRound
            | Rules::VoteIsForgotten => false,
            Rules::Complete => false,
        }
    }

    pub(crate) fn removes_before_recorded(self) -> bool {
        match self {
            #[cfg(feature = "testing")]
            Rules::RemovedBeforeRecorded => true,
            #[cfg(feature = "testing")]
            Rules::LabelBehindState
            | Rules::RecordedBeforeNamed
            | Rules::ChunkIsNotChecked
            | Rules::MessagesLeaveEarly
            | Rules::ReadsWithoutRound
            | Rules::VoteIsForgotten => false,
            Rules::Complete => false,
        }
    }

    pub(crate) fn payload(self) -> Payload {
        match self {
            #[cfg(feature = "testing")]
            Rules::ChunkIsNotChecked => Payload::Unchecked,
            #[cfg(feature = "testing")]
            Rules::LabelBehindState
            | Rules::RecordedBeforeNamed
            | Rules::RemovedBeforeRecorded
            | Rules::MessagesLeaveEarly
            | Rules::ReadsWithoutRound
            | Rules::VoteIsForgotten => Payload::Checked,
            Rules::Complete => Payload::Checked,
        }
    }

    pub(crate) fn sends_early(self) -> bool {
        match self {
            #[cfg(feature = "testing")]
            Rules::MessagesLeaveEarly => true,
            #[cfg(feature = "testing")]
            Rules::LabelBehindState
            | Rules::RecordedBeforeNamed
            | Rules::RemovedBeforeRecorded
            | Rules::ChunkIsNotChecked
            | Rules::ReadsWithoutRound
            | Rules::VoteIsForgotten => false,
            Rules::Complete => false,
        }
    }

    pub(crate) fn reads_without_round(self) -> bool {
        match self {
            #[cfg(feature = "testing")]
            Rules::ReadsWithoutRound => true,
            #[cfg(feature = "testing")]
            Rules::LabelBehindState
            | Rules::RecordedBeforeNamed
            | Rules::RemovedBeforeRecorded
            | Rules::ChunkIsNotChecked
            | Rules::MessagesLeaveEarly
            | Rules::VoteIsForgotten => false,
            Rules::Complete => false,
        }
    }

    pub(crate) fn forgets_vote(self) -> bool {
        match self {
            #[cfg(feature = "testing")]
            Rules::VoteIsForgotten => true,
            #[cfg(feature = "testing")]
            Rules::LabelBehindState
            | Rules::RecordedBeforeNamed
            | Rules::RemovedBeforeRecorded
            | Rules::ChunkIsNotChecked
            | Rules::MessagesLeaveEarly
            | Rules::ReadsWithoutRound => false,
            Rules::Complete => false,
        }
    }
}
