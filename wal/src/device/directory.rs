//! Whether a directory can hold a log.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{DeviceError, system};
use crate::format::BLOCK_BYTES;

const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// What a directory lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryFacts {
    /// The kernel's number of the file system type.
    pub file_system_type: u64,
    /// Its name, or "unknown".
    pub file_system: &'static str,
    /// What memory must be aligned to for direct I/O.
    pub memory_alignment_bytes: u32,
    /// What offsets and lengths must be aligned to for direct I/O.
    pub offset_alignment_bytes: u32,
}

/// Finds out whether direct I/O in `directory` is real and fits the blocks of the log.
///
/// Recent kernels accept the flag for direct I/O on tmpfs, so success in opening a file proves nothing.
///
/// # Errors
/// Says why a log must not be kept there.
pub fn check_directory(directory: &Path) -> Result<DirectoryFacts, DeviceError> {
    let path_error = |source| DeviceError::Path {
        path: directory.to_owned(),
        source,
    };
    let file_system_type = system::file_system_type(directory).map_err(path_error)?;
    // Some platforms sign-extend the number from 32 bits.
    let file_system = file_system_name(file_system_type & 0xffff_ffff);
    if matches!(file_system, "tmpfs" | "ramfs") {
        return Err(DeviceError::FileSystemInMemory {
            path: directory.to_owned(),
            file_system,
        });
    }
    // The alignment is a property of a file, and not every file system tells it of a directory.
    let probe_path = directory.join(".direct-io-probe");
    let mut options = OpenOptions::new();
    options
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT);
    let opened = options.open(&probe_path);
    let alignment = match opened {
        Ok(file) => {
            let alignment = system::direct_io_alignment(&file).map_err(path_error);
            std::fs::remove_file(&probe_path).map_err(path_error)?;
            alignment?
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Err(DeviceError::NoDirectIo {
                path: directory.to_owned(),
            });
        }
        Err(error) => return Err(path_error(error)),
    };
    let block_bytes = BLOCK_BYTES as u32;
    let (memory_alignment_bytes, offset_alignment_bytes) =
        alignment.unwrap_or((block_bytes, block_bytes));
    if offset_alignment_bytes == 0 {
        return Err(DeviceError::NoDirectIo {
            path: directory.to_owned(),
        });
    }
    let alignment_bytes = memory_alignment_bytes.max(offset_alignment_bytes);
    if !block_bytes.is_multiple_of(alignment_bytes) {
        return Err(DeviceError::Alignment {
            path: directory.to_owned(),
            alignment_bytes,
        });
    }
    Ok(DirectoryFacts {
        file_system_type,
        file_system,
        memory_alignment_bytes,
        offset_alignment_bytes,
    })
}

fn file_system_name(file_system_type: u64) -> &'static str {
    match file_system_type {
        TMPFS_MAGIC => "tmpfs",
        RAMFS_MAGIC => "ramfs",
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0xf2f5_2010 => "f2fs",
        0x2fc1_2fc1 => "zfs",
        0x794c_7630 => "overlayfs",
        _ => "unknown",
    }
}
