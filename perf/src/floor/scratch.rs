//! A file to write into, gone when it is no longer needed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use metastore_wal::FileNumber;
use metastore_wal::device::{DeviceError, Pace, open_segment, prepare_segment, segment_path};

/// The number of the only file.
pub(super) const FILE: FileNumber = FileNumber(1);

/// How many were made, so that each has a name of its own.
static CREATED: AtomicU32 = AtomicU32::new(0);

/// A directory of its own with one file that is prepared as the store prepares its segments: filled with zeros, so
/// that a write changes no metadata. Both are removed with this value.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: PathBuf,
    bytes: u64,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScratchError {
    #[error("cannot create {path}: {source}")]
    Create { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl Scratch {
    /// Prepares a file of `bytes` within `parent`, which must be there.
    pub(crate) fn create(parent: &Path, bytes: u64) -> Result<Scratch, ScratchError> {
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let own = std::process::id();
        let directory = parent.join(format!("metastore-perf-floor-{own}-{number}"));
        fs::create_dir(&directory).map_err(|source| ScratchError::Create {
            path: directory.clone(),
            source,
        })?;
        let scratch = Scratch { directory, bytes };
        prepare_segment(&scratch.directory, FILE, bytes, &Pace::unlimited())?;
        Ok(scratch)
    }

    /// Where the file is.
    pub(super) fn path(&self) -> PathBuf {
        segment_path(&self.directory, FILE)
    }

    /// How long it is.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file, open for direct writes.
    pub(super) fn open(&self) -> Result<File, DeviceError> {
        open_segment(&self.path())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A file that cannot be removed does no harm beyond its size, and there is nobody to tell here.
        let _removed = fs::remove_dir_all(&self.directory);
    }
}
