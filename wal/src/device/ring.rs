//! The ring: durable writes of registered buffers, and what wakes the executor afterwards.
#![allow(
    unsafe_code,
    reason = "the kernel borrows registered buffers, which the type system cannot see"
)]

mod files;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use io_uring::squeue::{Entry as Submission, Flags};
use io_uring::types::{Fd, Fixed, FsyncFlags};
use io_uring::{IoUring, opcode};

use super::probe::{build_ring, register_error};
use super::{DeviceError, Faults, FlushMethod};
use crate::buffer::LogBuffer;
use crate::format::{BLOCK_BYTES, MarkSlot};
use crate::ids::{FileNumber, Ticket};
use files::{FileTable, Syncing, Target};

/// Submissions that fit the queue at once. Each write and each flush takes two, and they are submitted one by one.
const QUEUE_ENTRIES: u32 = 256;

/// The number of submissions whose completion nobody waits for.
const WAKE_ID: u64 = 0;

/// What is sent to wake the executor.
static WAKE_BYTE: [u8; 1] = [1];

/// How a ring is set up.
#[derive(Debug)]
pub struct RingOptions {
    /// Where the files lie.
    pub directory: PathBuf,
    /// How a write becomes durable.
    pub flush_method: FlushMethod,
    /// A socket that gets one byte after each completion; whoever reads the other end then calls [`Ring::reap`].
    pub wake: Option<OwnedFd>,
    /// Faults to order.
    pub faults: Faults,
}

/// A write that is durable.
#[derive(Debug)]
pub struct Completion {
    /// The ticket it was submitted with.
    pub ticket: Ticket,
    /// Its buffer.
    pub buffer: LogBuffer,
}

/// What a ring has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// Writes submitted, without the rests of short ones.
    pub writes: u64,
    /// Bytes of these writes.
    pub bytes: u64,
    /// Flushes submitted.
    pub syncs: u64,
    /// Writes of which the kernel took only a part at first.
    pub short_writes: u64,
}

/// A write on its way, and its buffer, which the kernel may be reading.
#[derive(Debug)]
struct Write {
    ticket: Ticket,
    target: Target,
    offset: u64,
    buffer: LogBuffer,
    number: u64,
    written: usize,
    state: WriteState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteState {
    Writing,
    /// Complete, and waits for a flush that begins after this moment.
    Written,
    /// Covered by the flush with this id.
    Syncing(u64),
}

/// One io_uring on the thread of a core.
///
/// ```text
///   submit_write ─> writing ──────────────────────> durable (reap)      Dsync
///                   writing ─> written ─> syncing ─> durable (reap)      WriteThenSync
/// ```
///
/// A buffer moves into the ring when it is submitted and comes back with its completion: while the kernel may read
/// it, nobody else has it. Every error is fatal to the caller; nothing is retried but the rest of a short write.
pub struct Ring {
    ring: IoUring,
    options: RingOptions,
    /// First byte and length of each registered buffer.
    registered: Vec<(*const u8, usize)>,
    files: FileTable,
    writes: BTreeMap<u64, Write>,
    /// By id: the file that is flushed, and the place of the flush among all flushes.
    syncs: BTreeMap<u64, (Target, u64)>,
    next_id: u64,
    counters: RingCounters,
}

impl RingOptions {
    /// Durable writes in `directory`, without a socket to wake and without faults.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            flush_method: FlushMethod::Dsync,
            wake: None,
            faults: Faults::none(),
        }
    }
}

