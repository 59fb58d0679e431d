//! The files of snapshots on the simulated disk: written in the background, made durable, named.

use std::collections::{BTreeMap, BTreeSet};

use metastore_bugs::{Mutant, is_planted};
use metastore_engine::SnapshotId;

use super::{CrashKind, Disk, DiskError, FileName, SECTOR_BYTES};
use crate::random::Random;

/// Something that a driver does to the file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotDeed {
    /// Writes bytes at an offset of the file that has no name yet; at 0 it begins anew.
    Write {
        /// Whose file.
        snapshot: SnapshotId,
        /// Where.
        offset: usize,
        /// What.
        bytes: Vec<u8>,
    },
    /// Makes the content durable, gives the file its name, makes the name durable.
    Finish {
        /// Whose file.
        snapshot: SnapshotId,
    },
    /// Removes the file, named or not.
    Remove {
        /// Whose file.
        snapshot: SnapshotId,
    },
}

/// The files of snapshots. One thing at a time is done to them.
///
/// | | being written | being named | being removed | named |
/// |---|---|---|---|---|
/// | power loss | each sector old, new or noise, of any length, or gone | as before, or complete, under either name | there or not | there |
/// | process killed | what was written | the same, complete | there or not | there |
#[derive(Debug, Default)]
pub(super) struct SnapshotFiles {
    named: BTreeMap<SnapshotId, Vec<u8>>,
    unnamed: BTreeMap<SnapshotId, Vec<u8>>,
    /// Named files whose content a device or driver forgot to make durable.
    unflushed: BTreeSet<SnapshotId>,
    /// Whose name a loss of power may take: only where a driver forgets to make names durable.
    unflushed_names: BTreeSet<SnapshotId>,
    under_way: Option<SnapshotDeed>,
}

impl Disk {
    /// Begins to do something to the file of a snapshot.
    pub fn begin_snapshot_deed(&mut self, deed: SnapshotDeed) {
        let before = self.snapshots.under_way.replace(deed);
        assert!(before.is_none(), "one thing at a time is done");
    }

    /// What was begun is done.
    ///
    /// # Errors
    /// The device failed, and any part of it may have been done.
    pub fn complete_snapshot_deed(&mut self) -> Result<(), DiskError> {
        let deed = self
            .snapshots
            .under_way
            .take()
            .expect("something was begun");
        let fails = self.random.chance(self.faults.io_error_per_mille)
            || self.random.chance(self.faults.snapshot_error_per_mille);
        if fails {
            self.snapshots
                .leave_remains(&mut self.random, deed, CrashKind::ProcessKilled);
            let file = FileName::Mark;
            return Err(DiskError::Io { file });
        }
        if let SnapshotDeed::Write { bytes, .. } = &deed {
            let bytes = bytes.len() as u64;
            if bytes > self.free_bytes() {
                // This is what the reserve is for.
                self.reserve_bytes = 0;
            }
            if bytes > self.free_bytes() {
                let room_bytes = self.free_bytes();
                self.snapshots
                    .leave_part(&mut self.random, deed, room_bytes);
                return Err(DiskError::Full { bytes });
            }
        }
        let forgets_flush = self.faults.lies_about_flushes || self.faults.names_unflushed_snapshots;
        self.snapshots.carry_out(deed, forgets_flush);
        Ok(())
    }

    /// The content of a snapshot that has its name.
    #[must_use]
    pub fn snapshot(&self, snapshot: SnapshotId) -> Option<&[u8]> {
        self.snapshots.named.get(&snapshot).map(Vec::as_slice)
    }

    /// Reads a part of a snapshot that has its name.
    ///
    /// # Errors
    /// The device failed, or the file is gone or shorter.
    pub fn read_snapshot(
        &mut self,
        snapshot: SnapshotId,
        offset: u64,
        bytes: usize,
    ) -> Result<Vec<u8>, DiskError> {
        let failed = DiskError::Io {
            file: FileName::Mark,
        };
        if self.random.chance(self.faults.snapshot_error_per_mille) {
            return Err(failed);
        }
        let offset = usize::try_from(offset).expect("a small file");
        let found = self.snapshots.named.get(&snapshot);
        let part = found.and_then(|content| content.get(offset..offset + bytes));
        part.map(<[u8]>::to_vec).ok_or(failed)
    }

