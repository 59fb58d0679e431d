//! A simulated disk: what is written, what is only in its cache, and what a crash leaves of either.
//!
//! It does **not** decide when anything happens: whoever owns it submits, completes and crashes.

mod crash;
mod decay;
mod snapshots;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use metastore_bugs::{Mutant, is_planted};
use metastore_wal::FileNumber;
use thiserror::Error;

use crate::random::Random;
pub use crash::CrashKind;
pub use decay::Decay;
pub use snapshots::SnapshotDeed;
use snapshots::SnapshotFiles;
pub use source::DiskReader;

/// The unit that a device writes at once, or tears.
pub const SECTOR_BYTES: usize = 512;

/// A file of the log's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    /// A segment.
    Segment(FileNumber),
    /// The two mark blocks.
    Mark,
}

/// Names a write or flush from its submission to its completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IoTicket(u64);

/// What a write promises when it completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Exactly these bytes are durable.
    Durable,
    /// They can be read; durable they are after a flush.
    Cached,
}

/// How a write or flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoEnd {
    /// As promised.
    Done,
    /// Only so many bytes of the write were taken, fewer than were given.
    Short {
        /// How many.
        written_bytes: usize,
    },
}

/// What a disk refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DiskError {
    /// The device failed; what it did before that, nobody knows.
    #[error("input/output error in {file:?}")]
    Io {
        /// The file.
        file: FileName,
    },
    /// There is no room.
    #[error("no space for {bytes} bytes")]
    Full {
        /// What was asked for.
        bytes: u64,
    },
}

/// What goes wrong, each as so many in a thousand operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Writes and flushes that fail.
    pub io_error_per_mille: u64,
    /// Writes that are cut short.
    pub short_write_per_mille: u64,
    /// Writes that find no room in their middle, as on file systems that copy what is written over.
    pub full_write_per_mille: u64,
    /// The device confirms durable writes and flushes that it keeps in its cache.
    pub lies_about_flushes: bool,
    /// Things done to the files of snapshots that fail.
    pub snapshot_error_per_mille: u64,
    /// Files of snapshots get their names without a flush.
    pub names_unflushed_snapshots: bool,
}

/// How long operations take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The shortest.
    pub min_ns: u64,
    /// The longest of the usual ones.
    pub usual_max_ns: u64,
    /// How many in a thousand take up to `slow_max_ns`.
    pub slow_per_mille: u64,
    /// The longest.
    pub slow_max_ns: u64,
}

type Sector = Box<[u8; SECTOR_BYTES]>;

#[derive(Clone, Debug)]
struct File {
    /// What survives a loss of power.
    durable: Vec<u8>,
    /// Newer sectors that can be read and are lost with the power.
    cache: BTreeMap<usize, Sector>,
    stage: Stage,
    /// Whether its name survives a loss of power.
    is_name_durable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is being made; whether and how much of it there is after a crash is open.
    Preparing,
    There,
    /// It is being removed; whether it is gone after a crash is open.
    Removing,
}

#[derive(Debug)]
struct Write {
    file: FileName,
    offset: usize,
    bytes: Vec<u8>,
    mode: WriteMode,
}

/// A flush covers what was in the cache when it was submitted, and nothing that came later.
#[derive(Debug)]
struct Flush {
    file: FileName,
    covered: Vec<(usize, Sector)>,
}

/// Files of fixed length on a device with a volatile cache.
///
/// ```text
///   submit_write ──> in flight ──complete──> cache ──flush──> durable
///                        └── Durable: ──complete────────────────┘
/// ```
///
/// What a crash leaves is described on [`CrashKind`].
#[derive(Debug)]
pub struct Disk {
    random: Random,
    files: BTreeMap<FileName, File>,
    writes: BTreeMap<IoTicket, Write>,
    flushes: BTreeMap<IoTicket, Flush>,
    snapshots: SnapshotFiles,
    /// Sectors that cannot be read until they are written again.
    unreadable: BTreeSet<(FileName, usize)>,
    next_ticket: u64,
    capacity_bytes: u64,
    foreign_bytes: u64,
    reserve_bytes: u64,
    /// What goes wrong.
    pub faults: DiskFaults,
    /// How long operations take.
    pub latency: Latency,
    /// For how long it hangs before it does what is asked for now.
    pub hang_ns: u64,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(random: Random, latency: Latency) -> Disk {
        Disk {
            random,
            files: BTreeMap::new(),
            writes: BTreeMap::new(),
            flushes: BTreeMap::new(),
            snapshots: SnapshotFiles::default(),
            unreadable: BTreeSet::new(),
            next_ticket: 0,
            capacity_bytes: u64::MAX,
            foreign_bytes: 0,
            reserve_bytes: 0,
            faults: DiskFaults::default(),
            latency,
            hang_ns: 0,
        }
    }