impl Ring {
    /// Sets up a ring and registers `buffers`, whose numbers are their places. Only they can be written.
    /// The ring belongs to the thread that calls this.
    ///
    /// # Errors
    /// Says why the kernel refuses.
    pub fn new(options: RingOptions, buffers: &mut [LogBuffer]) -> Result<Self, DeviceError> {
        let ring = build_ring(QUEUE_ENTRIES)?;
        let files = FileTable::new(&ring.submitter(), &options.directory)?;
        let mut registered = Vec::with_capacity(buffers.len());
        let mut vectors = Vec::with_capacity(buffers.len());
        for (place, buffer) in buffers.iter_mut().enumerate() {
            assert_eq!(
                usize::from(buffer.number()),
                place,
                "a buffer's number is its place in the table"
            );
            let memory = buffer.memory_mut();
            registered.push((memory.as_ptr(), memory.len()));
            vectors.push(libc::iovec {
                iov_base: memory.as_mut_ptr().cast(),
                iov_len: memory.len(),
            });
        }
        let needed_bytes: usize = registered.iter().map(|&(_, length)| length).sum();
        // SAFETY: the vectors describe memory that is allocated now. The kernel pins its pages, so that a buffer
        // that is freed later leaves the registration harmless; and `submit_write` checks that what it submits
        // still is one of these buffers, which it owns until the completion.
        unsafe { ring.submitter().register_buffers(&vectors) }
            .map_err(|source| register_error(source, needed_bytes as u64))?;
        Ok(Self {
            ring,
            options,
            registered,
            files,
            writes: BTreeMap::new(),
            syncs: BTreeMap::new(),
            next_id: WAKE_ID + 1,
            counters: RingCounters::default(),
        })
    }

    /// Starts a durable write of the whole buffer at `offset` of a segment. The file is opened when it is new.
    ///
    /// # Errors
    /// Fatal; the buffer is lost.
    pub fn submit_write(
        &mut self,
        ticket: Ticket,
        file: FileNumber,
        offset: u64,
        buffer: LogBuffer,
    ) -> Result<(), DeviceError> {
        self.submit(ticket, Target::Segment(file), offset, buffer)
    }

    /// Starts a durable write of a mark.
    ///
    /// # Errors
    /// Fatal; the buffer is lost.
    pub fn submit_mark(
        &mut self,
        ticket: Ticket,
        slot: MarkSlot,
        buffer: LogBuffer,
    ) -> Result<(), DeviceError> {
        self.submit(ticket, Target::Mark, slot.offset(), buffer)
    }

    /// Appends every write that has become durable to `out`, without waiting.
    ///
    /// # Errors
    /// Fatal: a write or a flush failed.
    pub fn reap(&mut self, out: &mut Vec<Completion>) -> Result<(), DeviceError> {
        if self.ring.submission().taskrun() {
            // Completions are delivered only when this thread enters the kernel.
            self.enter(0)?;
        }
        self.drain(out)
    }

    /// Waits until something completes, then does as [`Ring::reap`]. Returns at once when nothing is in flight. A
    /// completion need not make a write durable: there may be nothing in `out` yet.
    ///
    /// # Errors
    /// Fatal: a write or a flush failed.
    pub fn wait(&mut self, out: &mut Vec<Completion>) -> Result<(), DeviceError> {
        if self.in_flight() > 0 {
            self.enter(1)?;
        }
        self.drain(out)
    }

