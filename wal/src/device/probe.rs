//! What the machine can do, and what is faster on it.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, Probe, opcode};

use super::ring::{Ring, RingOptions};
use super::{DeviceError, prepare_segment, remove_segment, system};
use crate::buffer::LogBuffer;
use crate::format::BLOCK_BYTES;
use crate::ids::{FileNumber, Ticket};

/// How many writes of each method are timed.
const PROBE_WRITES: u64 = 64;

/// The file that is written for timing. It lies in a directory of its own, so no number is in use.
const PROBE_FILE: FileNumber = FileNumber(0);

/// How a write becomes durable. Which is faster differs by device, up to several times either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMethod {
    /// The write itself is durable (`RWF_DSYNC`).
    Dsync,
    /// A write, and after its completion a flush of the file.
    WriteThenSync,
}

/// The median duration of a durable write of 4 KiB by each method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushTimings {
    /// By [`FlushMethod::Dsync`].
    pub dsync: Duration,
    /// By [`FlushMethod::WriteThenSync`].
    pub write_then_sync: Duration,
}

/// Checks that the kernel has the io_uring that the log needs, allows it, and lets `registered_bytes` of buffers be
/// locked. Cheap, and meant to be called before anything that panics without io_uring.
///
/// # Errors
/// Says what is missing and what to change.
pub fn probe_io_uring(registered_bytes: usize) -> Result<(), DeviceError> {
    let ring = build_ring(8)?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(setup_error)?;
    let needed = [
        opcode::WriteFixed::CODE,
        opcode::Fsync::CODE,
        opcode::Send::CODE,
    ];
    if !needed.into_iter().all(|code| probe.is_supported(code)) {
        return Err(DeviceError::IoUringMissing {
            source: io::ErrorKind::Unsupported.into(),
        });
    }
    drop(ring);
    let mut buffers = [LogBuffer::new(0, registered_bytes)];
    Ring::new(RingOptions::new(Path::new("")), &mut buffers).map(drop)
}

/// Times both methods on a zero-filled file in `directory`, which is removed afterwards, and chooses the faster.
///
/// # Errors
/// Says what failed.
pub fn probe_flush_method(directory: &Path) -> Result<(FlushMethod, FlushTimings), DeviceError> {
    let probe_directory = directory.join(".flush-probe");
    let path_error = |source| DeviceError::Path {
        path: probe_directory.clone(),
        source,
    };
    match std::fs::create_dir(&probe_directory) {
        // Left by a probe that was killed.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(path_error(error));
        }
        Ok(()) | Err(_) => {}
    }
    let file_bytes = PROBE_WRITES * BLOCK_BYTES as u64;
    drop(prepare_segment(
        &probe_directory,
        PROBE_FILE,
        file_bytes,
        &mut |_| {},
    )?);
    let timings = FlushTimings {
        dsync: time_writes(&probe_directory, FlushMethod::Dsync)?,
        write_then_sync: time_writes(&probe_directory, FlushMethod::WriteThenSync)?,
    };
    remove_segment(&probe_directory, PROBE_FILE)?;
    std::fs::remove_dir(&probe_directory).map_err(path_error)?;
    let is_dsync_faster = timings.dsync <= timings.write_then_sync;
    Ok((
        if is_dsync_faster {
            FlushMethod::Dsync
        } else {
            FlushMethod::WriteThenSync
        },
        timings,
    ))
}

fn time_writes(directory: &Path, flush_method: FlushMethod) -> Result<Duration, DeviceError> {
    let mut buffers = vec![LogBuffer::new(0, BLOCK_BYTES)];
    let options = RingOptions {
        flush_method,
        ..RingOptions::new(directory)
    };
    let mut ring = Ring::new(options, &mut buffers)?;
    let mut buffer = buffers.pop().expect("one buffer was made");
    buffer.extend_with_zeros(BLOCK_BYTES);
    let mut durations = Vec::new();
    for write in 0..PROBE_WRITES {
        let start = Instant::now();
        ring.submit_write(
            Ticket(write),
            PROBE_FILE,
            write * BLOCK_BYTES as u64,
            buffer,
        )?;
        let mut completions = Vec::new();
        while completions.is_empty() {
            ring.wait(&mut completions)?;
        }
        durations.push(start.elapsed());
        buffer = completions.pop().expect("one write was in flight").buffer;
    }
    durations.sort_unstable();
    Ok(durations[durations.len() / 2])
}

/// A ring for one thread, which runs completions only when that thread enters the kernel.
pub(super) fn build_ring(entries: u32) -> Result<IoUring, DeviceError> {
    IoUring::builder()
        .dontfork()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .build(entries)
        .map_err(setup_error)
}

/// Names the reason for which the kernel refuses a ring.
fn setup_error(source: io::Error) -> DeviceError {
    match source.raw_os_error() {
        Some(libc::ENOSYS | libc::EINVAL) => DeviceError::IoUringMissing { source },
        Some(libc::EPERM | libc::EACCES) => {
            let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            DeviceError::IoUringForbidden {
                sysctl: sysctl
                    .map_or_else(|_| "unknown".to_owned(), |value| value.trim().to_owned()),
            }
        }
        _ => DeviceError::Ring { source },
    }
}

/// Names the reason for which the kernel refuses to register buffers.
pub(super) fn register_error(source: io::Error, needed_bytes: u64) -> DeviceError {
    match (source.raw_os_error(), system::locked_memory_limit()) {
        (Some(libc::ENOMEM), Ok(limit_bytes)) => DeviceError::LockedMemory {
            needed_bytes,
            limit_bytes,
        },
        _ => DeviceError::Ring { source },
    }
}
