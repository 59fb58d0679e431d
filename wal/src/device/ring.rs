//! The ring: durable writes to the log's files, on the core's thread.

mod options;
mod progress;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::marker::PhantomData;

use super::error::{DeviceError, Errno};
use super::fault::Fault;
use super::file_ref::FileRef;
use super::queue::{BuildError, Queue};
use super::ring_probe::refusal_of;
use super::system;
use crate::buffer::LogBuffer;
use crate::format::BLOCK_BYTES;
use crate::ids::Ticket;
pub use options::{FlushMethod, RingOptions};
use progress::{OpenFile, Stage, Write};

/// A write that is durable.
#[derive(Debug)]
pub struct Completion {
    /// As given to [`Ring::submit_write`].
    pub ticket: Ticket,
    /// The file that was written.
    pub file: FileRef,
    /// The buffer that was written.
    pub buffer: LogBuffer,
}

/// Counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStatus {
    /// Writes begun, each counted once however often it was continued.
    pub writes: u64,
    /// Bytes of those writes.
    pub write_bytes: u64,
    /// Writes that stopped early and were continued.
    pub short_writes: u64,
    /// Flushes begun that were requests of their own.
    pub syncs: u64,
    /// Writes that are not durable yet.
    pub in_flight: usize,
}

/// Durable writes through one io_uring.
///
/// ```text
///                         Dsync:                        ┌──> Completion
///   submit_write ──> writing ───────────────────────────┤
///                      │ ^   WriteThenSync:             │
///                      └─┘     written ──> syncing ─────┘
///                     short
/// ```
///
/// How to drive it, all on one thread:
///
/// 1. [`Ring::new`] with all buffers that will ever be written; they stay alive, and unmoved in memory, as long as the
///    ring. [`Ring::add_file`] for each file that is written.
/// 2. [`Ring::submit_write`], any number of times, then [`Ring::submit`]. The buffer now belongs to the ring.
/// 3. A byte arrives at the other end of [`RingOptions::wake`]. Read and discard all bytes that are there, **then** call
///    [`Ring::reap`]. A byte means that there is something to do, not that a write is durable: with
///    [`FlushMethod::WriteThenSync`] the first one only begins the flush.
/// 4. Each write comes back exactly once as a [`Completion`], and only when it is durable with its full length. The
///    completions of several writes may come in any order.
///
/// **An error of [`Ring::submit`], [`Ring::reap`] or [`Ring::wait`] means that the process must halt at once.** Nothing
/// is retried: after a failed write or flush nobody knows what is on the disk, and the kernel may report a second
/// flush as successful though the data of the first is lost. Completions that were delivered before or with the error
/// are durable. After an error each later call returns the same error.
///
/// While something is under way, the kernel may interrupt a blocking system call of this thread (`EINTR`) to deliver a
/// completion, as a signal would.
///
/// A flush covers only writes that had completed, in full, before it was submitted. A write that stops early is
/// continued from the last whole block; if that gets no further, it is an error.
///
/// Dropping a ring waits for what is under way, since the kernel reads the buffers until then.
pub struct Ring {
    queue: Queue,
    flush_method: FlushMethod,
    files: Vec<Option<OpenFile>>,
    slots: BTreeMap<FileRef, usize>,
    /// By the number of the buffer.
    writes: Vec<Option<Write>>,
    fault: Option<Fault>,
    status: RingStatus,
    failure: Option<DeviceError>,
    /// The kernel accepts requests only from the thread that built the ring.
    not_send: PhantomData<*const ()>,
}

impl Ring {
    /// A ring for `buffers`, which must be numbered from 0 without gaps.
    ///
    /// # Errors
    /// [`DeviceError::NoRing`] when the kernel refuses, [`DeviceError::LockedMemory`] when the process may not lock
    /// that much memory, [`DeviceError::OpenFiles`] when it may not have that many files.
    pub fn new(options: RingOptions, buffers: &[LogBuffer]) -> Result<Self, DeviceError> {
        let RingOptions {
            flush_method,
            wake,
            files_max,
            fault,
        } = options;
        let delay = fault.and_then(Fault::write_delay);
        let queue = Queue::new(buffers, files_max, wake, delay)
            .map_err(|error| build_error(&error, buffers, files_max))?;
        Ok(Self {
            queue,
            flush_method,
            files: (0..files_max).map(|_| None).collect(),
            slots: BTreeMap::new(),
            writes: buffers.iter().map(|_| None).collect(),
            fault,
            status: RingStatus::default(),
            failure: None,
            not_send: PhantomData,
        })
    }

    // ---- Files ----

