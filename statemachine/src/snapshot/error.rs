//! Why sections are not a state.

use super::section::SectionTag;
use crate::ids::{NamespaceId, Revision};

/// Why sections cannot be loaded. What was loaded so far is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The section is mandatory, and this version does not know it.
    #[error("section {section} needs a newer version of this program")]
    UnknownSection {
        /// The section.
        section: SectionTag,
    },
    /// A section begins, or goes on, after one that belongs behind it.
    #[error("section {section} comes after section {after}")]
    WrongOrder {
        /// The section.
        section: SectionTag,
        /// The one that had begun.
        after: SectionTag,
    },
    /// A section that every snapshot has is not there, or not complete.
    #[error("section {section} is missing")]
    Missing {
        /// The section.
        section: SectionTag,
    },
    /// The section ends inside an item.
    #[error("section {section} ends inside the item at byte {offset}")]
    CutOff {
        /// The section.
        section: SectionTag,
        /// Where in the section the item begins.
        offset: u64,
    },
    /// An item is not what may stand there.
    #[error("section {section}, item at byte {offset}: {fault}")]
    Malformed {
        /// The section.
        section: SectionTag,
        /// Where in the section the item begins.
        offset: u64,
        /// What is wrong with it.
        fault: ImportFault,
    },
    /// The sections do not add up to what the counters say.
    #[error("section {section} holds {found} {what}, the counters say {expected}")]
    WrongTotal {
        /// The section.
        section: SectionTag,
        /// What was counted.
        what: &'static str,
        /// The number in the counters.
        expected: u64,
        /// The number found.
        found: u64,
    },
}

/// What is wrong with an item of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportFault {
    /// No item may be that long.
    #[error("an item of {bytes} bytes is too long")]
    TooLong {
        /// The length it claims.
        bytes: u64,
    },
    /// Only one item belongs there.
    #[error("there is more than one item")]
    Surplus,
    /// A number is higher than any that can be reached.
    #[error("the number {number} is out of range")]
    OutOfRange {
        /// The number.
        number: u64,
    },
    /// Items do not ascend.
    #[error("it does not come after the item before it")]
    NotAscending,
    /// Keys have at least one byte.
    #[error("the key is empty")]
    EmptyKey,
    /// The namespace was not listed.
    #[error("namespace {namespace} is not listed")]
    UnknownNamespace {
        /// The namespace.
        namespace: NamespaceId,
    },
    /// The number names no kind of command that changes a key.
    #[error("command kind {kind} is not known")]
    UnknownKind {
        /// The number.
        kind: u16,
    },
    /// Bits that nothing is assigned to.
    #[error("flags {flags:#06x} are not known")]
    UnknownFlags {
        /// The flags.
        flags: u16,
    },
    /// A revision lies where it cannot.
    #[error("revision {revision} does not belong there")]
    WrongRevision {
        /// The revision.
        revision: Revision,
    },
    /// A change was made before the one before it, or after the snapshot.
    #[error("its time, {time_ms} ms, does not belong there")]
    WrongTime {
        /// The shard's time of the change.
        time_ms: u64,
    },
    /// A key is removed that is not there.
    #[error("it removes a key that is absent")]
    AbsentRemoved,
}
