//! What a replica that was replayed is worth, where copies of its shard are compared.

use metastore_statemachine::StateMachine;
use metastore_wal::{EntryKind, LogIndex, Term};
use raft::Storage;

use super::{RecoveringReplica, ReplayError, members_after};
use crate::copies::{CopyFault, Group, ShardCopy, TermRun};
use crate::peer::kind_and_data;

impl RecoveringReplica {
    /// What it is worth where copies of its shard are compared.
    ///
    /// # Errors
    /// Its records make no sense.
    pub(crate) fn describe(&self) -> Result<ShardCopy, ReplayError> {
        let tail = &self.tail;
        let fault = if let Some(why) = self.quarantine {
            Some(CopyFault::Quarantine(why))
        } else if tail.members().is_unknown() {
            Some(CopyFault::Joining)
        } else if tail.members().home_of(self.id).is_none() {
            Some(CopyFault::Removed)
        } else {
            self.check_end()?;
            None
        };
        let last_term = tail.term(tail.last()).unwrap_or(0);
        Ok(ShardCopy {
            shard: self.shard,
            replica: self.id,
            term: Term(tail.hard_state().term),
            last_term: Term(last_term),
            last_index: LogIndex(tail.last()),
            committed: LogIndex(self.applied),
            runs: self.undecided_runs(),
            newest: tail.members().newest(),
            groups: self.groups(),
            keys: self.state.as_ref().map_or(0, StateMachine::key_count),
            forced_last: self
                .forced
                .and_then(|(index, recovery)| (index == tail.last()).then_some(recovery)),
            fault,
        })
    }

    /// The terms from the last entry on that is known to be committed.
    fn undecided_runs(&self) -> Vec<TermRun> {
        let mut runs: Vec<TermRun> = Vec::new();
        for index in self.applied..=self.tail.last() {
            let term = Term(self.tail.term(index).unwrap_or(0));
            if runs.last().is_none_or(|run| run.term != term) {
                let first_index = LogIndex(index);
                runs.push(TermRun { first_index, term });
            }
        }
        runs
    }

    /// Whom the newest entries that are known to be committed make its members, and whom each change behind them would.
    fn groups(&self) -> Vec<Group> {
        let mut members = self.tail.members().clone();
        let mut groups = vec![Group::of(&members)];
        for index in self.applied + 1..=self.tail.last() {
            let change = self.tail.entry(index).map(kind_and_data);
            // A change that cannot follow is one that raft would not make either.
            if let Some((EntryKind::ConfChange, data)) = change
                && let Ok(after) = members_after(&members, data)
            {
                groups.push(Group::of(&after));
                members = after;
            }
        }
        groups
    }
}
