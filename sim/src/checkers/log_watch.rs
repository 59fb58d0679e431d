//! The log of one core, from submission to recovery: what of it is durable, and what a recovery may find.

use std::collections::VecDeque;

use metastore_engine::{CoreId, NodeId, ReplicaId};
use metastore_wal::SealKey;

use super::ClusterViolation;
use super::log_view::{LogView, PartSeen, RecordSeen, apply};
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
        }
    }

    /// What is durable.
    #[must_use]
    pub fn durable(&self) -> &LogView {
        &self.durable
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
            for part in record.parts {
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
    pub fn on_recovered(&mut self, found: LogView) -> Result<(), ClusterViolation> {
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

/// The first replica of which two logs do not say the same.
fn differing(one: &LogView, other: &LogView) -> Option<ReplicaId> {
    let of_one = one
        .iter()
        .find(|(replica, view)| other.get(replica).is_none_or(|found| !found.is_same(view)));
    let only_other = other.keys().find(|replica| !one.contains_key(replica));
    of_one.map(|(&replica, _)| replica).or(only_other.copied())
}
