//! The files of a log: making, opening and removing them. Everything here blocks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use super::directory::{checked_alignment, mark_path, open_direct, segment_path, sync_directory};
use super::error::{Deed, DeviceError};
use super::pace::Pace;
use super::system;
use crate::buffer::LogBuffer;
use crate::format::BLOCK_BYTES;
use crate::ids::FileNumber;

/// How much is filled with zeros at a time.
const FILL_BYTES: usize = 256 * 1024;

/// The two marks.
const MARK_FILE_BYTES: u64 = 2 * BLOCK_BYTES as u64;

/// Makes a segment ready to be written: creates the file, fills it with zeros, flushes file and directory.
///
/// Zeros are really written. A merely reserved file would make each later write change metadata, too, and so make it
/// slower. The length grows with what has been written, so that after a crash a file that is shorter than a segment is
/// known to be half prepared; it is filled again from its beginning. A file of full length is ready, whether or not
/// the flush was reached, because recovery flushes every file before it reads.
///
/// When it fails, a half-prepared file is removed, so that a full disk is not made fuller.
///
/// # Errors
/// [`DeviceError::InUse`] if the file has its full length already or holds anything but zeros;
/// [`DeviceError::is_no_space`] if the disk is full, which may be tried again; anything else means that the process
/// must halt.
pub fn prepare_segment(
    directory: &Path,
    number: FileNumber,
    bytes: u64,
    pace: &Pace,
) -> Result<File, DeviceError> {
    create_zeroed(directory, &segment_path(directory, number), bytes, pace)
}

/// Creates the mark file, with two blocks of zeros, and makes it durable: once, when the log is formatted.
///
/// # Errors
/// As [`prepare_segment`].
pub fn create_marks(directory: &Path) -> Result<File, DeviceError> {
    create_zeroed(
        directory,
        &mark_path(directory),
        MARK_FILE_BYTES,
        &Pace::unlimited(),
    )
}

/// Opens a prepared segment for direct I/O.
///
/// # Errors
/// When it cannot be opened, or direct I/O to it needs larger blocks than the log writes.
pub fn open_segment(path: &Path) -> Result<File, DeviceError> {
    let file = open_direct(path, &mut OpenOptions::new())?;
    checked_alignment(path, &file)?;
    Ok(file)
}

/// Opens the mark file of a directory for direct I/O.
///
/// # Errors
/// As [`open_segment`].
pub fn open_marks(directory: &Path) -> Result<File, DeviceError> {
    open_segment(&mark_path(directory))
}

/// Removes a segment's file and makes that durable. A file that is not there is removed already.
///
/// # Errors
/// When the file cannot be removed, or the directory cannot be flushed.
pub fn remove_segment(directory: &Path, number: FileNumber) -> Result<(), DeviceError> {
    let path = segment_path(directory, number);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DeviceError::file(Deed::Remove, &path, &error))
        }
        _ => sync_directory(directory),
    }
}

fn create_zeroed(
    directory: &Path,
    path: &Path,
    bytes: u64,
    pace: &Pace,
) -> Result<File, DeviceError> {
    assert!(
        bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES as u64),
        "a file of the log is whole blocks"
    );
    let file = open_direct(path, OpenOptions::new().create(true).truncate(false))?;
    checked_alignment(path, &file)?;
    refuse_if_in_use(path, &file, bytes)?;
    if let Err(error) = fill(path, &file, bytes, pace) {
        // The first error is the one to report.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    sync_directory(directory)?;
    Ok(file)
}

/// A half-prepared file is short and holds zeros only. Anything else was written by a log, and is not overwritten.
fn refuse_if_in_use(path: &Path, file: &File, bytes: u64) -> Result<(), DeviceError> {
    let metadata = file
        .metadata()
        .map_err(|error| DeviceError::file(Deed::Inspect, path, &error))?;
    let in_use = || DeviceError::InUse {
        path: path.to_owned(),
    };
    if metadata.len() >= bytes {
        return Err(in_use());
    }
    let buffered = File::open(path).map_err(|error| DeviceError::file(Deed::Open, path, &error))?;
    let mut block = vec![0; FILL_BYTES];
    let mut offset = 0;
    while offset < metadata.len() {
        let length = buffered
            .read_at(&mut block, offset)
            .map_err(|error| DeviceError::file(Deed::Read { offset }, path, &error))?;
        if length == 0 {
            break;
        }
        if block[..length].iter().any(|&byte| byte != 0) {
            return Err(in_use());
        }
        offset += length as u64;
    }
    Ok(())
}

