//! System calls that the standard library has no name for.
#![allow(
    unsafe_code,
    reason = "statfs, statx and getrlimit exist as C functions only"
)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The type of the file system that `path` lies on, as the kernel numbers them.
pub(super) fn file_system_type(path: &Path) -> io::Result<u64> {
    let path =
        CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut facts = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `path` ends with a zero byte and `facts` is a structure of the type that statfs fills.
    if unsafe { libc::statfs(path.as_ptr(), facts.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: statfs succeeded, and all zeros would be a valid value too.
    let facts = unsafe { facts.assume_init() };
    Ok(facts.f_type as u64)
}

/// What direct I/O on a file must be aligned to, memory and offset, or `None` when the kernel does not say.
pub(super) fn direct_io_alignment(file: &File) -> io::Result<Option<(u32, u32)>> {
    let mut facts = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the descriptor is open, the empty path is legal with AT_EMPTY_PATH, and `facts` has the right type.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            facts.as_mut_ptr(),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: statx succeeded, and all zeros would be a valid value too.
    let facts = unsafe { facts.assume_init() };
    let is_known = facts.stx_mask & libc::STATX_DIOALIGN != 0;
    Ok(is_known.then_some((facts.stx_dio_mem_align, facts.stx_dio_offset_align)))
}

/// How many bytes this process may lock in memory.
pub(super) fn locked_memory_limit() -> io::Result<u64> {
    let mut limit = MaybeUninit::<libc::rlimit>::zeroed();
    // SAFETY: `limit` is a structure of the type that getrlimit fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, limit.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: getrlimit succeeded, and all zeros would be a valid value too.
    Ok(unsafe { limit.assume_init() }.rlim_cur)
}
