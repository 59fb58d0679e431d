//! What a log should hold: once from the parts that were staged, once from the events of a recovery.

use std::collections::BTreeMap;

use metastore_wal::recovery::{Entries, ReplayEvent};
use metastore_wal::{Entry, HardState, LogIndex, Part, PartBody, ReplicaId, Term};

/// Every replica of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shadow {
    replicas: BTreeMap<ReplicaId, ShadowReplica>,
}

/// One replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ShadowReplica {
    pub(super) hard_state: HardState,
    pub(super) snapshot: (LogIndex, Term),
    members: Vec<u8>,
    entries: BTreeMap<LogIndex, Entry>,
}

impl ShadowReplica {
    pub(super) fn last_index(&self) -> LogIndex {
        let last = self.entries.last_key_value().map(|(&index, _)| index);
        last.unwrap_or(self.snapshot.0).max(self.snapshot.0)
    }

    pub(super) fn term_of(&self, index: LogIndex) -> Term {
        self.entries
            .get(&index)
            .map_or(self.snapshot.1, |entry| entry.term)
    }

    pub(super) fn entries_from(&self, first: LogIndex, count_max: usize) -> Vec<Entry> {
        let found = self.entries.range(first..).take(count_max);
        found.map(|(_, entry)| entry.clone()).collect()
    }

    fn replace_from(&mut self, first: LogIndex, entries: impl Iterator<Item = Entry>) {
        self.entries.split_off(&first);
        self.entries.extend((first.0..).map(LogIndex).zip(entries));
    }

    /// Everything above its snapshot.
    fn needed(&self) -> impl Iterator<Item = (&LogIndex, &Entry)> {
        self.entries.range(self.snapshot.0.next()..)
    }
}

impl Shadow {
    pub(super) fn replica(&self, replica: ReplicaId) -> ShadowReplica {
        self.replicas.get(&replica).cloned().unwrap_or_default()
    }

    /// A part was staged.
    pub(super) fn apply(&mut self, part: &Part) {
        let replica = self.replicas.entry(part.replica).or_default();
        replica.hard_state = part.hard_state;
        match &part.body {
            PartBody::Append {
                first_index,
                entries,
            } => {
                if !entries.is_empty() {
                    replica.replace_from(*first_index, entries.iter().cloned());
                }
            }
            PartBody::Rewrite { .. } => {}
            PartBody::Snapshot {
                index,
                term,
                members,
            } => {
                replica.snapshot = (*index, *term);
                replica.members = members.to_vec();
            }
            PartBody::Tombstone => unreachable!("no replica is removed here"),
        }
    }

    /// A recovery hands out the next event.
    pub(super) fn on_event(&mut self, event: &ReplayEvent<'_>) {
        let owned = |entries: &Entries<'_>| -> Vec<Entry> {
            let entries = entries.clone().map(|entry| Entry {
                term: entry.term,
                kind: entry.kind,
                data: bytes::Bytes::copy_from_slice(entry.data),
            });
            entries.collect()
        };
        match event {
            // The records themselves say so, too.
            ReplayEvent::Snapshots { .. } => {}
            ReplayEvent::Checkpoint { replicas, .. } => {
                for known in *replicas {
                    let replica = self.replicas.entry(known.replica).or_default();
                    replica.hard_state = known.hard_state;
                    replica.snapshot = (known.snapshot.index, known.snapshot.term);
                    replica.members = known.snapshot.members.to_vec();
                }
            }
            ReplayEvent::Append {
                replica,
                hard_state,
                first_index,
                entries,
                ..
            } => {
                let replica = self.replicas.entry(*replica).or_default();
                replica.hard_state = *hard_state;
                if entries.len() > 0 {
                    replica.replace_from(*first_index, owned(entries).into_iter());
                }
            }
            ReplayEvent::Rewrite {
                replica,
                hard_state,
                first_index,
                entries,
                ..
            } => {
                let replica = self.replicas.entry(*replica).or_default();
                replica.hard_state = *hard_state;
                let entries = (first_index.0..).map(LogIndex).zip(owned(entries));
                replica.entries.extend(entries);
            }
            ReplayEvent::Snapshot {
                replica,
                hard_state,
                index,
                term,
                members,
                ..
            } => {
                let replica = self.replicas.entry(*replica).or_default();
                replica.hard_state = *hard_state;
                replica.snapshot = (*index, *term);
                replica.members = members.to_vec();
            }
            ReplayEvent::Tombstone { replica, .. } => {
                self.replicas.remove(replica);
            }
        }
    }

    /// Whether a recovery found this. What snapshots cover may be there or not.
    pub(super) fn is_found_as(&self, found: &Shadow) -> bool {
        self.replicas.len() == found.replicas.len()
            && self.replicas.iter().all(|(id, replica)| {
                let found = found.replica(*id);
                replica.hard_state == found.hard_state
                    && replica.snapshot == found.snapshot
                    && replica.members == found.members
                    && replica.needed().eq(found.needed())
            })
    }
}