    /// Registers a file, which has been opened by [`super::open_segment`] or [`super::open_marks`]. The kernel keeps it
    /// open from here on.
    ///
    /// # Errors
    /// When the table is full or the kernel refuses. This one does not concern what was written: the process may go on.
    pub fn add_file(&mut self, name: FileRef, file: File) -> Result<(), DeviceError> {
        assert!(!self.slots.contains_key(&name), "{name} is registered once");
        let Some(slot) = self.files.iter().position(Option::is_none) else {
            return Err(DeviceError::FileTableFull {
                files_max: index(self.files.len()),
            });
        };
        self.queue
            .set_file(index(slot), &file)
            .map_err(|error| DeviceError::Register {
                file: name,
                errno: Errno::of(&error),
            })?;
        self.files[slot] = Some(OpenFile {
            name,
            is_syncing: false,
            pretended: None,
        });
        self.slots.insert(name, slot);
        Ok(())
    }

    /// Forgets and closes a file to which no write is under way. A file that is not registered, since it was never
    /// ready to be written, is forgotten already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_file(&mut self, name: FileRef) -> Result<(), DeviceError> {
        let Some(slot) = self.slots.remove(&name) else {
            return Ok(());
        };
        let is_written = self.writes.iter().flatten().any(|write| write.slot == slot);
        assert!(!is_written, "{name} is not removed while it is written");
        self.files[slot] = None;
        self.queue
            .clear_file(index(slot))
            .map_err(|error| DeviceError::Register {
                file: name,
                errno: Errno::of(&error),
            })
    }

    /// Whether a file is registered.
    #[must_use]
    pub fn has_file(&self, name: FileRef) -> bool {
        self.slots.contains_key(&name)
    }

    // ---- Writes ----

    /// Queues one durable write of `buffer.as_slice()`. `offset` and length are whole blocks, the file is registered,
    /// and the buffer is one of those that the ring was built with. [`Ring::submit`] hands it over.
    pub fn submit_write(&mut self, ticket: Ticket, file: FileRef, offset: u64, buffer: LogBuffer) {
        assert_eq!(self.failure, None, "nothing is written after a failure");
        let bytes = buffer.len();
        assert!(
            bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES),
            "a write is whole blocks"
        );
        assert!(
            offset.is_multiple_of(BLOCK_BYTES as u64),
            "a write begins at a block"
        );
        let slot = *self.slots.get(&file).expect("the file is registered");
        let number = buffer.number();
        self.queue.lend(buffer);
        self.status.writes += 1;
        self.status.write_bytes += bytes as u64;
        self.status.in_flight += 1;
        let write = Write {
            ticket,
            slot,
            offset,
            bytes,
            written_bytes: 0,
            stage: Stage::Writing,
            pretended: None,
        };
        self.writes[usize::from(number)] = Some(write);
        self.start_write(number);
    }

    /// Hands everything queued to the kernel. Does not wait, and does nothing when nothing is queued.
    ///
    /// # Errors
    /// The process must halt.
    pub fn submit(&mut self) -> Result<(), DeviceError> {
        self.checked(|ring| {
            if ring.queue.is_dirty() {
                ring.enter(0)
            } else {
                Ok(())
            }
        })
    }

    /// Takes what is over and goes on with what is not: appends durable writes to `out`. Does not wait.
    ///
    /// # Errors
    /// The process must halt.
    pub fn reap(&mut self, out: &mut Vec<Completion>) -> Result<(), DeviceError> {
        self.checked(|ring| ring.advance(out))
    }

    /// Blocks until at least one write is durable: for tools and tests. At least one write is under way.
    ///
    /// # Errors
    /// The process must halt.
    pub fn wait(&mut self, out: &mut Vec<Completion>) -> Result<(), DeviceError> {
        let before = out.len();
        while out.len() == before {
            assert!(self.status.in_flight > 0, "something is under way");
            self.checked(|ring| {
                ring.enter(1)?;
                ring.advance(out)
            })?;
        }
        Ok(())
    }

    /// Counters.
    #[must_use]
    pub fn status(&self) -> RingStatus {
        self.status
    }

    // ---- Helpers ----

    /// The first failure is final.
    fn checked(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let result = step(self);
        self.failure = result.as_ref().err().cloned();
        result
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Ring")
            .field("flush_method", &self.flush_method)
            .field("files", &self.slots)
            .field("status", &self.status)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

fn build_error(error: &BuildError, buffers: &[LogBuffer], files_max: u32) -> DeviceError {
    match error {
        BuildError::Buffers(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
            DeviceError::LockedMemory {
                needed_bytes: buffers.iter().map(|buffer| buffer.capacity() as u64).sum(),
                limit_bytes: system::locked_memory_limit().unwrap_or(0),
            }
        }
        BuildError::Files(error) if error.raw_os_error() == Some(libc::EMFILE) => {
            DeviceError::OpenFiles {
                needed: u64::from(files_max) + 1,
                limit: system::open_files_limit().unwrap_or(0),
            }
        }
        BuildError::Ring(error) | BuildError::Files(error) | BuildError::Buffers(error) => {
            DeviceError::NoRing(refusal_of(error))
        }
    }
}

fn index(slot: usize) -> u32 {
    u32::try_from(slot).expect("the table of files is small")
}
