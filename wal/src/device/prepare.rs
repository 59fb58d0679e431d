//! The files of a core's directory: made once, in place, and never renamed.
//!
//! After a crash a segment file may be shorter than it should be: it was being prepared, holds zeros only and is
//! removed or filled again. A file of full length may hold zeros, records, or what an earlier use left.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::DeviceError;
use crate::buffer::LogBuffer;
use crate::format::{BLOCK_BYTES, HeaderFault, RecordHeader};
use crate::ids::FileNumber;

/// How many zeros are written at once.
const ZEROS_BYTES: usize = 256 * 1024;

/// Where a segment file lies.
#[must_use]
pub fn segment_path(directory: &Path, file: FileNumber) -> PathBuf {
    directory.join(format!("log-{file}.seg"))
}

/// Where the mark file lies.
#[must_use]
pub fn mark_path(directory: &Path) -> PathBuf {
    directory.join("mark")
}

/// The number in the name of a segment file.
pub(super) fn segment_number(name: &str) -> Option<FileNumber> {
    let digits = name.strip_prefix("log-")?.strip_suffix(".seg")?;
    let number: u64 = digits.parse().ok()?;
    // Only the one spelling that `segment_path` gives, so that two names never mean one file.
    (number.to_string() == digits).then_some(FileNumber(number))
}

/// Creates the mark file of a new log: two blocks of zeros, durable together with its name.
///
/// # Errors
/// Says what failed; a mark file that exists is left alone and is an error.
pub fn create_mark_file(directory: &Path) -> Result<(), DeviceError> {
    let path = mark_path(directory);
    let create = || -> io::Result<()> {
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(&path)?;
        file.write_all_at(&[0; 2 * BLOCK_BYTES], 0)?;
        file.sync_all()?;
        sync_directory(directory)
    };
    create().map_err(|source| DeviceError::Path {
        path: path.clone(),
        source,
    })
}

/// Opens the mark file for direct writes.
///
/// # Errors
/// Says what failed.
pub fn open_mark_file(directory: &Path) -> Result<File, DeviceError> {
    let path = mark_path(directory);
    open_direct(&path).map_err(|source| DeviceError::Path { path, source })
}

/// Opens a prepared segment file for direct writes.
///
/// # Errors
/// Says what failed.
pub fn open_segment(directory: &Path, file: FileNumber) -> Result<File, DeviceError> {
    let path = segment_path(directory, file);
    open_direct(&path).map_err(|source| DeviceError::Path { path, source })
}

/// Creates a segment file, or fills a half-prepared one, and makes it durable. Blocks; not for an executor's thread.
///
/// It is filled with zeros, because writes to a file that is merely allocated change metadata, which makes each of
/// them slower for as long as the file is new. `pace` is called with the number of bytes written so far, after each
/// 256 KiB, and may wait.
///
/// # Errors
/// Says what failed. A file that holds records is left alone; otherwise nothing of the file remains.
pub fn prepare_segment(
    directory: &Path,
    file: FileNumber,
    bytes: u64,
    pace: &mut dyn FnMut(u64),
) -> Result<File, DeviceError> {
    let path = segment_path(directory, file);
    if holds_record(&path).map_err(|source| DeviceError::Prepare { file, source })? {
        return Err(DeviceError::FileInUse { file });
    }
    fill_with_zeros(directory, &path, bytes, pace).map_err(|source| {
        // The space that a half-filled file takes is better left to others. If it cannot be removed either, the
        // first error still says what happened, and the next start removes it.
        drop(std::fs::remove_file(&path));
        DeviceError::Prepare { file, source }
    })
}

/// Removes a segment file that is not needed any more, durably.
///
/// # Errors
/// Says what failed. A file that is gone already is no error.
pub fn remove_segment(directory: &Path, file: FileNumber) -> Result<(), DeviceError> {
    let path = segment_path(directory, file);
    let removed = match std::fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    removed
        .and_then(|()| sync_directory(directory))
        .map_err(|source| DeviceError::Path { path, source })
}

fn holds_record(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut block = [0; BLOCK_BYTES];
    match file.read_exact_at(&mut block, 0) {
        Ok(()) => Ok(!matches!(
            RecordHeader::decode(&block),
            Err(HeaderFault::Unreadable)
        )),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn fill_with_zeros(
    directory: &Path,
    path: &Path,
    bytes: u64,
    pace: &mut dyn FnMut(u64),
) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)?;
    let mut zeros = LogBuffer::new(0, ZEROS_BYTES);
    zeros.extend_with_zeros(ZEROS_BYTES);
    let mut written = 0;
    while written < bytes {
        let length = (bytes - written).min(ZEROS_BYTES as u64) as usize;
        file.write_all_at(&zeros.as_slice()[..length], written)?;
        written += length as u64;
        pace(written);
    }
    file.set_len(bytes)?;
    file.sync_all()?;
    sync_directory(directory)?;
    Ok(file)
}

fn open_direct(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
