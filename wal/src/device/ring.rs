//! The ring: durable writes to the log's files, on the core's thread.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;

use super::error::{DeviceError, Errno};
use super::fault::Fault;
use super::queue::{BuildError, Durability, Finished, Queue, QueuedWrite};
use super::ring_probe::refusal_of;
use super::system;
use crate::buffer::LogBuffer;
use crate::format::BLOCK_BYTES;
use crate::ids::{FileNumber, Ticket};

/// How a write becomes durable. Which way is faster differs by device: see [`super::probe_flush_method`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMethod {
    /// Each write carries `RWF_DSYNC`: one request.
    Dsync,
    /// A plain write, and when it has completed with its full length, an `fdatasync` of the file.
    WriteThenSync,
}

/// A file of the log, by what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileRef {
    /// The segment `log-<n>.seg`.
    Segment(FileNumber),
    /// The file with the two marks.
    Mark,
}

/// How a ring is set up.
#[derive(Debug)]
pub struct RingOptions {
    /// How writes become durable.
    pub flush_method: FlushMethod,
    /// One end of a socket pair. A byte arrives at the other end whenever [`Ring::reap`] has something to do.
    pub wake: Option<OwnedFd>,
    /// How many files can be registered at a time.
    pub files_max: u32,
    /// For tests.
    pub fault: Option<Fault>,
}

impl RingOptions {
    /// A ring that wakes nobody, for 1,024 files: more than a core's log has by default.
    #[must_use]
    pub fn new(flush_method: FlushMethod) -> Self {
        Self {
            flush_method,
            wake: None,
            files_max: 1024,
            fault: None,
        }
    }
}

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

/// Where a write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Writing,
    /// All bytes have arrived, and a flush that begins now covers them.
    Written,
    Syncing,
}

#[derive(Debug)]
struct Write {
    ticket: Ticket,
    slot: usize,
    offset: u64,
    bytes: usize,
    /// Everything before has arrived.
    written_bytes: usize,
    stage: Stage,
    /// What a fault pretends the result of the present request to be.
    pretended: Option<i32>,
}

