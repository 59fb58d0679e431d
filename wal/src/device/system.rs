//! The system calls that the standard library lacks, each behind a safe function.
#![allow(
    unsafe_code,
    reason = "system calls: each passes pointers to live local memory or numbers only"
)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// What direct I/O to a file needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DirectAlignment {
    /// The file system does not say: it, or the kernel, is older than the question.
    Unknown,
    /// There is no direct I/O to this file.
    Impossible,
    /// The larger of what memory and offsets need.
    Bytes(u32),
}

/// The name of the file system of `file` if it keeps its files in memory only.
pub(super) fn volatile_file_system(file: &File) -> io::Result<Option<&'static str>> {
    let kind = file_system_type(file)?;
    Ok(match kind {
        TMPFS_MAGIC => Some("tmpfs"),
        RAMFS_MAGIC => Some("ramfs"),
        _ => None,
    })
}

/// The magic number of the file system of `file`.
pub(super) fn file_system_type(file: &File) -> io::Result<u64> {
    let mut facts = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the descriptor is open, and the pointer is to memory for one `statfs`.
    checked(unsafe { libc::fstatfs(file.as_raw_fd(), facts.as_mut_ptr()) })?;
    // SAFETY: all zeros is a valid `statfs`, and the call has filled it.
    let facts = unsafe { facts.assume_init() };
    Ok(facts.f_type as u64 & u64::from(u32::MAX))
}

/// How much of the file system of `file` is free for this process, and how much there is, in bytes.
pub(super) fn space(file: &File) -> io::Result<(u64, u64)> {
    let mut facts = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the descriptor is open, and the pointer is to memory for one `statvfs`.
    checked(unsafe { libc::fstatvfs(file.as_raw_fd(), facts.as_mut_ptr()) })?;
    // SAFETY: all zeros is a valid `statvfs`, and the call has filled it.
    let facts = unsafe { facts.assume_init() };
    let block = facts.f_frsize;
    Ok((
        block.saturating_mul(facts.f_bavail),
        block.saturating_mul(facts.f_blocks),
    ))
}

/// What direct I/O to `file` needs.
pub(super) fn direct_alignment(file: &File) -> io::Result<DirectAlignment> {
    let mut facts = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the descriptor is open, the path is an empty C string, and the pointer is to memory for one `statx`.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            facts.as_mut_ptr(),
        )
    };
    checked(result)?;
    // SAFETY: all zeros is a valid `statx`, and the call has filled it.
    let facts = unsafe { facts.assume_init() };
    Ok(
        match (
            facts.stx_mask & libc::STATX_DIOALIGN,
            facts.stx_dio_offset_align,
        ) {
            (0, _) => DirectAlignment::Unknown,
            (_, 0) => DirectAlignment::Impossible,
            (_, offset_align) => DirectAlignment::Bytes(offset_align.max(facts.stx_dio_mem_align)),
        },
    )
}

/// Reserves space for the first `bytes` of `file` without changing its length, where the file system can do that.
pub(super) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    let Ok(bytes) = libc::off_t::try_from(bytes) else {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    };
    // SAFETY: the descriptor is open; nothing else but numbers is passed.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, bytes) };
    match checked(result) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        result => result,
    }
}

/// Drops the clean pages of `file` from the page cache, so that the next read comes from the device.
pub(super) fn forget_cached(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open; nothing else but numbers is passed.
    let code = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(code))
    }
}

/// Tells the kernel that `bytes` of `file` from `offset` on are read soon. It is a hint: nothing depends on it.
pub(super) fn read_ahead(file: &File, offset: u64, bytes: u64) {
    let (Ok(offset), Ok(bytes)) = (libc::off_t::try_from(offset), libc::off_t::try_from(bytes))
    else {
        return;
    };
    // SAFETY: the descriptor is open; nothing else but numbers is passed.
    let _ =
        unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, bytes, libc::POSIX_FADV_WILLNEED) };
}

/// How many bytes the process may lock into memory.
pub(super) fn locked_memory_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live `rlimit`.
    checked(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) })?;
    Ok(limit.rlim_cur)
}

/// How many files the process may open.
pub(super) fn open_files_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live `rlimit`.
    checked(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(limit.rlim_cur)
}

/// Lets the process open as many files as it may at all, and says how many that are. What a shell allows by default is
/// far less than a server or a load generator with thousands of connections needs.
///
/// # Errors
/// What the kernel says.
pub fn raise_open_files_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live `rlimit`.
    checked(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the pointer is to a live `rlimit`.
        checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    }
    Ok(limit.rlim_cur)
}

/// The driver's and the device's number in a file's device number.
pub(super) fn device_numbers(device: u64) -> (u32, u32) {
    (libc::major(device), libc::minor(device))
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
