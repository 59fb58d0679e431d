//! Apply-ahead: a leader applies, and answers, what a quorum of others has made durable before its own disk has.
//!
//! raft counts an entry as committed when a quorum holds it, with or without the leader, and hands it out to be applied
//! when it is durable here too. What lies between waits for a disk that nobody needs:
//!
//! ```text
//!   index    ... handed out | durable here | committed | last
//!   state    ...............|·············>|··········>|            up to `state_index`
//!                                            ahead
//! ```
//!
//! What is applied ahead may vanish from this log in a crash, and not from the group: every quorum that elects a leader
//! has a member that holds it. The state is in memory, and forgets it with the log.
//!
//! It does **not** tell raft: raft stops the process when it hears that something was applied that is not durable. What it
//! hands out later is known by its index, and passed over. Nor does it go past a change of members: raft counts quorums by
//! the members that are applied, and asks for changes that are not by the index that it was told.

use metastore_wal::{EntryKind, LogIndex};
use raft::eraftpb::Entry;

use super::Replica;
use crate::peer::kind_and_data;
use crate::settings::RaftSettings;
use crate::status::Role;

impl Replica {
    /// The last entry that the state holds: what raft has handed out and what was applied ahead of that.
    pub(crate) fn state_index(&self) -> LogIndex {
        self.state_index
    }

    /// Whether raft knows that everything up to `index` is applied, so that its log may begin behind it. A replica that
    /// takes no part any more has no raft that asks.
    pub(crate) fn is_known_as_applied(&self, index: LogIndex) -> bool {
        index.0 <= self.node.raft.raft_log.applied() || self.is_quarantined() || self.is_fenced()
    }

    /// The next entry that may be applied ahead, if there is one.
    pub(super) fn next_ahead(&self, settings: &RaftSettings) -> Option<&Entry> {
        let entries_max = settings.apply_ahead_entries_max?;
        let raft_log = &self.node.raft.raft_log;
        let last = raft_log.committed.min(raft_log.applied() + entries_max);
        // A snapshot is about to take the place of the state, or raft's newest entries are not in the tail.
        let is_unsettled = self.installing.is_some()
            || self.node.snap().is_some()
            || !raft_log.unstable_entries().is_empty();
        let index = self.state_index.next().0;
        if index > last || self.role != Role::Leader || is_unsettled {
            return None;
        }
        let entry = self.node.store().entry(index);
        let entry = entry.expect("what is not applied is in memory");
        (kind_and_data(entry).0 != EntryKind::ConfChange).then_some(entry)
    }
}