fn fill(path: &Path, file: &File, bytes: u64, pace: &Pace) -> Result<(), DeviceError> {
    // The reservation tells at once whether there is space, and keeps the file in one piece.
    system::reserve(file, bytes).map_err(|error| DeviceError::file(Deed::Reserve, path, &error))?;
    let mut zeros = LogBuffer::new(0, FILL_BYTES);
    zeros.extend_with_zeros(FILL_BYTES);
    let began = Instant::now();
    let mut offset = 0;
    while offset < bytes {
        pace.wait(offset, began);
        let length =
            usize::try_from(bytes - offset).map_or(FILL_BYTES, |rest| rest.min(FILL_BYTES));
        file.write_all_at(&zeros.as_slice()[..length], offset)
            .map_err(|error| DeviceError::file(Deed::Fill, path, &error))?;
        offset += length as u64;
    }
    file.sync_data()
        .map_err(|error| DeviceError::file(Deed::Sync, path, &error))
}

#[cfg(test)]
mod tests {
    use super::super::test_directory::TestDirectory;
    use super::*;

    const BYTES: u64 = 3 * 256 * 1024 + 4096;

    #[test]
    fn a_prepared_segment_is_zeros_of_full_length() {
        let directory = TestDirectory::new("a_prepared_segment");
        prepare_segment(directory.path(), FileNumber(1), BYTES, &Pace::unlimited())
            .expect("it is prepared");
        let path = segment_path(directory.path(), FileNumber(1));
        let content = fs::read(&path).expect("it can be read");
        assert!(content.len() as u64 == BYTES && content.iter().all(|&byte| byte == 0));
        open_segment(&path).expect("it opens for direct I/O");
        remove_segment(directory.path(), FileNumber(1)).expect("it is removed");
        assert!(!path.exists());
        remove_segment(directory.path(), FileNumber(1)).expect("it is removed already");
    }

    #[test]
    fn what_is_half_prepared_is_filled_again() {
        let directory = TestDirectory::new("what_is_half_prepared");
        let path = segment_path(directory.path(), FileNumber(2));
        for length in [0, 1, 4096, 300_000, BYTES - 1] {
            let length = usize::try_from(length).expect("it is small");
            fs::write(&path, vec![0; length]).expect("it can be written");
            prepare_segment(directory.path(), FileNumber(2), BYTES, &Pace::unlimited())
                .expect("it is refilled");
            assert_eq!(fs::metadata(&path).expect("it is there").len(), BYTES);
            fs::remove_file(&path).expect("it can be removed");
        }
    }

    #[test]
    fn what_a_log_has_written_is_never_filled() {
        let directory = TestDirectory::new("what_a_log_has_written");
        let path = segment_path(directory.path(), FileNumber(3));
        let full = vec![0; usize::try_from(BYTES).expect("it is small")];
        let mut last_byte = vec![0; 300_000];
        last_byte[299_999] = 1;
        for content in [full, last_byte] {
            fs::write(&path, &content).expect("it can be written");
            let error = prepare_segment(directory.path(), FileNumber(3), BYTES, &Pace::unlimited());
            assert_eq!(
                error.expect_err("it is in use"),
                DeviceError::InUse { path: path.clone() }
            );
            assert_eq!(fs::read(&path).expect("it is still there"), content);
        }
    }

    #[test]
    fn a_disk_that_is_too_small_is_left_as_it_was() {
        let directory = TestDirectory::new("a_disk_that_is_too_small");
        // No disk holds an exbibyte, and the reservation says so before anything is written.
        let error = prepare_segment(directory.path(), FileNumber(4), 1 << 60, &Pace::unlimited());
        let error = error.expect_err("there is no space");
        assert!(
            matches!(
                error,
                DeviceError::File {
                    deed: Deed::Reserve,
                    ..
                }
            ),
            "{error}"
        );
        assert!(!segment_path(directory.path(), FileNumber(4)).exists());
    }

    #[test]
    fn marks_are_made_once() {
        let directory = TestDirectory::new("marks_are_made_once");
        create_marks(directory.path()).expect("they are made");
        assert_eq!(
            fs::read(mark_path(directory.path())).expect("they are there"),
            vec![0; 8192]
        );
        open_marks(directory.path()).expect("they open for direct I/O");
        let path = mark_path(directory.path());
        assert_eq!(
            create_marks(directory.path()).expect_err("they exist"),
            DeviceError::InUse { path }
        );
    }
}
