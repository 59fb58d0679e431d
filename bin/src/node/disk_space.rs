//! Watches how full the disk is, and keeps a reserve on it.
//!
//! A thread of its own asks the file system, because the answer may take long on a disk that is busy. Cores look at
//! what it found, and tell it how much a snapshot of their largest shard would take: so much stays allocated to a file
//! that a core may give up when the disk is full and it must write that snapshot, to release the log.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use metastore_engine::{CoreId, DiskSpace};
use metastore_wal::device::{DeviceError, DiskReserve, FileSystemSpace};

/// How often the file system is asked.
const INTERVAL: Duration = Duration::from_millis(200);
/// What must be free, as a share of the disk and at most, where the operator says nothing.
const LOW_SHARE: u64 = 20;
const LOW_BYTES_MAX: u64 = 1 << 30;
/// The reserve grows in steps of this size, so that a growing state does not allocate all the time.
const RESERVE_STEP_BYTES: u64 = 16 << 20;
/// The file's name in the data directory.
const RESERVE_NAME: &str = "reserve";

/// What is known about the disk; clones are handles to the same.
#[derive(Debug, Clone)]
pub(crate) struct DiskWatch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    data: PathBuf,
    low_bytes: u64,
    free_bytes: AtomicU64,
    is_low: AtomicBool,
    /// What a snapshot of the largest shard of each core would take.
    wanted_bytes: Vec<AtomicU64>,
    reserve: Mutex<DiskReserve>,
}

impl DiskWatch {
    /// Looks at the disk of `data` for the first time, and goes on until the last handle is gone.
    pub(crate) fn start(
        data: &Path,
        low_bytes: Option<u64>,
        cores: usize,
    ) -> Result<DiskWatch, DeviceError> {
        let space = FileSystemSpace::of(data)?;
        let default_bytes = (space.total_bytes / LOW_SHARE).min(LOW_BYTES_MAX);
        let shared = Arc::new(Shared {
            data: data.to_owned(),
            low_bytes: low_bytes.unwrap_or(default_bytes),
            free_bytes: AtomicU64::new(space.free_bytes),
            is_low: AtomicBool::new(false),
            wanted_bytes: (0..cores).map(|_| AtomicU64::new(0)).collect(),
            reserve: Mutex::new(DiskReserve::at(data.join(RESERVE_NAME))),
        });
        shared.note(space);
        let watched = Arc::downgrade(&shared);
        thread::spawn(move || watch(&watched));
        Ok(DiskWatch(shared))
    }

    /// How the disk stands.
    pub(crate) fn space(&self) -> DiskSpace {
        match self.0.is_low.load(Ordering::Relaxed) {
            false => DiskSpace::Enough,
            true => DiskSpace::Low {
                free_bytes: self.0.free_bytes.load(Ordering::Relaxed),
                low_bytes: self.0.low_bytes,
            },
        }
    }

    /// What is free beside the reserve, in bytes.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.0.free_bytes.load(Ordering::Relaxed)
    }

    /// Notes how large a snapshot of the largest shard of a core would be.
    pub(crate) fn want_reserve(&self, core: CoreId, bytes: u64) {
        self.0.wanted_bytes[usize::from(core.0)].store(bytes, Ordering::Relaxed);
    }

    /// Gives the reserve up, for a snapshot that found the disk full. Says whether there was one. It is filled again
    /// once there is room.
    pub(crate) fn give_up_reserve(&self) -> Result<bool, DeviceError> {
        let mut reserve = self.0.lock_reserve();
        let held_bytes = reserve.bytes();
        reserve.give_up()?;
        Ok(held_bytes > 0)
    }
}

impl Shared {
    fn lock_reserve(&self) -> std::sync::MutexGuard<'_, DiskReserve> {
        // The reserve is whole whoever held it last.
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a snapshot of the largest shard would take.
    fn wanted_bytes(&self) -> u64 {
        let wanted = self.wanted_bytes.iter();
        let largest_bytes = wanted.map(|bytes| bytes.load(Ordering::Relaxed)).max();
        largest_bytes
            .unwrap_or(0)
            .next_multiple_of(RESERVE_STEP_BYTES)
    }