    /// Replaces bytes of every snapshot that has its name, each `at` parts per thousand of its length, as decay does.
    /// Returns what was there, for [`Disk::restore_snapshots`].
    pub fn damage_snapshots(
        &mut self,
        at_per_mille: usize,
        noise: u8,
    ) -> BTreeMap<SnapshotId, Vec<u8>> {
        let before = self.snapshots.named.clone();
        for file in self.snapshots.named.values_mut() {
            let at = file.len() * at_per_mille / 1000;
            if let Some(byte) = file.get_mut(at) {
                *byte ^= noise;
            }
        }
        before
    }

    /// Puts the content of snapshots back.
    pub fn restore_snapshots(&mut self, named: BTreeMap<SnapshotId, Vec<u8>>) {
        self.snapshots.named = named;
    }

    /// Removes every file but these: what a start does once it has loaded them.
    pub fn keep_snapshots(&mut self, kept: &[SnapshotId]) {
        self.snapshots
            .named
            .retain(|snapshot, _| kept.contains(snapshot));
        self.snapshots.unnamed.clear();
    }
}

impl SnapshotFiles {
    fn carry_out(&mut self, deed: SnapshotDeed, forgets_flush: bool) {
        match deed {
            SnapshotDeed::Write {
                snapshot,
                offset,
                bytes,
            } => {
                let file = self.unnamed.entry(snapshot).or_default();
                if offset == 0 {
                    file.clear();
                }
                file.resize(offset, 0);
                file.extend_from_slice(&bytes);
            }
            SnapshotDeed::Finish { snapshot } => {
                if let Some(file) = self.unnamed.remove(&snapshot) {
                    self.named.insert(snapshot, file);
                }
                if forgets_flush {
                    self.unflushed.insert(snapshot);
                }
                if is_planted(Mutant::SnapshotNameNotFlushed) {
                    self.unflushed_names.insert(snapshot);
                }
            }
            SnapshotDeed::Remove { snapshot } => {
                self.named.remove(&snapshot);
                self.unnamed.remove(&snapshot);
            }
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let files = self.named.values().chain(self.unnamed.values());
        files.map(|file| file.len() as u64).sum()
    }

    /// A write found no room in its middle.
    fn leave_part(&mut self, random: &mut Random, deed: SnapshotDeed, room_bytes: u64) {
        if let SnapshotDeed::Write {
            snapshot,
            offset,
            mut bytes,
        } = deed
        {
            let room =
                usize::try_from(room_bytes).map_or(bytes.len(), |room| room.min(bytes.len()));
            bytes.truncate(random.index(room + 1));
            let part = SnapshotDeed::Write {
                snapshot,
                offset,
                bytes,
            };
            self.carry_out(part, false);
        }
    }

    /// The machine stops.
    pub(super) fn crash(&mut self, random: &mut Random, kind: CrashKind) {
        if let Some(deed) = self.under_way.take() {
            self.leave_remains(random, deed, kind);
        }
        if kind == CrashKind::ProcessKilled {
            return;
        }
        // A name that was never made durable may be gone.
        self.unnamed.retain(|_, _| random.chance(700));
        for file in self.unnamed.values_mut() {
            tear(random, file);
        }
        for snapshot in std::mem::take(&mut self.unflushed_names) {
            if random.chance(500) {
                self.named.remove(&snapshot);
            }
        }
        for snapshot in std::mem::take(&mut self.unflushed) {
            if let Some(file) = self.named.get_mut(&snapshot) {
                tear(random, file);
            }
        }
    }

    /// What an interrupted deed leaves.
    fn leave_remains(&mut self, random: &mut Random, deed: SnapshotDeed, kind: CrashKind) {
        match deed {
            SnapshotDeed::Write {
                snapshot,
                offset,
                mut bytes,
            } => {
                let kept = random.index(bytes.len() + 1);
                bytes.truncate(kept);
                let part = SnapshotDeed::Write {
                    snapshot,
                    offset,
                    bytes,
                };
                self.carry_out(part, false);
            }
            SnapshotDeed::Finish { snapshot } => {
                // Its content is durable before it is renamed, and it is renamed before the name is durable.
                let is_renamed = random.chance(500);
                let is_flushed = is_renamed || random.chance(500);
                if is_renamed {
                    self.carry_out(SnapshotDeed::Finish { snapshot }, false);
                } else if is_flushed && kind == CrashKind::PowerLoss {
                    // Complete under its first name, which nobody asks for: as good as gone.
                    self.unnamed.remove(&snapshot);
                }
            }
            SnapshotDeed::Remove { snapshot } => {
                if random.chance(500) {
                    self.named.remove(&snapshot);
                }
                if random.chance(500) {
                    self.unnamed.remove(&snapshot);
                }
            }
        }
    }
}

/// What a loss of power leaves of a file that was not flushed.
fn tear(random: &mut Random, file: &mut Vec<u8>) {
    let kept = random.index(file.len() + 1);
    let length = random.weighted(&[(1, file.len()), (1, kept)]);
    file.truncate(length);
    for sector in file.chunks_mut(SECTOR_BYTES) {
        match random.below(4) {
            0 => sector.fill(0),
            1 => random.fill(sector),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use metastore_engine::{LogIndex, ShardId, Term};

    use super::*;
    use crate::disk::Latency;

    const ONE: SnapshotId = SnapshotId {
        shard: ShardId(0),
        term: Term(1),
        index: LogIndex(5),
    };

    fn disk(seed: u64) -> Disk {
        let latency = Latency {
            min_ns: 1,
            usual_max_ns: 1,
            slow_per_mille: 0,
            slow_max_ns: 1,
        };
        Disk::new(Random::new(seed), latency)
    }

    fn write(disk: &mut Disk, content: &[u8]) {
        disk.begin_snapshot_deed(SnapshotDeed::Write {
            snapshot: ONE,
            offset: 0,
            bytes: content.to_vec(),
        });
        disk.complete_snapshot_deed().expect("the disk is well");
    }

    #[test]
    fn a_named_file_survives_every_crash_whole() {
        for seed in 0..50 {
            let mut disk = disk(seed);
            write(&mut disk, &[7; 3000]);
            assert_eq!(disk.snapshot(ONE), None);
            disk.begin_snapshot_deed(SnapshotDeed::Finish { snapshot: ONE });
            disk.complete_snapshot_deed().expect("the disk is well");
            disk.crash(CrashKind::PowerLoss);
            assert_eq!(disk.snapshot(ONE), Some(&[7; 3000][..]));
        }
    }

    #[test]
    fn a_file_that_was_being_named_is_whole_or_not_there() {
        let mut found = 0;
        for seed in 0..50 {
            let mut disk = disk(seed);
            write(&mut disk, &[7; 3000]);
            disk.begin_snapshot_deed(SnapshotDeed::Finish { snapshot: ONE });
            disk.crash(CrashKind::PowerLoss);
            if let Some(content) = disk.snapshot(ONE) {
                assert_eq!(content, &[7; 3000][..]);
                found += 1;
            }
        }
        assert!((10..40).contains(&found), "{found}");
    }

    #[test]
    fn a_name_before_the_flush_may_stand_for_anything() {
        let mut torn = 0;
        for seed in 0..50 {
            let mut disk = disk(seed);
            disk.faults.names_unflushed_snapshots = true;
            write(&mut disk, &[7; 3000]);
            disk.begin_snapshot_deed(SnapshotDeed::Finish { snapshot: ONE });
            disk.complete_snapshot_deed().expect("it says it is well");
            disk.crash(CrashKind::PowerLoss);
            torn += usize::from(disk.snapshot(ONE) != Some(&[7; 3000][..]));
        }
        assert!(torn > 30, "{torn}");
    }
}