#[derive(Debug)]
struct OpenFile {
    name: FileRef,
    file: File,
    is_syncing: bool,
    pretended: Option<i32>,
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
    /// that much memory.
    pub fn new(options: RingOptions, buffers: &[LogBuffer]) -> Result<Self, DeviceError> {
        let RingOptions {
            flush_method,
            wake,
            files_max,
            fault,
        } = options;
        let delay = match fault {
            Some(Fault::SlowWrites { by }) => Some(by),
            Some(Fault::FailWrite { .. } | Fault::ShortWrite { .. } | Fault::FailSync { .. })
            | None => None,
        };
        let queue = Queue::new(buffers, files_max, wake, delay)
            .map_err(|error| build_error(&error, buffers))?;
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

    /// Registers a file, which has been opened by [`super::open_segment`] or [`super::open_marks`].
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
            file,
            is_syncing: false,
            pretended: None,
        });
        self.slots.insert(name, slot);
        Ok(())
    }

    /// Forgets a file to which no write is under way, and returns it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_file(&mut self, name: FileRef) -> Result<File, DeviceError> {
        let slot = self.slots.remove(&name).expect("the file is registered");
        let is_written = self.writes.iter().flatten().any(|write| write.slot == slot);
        assert!(!is_written, "{name} is not removed while it is written");
        let open = self.files[slot].take().expect("the file is registered");
        self.queue
            .clear_file(index(slot))
            .map_err(|error| DeviceError::Register {
                file: name,
                errno: Errno::of(&error),
            })?;
        Ok(open.file)
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

    /// Hands everything queued to the kernel. Does not wait.
    ///
    /// # Errors
    /// The process must halt.
    pub fn submit(&mut self) -> Result<(), DeviceError> {
        self.checked(|ring| ring.enter(0))
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

    fn enter(&mut self, wanted: usize) -> Result<(), DeviceError> {
        self.queue
            .enter(wanted)
            .map_err(|error| DeviceError::Enter {
                errno: Errno::of(&error),
            })
    }

    fn advance(&mut self, out: &mut Vec<Completion>) -> Result<(), DeviceError> {
        if self.queue.has_task_work() {
            self.enter(0)?;
        }
        while let Some(finished) = self.queue.pop() {
            match finished {
                Finished::Write { buffer, result } => {
                    self.on_write_finished(buffer, result, out)?
                }
                Finished::Sync { file, result } => {
                    self.on_sync_finished(file as usize, result, out)?
                }
                Finished::Wake { result } => on_wake_failed(result)?,
                Finished::Delay => {}
            }
        }
        self.start_syncs();
        if self.queue.is_dirty() {
            self.enter(0)
        } else {
            Ok(())
        }
    }

    fn on_write_finished(
        &mut self,
        number: u16,
        result: i32,
        out: &mut Vec<Completion>,
    ) -> Result<(), DeviceError> {
        let write = self.writes[usize::from(number)]
            .as_mut()
            .expect("a buffer that is written has a write");
        assert_eq!(
            write.stage,
            Stage::Writing,
            "a write finishes while it is written"
        );
        let result = write.pretended.take().unwrap_or(result);
        let Write {
            slot,
            offset,
            bytes,
            written_bytes,
            ..
        } = *write;
        let file = self.files[slot]
            .as_ref()
            .expect("a file that is written is registered")
            .name;
        let Ok(progress_bytes) = usize::try_from(result) else {
            return Err(DeviceError::Write {
                file,
                offset,
                bytes,
                errno: Errno(-result),
            });
        };
        let arrived_bytes = written_bytes + progress_bytes;
        assert!(
            arrived_bytes <= bytes,
            "no more is written than was asked for"
        );
        if arrived_bytes == bytes {
            write.written_bytes = bytes;
            match self.flush_method {
                FlushMethod::Dsync => self.complete(number, out),
                FlushMethod::WriteThenSync => write.stage = Stage::Written,
            }
            return Ok(());
        }
        // Direct I/O goes on at a block: part of the last one is written twice.
        let whole_bytes = arrived_bytes - arrived_bytes % BLOCK_BYTES;
        if whole_bytes == written_bytes {
            return Err(DeviceError::ShortWrite {
                file,
                offset,
                bytes,
                written_bytes: arrived_bytes,
            });
        }
        write.written_bytes = whole_bytes;
        self.status.short_writes += 1;
        self.push_rest(number);
        Ok(())
    }

    fn on_sync_finished(
        &mut self,
        slot: usize,
        result: i32,
        out: &mut Vec<Completion>,
    ) -> Result<(), DeviceError> {
        let open = self.files[slot]
            .as_mut()
            .expect("a file that is flushed is registered");
        assert!(open.is_syncing, "a flush finishes once");
        open.is_syncing = false;
        let result = open.pretended.take().unwrap_or(result);
        if result < 0 {
            return Err(DeviceError::Sync {
                file: open.name,
                errno: Errno(-result),
            });
        }
        for number in 0..self.writes.len() {
            let covered = |write: &Write| write.slot == slot && write.stage == Stage::Syncing;
            if self.writes[number].as_ref().is_some_and(covered) {
                self.complete(
                    u16::try_from(number).expect("buffers are numbered by u16"),
                    out,
                );
            }
        }
        Ok(())
    }

    fn complete(&mut self, number: u16, out: &mut Vec<Completion>) {
        let write = self.writes[usize::from(number)]
            .take()
            .expect("a write completes once");
        assert_eq!(
            write.written_bytes, write.bytes,
            "a write is durable with its full length"
        );
        let file = self.files[write.slot]
            .as_ref()
            .expect("a file that is written is registered")
            .name;
        self.status.in_flight -= 1;
        out.push(Completion {
            ticket: write.ticket,
            file,
            buffer: self.queue.take_back(number),
        });
    }

    /// Begins a write, or what a fault makes of it.
    fn start_write(&mut self, number: u16) {
        let nth_now = self.status.writes;
        let write = self.writes[usize::from(number)]
            .as_mut()
            .expect("the write was just noted");
        match self.fault {
            Some(Fault::FailWrite { nth, failure }) if nth == nth_now => {
                write.pretended = Some(failure.result());
                self.queue.push_no_write(number);
            }
            Some(Fault::ShortWrite { nth, bytes }) if nth == nth_now => {
                let bytes = bytes.min(write.bytes);
                write.pretended =
                    Some(i32::try_from(bytes).expect("a record is shorter than 2 GiB"));
                match bytes - bytes % BLOCK_BYTES {
                    0 => self.queue.push_no_write(number),
                    whole_bytes => self.push_range(number, whole_bytes),
                }
            }
            _ => self.push_rest(number),
        }
    }

    /// Writes what has not arrived yet.
    fn push_rest(&mut self, number: u16) {
        self.push_range(number, self.queue.lent_len(number));
    }

    /// Writes from where the write has got to `end`.
    fn push_range(&mut self, number: u16, end: usize) {
        let write = self.writes[usize::from(number)]
            .as_ref()
            .expect("the write was noted");
        let durability = match self.flush_method {
            FlushMethod::Dsync => Durability::Write,
            FlushMethod::WriteThenSync => Durability::LaterSync,
        };
        self.queue.push_write(QueuedWrite {
            buffer: number,
            range: write.written_bytes..end,
            file: index(write.slot),
            offset: write.offset + write.written_bytes as u64,
            durability,
        });
    }

    /// Flushes each file that has written writes and no flush under way: one under way does not cover them.
    fn start_syncs(&mut self) {
        for number in 0..self.writes.len() {
            let Some(write) = &self.writes[number] else {
                continue;
            };
            let slot = write.slot;
            let open = self.files[slot]
                .as_mut()
                .expect("a file that is written is registered");
            if write.stage != Stage::Written || open.is_syncing {
                continue;
            }
            open.is_syncing = true;
            self.status.syncs += 1;
            match self.fault {
                Some(Fault::FailSync { nth, failure }) if nth == self.status.syncs => {
                    open.pretended = Some(failure.result());
                    self.queue.push_no_sync(index(slot));
                }
                _ => self.queue.push_sync(index(slot)),
            }
            let covered = self.writes.iter_mut().flatten();
            for write in covered.filter(|write| write.slot == slot && write.stage == Stage::Written)
            {
                write.stage = Stage::Syncing;
            }
        }
    }
}

impl fmt::Display for FileRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(number) => write!(formatter, "log-{number}.seg"),
            Self::Mark => formatter.write_str("mark"),
        }
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

/// A full socket wakes its reader without our byte.
fn on_wake_failed(result: i32) -> Result<(), DeviceError> {
    match -result {
        libc::EAGAIN => Ok(()),
        number => Err(DeviceError::Wake {
            errno: Errno(number),
        }),
    }
}

fn build_error(error: &BuildError, buffers: &[LogBuffer]) -> DeviceError {
    match error {
        BuildError::Buffers(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
            DeviceError::LockedMemory {
                needed_bytes: buffers.iter().map(|buffer| buffer.capacity() as u64).sum(),
                limit_bytes: system::locked_memory_limit().unwrap_or(0),
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

#[cfg(test)]
mod tests;