    fn note(&self, space: FileSystemSpace) {
        // What the reserve lacks is not for others: without it no snapshot could be written that releases the log.
        let missing_bytes = self
            .wanted_bytes()
            .saturating_sub(self.lock_reserve().bytes());
        let free_bytes = space.free_bytes.saturating_sub(missing_bytes);
        self.free_bytes.store(free_bytes, Ordering::Relaxed);
        // What is refused at the limit is taken again only well above it, or the store would go back and forth.
        let limit_bytes = match self.is_low.load(Ordering::Relaxed) {
            false => self.low_bytes,
            true => self.low_bytes + self.low_bytes / 4,
        };
        let is_low = free_bytes < limit_bytes;
        self.is_low.store(is_low, Ordering::Relaxed);
    }

    /// Lets the reserve grow to what is wanted, as far as the rest of the store does not need the room.
    fn keep_reserve(&self, free_bytes: u64) {
        let wanted_bytes = self.wanted_bytes();
        let mut reserve = self.lock_reserve();
        let missing_bytes = wanted_bytes.saturating_sub(reserve.bytes());
        if missing_bytes > 0 && free_bytes >= missing_bytes + self.low_bytes {
            // Without room it is tried again: the disk is watched for that.
            let _ = reserve.grow(wanted_bytes);
        }
    }
}

fn watch(shared: &Weak<Shared>) {
    loop {
        thread::sleep(INTERVAL);
        let Some(shared) = shared.upgrade() else {
            return;
        };
        // A file system that cannot be asked for once says nothing about its space.
        if let Ok(space) = FileSystemSpace::of(&shared.data) {
            shared.note(space);
            shared.keep_reserve(space.free_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn a_disk_below_its_limit_is_low_and_says_so() {
        let directory = TestDirectory::new("disk-watch-low");
        let enough = DiskWatch::start(directory.path(), Some(0), 1).expect("it is a disk");
        assert_eq!(enough.space(), DiskSpace::Enough);
        let low = DiskWatch::start(directory.path(), Some(u64::MAX / 2), 1).expect("it is a disk");
        assert!(matches!(
            low.space(),
            DiskSpace::Low { free_bytes, .. } if free_bytes > 0
        ));
    }

    #[test]
    fn what_was_low_must_rise_well_above_the_limit() {
        let directory = TestDirectory::new("disk-watch-hysteresis");
        let watch = DiskWatch::start(directory.path(), Some(1000), 1).expect("it is a disk");
        let at = |free_bytes| {
            watch.0.note(FileSystemSpace {
                free_bytes,
                total_bytes: 10_000,
            });
            watch.0.is_low.load(Ordering::Relaxed)
        };
        assert_eq!(
            [1000, 999, 1000, 1249, 1250, 1000].map(at),
            [false, true, true, true, false, false]
        );
    }

    #[test]
    fn what_the_reserve_lacks_is_not_free() {
        let directory = TestDirectory::new("disk-watch-missing");
        let watch = DiskWatch::start(directory.path(), Some(1000), 1).expect("it is a disk");
        watch.want_reserve(CoreId(0), RESERVE_STEP_BYTES);
        let at = |free_bytes| {
            watch.0.note(FileSystemSpace {
                free_bytes,
                total_bytes: 1 << 40,
            });
            watch.0.is_low.load(Ordering::Relaxed)
        };
        assert!(at(RESERVE_STEP_BYTES + 999));
        let grown = watch.0.lock_reserve().grow(RESERVE_STEP_BYTES);
        grown.expect("a disk has room");
        assert!(!at(1250));
        assert!(watch.give_up_reserve().expect("it is ours"));
        assert!(at(1250));
    }

    #[test]
    fn the_reserve_follows_the_largest_shard_and_can_be_given_up() {
        let directory = TestDirectory::new("disk-watch-reserve");
        let watch = DiskWatch::start(directory.path(), Some(0), 2).expect("it is a disk");
        watch.want_reserve(CoreId(0), 5);
        watch.want_reserve(CoreId(1), RESERVE_STEP_BYTES + 1);
        watch.0.keep_reserve(watch.free_bytes());
        assert_eq!(watch.0.lock_reserve().bytes(), 2 * RESERVE_STEP_BYTES);
        assert!(watch.give_up_reserve().expect("it is ours"));
        assert!(!directory.path().join(RESERVE_NAME).exists());
        watch.0.keep_reserve(0);
        assert_eq!(watch.0.lock_reserve().bytes(), 0, "there is no room");
    }
}
