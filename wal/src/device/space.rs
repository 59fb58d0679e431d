//! How full a file system is, and a file that keeps some of it for bad times.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::{Deed, DeviceError};
use super::system;

/// The unit in which the blocks of a file are counted, whatever the file system's own is.
const STAT_BLOCK_BYTES: u64 = 512;

/// How full a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystemSpace {
    /// What this process may still use, in bytes.
    pub free_bytes: u64,
    /// All of it, in bytes.
    pub total_bytes: u64,
}

impl FileSystemSpace {
    /// Asks the file system that holds `directory`.
    ///
    /// # Errors
    /// When the directory cannot be opened, or the file system does not say.
    pub fn of(directory: &Path) -> Result<FileSystemSpace, DeviceError> {
        let file = File::open(directory)
            .map_err(|error| DeviceError::file(Deed::Open, directory, &error))?;
        let (free_bytes, total_bytes) = system::space(&file)
            .map_err(|error| DeviceError::file(Deed::Inspect, directory, &error))?;
        Ok(FileSystemSpace {
            free_bytes,
            total_bytes,
        })
    }
}

/// A file without content to which blocks are allocated: giving it up makes room on a full disk, for the snapshot that
/// lets the log give back its segments.
///
/// A crash loses nothing with it. It is written to by nobody, so its blocks are never read.
#[derive(Debug)]
pub struct DiskReserve {
    path: PathBuf,
    bytes: u64,
}

impl DiskReserve {
    /// The reserve in the file at `path`, as an earlier process left it; nothing when there is no such file.
    #[must_use]
    pub fn at(path: PathBuf) -> DiskReserve {
        let bytes = fs::metadata(&path).map_or(0, |facts| facts.blocks() * STAT_BLOCK_BYTES);
        DiskReserve { path, bytes }
    }

    /// What it holds for certain, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Allocates until it holds `bytes`; it never shrinks by this.
    ///
    /// # Errors
    /// When there is no room, among others; it holds what it held before.
    pub fn grow(&mut self, bytes: u64) -> Result<(), DeviceError> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.path)
            .map_err(|error| DeviceError::file(Deed::Open, &self.path, &error))?;
        system::reserve(&file, bytes)
            .map_err(|error| DeviceError::file(Deed::Fill, &self.path, &error))?;
        self.bytes = bytes;
        Ok(())
    }

    /// Gives everything back to the file system.
    ///
    /// # Errors
    /// When the file exists and cannot be removed.
    pub fn give_up(&mut self) -> Result<(), DeviceError> {
        self.bytes = 0;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(DeviceError::file(Deed::Remove, &self.path, &error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_directory::TestDirectory;
    use super::*;

    #[test]
    fn a_reserve_takes_blocks_and_gives_them_back() {
        let directory = TestDirectory::new("a_reserve_takes_blocks");
        let path = directory.path().join("reserve");
        let mut reserve = DiskReserve::at(path.clone());
        reserve.grow(1 << 20).expect("a disk has a mebibyte");
        let facts = fs::metadata(&path).expect("it exists");
        assert_eq!((facts.len(), reserve.bytes()), (0, 1 << 20));
        assert!(facts.blocks() * 512 >= 1 << 20, "{} blocks", facts.blocks());
        let found = DiskReserve::at(path.clone());
        assert!(found.bytes() >= 1 << 20, "the next process finds it");
        reserve.give_up().expect("it can be removed");
        assert!(!path.exists());
        reserve.give_up().expect("nothing is there to give up");
    }

    #[test]
    fn what_is_free_is_less_than_all() {
        let directory = TestDirectory::new("what_is_free");
        let space = FileSystemSpace::of(directory.path()).expect("a disk says how full it is");
        assert!(0 < space.free_bytes && space.free_bytes <= space.total_bytes);
    }
}