    /// Sets how much all files together may take.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
    }

    /// Sets how much the files of others take: at most what is free.
    pub fn set_foreign(&mut self, bytes: u64) {
        self.foreign_bytes = 0;
        self.foreign_bytes = bytes.min(self.free_bytes());
    }

    /// What all files of the node take, the reserve included.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let log = self.files.values().map(|file| file.durable.len() as u64);
        log.sum::<u64>() + self.snapshots.used_bytes() + self.reserve_bytes
    }

    /// What is free.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let taken_bytes = self.used_bytes() + self.foreign_bytes;
        self.capacity_bytes.saturating_sub(taken_bytes)
    }

    /// What is kept for a snapshot that finds the disk full.
    #[must_use]
    pub fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// Keeps so much for a snapshot that finds the disk full. There is room for it.
    pub fn set_reserve(&mut self, bytes: u64) {
        self.reserve_bytes = bytes;
        assert!(
            self.capacity_bytes >= self.used_bytes() + self.foreign_bytes,
            "the reserve has room"
        );
    }

    /// How long the next operations take, one after the other. A disk that hangs lets them wait once for all.
    pub fn draw_latency_ns(&mut self, operations: u64) -> u64 {
        let latency = self.latency;
        let max_ns = if self.random.chance(latency.slow_per_mille) {
            latency.slow_max_ns
        } else {
            latency.usual_max_ns
        };
        self.hang_ns + operations * self.random.between(latency.min_ns, max_ns)
    }

    // ---- Files ----

    /// Takes everything away: another disk stands in its place. Nothing is under way.
    pub fn wipe(&mut self) {
        assert!(self.writes.is_empty() && self.flushes.is_empty());
        self.files.clear();
        self.unreadable.clear();
        self.snapshots = SnapshotFiles::default();
        self.reserve_bytes = 0;
    }

    /// Puts a file of zeros there, durably and at once: what formatting does.
    pub fn format_file(&mut self, file: FileName, bytes: usize) {
        let made = File {
            durable: vec![0; bytes],
            cache: BTreeMap::new(),
            stage: Stage::There,
            is_name_durable: true,
        };
        let before = self.files.insert(file, made);
        assert!(before.is_none(), "a file is made once");
    }

    /// Begins to make a file of zeros.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn begin_prepare(&mut self, file: FileName, bytes: u64) -> Result<(), DiskError> {
        if bytes > self.free_bytes() {
            return Err(DiskError::Full { bytes });
        }
        self.format_file(
            file,
            usize::try_from(bytes).expect("a segment fits the memory"),
        );
        self.file_mut(file).stage = Stage::Preparing;
        Ok(())
    }

    /// The file, its length and its name are durable.
    pub fn complete_prepare(&mut self, file: FileName) {
        let made = self.file_mut(file);
        assert_eq!(
            made.stage,
            Stage::Preparing,
            "what was begun is completed once"
        );
        made.stage = Stage::There;
        made.is_name_durable = !is_planted(Mutant::SegmentNameNotFlushed);
    }

    /// Begins to remove a file.
    pub fn begin_remove(&mut self, file: FileName) {
        self.file_mut(file).stage = Stage::Removing;
    }

    /// The file is gone for good.
    pub fn complete_remove(&mut self, file: FileName) {
        let removed = self.files.remove(&file).expect("a file is removed once");
        self.unreadable.retain(|(bad, _)| *bad != file);
        assert_eq!(
            removed.stage,
            Stage::Removing,
            "what was begun is completed once"
        );
    }

    // ---- Writes and flushes ----

    /// Submits a write. Offset and length are whole sectors within the file.
    pub fn submit_write(
        &mut self,
        file: FileName,
        offset: u64,
        bytes: &[u8],
        mode: WriteMode,
    ) -> IoTicket {
        let offset = usize::try_from(offset).expect("a segment fits the memory");
        let there = self.file_mut(file);
        assert_eq!(
            there.stage,
            Stage::There,
            "only a prepared file is written to"
        );
        assert!(offset.is_multiple_of(SECTOR_BYTES) && bytes.len().is_multiple_of(SECTOR_BYTES));
        assert!(
            offset + bytes.len() <= there.durable.len(),
            "a write never makes a file longer"
        );
        let ticket = self.ticket();
        self.writes.insert(
            ticket,
            Write {
                file,
                offset,
                bytes: bytes.to_vec(),
                mode,
            },
        );
        ticket
    }

    /// Submits a flush of everything that is in the cache for `file` at this moment.
    pub fn submit_flush(&mut self, file: FileName) -> IoTicket {
        let covered = self
            .file_mut(file)
            .cache
            .iter()
            .map(|(&sector, bytes)| (sector, bytes.clone()))
            .collect();
        let ticket = self.ticket();
        self.flushes.insert(ticket, Flush { file, covered });
        ticket
    }

    /// Completes a write or flush.
    ///
    /// # Errors
    /// The device failed, and any part of the write may have been carried out.
    pub fn complete(&mut self, ticket: IoTicket) -> Result<IoEnd, DiskError> {
        if let Some(flush) = self.flushes.remove(&ticket) {
            return self.complete_flush(flush);
        }
        let write = self
            .writes
            .remove(&ticket)
            .expect("a ticket completes once");
        if self.random.chance(self.faults.io_error_per_mille) {
            let file = write.file;
            self.leave_remains(write, CrashKind::ProcessKilled);
            return Err(DiskError::Io { file });
        }
        let sectors = write.bytes.len() / SECTOR_BYTES;
        let is_short = sectors > 1 && self.random.chance(self.faults.short_write_per_mille);
        let is_full = self.random.chance(self.faults.full_write_per_mille);
        let written_bytes = if is_short || is_full {
            SECTOR_BYTES * self.random.index(sectors)
        } else {
            write.bytes.len()
        };
        let is_durable = write.mode == WriteMode::Durable && !self.faults.lies_about_flushes;
        let first_sector = write.offset / SECTOR_BYTES;
        for sector in first_sector..first_sector + written_bytes / SECTOR_BYTES {
            self.unreadable.remove(&(write.file, sector));
        }
        let file = self.file_mut(write.file);
        for (index, bytes) in write.bytes[..written_bytes]
            .chunks_exact(SECTOR_BYTES)
            .enumerate()
        {
            let sector = write.offset / SECTOR_BYTES + index;
            if is_durable {
                file.cache.remove(&sector);
                file.durable_sector(sector).copy_from_slice(bytes);
            } else {
                file.cache.insert(sector, sector_of(bytes));
            }
        }
        if is_full {
            let bytes = (write.bytes.len() - written_bytes) as u64;
            return Err(DiskError::Full { bytes });
        }
        Ok(if is_short {
            IoEnd::Short { written_bytes }
        } else {
            IoEnd::Done
        })
    }

    fn complete_flush(&mut self, flush: Flush) -> Result<IoEnd, DiskError> {
        if self.random.chance(self.faults.io_error_per_mille) {
            return Err(DiskError::Io { file: flush.file });
        }
        if self.faults.lies_about_flushes {
            return Ok(IoEnd::Done);
        }
        let file = self.file_mut(flush.file);
        for (sector, bytes) in flush.covered {
            file.durable_sector(sector).copy_from_slice(&bytes[..]);
            if file.cache.get(&sector) == Some(&bytes) {
                file.cache.remove(&sector);
            }
        }
        Ok(IoEnd::Done)
    }

    /// Makes everything durable that can be read: what a start does before it trusts what it reads.
    ///
    /// # Errors
    /// The device failed.
    pub fn flush_all(&mut self) -> Result<(), DiskError> {
        if self.random.chance(self.faults.io_error_per_mille) {
            return Err(DiskError::Io {
                file: FileName::Mark,
            });
        }
        for file in self.files.values_mut() {
            for (sector, bytes) in std::mem::take(&mut file.cache) {
                file.durable_sector(sector).copy_from_slice(&bytes[..]);
            }
        }
        Ok(())
    }

    // ---- What checkers may ask and do ----

    /// Whether exactly these bytes would be found after a loss of power. While something is on its way to their place
    /// they would not, even when it is the same: a crash may leave noise there.
    #[must_use]
    pub fn is_durable(&self, file: FileName, offset: u64, bytes: &[u8]) -> bool {
        let start = usize::try_from(offset).expect("a segment fits the memory");
        let end = start + bytes.len();
        let Some(found) = self.files.get(&file) else {
            return false;
        };
        let sectors = start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
        let is_in_flight = self.writes.values().any(|write| {
            write.file == file && write.offset < end && start < write.offset + write.bytes.len()
        });
        found.durable.get(start..end) == Some(bytes)
            && !is_in_flight
            && found.cache.range(sectors).next().is_none()
    }

    /// Replaces durable bytes, as decay does, and returns what was there.
    pub fn replace_durable(&mut self, file: FileName, offset: u64, bytes: &[u8]) -> Vec<u8> {
        let offset = usize::try_from(offset).expect("a segment fits the memory");
        let target = &mut self.file_mut(file).durable[offset..offset + bytes.len()];
        let before = target.to_vec();
        target.copy_from_slice(bytes);
        before
    }

    fn ticket(&mut self) -> IoTicket {
        self.next_ticket += 1;
        IoTicket(self.next_ticket)
    }

    fn file_mut(&mut self, file: FileName) -> &mut File {
        self.files.get_mut(&file).expect("the file is there")
    }
}

impl File {
    fn durable_sector(&mut self, sector: usize) -> &mut [u8] {
        &mut self.durable[sector * SECTOR_BYTES..][..SECTOR_BYTES]
    }

    /// Copies what can be read from `offset` on.
    fn read(&self, offset: usize, into: &mut [u8]) {
        let end = offset + into.len();
        into.copy_from_slice(&self.durable[offset..end]);
        let sectors = offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
        for (&sector, bytes) in self.cache.range(sectors) {
            let start = sector * SECTOR_BYTES;
            let (from, to) = (start.max(offset), (start + SECTOR_BYTES).min(end));
            into[from - offset..to - offset].copy_from_slice(&bytes[from - start..to - start]);
        }
    }
}

fn sector_of(bytes: &[u8]) -> Sector {
    let mut sector = Box::new([0; SECTOR_BYTES]);
    sector.copy_from_slice(bytes);
    sector
}

#[cfg(test)]
mod tests;
