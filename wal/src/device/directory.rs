//! The directory of a core's log: names, durability of names, and whether its file system will do.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{Deed, DeviceError};
use super::system::{self, DirectAlignment};
use crate::buffer::LogBuffer;
use crate::format::BLOCK_BYTES;
use crate::ids::FileNumber;

const SEGMENT_PREFIX: &str = "log-";
const SEGMENT_SUFFIX: &str = ".seg";

/// What is assumed where the file system does not say.
const ALIGNMENT_BYTES_DEFAULT: u32 = 4096;

/// What was found out about a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryFacts {
    /// The type of its file system: the magic number in `statfs`.
    pub file_system: u64,
    /// The alignment that direct I/O needs, in memory and in files; 4096 where the file system does not say.
    pub alignment_bytes: u32,
}

/// The file of a segment.
#[must_use]
pub fn segment_path(directory: &Path, number: FileNumber) -> PathBuf {
    directory.join(format!("{SEGMENT_PREFIX}{number}{SEGMENT_SUFFIX}"))
}

/// The number in the name of a segment's file; `None` if it is not exactly such a name.
#[must_use]
pub fn segment_number(name: &str) -> Option<FileNumber> {
    let digits = name
        .strip_prefix(SEGMENT_PREFIX)?
        .strip_suffix(SEGMENT_SUFFIX)?;
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(FileNumber(number))
}

/// The file with the two marks.
#[must_use]
pub fn mark_path(directory: &Path) -> PathBuf {
    directory.join("mark")
}

/// Makes the names in a directory durable.
///
/// # Errors
/// When the directory cannot be opened or flushed. After a failed flush the process must halt.
pub fn sync_directory(directory: &Path) -> Result<(), DeviceError> {
    let file =
        File::open(directory).map_err(|error| DeviceError::file(Deed::Open, directory, &error))?;
    file.sync_all()
        .map_err(|error| DeviceError::file(Deed::Sync, directory, &error))
}

/// Checks that a log can live in `directory`: a file system that keeps its files, direct I/O in blocks of 4096 bytes at
/// most, and one such write that succeeds.
///
/// Recent kernels accept direct I/O on tmpfs, so success alone proves nothing: the type is asked too.
///
/// # Errors
/// Names what is wrong with the directory.
pub fn check_directory(directory: &Path) -> Result<DirectoryFacts, DeviceError> {
    let inspect = |error| DeviceError::file(Deed::Inspect, directory, &error);
    let opened =
        File::open(directory).map_err(|error| DeviceError::file(Deed::Open, directory, &error))?;
    if let Some(file_system) = system::volatile_file_system(&opened).map_err(inspect)? {
        return Err(DeviceError::VolatileFileSystem {
            path: directory.to_owned(),
            file_system,
        });
    }
    let file_system = system::file_system_type(&opened).map_err(inspect)?;
    let probe = open_unnamed(directory)?;
    let alignment_bytes = checked_alignment(directory, &probe)?;
    let mut block = LogBuffer::new(0, BLOCK_BYTES);
    block.extend_with_zeros(BLOCK_BYTES);
    probe
        .write_all_at(block.as_slice(), 0)
        .and_then(|()| probe.sync_data())
        .map_err(|error| DeviceError::file(Deed::Fill, directory, &error))?;
    Ok(DirectoryFacts {
        file_system,
        alignment_bytes,
    })
}

/// The alignment that direct I/O to `file` needs, if the log can live with it. `path` is for the error.
pub(super) fn checked_alignment(path: &Path, file: &File) -> Result<u32, DeviceError> {
    let alignment = system::direct_alignment(file)
        .map_err(|error| DeviceError::file(Deed::Inspect, path, &error))?;
    match alignment {
        DirectAlignment::Unknown => Ok(ALIGNMENT_BYTES_DEFAULT),
        DirectAlignment::Impossible => Err(DeviceError::NoDirectIo {
            path: path.to_owned(),
        }),
        DirectAlignment::Bytes(alignment_bytes) if alignment_bytes > BLOCK_BYTES as u32 => {
            Err(DeviceError::Alignment {
                path: path.to_owned(),
                alignment_bytes,
            })
        }
        DirectAlignment::Bytes(alignment_bytes) => Ok(alignment_bytes),
    }
}

/// Opens a file of the log for direct reading and writing.
pub(super) fn open_direct(path: &Path, options: &mut OpenOptions) -> Result<File, DeviceError> {
    match options
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
    {
        Ok(file) => Ok(file),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(DeviceError::NoDirectIo {
            path: path.to_owned(),
        }),
        Err(error) => Err(DeviceError::file(Deed::Open, path, &error)),
    }
}

/// An empty file in `directory`, open for direct I/O, that is gone when it is closed.
pub(super) fn open_unnamed(directory: &Path) -> Result<File, DeviceError> {
    // Two probes at the same time must not meet, in one process or in two.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!("probe-{}-{count}.tmp", process::id()));
    // A crash may have left a file of this name, from a process that had the same number.
    let file = open_direct(&path, OpenOptions::new().create(true).truncate(true));
    if path.exists() {
        fs::remove_file(&path).map_err(|error| DeviceError::file(Deed::Remove, &path, &error))?;
    }
    file
}

#[cfg(test)]
mod tests {
    use super::super::test_directory::TestDirectory;
    use super::*;

    #[test]
    fn a_name_and_its_number_are_the_same_thing() {
        let path = segment_path(Path::new("core-0"), FileNumber(17));
        assert_eq!(path, Path::new("core-0/log-17.seg"));
        assert_eq!(segment_number("log-17.seg"), Some(FileNumber(17)));
        for other in [
            "log-017.seg",
            "log-+17.seg",
            "log-.seg",
            "log-17.seg.tmp",
            "mark",
            "log-99999999999999999999.seg",
        ] {
            assert_eq!(segment_number(other), None, "{other}");
        }
    }

    #[test]
    fn a_disk_will_do_and_nothing_is_left_behind() {
        let directory = TestDirectory::new("a_disk_will_do");
        let facts = check_directory(directory.path()).expect("the build directory is on a disk");
        assert!(facts.alignment_bytes.is_power_of_two() && facts.alignment_bytes <= 4096);
        assert_eq!(
            fs::read_dir(directory.path()).expect("it exists").count(),
            0
        );
        sync_directory(directory.path()).expect("a directory can be flushed");
    }

    #[test]
    fn memory_is_not_a_disk() {
        // Every Linux system has a tmpfs here; if this one has not, there is nothing to refuse.
        let path = Path::new("/dev/shm");
        let is_tmpfs = File::open(path).is_ok_and(|file| {
            system::volatile_file_system(&file).expect("the type is known") == Some("tmpfs")
        });
        if is_tmpfs {
            let expected = DeviceError::VolatileFileSystem {
                path: path.to_owned(),
                file_system: "tmpfs",
            };
            assert_eq!(check_directory(path), Err(expected));
        }
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let path = Path::new("/nonexistent/core-0");
        let error = check_directory(path).expect_err("it does not exist");
        assert!(error.to_string().contains("/nonexistent/core-0"), "{error}");
    }
}
