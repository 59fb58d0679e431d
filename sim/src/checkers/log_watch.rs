//! The log of one core, from submission to recovery: what of it is durable, and what a recovery may find.

use std::collections::{BTreeMap, VecDeque};

use metastore_engine::{CoreId, NodeId, Quarantine, ReplicaId};
use metastore_wal::{HardState, SealKey};

use super::ClusterViolation;
use super::log_view::{LogView, PartBodySeen, PartSeen, RecordSeen, apply};
use crate::disk::{Disk, FileName};

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogOwner {
    /// The node.
    pub node: NodeId,
    /// Its core.
    pub core: CoreId,
}

/// Watches one log through all lives of its node.
///
/// A recovery must find everything durable, and behind it whatever it likes of what was on its way, in order and
/// without a hole. What it cut away may come back until the cut itself is durable, which it is with the next record.
#[derive(Debug)]
pub struct LogWatch {
    owner: LogOwner,
    seal: SealKey,
    durable: LogView,
    submitted: VecDeque<RecordSeen>,
    /// What recoveries may have found besides, while the cut of the last one is not durable.
    alternatives: Vec<LogView>,
    /// What replicas held that were removed since. What they confirmed counts for an answer that is slow.
    removed: LogView,
    /// What damaged replicas had promised, until something durable says it again.
    set_aside: BTreeMap<ReplicaId, HardState>,
}

impl LogWatch {
    /// A log that was never written.
    #[must_use]
    pub fn new(owner: LogOwner, seal: SealKey) -> LogWatch {
        LogWatch {
            owner,
            seal,
            durable: LogView::new(),
            submitted: VecDeque::new(),
            alternatives: Vec::new(),
            removed: LogView::new(),
            set_aside: BTreeMap::new(),
        }
    }

    /// What is durable.
    #[must_use]
    pub fn durable(&self) -> &LogView {
        &self.durable
    }

    /// What replicas held that were removed since.
    #[must_use]
    pub fn removed(&self) -> &LogView {
        &self.removed
    }

    /// A record leaves for the disk.
    pub fn on_submitted(&mut self, place: (FileName, u64), bytes: &[u8]) -> &RecordSeen {
        let record = RecordSeen::parse(self.seal, place, bytes);
        self.submitted.push_back(record);
        self.submitted.back().expect("it was put there")
    }

    /// The disk has changed: hands out the parts that have become durable with it, in order.
    pub fn advance(&mut self, disk: &Disk) -> Vec<PartSeen> {
        let mut parts = Vec::new();
        while let Some(record) = self.submitted.front() {
            if !disk.is_durable(record.file, record.offset, &record.bytes) {
                break;
            }
            let record = self.submitted.pop_front().expect("it has a front");
            self.alternatives.clear();
            self.set_aside.clear();
            for part in record.parts {
                if matches!(part.body, PartBodySeen::Tombstone) {
                    let held = self.durable.remove_entry(&part.replica);
                    self.removed.extend(held);
                }
                apply(&mut self.durable, &part);
                parts.push(part);
            }
        }
        parts
    }

    /// The machine has stopped. What is on its way may survive or not.
    pub fn on_crash(&mut self) {
        let mut view = self.durable.clone();
        let mut alternatives = std::mem::take(&mut self.alternatives);
        for record in self.submitted.drain(..) {
            for part in &record.parts {
                apply(&mut view, part);
            }
            alternatives.push(view.clone());
        }
        self.alternatives = alternatives;
    }

    /// A recovery found this.
    ///
    /// # Errors
    /// Something is lost or invented.
    pub fn on_recovered(
        &mut self,
        mut found: LogView,
        quarantined: &[(ReplicaId, Quarantine, HardState)],
    ) -> Result<(), ClusterViolation> {
        for (replica, why, promised) in quarantined {
            self.set_aside(&mut found, *replica, *why, *promised)?;
        }
        let mut possible = std::iter::once(&self.durable).chain(&self.alternatives);
        if possible.any(|view| differing(view, &found).is_none()) {
            if differing(&self.durable, &found).is_some() {
                let before = std::mem::replace(&mut self.durable, found);
                self.alternatives.push(before);
            }
            return Ok(());
        }
        let replica = differing(&self.durable, &found).unwrap_or_default();
        let last = |view: &LogView| view.get(&replica).map(|replica| replica.last());
        Err(ClusterViolation::RecoveredLogDiffers {
            node: self.owner.node,
            replica,
            durable: last(&self.durable).unwrap_or_default(),
            found: last(&found).unwrap_or_default(),
        })
    }
}

