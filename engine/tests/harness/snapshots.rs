//! The files of snapshots as a device holds them.

use std::collections::BTreeMap;

use metastore_engine::{CoreBuilder, Input, SnapshotFailed, SnapshotId, SnapshotTicket};

use super::TestNode;

/// The files of snapshots.
#[derive(Debug, Default, Clone)]
pub(crate) struct SnapshotFiles {
    /// Those that have their name.
    pub(crate) named: BTreeMap<SnapshotId, Vec<u8>>,
    /// Those that are being written.
    pub(crate) unnamed: BTreeMap<SnapshotId, Vec<u8>>,
    /// No file can be read at the next start.
    pub(crate) is_unreadable: bool,
}

/// Something that a core wants done to the file of a snapshot.
pub(crate) struct SnapshotWork {
    pub(super) ticket: SnapshotTicket,
    pub(super) snapshot: SnapshotId,
    pub(super) deed: SnapshotDeed,
}

/// What is to be done.
pub(super) enum SnapshotDeed {
    Write { offset: u64, bytes: Vec<u8> },
    Finish { bytes: u64 },
    Read { offset: u64, bytes: usize },
    Remove,
}

impl SnapshotFiles {
    /// Loads what the builder asks for, as far as it is there.
    pub(super) fn load(&self, builder: &mut CoreBuilder) {
        for snapshot in builder.snapshots_to_load() {
            if self.is_unreadable {
                let others = builder.on_snapshot_damaged(snapshot);
                others.expect("others can repair it");
                continue;
            }
            let Some(bytes) = self.named.get(&snapshot) else {
                continue;
            };
            let mut load = builder.begin_load(snapshot);
            for piece in bytes.chunks(1000) {
                load.push(piece).expect("what was written is intact");
            }
            builder.finish_load(load).expect("it is complete");
        }
    }

    /// What a start leaves of them: those that the log names.
    pub(crate) fn keep_only(&mut self, kept: &[SnapshotId]) {
        self.named.retain(|snapshot, _| kept.contains(snapshot));
        self.unnamed.clear();
    }
}

impl TestNode {
    /// Whether something waits to be done to the file of a snapshot.
    pub(crate) fn names_snapshot(&self, core: usize) -> bool {
        let next = self.cores[core].snapshot_work.front();
        next.is_some_and(|work| matches!(work.deed, SnapshotDeed::Finish { .. }))
    }

    pub(crate) fn has_snapshot_work(&self, core: usize) -> bool {
        !self.cores[core].snapshot_work.is_empty()
    }

    /// Does the oldest thing that was asked for the file of a snapshot; `false` when there is none.
    pub(crate) fn complete_snapshot_work(&mut self, core: usize) -> bool {
        let test = &mut self.cores[core];
        let Some(work) = test.snapshot_work.pop_front() else {
            return false;
        };
        let SnapshotWork {
            ticket,
            snapshot,
            deed,
        } = work;
        let files = &mut test.files.snapshots;
        if let SnapshotDeed::Read { offset, bytes } = deed {
            let start = usize::try_from(offset).expect("a small file");
            let file = files.named.get(&snapshot).cloned().unwrap_or_default();
            let result = file.get(start..start + bytes).ok_or(SnapshotFailed);
            self.step(core, Input::SnapshotRead { ticket, result });
            return true;
        }
        let mut buffer = Vec::new();
        match deed {
            SnapshotDeed::Write { offset, bytes } => {
                let file = files.unnamed.entry(snapshot).or_default();
                if offset == 0 {
                    file.clear();
                }
                // After a write that failed there is a hole before the next.
                file.resize(usize::try_from(offset).expect("a small file"), 0);
                file.extend_from_slice(&bytes);
                buffer = bytes;
            }
            SnapshotDeed::Finish { bytes } => {
                let file = files.unnamed.remove(&snapshot).expect("it was written");
                assert_eq!(file.len() as u64, bytes);
                files.named.insert(snapshot, file);
            }
            SnapshotDeed::Read { .. } => unreachable!("it was read above"),
            SnapshotDeed::Remove => {
                files.unnamed.remove(&snapshot);
                files.named.remove(&snapshot);
            }
        }
        let result = Ok(());
        self.step(
            core,
            Input::SnapshotDone {
                ticket,
                result,
                buffer,
            },
        );
        true
    }

    /// Lets the oldest thing that was asked for the file of a snapshot fail, with nothing of it done.
    pub(crate) fn fail_snapshot_work(&mut self, core: usize) {
        let work = self.cores[core].snapshot_work.pop_front();
        let SnapshotWork { ticket, deed, .. } = work.expect("there is something");
        let buffer = match deed {
            SnapshotDeed::Write { bytes, .. } => bytes,
            SnapshotDeed::Finish { .. } | SnapshotDeed::Remove => Vec::new(),
            SnapshotDeed::Read { .. } => {
                let result = Err(SnapshotFailed);
                self.step(core, Input::SnapshotRead { ticket, result });
                return;
            }
        };
        let result = Err(SnapshotFailed);
        self.step(
            core,
            Input::SnapshotDone {
                ticket,
                result,
                buffer,
            },
        );
    }
}