    /// How many writes are not durable yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.writes.len()
    }

    /// What it has done.
    #[must_use]
    pub fn counters(&self) -> RingCounters {
        self.counters
    }

    /// Closes a segment file that is about to be removed; nothing of it is in flight.
    ///
    /// # Errors
    /// Fatal.
    pub fn forget_segment(&mut self, file: FileNumber) -> Result<(), DeviceError> {
        self.files
            .close(&self.ring.submitter(), Target::Segment(file))
    }

    // ---- Helpers ----

    fn submit(
        &mut self,
        ticket: Ticket,
        target: Target,
        offset: u64,
        buffer: LogBuffer,
    ) -> Result<(), DeviceError> {
        let bytes = buffer.as_slice();
        let (start, length) = self.registered[usize::from(buffer.number())];
        assert!(
            bytes.as_ptr() == start && bytes.len() <= length,
            "only registered buffers are written"
        );
        assert!(
            !bytes.is_empty() && bytes.len().is_multiple_of(BLOCK_BYTES),
            "direct writes are whole blocks"
        );
        assert!(
            offset.is_multiple_of(BLOCK_BYTES as u64),
            "direct writes begin at a block"
        );
        self.files.begin_write(&self.ring.submitter(), target)?;
        self.counters.writes += 1;
        self.counters.bytes += bytes.len() as u64;
        let id = self.take_id();
        let number = self.counters.writes;
        let write = Write {
            ticket,
            target,
            offset,
            buffer,
            number,
            written: 0,
            state: WriteState::Writing,
        };
        self.writes.insert(id, write);
        self.push_write(id)
    }

    /// Submits the part of a write that is not written yet.
    fn push_write(&mut self, id: u64) -> Result<(), DeviceError> {
        let write = &self.writes[&id];
        let rest = &write.buffer.as_slice()[write.written..];
        let planned = self
            .options
            .faults
            .short_write(write.number)
            .filter(|_| write.written == 0);
        let length = planned.map_or(rest.len(), |bytes| rest.len().min(bytes as usize));
        let rw_flags = match self.options.flush_method {
            FlushMethod::Dsync => libc::RWF_DSYNC,
            FlushMethod::WriteThenSync => 0,
        };
        let slot = Fixed(self.files.slot(write.target));
        let length = u32::try_from(length).expect("a buffer is shorter than 4 GiB");
        let entry = opcode::WriteFixed::new(slot, rest.as_ptr(), length, write.buffer.number())
            .offset(write.offset + write.written as u64)
            .rw_flags(rw_flags)
            .build()
            .user_data(id);
        // SAFETY: the buffer lies in `self.writes` until the completion with this id has been seen, and dropping
        // the ring waits for it. The memory of a buffer does not move with it.
        unsafe { self.push_with_wake(entry) }
    }

    /// Submits flushes for every file with complete writes, unless one is under way: that one began before they
    /// were complete and does not cover them.
    fn push_syncs(&mut self) -> Result<(), DeviceError> {
        let written: Vec<(u64, Target)> = self
            .writes
            .iter()
            .filter(|(_, write)| write.state == WriteState::Written)
            .map(|(&id, write)| (id, write.target))
            .collect();
        let mut begun: BTreeMap<Target, u64> = BTreeMap::new();
        for (id, target) in written {
            let sync = match begun.get(&target) {
                Some(&sync) => sync,
                None if self.files.is_syncing(target) => continue,
                None => {
                    let sync = self.push_sync(target)?;
                    begun.insert(target, sync);
                    sync
                }
            };
            self.write_mut(id).state = WriteState::Syncing(sync);
        }
        Ok(())
    }

    fn push_sync(&mut self, target: Target) -> Result<u64, DeviceError> {
        let id = self.take_id();
        self.counters.syncs += 1;
        self.syncs.insert(id, (target, self.counters.syncs));
        self.files.set_syncing(target, Syncing::Yes);
        let entry = opcode::Fsync::new(Fixed(self.files.slot(target)))
            .flags(FsyncFlags::DATASYNC)
            .build()
            .user_data(id);
        // SAFETY: a flush borrows no memory.
        unsafe { self.push_with_wake(entry)? };
        Ok(id)
    }

    /// Submits an entry, followed by the byte that wakes the executor. The link is a hard one: the byte is sent
    /// however the entry ends.
    ///
    /// # Safety
    /// What the entry borrows must stay valid until its completion has been seen.
    unsafe fn push_with_wake(&mut self, entry: Submission) -> Result<(), DeviceError> {
        let mut entries = vec![entry];
        if let Some(wake) = &self.options.wake {
            entries[0] = entries[0].clone().flags(Flags::IO_HARDLINK);
            let send = opcode::Send::new(Fd(wake.as_raw_fd()), WAKE_BYTE.as_ptr(), 1)
                // A full socket has bytes that wake its reader already.
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .user_data(WAKE_ID);
            entries.push(send);
        }
        // SAFETY: the caller vouches for the entry; the byte is static and the socket is open as long as the ring.
        let pushed = unsafe { self.ring.submission().push_multiple(&entries) };
        pushed.expect("the queue is emptied by each submission");
        self.enter(0)
    }

    /// Submits what is queued and waits for `wanted` completions.
    fn enter(&self, wanted: usize) -> Result<(), DeviceError> {
        loop {
            match self.ring.submit_and_wait(wanted) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(DeviceError::Ring { source }),
            }
        }
    }

    fn drain(&mut self, out: &mut Vec<Completion>) -> Result<(), DeviceError> {
        loop {
            let next = self.ring.completion().next();
            let Some(completed) = next else { break };
            match completed.user_data() {
                WAKE_ID => {}
                id if self.syncs.contains_key(&id) => {
                    self.on_synced(id, completed.result(), out)?
                }
                id => self.on_written(id, completed.result(), out)?,
            }
        }
        self.push_syncs()
    }

    fn on_written(
        &mut self,
        id: u64,
        result: i32,
        out: &mut Vec<Completion>,
    ) -> Result<(), DeviceError> {
        let planned = self.options.faults.write_error(self.writes[&id].number);
        let flush_method = self.options.flush_method;
        let errno = planned.or((result < 0).then_some(-result));
        if let Some(errno) = errno {
            return Err(self.write_error(id, io::Error::from_raw_os_error(errno)));
        }
        let write = self.write_mut(id);
        let written = write.written + usize::try_from(result).expect("a length is not negative");
        if written < write.buffer.len() {
            // The rest must begin at a block again, and there must be less of it each time.
            let whole_blocks = written - written % BLOCK_BYTES;
            if whole_blocks == write.written {
                return Err(self.write_error(id, io::ErrorKind::WriteZero.into()));
            }
            write.written = whole_blocks;
            self.counters.short_writes += 1;
            return self.push_write(id);
        }
        match flush_method {
            FlushMethod::Dsync => self.complete(id, out),
            FlushMethod::WriteThenSync => write.state = WriteState::Written,
        }
        Ok(())
    }

    /// The kernel has let go of the buffer, but the write is not durable and never will be.
    fn write_error(&mut self, id: u64, source: io::Error) -> DeviceError {
        let write = self.write_mut(id);
        write.state = WriteState::Written;
        let (target, offset) = (write.target, write.offset + write.written as u64);
        DeviceError::Write {
            path: self.files.path(target),
            offset,
            source,
        }
    }

    fn on_synced(
        &mut self,
        id: u64,
        result: i32,
        out: &mut Vec<Completion>,
    ) -> Result<(), DeviceError> {
        let (target, number) = self.syncs.remove(&id).expect("the flush was submitted");
        self.files.set_syncing(target, Syncing::No);
        let planned = self.options.faults.sync_error(number);
        let errno = planned.or((result < 0).then_some(-result));
        if let Some(errno) = errno {
            let source = io::Error::from_raw_os_error(errno);
            return Err(DeviceError::Flush {
                path: self.files.path(target),
                source,
            });
        }
        let covered: Vec<u64> = self
            .writes
            .iter()
            .filter(|(_, write)| write.state == WriteState::Syncing(id))
            .map(|(&write, _)| write)
            .collect();
        for write in covered {
            self.complete(write, out);
        }
        Ok(())
    }

    fn complete(&mut self, id: u64, out: &mut Vec<Completion>) {
        let write = self.writes.remove(&id).expect("the write was submitted");
        self.files.end_write(write.target);
        out.push(Completion {
            ticket: write.ticket,
            buffer: write.buffer,
        });
    }

    fn write_mut(&mut self, id: u64) -> &mut Write {
        self.writes.get_mut(&id).expect("the write was submitted")
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}

impl Drop for Ring {
    /// Waits until the kernel has let go of every buffer: only then may their memory be freed.
    fn drop(&mut self) {
        let mut kernel_owned = self
            .writes
            .values()
            .filter(|write| write.state == WriteState::Writing)
            .count();
        while kernel_owned > 0 {
            if self.enter(1).is_err() {
                // Nothing is known about the buffers any more: rather leak their memory than let the kernel read
                // what others write into it.
                std::mem::forget(std::mem::take(&mut self.writes));
                return;
            }
            let completed: Vec<u64> = self
                .ring
                .completion()
                .map(|completed| completed.user_data())
                .collect();
            kernel_owned -= completed
                .into_iter()
                .filter_map(|id| self.writes.remove(&id))
                .filter(|write| write.state == WriteState::Writing)
                .count();
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Ring")
            .field("options", &self.options)
            .field("in_flight", &self.writes.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