impl LogWatch {
    /// A replica takes no part, because what it held is damaged. What it has promised must be known all the same, unless it
    /// says that it is not; beyond that nothing is expected of it until it is repaired.
    fn set_aside(
        &mut self,
        found: &mut LogView,
        replica: ReplicaId,
        why: Quarantine,
        promised: HardState,
    ) -> Result<(), ClusterViolation> {
        let knows_promises = match why {
            Quarantine::LogDamaged | Quarantine::SnapshotDamaged => true,
            Quarantine::PromisesLost => false,
            // Its log is what it was.
            Quarantine::StateDiffers { .. } => return Ok(()),
        };
        let mut views = std::iter::once(&self.durable).chain(&self.alternatives);
        let is_written = views.any(|view| {
            let written = view.get(&replica);
            written.is_some_and(|written| written.hard_state == promised)
        });
        let is_true = is_written || self.set_aside.get(&replica) == Some(&promised);
        if knows_promises && !is_true {
            return Err(ClusterViolation::PromisesForgotten { replica });
        }
        if knows_promises {
            self.set_aside.insert(replica, promised);
        }
        found.remove(&replica);
        for view in std::iter::once(&mut self.durable).chain(&mut self.alternatives) {
            view.remove(&replica);
        }
        Ok(())
    }
}

/// The first replica of which two logs do not say the same.
fn differing(one: &LogView, other: &LogView) -> Option<ReplicaId> {
    let of_one = one
        .iter()
        .find(|(replica, view)| other.get(replica).is_none_or(|found| !found.is_same(view)));
    let only_other = other.keys().find(|replica| !one.contains_key(replica));
    of_one.map(|(&replica, _)| replica).or(only_other.copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::log_view::EntrySeen;
    use metastore_engine::{LogIndex, ShardId, Term};
    use metastore_wal::{EntryKind, FileNumber, RecordSequence};

    /// The record that appends entry `index`.
    fn record(index: u64) -> RecordSeen {
        let entry = EntrySeen {
            term: Term(1),
            kind: EntryKind::Normal,
            data: index.to_le_bytes().to_vec(),
        };
        RecordSeen {
            sequence: RecordSequence(index),
            file: FileName::Segment(FileNumber(1)),
            offset: 4096 * index,
            bytes: vec![1; 4096],
            parts: vec![PartSeen {
                replica: ReplicaId(1),
                shard: ShardId(0),
                hard_state: HardState::default(),
                body: PartBodySeen::Append(LogIndex(index), vec![entry]),
            }],
        }
    }

    fn view(indexes: &[u64]) -> LogView {
        let mut view = LogView::new();
        for &index in indexes {
            record(index)
                .parts
                .iter()
                .for_each(|part| apply(&mut view, part));
        }
        view
    }

    /// A log with entries 1 and 2 durable, and 3 and 4 on their way, whose machine has stopped.
    fn stopped() -> LogWatch {
        let owner = LogOwner {
            node: NodeId(1),
            core: CoreId(0),
        };
        let mut watch = LogWatch::new(owner, SealKey(0));
        watch.durable = view(&[1, 2]);
        watch.submitted.extend([record(3), record(4)]);
        watch.on_crash();
        watch
    }

    #[test]
    fn what_was_on_its_way_survives_in_order_or_not_at_all() {
        for found in [&[1, 2][..], &[1, 2, 3], &[1, 2, 3, 4]] {
            stopped().on_recovered(view(found), &[]).unwrap();
        }
        for found in [&[][..], &[1], &[1, 2, 4], &[1, 3], &[1, 2, 3, 4, 5]] {
            let broken = stopped().on_recovered(view(found), &[]).unwrap_err();
            assert!(matches!(
                broken,
                ClusterViolation::RecoveredLogDiffers { .. }
            ));
        }
    }

    #[test]
    fn what_was_cut_away_may_come_back_until_the_cut_is_durable() {
        let mut watch = stopped();
        watch.on_recovered(view(&[1, 2]), &[]).unwrap();
        watch.on_crash();
        watch.on_recovered(view(&[1, 2, 3]), &[]).unwrap();
        // What a recovery has found and nothing has followed may be lost once more.
        watch.on_crash();
        watch.on_recovered(view(&[1, 2]), &[]).unwrap();
        let mut disk = Disk::new(crate::random::Random::new(1), LATENCY);
        disk.format_file(FileName::Segment(FileNumber(1)), 1 << 16);
        let next = RecordSeen {
            offset: 0,
            bytes: vec![0; 4096],
            ..record(3)
        };
        watch.submitted.push_back(next);
        assert_eq!(watch.advance(&disk).len(), 1);
        watch.on_crash();
        assert!(watch.on_recovered(view(&[1, 2, 3, 4]), &[]).is_err());
        watch.on_recovered(view(&[1, 2, 3]), &[]).unwrap();
    }

    /// It starts twice before anything that says so is durable.
    #[test]
    fn what_a_damaged_replica_has_promised_is_known_at_every_start() {
        let mut watch = stopped();
        let replica = *watch.durable.keys().next().expect("it holds a replica");
        let promised = watch.durable[&replica].hard_state;
        let damaged = |promised| [(replica, Quarantine::LogDamaged, promised)];
        for _ in 0..2 {
            let found = watch.on_recovered(view(&[1, 2]), &damaged(promised));
            found.unwrap();
            watch.on_crash();
        }
        let less = HardState {
            term: Term(promised.term.0 + 1),
            ..promised
        };
        assert!(watch.on_recovered(view(&[1, 2]), &damaged(less)).is_err());
    }

    const LATENCY: crate::disk::Latency = crate::disk::Latency {
        min_ns: 1,
        usual_max_ns: 1,
        slow_per_mille: 0,
        slow_max_ns: 1,
    };
}
