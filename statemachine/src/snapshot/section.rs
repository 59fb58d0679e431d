//! The names of sections.

use std::fmt;

/// Names a section of a snapshot by a number that is never given to another one.
///
/// Numbers from 32768 on are optional: a reader that does not know one skips the section. Any other is mandatory:
/// a reader that does not know it refuses the snapshot, because it would lose a part of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionTag(pub u16);

/// The lowest number of an optional section.
const OPTIONAL_MIN: u16 = 1 << 15;

impl SectionTag {
    /// Time, hash, parameters and totals: one item.
    pub const COUNTERS: SectionTag = SectionTag(1);
    /// Every namespace with its revisions.
    pub const NAMESPACES: SectionTag = SectionTag(2);
    /// The rows below the floor of the history.
    pub const KEYS: SectionTag = SectionTag(3);
    /// The changes from the floor on.
    pub const HISTORY: SectionTag = SectionTag(4);
    /// Reserved: leases and what hangs on them.
    pub const LEASES: SectionTag = SectionTag(5);
    /// Reserved: the sessions of clients.
    pub const SESSIONS: SectionTag = SectionTag(6);
    /// Reserved: the replies kept for sessions.
    pub const REPLIES: SectionTag = SectionTag(7);
    /// Reserved: transactions over several shards that are prepared.
    pub const PREPARED: SectionTag = SectionTag(8);

    /// Whether a reader that does not know the section may skip it.
    #[must_use]
    pub fn is_optional(self) -> bool {
        self.0 >= OPTIONAL_MIN
    }

    /// The section's name, if it has one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            SectionTag::COUNTERS => Some("counters"),
            SectionTag::NAMESPACES => Some("namespaces"),
            SectionTag::KEYS => Some("keys"),
            SectionTag::HISTORY => Some("history"),
            SectionTag::LEASES => Some("leases"),
            SectionTag::SESSIONS => Some("sessions"),
            SectionTag::REPLIES => Some("replies"),
            SectionTag::PREPARED => Some("prepared transactions"),
            SectionTag(_) => None,
        }
    }
}

impl fmt::Display for SectionTag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "number {}", self.0),
        }
    }
}
